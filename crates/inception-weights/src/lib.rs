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

#[cfg(feature = "download")]
mod cache;
mod checkpoint;
mod convert;
mod dialect;
mod error;
mod format;
mod graph;
mod input;
mod load;

#[cfg(feature = "download")]
pub use cache::{Cache, Progress};
pub use checkpoint::{Checkpoint, Dtype, Entry, Format, Metadata};
pub use convert::{Converted, convert};
pub use dialect::{Dialect, NameRow, name_table};
pub use error::{Error, Problem};
pub use format::burnpack::save as save_burnpack;
pub use format::onnx::save as save_onnx;
pub use format::safetensors::save;
pub use load::{LoadOptions, Loaded, likely_models, load, load_with};

/// Writes a file beside `path`, then renames it to it, so that no half-written file is ever there.
fn write_whole(
    path: &std::path::Path,
    write: impl FnOnce(&mut std::io::BufWriter<std::fs::File>) -> std::io::Result<()>,
) -> Result<(), Error> {
    use std::io::Write;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    let result = std::fs::File::create(&part).map(std::io::BufWriter::new).and_then(|mut file| {
        write(&mut file)?;
        file.flush()?;
        file.get_ref().sync_all()?;
        std::fs::rename(&part, path)
    });
    result.map_err(|source| {
        // Nothing is left to do if it cannot be removed, or was never there.
        let _ = std::fs::remove_file(&part);
        Error::Io { path: path.to_owned(), source }
    })
}
