//! An average pool followed by a 1x1 convolution: both are linear and work along different axes, so they
//! commute.

use crate::{Graph, Op, PoolKind};

/// Moves the convolution in front of the pool where that makes the pool smaller. The bias and what follows it
/// stay behind the pool, since a window that counts padding scales a constant.
pub fn swap_average(graph: &mut Graph) {
    for id in 0..graph.nodes.len() {
        let Op::Conv(conv) = &graph.nodes[id].op else {
            continue;
        };
        let [source] = graph.nodes[id].inputs[..] else {
            continue;
        };
        let Op::Pool(pool) = &graph.nodes[source].op else {
            continue;
        };
        let mean = matches!(pool.kind, PoolKind::Average | PoolKind::AverageWithPadding);
        let plain = conv.window.is_pointwise() && conv.groups == 1 && !conv.input_relu && !conv.relu;
        let keeps_size = pool.window.stride == [1; 2] && graph.nodes[source].shape.pixels() > 1;
        let alone = graph.consumers()[source].len() == 1 && graph.output != source;
        let smaller = conv.out_channels <= conv.in_channels();
        if !(mean && plain && keeps_size && alone && smaller && pool.bias.is_none() && !pool.relu) {
            continue;
        }
        let (mut conv, mut pool) = (conv.clone(), pool.clone());
        pool.bias = conv.bias.take();
        let input = graph.nodes[source].inputs[0];
        let mut shape = graph.nodes[input].shape;
        shape.channels = conv.out_channels;
        let (first, second) = (graph.nodes[source].name.clone(), graph.nodes[id].name.clone());
        let node = &mut graph.nodes[source];
        (node.op, node.shape, node.name) = (Op::Conv(conv), shape, second);
        let node = &mut graph.nodes[id];
        (node.op, node.name) = (Op::Pool(pool), first);
    }
}
