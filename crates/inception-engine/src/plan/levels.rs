//! Levels: which steps run at the same time. A step reads only what steps of earlier levels wrote.

use super::fusion::Lowering;
use crate::graph::Graph;

/// The level at which each node's tensor is complete. A prologue is complete with the step that it belongs
/// to.
pub(super) fn levels(graph: &Graph, lowerings: &[Lowering]) -> Vec<usize> {
    let mut levels = vec![0; graph.nodes.len()];
    for (id, node) in graph.nodes.iter().enumerate().skip(1) {
        let inputs = node.inputs.iter().map(|&input| match lowerings[input] {
            // A step does not wait for its own prologue, but for the prologue's inputs.
            Lowering::Prologue(reader) if reader == id => {
                graph.nodes[input].inputs.iter().map(|&i| levels[i]).max().unwrap_or(0)
            }
            _ => levels[input],
        });
        // What a concatenation has to copy is copied one level after it is made.
        levels[id] = inputs.max().unwrap_or(0) + 1;
    }
    // Later than its own level would be only a prologue that nobody else reads.
    for (id, lowering) in lowerings.iter().enumerate() {
        if let Lowering::Prologue(reader) = lowering {
            levels[id] = levels[*reader];
        }
    }
    levels
}
