//! Operations, with everything that a pass may fuse into them.

use crate::Window;

/// What a graph holds of a weight.
#[allow(clippy::len_without_is_empty)] // No weight is empty.
pub trait Weight: Clone + std::fmt::Debug {
    /// Number of values.
    fn len(&self) -> usize;
}

impl Weight for Vec<f32> {
    fn len(&self) -> usize {
        self.len()
    }
}

/// A weight by name: the path of fields in a module, or the key in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// `stages.7.branches.1.convs.0.conv.weight`, for example.
    pub name: String,
    /// Its dimensions.
    pub shape: Vec<usize>,
}

impl Weight for Parameter {
    fn len(&self) -> usize {
        // Of a hostile file's numbers: what saturates fits no operation.
        self.shape.iter().copied().fold(1, usize::saturating_mul)
    }
}

/// A convolution with everything that has been fused into it:
/// `y = relu?(conv(relu?(x)) + bias [+ residual])`, the residual being the node's second input.
#[derive(Clone, Debug)]
pub struct Conv<W = Vec<f32>> {
    /// `[out][in / groups][height][width]`
    pub weight: W,
    /// One value for each output channel.
    pub bias: Option<W>,
    /// Output channels.
    pub out_channels: usize,
    /// Groups; equal to the channels in and out for a depthwise convolution.
    pub groups: usize,
    /// Kernel, stride, padding, dilation.
    pub window: Window,
    /// Clamp the input at zero.
    pub input_relu: bool,
    /// Clamp the output at zero.
    pub relu: bool,
}

impl<W: Weight> Conv<W> {
    /// A convolution of one group to one channel, without bias; set the other fields by struct update.
    pub fn new(weight: W, window: Window) -> Self {
        Conv { weight, bias: None, out_channels: 1, groups: 1, window, input_relu: false, relu: false }
    }

    /// Whether each output channel reads just the input channel of the same number.
    pub fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.out_channels && self.weight.len() == self.groups * self.taps()
    }

    /// Kernel taps.
    pub fn taps(&self) -> usize {
        self.window.kernel[0] * self.window.kernel[1]
    }

    /// Input channels.
    pub fn in_channels(&self) -> usize {
        self.weight.len() * self.groups / (self.out_channels * self.taps()).max(1)
    }
}

/// A fully connected layer.
#[derive(Clone, Debug)]
pub struct Linear<W = Vec<f32>> {
    /// `[in][out]`, as Burn and Paddle have it; `[out][in]`, as PyTorch has it, if `transposed`.
    pub weight: W,
    /// One value for each output.
    pub bias: Option<W>,
    /// Outputs.
    pub out_features: usize,
    /// Rows of `weight` are outputs.
    pub transposed: bool,
}

/// A batch norm at inference: `(x - mean) / sqrt(variance + epsilon) * gamma + beta`.
#[derive(Clone, Debug)]
pub struct BatchNorm<W = Vec<f32>> {
    /// Scale.
    pub gamma: W,
    /// Shift.
    pub beta: W,
    /// Running mean.
    pub mean: W,
    /// Running variance.
    pub variance: W,
    /// What is added to the variance.
    pub epsilon: f64,
}

/// How a pool combines a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    /// Maximum; padding does not take part.
    Max,
    /// Mean of the pixels inside the input.
    Average,
    /// Mean of the window with the padding counted as zeros.
    AverageWithPadding,
}

/// A pool with what has been fused into it: `y = relu?(pool(x) + bias)`.
#[derive(Clone, Debug)]
pub struct Pool<W = Vec<f32>> {
    /// Maximum or mean.
    pub kind: PoolKind,
    /// Kernel, stride, padding.
    pub window: Window,
    /// One value for each channel.
    pub bias: Option<W>,
    /// Clamp the output at zero.
    pub relu: bool,
}

/// What a node computes.
///
/// [`passes::simplify`](crate::passes::simplify) rewrites batch norms, biases and factors as
/// [`Affine`](Op::Affine), fully connected layers as convolutions and global pools as pools, so that whoever
/// runs a graph has fewer operations to know.
#[derive(Clone, Debug)]
pub enum Op<W = Vec<f32>> {
    /// The image, stored with `pad` zeros before and `pad_end` after, vertically and horizontally.
    Input {
        /// Top, left.
        pad: [usize; 2],
        /// Bottom, right.
        pad_end: [usize; 2],
        /// Side of the square block of pixels whose channels become those of one pixel (space to depth); 1
        /// for none.
        block: usize,
    },
    /// A convolution. Inputs: x and, optionally, the residual.
    Conv(Box<Conv<W>>),
    /// A fully connected layer on a tensor of one pixel.
    Linear(Box<Linear<W>>),
    /// A batch norm at inference.
    BatchNorm(Box<BatchNorm<W>>),
    /// Adds a value to each channel.
    Bias(W),
    /// `x * scale + shift`.
    Scale {
        /// Factor.
        scale: f64,
        /// Summand.
        shift: f64,
    },
    /// `x * scale + shift` for each channel, in f64 until it is folded.
    Affine {
        /// One for each channel.
        scale: Vec<f64>,
        /// One for each channel.
        shift: Vec<f64>,
    },
    /// A pool.
    Pool(Box<Pool<W>>),
    /// The mean of each channel over the whole map.
    GlobalAveragePool,
    /// Channels side by side.
    Concat,
    /// Elementwise sum of two tensors, then ReLU if asked.
    Add {
        /// Clamp the sum at zero.
        relu: bool,
    },
    /// Clamp at zero.
    Relu,
    /// The image's floats in channel, row, column order as the channels of one pixel.
    Flatten,
}

impl<W: Weight> Op<W> {
    /// Name for `explain` and errors.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Input { .. } => "input",
            Op::Conv(c) if c.is_depthwise() => "depthwise",
            Op::Conv(_) => "conv",
            Op::Linear(_) => "linear",
            Op::BatchNorm(_) => "batch_norm",
            Op::Bias(_) => "bias",
            Op::Scale { .. } => "scale",
            Op::Affine { .. } => "affine",
            Op::Pool(p) if p.kind == PoolKind::Max => "max_pool",
            Op::Pool(_) | Op::GlobalAveragePool => "average_pool",
            Op::Concat => "concat",
            Op::Add { .. } => "add",
            Op::Relu => "relu",
            Op::Flatten => "flatten",
        }
    }

    /// Whether each value of the output depends on the one value at its place in each input, so that it may
    /// be computed where an input is stored.
    pub fn is_elementwise(&self) -> bool {
        matches!(
            self,
            Op::BatchNorm(_)
                | Op::Bias(_)
                | Op::Scale { .. }
                | Op::Affine { .. }
                | Op::Add { .. }
                | Op::Relu
                | Op::Flatten
        )
    }

    /// The weights, in a fixed order.
    pub fn weights(&self) -> Vec<&W> {
        match self {
            Op::Conv(c) => [&c.weight].into_iter().chain(&c.bias).collect(),
            Op::Linear(l) => [&l.weight].into_iter().chain(&l.bias).collect(),
            Op::BatchNorm(n) => vec![&n.gamma, &n.beta, &n.mean, &n.variance],
            Op::Bias(bias) => vec![bias],
            Op::Pool(p) => p.bias.iter().collect(),
            _ => Vec::new(),
        }
    }

    /// The operation with other weights.
    ///
    /// # Errors
    ///
    /// The first error of `map`.
    pub fn map_weights<V: Weight, E>(self, mut map: impl FnMut(W) -> Result<V, E>) -> Result<Op<V>, E> {
        Ok(match self {
            Op::Input { pad, pad_end, block } => Op::Input { pad, pad_end, block },
            Op::Conv(c) => Op::Conv(Box::new(Conv {
                weight: map(c.weight)?,
                bias: c.bias.map(map).transpose()?,
                out_channels: c.out_channels,
                groups: c.groups,
                window: c.window,
                input_relu: c.input_relu,
                relu: c.relu,
            })),
            Op::Linear(l) => Op::Linear(Box::new(Linear {
                weight: map(l.weight)?,
                bias: l.bias.map(map).transpose()?,
                out_features: l.out_features,
                transposed: l.transposed,
            })),
            Op::BatchNorm(n) => Op::BatchNorm(Box::new(BatchNorm {
                gamma: map(n.gamma)?,
                beta: map(n.beta)?,
                mean: map(n.mean)?,
                variance: map(n.variance)?,
                epsilon: n.epsilon,
            })),
            Op::Bias(bias) => Op::Bias(map(bias)?),
            Op::Pool(p) => Op::Pool(Box::new(Pool {
                kind: p.kind,
                window: p.window,
                bias: p.bias.map(map).transpose()?,
                relu: p.relu,
            })),
            Op::Scale { scale, shift } => Op::Scale { scale, shift },
            Op::Affine { scale, shift } => Op::Affine { scale, shift },
            Op::GlobalAveragePool => Op::GlobalAveragePool,
            Op::Concat => Op::Concat,
            Op::Add { relu } => Op::Add { relu },
            Op::Relu => Op::Relu,
            Op::Flatten => Op::Flatten,
        })
    }
}
