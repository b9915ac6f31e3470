//! Networks of integers from and for other programs.

use std::collections::BTreeMap;

use crate::compiled::fuse;
use crate::dtype::DType;
use crate::graph::{Conv, Graph, NodeId, Op};
use crate::plan::{dtypes, stands_for};
use crate::quantization::{IntegerWeights, keys};
use crate::{Error, QuantParams, Quantization};

/// A network after the engine's passes, with all that is rounded in it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct QuantizedGraph {
    /// Its nodes; biases are corrected, and weights of integers rounded.
    pub graph: Graph,
    /// For each node, what the bytes of its tensor stand for; `None` for a tensor of `f32`.
    pub tensors: Vec<Option<QuantParams>>,
    /// For each convolution of bytes, the scale of each output channel's weights; `None` for other nodes.
    pub weights: Vec<Option<Vec<f32>>>,
}

/// Runs the passes on `graph` and says what [`Precision::Int8`](crate::Precision::Int8) with `quantization`
/// makes of it.
///
/// # Errors
/// As [`Compiled::from_graph`](crate::Compiled::from_graph).
pub fn quantized_graph(mut graph: Graph, quantization: &Quantization) -> Result<QuantizedGraph, Error> {
    fuse(&mut graph, quantization.as_written)?;
    let dtypes = dtypes(&graph, DType::U8);
    let quants = quantization.apply(&mut graph, &dtypes)?;
    let stored = stands_for(&graph, &quants);
    let tensors =
        stored.into_iter().zip(&dtypes).map(|(quant, dtype)| (*dtype == DType::U8).then_some(quant));
    let mut weights = Vec::new();
    for (id, key) in keys(&graph).into_iter().enumerate() {
        let from_bytes = graph.nodes[id].inputs.first().is_some_and(|&input| dtypes[input] == DType::U8);
        weights.push(match &mut graph.nodes[id].op {
            Op::Conv(conv) if from_bytes && !quantization.floats.contains(&key) => Some(round_weights(conv)),
            _ => None,
        });
    }
    Ok(QuantizedGraph { tensors: tensors.collect(), weights, graph })
}

/// Rounds the weights of a convolution to what its integers stand for; returns the scale of each output
/// channel.
fn round_weights(conv: &mut Conv) -> Vec<f32> {
    let IntegerWeights { values, scales, .. } = IntegerWeights::new(conv);
    let row = (conv.weight.len() / conv.out_channels.max(1)).max(1);
    conv.weight = values.iter().enumerate().map(|(i, q)| q * scales[i / row]).collect();
    scales
}

/// What [`Precision::Int8`](crate::Precision::Int8) needs for a network whose tensors another program has
/// quantised, by the nodes of `graph`, which has not been through the passes.
///
/// A tensor that is clamped at zero as it is stored has the scale of its ReLU. A pool without a scale has
/// that of what it reads, and a concatenation, or what is concatenated, the range of the whole.
///
/// `tensors` has scales and zero point of each: one scale, or one for each channel, as what depthwise
/// convolutions read may have ([`Quantization::equalization`]).
///
/// # Errors
/// [`Error::Graph`] if the graph is invalid; [`Error::Quantization`] for a node whose tensor has no scale.
pub fn quantization_of_nodes(
    mut graph: Graph,
    tensors: &BTreeMap<NodeId, (Vec<f32>, u8)>,
) -> Result<Quantization, Error> {
    graph.verify()?;
    let consumers = graph.consumers();
    // What the passes leave of these two are the numbers of what they read.
    let follows: Vec<bool> =
        graph.nodes.iter().map(|node| matches!(node.op, Op::Relu | Op::Flatten)).collect();
    let places = fuse(&mut graph, true)?;
    let of = |&place: &NodeId| {
        let follower = match consumers[place][..] {
            [reader] if follows[reader] => tensors.get(&reader),
            _ => None,
        };
        follower.or_else(|| tensors.get(&place))
    };
    let written: Vec<_> = places.iter().map(of).collect();
    // Equalised channels are stored in units of the largest scale.
    let params = |(scales, zero_point): &(Vec<f32>, u8)| QuantParams {
        scale: scales.iter().copied().fold(0.0, f32::max),
        zero_point: *zero_point,
    };
    let mut found: Vec<Option<QuantParams>> = written.iter().map(|tensor| tensor.map(params)).collect();
    for (id, node) in graph.nodes.iter().enumerate() {
        let read = || node.inputs.iter().map(|&input| found[input]);
        found[id] = found[id].or_else(|| match &node.op {
            Op::Concat => read().collect::<Option<Vec<_>>>().map(|all| whole(&all)),
            Op::Pool(_) | Op::Relu => read().next().flatten(),
            _ => None,
        });
    }
    for id in (0..graph.nodes.len()).rev() {
        if matches!(graph.nodes[id].op, Op::Concat) {
            for &input in &graph.nodes[id].inputs {
                found[input] = found[input].or(found[id]);
            }
        }
    }
    let dtypes = dtypes(&graph, DType::U8);
    let mut quantization = Quantization { as_written: true, ..Quantization::default() };
    let (keys, consumers) = (keys(&graph), graph.consumers());
    for (id, node) in graph.nodes.iter().enumerate() {
        // The range of a map is much larger than that of its mean, so that layers behind it are as good as
        // not quantised.
        if node.shape.pixels() == 1 && id != graph.output && written[id].is_none() {
            found[id].get_or_insert(QuantParams::NONE);
            quantization.floats.extend(consumers[id].iter().map(|&reader| keys[reader].clone()));
        }
    }
    for (((key, found), written), dtype) in keys.into_iter().zip(found).zip(written).zip(dtypes) {
        if let (Some(params), Some((scales, _))) = (found, written)
            && scales.len() > 1
        {
            let factors = scales.iter().map(|scale| params.scale / scale).collect();
            quantization.equalization.insert(key.clone(), factors);
        }
        match found {
            Some(params) => drop(quantization.tensors.insert(key, params)),
            None if dtype == DType::F32 => {}
            None => return Err(Error::Quantization { node: key, reason: "has no scale" }),
        }
    }
    Ok(quantization)
}

/// Scale and zero point for the numbers of several tensors.
fn whole(parts: &[QuantParams]) -> QuantParams {
    let ends = parts.iter().map(|part| [part.dequantize(0), part.dequantize(255)]);
    let [low, high] = ends.fold([0.0f32; 2], |[low, high], [least, most]| [low.min(least), high.max(most)]);
    match parts {
        // As it is: the range would be rounded.
        [first, rest @ ..] if rest.iter().all(|part| part == first) => *first,
        _ => QuantParams::of_range(low, high),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test fails by panicking.
mod tests {
    use super::*;
    use crate::graph::{Pool, PoolKind, Shape, Window};
    use crate::{Compiled, Options, Precision};

    /// Two convolutions side by side, the first with a ReLU, an average pool of both and a convolution that a
    /// pass would move in front of it: what is clamped has its ReLU's scale, the concatenation holds both
    /// ranges, and the pool has the concatenation's.
    #[test]
    fn scales_of_nodes_before_the_passes_are_found_behind_them() {
        let mut graph = Graph::new(Shape::new(6, 6, 8));
        let conv = |outs: usize| {
            let weight = (0..outs * 8).map(|i| (i % 7) as f32 - 3.0).collect();
            Op::Conv(Box::new(Conv { out_channels: outs, ..Conv::new(weight, Window::square(1, 1, 0)) }))
        };
        let a = graph.add("a", conv(4), &[0]).unwrap();
        let relu = graph.add("relu", Op::Relu, &[a]).unwrap();
        let b = graph.add("b", conv(4), &[0]).unwrap();
        let both = graph.add("both", Op::Concat, &[relu, b]).unwrap();
        let window = Window::square(3, 1, 1);
        let pool = Op::Pool(Box::new(Pool { kind: PoolKind::Average, window, bias: None, relu: false }));
        let pool = graph.add("pool", pool, &[both]).unwrap();
        let c = graph.add("c", conv(4), &[pool]).unwrap();
        graph.add("d", Op::Relu, &[c]).unwrap();
        let quant = |scale: f32, zero_point: u8| QuantParams { scale, zero_point };
        let tensors = [(0, (0.1, 7)), (a, (9.0, 9)), (relu, (0.5, 0)), (b, (0.25, 100)), (c, (0.75, 3))];
        let tensors: BTreeMap<_, _> =
            tensors.into_iter().map(|(node, (scale, zero))| (node, (vec![scale], zero))).collect();
        let found = quantization_of_nodes(graph.clone(), &tensors).unwrap();
        assert!(found.as_written);
        let whole = QuantParams::of_range(-25.0, 127.5);
        let wanted = [
            ("input", quant(0.1, 7)),
            ("a", quant(0.5, 0)),
            ("b", quant(0.25, 100)),
            ("both", whole),
            ("pool", whole),
            ("c", quant(0.75, 3)),
        ];
        let wanted: BTreeMap<String, QuantParams> =
            wanted.into_iter().map(|(node, quant)| (node.to_owned(), quant)).collect();
        assert_eq!(found.tensors, wanted);
        let mut broken = graph.clone();
        broken.nodes[a].inputs = vec![99];
        assert!(matches!(quantization_of_nodes(broken, &tensors), Err(Error::Graph(_))));
        let without: BTreeMap<_, _> = tensors.into_iter().filter(|(node, _)| *node != b).collect();
        let error = quantization_of_nodes(graph, &without).unwrap_err();
        assert!(matches!(error, Error::Quantization { node, .. } if node == "b" || node == "both"));
    }

    /// A depthwise convolution reads channels of very different ranges: with a scale for each channel the
    /// result is near the exact one, with the largest scale for all it is not. What others read cannot have
    /// several.
    #[test]
    fn each_channel_that_a_depthwise_convolution_reads_may_have_a_scale() {
        let mut graph = Graph::new(Shape::new(5, 5, 8));
        let size = |channel: usize| f32::exp2(channel as f32);
        let weight = (0..64).map(|i| ((i * 29 % 17) as f32 - 8.0) / 64.0 * size(i / 8)).collect();
        let bias = Some((0..8).map(|c| size(c) / 8.0).collect());
        let a = Conv { out_channels: 8, bias, ..Conv::new(weight, Window::square(1, 1, 0)) };
        let a = graph.add("a", Op::Conv(Box::new(a)), &[0]).unwrap();
        let weight = (0..72).map(|i| ((i * 7 % 19) as f32 - 9.0) / 10.0 / size(i / 9)).collect();
        let b = Conv { out_channels: 8, groups: 8, ..Conv::new(weight, Window::square(3, 1, 1)) };
        let b = graph.add("b", Op::Conv(Box::new(b)), &[a]).unwrap();
        let image = crate::noise(5 * 5 * 8);
        let exact = crate::graph::reference::evaluate(&graph, &image);
        let error = |input: Vec<f32>, scales: Vec<f32>| {
            let tensors = [(0, (input, 128)), (a, (scales, 128)), (b, (vec![0.05], 128))];
            let quantization = quantization_of_nodes(graph.clone(), &BTreeMap::from(tensors))?;
            let quantization = Some(std::sync::Arc::new(quantization));
            let options =
                Options { precision: Precision::Int8, threads: 1, quantization, ..Options::default() };
            let found = Compiled::from_graph(graph.clone(), &options)?.run(&image, 1)?;
            let squares = found.iter().zip(&exact).map(|(found, exact)| (f64::from(*found) - exact).powi(2));
            Ok::<f64, Error>((squares.sum::<f64>() / exact.len() as f64).sqrt())
        };
        // As far as the values go.
        let input = 2.0 / 127.0;
        let scales: Vec<f32> = (0..8).map(|c| size(c) / 80.0).collect();
        let (each, one) =
            (error(vec![input], scales.clone()).unwrap(), error(vec![input], vec![scales[7]]).unwrap());
        assert!(each < 0.03 && one > 0.1, "{each} {one}");
        let refused = error(scales, vec![1.0]).unwrap_err();
        assert!(matches!(refused, Error::Quantization { node, .. } if node == "input"));
    }
}
