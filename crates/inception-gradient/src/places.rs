//! Which buffer holds which tensor.

use inception_graph::{Graph, NodeId, Op, Parameter, Shape};

use crate::memory::View;

/// Where the outputs of all nodes are, or their gradients, and how many floats each buffer has for an image.
#[derive(Debug)]
pub(crate) struct Places {
    pub views: Vec<View>,
    pub buffers: Vec<usize>,
}

/// The one node that reads `id`, if nothing else does.
fn reader(graph: &Graph<Parameter>, consumers: &[Vec<NodeId>], id: NodeId) -> Option<NodeId> {
    match consumers[id][..] {
        [reader] if id != graph.output => Some(reader),
        _ => None,
    }
}

/// Whether a norm is followed by a ReLU that alone reads it: the two are computed together.
pub(crate) fn is_fused(graph: &Graph<Parameter>, consumers: &[Vec<NodeId>], relu: NodeId) -> bool {
    let node = &graph.nodes[relu];
    matches!(node.op, Op::Relu)
        && matches!(graph.nodes[node.inputs[0]].op, Op::BatchNorm(_))
        && reader(graph, consumers, node.inputs[0]) == Some(relu)
}

/// Whether what a node gave is needed for the gradient: that of a ReLU is known by it, also where it is a
/// part of a concatenation. (That of a ReLU after a norm is known by what the norm read.)
fn is_kept(graph: &Graph<Parameter>, consumers: &[Vec<NodeId>], id: NodeId) -> bool {
    match graph.nodes[id].op {
        Op::Relu => !is_fused(graph, consumers, id),
        Op::Concat => graph.nodes[id]
            .inputs
            .iter()
            .any(|&input| reader(graph, consumers, input) == Some(id) && is_kept(graph, consumers, input)),
        _ => false,
    }
}

/// Whether the output of `reader` takes the place of that of `id`, which nothing else reads.
fn in_place(graph: &Graph<Parameter>, consumers: &[Vec<NodeId>], id: NodeId, reader_id: NodeId) -> bool {
    match &graph.nodes[reader_id].op {
        Op::Relu | Op::Scale { .. } | Op::Bias(_) => true,
        // The first of the two that nothing else reads.
        Op::Add { .. } => {
            let inputs = &graph.nodes[reader_id].inputs;
            inputs.iter().find(|&&input| reader(graph, consumers, input) == Some(reader_id)) == Some(&id)
        }
        _ => false,
    }
}

/// Places for all nodes: each its own buffer, but for what `shares` its reader's, and parts of
/// concatenations.
fn place(
    graph: &Graph<Parameter>,
    consumers: &[Vec<NodeId>],
    shares: impl Fn(NodeId, NodeId) -> bool,
) -> Places {
    let mut views =
        vec![View { buffer: 0, offset: 0, stride: 0, shape: Shape::default() }; graph.nodes.len()];
    let mut buffers = Vec::new();
    for id in (0..graph.nodes.len()).rev() {
        let shape = graph.nodes[id].shape;
        let shared = reader(graph, consumers, id).and_then(|reader| {
            let whole: View = views[reader];
            if matches!(graph.nodes[reader].op, Op::Concat) && id != 0 {
                let before = graph.nodes[reader].inputs.iter().take_while(|&&input| input != id);
                let channels: usize = before.map(|&input| graph.nodes[input].shape.channels).sum();
                return Some(View { offset: whole.offset + channels, shape, ..whole });
            }
            (id != 0 && shares(id, reader)).then_some(View { shape, ..whole })
        });
        views[id] = shared.unwrap_or_else(|| {
            buffers.push(shape.len());
            View { buffer: buffers.len() - 1, offset: 0, stride: shape.channels, shape }
        });
    }
    Places { views, buffers }
}

/// Places of the outputs, which all stay until the gradients are known.
pub(crate) fn outputs(graph: &Graph<Parameter>, consumers: &[Vec<NodeId>]) -> Places {
    place(graph, consumers, |id, reader| {
        !is_kept(graph, consumers, id) && in_place(graph, consumers, id, reader)
    })
}

/// Places of the gradients, whose buffers are used again as soon as the gradients of a node's inputs are
/// known.
pub(crate) fn gradients(graph: &Graph<Parameter>, consumers: &[Vec<NodeId>]) -> Places {
    let mut places = place(graph, consumers, |id, reader| {
        matches!(graph.nodes[reader].op, Op::BatchNorm(_)) || in_place(graph, consumers, id, reader)
    });
    // The last node that has each buffer, in the order in which gradients are computed.
    let mut last = vec![usize::MAX; places.buffers.len()];
    for (id, view) in places.views.iter().enumerate() {
        last[view.buffer] = last[view.buffer].min(id);
    }
    let mut pool = Pool { sizes: Vec::new(), free: Vec::new(), taken: vec![None; places.buffers.len()] };
    let buffer = places.views[graph.output].buffer;
    pool.take(buffer, places.buffers[buffer]);
    for id in (1..graph.nodes.len()).rev() {
        for &input in graph.nodes[id].inputs.iter().filter(|&&input| input != 0) {
            let buffer = places.views[input].buffer;
            pool.take(buffer, places.buffers[buffer]);
        }
        let buffer = places.views[id].buffer;
        if last[buffer] == id {
            pool.free.extend(pool.taken[buffer]);
        }
    }
    for view in &mut places.views {
        // The images have no gradient.
        view.buffer = pool.taken[view.buffer].unwrap_or(0);
    }
    places.buffers = pool.sizes;
    places
}

/// Buffers that are used for several things in turn.
struct Pool {
    sizes: Vec<usize>,
    free: Vec<usize>,
    /// Which buffer has been taken for what.
    taken: Vec<Option<usize>>,
}

impl Pool {
    /// Finds a buffer of `wanted` floats for `what`, unless it has one.
    fn take(&mut self, what: usize, wanted: usize) {
        if self.taken[what].is_some() {
            return;
        }
        // The smallest that is large enough, or else the largest, which grows.
        let best = (0..self.free.len()).min_by_key(|&at| {
            let size = self.sizes[self.free[at]];
            (size < wanted, if size < wanted { usize::MAX - size } else { size })
        });
        let chosen = match best {
            Some(at) => self.free.swap_remove(at),
            None => {
                self.sizes.push(0);
                self.sizes.len() - 1
            }
        };
        self.sizes[chosen] = self.sizes[chosen].max(wanted);
        self.taken[what] = Some(chosen);
    }
}
