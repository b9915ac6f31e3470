//! A reader for each format, from bytes to entries.

mod burnpack;
mod contents;
mod hdf5;
mod keras;
mod onnx;
mod paddle;
mod paddle_inference;
mod pickle;
mod pixels;
mod proto;
mod pytorch;
pub(crate) mod safetensors;
mod state_dict;
mod zip;

use std::borrow::Cow;
use std::io;
use std::path::Path;

pub(crate) use contents::{Contents, StateDict};
#[cfg(feature = "network")]
pub(crate) use state_dict::Rank;

use crate::input::{Beside, Fault, Input, unsupported};

/// The format of a checkpoint.
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
    /// Keras's `.h5` and `.weights.h5`: HDF5.
    KerasH5,
    /// Keras's `.keras`: a zip of a `.weights.h5` and the model's description.
    Keras,
    /// The list of the files of a large checkpoint, safetensors or PyTorch's archives, which lie beside it.
    ShardedIndex,
}

impl Format {
    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::Pdparams => "pdparams",
            Self::PaddleInference => "Paddle inference model",
            Self::PyTorch => "PyTorch checkpoint",
            Self::PyTorchLegacy => "legacy PyTorch checkpoint",
            Self::Burnpack => "burnpack",
            Self::Onnx => "ONNX model",
            Self::KerasH5 => "Keras HDF5 file",
            Self::Keras => "Keras archive",
            Self::ShardedIndex => "index of a sharded checkpoint",
        }
    }
}

/// The format of a file by its first bytes, or a description of what it is instead.
pub(crate) fn detect(input: &Input) -> io::Result<Result<Format, Cow<'static, str>>> {
    let start = input.read(0, input.len().min(32))?;
    // A tar archive has its name in the header of its first member, behind that one's own name.
    if input.len() >= 512 && input.read(257, 5)? == b"ustar" {
        return Ok(Err("a tar archive; unpack it first (tar -xf)".into()));
    }
    let format = match &start[..] {
        [] => Err("an empty file"),
        [b'P', b'K', 3, 4, ..] => match zip::Members::of(input) {
            Ok(members) if members.ending(keras::MEMBER).any(|name| name == keras::MEMBER) => {
                Ok(Format::Keras)
            }
            // Opening says what is wrong with it.
            Ok(_) | Err(Fault::Damaged(_) | Fault::Unsupported(_)) => Ok(Format::PyTorch),
            Err(Fault::Io(error)) => return Err(error),
        },
        [0x89, b'H', b'D', b'F', ..] => Ok(Format::KerasH5),
        // Pickle: PyTorch's magic number in protocol 2, or anything else.
        [0x80, _, 0x8a, 10, magic @ ..] if magic.starts_with(&pickle::TORCH_MAGIC) => {
            Ok(Format::PyTorchLegacy)
        }
        // An 8-byte length, then that much JSON. Before pickle: a length may start with pickle's 0x80 too.
        [_, _, _, _, _, 0, 0, 0, b'{', ..] => Ok(Format::Safetensors),
        [0x80, 2..=5, ..] => Ok(Format::Pdparams),
        [b'N', b'R', b'U', b'B', ..] => Ok(Format::Burnpack),
        [8, 1, 0x12, 0x80..=0xff, ..] => {
            Err("TensorFlow's saved_model.pb or Core ML's .mlmodel; export it to ONNX")
        }
        // The version of the format, then its producer or another of the first fields.
        [8, 1..=32, 0x12 | 0x1a | 0x22 | 0x28 | 0x32 | 0x3a | 0x42, ..] => Ok(Format::Onnx),
        [b'{', ..] if has_weight_map(input)? => Ok(Format::ShardedIndex),
        // A program in JSON, in protocol buffers, or the values that belong to one.
        [b'{', ..] => match paddle_inference::other_json(input)? {
            Some(keys) => return Ok(Err(format!("JSON that is no Paddle program: it has {keys}").into())),
            None => Ok(Format::PaddleInference),
        },
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ..] => Ok(Format::PaddleInference),
        // Before protocol buffers: these begin with a line feed, too.
        _ if matches!(start.trim_ascii_start(), [b'<', b'!' | b'?' | b'a'..=b'z' | b'A'..=b'Z', ..]) => {
            Err("a web page, not a checkpoint")
        }
        [0x0a, block @ ..] => match block.iter().position(|byte| *byte < 0x80) {
            // The first block's length, its number and that of the block around it.
            Some(length) if block[length + 1..].starts_with(&[8, 0, 0x10]) => Ok(Format::PaddleInference),
            _ => {
                Err("protocol buffers that are no Paddle program: TensorFlow's .pb and Caffe's .caffemodel \
                 are not read; export the network to ONNX")
            }
        },
        [b'[', b'{' | b'[' | b'"' | b' ' | b'\n', ..] => Err("a list in JSON, not a checkpoint"),
        [0x1f, 0x8b, ..] => Err("a gzip archive; unpack it first (gunzip)"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Err("a Zstandard archive; unpack it first (unzstd)"),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] | [b'B', b'Z', b'h', b'1'..=b'9', ..] => {
            Err("a compressed file; unpack it first")
        }
        [b'7', b'z', 0xbc, 0xaf, ..] | [b'R', b'a', b'r', b'!', ..] => Err("an archive; unpack it first"),
        [b'v', b'e', b'r', b's', b'i', b'o', b'n', b' ', b'h', ..] => {
            Err("a Git LFS pointer, not the file itself")
        }
        _ => Err("not a known format"),
    };
    Ok(format.map_err(Cow::Borrowed))
}

/// Lists the tensors of `input`, a file at `path` in `format`; with them the input that holds their values.
/// `beside` opens other files of its folder.
pub(crate) fn open(
    format: Format,
    path: &Path,
    input: Input,
    beside: Beside,
) -> Result<(Input, Contents), Fault> {
    let open = match format {
        Format::Safetensors => safetensors::open,
        Format::Pdparams => paddle::open,
        Format::Burnpack => burnpack::open,
        Format::PyTorch => pytorch::open_zip,
        Format::PyTorchLegacy => pytorch::open_legacy,
        Format::Onnx => return onnx::open(input, beside),
        Format::ShardedIndex => {
            return safetensors::open_index(&input, beside);
        }
        Format::KerasH5 => keras::open_h5,
        Format::Keras => keras::open_archive,
        Format::PaddleInference => return open_pair(path, input, beside),
    };
    open(&input).map(|contents| (input, contents))
}

/// Whether some JSON begins as the list of a sharded checkpoint: with its map, or with the few facts before
/// it.
fn has_weight_map(input: &Input) -> io::Result<bool> {
    let start = input.read(0, input.len().min(4096))?;
    Ok(start.windows(12).any(|word| word == b"\"weight_map\""))
}

/// Opens a Paddle inference pair of which `input` is either part; the other one lies beside it.
fn open_pair(path: &Path, input: Input, beside: Beside) -> Result<(Input, Contents), Fault> {
    // What is missing, or is no file, is not beside it.
    let beside = |extension: &str| {
        let name = path.with_extension(extension);
        beside(Path::new(name.file_name().unwrap_or_default())).ok().flatten()
    };
    let mut start = [0];
    input.read_at(0, &mut start)?;
    let (program, values) = match start {
        [0] => match beside("json").or_else(|| beside("pdmodel")) {
            Some(program) => (program, input),
            None => {
                return unsupported(
                    "its program, a .json or .pdmodel file of the same name, is not beside it",
                );
            }
        },
        _ => match beside("pdiparams") {
            Some(values) => (input, values),
            None => return unsupported("its values, a .pdiparams file of the same name, are not beside it"),
        },
    };
    let contents = paddle_inference::open(&program, &values)?;
    Ok((values, contents))
}
