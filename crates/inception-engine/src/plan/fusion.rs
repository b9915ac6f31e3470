//! Fusion: which nodes share a step.

use crate::graph::{Conv, Graph, NodeId, Op, PoolKind};

/// How a node is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lowering {
    /// By a step of its own, which may compute other nodes too.
    Step,
    /// As a horizontally fused output of the step of this node.
    FusedOutput(NodeId),
    /// As the prologue of the step of this pointwise convolution or pool.
    Prologue(NodeId),
    /// Its inputs are written in place.
    InPlace,
}

/// How each node is computed; none on the way into another if `stores_all`.
pub(super) fn lowerings(graph: &Graph, stores_all: bool) -> Vec<Lowering> {
    let consumers = graph.consumers();
    let mut lowerings = vec![Lowering::Step; graph.nodes.len()];
    for (id, node) in graph.nodes.iter().enumerate() {
        match &node.op {
            Op::Concat => lowerings[id] = Lowering::InPlace,
            Op::Conv(conv) if conv.is_depthwise() && !stores_all => {
                if let Some(reader) = fusing_reader(graph, id, &consumers) {
                    lowerings[id] = Lowering::Prologue(reader);
                }
            }
            _ => {}
        }
    }
    fuse_outputs(graph, &consumers, &mut lowerings);
    lowerings
}

/// The reader that computes the depthwise convolution `id` as its prologue: a maximum pool that is the only
/// reader, or else the first pointwise convolution that need not wait for anything else.
fn fusing_reader(graph: &Graph, id: NodeId, consumers: &[Vec<NodeId>]) -> Option<NodeId> {
    let readers = &consumers[id];
    if let [reader] = readers[..]
        && max_pool(graph, reader)
    {
        return Some(reader);
    }
    readers.iter().copied().find(|&reader| {
        let inputs = &graph.nodes[reader].inputs;
        // Others that read it wait for the step of this one, which must not wait for a residual then.
        pointwise(graph, reader).is_some() && inputs[0] == id && (inputs.len() == 1 || readers.len() == 1)
    })
}

/// Fuses pointwise convolutions that read the same tensor, in the same way, into the step of the first of
/// them.
fn fuse_outputs(graph: &Graph, consumers: &[Vec<NodeId>], lowerings: &mut [Lowering]) {
    let with_prologue: Vec<NodeId> = lowerings
        .iter()
        .filter_map(|lowering| if let Lowering::Prologue(reader) = lowering { Some(*reader) } else { None })
        .collect();
    for readers in consumers {
        let mut leader: Option<(NodeId, &Conv)> = None;
        for &id in readers {
            let Some(conv) = pointwise(graph, id) else { continue };
            if graph.nodes[id].inputs.len() > 1 || with_prologue.contains(&id) {
                continue;
            }
            match leader {
                None => leader = Some((id, conv)),
                Some((leader, first)) if first.input_relu == conv.input_relu => {
                    lowerings[id] = Lowering::FusedOutput(leader);
                }
                Some(_) => {}
            }
        }
    }
}

/// `node` as a 1x1 convolution that the pointwise kernel can compute with a prologue.
fn pointwise(graph: &Graph, node: NodeId) -> Option<&Conv> {
    match &graph.nodes[node].op {
        Op::Conv(conv) if conv.window.is_pointwise() && conv.groups == 1 => Some(conv),
        _ => None,
    }
}

/// Whether `node` is a maximum pool over more than one pixel.
fn max_pool(graph: &Graph, node: NodeId) -> bool {
    matches!(&graph.nodes[node].op, Op::Pool(pool) if pool.kind == PoolKind::Max && pool.window.kernel != [1, 1])
}
