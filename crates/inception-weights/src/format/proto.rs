//! The wire format of protocol buffers: the fields of a message in order, long ones as byte ranges.
//!
//! ONNX and Paddle's `.pdmodel` need a dozen fields of a few messages, and weights that stay in the file: a
//! generated reader (as in `onnx-ir`) has every field and copies them all.

use crate::input::{Fault, Input, Range, Stream};

/// A field's content.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wire {
    Number(u64),
    Bytes(Range),
    /// A 32-bit floating-point number.
    Float(f32),
    Other,
}

impl Wire {
    pub fn number(self) -> Option<u64> {
        if let Self::Number(value) = self { Some(value) } else { None }
    }
}

/// Longest string that is read.
const MAX_TEXT: u64 = 1 << 12;

/// Longest list of numbers that is read: dimensions, strides, axes.
const MAX_NUMBERS: usize = 64;

/// The fields of a message.
pub(crate) struct Message<'a> {
    input: &'a Input,
    stream: Stream<'a>,
}

impl<'a> Message<'a> {
    pub fn whole(input: &'a Input) -> Self {
        Self { input, stream: Stream::new(input, 0, input.len()) }
    }

    pub fn at(input: &'a Input, range: Range) -> Self {
        Self { input, stream: Stream::new(input, range.offset, range.offset + range.len) }
    }

    /// The next field's number and content.
    pub fn next(&mut self) -> Result<Option<(u64, Wire)>, Fault> {
        if self.stream.left() == 0 {
            return Ok(None);
        }
        let at = self.stream.pos;
        let tag = self.varint()?;
        let wire = match tag & 7 {
            0 => Wire::Number(self.varint()?),
            1 => {
                self.stream.array::<8>()?;
                Wire::Other
            }
            2 => {
                let len = self.varint()?;
                let offset = self.stream.pos;
                self.stream.skip(len, "a field")?;
                Wire::Bytes(Range { offset, len })
            }
            5 => Wire::Float(f32::from_le_bytes(self.stream.array()?)),
            kind => return Err(Fault::at(at, format!("a field of kind {kind}"))),
        };
        Ok(Some((tag >> 3, wire)))
    }

    fn varint(&mut self) -> Result<u64, Fault> {
        let at = self.stream.pos;
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.stream.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Fault::at(at, "a number of more than ten bytes"))
    }

    /// A short string.
    pub fn text(&self, wire: Wire) -> Result<String, Fault> {
        self.text_within(wire, MAX_TEXT)
    }

    /// A string of at most `limit` bytes.
    pub fn text_within(&self, wire: Wire, limit: u64) -> Result<String, Fault> {
        match wire {
            Wire::Bytes(range) if range.len <= limit => {
                Ok(String::from_utf8_lossy(&self.input.read(range.offset, range.len)?).into_owned())
            }
            Wire::Bytes(range) => Err(Fault::at(range.offset, format!("a name of {} bytes", range.len))),
            _ => Err(Fault::at(self.stream.pos, "a name that is no string")),
        }
    }

    /// A repeated number, packed or not, of which there are few.
    pub fn numbers(&self, wire: Wire, into: &mut Vec<u64>) -> Result<(), Fault> {
        let mut push = |value, at| {
            if into.len() == MAX_NUMBERS {
                return Err(Fault::at(at, format!("a list of more than {MAX_NUMBERS} numbers")));
            }
            into.push(value);
            Ok(())
        };
        match wire {
            Wire::Number(value) => push(value, self.stream.pos),
            Wire::Bytes(range) => {
                let mut packed = Self::at(self.input, range);
                while packed.stream.left() > 0 {
                    push(packed.varint()?, range.offset)?;
                }
                Ok(())
            }
            _ => Err(Fault::at(self.stream.pos, "a list of other than whole numbers")),
        }
    }

    /// A nested message.
    pub fn message(&self, wire: Wire) -> Result<Message<'a>, Fault> {
        match wire {
            Wire::Bytes(range) => Ok(Self::at(self.input, range)),
            _ => Err(Fault::at(self.stream.pos, "a number where a message belongs")),
        }
    }
}
