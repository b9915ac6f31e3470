//! A checkpoint as a list of named byte ranges of a file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use inception_nn::ModelSpec;

use crate::error::Error;
use crate::safetensors_format;

/// How a file is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// <https://github.com/huggingface/safetensors>
    Safetensors,
}

impl Format {
    /// As messages call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
        }
    }
}

/// The kind of a tensor's numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// 32-bit floating point.
    F32,
    /// 16-bit floating point.
    F16,
    /// The upper half of 32-bit floating point.
    Bf16,
    /// 64-bit floating point.
    F64,
    /// Anything else, by the file's own name for it.
    Other(String),
}

impl Dtype {
    fn size(&self) -> Option<usize> {
        match self {
            Self::F16 | Self::Bf16 => Some(2),
            Self::F32 => Some(4),
            Self::F64 => Some(8),
            Self::Other(_) => None,
        }
    }
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::F64 => "f64",
            Self::Other(name) => name,
        })
    }
}

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key under which the file has it.
    pub key: String,
    /// Its dimensions, outermost first.
    pub shape: Vec<usize>,
    /// The kind of its numbers.
    pub dtype: Dtype,
    /// Where its bytes start in the file: little-endian, row-major, without gaps.
    pub(crate) offset: u64,
}

/// What our own files say about themselves, beside their tensors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata(pub(crate) BTreeMap<String, String>);

impl Metadata {
    const MODEL: &str = "model";
    /// The key under which a file says what its weights expect of a picture.
    pub const PREPROCESSING: &str = "preprocessing";

    /// That the file is of `spec`'s network.
    pub fn of(spec: &ModelSpec) -> Self {
        Self(BTreeMap::from([(Self::MODEL.to_owned(), spec.name.to_owned())]))
    }

    /// The row of [`inception_nn::MODELS`] that the weights are of, where the file says so.
    pub fn model(&self) -> Option<&str> {
        self.0.get(Self::MODEL).map(String::as_str)
    }

    /// What the weights expect of a picture, as the JSON of `inception_data::Preprocessing`, where the file says so.
    pub fn preprocessing(&self) -> Option<&str> {
        self.0.get(Self::PREPROCESSING).map(String::as_str)
    }
}

/// An opened checkpoint: its tensors are known, their values still in the file.
#[derive(Debug)]
pub struct Checkpoint {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    /// The layout, found from the content.
    pub format: Format,
    /// What the file says about itself.
    pub metadata: Metadata,
    /// The tensors, in the file's order.
    pub entries: Vec<Entry>,
}

impl Checkpoint {
    /// Finds out what a file is and lists its tensors.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::UnknownFormat`] and [`Error::Damaged`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref().to_path_buf();
        let io = |source| Error::Io { path: path.clone(), source };
        let mut file = File::open(&path).map_err(io)?;
        if file.metadata().map_err(io)?.is_dir() {
            return Err(Error::UnknownFormat { path, found: "a folder" });
        }
        let mut start = Vec::with_capacity(16);
        (&mut file).take(16).read_to_end(&mut start).map_err(io)?;
        match &start[..] {
            [] => Err(Error::UnknownFormat { path, found: "an empty file" }),
            // An 8-byte length, then that much JSON.
            [_, _, _, _, _, _, _, _, b'{', ..] => safetensors_format::open(path, file),
            _ => Err(Error::UnknownFormat { path, found: "not a known format" }),
        }
    }

    /// The values of a tensor as 32-bit floating point, read now.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], and [`Error::Damaged`] for numbers that are not floating point.
    pub fn values(&self, entry: &Entry) -> Result<Vec<f32>, Error> {
        let size = entry.dtype.size().ok_or_else(|| Error::Damaged {
            path: self.path.clone(),
            format: self.format.name(),
            reason: format!("`{}` holds {}", entry.key, entry.dtype),
        })?;
        // The reader has checked that this many bytes are there, so that the product cannot overflow.
        let mut bytes = vec![0; entry.shape.iter().product::<usize>() * size];
        let mut file = &self.file;
        file.seek(SeekFrom::Start(entry.offset))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|source| Error::Io { path: self.path.clone(), source })?;
        Ok(match entry.dtype {
            Dtype::F32 => decode(&bytes, f32::from_le_bytes),
            Dtype::F16 => decode(&bytes, |b| f16::from_le_bytes(b).to_f32()),
            Dtype::Bf16 => decode(&bytes, |b| bf16::from_le_bytes(b).to_f32()),
            Dtype::F64 => decode(&bytes, |b| f64::from_le_bytes(b) as f32),
            Dtype::Other(_) => unreachable!("has no size"),
        })
    }
}

fn decode<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    let (chunks, _) = bytes.as_chunks::<N>();
    chunks.iter().map(|&chunk| value(chunk)).collect()
}
