//! The layers that more than one family uses.

use std::sync::{Arc, Mutex, PoisonError};

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{
    AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig, AvgPool2d, AvgPool2dConfig, MaxPool2d, MaxPool2dConfig,
};
use burn::nn::{BatchNorm, BatchNormConfig, Dropout, DropoutConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::{Device, Tensor, TensorData, activation::relu};

/// Called with the name of each stage and the map that it made.
pub type Observer<'a> = &'a mut dyn FnMut(&str, &Tensor<4>);

/// How a family normalises after its convolutions. Both numbers are the source's own; Burn's
/// momentum is the weight of the *new* batch, Paddle's that of the old statistics.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NormSpec {
    pub epsilon: f64,
    pub momentum: f64,
    /// Whether a batch's part in the running variance is an unbiased estimate, as PyTorch has it: the sum of
    /// squares is divided by one less than the number of values. What is normalised by is biased everywhere.
    pub unbiased: bool,
}

/// What `paddle.nn.BatchNorm` does when told nothing.
pub(crate) const PADDLE_NORM: NormSpec = NormSpec { epsilon: 1e-5, momentum: 0.1, unbiased: false };

/// What `torch.nn.BatchNorm2d` does when told nothing.
pub(crate) const TORCH_NORM: NormSpec = NormSpec { epsilon: 1e-5, momentum: 0.1, unbiased: true };

/// PyTorch's, with the epsilon of TensorFlow's own networks: what is converted from them has it.
pub(crate) const TENSORFLOW_NORM: NormSpec = NormSpec { epsilon: 1e-3, ..TORCH_NORM };

/// What Keras 3's `BatchNormalization` does when told nothing.
pub(crate) const KERAS_NORM: NormSpec = NormSpec { epsilon: 1e-3, momentum: 0.01, unbiased: false };

/// One convolution of a table: a kernel, its stride, and whether it keeps the map's size at stride 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConvRow {
    pub channels: usize,
    pub kernel: [usize; 2],
    pub stride: usize,
    pub dilation: usize,
    pub same: bool,
    pub depthwise: bool,
    pub bias: bool,
}

/// A square, size-keeping convolution to `channels` channels.
pub(crate) const fn conv(channels: usize, kernel: usize) -> ConvRow {
    conv_hw(channels, [kernel, kernel])
}

/// As [`conv`], with a `[height, width]` kernel.
pub(crate) const fn conv_hw(channels: usize, kernel: [usize; 2]) -> ConvRow {
    ConvRow { channels, kernel, stride: 1, dilation: 1, same: true, depthwise: false, bias: false }
}

impl ConvRow {
    /// Without padding.
    pub const fn valid(mut self) -> Self {
        self.same = false;
        self
    }

    pub const fn stride(mut self, stride: usize) -> Self {
        self.stride = stride;
        self
    }

    pub const fn dilation(mut self, dilation: usize) -> Self {
        self.dilation = dilation;
        self
    }

    /// One filter a channel.
    pub const fn depthwise(mut self) -> Self {
        self.depthwise = true;
        self
    }

    /// With a bias, which none has that a norm follows.
    pub const fn biased(mut self) -> Self {
        self.bias = true;
        self
    }

    fn padding(&self) -> [usize; 2] {
        match self.same {
            true => self.kernel.map(|k| (k - 1) / 2 * self.dilation),
            false => [0, 0],
        }
    }
}

/// A convolution, the batch norm that follows it in every network but GoogLeNet, and a ReLU where the network
/// has one there. Folded, a convolution with a bias and no norm, as the one that closes a residual stage is.
#[derive(Module, Debug)]
pub struct ConvNorm {
    conv: Conv2d,
    norm: Option<BatchNorm>,
    /// As [`NormSpec::unbiased`].
    unbiased: bool,
    /// The bias of a folded convolution where it is better added by an operation of its own, `[1, channels,
    /// 1, 1]`.
    shift: Option<Param<Tensor<4>>>,
    /// The bias of the convolution before, where it is better added after this one.
    #[module(skip)]
    moved: Option<Arc<MovedBias>>,
    relu: bool,
}

/// The bias of a convolution that a padded depthwise one reads, added after that one: a map, since no bias is
/// added to the padding.
#[derive(Debug)]
struct MovedBias {
    /// The bias times the weight of each tap, `[taps][channels]`.
    taps: Vec<f32>,
    /// The last map that was asked for, and the size of the depthwise convolution's input.
    map: Mutex<Option<([usize; 2], Tensor<4>)>>,
}

impl MovedBias {
    /// What the bias adds to `output`, `[batch, channels, height_out, width_out]`, of the depthwise
    /// convolution `conv` of a map of `input` rows and columns: `[1, channels, height_out, width_out]`.
    fn map(&self, conv: &Conv2d, input: [usize; 2], output: &Tensor<4>) -> Tensor<4> {
        // Whoever panicked left a whole map or none.
        let mut last = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = last.as_ref().filter(|(size, map)| {
            *size == input && map.dtype() == output.dtype() && map.device() == output.device()
        });
        if let Some((_, map)) = kept {
            return map.clone();
        }
        let [_, channels, height, width] = output.dims();
        let pad = explicit(&conv.padding);
        // The taps of an axis that read pixels, and not the padding.
        let inside = |axis: usize, at: usize| {
            (0..conv.kernel_size[axis]).filter(move |tap| {
                let pixel = at * conv.stride[axis] + tap * conv.dilation[axis];
                (pad[axis]..pad[axis] + input[axis]).contains(&pixel)
            })
        };
        let mut values = vec![0.0; height * width * channels];
        for (i, pixel) in values.chunks_exact_mut(channels).enumerate() {
            for tap in inside(0, i / width).flat_map(|ky| inside(1, i % width).map(move |kx| [ky, kx])) {
                let tap = tap[0] * conv.kernel_size[1] + tap[1];
                let tap = &self.taps[tap * channels..][..channels];
                pixel.iter_mut().zip(tap).for_each(|(value, tap)| *value += tap);
            }
        }
        // In memory, too, channels are last.
        let values = TensorData::new(values, [1, height, width, channels]);
        let map = Tensor::from_data(values, (&output.device(), output.dtype())).permute([0, 3, 1, 2]);
        last.insert((input, map)).1.clone()
    }
}

impl ConvNorm {
    pub(crate) fn new(
        channels_in: usize,
        row: ConvRow,
        norm: Option<NormSpec>,
        relu: bool,
        device: &Device,
    ) -> Self {
        let [pad_h, pad_w] = row.padding();
        Self {
            conv: Conv2dConfig::new([channels_in, row.channels], row.kernel)
                .with_stride([row.stride, row.stride])
                .with_dilation([row.dilation, row.dilation])
                .with_groups(if row.depthwise { channels_in } else { 1 })
                .with_padding(PaddingConfig2d::Explicit(pad_h, pad_w, pad_h, pad_w))
                .with_bias(row.bias)
                .init(device),
            norm: norm.map(|norm| {
                BatchNormConfig::new(row.channels)
                    .with_epsilon(norm.epsilon)
                    .with_momentum(norm.momentum)
                    .init(device)
            }),
            unbiased: norm.is_some_and(|norm| norm.unbiased),
            shift: None,
            moved: None,
            relu,
        }
    }

    /// `[batch, channels_in, height, width]` to `[batch, channels_out, height_out, width_out]`.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let [_, _, height, width] = input.dims();
        let mut x = self.conv.forward(input);
        if let Some(norm) = &self.norm {
            x = match self.unbiased && x.device().is_autodiff() && norm.training.is_enabled() {
                true => forward_unbiased(norm, x),
                false => norm.forward(x),
            };
        }
        if let Some(shift) = &self.shift {
            x = x + shift.val();
        }
        if let Some(moved) = &self.moved {
            let map = moved.map(&self.conv, [height, width], &x);
            x = x + map;
        }
        match self.relu {
            true => relu(x),
            false => x,
        }
    }
}

/// A step of `norm` in training, with PyTorch's running variance. Burn's is `keep * old + momentum * biased`.
fn forward_unbiased(norm: &BatchNorm, x: Tensor<4>) -> Tensor<4> {
    let [batch, _, height, width] = x.dims();
    // A single value has no unbiased estimate, and its variance is 0 (PyTorch refuses it).
    let others = (batch * height * width).saturating_sub(1).max(1) as f64;
    let old = norm.running_var.value_sync();
    let x = norm.forward(x);
    let new = norm.running_var.value_sync();
    let moved = new.clone() - old.mul_scalar(1.0 - norm.momentum);
    norm.running_var.update((new + moved.div_scalar(others)).detach());
    x
}

/// `[channels]` to `[1, channels, 1, 1]`, which is added to maps.
pub(crate) fn per_channel(values: Tensor<1>) -> Tensor<4> {
    let [channels] = values.dims();
    values.reshape([1, channels, 1, 1])
}

/// Values of any float type.
fn in_f64(data: TensorData) -> Vec<f64> {
    data.convert::<f64>().try_into_vec::<f64>().expect("just converted")
}

/// A parameter of values that were computed in f64, on the device and in the type of `like`.
fn rounded<const D: usize>(values: Vec<f64>, shape: [usize; D], like: &Tensor<4>) -> Param<Tensor<D>> {
    let options = (&like.device(), like.dtype());
    Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), options))
}

impl ConvNorm {
    /// Takes the norm's scale and shift into the convolution's weights and a bias: in f64, rounded once. (The
    /// engine does the same to graphs of any module, in `passes/fold_affine.rs`, knowing neither this type
    /// nor Burn's parameters.)
    pub(crate) fn fold(&mut self) {
        let Some(norm) = self.norm.take() else { return };
        let [gamma, beta] = [&norm.gamma, &norm.beta].map(|param| in_f64(param.val().into_data()));
        let [mean, variance] =
            [&norm.running_mean, &norm.running_var].map(|state| in_f64(state.value_sync().into_data()));
        let scale: Vec<f64> =
            gamma.iter().zip(&variance).map(|(gamma, v)| gamma / (v + norm.epsilon).sqrt()).collect();
        let shift = beta.iter().zip(&mean).zip(&scale).map(|((beta, mean), scale)| beta - mean * scale);

        let weight = self.conv.weight.val();
        let shape = weight.dims();
        let mut weights = in_f64(weight.clone().into_data());
        let filter: usize = shape[1..].iter().product();
        for (filter, scale) in weights.chunks_mut(filter).zip(&scale) {
            filter.iter_mut().for_each(|weight| *weight *= scale);
        }
        self.conv.weight = rounded(weights, shape, &weight);
        self.conv.bias = Some(rounded(shift.collect(), [shape[0]], &weight));
    }

    /// Takes the bias of `before`, a folded convolution whose output this one is alone to read, into its own:
    /// without padding, what is added to each channel everywhere only adds to each output. Does nothing where
    /// a ReLU or a padding stands between.
    pub(crate) fn absorb_bias(&mut self, before: &mut Self) {
        let pads = explicit(&self.conv.padding) != [0, 0];
        let Some(own) = self.conv.bias.as_ref().filter(|_| !pads && !before.relu) else { return };
        let Some(bias) = before.conv.bias.take() else { return };
        let (weight, own) = (self.conv.weight.val(), own.val());
        let shape = weight.dims();
        let filter = shape[1] * shape[2] * shape[3];
        let (bias, window) = (in_f64(bias.val().into_data()), shape[2] * shape[3]);
        let weights = in_f64(weight.clone().into_data());
        let added = weights.chunks(filter).map(|filter| {
            let channels = filter.chunks(window).zip(&bias);
            channels.map(|(weights, bias)| weights.iter().sum::<f64>() * bias).sum::<f64>()
        });
        let sums = in_f64(own.into_data()).into_iter().zip(added).map(|(own, added)| own + added);
        self.conv.bias = Some(rounded(sums.collect(), [shape[0]], &weight));
    }

    /// Adds the bias of `before`, a folded convolution whose output this depthwise one is alone to read, after
    /// this one. Does nothing where a ReLU stands between.
    pub(crate) fn move_bias_of(&mut self, before: &mut Self) {
        let Some(bias) = before.take_bias() else { return };
        let bias = in_f64(bias.into_data());
        let weights = in_f64(self.conv.weight.val().permute([2, 3, 1, 0]).into_data());
        let taps = weights.chunks(bias.len()).flat_map(|tap| tap.iter().zip(&bias));
        let taps = taps.map(|(weight, bias)| (weight * bias) as f32).collect();
        self.moved = Some(Arc::new(MovedBias { taps, map: Mutex::new(None) }));
    }

    /// Whether a bias and a ReLU are the last that is done, as in a folded network of Inceptions.
    pub(crate) fn ends_in_relu_of_bias(&self) -> bool {
        self.relu && self.conv.bias.is_some()
    }

    /// Leaves bias and ReLU to others; gives the bias, `[channels]`.
    pub(crate) fn take_relu_and_bias(&mut self) -> Option<Tensor<1>> {
        self.relu = false;
        self.take_bias()
    }

    /// Leaves the bias, `[channels]`, to others; not if a ReLU follows.
    pub(crate) fn take_bias(&mut self) -> Option<Tensor<1>> {
        let bias = if self.relu { None } else { self.conv.bias.take() };
        bias.map(|bias| bias.val())
    }

    /// Whether it is a folded convolution of 1x1 and stride 1.
    pub(crate) fn is_pointwise(&self) -> bool {
        let conv = &self.conv;
        let one_pixel = conv.kernel_size == [1, 1] && conv.stride == [1, 1] && conv.groups == 1;
        one_pixel && explicit(&conv.padding) == [0, 0] && self.norm.is_none() && self.shift.is_none()
    }

    /// The convolution that computes the channels of `convs`, pointwise ones of one map, one after another;
    /// none if some have a bias or a ReLU and others have not.
    pub(crate) fn join(convs: &[&Self]) -> Option<Self> {
        let mut joined = Self::clone(convs.first()?);
        let alike = |other: &&Self| {
            other.relu == joined.relu && other.conv.bias.is_some() == joined.conv.bias.is_some()
        };
        if !convs.iter().all(alike) {
            return None;
        }
        // On the host, where no kernel is compiled for it.
        let weight = joined.conv.weight.val();
        let [_, channels_in, ..] = weight.dims();
        let weights = convs.iter().flat_map(|other| in_f64(other.conv.weight.val().into_data()));
        let weights: Vec<f64> = weights.collect();
        let channels = weights.len() / channels_in;
        joined.conv.weight = rounded(weights, [channels, channels_in, 1, 1], &weight);
        if joined.conv.bias.is_some() {
            let biases = convs.iter().filter_map(|other| other.conv.bias.as_ref());
            let biases = biases.flat_map(|bias| in_f64(bias.val().into_data())).collect();
            joined.conv.bias = Some(rounded(biases, [channels], &weight));
        }
        Some(joined)
    }

    /// Output channels.
    pub(crate) fn channels(&self) -> usize {
        self.conv.weight.dims()[0]
    }

    /// Channels of the input, and a zero of the weights' type and device, `[1]`.
    pub(crate) fn channels_in_and_zero(&self) -> (usize, Tensor<1>) {
        let weight = self.conv.weight.val();
        let zero = Tensor::zeros([1], (&weight.device(), weight.dtype()));
        (weight.dims()[1] * self.conv.groups, zero)
    }

    /// Readies a folded convolution for Burn's GPU kernels, as [`Network::for_gpu`](crate::Network::for_gpu)
    /// says. `next_fuses`: what comes next is fused with an addition, such as a ReLU or a sum.
    pub(crate) fn for_gpu(&mut self, next_fuses: bool) {
        if (self.conv.groups > 1 || self.relu || next_fuses)
            && let Some(bias) = self.conv.bias.take()
        {
            self.shift = Some(Param::from_tensor(per_channel(bias.val())));
        }
        // Channels last in memory, and the shape as it was.
        let weight = self.conv.weight.val();
        let (device, dtype) = (weight.device(), weight.dtype());
        let data = weight.permute([0, 2, 3, 1]).into_data();
        let tensor = Tensor::<4>::from_data(data, (&device, dtype)).permute([0, 3, 1, 2]);
        self.conv.weight = Param::from_tensor(tensor);
    }
}

fn explicit(padding: &PaddingConfig2d) -> [usize; 2] {
    match *padding {
        PaddingConfig2d::Explicit(top, left, ..) => [top, left],
        PaddingConfig2d::Valid | PaddingConfig2d::Same => [0, 0],
    }
}

/// One pooling of a table: a window of 3, but for one of torchvision's.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PoolRow {
    /// Floor-mode maximum; padding never wins.
    Max { stride: usize, padding: usize },
    /// Maximum with stride 2 whose last window may hang over the edge.
    MaxRoundingUp { window: usize },
    /// Maximum with stride 2 and TensorFlow's padding `same`: a side of an even number of pixels is padded
    /// after its end alone.
    MaxSame,
    /// Size-keeping average. `count_padding` divides by 9 at the border too (Inception V3),
    /// otherwise by the number of real pixels (Inception V4).
    Average { count_padding: bool },
}

/// A pooling layer.
#[derive(Module, Debug)]
pub enum Pool {
    /// Maximum of a window.
    Max(MaxPool2d),
    /// Maximum of a window of 3 whose padding depends on the size of the map.
    MaxSame(MaxPool2d),
    /// Average of a window.
    Average(AvgPool2d),
}

impl Pool {
    pub(crate) fn new(row: PoolRow) -> Self {
        match row {
            PoolRow::Max { stride, padding } => Self::Max(
                MaxPool2dConfig::new([3, 3])
                    .with_strides([stride, stride])
                    .with_padding(PaddingConfig2d::Explicit(padding, padding, padding, padding))
                    .init(),
            ),
            PoolRow::MaxRoundingUp { window } => Self::Max(
                MaxPool2dConfig::new([window, window])
                    .with_strides([2, 2])
                    .with_padding(PaddingConfig2d::Valid)
                    .with_ceil_mode(true)
                    .init(),
            ),
            PoolRow::MaxSame => {
                Self::MaxSame(MaxPool2dConfig::new([3, 3]).with_strides([2, 2]).with_ceil_mode(true).init())
            }
            PoolRow::Average { count_padding } => Self::Average(
                AvgPool2dConfig::new([3, 3])
                    .with_strides([1, 1])
                    .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                    .with_count_include_pad(count_padding)
                    .init(),
            ),
        }
    }

    /// `[batch, channels, height, width]` to `[batch, channels, height_out, width_out]`.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Max(pool) => pool.forward(input),
            Self::MaxSame(pool) => same_size(pool, input.dims()).forward(input),
            Self::Average(pool) => pool.forward(input),
        }
    }
}

/// `pool` with the windows of TensorFlow's padding `same` for maps of `[batch, channels, height, width]`. On
/// an odd side the first window starts one pixel before the map; on an even one it starts with the map, and
/// the last one hangs over its end. (Burn's own `Same` copies the map to pad one end alone.)
fn same_size(pool: &MaxPool2d, [_, _, height, width]: [usize; 4]) -> MaxPool2d {
    let [(tall, top), (wide, left)] = [height, width].map(|side| match side % 2 {
        1 => (3, 1),
        _ => (side.min(3), 0),
    });
    let padding = PaddingConfig2d::Explicit(top, left, top, left);
    MaxPool2d { kernel_size: [tall, wide], padding, ..pool.clone() }
}

/// Dropout in one of its two modes, which Paddle calls `downscale_in_infer` and `upscale_in_train`.
///
/// In the first training zeroes values and leaves the others as they are, and inference multiplies by the share
/// that training keeps. In the second, which is PyTorch's and Burn's own, training divides the others by that
/// share, and inference is the identity.
#[derive(Module, Debug)]
pub struct ScaledDropout {
    dropout: Dropout,
    /// What inference multiplies by.
    scale: f64,
}

impl ScaledDropout {
    /// That which inference scales.
    pub(crate) fn downscale(probability: f64) -> Self {
        Self { dropout: DropoutConfig::new(probability).init(), scale: 1.0 - probability }
    }

    /// That which training scales.
    pub(crate) fn upscale(probability: f64) -> Self {
        Self { dropout: DropoutConfig::new(probability).init(), scale: 1.0 }
    }

    /// The share that is dropped.
    pub(crate) fn probability(&self) -> f64 {
        self.dropout.prob
    }

    /// Any shape, kept.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        // Burn's own scales up while training.
        self.dropout.forward(input).mul_scalar(self.scale)
    }
}

/// Where a classifier drops values out: the two differ while training only.
#[derive(Clone, Copy, Debug)]
pub(crate) enum DropoutSpec {
    None,
    BeforePool(f64),
    AfterPool(f64),
}

/// A fully connected layer of a classifier before its last, as fine-tuned networks have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HiddenLayer {
    /// Number of outputs.
    pub outputs: usize,
    /// Whether a ReLU follows.
    pub relu: bool,
}

/// A [`HiddenLayer`] with its weights.
#[derive(Module, Debug)]
pub struct Hidden {
    fc: Linear,
    relu: bool,
}

/// Global average pool, dropout, fully connected layers, of which all published networks have one: features
/// to logits.
#[derive(Module, Debug)]
pub struct Classifier {
    dropout: Option<ScaledDropout>,
    dropout_before_pool: bool,
    pool: AdaptiveAvgPool2d,
    hidden: Vec<Hidden>,
    fc: Linear,
}

impl Classifier {
    pub(crate) fn new(channels: usize, num_classes: usize, dropout: DropoutSpec, device: &Device) -> Self {
        let (probability, dropout_before_pool) = match dropout {
            DropoutSpec::None => (None, false),
            DropoutSpec::BeforePool(p) => (Some(p), true),
            DropoutSpec::AfterPool(p) => (Some(p), false),
        };
        Self {
            dropout: probability.map(ScaledDropout::downscale),
            dropout_before_pool,
            pool: AdaptiveAvgPool2dConfig::new([1, 1]).init(),
            hidden: Vec::new(),
            fc: LinearConfig::new(channels, num_classes).init(device),
        }
    }

    /// The same with other fully connected layers before the last; all of them are made anew.
    pub(crate) fn set_hidden(&mut self, layers: &[HiddenLayer], device: &Device) {
        let first = self.hidden.first().map_or(&self.fc, |hidden| &hidden.fc);
        let mut channels = first.weight.lazy_shape()[0];
        let classes = self.num_classes();
        let hidden = layers.iter().map(|layer| {
            let inputs = std::mem::replace(&mut channels, layer.outputs);
            Hidden { fc: LinearConfig::new(inputs, layer.outputs).init(device), relu: layer.relu }
        });
        self.hidden = hidden.collect();
        self.fc = LinearConfig::new(channels, classes).init(device);
    }

    /// The fully connected layers before the last.
    pub fn hidden(&self) -> Vec<HiddenLayer> {
        let layer =
            |hidden: &Hidden| HiddenLayer { outputs: hidden.fc.weight.lazy_shape()[1], relu: hidden.relu };
        self.hidden.iter().map(layer).collect()
    }

    pub(crate) fn num_classes(&self) -> usize {
        self.fc.weight.lazy_shape()[1]
    }

    pub(crate) fn dropout(&self) -> Option<&ScaledDropout> {
        self.dropout.as_ref()
    }

    /// Drops values out as this does, at the same place; `None` drops none.
    pub(crate) fn set_dropout(&mut self, dropout: Option<ScaledDropout>) {
        self.dropout = dropout;
    }

    /// What inference multiplies features by, in the place of dropping some out.
    pub(crate) fn scale(&self) -> f32 {
        self.dropout.as_ref().map_or(1.0, |dropout| dropout.scale as f32)
    }

    /// The fully connected layer's weights, `[channels, classes]` row-major.
    pub(crate) fn weight(&self) -> Vec<f32> {
        let data = self.fc.weight.val().into_data().convert::<f32>();
        data.try_into_vec::<f32>().expect("just converted")
    }

    /// Features `[batch, channels, height, width]` to logits `[batch, classes]`.
    pub fn forward(&self, features: Tensor<4>) -> Tensor<2> {
        let drop = |x, here| match &self.dropout {
            Some(dropout) if here => dropout.forward(x),
            _ => x,
        };
        let x = drop(features, self.dropout_before_pool);
        let x = drop(self.pool.forward(x), !self.dropout_before_pool);
        let x = self.hidden.iter().fold(x.flatten::<2>(1, 3), |x, layer| {
            let x = layer.fc.forward(x);
            if layer.relu { relu(x) } else { x }
        });
        self.fc.forward(x)
    }
}

#[cfg(all(test, feature = "flex"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn dropped(dropout: &ScaledDropout, device: &Device) -> Vec<f32> {
        let ones = Tensor::<2>::ones([100, 100], device);
        dropout.forward(ones).into_data().try_into_vec().unwrap()
    }

    /// Both modes, with the values that inference and training make of 1.
    #[test]
    fn dropout_scales_in_inference_or_in_training() {
        for (dropout, inferred, trained) in
            [(ScaledDropout::downscale(0.3), 0.7, 1.0), (ScaledDropout::upscale(0.3), 1.0, 1.0 / 0.7)]
        {
            assert!(dropped(&dropout, &Device::flex()).iter().all(|&v| (v - inferred).abs() < 1e-6));
            let device = Device::flex().autodiff();
            device.seed(7);
            let values = dropped(&dropout, &device);
            let kept = values.iter().filter(|&&v| (v - trained).abs() < 1e-6).count();
            let zeroed = values.iter().filter(|&&v| v == 0.0).count();
            assert_eq!(kept + zeroed, values.len());
            // 10,000 draws at 0.7: five standard deviations are 230.
            assert!((6770..7230).contains(&kept), "{kept} kept");
        }
    }

    /// Paddle's momentum of 0.9 is that of the old statistics.
    #[test]
    fn running_statistics_move_by_a_tenth() {
        let device = Device::flex().autodiff();
        let layer = ConvNorm::new(1, conv(1, 1), Some(PADDLE_NORM), false, &device);
        let norm = layer.norm.as_ref().unwrap();
        norm.forward(Tensor::<4>::full([1, 1, 2, 2], 5.0, &device));
        let mean = norm.running_mean.value_sync().into_data().try_into_vec::<f32>().unwrap();
        assert!((mean[0] - 0.5).abs() < 1e-6, "{mean:?}");
    }

    /// PyTorch 2.15: `BatchNorm2d(1)`'s `running_var` after the values 1, 3, 5, 7 is 1.5666667. Their squares'
    /// sum is 20: 0.9 and a tenth of 20 / 3, of Paddle's 20 / 4.
    #[test]
    fn running_variance_is_that_of_the_origin() {
        let device = Device::flex().autodiff();
        for (spec, expected) in [(TENSORFLOW_NORM, 1.566_666_7), (PADDLE_NORM, 1.4)] {
            let mut layer = ConvNorm::new(1, conv(1, 1), Some(spec), false, &device);
            layer.conv.weight = Param::from_tensor(Tensor::ones([1, 1, 1, 1], &device));
            let values = TensorData::new(vec![1.0_f32, 3.0, 5.0, 7.0], [2, 1, 1, 2]);
            layer.forward(Tensor::from_data(values, &device));
            let norm = layer.norm.as_ref().unwrap();
            let found = norm.running_var.value_sync().into_data().convert::<f32>();
            let found = found.try_into_vec::<f32>().unwrap()[0];
            assert!((found - expected).abs() < 1e-6, "{spec:?}: {found}");
        }
    }
}
