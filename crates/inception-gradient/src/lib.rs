//! Trains graphs of convolutional networks on the CPU.
//!
//! A [`Trainer`] is made of a graph with the names of its weights, as `inception_graph::capture_structure`
//! records it from a Burn module. [`Trainer::forward`] computes the output in training mode, and
//! [`Trainer::backward`] from the gradient of the output those of all weights. The loss and what is done with
//! the gradients are the caller's. In single precision, or in double for comparisons.
//!
//! ```
//! use inception_gradient::{Options, Trainer};
//! use inception_graph::{Graph, Linear, Op, Parameter, Shape};
//!
//! let mut graph = Graph::new(Shape::new(1, 1, 2));
//! let weight = Parameter { name: "fc".into(), shape: vec![2, 1] };
//! let linear = Linear { weight, bias: None, out_features: 1, transposed: false };
//! graph.add("fc", Op::Linear(Box::new(linear)), &[0])?;
//!
//! let mut trainer = Trainer::<f32>::new(&graph, &Options::default())?;
//! trainer.values_mut(0).copy_from_slice(&[3.0, 5.0]);
//! assert_eq!(trainer.forward(&[1.0, 2.0], 1, 0), [13.0]);
//! trainer.backward(&[1.0]);
//! assert_eq!(trainer.gradient(0), [1.0, 2.0]);
//! # Ok::<(), inception_gradient::Error>(())
//! ```
//!
//! # How it is fast
//!
//! Activations are pixels by channels, so that each of the three products of a convolution reads them where
//! they lie: the output and the gradient of the input by tiles of pixels, whose rows are pointers, the
//! gradient of the weights by tiles of weights. Only weights are packed. Norm and ReLU are one; branches are
//! written where they are concatenated; gradients take the place of those that they follow from.

#![allow(unsafe_code)] // Kernels, and threads that share a tensor. Each use says why it is sound.

mod backward;
mod conv;
mod error;
mod forward;
mod isa;
mod kernels;
mod layers;
mod memory;
mod multiversion;
mod places;
mod pool;
mod real;
mod rows;
mod simd;
mod trainer;
mod window;

pub use error::Error;
pub use real::Real;
pub use trainer::{Options, Trainer};
