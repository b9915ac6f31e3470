//! The one error type of the crate.

use std::io;
use std::path::PathBuf;

/// What can be wrong with features or statistics.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Rows that are not whole, or no columns at all.
    #[error("{values} values are not rows of {dimensions} features")]
    Rows {
        /// Values given.
        values: usize,
        /// Features of a picture.
        dimensions: usize,
    },
    /// A feature that is not a number, infinite, or too large for the sums.
    #[error("feature {index} of a picture is {value}; features are finite and below 65536")]
    Value {
        /// The first feature of which it is so.
        index: usize,
        /// Its value.
        value: f32,
    },
    /// A mean or covariance that is not a finite number.
    #[error("{what} of the statistics has an entry that is {value}")]
    NotFinite {
        /// The mean or the covariance.
        what: &'static str,
        /// The entry.
        value: f64,
    },
    /// Statistics or features of different networks.
    #[error("one side has {first} features a picture, the other {second}")]
    Dimensions {
        /// Features of the first.
        first: usize,
        /// Features of the second.
        second: usize,
    },
    /// More features than a covariance is taken of.
    #[error("{dimensions} features a picture are more than {limit}", limit = crate::limits::MAX_DIMENSIONS)]
    TooWide {
        /// Features of a picture.
        dimensions: usize,
    },
    /// More pictures than the sums are exact for.
    #[error("more than {limit} pictures", limit = crate::limits::MAX_IMAGES)]
    TooMany,
    /// Fewer pictures than something is defined for.
    #[error("{what} needs at least {needed} pictures, and there are {found}")]
    TooFew {
        /// What was to be computed.
        what: &'static str,
        /// Pictures needed.
        needed: usize,
        /// Pictures there.
        found: usize,
    },
    /// A covariance that is none: the product of two has no root.
    #[error("the root of the covariances' product was not found; one of them is no covariance")]
    Eigenvalues,
    /// A file cannot be read or written.
    #[error("{}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is no array of NumPy's, or no statistics.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}
