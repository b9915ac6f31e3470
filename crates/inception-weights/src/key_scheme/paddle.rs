//! The layers of PaddleClas 2.6 (`ppcls/arch/backbone/model_zoo` and `legendary_models`), in the order of our
//! fields.
//!
//! A convolution and its norm are one row: the name of their common parent, and what the two are called below
//! it.

use inception_nn::Architecture as A;

use super::table::{KeyTable, Stage, stages};

/// The layers of a convolution and the norm after it.
type Pair = [&'static str; 2];

/// GoogLeNet has no norms.
const BARE: &[&str] = &["_conv"];
const MODEL_ZOO: Pair = ["_conv", "_batch_norm"];
const LEGENDARY: Pair = ["conv", "bn"];
const DEEPLAB: Pair = ["_conv", "_bn"];

const GOOGLENET_MODULE: &[&str] = &["_conv1", "_conv3r", "_conv3", "_conv5r", "_conv5", "_convprj"];
const GOOGLENET: &[Stage] = &[
    ("", &["_conv", "_conv_1", "_conv_2"]),
    ("_ince3a.", GOOGLENET_MODULE),
    ("_ince3b.", GOOGLENET_MODULE),
    ("_ince4a.", GOOGLENET_MODULE),
    ("_ince4b.", GOOGLENET_MODULE),
    ("_ince4c.", GOOGLENET_MODULE),
    ("_ince4d.", GOOGLENET_MODULE),
    ("_ince4e.", GOOGLENET_MODULE),
    ("_ince5a.", GOOGLENET_MODULE),
    ("_ince5b.", GOOGLENET_MODULE),
];
const GOOGLENET_HEADS: &[&str] =
    &["_fc_out", "_conv_o1._conv", "_fc_o1", "_out1", "_conv_o2._conv", "_fc_o2", "_out2"];

const V3_A: &[&str] = &[
    "branch1x1",
    "branch5x5_1",
    "branch5x5_2",
    "branch3x3dbl_1",
    "branch3x3dbl_2",
    "branch3x3dbl_3",
    "branch_pool_conv",
];
const V3_B: &[&str] = &["branch3x3", "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"];
const V3_C: &[&str] = &[
    "branch1x1",
    "branch7x7_1",
    "branch7x7_2",
    "branch7x7_3",
    "branch7x7dbl_1",
    "branch7x7dbl_2",
    "branch7x7dbl_3",
    "branch7x7dbl_4",
    "branch7x7dbl_5",
    "branch_pool_conv",
];
const V3_D: &[&str] =
    &["branch3x3_1", "branch3x3_2", "branch7x7x3_1", "branch7x7x3_2", "branch7x7x3_3", "branch7x7x3_4"];
const V3_E: &[&str] = &[
    "branch1x1",
    "branch3x3_1",
    "branch3x3_2a",
    "branch3x3_2b",
    "branch3x3dbl_1",
    "branch3x3dbl_2",
    "branch3x3dbl_3a",
    "branch3x3dbl_3b",
    "branch_pool_conv",
];
const V3: &[Stage] = &[
    ("inception_stem.", &["conv_1a_3x3", "conv_2a_3x3", "conv_2b_3x3", "conv_3b_1x1", "conv_4a_3x3"]),
    ("inception_block_list.0.", V3_A),
    ("inception_block_list.1.", V3_A),
    ("inception_block_list.2.", V3_A),
    ("inception_block_list.3.", V3_B),
    ("inception_block_list.4.", V3_C),
    ("inception_block_list.5.", V3_C),
    ("inception_block_list.6.", V3_C),
    ("inception_block_list.7.", V3_C),
    ("inception_block_list.8.", V3_D),
    ("inception_block_list.9.", V3_E),
    ("inception_block_list.10.", V3_E),
];

const V4_A: &[&str] = &["_conv1", "_conv2", "_conv3_1", "_conv3_2", "_conv4_1", "_conv4_2", "_conv4_3"];
const V4_B: &[&str] = &[
    "_conv1", "_conv2", "_conv3_1", "_conv3_2", "_conv3_3", "_conv4_1", "_conv4_2", "_conv4_3", "_conv4_4",
    "_conv4_5",
];
const V4_C: &[&str] = &[
    "_conv1",
    "_conv2",
    "_conv3_0",
    "_conv3_1",
    "_conv3_2",
    "_conv4_0",
    "_conv4_00",
    "_conv4_000",
    "_conv4_1",
    "_conv4_2",
];
const V4: &[Stage] = &[
    (
        "_inception_stem.",
        &[
            "_conv_1", "_conv_2", "_conv_3", "_conv2", "_conv1_1", "_conv1_2", "_conv2_1", "_conv2_2",
            "_conv2_3", "_conv2_4", "_conv3",
        ],
    ),
    ("_inceptionA_1.", V4_A),
    ("_inceptionA_2.", V4_A),
    ("_inceptionA_3.", V4_A),
    ("_inceptionA_4.", V4_A),
    ("_reductionA.", &["_conv2", "_conv3_1", "_conv3_2", "_conv3_3"]),
    ("_inceptionB_1.", V4_B),
    ("_inceptionB_2.", V4_B),
    ("_inceptionB_3.", V4_B),
    ("_inceptionB_4.", V4_B),
    ("_inceptionB_5.", V4_B),
    ("_inceptionB_6.", V4_B),
    ("_inceptionB_7.", V4_B),
    ("_reductionB.", &["_conv2_1", "_conv2_2", "_conv3_1", "_conv3_2", "_conv3_3", "_conv3_4"]),
    ("_inceptionC_1.", V4_C),
    ("_inceptionC_2.", V4_C),
    ("_inceptionC_3.", V4_C),
];

pub(super) const TABLES: &[KeyTable] = &[
    KeyTable::new(A::GoogLeNet, || stages(GOOGLENET, BARE, GOOGLENET_HEADS)),
    KeyTable::new(A::InceptionV3, || stages(V3, &LEGENDARY, &["fc"])),
    KeyTable::new(A::InceptionV4, || stages(V4, &MODEL_ZOO, &["out"])),
    KeyTable::new(A::Xception41, || xception(3, 8)),
    KeyTable::new(A::Xception65, || xception(3, 16)),
    KeyTable::new(A::Xception71, || xception(5, 16)),
    KeyTable::new(A::Xception41Deeplab, || xception_deeplab("xception_41", 8)),
    KeyTable::new(A::Xception65Deeplab, || xception_deeplab("xception_65", 16)),
];

fn xception(entry: usize, middle: usize) -> Vec<String> {
    let mut layers = Vec::new();
    for stem in ["_entry_flow._conv1", "_entry_flow._conv2"] {
        layers.extend(MODEL_ZOO.map(|layer| format!("{stem}.{layer}")));
    }
    let mut block = |prefix: &str, separable: &[&str], projection: bool| {
        for name in separable {
            for half in ["_depthwise_conv", "_pointwise_conv"] {
                let path = format!("{prefix}.{name}.{half}");
                layers.extend(MODEL_ZOO.map(|layer| format!("{path}.{layer}")));
            }
        }
        if projection {
            layers.push(format!("{prefix}._short")); // without norm
        }
    };
    for i in 0..entry {
        block(&format!("_entry_flow._conv_{i}"), &["_conv1", "_conv2"], true);
    }
    for i in 0..middle {
        block(&format!("_middle_flow._conv_{i}"), &["_conv_0", "_conv_1", "_conv_2"], false);
    }
    block("_exit_flow._conv_0", &["_conv_1", "_conv_2"], true);
    block("_exit_flow", &["_conv_1", "_conv_2"], false);
    layers.push("_exit_flow._out".to_owned());
    layers
}

fn xception_deeplab(name: &str, middle: usize) -> Vec<String> {
    let mut layers = Vec::new();
    for stem in ["_conv1", "_conv2"] {
        layers.extend(DEEPLAB.map(|layer| format!("{stem}.{layer}")));
    }
    let mut block = |prefix: &str, projection: bool| {
        for separable in 1..=3 {
            // Depthwise, pointwise.
            let pairs = ["_conv1", "_bn1", "_conv2", "_bn2"];
            layers.extend(pairs.map(|layer| format!("{prefix}._conv{separable}.{layer}")));
        }
        if projection {
            layers.extend(DEEPLAB.map(|layer| format!("{prefix}._short.{layer}")));
        }
    };
    for i in 1..=3 {
        block(&format!("{name}/entry_flow/block{i}"), true);
    }
    for i in 1..=middle {
        block(&format!("{name}/middle_flow/block{i}"), false);
    }
    block("_exit_flow_1", true);
    block("_exit_flow_2", false);
    layers.push("_fc".to_owned());
    layers
}
