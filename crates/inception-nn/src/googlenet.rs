//! GoogLeNet (Szegedy et al., *Going deeper with convolutions*, 2014) as
//! `ppcls/arch/backbone/model_zoo/googlenet.py` of PaddleClas 2.6 has it.
//!
//! # Differences from the paper, torchvision and timm
//!
//! Each is pinned by the parity golden `tests/goldens/GoogLeNet.json`, whose stages or logits move with it.
//!
//! - No batch norm (torchvision has them) and no bias in any convolution (the paper has biases).
//! - No ReLU after the stem's convolutions nor inside the branches: one ReLU after each concatenation.
//! - The "5x5" branches really are 5x5 (torchvision's are 3x3).
//! - Poolings are floor-mode without padding (the paper and torchvision round up), so that at 224 the map
//!   before the global pool is 6x6, not 7x7.
//! - No local response normalisation.
//! - Second auxiliary head: no ReLU between its two fully connected layers; the first has one.
//! - At inference dropout multiplies by the share kept: 0.6 before the classifier, 0.3 in the auxiliary
//!   heads.

use burn::module::Module;
use burn::nn::pool::{AvgPool2d, AvgPool2dConfig};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation::relu};
use inception_graph::Window;

use crate::Observer;
use crate::error::Error;
use crate::layers::{Classifier, ConvNorm, DropoutSpec, PoolRow, ScaledDropout, conv};
use crate::stage::{Stage, StageRow, StageStyle, build_stages, chain, pooled, stage};

const STYLE: StageStyle = StageStyle { norm: None, relu: false, relu_after_concat: true };

const MAX_S2: PoolRow = PoolRow::Max { stride: 2, padding: 0 };
const MAX_S1: PoolRow = PoolRow::Max { stride: 1, padding: 1 };

/// The paper's table 1, a row a module: 1x1; 3x3 after its reduction; 5x5 after its reduction; 1x1 after the
/// pool.
macro_rules! inception {
    ($name:literal, $c1:literal, $r3:literal => $c3:literal, $r5:literal => $c5:literal, $proj:literal) => {
        stage(
            $name,
            &[
                chain(&[conv($c1, 1)]),
                chain(&[conv($r3, 1), conv($c3, 3)]),
                chain(&[conv($r5, 1), conv($c5, 5)]),
                pooled(MAX_S1, &[conv($proj, 1)]),
            ],
        )
    };
}

const STAGES: &[StageRow] = &[
    stage("conv1", &[chain(&[conv(64, 7).stride(2)])]), // 224 -> 112
    stage("pool1", &[pooled(MAX_S2, &[])]),             // 55
    stage("conv2_reduce", &[chain(&[conv(64, 1)])]),
    stage("conv2", &[chain(&[conv(192, 3)])]),
    stage("pool2", &[pooled(MAX_S2, &[])]), // 27
    inception!("3a", 64, 96 => 128, 16 => 32, 32),
    inception!("3b", 128, 128 => 192, 32 => 96, 64),
    stage("pool3", &[pooled(MAX_S2, &[])]), // 13
    inception!("4a", 192, 96 => 208, 16 => 48, 64),
    inception!("4b", 160, 112 => 224, 24 => 64, 64),
    inception!("4c", 128, 128 => 256, 24 => 64, 64),
    inception!("4d", 112, 144 => 288, 32 => 64, 64),
    inception!("4e", 256, 160 => 320, 32 => 128, 128),
    stage("pool4", &[pooled(MAX_S2, &[])]), // 6
    inception!("5a", 256, 160 => 320, 32 => 128, 128),
    inception!("5b", 384, 192 => 384, 48 => 128, 128),
];

/// An auxiliary head reads the map after this stage.
struct AuxiliaryRow {
    after: &'static str,
    channels: usize,
    relu: bool,
}

const AUXILIARY: [AuxiliaryRow; 2] = [
    AuxiliaryRow { after: "4a", channels: 512, relu: true },
    AuxiliaryRow { after: "4d", channels: 528, relu: false },
];

/// The side of the map that an auxiliary head's first fully connected layer takes.
const AUXILIARY_SIDE: usize = 3;

/// A classifier on an intermediate map, which only training uses.
#[derive(Module, Debug)]
pub struct AuxiliaryHead {
    pool: AvgPool2d,
    conv: ConvNorm,
    fc1: Linear,
    relu: bool,
    dropout: ScaledDropout,
    fc2: Linear,
}

impl AuxiliaryHead {
    fn new(row: &AuxiliaryRow, num_classes: usize, device: &Device) -> Self {
        Self {
            pool: AvgPool2dConfig::new([5, 5]).with_strides([3, 3]).init(),
            conv: ConvNorm::new(row.channels, conv(128, 1), STYLE.norm, STYLE.relu, device),
            fc1: LinearConfig::new(128 * AUXILIARY_SIDE * AUXILIARY_SIDE, 1024).init(device),
            relu: row.relu,
            dropout: ScaledDropout::downscale(0.7),
            fc2: LinearConfig::new(1024, num_classes).init(device),
        }
    }

    fn forward(&self, input: Tensor<4>) -> Tensor<2> {
        let x = self.conv.forward(self.pool.forward(input)); // [batch, 128, 3, 3]
        let x = self.fc1.forward(x.flatten::<2>(1, 3));
        let x = match self.relu {
            true => relu(x),
            false => x,
        };
        self.fc2.forward(self.dropout.forward(x))
    }

    /// Whether a map of this size can be read.
    fn fits(&self, map: [usize; 2]) -> bool {
        let pool = &self.pool;
        Window::new(pool.kernel_size, pool.stride, [0; 2]).output(map) == Some([AUXILIARY_SIDE; 2])
    }
}

/// GoogLeNet with its two auxiliary heads.
///
/// PaddleClas trains on the sum of the three losses, the auxiliary ones weighted by 0.3
/// (`ppcls/loss/googlenetloss.py`).
#[derive(Module, Debug)]
pub struct GoogLeNet {
    stages: Vec<Stage>,
    head: Classifier,
    auxiliary1: AuxiliaryHead,
    auxiliary2: AuxiliaryHead,
}

impl GoogLeNet {
    pub(crate) fn new(num_classes: usize, device: &Device) -> Self {
        let (stages, channels) = build_stages(STAGES, STYLE, device);
        let [auxiliary1, auxiliary2] = AUXILIARY.map(|row| AuxiliaryHead::new(&row, num_classes, device));
        Self {
            stages,
            head: Classifier::new(channels, num_classes, DropoutSpec::AfterPool(0.4), device),
            auxiliary1,
            auxiliary2,
        }
    }

    /// What the first `start` stages make of images to the logits of the classifier, and of the auxiliary heads
    /// that read that map or a later one.
    pub(crate) fn forward_heads(
        &self,
        start: usize,
        map: Tensor<4>,
    ) -> Result<(Tensor<2>, Vec<Tensor<2>>), Error> {
        let [_, _, height, width] = map.dims();
        let auxiliary = |name: &str, map: &Tensor<4>| {
            let mut heads = AUXILIARY.iter().zip([&self.auxiliary1, &self.auxiliary2]);
            let (_, head) = heads.find(|(row, _)| row.after == name)?;
            let [_, _, h, w] = map.dims();
            Some(match head.fits([h, w]) {
                true => Ok(head.forward(map.clone())),
                false => Err(Error::AuxiliarySize { height, width }),
            })
        };
        forward_heads(&self.head, |observe| self.forward_features(start, map, observe), auxiliary)
    }

    pub(crate) fn forward_features(&self, start: usize, map: Tensor<4>, observe: Observer) -> Tensor<4> {
        forward_stages(&self.stages, STAGES, start, map, observe)
    }

    pub(crate) fn stages() -> Vec<String> {
        STAGES.iter().flat_map(StageRow::names).collect()
    }

    /// The auxiliary heads, which inference does not use, stay as they are.
    pub(crate) fn for_gpu(&mut self) {
        self.stages.iter_mut().for_each(Stage::for_gpu);
    }

    pub(crate) fn remove_auxiliary_dropout(&mut self) {
        for head in [&mut self.auxiliary1, &mut self.auxiliary2] {
            head.dropout = ScaledDropout::downscale(0.0);
        }
    }

    pub(crate) fn head(&self) -> &Classifier {
        &self.head
    }

    pub(crate) fn head_mut(&mut self) -> &mut Classifier {
        &mut self.head
    }
}

/// The logits of `head` on the last map of `features`, and those of the auxiliary classifiers, which `auxiliary` gives
/// for the name of a stage and its map where one reads it.
pub(crate) fn forward_heads(
    head: &Classifier,
    features: impl FnOnce(Observer) -> Tensor<4>,
    mut auxiliary: impl FnMut(&str, &Tensor<4>) -> Option<Result<Tensor<2>, Error>>,
) -> Result<(Tensor<2>, Vec<Tensor<2>>), Error> {
    let mut found = Vec::new();
    let features = features(&mut |name, map| found.extend(auxiliary(name, map)));
    let auxiliary = found.into_iter().collect::<Result<_, _>>()?;
    Ok((head.forward(features), auxiliary))
}

/// What the first `start` stages make of images to the last map; `observe` is shown that map, too, if a stage has
/// made it.
pub(crate) fn forward_stages(
    stages: &[Stage],
    rows: &[StageRow],
    start: usize,
    map: Tensor<4>,
    observe: Observer,
) -> Tensor<4> {
    let names: Vec<String> = rows.iter().flat_map(StageRow::names).collect();
    if let Some(name) = start.checked_sub(1).and_then(|last| names.get(last)) {
        observe(name, &map);
    }
    stages.iter().zip(names).skip(start).fold(map, |x, (stage, name)| {
        let x = stage.forward(x);
        observe(&name, &x);
        x
    })
}
