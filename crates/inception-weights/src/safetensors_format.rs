//! The safetensors format, in both directions.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::TensorData;
use inception_nn::{TensorInfo, read_tensors};
use safetensors::tensor::{Dtype as Kind, Metadata as Header, View};

use crate::checkpoint::{Checkpoint, Dtype, Entry, Format, Metadata};
use crate::error::Error;

/// The `safetensors` crate's own bound on the JSON at the start of a file.
const MAX_HEADER: u64 = 100_000_000;

pub(crate) fn open(path: PathBuf, mut file: File) -> Result<Checkpoint, Error> {
    let io = |source| Error::Io { path: path.clone(), source };
    let damaged =
        |reason: String| Error::Damaged { path: path.clone(), format: Format::Safetensors.name(), reason };
    let size = file.metadata().map_err(io)?.len();
    let mut length = [0; 8];
    file.seek(SeekFrom::Start(0)).map_err(io)?;
    file.read_exact(&mut length).map_err(io)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER.min(size - 8) {
        return Err(damaged(format!("a header of {length} bytes in a file of {size}")));
    }
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header).map_err(io)?;
    // Checks shapes against byte ranges, and that these follow one another without gap or overlap.
    let header: Header = serde_json::from_slice(&header).map_err(|e| damaged(e.to_string()))?;
    let data = 8 + length;
    let end = data + header.data_len() as u64;
    if end != size {
        return Err(damaged(format!("its tensors end at byte {end}, the file at {size}")));
    }
    let entries = header.offset_keys().into_iter().map(|key| {
        let info = header.info(&key).expect("its own key");
        Entry {
            shape: info.shape.clone(),
            dtype: match info.dtype {
                Kind::F32 => Dtype::F32,
                Kind::F16 => Dtype::F16,
                Kind::BF16 => Dtype::Bf16,
                Kind::F64 => Dtype::F64,
                other => Dtype::Other(format!("{other:?}").to_lowercase()),
            },
            offset: data + info.data_offsets.0 as u64,
            key,
        }
    });
    let metadata = header.metadata().clone().unwrap_or_default();
    Ok(Checkpoint {
        entries: entries.collect(),
        metadata: Metadata(metadata.into_iter().collect()),
        format: Format::Safetensors,
        path,
        file,
    })
}

struct Values(TensorInfo, TensorData);

impl View for Values {
    fn dtype(&self) -> Kind {
        Kind::F32
    }

    fn shape(&self) -> &[usize] {
        &self.0.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.1.as_bytes())
    }

    fn data_len(&self) -> usize {
        self.1.as_bytes().len()
    }
}

/// Writes all tensors of `network` under our own names, in 32-bit floating point, to a safetensors file: first beside
/// `path`, then renamed to it, so that no half-written file is ever there.
///
/// # Errors
///
/// [`Error::Io`].
pub fn save<M: Module>(network: &M, metadata: &Metadata, path: &Path) -> Result<(), Error> {
    let mut tensors = Vec::new();
    let read = read_tensors(network, |info, data| {
        tensors.push((info.name.clone(), Values(info.clone(), data.convert::<f32>())));
        Ok::<_, std::convert::Infallible>(())
    });
    let Ok(()) = read;
    let header: HashMap<_, _> = metadata.0.clone().into_iter().collect();
    safetensors::serialize_to_file(tensors, Some(header), path).map_err(|source| Error::Io {
        path: path.to_owned(),
        source: match source {
            safetensors::SafeTensorError::IoError(source) => source,
            other => std::io::Error::other(other),
        },
    })
}
