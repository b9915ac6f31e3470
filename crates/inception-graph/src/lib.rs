//! The structure of a convolutional network as data.
//!
//! A [`Graph`] is a list of operations in topological order. It is generic over what it holds of a weight
//! ([`Weight`]): a
//! [`Parameter`] is a name and a shape, a `Vec<f32>` is the values. Graphs come from
//!
//! - a Burn module, whose `forward` is recorded ([`capture`] and [`capture_init`] with values,
//!   [`capture_structure`] with names; they need the feature `capture`, and nothing else in this crate needs
//!   Burn);
//! - a file, as readers of ONNX and Paddle programs build them;
//! - [`Graph::add`], by hand.
//!
//! What can be asked of a graph: [shapes](Graph::infer_shapes), [multiply-adds](Graph::macs), [the smallest
//! input](Graph::minimum_input), [peak memory](Graph::peak_activations), and [which weight of another graph
//! is which of this one](match_graphs). What can be done to it: [`passes`]. What it computes, by definition
//! and in `f64`: [`reference`](mod@reference).
//!
//! ```
//! use inception_graph::{Conv, Graph, Op, Shape, Window};
//!
//! let mut graph = Graph::new(Shape::new(32, 32, 3));
//! let weight = vec![0.1; 8 * 3 * 3 * 3];
//! let conv = Conv { out_channels: 8, ..Conv::new(weight, Window::square(3, 2, 1)) };
//! let conv = graph.add("stem", Op::Conv(Box::new(conv)), &[0])?;
//! graph.add("relu", Op::Relu, &[conv])?;
//!
//! assert_eq!(graph.nodes[graph.output].shape, Shape::new(16, 16, 8));
//! assert_eq!(graph.macs(), 16 * 16 * 8 * 3 * 3 * 3);
//! # Ok::<(), inception_graph::Error>(())
//! ```

#[cfg(feature = "capture")]
mod capture;
mod error;
mod graph;
pub mod integers;
mod matching;
mod op;
#[doc(hidden)]
pub mod parallel;
pub mod passes;
mod query;
pub mod reference;
mod window;

#[cfg(feature = "capture")]
pub use capture::{capture, capture_init, capture_structure, with_storage_device};
pub use error::Error;
pub use graph::{Graph, Node, NodeId, Shape};
pub use matching::{Binding, ExtraBias, Matching, match_graphs};
pub use op::{BatchNorm, Conv, Linear, Op, Parameter, Pool, PoolKind, Weight};
pub use window::Window;
