//! A convolution of stride 2 is one of stride 1 over the image's four phases, the pixels in even and odd rows and columns. The
//! image is copied anyway, so the copy can part them; Winograd's algorithm, which knows no strides, then applies.

use crate::graph::{Conv, Graph, Op, Window};

/// Rows, and columns, that become one.
const PHASES: usize = 2;

/// Parts the image into phases, stored as channels (those of the first row's first column first), for its only reader, a
/// convolution of stride 2, if the one that takes its place `pays`, given its name and its output's rows and columns.
pub(crate) fn run(graph: &mut Graph, pays: impl Fn(&str, &Conv, &Conv, [usize; 2]) -> bool) {
    let [reader] = graph.consumers()[0][..] else {
        return;
    };
    let shape = graph.nodes[reader].shape;
    let output = [shape.height, shape.width];
    let (Op::Conv(conv), [0]) = (&graph.nodes[reader].op, &graph.nodes[reader].inputs[..]) else {
        return;
    };
    let window = &conv.window;
    let strided = window.stride == [PHASES; 2] && window.dilation == [1; 2];
    if !strided || conv.groups != 1 || conv.input_relu || window.pad != [0; 2] || window.pad_end != [0; 2] {
        return;
    }
    let kernel = window.kernel.map(|extent| extent.div_ceil(PHASES));
    let (channels, outs) = (conv.in_channels(), conv.out_channels);
    let split = Conv {
        weight: split_weight(conv, kernel),
        bias: conv.bias.clone(),
        out_channels: outs,
        groups: 1,
        window: Window { kernel, stride: [1; 2], ..*window },
        input_relu: false,
        relu: conv.relu,
    };
    if !pays(&graph.nodes[reader].name, conv, &split, output) {
        return;
    }
    let input = &mut graph.nodes[0];
    let Op::Input { pad_end, phases, .. } = &mut input.op else {
        return;
    };
    // Whole phases, as many as the convolution reads.
    let wanted = [0, 1].map(|axis| output[axis] + kernel[axis] - 1);
    for (axis, extent) in [input.shape.height, input.shape.width].into_iter().enumerate() {
        pad_end[axis] = (pad_end[axis] + wanted[axis] * PHASES).saturating_sub(extent);
    }
    *phases = PHASES;
    (input.shape.height, input.shape.width) = (wanted[0], wanted[1]);
    input.shape.channels = channels * PHASES * PHASES;
    graph.nodes[reader].op = Op::Conv(Box::new(split));
}

/// The weights over phases, `[out][phase and channel][kernel]`; taps beyond the kernel's end are zero.
fn split_weight(conv: &Conv, [tall, wide]: [usize; 2]) -> Vec<f32> {
    let channels = conv.in_channels();
    let [height, width] = conv.window.kernel;
    let mut weight = vec![0.0; conv.out_channels * PHASES * PHASES * channels * tall * wide];
    for (i, &w) in conv.weight.iter().enumerate() {
        let (x, y, c, o) =
            (i % width, i / width % height, i / (width * height) % channels, i / (width * height * channels));
        let phase = (o * PHASES + y % PHASES) * PHASES + x % PHASES;
        weight[((phase * channels + c) * tall + y / PHASES) * wide + x / PHASES] = w;
    }
    weight
}
