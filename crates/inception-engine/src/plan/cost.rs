//! The cost model: how long each algorithm takes for one image, in multiply-adds of `f32`.

use crate::dtype::DType;
use crate::graph::Conv;
use crate::kernels::{CostModel, Kernels, TransformSpec};

/// A convolution by Winograd's algorithm, with an `output` of so many rows and columns. Its products are
/// `f32` even where activations are `bf16`: the transforms lose a digit, which `bf16` has not to spare.
pub(super) fn winograd(costs: &CostModel, conv: &Conv, output: [usize; 2], spec: &TransformSpec) -> f64 {
    let (channels, out_channels) = (conv.in_channels() as f64, conv.out_channels as f64);
    let [tiles, positions] = extent(output, spec);
    spec.time_scale * positions * costs.winograd(tiles, channels, out_channels)
}

/// Tiles of an `output` of so many rows and columns, and positions of a tile.
fn extent(output: [usize; 2], spec: &TransformSpec) -> [f64; 2] {
    let tiles: usize = (0..2).map(|axis| output[axis].div_ceil(spec.outputs[axis])).product();
    [tiles as f64, (spec.points[0] * spec.points[1]) as f64]
}

/// As [`winograd`], of bytes in integers. As measured on Zen 3, products of words take 0.6 of the time of those
/// of `f32`; and what there is to do for each tile beside them, of which transforms are the smaller part, two
/// and a half times as long as a transform of `f32`, half of it for words.
pub(super) fn integer_winograd(
    costs: &CostModel,
    conv: &Conv,
    output: [usize; 2],
    spec: &TransformSpec,
) -> f64 {
    let sums = CostModel { transform_cost: 0.0, ..*costs };
    let (channels, out_channels) = (conv.in_channels() as f64, conv.out_channels as f64);
    let [tiles, positions] = extent(output, spec);
    let transforms = tiles * 2.5 * costs.transform_cost * (channels / 2.0 + out_channels);
    0.6 * winograd(&sums, conv, output, spec) + positions * transforms
}

/// A convolution by the direct algorithm, from an input stored as `dtype`.
pub(super) fn direct(kernels: &Kernels, conv: &Conv, output: [usize; 2], dtype: DType) -> f64 {
    let weights = (conv.taps() * conv.in_channels() * conv.out_channels) as f64;
    let at_once = match dtype {
        // Four in two instructions.
        DType::U8 if !kernels.integer_winograd().is_empty() => 2,
        _ => dtype.pack(),
    };
    ((output[0] * output[1]) as f64 + kernels.costs.weight_load_cost) * weights / at_once as f64
}

/// A pointwise convolution by Strassen's algorithm: seven eighths of the products, and sums.
pub(super) fn strassen(costs: &CostModel, conv: &Conv, pixels: usize) -> f64 {
    let (channels, out_channels, pixels) =
        (conv.in_channels() as f64, conv.out_channels as f64, pixels as f64);
    0.875 * (pixels + 2.0 * costs.weight_load_cost) * channels * out_channels
        + pixels * costs.strassen_sums(channels, out_channels)
}

/// A depthwise convolution.
pub(super) fn depthwise(costs: &CostModel, conv: &Conv, pixels: usize) -> f64 {
    costs.depthwise_cost * (conv.taps() * conv.out_channels * pixels) as f64
}
