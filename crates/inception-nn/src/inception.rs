//! Inception V3 and Inception V4 as PaddleClas 2.6 has them (`legendary_models/inception_v3.py`,
//! `model_zoo/inception_v4.py` under `ppcls/arch/backbone`), and the Inception V3 of FID
//! (`pytorch_fid/inception.py` of pytorch-fid 0.3).
//!
//! Inception V3: Szegedy et al., *Rethinking the Inception architecture for computer vision*, 2015. Inception
//! V4: Szegedy et al., *Inception-v4, Inception-ResNet and the impact of residual connections on learning*,
//! 2016.
//!
//! # Differences from the papers, torchvision and timm
//!
//! Each is pinned by the parity goldens `tests/goldens/InceptionV3.json` and `InceptionV4.json`.
//!
//! - Batch norm's epsilon is 1e-5 in both (TensorFlow, torchvision and timm: 1e-3).
//! - At inference the pooled features are multiplied by 0.8 (dropout's share kept; elsewhere nothing).
//! - V3's average poolings count the padding (as torchvision's and timm's V3), V4's do not (as timm's V4).
//! - V3 has no auxiliary head (torchvision has one, which is built for training only).
//! - Keras's V3 is pinned by `tests/goldens/weights/keras-inception_v3.json`: its average poolings leave the
//!   padding out, its epsilon is 1e-3, and its norms have no scale (here one that is 1).
//! - FID's V3 is TensorFlow's of December 2015: its average poolings leave the padding out, and its last
//!   module pools by maximum (pinned by `tests/goldens/weights/fid-inception_v3.json`).
//! - V4 orders the branches of its modules pool first; timm orders them otherwise, which permutes channels.

use burn::module::Module;
use burn::nn::pool::{AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig, AvgPool2d, AvgPool2dConfig};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use inception_graph::Window;

use crate::Observer;
use crate::error::Error;
use crate::googlenet::{forward_heads, forward_stages};
use crate::inception_resnet;
use crate::layers::{
    Classifier, ConvNorm, DropoutSpec, KERAS_NORM, NormSpec, PADDLE_NORM, PoolRow, conv, conv_hw,
};
use crate::stage::{Stage, StageRow, StageStyle, build_stages, chain, forked, pooled, stage};
use crate::torch;

const STYLE: StageStyle = StageStyle { norm: Some(PADDLE_NORM), relu: true, relu_after_concat: false };

const MAX_S2: PoolRow = PoolRow::Max { stride: 2, padding: 0 };
const AVERAGE_V3: PoolRow = PoolRow::Average { count_padding: true };
const AVERAGE_V4: PoolRow = PoolRow::Average { count_padding: false };
const MAX_S1: PoolRow = PoolRow::Max { stride: 1, padding: 1 };

macro_rules! v3_a {
    ($name:literal, pool $pool:literal, $average:expr) => {
        stage(
            $name,
            &[
                chain(&[conv(64, 1)]),
                chain(&[conv(48, 1), conv(64, 5)]),
                chain(&[conv(64, 1), conv(96, 3), conv(96, 3)]),
                pooled($average, &[conv($pool, 1)]),
            ],
        )
    };
}

macro_rules! v3_c {
    ($name:literal, width $c:literal, $average:expr) => {
        stage(
            $name,
            &[
                chain(&[conv(192, 1)]),
                chain(&[conv($c, 1), conv_hw($c, [1, 7]), conv_hw(192, [7, 1])]),
                chain(&[
                    conv($c, 1),
                    conv_hw($c, [7, 1]),
                    conv_hw($c, [1, 7]),
                    conv_hw($c, [7, 1]),
                    conv_hw(192, [1, 7]),
                ]),
                pooled($average, &[conv(192, 1)]),
            ],
        )
    };
}

macro_rules! v3_e {
    ($name:literal, $pool:expr) => {
        stage(
            $name,
            &[
                chain(&[conv(320, 1)]),
                forked(&[conv(384, 1)], &[conv_hw(384, [1, 3]), conv_hw(384, [3, 1])]),
                forked(&[conv(448, 1), conv(384, 3)], &[conv_hw(384, [1, 3]), conv_hw(384, [3, 1])]),
                pooled($pool, &[conv(192, 1)]),
            ],
        )
    };
}

/// The stages by the average pooling, and the pooling of the last module.
macro_rules! v3 {
    ($average:expr, $last:expr) => {
        &[
            stage("conv1a", &[chain(&[conv(32, 3).stride(2).valid()])]), // 299 -> 149
            stage("conv2a", &[chain(&[conv(32, 3).valid()])]),           // 147
            stage("conv2b", &[chain(&[conv(64, 3)])]),
            stage("pool2", &[pooled(MAX_S2, &[])]), // 73
            stage("conv3b", &[chain(&[conv(80, 1)])]),
            stage("conv4a", &[chain(&[conv(192, 3).valid()])]), // 71
            stage("pool4", &[pooled(MAX_S2, &[])]),             // 35
            v3_a!("a1", pool 32, $average),
            v3_a!("a2", pool 64, $average),
            v3_a!("a3", pool 64, $average),
            stage(
                "b", // 17
                &[
                    chain(&[conv(384, 3).stride(2).valid()]),
                    chain(&[conv(64, 1), conv(96, 3), conv(96, 3).stride(2).valid()]),
                    pooled(MAX_S2, &[]),
                ],
            ),
            v3_c!("c1", width 128, $average),
            v3_c!("c2", width 160, $average),
            v3_c!("c3", width 160, $average),
            v3_c!("c4", width 192, $average),
            stage(
                "d", // 8
                &[
                    chain(&[conv(192, 1), conv(320, 3).stride(2).valid()]),
                    chain(&[
                        conv(192, 1),
                        conv_hw(192, [1, 7]),
                        conv_hw(192, [7, 1]),
                        conv(192, 3).stride(2).valid(),
                    ]),
                    pooled(MAX_S2, &[]),
                ],
            ),
            v3_e!("e1", $average),
            v3_e!("e2", $last),
        ]
    };
}

const V3: &[StageRow] = v3!(AVERAGE_V3, AVERAGE_V3);
const KERAS_V3: &[StageRow] = v3!(AVERAGE_V4, AVERAGE_V4);
const FID_V3: &[StageRow] = v3!(AVERAGE_V4, MAX_S1);

macro_rules! v4_a {
    ($name:literal) => {
        stage(
            $name,
            &[
                pooled(AVERAGE_V4, &[conv(96, 1)]),
                chain(&[conv(96, 1)]),
                chain(&[conv(64, 1), conv(96, 3)]),
                chain(&[conv(64, 1), conv(96, 3), conv(96, 3)]),
            ],
        )
    };
}

macro_rules! v4_b {
    ($name:literal) => {
        stage(
            $name,
            &[
                pooled(AVERAGE_V4, &[conv(128, 1)]),
                chain(&[conv(384, 1)]),
                chain(&[conv(192, 1), conv_hw(224, [1, 7]), conv_hw(256, [7, 1])]),
                chain(&[
                    conv(192, 1),
                    conv_hw(192, [1, 7]),
                    conv_hw(224, [7, 1]),
                    conv_hw(224, [1, 7]),
                    conv_hw(256, [7, 1]),
                ]),
            ],
        )
    };
}

macro_rules! v4_c {
    ($name:literal) => {
        stage(
            $name,
            &[
                pooled(AVERAGE_V4, &[conv(256, 1)]),
                chain(&[conv(256, 1)]),
                forked(&[conv(384, 1)], &[conv_hw(256, [1, 3]), conv_hw(256, [3, 1])]),
                forked(
                    &[conv(384, 1), conv_hw(448, [1, 3]), conv_hw(512, [3, 1])],
                    &[conv_hw(256, [1, 3]), conv_hw(256, [3, 1])],
                ),
            ],
        )
    };
}

const V4: &[StageRow] = &[
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
            chain(&[conv(64, 1), conv_hw(64, [7, 1]), conv_hw(64, [1, 7]), conv(96, 3).valid()]),
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
            pooled(MAX_S2, &[]),
            chain(&[conv(384, 3).stride(2).valid()]),
            chain(&[conv(192, 1), conv(224, 3), conv(256, 3).stride(2).valid()]),
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
            pooled(MAX_S2, &[]),
            chain(&[conv(192, 1), conv(192, 3).stride(2).valid()]),
            chain(&[
                conv(256, 1),
                conv_hw(256, [1, 7]),
                conv_hw(320, [7, 1]),
                conv(320, 3).stride(2).valid(),
            ]),
        ],
    ),
    v4_c!("c1"),
    v4_c!("c2"),
    v4_c!("c3"),
];

/// Which network an [`Inception`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V3,
    V4,
    TorchV3,
    FidV3,
    TimmV4,
    TimmResNetV2,
    TorchvisionGoogLeNet,
    KerasV3,
}

impl Version {
    const fn rows(self) -> &'static [StageRow] {
        match self {
            Self::V3 | Self::TorchV3 => V3,
            Self::FidV3 => FID_V3,
            Self::V4 => V4,
            Self::KerasV3 => KERAS_V3,
            Self::TimmV4 => torch::V4,
            Self::TimmResNetV2 => inception_resnet::V2,
            Self::TorchvisionGoogLeNet => torch::GOOGLENET,
        }
    }

    const fn style(self) -> (StageStyle, DropoutSpec) {
        match self {
            Self::V3 | Self::V4 => (STYLE, DropoutSpec::AfterPool(0.2)),
            Self::TorchV3 | Self::FidV3 | Self::TimmV4 | Self::TimmResNetV2 | Self::TorchvisionGoogLeNet => {
                (torch::STYLE, DropoutSpec::None)
            }
            Self::KerasV3 => (StageStyle { norm: Some(KERAS_NORM), ..torch::STYLE }, DropoutSpec::None),
        }
    }
}

/// The stage whose map torchvision's auxiliary classifier reads (its `Mixed_6e`), and the channels of that.
const AUXILIARY: (&str, usize) = ("c4", 768);

/// The side of the map that the auxiliary classifier's last convolution takes at least: its own.
const AUXILIARY_SIDE: usize = 5;

/// torchvision's classifier on an intermediate map of Inception V3 (`InceptionAux`), which only training uses.
#[derive(Module, Debug)]
pub struct AuxiliaryV3 {
    pool: AvgPool2d,
    conv0: ConvNorm,
    conv1: ConvNorm,
    average: AdaptiveAvgPool2d,
    fc: Linear,
}

impl AuxiliaryV3 {
    fn new(style: StageStyle, num_classes: usize, device: &Device) -> Self {
        let (narrow, wide) = (conv(128, 1), conv(768, AUXILIARY_SIDE).valid());
        Self {
            pool: AvgPool2dConfig::new([5, 5]).with_strides([3, 3]).init(),
            conv0: ConvNorm::new(AUXILIARY.1, narrow, style.norm, style.relu, device),
            conv1: ConvNorm::new(narrow.channels, wide, style.norm, style.relu, device),
            average: AdaptiveAvgPool2dConfig::new([1, 1]).init(),
            fc: LinearConfig::new(wide.channels, num_classes).init(device),
        }
    }

    fn forward(&self, input: Tensor<4>) -> Tensor<2> {
        let x = self.conv0.forward(self.pool.forward(input)); // 17 -> 5
        let x = self.average.forward(self.conv1.forward(x)); // 1
        self.fc.forward(x.flatten::<2>(1, 3))
    }

    /// Whether a map of this size can be read.
    fn fits(&self, map: [usize; 2]) -> bool {
        let pooled = Window::new(self.pool.kernel_size, self.pool.stride, [0; 2]).output(map);
        pooled.is_some_and(|[height, width]| height.min(width) >= AUXILIARY_SIDE)
    }
}

/// Inception V3 or V4, PaddleClas's, PyTorch's, Keras's or FID's; or timm's Inception-ResNet-v2 or
/// torchvision's GoogLeNet, which are built as these are.
#[derive(Module, Debug)]
pub struct Inception {
    stages: Vec<Stage>,
    head: Classifier,
    auxiliary: Option<AuxiliaryV3>,
    #[module(skip)]
    version: Version,
}

impl Inception {
    /// With `auxiliary`, the classifier that only training uses, where the version has one.
    pub(crate) fn new(version: Version, num_classes: usize, auxiliary: bool, device: &Device) -> Self {
        let (style, dropout) = version.style();
        let (stages, channels) = build_stages(version.rows(), style, device);
        Self {
            stages,
            head: Classifier::new(channels, num_classes, dropout, device),
            auxiliary: (auxiliary && version == Version::TorchV3)
                .then(|| AuxiliaryV3::new(style, num_classes, device)),
            version,
        }
    }

    pub(crate) fn forward_features(&self, start: usize, map: Tensor<4>, observe: Observer) -> Tensor<4> {
        forward_stages(&self.stages, self.version.rows(), start, map, observe)
    }

    /// What the first `start` stages make of images to the logits of the classifier, and of the auxiliary one if
    /// there is one that reads that map or a later one.
    pub(crate) fn forward_heads(
        &self,
        start: usize,
        map: Tensor<4>,
    ) -> Result<(Tensor<2>, Vec<Tensor<2>>), Error> {
        let [_, _, height, width] = map.dims();
        let auxiliary = |name: &str, map: &Tensor<4>| {
            let head = self.auxiliary.as_ref().filter(|_| name == AUXILIARY.0)?;
            let [_, _, h, w] = map.dims();
            Some(match head.fits([h, w]) {
                true => Ok(head.forward(map.clone())),
                false => Err(Error::AuxiliarySize { height, width }),
            })
        };
        forward_heads(&self.head, |observe| self.forward_features(start, map, observe), auxiliary)
    }

    pub(crate) fn has_auxiliary(&self) -> bool {
        self.auxiliary.is_some()
    }

    pub(crate) fn stages(&self) -> Vec<String> {
        self.version.rows().iter().flat_map(StageRow::names).collect()
    }

    pub(crate) fn fold(&mut self) {
        self.stages.iter_mut().for_each(Stage::fold);
        // Only training uses it.
        self.auxiliary = None;
    }

    pub(crate) fn for_gpu(&mut self) {
        self.stages.iter_mut().for_each(Stage::for_gpu);
    }

    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// How it normalises.
    pub(crate) fn norm(&self) -> Option<NormSpec> {
        self.version.style().0.norm
    }

    pub(crate) fn head(&self) -> &Classifier {
        &self.head
    }

    pub(crate) fn head_mut(&mut self) -> &mut Classifier {
        &mut self.head
    }
}
