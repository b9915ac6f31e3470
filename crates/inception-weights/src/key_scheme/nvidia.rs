//! The layers of NVIDIA's port of TensorFlow's Inception V3, in the order of our fields:
//! `inception-2015-12-05.pt`, the TorchScript of StyleGAN2-ADA and clean-fid, and the module in the source of
//! StyleGAN3.
//!
//! A convolution and its norm are one layer there, whose tensors are `weight`, `beta`, `mean` and `var`.

use inception_nn::Architecture as A;

use super::table::{KeyTable, Stage, stages};

const MODULE_A: &[&str] = &[
    "conv",
    "tower.conv",
    "tower.conv_1",
    "tower_1.conv",
    "tower_1.conv_1",
    "tower_1.conv_2",
    "tower_2.conv",
];
const MODULE_C: &[&str] = &[
    "conv",
    "tower.conv",
    "tower.conv_1",
    "tower.conv_2",
    "tower_1.conv",
    "tower_1.conv_1",
    "tower_1.conv_2",
    "tower_1.conv_3",
    "tower_1.conv_4",
    "tower_2.conv",
];
const MODULE_E: &[&str] = &[
    "conv",
    "tower_conv",
    "tower_mixed_conv",
    "tower_mixed_conv_1",
    "tower_1_conv",
    "tower_1_conv_1",
    "tower_1_mixed_conv",
    "tower_1_mixed_conv_1",
    "tower_2_conv",
];
const V3: &[Stage] = &[
    ("layers.", &["conv", "conv_1", "conv_2", "conv_3", "conv_4"]),
    ("layers.mixed.", MODULE_A),
    ("layers.mixed_1.", MODULE_A),
    ("layers.mixed_2.", MODULE_A),
    ("layers.mixed_3.", &["conv", "tower.conv", "tower.conv_1", "tower.conv_2"]),
    ("layers.mixed_4.", MODULE_C),
    ("layers.mixed_5.", MODULE_C),
    ("layers.mixed_6.", MODULE_C),
    ("layers.mixed_7.", MODULE_C),
    (
        "layers.mixed_8.",
        &["tower.conv", "tower.conv_1", "tower_1.conv", "tower_1.conv_1", "tower_1.conv_2", "tower_1.conv_3"],
    ),
    ("layers.mixed_9.", MODULE_E),
    ("layers.mixed_10.", MODULE_E),
];

pub(super) const TABLES: &[KeyTable] =
    &[KeyTable::new(A::FidInceptionV3, || stages(V3, &["", ""], &["output"])).without_scale()];
