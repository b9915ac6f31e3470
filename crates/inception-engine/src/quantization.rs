//! What turns a network of `f32` into one of integers: scales and zero points of tensors, integers for
//! weights.

use std::collections::{BTreeMap, BTreeSet};

use crate::Error;
use crate::dtype::DType;
use crate::graph::integers::{integer_weights, round_to_even};
use crate::graph::{Conv, Graph, NodeId, Op};

/// How a tensor's bytes stand for numbers: `(byte - zero_point) * scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QuantParams {
    /// The number of one unit.
    pub scale: f32,
    /// The byte that stands for zero.
    pub zero_point: u8,
}

impl QuantParams {
    /// Those of a tensor that is not quantised.
    pub(crate) const NONE: QuantParams = QuantParams { scale: 1.0, zero_point: 0 };

    /// The bytes from 0 to 255 for numbers from `low` to `high`, a range that is widened to hold zero.
    pub fn of_range(low: f32, high: f32) -> Self {
        let (low, high) = (low.min(0.0), high.max(0.0));
        let scale = (high - low) / 255.0;
        // Numbers that are all zero, or too small for a scale of normal precision.
        if !(scale.is_finite() && scale >= f32::MIN_POSITIVE) {
            return QuantParams { scale: 1.0, zero_point: 0 };
        }
        QuantParams { scale, zero_point: (-low / scale).round_ties_even().clamp(0.0, 255.0) as u8 }
    }

    /// The nearest byte.
    pub fn quantize(self, x: f32) -> u8 {
        let x = x * (1.0 / self.scale) + f32::from(self.zero_point);
        round_to_even(x.clamp(0.0, 255.0)) as u8
    }

    /// What a byte stands for.
    pub fn dequantize(self, byte: u8) -> f32 {
        f32::from(i16::from(byte) - i16::from(self.zero_point)) * self.scale
    }
}

/// What [`Precision::Int8`](crate::Precision::Int8) needs to know of a network beside its weights, as
/// [`Calibrator`](crate::Calibrator) finds it.
///
/// Nodes are those of the graph after the passes, by name. Of several with one name the others have `#2`,
/// `#3` and so on behind it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Quantization {
    /// The scale and zero point of each node's tensor.
    pub tensors: BTreeMap<String, QuantParams>,
    /// What is added to the biases of convolutions, one value for each channel, since rounded weights shift
    /// means.
    pub biases: BTreeMap<String, Vec<f32>>,
    /// The convolutions that are computed in `f32`, from the bytes of what they read where nothing in `f32`
    /// makes it.
    pub floats: BTreeSet<String>,
    /// Cross-layer equalisation (Nagel et al. 2019, arXiv:1906.04721): what each channel of a tensor is
    /// multiplied by as it is stored, so that all channels use the bytes' range. The depthwise convolutions
    /// that read it have weights divided by the same. `tensors` has the scale of what is stored.
    pub equalization: BTreeMap<String, Vec<f32>>,
    /// Whether average pools stay before the 1x1 convolutions that read them, since only then tensors are
    /// those that the scales are of.
    pub as_written: bool,
}

/// The names of a graph's nodes by which a [`Quantization`] knows them.
pub(crate) fn keys(graph: &Graph) -> Vec<String> {
    unique(graph.nodes.iter().map(|node| &node.name))
}

/// The names of nodes, each of them another.
pub(crate) fn unique<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut seen = BTreeMap::new();
    let key = |name: &String| {
        let count = seen.entry(name.clone()).or_insert(0);
        *count += 1;
        if *count == 1 { name.clone() } else { format!("{name}#{count}") }
    };
    names.map(key).collect()
}

impl Quantization {
    /// Multiplies and divides weights of `graph`, which has been through the passes, by the factors of the
    /// equalisation, adds the corrections to its biases, and returns the scale and zero point of each node.
    ///
    /// # Errors
    /// [`Error::Quantization`] for a node of bytes that has no scale, and for factors or a correction that do
    /// not fit their node.
    pub(crate) fn apply(&self, graph: &mut Graph, dtypes: &[DType]) -> Result<Vec<QuantParams>, Error> {
        let keys = keys(graph);
        let consumers = graph.consumers();
        for (id, key) in keys.iter().enumerate() {
            let Some(factors) = self.equalization.get(key) else { continue };
            let positive = factors.iter().all(|factor| factor.is_finite() && *factor > 0.0);
            if !positive || factors.len() != graph.nodes[id].shape.channels {
                let reason = "has factors that are not a positive number for each channel";
                return Err(Error::Quantization { node: key.clone(), reason });
            }
            if !can_equalize(graph, &consumers, id) {
                let reason = "is not between convolutions of which those behind it are depthwise";
                return Err(Error::Quantization { node: key.clone(), reason });
            }
            equalize(graph, &consumers, id, factors);
        }
        for (node, key) in graph.nodes.iter_mut().zip(&keys) {
            let (Op::Conv(conv), Some(correction)) = (&mut node.op, self.biases.get(key)) else { continue };
            if self.floats.contains(key) {
                continue; // Its weights are not rounded.
            }
            if correction.len() != conv.out_channels {
                let reason = "corrects another number of channels";
                return Err(Error::Quantization { node: key.clone(), reason });
            }
            let bias = conv.bias.get_or_insert_with(|| vec![0.0; conv.out_channels]);
            bias.iter_mut().zip(correction).for_each(|(bias, correction)| *bias += correction);
        }
        let params = |(key, dtype): (&String, &DType)| match self.tensors.get(key) {
            _ if *dtype != DType::U8 => Ok(QuantParams::NONE),
            Some(params) if params.scale.is_finite() && params.scale > 0.0 => Ok(*params),
            Some(_) => Err(Error::Quantization {
                node: key.clone(),
                reason: "has a scale that is no positive number",
            }),
            None => Err(Error::Quantization { node: key.clone(), reason: "has no scale" }),
        };
        keys.iter().zip(dtypes).map(params).collect()
    }
}

/// Whether the channels of a node may have factors, which the weights before and behind it make up for.
pub(crate) fn can_equalize(graph: &Graph, consumers: &[Vec<NodeId>], id: NodeId) -> bool {
    let is_depthwise = |&reader: &NodeId| match &graph.nodes[reader].op {
        Op::Conv(conv) => conv.is_depthwise() && graph.nodes[reader].inputs.get(1) != Some(&id),
        _ => false,
    };
    let made = matches!(graph.nodes[id].op, Op::Conv(_)) && graph.nodes[id].inputs.len() == 1;
    made && id != graph.output && !consumers[id].is_empty() && consumers[id].iter().all(is_depthwise)
}

/// Multiplies the channels of a node's tensor by `factors`, and divides by them the weights of what reads it.
pub(crate) fn equalize(graph: &mut Graph, consumers: &[Vec<NodeId>], id: NodeId, factors: &[f32]) {
    let mut multiply = |node: NodeId, factors: &[f32]| {
        let Op::Conv(conv) = &mut graph.nodes[node].op else { return };
        let len = (conv.weight.len() / conv.out_channels.max(1)).max(1);
        for (weights, factor) in conv.weight.chunks_exact_mut(len).zip(factors) {
            weights.iter_mut().for_each(|w| *w *= factor);
        }
        if let Some(bias) = conv.bias.as_mut().filter(|_| node == id) {
            bias.iter_mut().zip(factors).for_each(|(bias, factor)| *bias *= factor);
        }
    };
    multiply(id, factors);
    let inverse: Vec<f32> = factors.iter().map(|factor| 1.0 / factor).collect();
    consumers[id].iter().for_each(|&reader| multiply(reader, &inverse));
}

/// Weights as integers, with a scale for each output channel.
pub(crate) struct IntegerWeights {
    /// Integers from -127 to 127, in the order in which the weights were.
    pub values: Vec<f32>,
    /// Of each output channel.
    pub scales: Vec<f32>,
    /// Of each output channel, the sum of its integers.
    pub sums: Vec<i64>,
}

impl IntegerWeights {
    /// Rounds the weights of a convolution, as [`integer_weights`] says.
    pub fn new(conv: &Conv) -> Self {
        let (mut values, mut scales, mut sums) =
            (Vec::with_capacity(conv.weight.len()), Vec::new(), Vec::new());
        for channel in conv.weight.chunks_exact((conv.weight.len() / conv.out_channels.max(1)).max(1)) {
            let (integers, scale) = integer_weights(channel, conv.taps());
            values.extend(integers.iter().map(|&w| f32::from(w)));
            scales.push(scale);
            sums.push(integers.iter().map(|&w| i64::from(w)).sum());
        }
        IntegerWeights { values, scales, sums }
    }

    /// Whether no sum of products with bytes can leave 32 bits.
    pub fn sums_fit(&self) -> bool {
        let per_channel = (self.values.len() / self.scales.len().max(1)).max(1);
        let largest = |channel: &[f32]| channel.iter().map(|w| w.abs() as i64).sum::<i64>() * 255;
        self.values.chunks_exact(per_channel).all(|channel| largest(channel) <= i64::from(i32::MAX))
    }
}

/// From a layer's sums to the bytes or floats that it stores: `sum * scale + bias + residual *
/// residual_scale`, so that all zero points are in the bias.
pub(crate) struct Requantization {
    /// Factor of each output channel's sum.
    pub scales: Vec<f32>,
    /// Added to each output channel, in the unit of the output.
    pub bias: Vec<f32>,
    /// Factor of the bytes of a residual.
    pub residual_scale: f32,
}

impl Requantization {
    /// From sums in units of `units`, one for each channel, which `shifts` (what the input's zero point adds
    /// to the sums) is to be taken from, to `out`.
    pub fn new(
        units: &[f64],
        shifts: &[i64],
        bias: Option<&[f32]>,
        out: QuantParams,
        residual: Option<QuantParams>,
    ) -> Self {
        let unit = f64::from(out.scale);
        let residual_scale = residual.map_or(1.0, |residual| (f64::from(residual.scale) / unit) as f32);
        let added = residual.map_or(0.0, |r| f64::from(r.zero_point) * f64::from(residual_scale));
        // What is undone is what the kernel does, with factors as it has them.
        let scales: Vec<f32> = units.iter().map(|sum| (sum / unit) as f32).collect();
        let value = |(channel, (scale, shift)): (usize, (&f32, &i64))| {
            let own = bias.and_then(|bias| bias.get(channel)).map_or(0.0, |bias| f64::from(*bias) / unit);
            (own + f64::from(out.zero_point) - *shift as f64 * f64::from(*scale) - added) as f32
        };
        let bias = scales.iter().zip(shifts).enumerate().map(value).collect();
        Requantization { scales, bias, residual_scale }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// To the nearest, to even where two are as near, and to the ends of the range; what is no number is 0.
    #[test]
    fn numbers_become_the_nearest_bytes() {
        let params = QuantParams { scale: 0.5, zero_point: 10 };
        for (x, byte) in [
            (0.0, 10),
            (0.25, 10),
            (0.75, 12),
            (-0.25, 10),
            (-0.75, 8),
            (0.26, 11),
            (-5.0, 0),
            (-1e30, 0),
            (122.5, 255),
            (f32::INFINITY, 255),
            (f32::NEG_INFINITY, 0),
            (f32::NAN, 0),
        ] {
            assert_eq!(params.quantize(x), byte, "{x}");
        }
    }
}
