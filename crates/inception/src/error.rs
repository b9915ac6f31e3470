use std::io;
use std::path::PathBuf;

use crate::device::DeviceKind;
use crate::eval::tally::Skipped;
use crate::precision::Precision;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The device was not compiled in.
    #[error("this build has no `{device}` device, a feature of that name; it has {}", DeviceKind::compiled_in().join(", "))]
    NoDevice {
        /// The device asked for.
        device: DeviceKind,
    },
    /// The machine has no such GPU, or no driver for it.
    #[error("the {device} device has {found} adapters{}", adapter.map_or_else(
        || ": no GPU, or no driver for it, was found".to_owned(),
        |index| format!(", counted from 0: there is no adapter {index}"),
    ))]
    NoAdapter {
        /// The device asked for.
        device: DeviceKind,
        /// The adapter asked for.
        adapter: Option<usize>,
        /// How many there are.
        found: usize,
    },
    /// The device does not compute in this element type.
    #[error("{precision} on the {device} device {reason}")]
    Precision {
        /// The device.
        device: DeviceKind,
        /// What was asked for.
        precision: Precision,
        /// What stands against it.
        reason: &'static str,
    },
    /// The weights do not load.
    #[error(transparent)]
    Weights(#[from] inception_weights::Error),
    /// The weights say something about themselves that cannot be read.
    #[error("the weights' own `{key}` cannot be read")]
    Metadata {
        /// The key in the file's metadata.
        key: &'static str,
        /// Why not.
        source: serde_json::Error,
    },
    /// There are not as many names as classes.
    #[error("{names} names for {classes} classes")]
    LabelCount {
        /// Names.
        names: usize,
        /// Classes of the network.
        classes: usize,
    },
    /// The network cannot be built or run.
    #[error(transparent)]
    Network(#[from] inception_nn::Error),
    /// The picture cannot be used.
    #[error(transparent)]
    Picture(#[from] inception_data::Error),
    /// The engine does not compile the network, or not for this machine.
    #[error(transparent)]
    Engine(#[from] inception_engine::Error),
    /// What was measured of the layers cannot be kept.
    #[error("the tuning cannot be kept in {}", path.display())]
    Tuning {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The device failed while computing.
    #[error("the {device} device failed: {reason}")]
    Device {
        /// The device.
        device: DeviceKind,
        /// What it said.
        reason: String,
    },
    /// A logit is infinite or not a number.
    #[error(
        "logit {class} is {value}: values left the range of the numbers computed in (f16 ends at 65504; f32 and bf16 go on), \
         or the weights hold such values"
    )]
    NotFinite {
        /// The first class of which it is so.
        class: usize,
        /// Its logit.
        value: f32,
    },
    /// A feature is infinite or not a number.
    #[error(
        "feature {index} of {image} is {value}: values left the range of the numbers computed in, or the weights hold \
         such values"
    )]
    Feature {
        /// The picture.
        image: String,
        /// The first feature of which it is so.
        index: usize,
        /// Its value.
        value: f32,
    },
    /// There is nothing to calibrate on.
    #[error("no picture could be used")]
    NoPictures,
    /// A file that is quantised already.
    #[error("{} is quantised already; what it was made of is needed", path.display())]
    Quantized {
        /// The file.
        path: PathBuf,
    },
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
        "{skipped} of {total} pictures could not be used, more than {:.1} %; the first is {}: {}",
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
    /// The state of a run cannot be used.
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
    #[error("the state cannot be read: {source}")]
    Io {
        /// What the operating system said.
        source: io::Error,
    },
    /// It cannot be written.
    #[error(
        "the state cannot be written: {source}; the finished batches are in it ({kept} bytes), the \
         same command goes on from there once there is room"
    )]
    Write {
        /// Bytes of the file that are whole.
        kept: u64,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another process has it.
    #[error("another process uses this state; each needs a file of its own")]
    InUse,
    /// It is some other file.
    #[error("this is not the state of such a run; it was left as it is")]
    Foreign,
    /// It is the state of another run.
    #[error("this is the state of another run: its {what} is {theirs}, not {ours}; choose another file")]
    Other {
        /// What differs.
        what: String,
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
    #[error("{} is neither the state nor the JSON result of an evaluation", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A part that has not come to its end.
    #[error("{} is not finished: {missing} of {total} batches are missing", path.display())]
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
        what: String,
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

impl From<inception_engine::graph::Error> for Error {
    fn from(error: inception_engine::graph::Error) -> Self {
        Self::Engine(error.into())
    }
}
