use std::io;
use std::path::PathBuf;

use crate::eval::Skipped;

/// What can go wrong while evaluating.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// The network cannot be built or run.
    #[error(transparent)]
    Run(#[from] crate::Error),

    /// The dataset cannot be used.
    #[error(transparent)]
    Data(#[from] inception_data::Error),

    /// A label that the network does not have.
    #[error("a picture has the label {label}, and the network has {classes} classes, from 0")]
    Label {
        /// The label.
        label: u32,
        /// Number of classes of the network.
        classes: usize,
    },

    /// The network gives another number of scores than there should be.
    #[error("the network gives {found} scores where {expected} were expected")]
    Scores {
        /// Scores expected.
        expected: usize,
        /// Scores given.
        found: usize,
    },

    /// More pictures could not be used than are allowed to.
    #[error(
        "{skipped} of {total} pictures could not be used, more than {:.1} % (--max-skipped); the first is {}: {}",
        limit * 100.0, first.image, first.reason
    )]
    TooManySkipped {
        /// Pictures that could not be used so far.
        skipped: u64,
        /// Pictures in all.
        total: u64,
        /// Share that is allowed.
        limit: f64,
        /// The first of them.
        first: Skipped,
    },

    /// The state of the evaluation cannot be used.
    #[error("{}: {problem}", path.display())]
    State {
        /// Its file.
        path: PathBuf,
        /// Why not.
        problem: StateProblem,
    },

    /// Parts that do not belong together.
    #[error("cannot merge: {problem}")]
    Merge {
        /// Why not.
        problem: MergeProblem,
    },
}

/// Why a state file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateProblem {
    /// It cannot be opened or read.
    #[error("the state of the evaluation cannot be read: {source}")]
    Io {
        /// What the operating system said.
        source: io::Error,
    },
    /// It cannot be written.
    #[error(
        "the state of the evaluation cannot be written: {source}; the finished batches are in it ({kept} bytes), the \
         same command goes on from there once there is room"
    )]
    Write {
        /// Bytes of the file that are whole.
        kept: u64,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another process has it.
    #[error("another process is evaluating with this state; each needs a file of its own")]
    InUse,
    /// It is some other file.
    #[error("this is not the state of an evaluation; it was left as it is")]
    Foreign,
    /// It is the state of another evaluation.
    #[error(
        "this is the state of another evaluation: its {what} is {theirs}, not {ours}; choose another file"
    )]
    Other {
        /// What differs.
        what: &'static str,
        /// What the file has.
        theirs: String,
        /// What was asked for.
        ours: String,
    },
}

/// Why parts cannot be merged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MergeProblem {
    /// Neither a state nor a result.
    #[error("{} is neither the state nor the --json result of an evaluation", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A part that has not come to its end.
    #[error("{} is not finished: {missing} of {total} batches are missing; run it again with --resume", path.display())]
    Unfinished {
        /// The file.
        path: PathBuf,
        /// Batches that are missing.
        missing: usize,
        /// Batches of the part.
        total: usize,
    },
    /// Parts of different evaluations.
    #[error("{} and {} differ in {what}: {first_value} and {second_value}", first.display(), second.display())]
    Different {
        /// One file.
        first: PathBuf,
        /// The other one.
        second: PathBuf,
        /// What differs.
        what: &'static str,
        /// What one has.
        first_value: String,
        /// What the other one has.
        second_value: String,
    },
    /// The same part twice.
    #[error("{} and {} are both shard {shard}", first.display(), second.display())]
    Twice {
        /// One file.
        first: PathBuf,
        /// The other one.
        second: PathBuf,
        /// The part.
        shard: String,
    },
    /// A part that nobody gave.
    #[error("of {count} shards these are missing: {}", missing.join(", "))]
    Missing {
        /// Number of parts.
        count: usize,
        /// Those missing.
        missing: Vec<String>,
    },
    /// No file at all.
    #[error("there is nothing to merge")]
    Nothing,
}
