use crate::{DeviceKind, Precision};

/// What can go wrong between a picture and its class.
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
    /// The device does not compute in these numbers.
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
        path: std::path::PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The device failed while computing.
    #[error("the {device} device failed: {reason}")]
    Device {
        /// The device.
        device: DeviceKind,
        /// What it said.
        reason: String,
    },
    /// The network gave no numbers.
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
    /// A batch does not fit.
    #[error(
        "a batch of {batch} needs at least {needed_mb} MB, and {free_mb} MB are free; take a smaller --batch"
    )]
    Memory {
        /// Images a run.
        batch: usize,
        /// What the activations take, in units of 10^6 bytes.
        needed_mb: u64,
        /// What the system has left, in units of 10^6 bytes.
        free_mb: u64,
    },
}

impl From<inception_engine::graph::Error> for Error {
    fn from(error: inception_engine::graph::Error) -> Self {
        Self::Engine(error.into())
    }
}
