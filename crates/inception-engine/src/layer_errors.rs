//! How far each layer of a compiled network is from what it should compute.

use std::collections::BTreeMap;

use crate::compiled::fuse;
use crate::graph::reference::{self, Tensor};
use crate::graph::{Graph, NodeId};
use crate::mixed::mix;
use crate::plan::space_to_depth;
use crate::{Compiled, Error, KernelName, Options, Quantization};

/// A layer's error: the largest difference from `f64`, over the largest value of the layer.
#[derive(Clone, Debug)]
pub struct LayerError {
    /// The nodes that one step computes, the stored one first.
    pub nodes: Vec<String>,
    /// The kernel.
    pub kernel: KernelName,
    /// Of this layer alone: against `f64` from the very inputs that the engine gave it.
    pub own: f64,
    /// With all that came before it: against `f64` from the image on.
    pub total: f64,
}

/// The errors of one run.
#[derive(Clone, Debug)]
pub struct NumericalErrors {
    /// In the order of the plan.
    pub layers: Vec<LayerError>,
    /// Of the output, against the graph as it was before the passes, in `f64`, its batch norms included.
    pub output: f64,
}

/// The largest difference, over the largest value; infinite if one of them is not a number.
fn error(found: &[f64], wanted: &[f64]) -> f64 {
    let largest = wanted.iter().fold(f64::MIN_POSITIVE, |m, x| m.max(x.abs()));
    let differences = found.iter().zip(wanted).map(|(f, w)| (f - w).abs());
    // `max` would pass over a NaN.
    differences.fold(0.0, |m: f64, d| if d.is_nan() { f64::INFINITY } else { m.max(d) }) / largest
}

/// Compiles `graph`, runs it on one image, `[channels][height][width]`, and holds every layer against an
/// evaluation in `f64`: some seconds for a network of 10^10 multiply-adds.
///
/// # Errors
/// As [`Compiled::from_graph`] and [`Compiled::run`].
pub fn layer_errors(graph: &Graph, options: &Options, image: &[f32]) -> Result<NumericalErrors, Error> {
    let model = Compiled::from_graph(graph.clone(), options)?;
    let output = model.run(image, 1)?;
    let wanted = reference::evaluate(graph, image);
    let output = error(&output.into_iter().map(f64::from).collect::<Vec<_>>(), &wanted);
    // The nodes that the plan speaks of: in int8 with conversions and equalised channels, but without
    // corrections, which make up for rounding.
    let mut fused = graph.clone();
    let quantization = options.quantization.as_ref().filter(|_| model.precision() == crate::Precision::Int8);
    fuse(&mut fused, quantization.is_some_and(|quantization| quantization.as_written))?;
    if let Some(quantization) = quantization {
        mix(&mut fused, &Quantization { biases: BTreeMap::new(), ..Quantization::clone(quantization) })?;
    }
    space_to_depth(&mut fused, &options.rule(), model.kernels(), model.precision().dtype());
    let exact = reference::tensors(&fused, image);
    let mut layers = Vec::new();
    model.watch(image, |steps, stored| {
        for &index in steps {
            let step = &model.plan().steps[index];
            for (at, &node) in step.nodes.iter().enumerate() {
                let (true, Some(found)) = (node != 0, stored(node)) else { continue };
                let mut nodes = model.nodes_of(index);
                nodes.rotate_left(at);
                layers.push(LayerError {
                    nodes: if at == 0 { nodes } else { nodes[..1].to_vec() },
                    kernel: step.step.kernel(),
                    own: error(&found, &from_stored(&fused, node, stored)),
                    total: error(&found, &exact[node]),
                });
            }
        }
    })?;
    Ok(NumericalErrors { layers, output })
}

/// What a node should make of the inputs that the engine stored; those that it never stores are computed in
/// `f64`.
fn from_stored(graph: &Graph, node: NodeId, stored: &dyn Fn(NodeId) -> Option<Tensor>) -> Tensor {
    let inputs = &graph.nodes[node].inputs;
    let tensors: Vec<Tensor> = inputs
        .iter()
        .map(|&input| stored(input).unwrap_or_else(|| from_stored(graph, input, stored)))
        .collect();
    let inputs: Vec<_> =
        inputs.iter().zip(&tensors).map(|(&input, x)| (graph.nodes[input].shape, &x[..])).collect();
    reference::apply(&graph.nodes[node], &inputs)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test fails by panicking.
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::graph::{Conv, Op, Window};
    use crate::{Calibrator, Precision, RangeMethod, Shape};

    /// A padded convolution by Winograd's algorithm, a depthwise one on the way into a pointwise one, and a
    /// sum.
    fn graph() -> Graph {
        let mut graph = Graph::new(Shape::new(14, 14, 16));
        let mut add = |name: &str, kernel: usize, groups: usize, input: NodeId| {
            let weights = 32 * (if name == "a" { 16 } else { 32 }) / groups * kernel * kernel;
            let conv = Conv {
                weight: (0..weights).map(|i| ((i * 37 + 11) % 101) as f32 / 500.0 - 0.1).collect(),
                bias: Some(vec![0.1; 32]),
                out_channels: 32,
                groups,
                window: Window::square(kernel, 1, kernel / 2),
                input_relu: false,
                relu: false,
            };
            graph.add(name, Op::Conv(Box::new(conv)), &[input]).unwrap()
        };
        let a = add("a", 3, 1, 0);
        let b = add("b", 3, 32, a);
        let c = add("c", 1, 1, b);
        graph.add("d", Op::Add { relu: false }, &[a, c]).unwrap();
        graph
    }

    /// Channels of very different ranges, which are equalised before a depthwise convolution, and a
    /// convolution in `f32` with conversions around it: each is held against its own numbers.
    #[test]
    fn layers_of_integers_err_by_their_rounding() {
        let mut graph = graph();
        if let Op::Conv(conv) = &mut graph.nodes[1].op {
            let size = |channel: usize| f32::exp2((channel % 8) as f32);
            let row = conv.weight.len() / 32;
            conv.weight.iter_mut().enumerate().for_each(|(i, w)| *w *= size(i / row));
        }
        if let Op::Conv(conv) = &mut graph.nodes[2].op {
            conv.weight.iter_mut().enumerate().for_each(|(i, w)| *w /= f32::exp2((i / 9 % 8) as f32));
        }
        // Without the sum, which reads the first one, too.
        graph.nodes.truncate(4);
        let last = Conv { out_channels: 8, ..Conv::new(vec![0.25; 256], Window::square(1, 1, 0)) };
        graph.add("e", Op::Conv(Box::new(last)), &[3]).unwrap();
        let image: Vec<f32> = (0..14 * 14 * 16).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect();
        let mut calibrator = Calibrator::new(&graph, &Options::default()).unwrap();
        calibrator.add(&image).unwrap();
        let mut quantization = calibrator.finish(RangeMethod::MinMax);
        assert!(quantization.equalization.contains_key("a"), "{quantization:?}");
        for floats in [&[][..], &["c"]] {
            quantization.floats = floats.iter().map(|&name| name.to_owned()).collect();
            let quantization = Some(Arc::new(quantization.clone()));
            let options = Options { precision: Precision::Int8, quantization, ..Options::default() };
            let errors = layer_errors(&graph, &options, &image).unwrap();
            for layer in &errors.layers {
                assert!(layer.own < 0.02 && layer.total < 0.05, "{floats:?}: {layer:?}");
            }
            assert!(errors.layers.iter().any(|layer| layer.nodes == ["e"]), "{errors:?}");
        }
    }

    #[test]
    fn layers_err_by_rounding_and_more_where_they_round_more() {
        let graph = graph();
        let image: Vec<f32> = (0..14 * 14 * 16).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect();
        let of = |options: &Options| layer_errors(&graph, options, &image).unwrap();
        for exact in [true, false] {
            let errors = of(&Options { exact, ..Options::default() });
            assert_eq!(errors.layers.len(), 2, "a, and b with c and d: {errors:?}");
            let found = errors.layers.iter().flat_map(|layer| [layer.own, layer.total]);
            for error in found.chain([errors.output]) {
                assert!(error > 0.0 && error < 1e-5, "exact {exact}: {errors:?}");
            }
        }
        if let Some(reason) = Precision::Bf16.missing(crate::Isa::chosen().unwrap()) {
            eprintln!("SKIPPED: bf16 {reason}");
        } else {
            let errors = of(&Options { precision: Precision::Bf16, ..Options::default() });
            assert!(errors.layers.iter().any(|layer| layer.own > 1e-4), "{errors:?}");
            assert!(errors.output < 5e-2, "{errors:?}");
        }
    }
}
