//! A residual sum costs a pass over memory; a convolution can add the other operand where it stores its
//! output.

use crate::{Graph, Op};

/// Turns `conv(x) + y` into a convolution with the residual `y`, when nothing else reads the convolution.
pub fn fuse_add(graph: &mut Graph) {
    for id in 0..graph.nodes.len() {
        let Op::Add { relu } = graph.nodes[id].op else {
            continue;
        };
        let consumers = graph.consumers();
        let [a, b] = graph.nodes[id].inputs[..] else {
            continue;
        };
        if a == b {
            continue;
        }
        // Of two candidates the later one: the earlier is computed by then.
        let (late, early) = (a.max(b), a.min(b));
        for (producer, residual) in [(late, early), (early, late)] {
            let node = &graph.nodes[producer];
            let Op::Conv(conv) = &node.op else { continue };
            if consumers[producer].len() != 1
                || graph.output == producer
                || node.inputs.len() != 1
                || conv.relu
            {
                continue;
            }
            let (name, input) = (node.name.clone(), node.inputs[0]);
            let Op::Conv(mut conv) = graph.take(producer) else { continue };
            conv.relu = relu;
            let node = &mut graph.nodes[id];
            (node.op, node.inputs, node.name) = (Op::Conv(conv), vec![input, residual], name);
            break;
        }
    }
}
