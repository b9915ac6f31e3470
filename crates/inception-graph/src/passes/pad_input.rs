//! The image is copied anyway (from planes to pixels), so the copy can carry the padding of the convolution
//! that reads it.

use crate::{Graph, Op};

/// Moves the padding of the only reader of the input, a convolution, into the input. A kernel row of a few
/// channels is then one contiguous run of floats, which the micro-kernel reads as one long tap.
pub fn pad_input(graph: &mut Graph) {
    let [reader] = graph.consumers()[0][..] else {
        return;
    };
    if graph.output == 0 {
        return;
    }
    let Op::Conv(conv) = &mut graph.nodes[reader].op else {
        return;
    };
    let (before, after) = (conv.window.pad, conv.window.pad_end);
    (conv.window.pad, conv.window.pad_end) = ([0; 2], [0; 2]);
    let input = &mut graph.nodes[0];
    if let Op::Input { pad, pad_end, .. } = &mut input.op {
        for axis in 0..2 {
            pad[axis] += before[axis];
            pad_end[axis] += after[axis];
        }
    }
    input.shape.height += before[0] + after[0];
    input.shape.width += before[1] + after[1];
}
