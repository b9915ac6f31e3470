//! A fully connected layer that reads a flattened map is a convolution whose kernel is the map.

use crate::graph::{Graph, Op, Window};

/// Removes each flatten whose readers are all 1x1 convolutions, by giving those the map's extent as their kernel: the
/// weights of channel, row and column are already in that order.
pub(super) fn run(graph: &mut Graph) {
    for id in 0..graph.nodes.len() {
        if !matches!(graph.nodes[id].op, Op::Flatten) {
            continue;
        }
        let source = graph.nodes[id].inputs[0];
        let map = graph.nodes[source].shape;
        if map.pixels() == 1 {
            graph.redirect(id, source);
            continue;
        }
        for reader in graph.consumers()[id].clone() {
            let node = &mut graph.nodes[reader];
            if let Op::Conv(conv) = &mut node.op
                && conv.window.is_pointwise()
                && conv.groups == 1
                && node.inputs[..] == [id]
            {
                conv.window = Window::new([map.height, map.width], [1; 2], [0; 2]);
                node.inputs[0] = source;
            }
        }
    }
}
