//! Accuracy over a dataset: counted exactly, in parts that can be stopped, continued and merged.
//!
//! The unit of work is a batch of the whole dataset: batch `k` always holds the same pictures, whoever
//! computes it. Shard `I` of `N` takes the batches with `k % N == I`, a run that continues takes those that
//! are missing. The rank and the loss of each picture are kept, and a run's figures are integer sums of
//! these. So the parts give exactly the figures of the whole, in whatever order they come.

mod against;
mod hash;
mod multilabel;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod settings;
pub(crate) mod state;
pub(crate) mod tally;

pub use against::{Against, Apart, Other, evaluate_against};
pub(crate) use hash::file_hash;
pub use hash::{dataset_hash, dataset_version};
pub use multilabel::{LabelRow, LabelTally};
pub use report::{ClassRow, ConfusionRow, Details, EvalReport, Exact, Wrong, merge};
pub use run::{EvalOptions, Evaluation, Progress, check_skipped, evaluate, run_batches};
pub use settings::{EvalSettings, Shard};
pub use state::StateFile;
pub use tally::{ClassCount, Misclassified, Outcome, Skipped, Tally};
