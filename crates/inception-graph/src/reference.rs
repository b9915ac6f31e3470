//! What a graph computes, by the definition of its operations, in `f64`: what a runtime's results are held
//! against.
//!
//! Slow (some 10^9 multiply-adds a second on a core) and simple.

use crate::{Conv, Graph, Linear, Node, Op, Pool, PoolKind, Shape, parallel};

/// One image's tensor, pixel by pixel, the channels of one side by side.
pub type Tensor = Vec<f64>;

/// Runs a graph on images `[n][channels][height][width]`; the results have the same layout.
///
/// The graph must be valid ([`Graph::verify`]), and `images` a whole number of images.
pub fn evaluate(graph: &Graph, images: &[f32]) -> Vec<f64> {
    let shape = graph.nodes[graph.output].shape;
    let one = |image: &[f32]| {
        let tensors = tensors(graph, image);
        planes(shape, &tensors[graph.output])
    };
    images.chunks_exact(image_shape(&graph.nodes[0]).len()).flat_map(one).collect()
}

/// The outputs of all nodes for one image, `[channels][height][width]`.
///
/// # Panics
///
/// For a graph that is not valid ([`Graph::verify`]), and for an image of another size.
pub fn tensors(graph: &Graph, image: &[f32]) -> Vec<Tensor> {
    let mut tensors: Vec<Tensor> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let inputs: Vec<(Shape, &[f64])> =
            node.inputs.iter().map(|&input| (graph.nodes[input].shape, &tensors[input][..])).collect();
        tensors.push(match node.op {
            Op::Input { .. } => store(node, image),
            _ => apply(node, &inputs),
        });
    }
    tensors
}

/// The shape of the image, which the input node may store with zeros around it.
fn image_shape(input: &Node) -> Shape {
    let Shape { height, width, channels } = input.shape;
    match input.op {
        Op::Input { pad, pad_end, block } => Shape::new(
            height * block - pad[0] - pad_end[0],
            width * block - pad[1] - pad_end[1],
            channels / (block * block),
        ),
        _ => input.shape,
    }
}

/// The input node's tensor.
fn store(node: &Node, image: &[f32]) -> Tensor {
    let (&Op::Input { pad, block, .. }, shape) = (&node.op, image_shape(node)) else { return Vec::new() };
    let mut out = vec![0.0; node.shape.len()];
    for (i, &x) in image.iter().enumerate() {
        let (channel, pixel) = (i / shape.pixels(), i % shape.pixels());
        let (y, x_out) = (pixel / shape.width + pad[0], pixel % shape.width + pad[1]);
        let pixel = y / block * node.shape.width + x_out / block;
        let within = y % block * block + x_out % block;
        out[(pixel * block * block + within) * shape.channels + channel] = f64::from(x);
    }
    out
}

/// A tensor as `[channels][height][width]`.
fn planes(shape: Shape, tensor: &[f64]) -> Vec<f64> {
    let pixels = shape.pixels();
    (0..shape.len()).map(|i| tensor[i % pixels * shape.channels + i / pixels]).collect()
}

/// What a node that is not the input makes of its inputs, shapes and tensors as [`tensors`] has them.
///
/// # Panics
///
/// For a node or inputs that are not those of a valid graph ([`Graph::verify`]).
pub fn apply(node: &Node, inputs: &[(Shape, &[f64])]) -> Tensor {
    let (shape, first) = inputs.first().copied().unwrap_or((node.shape, &[]));
    match &node.op {
        Op::Input { .. } => Vec::new(),
        Op::Conv(conv) => convolve(conv, inputs, node.shape),
        Op::Pool(p) => pool(p, shape, first, node.shape),
        Op::Concat => {
            let pixel = |p: usize| {
                inputs.iter().flat_map(move |(shape, x)| &x[p * shape.channels..(p + 1) * shape.channels])
            };
            (0..node.shape.pixels()).flat_map(pixel).copied().collect()
        }
        Op::Add { relu } => {
            let clamp = if *relu { 0.0 } else { f64::NEG_INFINITY };
            first.iter().zip(inputs[1].1).map(|(a, b)| (a + b).max(clamp)).collect()
        }
        Op::Relu => first.iter().map(|x| x.max(0.0)).collect(),
        Op::Affine { scale, shift } => {
            let channel = |i: usize| i % shape.channels;
            first.iter().enumerate().map(|(i, x)| x * scale[channel(i)] + shift[channel(i)]).collect()
        }
        &Op::Scale { scale, shift } => first.iter().map(|x| x * scale + shift).collect(),
        Op::BatchNorm(norm) => {
            let channel = |(i, &x): (usize, &f64)| {
                let [gamma, beta, mean, variance] = [&norm.gamma, &norm.beta, &norm.mean, &norm.variance]
                    .map(|weights| f64::from(weights[i % shape.channels]));
                (x - mean) / (variance + norm.epsilon).sqrt() * gamma + beta
            };
            first.iter().enumerate().map(channel).collect()
        }
        Op::Bias(bias) => {
            first.iter().enumerate().map(|(i, x)| x + f64::from(bias[i % shape.channels])).collect()
        }
        Op::Linear(layer) => linear(layer, first),
        Op::GlobalAveragePool => {
            let sum = |c: usize| first.iter().skip(c).step_by(shape.channels).sum::<f64>();
            (0..shape.channels).map(|c| sum(c) / shape.pixels() as f64).collect()
        }
        Op::Flatten => planes(shape, first),
    }
}

/// Pixels, and output channels, that are computed together: their sums stay in the first-level cache.
const TILE: [usize; 2] = [8, 64];

fn linear(layer: &Linear, x: &[f64]) -> Tensor {
    let outs = layer.out_features;
    let weight = |i: usize, o: usize| match layer.transposed {
        true => layer.weight[o * x.len() + i],
        false => layer.weight[i * outs + o],
    };
    let bias = |o: usize| layer.bias.as_ref().map_or(0.0, |bias| f64::from(bias[o]));
    let sum = |o: usize| x.iter().enumerate().map(|(i, x)| x * f64::from(weight(i, o))).sum::<f64>();
    (0..outs).map(|o| sum(o) + bias(o)).collect()
}

fn convolve(conv: &Conv, inputs: &[(Shape, &[f64])], out_shape: Shape) -> Tensor {
    let (shape, image) = inputs[0];
    let w = &conv.window;
    let (taps, outs) = (conv.taps(), conv.out_channels);
    let (group_in, group_out) = (shape.channels / conv.groups, outs / conv.groups);
    // `[tap][input channel of a group][output channel]`
    let mut weight = vec![0.0; conv.weight.len()];
    for (i, &x) in conv.weight.iter().enumerate() {
        let (o, c, tap) = (i / (group_in * taps), i / taps % group_in, i % taps);
        weight[(tap * group_in + c) * outs + o] = f64::from(x);
    }
    let clamp = |on: bool| if on { 0.0 } else { f64::NEG_INFINITY };
    let (floor_in, floor) = (clamp(conv.input_relu), clamp(conv.relu));
    let mut out = vec![0.0; out_shape.len()];
    let tile = |start: usize, out: &mut [f64]| {
        let pixels = out.len() / outs;
        for block in (0..outs).step_by(TILE[1]) {
            let width = TILE[1].min(outs - block);
            let mut sums = [[0.0; TILE[1]]; TILE[0]];
            for tap in 0..taps {
                // Where the tap reads, for each pixel.
                let read = |p: usize| {
                    let (y, x) = ((start + p) / out_shape.width, (start + p) % out_shape.width);
                    let y = w.source(0, y, tap / w.kernel[1], shape.height)?;
                    let x = w.source(1, x, tap % w.kernel[1], shape.width)?;
                    Some((y * shape.width + x) * shape.channels)
                };
                let reads: [Option<usize>; TILE[0]] =
                    std::array::from_fn(|p| if p < pixels { read(p) } else { None });
                for c in 0..group_in {
                    let weights = &weight[(tap * group_in + c) * outs + block..][..width];
                    for (sums, at) in sums.iter_mut().zip(reads) {
                        let Some(at) = at else { continue };
                        if conv.groups == 1 {
                            let x = image[at + c].max(floor_in);
                            sums.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += x * weight);
                        } else {
                            for (o, (sum, weight)) in sums.iter_mut().zip(weights).enumerate() {
                                let channel = (block + o) / group_out * group_in + c;
                                *sum += image[at + channel].max(floor_in) * weight;
                            }
                        }
                    }
                }
            }
            for (p, sums) in sums.iter().enumerate().take(pixels) {
                for o in 0..width {
                    let residual = inputs.get(1).map_or(0.0, |(_, r)| r[(start + p) * outs + block + o]);
                    let bias = conv.bias.as_ref().map_or(0.0, |bias| f64::from(bias[block + o]));
                    let sum = sums[o] + bias + residual;
                    out[p * outs + block + o] = sum.max(floor);
                }
            }
        }
    };
    parallel::for_each(out.chunks_mut(TILE[0] * outs).enumerate(), |(i, out)| tile(i * TILE[0], out));
    out
}

fn pool(p: &Pool, shape: Shape, image: &[f64], out_shape: Shape) -> Tensor {
    let w = &p.window;
    let floor = if p.relu { 0.0 } else { f64::NEG_INFINITY };
    // Taps of a window along an axis: those inside the input, and how many are inside it or its padding.
    let taps = |axis: usize, out: usize, size: usize| {
        let reads = (0..w.kernel[axis]).filter_map(move |tap| w.source(axis, out, tap, size));
        (reads, w.counted(axis, out, size))
    };
    let mut out = Vec::with_capacity(out_shape.len());
    for y in 0..out_shape.height {
        for x in 0..out_shape.width {
            let ((rows, tall), (columns, wide)) = (taps(0, y, shape.height), taps(1, x, shape.width));
            let pixels: Vec<usize> = rows
                .flat_map(|row| {
                    columns.clone().map(move |column| (row * shape.width + column) * shape.channels)
                })
                .collect();
            for c in 0..shape.channels {
                let values = pixels.iter().map(|&pixel| image[pixel + c]);
                let pooled = match p.kind {
                    PoolKind::Max => values.fold(f64::NEG_INFINITY, f64::max),
                    PoolKind::Average => values.sum::<f64>() / pixels.len() as f64,
                    PoolKind::AverageWithPadding => values.sum::<f64>() / (tall * wide) as f64,
                };
                let bias = p.bias.as_ref().map_or(0.0, |bias| f64::from(bias[c]));
                out.push((pooled + bias).max(floor));
            }
        }
    }
    out
}
