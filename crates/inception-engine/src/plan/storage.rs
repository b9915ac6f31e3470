//! Storage: where each node's tensor lies. Concatenations are written in place.

use super::fusion::Lowering;
use crate::QuantParams;
use crate::dtype::{DType, LINE};
use crate::graph::{Graph, NodeId, Op};
use crate::memory::sanitizer::FENCE;
use crate::memory::{Arena, Lifetime, View, pixel_stride};
use crate::mixed::StoredAs;

/// For each node, the view of its tensor, if it is stored, and the arena that holds them all. `levels` are
/// those at which tensors are complete, and `stored` is what they are stored as.
/// What lies in the buffer of a concatenation has the scale and zero point of the whole.
pub(super) fn lay_out(
    graph: &Graph,
    lowerings: &[Lowering],
    levels: &[usize],
    StoredAs { dtypes, quants }: &StoredAs,
) -> (Vec<Option<View>>, Arena) {
    let places = places(graph, lowerings);
    let mut owners: Vec<NodeId> = places.iter().flatten().map(|&(owner, _)| owner).collect();
    owners.sort_unstable();
    owners.dedup();
    let mut lifetimes: Vec<Lifetime> = owners
        .iter()
        .map(|&owner| {
            let dtype = dtypes[owner];
            let count = graph.nodes[owner].shape.pixels() * stride(graph, owner, dtype);
            // The last run of a dense image is read in whole packs.
            let read = if owner == 0 { count + dtype.pack() - 1 } else { count };
            let size = read.div_ceil(dtype.pack()).next_multiple_of(LINE) + FENCE;
            Lifetime { size, first: usize::MAX, last: 0 }
        })
        .collect();
    let mut touch = |node: NodeId, level: usize| {
        if let Some((owner, _)) = places[node]
            && let Ok(index) = owners.binary_search(&owner)
        {
            lifetimes[index].first = lifetimes[index].first.min(level);
            lifetimes[index].last = lifetimes[index].last.max(level);
        }
    };
    for (id, node) in graph.nodes.iter().enumerate() {
        touch(id, levels[id]);
        // A prologue reads at its reader's level, which is its own, too.
        for &input in &node.inputs {
            touch(input, levels[id]);
        }
    }
    // The result is copied out after the last level.
    touch(graph.output, levels.iter().max().copied().unwrap_or(0) + 1);
    let arena = Arena::plan(&lifetimes);
    let view = |place: &Option<(NodeId, usize)>| {
        let (owner, channel) = (*place)?;
        let offset = arena.buffers[owners.binary_search(&owner).ok()?].offset;
        let (pixels, dtype) = (graph.nodes[owner].shape.pixels(), dtypes[owner]);
        let quant = if dtype == DType::U8 { quants[owner] } else { QuantParams::NONE };
        Some(View { offset, channel, ld: stride(graph, owner, dtype), pixels, dtype, quant })
    };
    (places.iter().map(view).collect(), arena)
}

/// What the bytes of each node's tensor stand for where it lies: in the buffer of a concatenation, what those
/// of the whole do.
pub(crate) fn stands_for(graph: &Graph, quants: &[QuantParams]) -> Vec<QuantParams> {
    let places = places(graph, &super::fusion::lowerings(graph, false));
    places.iter().zip(quants).map(|(place, own)| place.map_or(*own, |(owner, _)| quants[owner])).collect()
}

/// For each node, the node that owns the buffer of its tensor, and its first channel there; `None` if the
/// tensor is never stored. The inputs of a concatenation lie in its buffer, where they have no other place
/// already.
fn places(graph: &Graph, lowerings: &[Lowering]) -> Vec<Option<(NodeId, usize)>> {
    let consumers = graph.consumers();
    let mut places: Vec<Option<(NodeId, usize)>> = vec![None; graph.nodes.len()];
    for id in (0..graph.nodes.len()).rev() {
        let node = &graph.nodes[id];
        if let Lowering::Prologue(reader) = lowerings[id]
            && consumers[id][..] == [reader]
        {
            continue;
        }
        let (owner, mut channel) = *places[id].get_or_insert((id, 0));
        if matches!(node.op, Op::Concat) {
            for &input in &node.inputs {
                if input != 0 && places[input].is_none() {
                    places[input] = Some((owner, channel));
                }
                channel += graph.nodes[input].shape.channels;
            }
        }
    }
    places
}

/// Elements from one pixel of the buffer that `owner` owns to the next. The image stays dense, so that the
/// first convolution can read a kernel row as one run; everything else is a [`pixel_stride`] apart.
fn stride(graph: &Graph, owner: NodeId, dtype: DType) -> usize {
    let channels = graph.nodes[owner].shape.channels;
    if owner == 0 && channels < LINE { channels } else { pixel_stride(channels, dtype) }
}
