//! The safetensors format.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

use burn::module::Module;
use half::{bf16, f16};
use inception_nn::{Network, TensorInfo, read_tensors, tensors};

use crate::entry::Dtype;
use crate::error::Error;
use crate::format::safetensors::SCALES;
use crate::metadata::Metadata;
use crate::save::integers::integers;

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
/// the nearest; or in [`I8`](Dtype::I8): weights of convolutions and fully connected layers as integers from -127 to
/// 127 with a scale for each output channel, as [`integer_weights`](inception_graph::integers::integer_weights) makes
/// them, and all else in single precision.
///
/// # Errors
///
/// [`Error::Io`]; [`Error::TooLarge`] for a value that would become infinite; [`Error::UnwritableDtype`].
pub fn save_as<M: Module>(network: &M, metadata: &Metadata, dtype: &Dtype, path: &Path) -> Result<(), Error> {
    save_by(network, metadata, dtype, |info| stored(dtype, &info.shape), path)
}

/// As [`save_as`] in [`I8`](Dtype::I8), with the weights of the layers `floats` in single precision.
///
/// # Errors
///
/// [`Error::Io`].
pub fn save_quantized(
    network: &Network,
    metadata: &Metadata,
    floats: &BTreeSet<String>,
    path: &Path,
) -> Result<(), Error> {
    let stored = |info: &TensorInfo| match info.name.rsplit_once('.') {
        Some((layer, "weight")) if floats.contains(layer) => &Dtype::F32,
        _ => stored(&Dtype::I8, &info.shape),
    };
    save_by(network, metadata, &Dtype::I8, stored, path)
}

fn save_by<'a, M: Module>(
    network: &M,
    metadata: &Metadata,
    dtype: &Dtype,
    stored: impl Fn(&TensorInfo) -> &'a Dtype,
    path: &Path,
) -> Result<(), Error> {
    if let Dtype::F64 | Dtype::Other(_) = dtype {
        return Err(Error::UnwritableDtype { path: path.to_owned(), dtype: dtype.to_string() });
    }
    let infos = tensors(network);
    let rows = infos.iter().flat_map(|info| {
        let dtype = stored(info);
        let scales =
            (*dtype == Dtype::I8).then(|| (format!("{}{SCALES}", info.name), &Dtype::F32, &info.shape[..1]));
        std::iter::once((info.name.clone(), dtype, &info.shape[..])).chain(scales)
    });
    let header = header(metadata, rows);
    let mut lost = None;
    let written = super::replace_file(path, |file| {
        file.write_all(&header)?;
        read_tensors(network, |info, data| {
            let data = data.convert::<f32>();
            let values: &[f32] = bytemuck::cast_slice(data.as_bytes());
            match stored(info) {
                Dtype::F32 => file.write_all(&encode(values, f32::to_le_bytes)),
                Dtype::Bf16 => file.write_all(&encode(values, |v| bf16::from_f32(v).to_le_bytes())),
                Dtype::I8 => {
                    let (integers, scales) = integers(values, &info.shape);
                    file.write_all(&integers)?;
                    file.write_all(&encode(&scales, f32::to_le_bytes))
                }
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
    let rows = tensors.iter().map(|tensor| (tensor.name.to_owned(), &Dtype::F32, tensor.shape));
    let header = header(metadata, rows);
    super::replace_file(path, |file| {
        file.write_all(&header)?;
        tensors.iter().try_for_each(|tensor| file.write_all(&encode(tensor.values, f32::to_le_bytes)))
    })
}

/// The length of the header and the header itself, of tensors one after the other. In the order of the names,
/// so that equal networks are equal files; the crate `safetensors` has its metadata in an order of its own each
/// time.
fn header<'a>(
    metadata: &Metadata,
    tensors: impl Iterator<Item = (String, &'a Dtype, &'a [usize])>,
) -> Vec<u8> {
    let (mut header, mut at) = (serde_json::Map::new(), 0);
    if !metadata.0.is_empty() {
        let metadata = metadata.iter().map(|(key, value)| (key.to_owned(), value.into()));
        header.insert("__metadata__".to_owned(), serde_json::Value::Object(metadata.collect()));
    }
    for (name, dtype, shape) in tensors {
        let size = dtype.size().unwrap_or_default() as usize;
        let end = at + size * shape.iter().product::<usize>();
        let kind = dtype.to_string().to_uppercase();
        header.insert(name, serde_json::json!({"dtype": kind, "shape": shape, "data_offsets": [at, end]}));
        at = end;
    }
    let mut header = serde_json::Value::Object(header).to_string();
    // The values begin at a multiple of eight.
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat()
}

/// The type in which a tensor of `shape` is written: `i8` is for the weights of convolutions.
fn stored<'a>(dtype: &'a Dtype, shape: &[usize]) -> &'a Dtype {
    if *dtype == Dtype::I8 && shape.len() < 2 { &Dtype::F32 } else { dtype }
}
