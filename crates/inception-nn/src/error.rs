/// What a network cannot be built or run as.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// No row of [`MODELS`](crate::MODELS) has this name.
    #[error("no model is named `{name}`; the nearest are {}", nearest.join(", "))]
    UnknownModel {
        /// The name asked for.
        name: String,
        /// The names that are most like it, best first.
        nearest: Vec<&'static str>,
    },
    /// The network has no stage of this name.
    #[error("there is no stage `{stage}`; the stages are {}", stages.join(", "))]
    UnknownStage {
        /// The name asked for.
        stage: String,
        /// The names of all stages.
        stages: Vec<String>,
    },
    /// A classifier of no classes.
    #[error("a network needs at least one class")]
    NoClasses,
    /// An output stride other than 32 for a network that has none to choose.
    #[error("{model} has a fixed output stride; only the deeplab networks take another")]
    FixedOutputStride {
        /// The network's name.
        model: &'static str,
    },
    /// An input at which some window of the network does not fit.
    #[error("an input of {height}x{width} is too small: the smallest that fits is {minimum}x{minimum}")]
    InputSize {
        /// Rows of the input.
        height: usize,
        /// Columns of the input.
        width: usize,
        /// The smallest side that fits.
        minimum: usize,
    },
    /// The auxiliary classifiers, which only training uses, have layers that take maps of some sizes only.
    #[error(
        "the auxiliary classifiers do not fit an input of {height}x{width}; the size of the published weights \
         is what they are made for (inference works at any size)"
    )]
    AuxiliarySize {
        /// Rows of the input.
        height: usize,
        /// Columns of the input.
        width: usize,
    },
}
