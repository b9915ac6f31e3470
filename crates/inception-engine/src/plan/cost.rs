//! The cost model: how long each algorithm takes for one image, in multiply-adds of `f32`.

use crate::graph::Conv;
use crate::kernels::TransformSpec;
use crate::kernels::element::Element;
use crate::steps::{TOUCH, WEIGHT};

/// The cost to read or write a float of a matrix that Strassen's algorithm adds.
const STRASSEN_SUM_COST: f64 = 4.0;

/// The cost of a multiply-add of a depthwise convolution, which is bound by loads.
const DEPTHWISE_COST: f64 = 2.5;

/// A convolution by Winograd's algorithm, with an `output` of so many rows and columns. Its products are
/// `f32` even where activations are `bf16`: the transforms lose a digit, which `bf16` has not to spare.
pub(super) fn winograd(conv: &Conv, output: [usize; 2], spec: &TransformSpec) -> f64 {
    let (channels, out_channels) = (conv.in_channels() as f64, conv.out_channels as f64);
    let tiles: usize = (0..2).map(|axis| output[axis].div_ceil(spec.outputs[axis])).product();
    let (tiles, positions) = (tiles as f64, (spec.points[0] * spec.points[1]) as f64);
    spec.pace
        * positions
        * ((tiles + WEIGHT) * channels * out_channels + tiles * TOUCH * (channels + out_channels))
}

/// A convolution by the direct algorithm, from an input stored as `dtype`.
pub(super) fn direct(conv: &Conv, output: [usize; 2], dtype: Element) -> f64 {
    let weights = (conv.taps() * conv.in_channels() * conv.out_channels) as f64;
    ((output[0] * output[1]) as f64 + WEIGHT) * weights / dtype.group() as f64
}

/// A pointwise convolution by Strassen's algorithm: seven eighths of the products, and four sums of inputs
/// and two of products, of a quarter each.
pub(super) fn strassen(conv: &Conv, pixels: usize) -> f64 {
    let (channels, out_channels, pixels) =
        (conv.in_channels() as f64, conv.out_channels as f64, pixels as f64);
    let summed = pixels / 4.0 * (14.0 * channels + 6.0 * out_channels);
    0.875 * (pixels + 2.0 * WEIGHT) * channels * out_channels + STRASSEN_SUM_COST * summed
}

/// A depthwise convolution.
pub(super) fn depthwise(conv: &Conv, pixels: usize) -> f64 {
    DEPTHWISE_COST * (conv.taps() * conv.out_channels * pixels) as f64
}
