//! A tensor of a file: its key, shape and dtype, and where its bytes are.

use crate::input::{Fault, Input, damaged};
use crate::latin1::Latin1;

/// The element type of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dtype {
    /// 32-bit floating point.
    F32,
    /// 16-bit floating point.
    F16,
    /// bfloat16: the upper half of 32-bit floating point.
    Bf16,
    /// 64-bit floating point.
    F64,
    /// Anything else, by the file's own name for it.
    Other(String),
}

impl Dtype {
    /// Bytes of an element; `None` for what is no floating-point number.
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
#[non_exhaustive]
pub struct Entry {
    /// The key under which the file has it.
    pub key: String,
    /// Its dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Its element type.
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

    /// Reads all bytes into `buffer`.
    pub(crate) fn fill(&self, input: &Input, buffer: &mut [u8]) -> Result<(), Fault> {
        match self {
            Self::At(offset) => Ok(input.read_at(*offset, buffer)?),
            Self::Latin1 { offset, len } => {
                let bad = || Fault::at(*offset, "text that does not stand for so many bytes");
                let mut decoder = Latin1::new(buffer);
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
