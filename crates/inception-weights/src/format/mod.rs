//! A reader for each format: from bytes to entries.

pub(crate) mod burnpack;
pub(crate) mod onnx;
pub(crate) mod paddle;
pub(crate) mod paddle_inference;
pub(crate) mod pickle;
mod proto;
pub(crate) mod pytorch;
pub(crate) mod safetensors;
mod zip;

use std::io;

use crate::checkpoint::Format;
use crate::input::Input;

/// What a file is, from its content; or what it looks like instead.
pub(crate) fn detect(input: &Input) -> io::Result<Result<Format, &'static str>> {
    let start = input.read(0, input.len().min(32))?;
    Ok(match &start[..] {
        [] => Err("an empty file"),
        [b'P', b'K', 3, 4, ..] => Ok(Format::PyTorch),
        // Pickle: PyTorch's magic number in protocol 2, or anything else.
        [0x80, _, 0x8a, 10, magic @ ..] if magic.starts_with(&pickle::TORCH_MAGIC) => {
            Ok(Format::PyTorchLegacy)
        }
        // An 8-byte length, then that much JSON. Before pickle: a length may start with pickle's 0x80 too.
        [_, _, _, _, _, 0, 0, 0, b'{', ..] => Ok(Format::Safetensors),
        [0x80, 2..=5, ..] => Ok(Format::Pdparams),
        [b'N', b'R', b'U', b'B', ..] => Ok(Format::Burnpack),
        // The version of the format, then its producer or another of the first fields.
        [8, 1..=32, 0x12 | 0x1a | 0x22 | 0x28 | 0x32 | 0x3a | 0x42, ..] => Ok(Format::Onnx),
        // A program in JSON, in protocol buffers (a block whose index is 0), or the values that belong to one.
        [b'{', ..] | [0x0a, ..] | [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ..] => {
            Ok(Format::PaddleInference)
        }
        [b'<', ..] => Err("a web page, not a checkpoint"),
        [b'v', b'e', b'r', b's', b'i', b'o', b'n', b' ', b'h', ..] => {
            Err("a Git LFS pointer, not the file itself")
        }
        _ => Err("not a known format"),
    })
}
