//! How much can be summed.

/// The most pictures that `Sums` are exact for: 2^20.
pub const MAX_IMAGES: u64 = 1 << 20;

/// The most features of a picture that a covariance is taken of: it then has half a gigabyte.
pub const MAX_DIMENSIONS: usize = 1 << 13;
