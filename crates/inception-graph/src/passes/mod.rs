//! Graph to graph: rewrites that keep what a network computes, up to the rounding of folded weights.
//!
//! A node that absorbs others takes the place of the last of them, so the order stays topological without
//! sorting. What a rewrite leaves without readers stays until [`Graph::prune`].

mod fold_affine;
mod fuse_add;
mod fuse_relu;
mod pad_input;
mod simplify;
mod space_to_depth;
mod swap_average;

pub use fold_affine::fold_affine;
pub use fuse_add::fuse_add;
pub use fuse_relu::{fuse_relu_into_consumers, fuse_relu_into_producers};
pub use pad_input::pad_input;
pub use simplify::simplify;
pub use space_to_depth::space_to_depth;
pub use swap_average::swap_average;

use crate::{Error, Graph, NodeId};

/// A rewrite and what it does.
pub type Pass = (&'static str, fn(&mut Graph));

/// What [`swap_average`] does, by which a list of passes can leave it out.
pub const SWAP_AVERAGE: &str = "let a 1x1 convolution run before the average pool that feeds it";

/// The passes for running a network on a CPU, in order. Read from top to bottom: what happens to it.
pub const PASSES: &[Pass] = &[
    (
        "write norms as scale and shift, global pools and fully connected layers as windows over the map",
        simplify,
    ),
    ("fold scale and shift into the convolution beside it", fold_affine),
    (SWAP_AVERAGE, swap_average),
    ("add residuals where the last convolution stores its output", fuse_add),
    ("clamp at zero where a tensor is stored", fuse_relu_into_producers),
    ("clamp at zero where a tensor is read", fuse_relu_into_consumers),
    ("store the image with its first convolution's padding", pad_input),
];

/// Runs `passes`, removing what is no longer read and verifying the graph after each. Returns, for each node
/// that is left, the number that its place had before.
///
/// # Errors
///
/// [`Error::Graph`] if the graph is invalid or, which would be a bug, a rewritten one is.
pub fn run(passes: &[Pass], graph: &mut Graph) -> Result<Vec<NodeId>, Error> {
    graph.verify()?;
    let mut places: Vec<NodeId> = (0..graph.nodes.len()).collect();
    for (_, pass) in passes {
        pass(graph);
        places = graph.prune().into_iter().map(|id| places[id]).collect();
        graph.verify()?;
    }
    Ok(places)
}
