//! Networks of timm and torchvision that differ from PaddleClas's: timm 1.0's `inception_v3`, `inception_v4`
//! and `xception41/65/71` (`xception_aligned.py`), torchvision's `inception_v3` and `googlenet`.
//!
//! # Differences from PaddleClas
//!
//! Each is pinned by the goldens `tests/goldens/weights/*.json`, which the libraries themselves have written.
//!
//! - Batch norm's epsilon is 1e-3 everywhere, and nothing scales the pooled features at inference.
//! - Inception V3 is otherwise the same network in all three. torchvision's has an auxiliary classifier in
//!   training (pinned by `tests/goldens/training/torchvision-inception_v3.json`).
//! - Inception V4's modules have their branches in another order, and other orders of 1x7 and 7x1, 1x3 and
//!   3x1.
//! - torchvision's GoogLeNet has batch norms, 3x3 kernels where the paper has 5x5, pools that round up, and a
//!   pool of 2x2 before the last two modules. Its auxiliary heads, which inference does not use, are left
//!   out.
//! - In training, running variances are unbiased, as PyTorch's (pinned by `tests/goldens/training`).
//! - timm's Xceptions are the deeplab pair with an undilated last block whose ReLUs follow each norm, and no
//!   dropout; of 71, two entry blocks keep their stride.
//!
//! The head drops nothing out here: timm's networks do not by default; torchvision's do, while training only, by
//! the column `dropout` of `MODELS`.

use crate::layers::{PoolRow, TENSORFLOW_NORM, conv, conv_hw};
use crate::stage::{StageRow, StageStyle, chain, forked, pooled, stage};

pub(crate) const STYLE: StageStyle =
    StageStyle { norm: Some(TENSORFLOW_NORM), relu: true, relu_after_concat: false };

const MAX_S2: PoolRow = PoolRow::Max { stride: 2, padding: 0 };
const MAX_S1: PoolRow = PoolRow::Max { stride: 1, padding: 1 };
const MAX_UP: PoolRow = PoolRow::MaxRoundingUp { window: 3 };
const AVERAGE: PoolRow = PoolRow::Average { count_padding: false };

macro_rules! inception {
    ($name:literal, $c1:literal, $r3:literal => $c3:literal, $r5:literal => $c5:literal, $proj:literal) => {
        stage(
            $name,
            &[
                chain(&[conv($c1, 1)]),
                chain(&[conv($r3, 1), conv($c3, 3)]),
                chain(&[conv($r5, 1), conv($c5, 3)]), // not 5x5: a known bug of torchvision's
                pooled(MAX_S1, &[conv($proj, 1)]),
            ],
        )
    };
}

pub(crate) const GOOGLENET: &[StageRow] = &[
    stage("conv1", &[chain(&[conv(64, 7).stride(2)])]), // 224 -> 112
    stage("pool1", &[pooled(MAX_UP, &[])]),             // 56
    stage("conv2", &[chain(&[conv(64, 1)])]),
    stage("conv3", &[chain(&[conv(192, 3)])]),
    stage("pool2", &[pooled(MAX_UP, &[])]), // 28
    inception!("3a", 64, 96 => 128, 16 => 32, 32),
    inception!("3b", 128, 128 => 192, 32 => 96, 64),
    stage("pool3", &[pooled(MAX_UP, &[])]), // 14
    inception!("4a", 192, 96 => 208, 16 => 48, 64),
    inception!("4b", 160, 112 => 224, 24 => 64, 64),
    inception!("4c", 128, 128 => 256, 24 => 64, 64),
    inception!("4d", 112, 144 => 288, 32 => 64, 64),
    inception!("4e", 256, 160 => 320, 32 => 128, 128),
    stage("pool4", &[pooled(PoolRow::MaxRoundingUp { window: 2 }, &[])]), // 7
    inception!("5a", 256, 160 => 320, 32 => 128, 128),
    inception!("5b", 384, 192 => 384, 48 => 128, 128),
];

macro_rules! v4_a {
    ($name:literal) => {
        stage(
            $name,
            &[
                chain(&[conv(96, 1)]),
                chain(&[conv(64, 1), conv(96, 3)]),
                chain(&[conv(64, 1), conv(96, 3), conv(96, 3)]),
                pooled(AVERAGE, &[conv(96, 1)]),
            ],
        )
    };
}

macro_rules! v4_b {
    ($name:literal) => {
        stage(
            $name,
            &[
                chain(&[conv(384, 1)]),
                chain(&[conv(192, 1), conv_hw(224, [1, 7]), conv_hw(256, [7, 1])]),
                chain(&[
                    conv(192, 1),
                    conv_hw(192, [7, 1]),
                    conv_hw(224, [1, 7]),
                    conv_hw(224, [7, 1]),
                    conv_hw(256, [1, 7]),
                ]),
                pooled(AVERAGE, &[conv(128, 1)]),
            ],
        )
    };
}

macro_rules! v4_c {
    ($name:literal) => {
        stage(
            $name,
            &[
                chain(&[conv(256, 1)]),
                forked(&[conv(384, 1)], &[conv_hw(256, [1, 3]), conv_hw(256, [3, 1])]),
                forked(
                    &[conv(384, 1), conv_hw(448, [3, 1]), conv_hw(512, [1, 3])],
                    &[conv_hw(256, [1, 3]), conv_hw(256, [3, 1])],
                ),
                pooled(AVERAGE, &[conv(256, 1)]),
            ],
        )
    };
}

pub(crate) const V4: &[StageRow] = &[
    stage("conv1", &[chain(&[conv(32, 3).stride(2).valid()])]), // 299 -> 149
    stage("conv2", &[chain(&[conv(32, 3).valid()])]),           // 147
    stage("conv3", &[chain(&[conv(64, 3)])]),
    stage(
        "mixed3", // 73
        &[pooled(MAX_S2, &[]), chain(&[conv(96, 3).stride(2).valid()])],
    ),
    stage(
        "mixed4", // 71
        &[
            chain(&[conv(64, 1), conv(96, 3).valid()]),
            chain(&[conv(64, 1), conv_hw(64, [1, 7]), conv_hw(64, [7, 1]), conv(96, 3).valid()]),
        ],
    ),
    stage(
        "mixed5", // 35
        &[chain(&[conv(192, 3).stride(2).valid()]), pooled(MAX_S2, &[])],
    ),
    v4_a!("a1"),
    v4_a!("a2"),
    v4_a!("a3"),
    v4_a!("a4"),
    stage(
        "reduction_a", // 17
        &[
            chain(&[conv(384, 3).stride(2).valid()]),
            chain(&[conv(192, 1), conv(224, 3), conv(256, 3).stride(2).valid()]),
            pooled(MAX_S2, &[]),
        ],
    ),
    v4_b!("b1"),
    v4_b!("b2"),
    v4_b!("b3"),
    v4_b!("b4"),
    v4_b!("b5"),
    v4_b!("b6"),
    v4_b!("b7"),
    stage(
        "reduction_b", // 8
        &[
            chain(&[conv(192, 1), conv(192, 3).stride(2).valid()]),
            chain(&[
                conv(256, 1),
                conv_hw(256, [1, 7]),
                conv_hw(320, [7, 1]),
                conv(320, 3).stride(2).valid(),
            ]),
            pooled(MAX_S2, &[]),
        ],
    ),
    v4_c!("c1"),
    v4_c!("c2"),
    v4_c!("c3"),
];
