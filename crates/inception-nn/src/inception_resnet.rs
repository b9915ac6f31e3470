//! Inception-ResNet-v2 as timm 1.0 has it (`timm/models/inception_resnet_v2.py`): Szegedy et al.,
//! *Inception-v4, Inception-ResNet and the impact of residual connections on learning*, 2016, in the form of
//! TensorFlow's slim, whose weights timm converts.
//!
//! # Differences from the paper
//!
//! Each is pinned by the golden `tests/goldens/weights/timm-inception_resnet_v2.json`.
//!
//! - The stem is Inception V3's, followed by one more module (`mixed`); the paper's is Inception V4's.
//! - There are 10, 20 and 10 residual modules on 320, 1088 and 2080 channels; the paper has 5, 10 and 5 on
//!   384, 1154 and 2048.
//! - The convolution that closes a residual module has a bias, no norm and no ReLU. Its output is scaled by
//!   0.17, 0.10 and 0.20 before the sum; the paper says 0.1 to 0.3.
//! - The last residual module scales by 1 and has no ReLU after the sum.
//! - A 1x1 convolution to 1536 channels comes before the classifier.
//! - Batch norm's epsilon is 1e-3, as in TensorFlow's other networks; there is no dropout.

use crate::layers::{PoolRow, conv, conv_hw};
use crate::stage::{BranchRow, StageRow, chain, pooled, stage};

const MAX_S2: PoolRow = PoolRow::Max { stride: 2, padding: 0 };
const AVERAGE: PoolRow = PoolRow::Average { count_padding: false };

const C: &[BranchRow] =
    &[chain(&[conv(192, 1)]), chain(&[conv(192, 1), conv_hw(224, [1, 3]), conv_hw(256, [3, 1])])];

pub(crate) const V2: &[StageRow] = &[
    stage("conv1a", &[chain(&[conv(32, 3).stride(2).valid()])]), // 299 -> 149
    stage("conv2a", &[chain(&[conv(32, 3).valid()])]),           // 147
    stage("conv2b", &[chain(&[conv(64, 3)])]),
    stage("pool2", &[pooled(MAX_S2, &[])]), // 73
    stage("conv3b", &[chain(&[conv(80, 1)])]),
    stage("conv4a", &[chain(&[conv(192, 3).valid()])]), // 71
    stage("pool4", &[pooled(MAX_S2, &[])]),             // 35
    stage(
        "mixed",
        &[
            chain(&[conv(96, 1)]),
            chain(&[conv(48, 1), conv(64, 5)]),
            chain(&[conv(64, 1), conv(96, 3), conv(96, 3)]),
            pooled(AVERAGE, &[conv(64, 1)]),
        ],
    ),
    stage(
        "a",
        &[
            chain(&[conv(32, 1)]),
            chain(&[conv(32, 1), conv(32, 3)]),
            chain(&[conv(32, 1), conv(48, 3), conv(64, 3)]),
        ],
    )
    .residual(0.17)
    .times(10),
    stage(
        "reduction_a", // 17
        &[
            chain(&[conv(384, 3).stride(2).valid()]),
            chain(&[conv(256, 1), conv(256, 3), conv(384, 3).stride(2).valid()]),
            pooled(MAX_S2, &[]),
        ],
    ),
    stage("b", &[chain(&[conv(192, 1)]), chain(&[conv(128, 1), conv_hw(160, [1, 7]), conv_hw(192, [7, 1])])])
        .residual(0.10)
        .times(20),
    stage(
        "reduction_b", // 8
        &[
            chain(&[conv(256, 1), conv(384, 3).stride(2).valid()]),
            chain(&[conv(256, 1), conv(288, 3).stride(2).valid()]),
            chain(&[conv(256, 1), conv(288, 3), conv(320, 3).stride(2).valid()]),
            pooled(MAX_S2, &[]),
        ],
    ),
    stage("c", C).residual(0.20).times(9),
    stage("c10", C).residual(1.0).without_relu(),
    stage("conv7b", &[chain(&[conv(1536, 1)])]),
];
