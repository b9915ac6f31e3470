//! What can go wrong, as data.

use crate::{Isa, Precision};

/// Why a network was not compiled or did not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The captured graph holds an operation that the engine does not implement.
    #[error("operation {op} (number {index} of the captured graph) is not supported: {reason}")]
    Unsupported {
        /// The operation's name in Burn's intermediate representation.
        op: String,
        /// Its place in the captured graph, from zero.
        index: usize,
        /// What about it is unsupported.
        reason: String,
    },
    /// A graph breaks a rule: a shape does not fit, an input is missing, an order is wrong.
    #[error("node {node} ({op}): {reason}")]
    Graph {
        /// The node's name.
        node: String,
        /// Its operation.
        op: &'static str,
        /// The rule that it breaks.
        reason: String,
    },
    /// Burn could not capture the module.
    #[error("the module could not be captured: {0}")]
    Capture(String),
    /// An input's length is not that of `batch` images.
    #[error("the {what} holds {found} floats; a batch of {batch} needs {wanted}")]
    Length {
        /// `input` or `output`.
        what: &'static str,
        /// Floats that were passed.
        found: usize,
        /// Floats that the batch needs.
        wanted: usize,
        /// Images.
        batch: usize,
    },
    /// A batch of none, or of more than the model was compiled for.
    #[error("a batch of {batch} images; this model was compiled for 1 to {max}")]
    Batch {
        /// Images that were passed.
        batch: usize,
        /// `Options::max_batch`.
        max: usize,
    },
    /// `INCEPTION_ISA` or [`crate::Options::isa`] names an instruction set that does not exist or that this
    /// CPU lacks.
    #[error("instruction set {name:?} {reason}; this CPU runs {available}")]
    Isa {
        /// The name.
        name: String,
        /// Unknown, or lacking here.
        reason: &'static str,
        /// What there is to choose from.
        available: String,
    },
    /// The precision that was asked for cannot be used here.
    #[error("precision {precision} {reason}; f32 runs here, on {isa}")]
    Precision {
        /// What was asked for.
        precision: Precision,
        /// The instruction set that would have been used.
        isa: Isa,
        /// What stands against it.
        reason: &'static str,
    },
}
