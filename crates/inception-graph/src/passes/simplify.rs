//! Fewer operations: several that are the same arithmetic become one.

use super::fold_affine::affine_of;
use crate::{Conv, Graph, Linear, Op, Pool, PoolKind, Window};

/// Rewrites batch norms, biases and factors as one scale and shift for each channel, global pools as pools
/// over the map, and fully connected layers as convolutions over a pixel or, if the layer is alone to read a
/// flattened map, over that map.
pub fn simplify(graph: &mut Graph) {
    for id in 0..graph.nodes.len() {
        let node = &graph.nodes[id];
        let input = node.inputs.first().map(|&input| graph.nodes[input].shape).unwrap_or_default();
        let op = match &node.op {
            Op::BatchNorm(_) | Op::Bias(_) | Op::Scale { .. } => affine_of(&node.op, input.channels),
            Op::GlobalAveragePool => {
                let window = Window::new(input.size(), [1; 2], [0; 2]);
                Some(Op::Pool(Box::new(Pool { kind: PoolKind::Average, window, bias: None, relu: false })))
            }
            Op::Linear(linear) => Some(Op::Conv(Box::new(as_conv(linear)))),
            _ => None,
        };
        if let Some(op) = op {
            graph.nodes[id].op = op;
        }
    }
    for id in 0..graph.nodes.len() {
        if matches!(graph.nodes[id].op, Op::Flatten) {
            absorb_flatten(graph, id);
        }
    }
}

/// `[out][in]` is `[out][in][1][1]`.
fn as_conv(linear: &Linear) -> Conv {
    let (out_channels, len) = (linear.out_features, linear.weight.len());
    let inputs = len / out_channels;
    let weight = match linear.transposed {
        true => linear.weight.clone(),
        false => (0..len).map(|i| linear.weight[i % inputs * out_channels + i / inputs]).collect(),
    };
    Conv { bias: linear.bias.clone(), out_channels, ..Conv::new(weight, Window::square(1, 1, 0)) }
}

/// Gives the 1x1 convolutions that read a flattened map that map's extent as their kernel: the weights of
/// channel, row and column are already in that order.
fn absorb_flatten(graph: &mut Graph, id: usize) {
    let source = graph.nodes[id].inputs[0];
    let map = graph.nodes[source].shape;
    if map.pixels() == 1 {
        graph.redirect(id, source);
        return;
    }
    for reader in graph.consumers()[id].clone() {
        let node = &mut graph.nodes[reader];
        if let Op::Conv(conv) = &mut node.op
            && conv.window.is_pointwise()
            && conv.groups == 1
            && node.inputs[..] == [id]
        {
            conv.window = Window::new(map.size(), [1; 2], [0; 2]);
            node.inputs[0] = source;
        }
    }
}
