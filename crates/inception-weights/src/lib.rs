//! Checkpoints of the Inception family: read, checked in full, loaded.
//!
//! [`Checkpoint::open`] lists what a file holds without reading its values; [`load`] builds the network that fits and
//! proves that every tensor of it came from the file and that the file had nothing else.
//!
//! ```
//! use burn::tensor::Device;
//!
//! let spec = inception_nn::model("GoogLeNet")?;
//! let network = spec.config().with_num_classes(3).init(&Device::flex())?;
//! let file = std::env::temp_dir().join("doc-googlenet.safetensors");
//! inception_weights::save(&network, &inception_weights::Metadata::of(spec), &file)?;
//!
//! let checkpoint = inception_weights::Checkpoint::open(&file)?;
//! let loaded = inception_weights::load(spec, &checkpoint, &Device::flex())?;
//! assert_eq!(loaded.num_classes, 3);
//! # std::fs::remove_file(file)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! No reader runs anything that a file contains, and none takes more memory than the file's own size allows for.

mod checkpoint;
mod dialect;
mod error;
mod format;
mod input;
mod load;

pub use checkpoint::{Checkpoint, Dtype, Entry, Format, Metadata};
pub use dialect::{Dialect, NameRow, name_table};
pub use error::{Error, Problem};
pub use format::burnpack::save as save_burnpack;
pub use format::safetensors::save;
pub use load::{LoadOptions, Loaded, likely_models, load, load_with};
