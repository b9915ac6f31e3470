//! Graph to graph: the rewrites that turn a captured module into the graph that is planned.
//!
//! Each pass is a function in a file of its own, leaves the graph valid, and keeps what the network computes (up to the
//! rounding of folded weights). A node that absorbs others takes the place of the last of them, so the order stays
//! topological without sorting.

mod fold_affine;
mod fuse_add;
mod fuse_relu;
mod pad_input;
pub(crate) mod split_phases;
mod swap_average;
mod whole_map;

use crate::Error;
use crate::graph::Graph;

/// A rewrite and what it does, for `explain` and errors.
pub(crate) type Pass = (&'static str, fn(&mut Graph));

/// The passes, in order. Read from top to bottom: what happens to a network.
pub(crate) const PASSES: &[Pass] = &[
    ("fold batch norm and scaling into the convolution beside it", fold_affine::run),
    ("make a fully connected layer on a flattened map a convolution over the map", whole_map::run),
    ("let a 1x1 convolution run before the average pool that feeds it", swap_average::run),
    ("add residuals where the last convolution stores its output", fuse_add::run),
    ("clamp at zero where a tensor is stored", fuse_relu::into_producers),
    ("clamp at zero where a tensor is read", fuse_relu::into_consumers),
    ("store the image with its first convolution's padding", pad_input::run),
];

/// Runs every pass, verifying the graph after each.
///
/// # Errors
/// [`Error::Graph`] if the input graph or, which would be a bug, a rewritten one is invalid.
pub(crate) fn run_all(graph: &mut Graph) -> Result<(), Error> {
    graph.verify()?;
    for (_, pass) in PASSES {
        pass(graph);
        graph.prune();
        graph.verify()?;
    }
    Ok(())
}
