//! Compiles convolutional Burn modules for the CPU.

#[cfg(feature = "capture")]
mod capture;
mod compiled;
mod error;
pub mod graph;
mod kernels;
mod memory;
mod passes;
mod plan;
mod steps;
mod threads;

#[cfg(feature = "capture")]
pub use capture::capture;
pub use compiled::{Compiled, LayerTime, Options};
pub use error::Error;
pub use graph::Shape;
pub use kernels::isa::Isa;
pub use plan::Row;
pub use threads::Threads;
