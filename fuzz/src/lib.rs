//! What the fuzz targets do with their inputs. Tests of the crates do the same with the corpus.

pub mod checkpoints;
pub mod data;

pub use checkpoints::read;
