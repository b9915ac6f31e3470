//! Weights as bytes.

use inception_graph::integers::integer_weights;

/// The integers of the weights of each output channel, `[out][in][taps]`, and the channels' scales.
pub(super) fn integers(weights: &[f32], shape: &[usize]) -> (Vec<u8>, Vec<f32>) {
    let channels = shape.first().copied().unwrap_or(1).max(1);
    let taps: usize = shape.iter().skip(2).product();
    let rows = weights.chunks_exact((weights.len() / channels).max(1));
    let (integers, scales): (Vec<Vec<i8>>, Vec<f32>) = rows.map(|row| integer_weights(row, taps)).unzip();
    (integers.into_iter().flatten().map(i8::cast_unsigned).collect(), scales)
}
