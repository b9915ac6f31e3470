//! The Xceptions as PaddleClas 2.6 has them (`model_zoo/xception.py`, `model_zoo/xception_deeplab.py` under
//! `ppcls/arch/backbone`): Chollet, *Xception: Deep learning with depthwise separable convolutions*, 2016, in
//! the deeper and wider forms of Chen et al., *Encoder-decoder with atrous separable convolution*
//! (DeepLabV3+), 2018.
//!
//! # Differences from the papers and timm
//!
//! Each is pinned by the parity goldens `tests/goldens/Xception*.json`.
//!
//! - The plain networks (41, 65, 71) convolve **pointwise first, then depthwise**, each with its norm;
//!   everyone else goes depthwise first. Their entry and exit blocks have two separable convolutions and end
//!   in a max pool, with the shortcut a bare convolution without norm. (timm's and DeepLab's have three, the
//!   last one strided, and a norm on the shortcut.)
//! - In Xception71 the max pool stands in the stride-1 entry blocks too.
//! - The first entry block of the plain networks starts without a ReLU; the deeplab pair's starts with one,
//!   which does nothing since the stem ends in one.
//! - The plain networks end in two separable convolutions, ReLU after each, none inside.
//! - The deeplab pair: depthwise first, epsilon 1e-3, momentum 0.99 (Paddle's sense), three separable
//!   convolutions a block, the last strided, norm on the shortcut, and a last block with dilation 2 and a
//!   ReLU after *each* norm. DeepLab itself gives that block dilation 1 at output stride 32; Paddle keeps 2,
//!   and so do its weights.
//! - The deeplab pair drops out before the global pool, half of the values; the plain ones not at all.
//!
//! timm's `legacy_xception` is Chollet's own network, pinned by
//! `tests/goldens/weights/timm-legacy_xception.json`. It has Xception41's blocks, but convolves depthwise
//! first, with one norm after both convolutions, has a norm on the shortcut, and does not pad its stem. Its
//! epsilon is PyTorch's 1e-5; Keras, where its weights come from, has 1e-3. Keras's form, pinned by
//! `tests/goldens/weights/keras-xception.json`, pads its max pools as TensorFlow's `same` does: the second
//! one, on a map of 74 pixels, after the end alone.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, activation::relu};

use crate::Observer;
use crate::layers::{
    Classifier, ConvNorm, ConvRow, DropoutSpec, KERAS_NORM, NormSpec, PADDLE_NORM, Pool, PoolRow,
    TENSORFLOW_NORM, TORCH_NORM, conv, per_channel,
};

/// Where a block's ReLUs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relus {
    /// Before each separable convolution.
    Before,
    /// Before each but the first.
    BeforeAllButFirst,
    /// After each separable convolution.
    After,
    /// After each of the two norms of each separable convolution.
    Inside,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shortcut {
    None,
    Identity,
    /// A strided 1x1 convolution.
    Projection,
}

/// One block: a separable convolution for each of `channels`.
#[derive(Clone, Copy, Debug)]
struct BlockRow {
    name: &'static str,
    channels: &'static [usize],
    stride: usize,
    dilation: usize,
    relus: Relus,
    shortcut: Shortcut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SeparableOrder {
    PointwiseFirst,
    DepthwiseFirst,
}

/// What a block with a stride does it with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Downsampling {
    /// A 3x3 max pool that closes each block whose shortcut is a projection, even at stride 1.
    MaxPool,
    /// As [`MaxPool`](Self::MaxPool) at stride 2, with TensorFlow's padding `same`.
    MaxPoolSame,
    /// The depthwise convolution of the block's last separable convolution.
    LastDepthwise,
}

/// What one of the kinds of Xception does everywhere.
#[derive(Clone, Copy, Debug)]
struct Style {
    stem: [ConvRow; 2],
    order: SeparableOrder,
    norm: NormSpec,
    /// A norm between the two convolutions of a separable one, besides that after them.
    norm_between: bool,
    shortcut_norm: bool,
    downsampling: Downsampling,
    dropout: DropoutSpec,
}

const PLAIN: Style = Style {
    stem: [conv(32, 3).stride(2), conv(64, 3)],
    order: SeparableOrder::PointwiseFirst,
    norm: PADDLE_NORM,
    norm_between: true,
    shortcut_norm: false,
    downsampling: Downsampling::MaxPool,
    dropout: DropoutSpec::None,
};

const DEEPLAB: Style = Style {
    stem: PLAIN.stem,
    order: SeparableOrder::DepthwiseFirst,
    norm: NormSpec { epsilon: 1e-3, momentum: 0.01, unbiased: false },
    norm_between: true,
    shortcut_norm: true,
    downsampling: Downsampling::LastDepthwise,
    dropout: DropoutSpec::BeforePool(0.5),
};

/// timm's, which are converted from DeepLab's.
const TIMM: Style = Style { norm: TENSORFLOW_NORM, dropout: DropoutSpec::None, ..DEEPLAB };

/// Chollet's own, as timm's `legacy_xception` has it.
const LEGACY: Style = Style {
    stem: [conv(32, 3).stride(2).valid(), conv(64, 3).valid()],
    order: SeparableOrder::DepthwiseFirst,
    norm: TORCH_NORM,
    norm_between: false,
    shortcut_norm: true,
    ..PLAIN
};

/// Chollet's own, as Keras has it.
const KERAS: Style = Style { norm: KERAS_NORM, downsampling: Downsampling::MaxPoolSame, ..LEGACY };

const fn row(
    name: &'static str,
    channels: &'static [usize],
    stride: usize,
    relus: Relus,
    shortcut: Shortcut,
) -> BlockRow {
    BlockRow { name, channels, stride, dilation: 1, relus, shortcut }
}

use Relus::{After, Before, BeforeAllButFirst, Inside};
use Shortcut::{Identity, None as NoShortcut, Projection};

const ENTRY: &[BlockRow] = &[
    row("entry1", &[128, 128], 2, BeforeAllButFirst, Projection), // 150 -> 75
    row("entry2", &[256, 256], 2, Before, Projection),            // 38
    row("entry3", &[728, 728], 2, Before, Projection),            // 19
];
const ENTRY_71: &[BlockRow] = &[
    row("entry1", &[128, 128], 2, BeforeAllButFirst, Projection), // 150 -> 75
    row("entry2", &[256, 256], 1, Before, Projection),
    row("entry3", &[256, 256], 2, Before, Projection), // 38
    row("entry4", &[728, 728], 1, Before, Projection),
    row("entry5", &[728, 728], 2, Before, Projection), // 19
];
const EXIT: &[BlockRow] = &[
    row("exit1", &[728, 1024], 2, Before, Projection), // 10
    row("exit2", &[1536, 2048], 1, After, NoShortcut),
];

const ENTRY_DEEPLAB: &[BlockRow] = &[
    row("entry1", &[128, 128, 128], 2, Before, Projection), // 150 -> 75
    row("entry2", &[256, 256, 256], 2, Before, Projection), // 38
    row("entry3", &[728, 728, 728], 2, Before, Projection), // 19
];
const EXIT_DEEPLAB: &[BlockRow] = &[
    row("exit1", &[728, 1024, 1024], 2, Before, Projection), // 10
    row("exit2", &[1536, 1536, 2048], 1, Inside, NoShortcut),
];

const ENTRY_TIMM_71: &[BlockRow] = &[
    row("entry1", &[128, 128, 128], 2, Before, Projection), // 150 -> 75
    row("entry2", &[256, 256, 256], 1, Before, Projection),
    row("entry3", &[256, 256, 256], 2, Before, Projection), // 38
    row("entry4", &[728, 728, 728], 1, Before, Projection),
    row("entry5", &[728, 728, 728], 2, Before, Projection), // 19
];

const MIDDLE: BlockRow = row("middle", &[728, 728, 728], 1, Before, Identity);

/// How many input pixels one pixel of the last map of a deeplab network stands for.
///
/// | output stride | entry block 3 | middle dilation | exit block 1 | exit block 2 dilation |
/// |---|---|---|---|---|
/// | 32, PaddleClas | stride 2 | 1 | stride 2, dilation 1 | 2 |
/// | 16, DeepLabV3+ and PaddleSeg | stride 2 | 1 | stride 1, dilation 1 | 2 |
/// | 8, DeepLabV3+ | stride 1 | 2 | stride 1, dilation 2 | 4 |
///
/// The rates are those of DeepLab's `stack_blocks_dense`: a stride dropped dilates what comes after it.
/// Weights of one output stride run at any other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum OutputStride {
    S8,
    S16,
    #[default]
    S32,
}

impl OutputStride {
    /// Sets strides and dilations of [`ENTRY_DEEPLAB`], [`MIDDLE`] and [`EXIT_DEEPLAB`] rows.
    fn apply(self, row: &mut BlockRow) {
        let (stride, dilation) = match (row.name, self) {
            ("entry3", Self::S8) => (1, 1),
            ("middle", Self::S8) => (1, 2),
            ("exit1", Self::S8) => (1, 2),
            ("exit1", Self::S16) => (1, 1),
            ("exit2", Self::S8) => (1, 4),
            ("exit2", _) => (1, 2),
            _ => return,
        };
        row.stride = stride;
        row.dilation = dilation;
    }
}

/// Depthwise and pointwise convolution in either order, each with its norm, or one norm after both.
#[derive(Module, Debug)]
pub struct SeparableConv {
    depthwise: ConvNorm,
    pointwise: ConvNorm,
    pointwise_first: bool,
}

impl SeparableConv {
    fn new(
        channels: [usize; 2],
        stride: usize,
        dilation: usize,
        relus: Relus,
        style: &Style,
        device: &Device,
    ) -> Self {
        let [channels_in, channels_out] = channels;
        let pointwise_first = style.order == SeparableOrder::PointwiseFirst;
        let depthwise_channels = if pointwise_first { channels_out } else { channels_in };
        let depthwise = conv(depthwise_channels, 3).stride(stride).dilation(dilation).depthwise();
        let layer = |channels_in, row, is_last: bool| {
            let norm = (is_last || style.norm_between).then_some(style.norm);
            let relu = relus == Inside || (relus == After && is_last);
            ConvNorm::new(channels_in, row, norm, relu, device)
        };
        Self {
            depthwise: layer(depthwise_channels, depthwise, pointwise_first),
            pointwise: layer(channels_in, conv(channels_out, 1), !pointwise_first),
            pointwise_first,
        }
    }

    fn layers(&self) -> [&ConvNorm; 2] {
        match self.pointwise_first {
            true => [&self.pointwise, &self.depthwise],
            false => [&self.depthwise, &self.pointwise],
        }
    }

    fn layers_mut(&mut self) -> [&mut ConvNorm; 2] {
        match self.pointwise_first {
            true => [&mut self.pointwise, &mut self.depthwise],
            false => [&mut self.depthwise, &mut self.pointwise],
        }
    }

    fn fold(&mut self) {
        let [first, second] = self.layers_mut();
        first.fold();
        second.fold();
        second.absorb_bias(first);
    }

    /// `next_fuses`: a ReLU or the block's sum comes next, not a pooling.
    fn for_gpu(&mut self, next_fuses: bool) {
        let pointwise_first = self.pointwise_first;
        let [first, second] = self.layers_mut();
        if pointwise_first && next_fuses {
            second.move_bias_of(first);
        }
        first.for_gpu(false);
        second.for_gpu(next_fuses);
    }

    /// `[batch, channels_in, height, width]` to `[batch, channels_out, height_out, width_out]`.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        self.layers().into_iter().fold(input, |x, layer| layer.forward(x))
    }
}

/// A few separable convolutions and the shortcut around them.
#[derive(Module, Debug)]
pub struct Block {
    separable: Vec<SeparableConv>,
    pool: Option<Pool>,
    projection: Option<ConvNorm>,
    /// The biases of both paths in the form for a GPU, `[1, channels, 1, 1]`.
    shift: Option<Param<Tensor<4>>>,
    identity: bool,
    /// Index of the first separable convolution that a ReLU precedes.
    relu_from: usize,
}

impl Block {
    fn new(channels_in: usize, row: &BlockRow, style: &Style, device: &Device) -> Self {
        let last = row.channels.len() - 1;
        let projects = row.shortcut == Projection;
        let pool = match style.downsampling {
            Downsampling::MaxPool => Some(PoolRow::Max { stride: row.stride, padding: 1 }),
            Downsampling::MaxPoolSame => Some(PoolRow::MaxSame),
            Downsampling::LastDepthwise => None,
        };
        let pool = pool.filter(|_| projects);
        let mut channels = channels_in;
        let separable = row.channels.iter().enumerate().map(|(i, &channels_out)| {
            let stride = if i == last && pool.is_none() { row.stride } else { 1 };
            let pair = [std::mem::replace(&mut channels, channels_out), channels_out];
            SeparableConv::new(pair, stride, row.dilation, row.relus, style, device)
        });
        Self {
            separable: separable.collect(),
            pool: pool.map(Pool::new),
            projection: projects.then(|| {
                let projection = conv(row.channels[last], 1).stride(row.stride);
                let norm = style.shortcut_norm.then_some(style.norm);
                ConvNorm::new(channels_in, projection, norm, false, device)
            }),
            shift: None,
            identity: row.shortcut == Identity,
            relu_from: match row.relus {
                Before => 0,
                BeforeAllButFirst => 1,
                After | Inside => usize::MAX,
            },
        }
    }

    /// `[batch, channels_in, height, width]` to `[batch, channels_out, height_out, width_out]`.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let mut x = input.clone();
        let mut shortcut = None;
        for (i, separable) in self.separable.iter().enumerate() {
            if i >= self.relu_from {
                x = relu(x);
            }
            // In the form for a GPU first: see `Network::for_gpu`.
            if i == 0 && self.shift.is_some() {
                shortcut = self.projection.as_ref().map(|projection| projection.forward(input.clone()));
            }
            x = separable.forward(x);
        }
        if let Some(pool) = &self.pool {
            x = pool.forward(x);
        }
        let x = match &self.projection {
            Some(projection) => shortcut.unwrap_or_else(|| projection.forward(input)) + x,
            None if self.identity => input + x,
            None => x,
        };
        match &self.shift {
            Some(shift) => x + shift.val(),
            None => x,
        }
    }
}

impl Block {
    fn fold(&mut self) {
        self.separable.iter_mut().for_each(SeparableConv::fold);
        self.projection.iter_mut().for_each(ConvNorm::fold);
    }

    fn for_gpu(&mut self) {
        // What is added to all of a channel can be added after its maximum, and after the sum of the two
        // paths.
        if let (Some(projection), Some(last)) = (&mut self.projection, self.separable.last_mut()) {
            let [_, last] = last.layers_mut();
            let biases = [projection.take_bias(), last.take_bias()].into_iter().flatten();
            if let Some(bias) = biases.reduce(|a, b| a + b) {
                self.shift = Some(Param::from_tensor(per_channel(bias)));
            }
        }
        let last = self.separable.len() - 1;
        for (i, separable) in self.separable.iter_mut().enumerate() {
            separable.for_gpu(i < last || self.pool.is_none());
        }
        self.projection.iter_mut().for_each(|projection| projection.for_gpu(true));
    }
}

/// Which network an [`Xception`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    Xception41,
    Xception65,
    Xception71,
    Xception41Deeplab(OutputStride),
    Xception65Deeplab(OutputStride),
    Timm41,
    Timm65,
    Timm71,
    TimmLegacy,
    Keras,
}

impl Variant {
    fn style(self) -> &'static Style {
        match self {
            Self::Xception41 | Self::Xception65 | Self::Xception71 => &PLAIN,
            Self::Xception41Deeplab(_) | Self::Xception65Deeplab(_) => &DEEPLAB,
            Self::Timm41 | Self::Timm65 | Self::Timm71 => &TIMM,
            Self::TimmLegacy => &LEGACY,
            Self::Keras => &KERAS,
        }
    }

    fn rows(self) -> Vec<BlockRow> {
        let (entry, middle, exit) = match self {
            Self::Xception41 | Self::TimmLegacy | Self::Keras => (ENTRY, 8, EXIT),
            Self::Xception65 => (ENTRY, 16, EXIT),
            Self::Xception71 => (ENTRY_71, 16, EXIT),
            Self::Xception41Deeplab(_) => (ENTRY_DEEPLAB, 8, EXIT_DEEPLAB),
            Self::Xception65Deeplab(_) => (ENTRY_DEEPLAB, 16, EXIT_DEEPLAB),
            Self::Timm41 => (ENTRY_DEEPLAB, 8, EXIT_DEEPLAB),
            Self::Timm65 => (ENTRY_DEEPLAB, 16, EXIT_DEEPLAB),
            Self::Timm71 => (ENTRY_TIMM_71, 16, EXIT_DEEPLAB),
        };
        let middle = vec![MIDDLE; middle];
        let mut rows = [entry, &middle, exit].concat();
        if let Self::Xception41Deeplab(stride) | Self::Xception65Deeplab(stride) = self {
            rows.iter_mut().for_each(|row| stride.apply(row));
        }
        rows
    }
}

/// One of PaddleClas's five Xceptions, of timm's four, or Keras's.
#[derive(Module, Debug)]
pub struct Xception {
    stem: Vec<ConvNorm>,
    blocks: Vec<Block>,
    head: Classifier,
    #[module(skip)]
    variant: Variant,
}

impl Xception {
    pub(crate) fn new(variant: Variant, num_classes: usize, device: &Device) -> Self {
        let style = variant.style();
        let mut channels = 3;
        let stem = style.stem.map(|row| {
            let channels_in = std::mem::replace(&mut channels, row.channels);
            ConvNorm::new(channels_in, row, Some(style.norm), true, device)
        });
        let rows = variant.rows();
        let blocks = rows.iter().map(|row| {
            let channels_out = row.channels[row.channels.len() - 1];
            let channels_in = std::mem::replace(&mut channels, channels_out);
            Block::new(channels_in, row, style, device)
        });
        Self {
            stem: stem.into(),
            blocks: blocks.collect(),
            head: Classifier::new(channels, num_classes, style.dropout, device),
            variant,
        }
    }

    /// What the first `start` stages make of images to the last map.
    pub(crate) fn forward_features(&self, start: usize, map: Tensor<4>, observe: Observer) -> Tensor<4> {
        let mut names = self.stages().into_iter().skip(start);
        let mut shown = |x: Tensor<4>| {
            observe(&names.next().unwrap_or_default(), &x);
            x
        };
        let x = self.stem.iter().skip(start).fold(map, |x, conv| shown(conv.forward(x)));
        let blocks = self.blocks.iter().skip(start.saturating_sub(self.stem.len()));
        blocks.fold(x, |x, block| shown(block.forward(x)))
    }

    /// The stem's convolutions and the blocks, those of the middle flow numbered from 1.
    pub(crate) fn stages(&self) -> Vec<String> {
        let mut middle = 0;
        let blocks = self.variant.rows().into_iter().map(|row| match row.name == MIDDLE.name {
            true => {
                middle += 1;
                format!("{}{middle}", row.name)
            }
            false => row.name.to_owned(),
        });
        ["conv1", "conv2"].map(str::to_owned).into_iter().chain(blocks).collect()
    }

    pub(crate) fn fold(&mut self) {
        self.stem.iter_mut().for_each(ConvNorm::fold);
        self.blocks.iter_mut().for_each(Block::fold);
    }

    pub(crate) fn for_gpu(&mut self) {
        self.stem.iter_mut().for_each(|conv| conv.for_gpu(false));
        self.blocks.iter_mut().for_each(Block::for_gpu);
    }

    /// Whether the padding of its max pools depends on the size of the map.
    pub(crate) fn pools_same(&self) -> bool {
        self.variant.style().downsampling == Downsampling::MaxPoolSame
    }

    /// How it normalises.
    pub(crate) fn norm(&self) -> NormSpec {
        self.variant().style().norm
    }

    pub(crate) fn variant(&self) -> Variant {
        self.variant
    }

    pub(crate) fn head(&self) -> &Classifier {
        &self.head
    }

    pub(crate) fn head_mut(&mut self) -> &mut Classifier {
        &mut self.head
    }
}
