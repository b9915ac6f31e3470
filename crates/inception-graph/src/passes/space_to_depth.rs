//! A convolution of stride 2 is one of stride 1 over blocks of 2x2 pixels whose channels lie side by side
//! (space to depth). The image is copied anyway, so the copy can do it; Winograd's algorithm, which knows no
//! strides, then applies.

use crate::{Conv, Graph, Op, Window};

/// Side of a block.
const BLOCK: usize = 2;

/// Stores the image as blocks of 2x2 pixels, the first row's first pixel's channels first, if its only reader
/// is a convolution of stride 2 and `pays` says so, given the reader's name, the convolution, the one that
/// would take its place, and its output's `[height, width]`.
pub fn space_to_depth(graph: &mut Graph, pays: impl Fn(&str, &Conv, &Conv, [usize; 2]) -> bool) {
    let [reader] = graph.consumers()[0][..] else {
        return;
    };
    let output = graph.nodes[reader].shape.size();
    let (Op::Conv(conv), [0]) = (&graph.nodes[reader].op, &graph.nodes[reader].inputs[..]) else {
        return;
    };
    let window = &conv.window;
    let strided = window.stride == [BLOCK; 2] && window.dilation == [1; 2];
    if !strided || conv.groups != 1 || conv.input_relu || window.pad != [0; 2] || window.pad_end != [0; 2] {
        return;
    }
    let kernel = window.kernel.map(|extent| extent.div_ceil(BLOCK));
    let channels = conv.in_channels();
    let window = Window { kernel, stride: [1; 2], ..*window };
    let over_blocks = Conv { weight: weight_over_blocks(conv, kernel), window, ..(**conv).clone() };
    if !pays(&graph.nodes[reader].name, conv, &over_blocks, output) {
        return;
    }
    let input = &mut graph.nodes[0];
    let Op::Input { pad_end, block, .. } = &mut input.op else {
        return;
    };
    // Whole blocks, as many as the convolution reads.
    let wanted = [0, 1].map(|axis| output[axis] + kernel[axis] - 1);
    for (axis, extent) in input.shape.size().into_iter().enumerate() {
        pad_end[axis] = (pad_end[axis] + wanted[axis] * BLOCK).saturating_sub(extent);
    }
    *block = BLOCK;
    (input.shape.height, input.shape.width) = (wanted[0], wanted[1]);
    input.shape.channels = channels * BLOCK * BLOCK;
    graph.nodes[reader].op = Op::Conv(Box::new(over_blocks));
}

/// `[out][row, column and channel of a block][kernel]`; taps beyond the kernel's end are zero.
fn weight_over_blocks(conv: &Conv, [tall, wide]: [usize; 2]) -> Vec<f32> {
    let channels = conv.in_channels();
    let [height, width] = conv.window.kernel;
    let mut weight = vec![0.0; conv.out_channels * BLOCK * BLOCK * channels * tall * wide];
    for (i, &w) in conv.weight.iter().enumerate() {
        let (x, y, c, o) =
            (i % width, i / width % height, i / (width * height) % channels, i / (width * height * channels));
        let pixel = (o * BLOCK + y % BLOCK) * BLOCK + x % BLOCK;
        weight[((pixel * channels + c) * tall + y / BLOCK) * wide + x / BLOCK] = w;
    }
    weight
}
