//! From one format to another.

use std::path::Path;

use inception_graph::with_storage_device;
use inception_nn::ModelSpec;

use crate::checkpoint::Checkpoint;
use crate::entry::Dtype;
use crate::error::Error;
use crate::format::Format;
use crate::load::{LoadOptions, Loaded, load_with};
use crate::metadata::Metadata;
use crate::save;

/// What [`convert`] has done.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Converted {
    /// Number of tensors in the new file.
    pub tensors: usize,
    /// Size of the new file.
    pub bytes: u64,
    /// What was loaded on the way.
    pub loaded: Loaded,
}

/// Loads `checkpoint` into `spec`'s network and writes it to `path` in `dtype`. The extension
/// decides the format: `.safetensors`, `.bpk` or `.onnx`. The checkpoint's metadata is kept, but for the scales
/// of a quantised file; that of `metadata` replaces it key by key. An auxiliary classifier of training is kept,
/// but in ONNX.
///
/// # Errors
///
/// Those of [`load`](crate::load); [`Error::UnknownTarget`] and [`Error::UnwritableDtype`] before anything is
/// read; [`Error::TooLarge`]; [`Error::Io`].
pub fn convert(
    spec: &ModelSpec,
    checkpoint: &Checkpoint,
    path: &Path,
    dtype: &Dtype,
    metadata: &Metadata,
) -> Result<Converted, Error> {
    convert_with(spec, checkpoint, path, dtype, metadata, LoadOptions::default())
}

/// As [`convert`], loaded with options.
///
/// # Errors
///
/// As [`convert`].
pub fn convert_with(
    spec: &ModelSpec,
    checkpoint: &Checkpoint,
    path: &Path,
    dtype: &Dtype,
    metadata: &Metadata,
    options: LoadOptions,
) -> Result<Converted, Error> {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_lowercase();
    let target = match extension.as_str() {
        "safetensors" => Format::Safetensors,
        "bpk" => Format::Burnpack,
        "onnx" => Format::Onnx,
        _ => return Err(Error::UnknownTarget { path: path.to_owned() }),
    };
    let can_hold = match target {
        Format::Safetensors => matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::Bf16),
        _ => *dtype == Dtype::F32,
    };
    if !can_hold {
        return Err(Error::UnwritableDtype { path: path.to_owned(), dtype: dtype.to_string() });
    }
    // Written while the device is there: tensors that the file lacks are made when they are asked for.
    let loaded = with_storage_device(|device| {
        // Formats that hold tensors keep what only training needs; operations are those of inference.
        let options = LoadOptions { auxiliary: target != Format::Onnx, ..options };
        let loaded = load_with(spec, checkpoint, device, options)?;
        let kept = checkpoint.metadata.clone().without_quantization();
        let own = metadata.iter().fold(kept, |all, (key, value)| all.with(key, value));
        let own = own
            .with_head(&loaded.network)
            .with_activation(loaded.activation)
            .with_labels_of(loaded.num_classes);
        match target {
            Format::Safetensors => save::safetensors::save_as(&loaded.network, &own, dtype, path)?,
            Format::Burnpack => save::burnpack::save(&loaded.network, &own, path)?,
            _ => save::onnx::save(&loaded.network, spec, &own, path)?,
        }
        Ok::<_, Error>(loaded)
    })?;
    let written = Checkpoint::open(path)?;
    Ok(Converted { tensors: written.entries.len(), bytes: written.input.len(), loaded })
}
