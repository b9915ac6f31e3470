//! A checkpoint as a list of named byte ranges of a file.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use half::{bf16, f16};

use inception_graph::{Graph, Parameter};

use crate::error::Error;
use crate::format;
use crate::input::{Fault, Input, damaged};

/// How a file is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// <https://github.com/huggingface/safetensors>
    Safetensors,
    /// PaddlePaddle's `.pdparams`: a pickle of NumPy arrays.
    Pdparams,
    /// PaddlePaddle's inference pair: `inference.json` or `inference.pdmodel` beside `inference.pdiparams`.
    PaddleInference,
    /// PyTorch's `.pth` or `.pt`: a zip of a pickle and the storages that it refers to.
    PyTorch,
    /// What PyTorch wrote before version 1.6: pickles, followed by the storages.
    PyTorchLegacy,
    /// Burn's own `.bpk`.
    Burnpack,
    /// ONNX.
    Onnx,
}

impl Format {
    /// As messages call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::Pdparams => "pdparams",
            Self::PaddleInference => "Paddle inference model",
            Self::PyTorch => "PyTorch checkpoint",
            Self::PyTorchLegacy => "legacy PyTorch checkpoint",
            Self::Burnpack => "burnpack",
            Self::Onnx => "ONNX model",
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
    pub(crate) fn size(&self) -> Option<u64> {
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

/// Where a tensor's bytes are: little-endian, without gaps.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    /// In the file as they are, from this offset on.
    At(u64),
    /// As the characters of UTF-8 text: how Python 3 pickles bytes under protocol 2.
    Latin1 { offset: u64, len: u64 },
    /// In pieces, each with its number of bytes, one after the other.
    Pieces(Vec<(Source, u64)>),
}

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key under which the file has it.
    pub key: String,
    /// Its dimensions, outermost first.
    pub shape: Vec<usize>,
    /// The kind of its numbers.
    pub dtype: Dtype,
    pub(crate) source: Source,
    /// The distance between neighbours along each dimension; row-major if absent.
    pub(crate) strides: Option<Vec<usize>>,
}

impl Entry {
    /// A tensor at `offset` of `input`, all of whose bytes are there.
    pub(crate) fn checked(
        input: &Input,
        key: String,
        shape: &[u64],
        dtype: Dtype,
        source: Source,
    ) -> Result<Self, Fault> {
        let count = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
        let bytes = count.and_then(|n| n.checked_mul(dtype.size().unwrap_or(1)));
        let Some(bytes) = bytes.filter(|&bytes| bytes <= 2 * input.len()) else {
            return damaged(format!("`{key}` {shape:?} is larger than the file"));
        };
        source
            .check(input, bytes, dtype.size().is_some())
            .or_else(|reason| damaged(format!("`{key}` {shape:?} {reason}")))?;
        let shape = shape.iter().map(|&d| d as usize).collect(); // Fits: the product does, or is zero.
        Ok(Self { key, shape, dtype, source, strides: None })
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Source {
    /// Whether `bytes` can be there; `exact` if the number is right and not a lower bound.
    fn check(&self, input: &Input, bytes: u64, exact: bool) -> Result<(), String> {
        match self {
            Self::At(offset) => match offset.checked_add(bytes) {
                Some(end) if end <= input.len() => Ok(()),
                _ => {
                    Err(format!("of {bytes} bytes at {offset} ends beyond the file's {} bytes", input.len()))
                }
            },
            // A character of one or two bytes for each byte.
            Self::Latin1 { len, .. } => match exact && !(bytes..=bytes.saturating_mul(2)).contains(len) {
                true => Err(format!("of {bytes} bytes has {len} bytes of text")),
                false => Ok(()),
            },
            Self::Pieces(pieces) => {
                let sum = pieces.iter().try_fold(0u64, |sum, (_, bytes)| sum.checked_add(*bytes));
                match sum == Some(bytes) || !exact {
                    true => Ok(()),
                    false => Err(format!("of {bytes} bytes does not consist of its pieces")),
                }
            }
        }
    }

    fn fill(&self, input: &Input, buffer: &mut [u8]) -> Result<(), Fault> {
        match self {
            Self::At(offset) => Ok(input.read_at(*offset, buffer)?),
            Self::Latin1 { offset, len } => {
                let bad = || Fault::at(*offset, "text that does not stand for so many bytes");
                let mut decoder = Latin1 { bytes: buffer, done: 0, last: 0, wrong: false };
                let end = offset + len; // The reader has checked that the file has them.
                let mut block = vec![0; (Latin1::BLOCK).min(*len as usize)];
                for at in (*offset..end).step_by(Latin1::BLOCK) {
                    let block = &mut block[..(end - at).min(Latin1::BLOCK as u64) as usize];
                    input.read_at(at, block)?;
                    decoder.text(block);
                }
                if decoder.is_whole() { Ok(()) } else { Err(bad()) }
            }
            Self::Pieces(pieces) => {
                let mut rest = buffer;
                for (piece, bytes) in pieces {
                    let (head, tail) = rest
                        .split_at_mut_checked(*bytes as usize)
                        .ok_or_else(|| Fault::Damaged("pieces larger than the whole".to_owned()))?;
                    piece.fill(input, head)?;
                    rest = tail;
                }
                Ok(())
            }
        }
    }
}

/// Takes UTF-8 apart whose every character stands for a byte: 0 to 127 for itself, the others as two.
struct Latin1<'a> {
    bytes: &'a mut [u8],
    done: usize,
    /// The last byte of the text.
    last: u8,
    wrong: bool,
}

impl Latin1<'_> {
    /// Text at a time: little enough to stay in the processor's cache.
    const BLOCK: usize = 1 << 15;

    /// Goes on with `text`. Half of a weight's bytes are above 127, at random, so that a branch on them would cost
    /// more than all the rest: each byte of text is written, and the first of two then written over.
    fn text(&mut self, text: &[u8]) {
        let Self { bytes, done, last, wrong } = self;
        let (mut at, mut before, mut bad) = (*done, *last, false);
        for &byte in text {
            let is_first = byte >= 0xc0;
            let is_second = byte & 0xc0 == 0x80;
            bad |= (is_second != (before >= 0xc0)) | (is_first & !matches!(byte, 0xc2 | 0xc3));
            // The lowest bit of the first is the second-highest of what both stand for.
            let value = if is_second { byte | (before & 1) << 6 } else { byte };
            match bytes.get_mut(at) {
                Some(slot) => *slot = value,
                None => bad = true,
            }
            at += usize::from(!is_first);
            before = byte;
        }
        (*done, *last, *wrong) = (at, before, *wrong | bad);
    }

    fn is_whole(&self) -> bool {
        !self.wrong && self.done == self.bytes.len() && self.last < 0xc0
    }
}

/// What our own files say about themselves, beside their tensors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata(pub(crate) BTreeMap<String, String>);

impl Metadata {
    const MODEL: &str = "model";
    /// The key under which a file says what its weights expect of a picture.
    pub const PREPROCESSING: &str = "preprocessing";

    /// That the file is of `spec`'s network.
    #[cfg(feature = "network")]
    pub fn of(spec: &inception_nn::ModelSpec) -> Self {
        Self(BTreeMap::from([(Self::MODEL.to_owned(), spec.name.to_owned())]))
    }

    /// The row of [`inception_nn::MODELS`] that the weights are of, where the file says so.
    pub fn model(&self) -> Option<&str> {
        self.get(Self::MODEL)
    }

    /// What the weights expect of a picture, as the JSON of `inception_data::Preprocessing`, where the file says so.
    pub fn preprocessing(&self) -> Option<&str> {
        self.get(Self::PREPROCESSING)
    }

    /// Adds a statement, such as `preprocessing` or `labels`.
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.insert(key.into(), value.into());
        self
    }

    /// A statement.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// All statements, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

/// An opened checkpoint: its tensors are known, their values still in the file.
#[derive(Debug)]
pub struct Checkpoint {
    pub(crate) path: PathBuf,
    pub(crate) input: Input,
    /// The layout, found from the content.
    pub format: Format,
    /// What the file says about itself.
    pub metadata: Metadata,
    /// The tensors, in the file's order.
    pub entries: Vec<Entry>,
    /// The operations that use the tensors, for formats that have them.
    pub(crate) graph: Option<Graph<Parameter>>,
}

/// What a reader finds.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub entries: Vec<Entry>,
    pub metadata: Metadata,
    pub graph: Option<Graph<Parameter>>,
}

/// Opens whichever of a program and its values was named, with the other that lies beside it.
fn open_pair(path: &Path, input: Input) -> Result<(Input, Contents), Fault> {
    let beside = |extension: &str| File::open(path.with_extension(extension)).and_then(Input::file);
    let mut start = [0];
    input.read_at(0, &mut start)?;
    let (program, values) = match start {
        [0] => match beside("json").or_else(|_| beside("pdmodel")) {
            Ok(program) => (program, input),
            Err(_) => {
                return damaged("its program, a .json or .pdmodel file of the same name, is not beside it");
            }
        },
        _ => match beside("pdiparams") {
            Ok(values) => (input, values),
            Err(_) => return damaged("its values, a .pdiparams file of the same name, are not beside it"),
        },
    };
    let contents = format::paddle_inference::open(&program, &values)?;
    Ok((values, contents))
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
        if path.is_dir() {
            return Err(Error::UnknownFormat { path, found: "a folder" });
        }
        let input = File::open(&path).and_then(Input::file).map_err(io)?;
        Self::of_input(path, input)
    }

    /// As [`open`](Self::open), of a file that is already in memory; `name` is what messages call it.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn from_bytes(name: impl Into<PathBuf>, bytes: Vec<u8>) -> Result<Self, Error> {
        Self::of_input(name.into(), Input::memory(bytes))
    }

    /// As [`open`](Self::open), of a Paddle inference pair that is already in memory: the program, as JSON or protocol
    /// buffers, and the values of its variables.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn from_pair(name: impl Into<PathBuf>, program: Vec<u8>, values: Vec<u8>) -> Result<Self, Error> {
        let (path, format, values) = (name.into(), Format::PaddleInference, Input::memory(values));
        let opened = format::paddle_inference::open(&Input::memory(program), &values);
        let contents = opened.map_err(|fault| fault_of(&path, format, fault))?;
        Ok(Self::new(path, values, format, contents))
    }

    fn new(path: PathBuf, input: Input, format: Format, contents: Contents) -> Self {
        let Contents { entries, metadata, graph } = contents;
        Self { path, input, format, metadata, entries, graph }
    }

    fn of_input(path: PathBuf, input: Input) -> Result<Self, Error> {
        let format = match format::detect(&input) {
            Ok(Ok(format)) => format,
            Ok(Err(found)) => return Err(Error::UnknownFormat { path, found }),
            Err(source) => return Err(Error::Io { path, source }),
        };
        let opened = match format {
            Format::Safetensors => format::safetensors::open(&input).map(|c| (input, c)),
            Format::Pdparams => format::paddle::open(&input).map(|c| (input, c)),
            Format::Burnpack => format::burnpack::open(&input).map(|c| (input, c)),
            Format::PyTorch => format::pytorch::open_zip(&input).map(|c| (input, c)),
            Format::PyTorchLegacy => format::pytorch::open_legacy(&input).map(|c| (input, c)),
            Format::Onnx => format::onnx::open(&input).map(|c| (input, c)),
            Format::PaddleInference => open_pair(&path, input),
        };
        match opened {
            Ok((input, contents)) => Ok(Self::new(path, input, format, contents)),
            Err(fault) => Err(fault_of(&path, format, fault)),
        }
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The values of a tensor as 32-bit floating point, row-major, read now.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], and [`Error::Damaged`] for numbers that are not floating point.
    pub fn values(&self, entry: &Entry) -> Result<Vec<f32>, Error> {
        self.read_values(entry).map_err(|fault| fault_of(&self.path, self.format, fault))
    }

    fn read_values(&self, entry: &Entry) -> Result<Vec<f32>, Fault> {
        let Some(size) = entry.dtype.size() else {
            return damaged(format!("`{}` holds {}", entry.key, entry.dtype));
        };
        let count = entry.len(); // The reader has checked that the file can have so many.
        let values = match (&entry.source, &entry.dtype) {
            // Straight into place: no second copy of the largest tensors.
            (source, Dtype::F32) => {
                let mut values = vec![0f32; count];
                source.fill(&self.input, bytemuck::cast_slice_mut(&mut values))?;
                if cfg!(target_endian = "big") {
                    values.iter_mut().for_each(|v| *v = f32::from_bits(v.to_bits().swap_bytes()));
                }
                values
            }
            (source, dtype) => {
                let mut bytes = vec![0; count * size as usize];
                source.fill(&self.input, &mut bytes)?;
                match dtype {
                    Dtype::F16 => decode(&bytes, |b| f16::from_le_bytes(b).to_f32()),
                    Dtype::Bf16 => decode(&bytes, |b| bf16::from_le_bytes(b).to_f32()),
                    Dtype::F64 => decode(&bytes, |b| f64::from_le_bytes(b) as f32),
                    Dtype::F32 | Dtype::Other(_) => return damaged("no such numbers"),
                }
            }
        };
        Ok(match &entry.strides {
            Some(strides) => row_major(&values, &entry.shape, strides),
            None => values,
        })
    }
}

pub(crate) fn fault_of(path: &Path, format: Format, fault: Fault) -> Error {
    let path = path.to_owned();
    match fault {
        Fault::Io(source) => Error::Io { path, source },
        Fault::Damaged(reason) => Error::Damaged { path, format: format.name(), reason },
    }
}

fn decode<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    let (chunks, _) = bytes.as_chunks::<N>();
    chunks.iter().map(|&chunk| value(chunk)).collect()
}

/// Whether `strides` visit each of as many values as `shape` has exactly once: some order of the dimensions.
pub(crate) fn is_permutation(shape: &[usize], strides: &[usize]) -> bool {
    let mut order: Vec<usize> = (0..shape.len()).filter(|&i| shape[i] != 1).collect();
    order.sort_by_key(|&i| strides[i]);
    let mut next = 1usize;
    order.iter().all(|&i| {
        let expected = next;
        next = next.saturating_mul(shape[i]);
        strides[i] == expected
    })
}

/// Values in the order of `strides`, which [`is_permutation`] has accepted, in row-major order.
pub(crate) fn row_major(values: &[f32], shape: &[usize], strides: &[usize]) -> Vec<f32> {
    let mut index = vec![0; shape.len()];
    let mut at = 0;
    let mut result = Vec::with_capacity(values.len());
    for _ in 0..values.len() {
        result.push(values[at]);
        for d in (0..shape.len()).rev() {
            index[d] += 1;
            at += strides[d];
            if index[d] < shape[d] {
                break;
            }
            at -= strides[d] * shape[d];
            index[d] = 0;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::Latin1;

    fn decode(text: &[u8], len: usize, block: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; len];
        let mut decoder = Latin1 { bytes: &mut bytes, done: 0, last: 0, wrong: false };
        text.chunks(block).for_each(|block| decoder.text(block));
        decoder.is_whole().then_some(bytes)
    }

    /// Whatever the cuts between blocks, and only text that stands for just so many bytes.
    #[test]
    fn latin1_is_what_the_standard_library_makes_of_it() {
        let bytes: Vec<u8> = (0..=255).chain((0..=255).rev()).chain([0xc3, 0x80, 0x7f]).collect();
        let text: String = bytes.iter().map(|&byte| char::from(byte)).collect();
        for block in [1, 2, 3, 100, 1000] {
            assert_eq!(decode(text.as_bytes(), bytes.len(), block).as_deref(), Some(&bytes[..]));
            assert_eq!(decode(text.as_bytes(), bytes.len() - 1, block), None);
            assert_eq!(decode(text.as_bytes(), bytes.len() + 1, block), None);
        }
        // All texts of three bytes of these, against the standard library.
        let some = [0x00, 0x41, 0x7f, 0x80, 0xbf, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xdf, 0xe0, 0xf0, 0xff];
        for text in some.iter().flat_map(|&a| some.iter().flat_map(move |&b| some.map(|c| [a, b, c]))) {
            let chars = std::str::from_utf8(&text).ok().map(str::chars);
            let exact =
                chars.and_then(|chars| chars.map(|c| u8::try_from(c).ok()).collect::<Option<Vec<_>>>());
            for len in 0..=4 {
                let wanted = exact.clone().filter(|bytes| bytes.len() == len);
                assert_eq!(decode(&text, len, 2), wanted, "{text:x?} as {len} bytes");
            }
        }
    }
}
