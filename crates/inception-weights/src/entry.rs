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
    /// 8-bit integers with a scale for each output channel.
    I8,
    /// Anything else, by the file's own name for it.
    Other(String),
}

impl Dtype {
    /// Bytes of an element; `None` for an element type that is not read.
    pub(crate) fn size(&self) -> Option<u64> {
        match self {
            Self::F16 | Self::Bf16 => Some(2),
            Self::F32 => Some(4),
            Self::F64 => Some(8),
            Self::I8 => Some(1),
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
            Self::I8 => "i8",
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
    /// Quantised: `(value - zero) * scale`, in single precision.
    Quantized {
        kind: IntegerType,
        values: Box<Source>,
        /// Single-precision numbers, and how many they are.
        scales: (Box<Source>, u64),
        /// As many numbers of `kind`; none if all are zero.
        zeros: Option<Box<Source>>,
        /// Values that follow each other with the same scale, before the next scale's.
        inner: u64,
    },
    /// In pieces, each with its number of bytes, one after the other.
    Pieces(Vec<(Source, u64)>),
}

/// The whole numbers of a quantised tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IntegerType {
    I8,
    U8,
    I32,
}

impl IntegerType {
    /// Bytes of one.
    pub fn size(self) -> u64 {
        if self == Self::I32 { 4 } else { 1 }
    }

    fn read(self, source: &Source, count: u64, input: &Input) -> Result<Vec<i64>, Fault> {
        let mut bytes = vec![0; (count * self.size()) as usize];
        source.fill(input, &mut bytes)?;
        Ok(match self {
            Self::I8 => bytes.into_iter().map(|b| i64::from(b as i8)).collect(),
            Self::U8 => bytes.into_iter().map(i64::from).collect(),
            Self::I32 => bytes.as_chunks::<4>().0.iter().map(|&b| i32::from_le_bytes(b).into()).collect(),
        })
    }
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

    /// Whether `bytes` from `source` on are within `total`.
    pub(crate) fn checked_extent(source: &Source, bytes: u64, total: u64) -> Result<(), String> {
        match source {
            Source::At(offset) if offset.checked_add(bytes).is_some_and(|end| end <= total) => Ok(()),
            _ => Err(format!("{bytes} bytes end beyond the file's {total}")),
        }
    }

    /// The same tensor in an input in which what was at 0 is at `start`.
    pub(crate) fn moved(mut self, start: u64) -> Self {
        self.source.shift(start);
        self
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
    /// Makes it that of an input in which what was at 0 is at `start`.
    fn shift(&mut self, start: u64) {
        match self {
            Self::At(offset) | Self::Latin1 { offset, .. } => *offset += start,
            Self::Quantized { values, scales, zeros, .. } => {
                values.shift(start);
                scales.0.shift(start);
                zeros.iter_mut().for_each(|zeros| zeros.shift(start));
            }
            Self::Pieces(pieces) => pieces.iter_mut().for_each(|(source, _)| source.shift(start)),
        }
    }

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
            Self::Quantized { .. } => Ok(()), // Checked where it is made.
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
            Self::Quantized { kind, values, scales: (scales, count), zeros, inner } => {
                let values = kind.read(values, buffer.len() as u64 / 4, input)?;
                let mut scale_bytes = vec![0; *count as usize * 4];
                scales.fill(input, &mut scale_bytes)?;
                let zeros = match zeros {
                    Some(zeros) => kind.read(zeros, *count, input)?,
                    None => vec![0; *count as usize],
                };
                let scales = scale_bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b));
                let scales: Vec<(f32, i64)> = scales.zip(zeros).collect();
                let groups = values.chunks(*inner as usize).zip(scales.iter().cycle());
                let exact = groups.flat_map(|(group, &(scale, zero))| {
                    group.iter().map(move |value| (value - zero) as f32 * scale)
                });
                for (to, value) in buffer.as_chunks_mut::<4>().0.iter_mut().zip(exact) {
                    *to = value.to_le_bytes();
                }
                Ok(())
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
