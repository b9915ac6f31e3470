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

// Without networks there are the readers alone, for the fuzz targets: what they find is then used by no one.
#![cfg_attr(not(feature = "network"), allow(dead_code))]

#[cfg(feature = "download")]
mod cache;
mod checkpoint;
#[cfg(feature = "network")]
mod convert;
#[cfg(feature = "network")]
mod dialect;
mod error;
mod folder;
mod format;
mod graph;
mod input;
#[cfg(feature = "network")]
mod load;
#[cfg(feature = "network")]
mod save;

#[cfg(feature = "download")]
pub use cache::{Cache, Progress};
pub use checkpoint::{Checkpoint, Dtype, Entry, Format, Metadata};
pub use error::{Error, Problem};
pub use folder::cache_folder;
#[cfg(feature = "network")]
pub use {
    convert::{Converted, convert},
    dialect::{Dialect, NameRow, name_table},
    load::{LoadOptions, Loaded, likely_models, load, load_with},
    save::burnpack::save as save_burnpack,
    save::onnx::save as save_onnx,
    save::safetensors::{save, save_as},
};
