//! The safetensors format.

use std::io::{self, Write};
use std::path::Path;

use burn::module::Module;
use half::{bf16, f16};
use inception_nn::{read_tensors, tensors};

use crate::entry::Dtype;
use crate::error::Error;
use crate::metadata::Metadata;

fn encode<const N: usize>(values: &[f32], bytes: impl Fn(f32) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|&value| bytes(value)).collect()
}

/// Writes all tensors of `network` under our own names to a safetensors file, in 32-bit floating point: first
/// beside `path`, then renamed to it, so that no half-written file is ever there.
///
/// # Errors
///
/// [`Error::Io`].
pub fn save<M: Module>(network: &M, metadata: &Metadata, path: &Path) -> Result<(), Error> {
    save_as(network, metadata, &Dtype::F32, path)
}

/// As [`save`], in [`F32`](Dtype::F32), [`F16`](Dtype::F16) or [`Bf16`](Dtype::Bf16), each value rounded to
/// the nearest.
///
/// # Errors
///
/// [`Error::Io`]; [`Error::TooLarge`] for a value that would become infinite; [`Error::UnwritableDtype`].
pub fn save_as<M: Module>(network: &M, metadata: &Metadata, dtype: &Dtype, path: &Path) -> Result<(), Error> {
    let (kind, size) = match dtype {
        Dtype::F32 => ("F32", 4),
        Dtype::Bf16 => ("BF16", 2),
        Dtype::F16 => ("F16", 2),
        other => return Err(Error::UnwritableDtype { path: path.to_owned(), dtype: other.to_string() }),
    };
    // In the order of the names, so that equal networks are equal files; the crate `safetensors` has its
    // metadata in an order of its own each time.
    let (mut header, mut at) = (serde_json::Map::new(), 0);
    if !metadata.0.is_empty() {
        let metadata = metadata.iter().map(|(key, value)| (key.to_owned(), value.into()));
        header.insert("__metadata__".to_owned(), serde_json::Value::Object(metadata.collect()));
    }
    for info in tensors(network) {
        let end = at + size * info.shape.iter().product::<usize>();
        let row = serde_json::json!({"dtype": kind, "shape": info.shape, "data_offsets": [at, end]});
        header.insert(info.name.clone(), row);
        at = end;
    }
    let mut header = serde_json::Value::Object(header).to_string();
    // The values begin at a multiple of eight.
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    let mut lost = None;
    let written = super::replace_file(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        read_tensors(network, |info, data| {
            let data = data.convert::<f32>();
            let values: &[f32] = bytemuck::cast_slice(data.as_bytes());
            match dtype {
                Dtype::F32 => file.write_all(&encode(values, f32::to_le_bytes)),
                Dtype::Bf16 => file.write_all(&encode(values, |v| bf16::from_f32(v).to_le_bytes())),
                _ => {
                    if values.iter().any(|&v| v.is_finite() && !f16::from_f32(v).is_finite()) {
                        lost = Some(info.name.clone());
                        return Err(io::ErrorKind::InvalidData.into());
                    }
                    file.write_all(&encode(values, |v| f16::from_f32(v).to_le_bytes()))
                }
            }
        })
    });
    match lost {
        Some(tensor) => Err(Error::TooLarge { path: path.to_owned(), tensor }),
        None => written,
    }
}
