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
    let infos = tensors(network);
    let header = header(metadata, kind, size, infos.iter().map(|info| (&*info.name, &*info.shape)));
    let mut lost = None;
    let written = super::replace_file(path, |file| {
        file.write_all(&header)?;
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

/// A tensor that is no part of a network: a value of a run of training, for instance.
#[derive(Clone, Copy, Debug)]
pub struct NamedTensor<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its dimensions.
    pub shape: &'a [usize],
    /// Its values, row-major.
    pub values: &'a [f32],
}

/// Writes tensors to a safetensors file in 32-bit floating point, as [`save`] writes those of a network.
///
/// # Errors
///
/// [`Error::Io`]; also where a shape is not that of its values.
pub fn save_tensors(tensors: &[NamedTensor<'_>], metadata: &Metadata, path: &Path) -> Result<(), Error> {
    if let Some(tensor) = tensors.iter().find(|t| t.shape.iter().product::<usize>() != t.values.len()) {
        let source = io::Error::new(io::ErrorKind::InvalidInput, format!("the shape of {}", tensor.name));
        return Err(Error::Io { path: path.to_owned(), source });
    }
    let header = header(metadata, "F32", size_of::<f32>(), tensors.iter().map(|t| (t.name, t.shape)));
    super::replace_file(path, |file| {
        file.write_all(&header)?;
        tensors.iter().try_for_each(|tensor| file.write_all(&encode(tensor.values, f32::to_le_bytes)))
    })
}

/// The length of the header and the header itself, of tensors of `size` bytes a value. In the order of the
/// names, so that equal networks are equal files; the crate `safetensors` has its metadata in an order of its
/// own each time.
fn header<'a>(
    metadata: &Metadata,
    kind: &str,
    size: usize,
    tensors: impl Iterator<Item = (&'a str, &'a [usize])>,
) -> Vec<u8> {
    let (mut header, mut at) = (serde_json::Map::new(), 0);
    if !metadata.0.is_empty() {
        let metadata = metadata.iter().map(|(key, value)| (key.to_owned(), value.into()));
        header.insert("__metadata__".to_owned(), serde_json::Value::Object(metadata.collect()));
    }
    for (name, shape) in tensors {
        let end = at + size * shape.iter().product::<usize>();
        let row = serde_json::json!({"dtype": kind, "shape": shape, "data_offsets": [at, end]});
        header.insert(name.to_owned(), row);
        at = end;
    }
    let mut header = serde_json::Value::Object(header).to_string();
    // The values begin at a multiple of eight.
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat()
}
