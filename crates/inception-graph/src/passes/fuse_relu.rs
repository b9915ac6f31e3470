//! ReLU is a maximum with zero: free where a tensor is stored, and nearly so where it is read.

use crate::{Graph, NodeId, Op};

/// Where an operation keeps the flag that clamps its output.
fn output_flag(op: &mut Op) -> Option<&mut bool> {
    match op {
        Op::Conv(conv) => Some(&mut conv.relu),
        Op::Pool(pool) => Some(&mut pool.relu),
        Op::Add { relu } => Some(relu),
        _ => None,
    }
}

/// Moves each ReLU into the operation that it reads, if nothing else reads that. Through a concatenation it
/// moves into everything that is concatenated, if each can take it.
pub fn fuse_relu_into_producers(graph: &mut Graph) {
    for id in 0..graph.nodes.len() {
        if !matches!(graph.nodes[id].op, Op::Relu) {
            continue;
        }
        let consumers = graph.consumers();
        let source = graph.nodes[id].inputs[0];
        let alone = |node: NodeId| consumers[node].len() == 1 && graph.output != node;
        let producers = match graph.nodes[source].op {
            Op::Concat => graph.nodes[source].inputs.clone(),
            _ => vec![source],
        };
        let fits = alone(source)
            && producers.iter().all(|&id| alone(id) && output_flag(&mut graph.nodes[id].op).is_some());
        if fits {
            for producer in producers {
                if let Some(flag) = output_flag(&mut graph.nodes[producer].op) {
                    *flag = true;
                }
            }
            graph.redirect(id, source);
        }
    }
}

/// What remains is a ReLU of a tensor that others read unclamped. If every reader is a convolution that can
/// clamp its input on the way (a depthwise one in registers, a 1x1 one in the copy that it makes for its
/// cache), the node goes.
pub fn fuse_relu_into_consumers(graph: &mut Graph) {
    for id in 0..graph.nodes.len() {
        if !matches!(graph.nodes[id].op, Op::Relu) || graph.output == id {
            continue;
        }
        let readers = graph.consumers()[id].clone();
        let takes = |&reader: &NodeId| match &graph.nodes[reader].op {
            Op::Conv(conv) => {
                graph.nodes[reader].inputs[0] == id
                    && graph.nodes[reader].inputs.get(1) != Some(&id)
                    && (conv.is_depthwise() || (conv.window.is_pointwise() && conv.groups == 1))
            }
            _ => false,
        };
        if readers.iter().all(takes) {
            let source = graph.nodes[id].inputs[0];
            for reader in readers {
                if let Op::Conv(conv) = &mut graph.nodes[reader].op {
                    conv.input_relu = true;
                }
            }
            graph.redirect(id, source);
        }
    }
}
