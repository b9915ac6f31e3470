//! How far two sets of pictures are apart, from their features: Fréchet distance (FID), kernel distance (KID),
//! Inception Score, precision and recall.
//!
//! The crate knows no pictures, networks or files but NumPy's. Features are rows of `f32`; everything computed
//! of them is `f64`.
//!
//! - `Sums` takes features in any order and in any parts, in bounded memory, and gives the same
//!   `Gaussian` to the bit: its sums are of integers.
//! - `frechet_distance` compares two of these.
//! - `kernel_distance`, [`inception_score`] and `precision_recall` need all features at once. Their subsets
//!   are drawn by a [`Draw`], so that a tool's random numbers can be repeated.
//! - [`npy`] and `npz` are NumPy's files, with what `pytorch-fid` and `guided-diffusion` write; `parquet` (a
//!   feature of that name) writes features with the paths of their pictures.
//!
//! All but [`Features`], [`npy`], `parquet` and [`inception_score`] needs the feature `distances`.
//!
//! ```
//! # #[cfg(feature = "distances")] {
//! use inception_metrics::Sums;
//!
//! let rows: Vec<f32> = (0..12).map(|n| (n * n % 7) as f32).collect();
//! let mut whole = Sums::new(3)?;
//! whole.add(&rows)?;
//! let (mut first, mut second) = (Sums::new(3)?, Sums::new(3)?);
//! first.add(&rows[6..])?;
//! second.add(&rows[..6])?;
//! first.merge(second)?;
//! assert_eq!(first.gaussian()?, whole.gaussian()?);
//! # }
//! # Ok::<(), inception_metrics::Error>(())
//! ```

#[cfg(feature = "distances")]
mod bootstrap;
mod draw;
mod error;
mod features;
#[cfg(feature = "distances")]
mod frechet;
#[cfg(feature = "distances")]
mod gaussian;
#[cfg(feature = "distances")]
mod kernel;
mod limits;
#[cfg(feature = "distances")]
mod neighbours;
pub mod npy;
#[cfg(feature = "distances")]
pub mod npz;
#[cfg(feature = "parquet")]
pub mod parquet;
#[cfg(feature = "distances")]
mod product;
mod score;
#[cfg(feature = "distances")]
mod sums;

pub use draw::Draw;
pub use error::Error;
pub use features::Features;
pub use limits::{MAX_DIMENSIONS, MAX_IMAGES};
pub use score::{Chunks, InceptionScore, Spread, inception_score};
#[cfg(feature = "distances")]
pub use {
    bootstrap::{Interval, bootstrap},
    frechet::{Frechet, frechet_distance},
    gaussian::Gaussian,
    kernel::{KernelDistance, KernelOptions, kernel_distance},
    neighbours::{PrecisionRecall, precision_recall},
    sums::Sums,
};
