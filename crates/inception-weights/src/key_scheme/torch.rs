//! The layers of timm 1.0, torchvision 0.29 and pytorch-fid 0.3, in the order of our fields.

use inception_nn::Architecture as A;

use super::table::{KeyTable, Stage, stages};

/// The layers of a convolution and the norm after it.
const PAIR: [&str; 2] = ["conv", "bn"];

const GOOGLENET_MODULE: &[&str] =
    &["branch1", "branch2.0", "branch2.1", "branch3.0", "branch3.1", "branch4.1"];
const GOOGLENET: &[Stage] = &[
    ("", &["conv1", "conv2", "conv3"]),
    ("inception3a.", GOOGLENET_MODULE),
    ("inception3b.", GOOGLENET_MODULE),
    ("inception4a.", GOOGLENET_MODULE),
    ("inception4b.", GOOGLENET_MODULE),
    ("inception4c.", GOOGLENET_MODULE),
    ("inception4d.", GOOGLENET_MODULE),
    ("inception4e.", GOOGLENET_MODULE),
    ("inception5a.", GOOGLENET_MODULE),
    ("inception5b.", GOOGLENET_MODULE),
];

const V3_A: &[&str] = &[
    "branch1x1",
    "branch5x5_1",
    "branch5x5_2",
    "branch3x3dbl_1",
    "branch3x3dbl_2",
    "branch3x3dbl_3",
    "branch_pool",
];
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
    "branch_pool",
];
const V3_E: &[&str] = &[
    "branch1x1",
    "branch3x3_1",
    "branch3x3_2a",
    "branch3x3_2b",
    "branch3x3dbl_1",
    "branch3x3dbl_2",
    "branch3x3dbl_3a",
    "branch3x3dbl_3b",
    "branch_pool",
];
const V3: &[Stage] = &[
    ("", &["Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3"]),
    ("Mixed_5b.", V3_A),
    ("Mixed_5c.", V3_A),
    ("Mixed_5d.", V3_A),
    ("Mixed_6a.", &["branch3x3", "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"]),
    ("Mixed_6b.", V3_C),
    ("Mixed_6c.", V3_C),
    ("Mixed_6d.", V3_C),
    ("Mixed_6e.", V3_C),
    (
        "Mixed_7a.",
        &["branch3x3_1", "branch3x3_2", "branch7x7x3_1", "branch7x7x3_2", "branch7x7x3_3", "branch7x7x3_4"],
    ),
    ("Mixed_7b.", V3_E),
    ("Mixed_7c.", V3_E),
];

const V3_AUXILIARY: &[&str] = &[
    "AuxLogits.conv0.conv",
    "AuxLogits.conv0.bn",
    "AuxLogits.conv1.conv",
    "AuxLogits.conv1.bn",
    "AuxLogits.fc",
];

const V4_A: &[&str] =
    &["branch0", "branch1.0", "branch1.1", "branch2.0", "branch2.1", "branch2.2", "branch3.1"];
const V4_B: &[&str] = &[
    "branch0",
    "branch1.0",
    "branch1.1",
    "branch1.2",
    "branch2.0",
    "branch2.1",
    "branch2.2",
    "branch2.3",
    "branch2.4",
    "branch3.1",
];
const V4_C: &[&str] = &[
    "branch0",
    "branch1_0",
    "branch1_1a",
    "branch1_1b",
    "branch2_0",
    "branch2_1",
    "branch2_2",
    "branch2_3a",
    "branch2_3b",
    "branch3.1",
];
const V4: &[Stage] = &[
    ("features.", &["0", "1", "2"]),
    ("features.3.", &["conv"]),
    ("features.4.", &["branch0.0", "branch0.1", "branch1.0", "branch1.1", "branch1.2", "branch1.3"]),
    ("features.5.", &["conv"]),
    ("features.6.", V4_A),
    ("features.7.", V4_A),
    ("features.8.", V4_A),
    ("features.9.", V4_A),
    ("features.10.", &["branch0", "branch1.0", "branch1.1", "branch1.2"]),
    ("features.11.", V4_B),
    ("features.12.", V4_B),
    ("features.13.", V4_B),
    ("features.14.", V4_B),
    ("features.15.", V4_B),
    ("features.16.", V4_B),
    ("features.17.", V4_B),
    ("features.18.", &["branch0.0", "branch0.1", "branch1.0", "branch1.1", "branch1.2", "branch1.3"]),
    ("features.19.", V4_C),
    ("features.20.", V4_C),
    ("features.21.", V4_C),
];

pub(super) const TABLES: &[KeyTable] = &[
    KeyTable::new(A::TorchInceptionV3, || stages(V3, &PAIR, &["fc"]))
        .unused(&["AuxLogits."])
        .auxiliary(V3_AUXILIARY),
    KeyTable::new(A::FidInceptionV3, || stages(V3, &PAIR, &["fc"])),
    KeyTable::new(A::TimmInceptionV4, || stages(V4, &PAIR, &["last_linear"])),
    KeyTable::new(A::TimmInceptionResNetV2, inception_resnet_v2),
    KeyTable::new(A::TorchvisionGoogLeNet, || stages(GOOGLENET, &PAIR, &["fc"])).unused(&["aux1.", "aux2."]),
    KeyTable::new(A::TimmXception41, || xception(3, 8)),
    KeyTable::new(A::TimmXception65, || xception(3, 16)),
    KeyTable::new(A::TimmXception71, || xception(5, 16)),
    KeyTable::new(A::TimmLegacyXception, legacy_xception),
];

/// `times` residual modules, each closed by a convolution without norm.
fn residual(list: &str, times: usize, convs: &'static [&'static str]) -> Vec<String> {
    let module = stages(&[("", convs)], &PAIR, &["conv2d"]);
    let modules = (0..times).flat_map(|i| module.iter().map(move |layer| format!("{list}.{i}.{layer}")));
    modules.collect()
}

fn inception_resnet_v2() -> Vec<String> {
    const A: &[&str] = &["branch0", "branch1.0", "branch1.1", "branch2.0", "branch2.1", "branch2.2"];
    const B: &[&str] = &["branch0", "branch1.0", "branch1.1", "branch1.2"];
    const REDUCTION_B: &[&str] =
        &["branch0.0", "branch0.1", "branch1.0", "branch1.1", "branch2.0", "branch2.1", "branch2.2"];
    const STEM: &[&str] = &["conv2d_1a", "conv2d_2a", "conv2d_2b", "conv2d_3b", "conv2d_4a"];
    [
        stages(&[("", STEM), ("mixed_5b.", V4_A)], &PAIR, &[]),
        residual("repeat", 10, A),
        stages(&[("mixed_6a.", B)], &PAIR, &[]),
        residual("repeat_1", 20, B),
        stages(&[("mixed_7a.", REDUCTION_B)], &PAIR, &[]),
        residual("repeat_2", 9, B),
        stages(&[("block8.", B)], &PAIR, &["block8.conv2d"]),
        stages(&[("", &["conv2d_7b"])], &PAIR, &["classif"]),
    ]
    .concat()
}

/// Blocks with a shortcut convolution are the entry flow's and the first of the exit flow.
fn xception(entry: usize, middle: usize) -> Vec<String> {
    let mut layers: Vec<_> =
        [0, 1].iter().flat_map(|i| PAIR.map(|layer| format!("stem.{i}.{layer}"))).collect();
    let blocks =
        std::iter::repeat_n(true, entry).chain(std::iter::repeat_n(false, middle)).chain([true, false]);
    for (i, projects) in blocks.enumerate() {
        for separable in 1..=3 {
            let parts = ["conv_dw", "bn_dw", "conv_pw", "bn_pw"];
            layers.extend(parts.map(|layer| format!("blocks.{i}.stack.conv{separable}.{layer}")));
        }
        if projects {
            layers.extend(PAIR.map(|layer| format!("blocks.{i}.shortcut.{layer}")));
        }
    }
    layers.push("head.fc".to_owned());
    layers
}

/// A block's layers are numbered in one sequence of ReLU, separable convolution and norm.
fn legacy_xception() -> Vec<String> {
    let mut layers: Vec<_> = ["conv1", "bn1", "conv2", "bn2"].map(str::to_owned).into();
    let separable =
        |conv: &str, norm: &str| [format!("{conv}.conv1"), format!("{conv}.pointwise"), norm.to_owned()];
    for block in 1..=12 {
        let projects = !(4..=11).contains(&block);
        for i in 0..if projects { 2 } else { 3 } {
            // The first block starts without a ReLU.
            let at = 3 * i + usize::from(block > 1);
            let [conv, norm] = [at, at + 1].map(|at| format!("block{block}.rep.{at}"));
            layers.extend(separable(&conv, &norm));
        }
        if projects {
            layers.extend(["skip", "skipbn"].map(|layer| format!("block{block}.{layer}")));
        }
    }
    layers.extend(separable("conv3", "bn3"));
    layers.extend(separable("conv4", "bn4"));
    layers.push("fc".to_owned());
    layers
}
