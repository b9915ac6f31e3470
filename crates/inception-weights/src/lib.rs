//! Checkpoints of the Inception family: read, checked in full, loaded, converted.
//!
//! [`Checkpoint::open`] lists the tensors of a file without reading their values. [`load`] builds the network
//! and checks that each of its tensors comes from the file and that the file has no others.
//!
//! ```
//! use inception_nn::with_storage_device;
//!
//! let spec = inception_nn::model("GoogLeNet")?;
//! let file = std::env::temp_dir().join("doc-googlenet.safetensors");
//! // Any device of Burn will do; this one holds values and computes nothing.
//! with_storage_device(|device| {
//!     let network = spec.config().with_num_classes(3).init(device)?;
//!     inception_weights::save(&network, &inception_weights::Metadata::of(spec), &file)?;
//!
//!     let checkpoint = inception_weights::Checkpoint::open(&file)?;
//!     let loaded = inception_weights::load(spec, &checkpoint, device)?;
//!     assert_eq!(loaded.num_classes, 3);
//! #   std::fs::remove_file(&file)?;
//!     Ok::<(), Box<dyn std::error::Error>>(())
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! No reader runs code that a file contains, and the memory of each is bounded by the size of the file.

// Without networks only the readers are compiled, for the fuzz targets, and some of what they find is unused.
#![cfg_attr(not(feature = "network"), allow(dead_code))]

#[cfg(feature = "download")]
mod cache;
mod checkpoint;
#[cfg(feature = "network")]
mod convert;
mod entry;
mod error;
#[cfg(feature = "network")]
mod folder;
mod format;
mod graph;
mod input;
#[cfg(feature = "network")]
mod key_scheme;
mod latin1;
#[cfg(feature = "network")]
mod load;
mod metadata;
#[cfg(feature = "network")]
mod save;
mod strides;
mod surroundings;

#[cfg(feature = "download")]
pub use cache::{Cache, Progress};
pub use checkpoint::Checkpoint;
pub use entry::{Dtype, Entry};
pub use error::{Error, Problem};
pub use format::Format;
pub use metadata::Metadata;
pub use surroundings::{Activation, Surroundings};
#[cfg(feature = "network")]
pub use {
    convert::{Converted, convert, convert_with},
    folder::cache_folder,
    key_scheme::{KeyRow, KeyScheme, key_table},
    load::{
        ActivationScales, LoadOptions, Loaded, activation_scales, fitting_models, likely_models, load,
        load_with, num_classes,
    },
    save::PartFile,
    save::burnpack::save as save_burnpack,
    save::onnx::quantized::{QuantizedNetwork, save as save_quantized_onnx},
    save::onnx::save as save_onnx,
    save::safetensors::{NamedTensor, save, save_as, save_quantized, save_tensors},
};
