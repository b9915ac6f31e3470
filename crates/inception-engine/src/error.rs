//! What can go wrong, as data.

use crate::{Isa, Precision};

/// Why a network was not compiled or did not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The graph is invalid, or the module could not be captured.
    #[error(transparent)]
    Graph(#[from] inception_graph::Error),
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
    /// `int8` was asked for without [`crate::Options::quantization`].
    #[error("precision int8 needs scales and zero points, which calibration finds; there are none here")]
    Uncalibrated,
    /// A [`crate::Quantization`] does not fit the network.
    #[error("node {node} cannot be quantised: it {reason}")]
    Quantization {
        /// The node.
        node: String,
        /// What is wrong.
        reason: &'static str,
    },
}
