//! The safetensors format.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use burn::module::Module;
use burn::tensor::TensorData;
use half::{bf16, f16};
use inception_nn::{TensorInfo, read_tensors};
use safetensors::tensor::{Dtype as Kind, View};

use crate::entry::Dtype;
use crate::error::Error;
use crate::metadata::Metadata;

/// The values of a tensor in a dtype.
struct Values {
    kind: Kind,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for Values {
    fn dtype(&self) -> Kind {
        self.kind
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

impl Values {
    fn new(info: &TensorInfo, data: TensorData, dtype: &Dtype, path: &Path) -> Result<Self, Error> {
        let data = data.convert::<f32>();
        let values: &[f32] = bytemuck::cast_slice(data.as_bytes());
        let too_large = || Error::TooLarge { path: path.to_owned(), tensor: info.name.clone() };
        let (kind, bytes) = match dtype {
            Dtype::F32 => (Kind::F32, encode(values, f32::to_le_bytes)),
            Dtype::Bf16 => (Kind::BF16, encode(values, |v| bf16::from_f32(v).to_le_bytes())),
            Dtype::F16 => {
                let lost = values.iter().any(|&v| v.is_finite() && !f16::from_f32(v).is_finite());
                if lost {
                    return Err(too_large());
                }
                (Kind::F16, encode(values, |v| f16::from_f32(v).to_le_bytes()))
            }
            other => return Err(Error::UnwritableDtype { path: path.to_owned(), dtype: other.to_string() }),
        };
        Ok(Self { kind, shape: info.shape.clone(), bytes })
    }
}

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
    let mut tensors = Vec::new();
    read_tensors(network, |info, data| {
        tensors.push((info.name.clone(), Values::new(info, data, dtype, path)?));
        Ok::<_, Error>(())
    })?;
    let header: HashMap<_, _> = metadata.0.clone().into_iter().collect();
    safetensors::serialize_to_file(tensors, Some(header), path).map_err(|source| Error::Io {
        path: path.to_owned(),
        source: match source {
            safetensors::SafeTensorError::IoError(source) => source,
            other => std::io::Error::other(other),
        },
    })
}
