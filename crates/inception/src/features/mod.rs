//! Features of pictures, a vector each: an iterator of batches, and whole datasets in parts that can be
//! stopped and continued.
//!
//! Batches are those of an evaluation: batch `k` always holds the same pictures, shard `I` of `N` takes the
//! batches with `k % N == I`, and a run that continues takes those that are missing.

mod batches;
mod extract;
mod extractor;
mod protocol;
mod state;

pub use batches::{FeatureBatch, FeatureBatches};
pub use extract::{ExtractOptions, ExtractProgress, Extraction, extract};
pub use extractor::{FeatureExtractor, Preparation};
pub use protocol::{FidProtocol, Generator, PROTOCOLS};
pub use state::{FeatureSettings, FeatureState};
