//! Object headers: the messages that describe a group or a dataset.

use super::bytes::{number, take};
use super::file::{File, UNDEFINED};
use crate::input::{Fault, damaged};

/// A message of an object header.
pub(super) struct Message {
    pub kind: u64,
    pub data: Vec<u8>,
    /// Where the data is, as an address.
    pub address: u64,
}

/// A group or a dataset: its messages.
pub(crate) struct Object {
    pub(super) messages: Vec<Message>,
}

const CONTINUATION: u64 = 0x10;
/// The flag of a message that lies elsewhere.
const SHARED: u64 = 2;

/// How the messages of a header are laid out.
#[derive(Clone, Copy)]
enum Form {
    Old,
    /// With the order of creation or without.
    New {
        ordered: bool,
    },
}

impl Object {
    /// The outermost group.
    pub(crate) fn root(file: &File) -> Result<Self, Fault> {
        Self::at(file, file.root)
    }

    /// The object at an address.
    pub(crate) fn at(file: &File, address: u64) -> Result<Self, Fault> {
        if address == UNDEFINED {
            return damaged("an object without an address");
        }
        let start = file.read(address, 16)?;
        let (form, first, len) = match &start[..] {
            [b'O', b'H', b'D', b'R', 2, flags, ..] => {
                let flags = *flags;
                // Times, and limits of when attributes move elsewhere.
                let skipped =
                    6 + if flags & 0x20 != 0 { 16 } else { 0 } + if flags & 0x10 != 0 { 4 } else { 0 };
                let size = 1 << (flags & 3);
                let len = number(&mut &file.read(address.saturating_add(skipped), size)?[..], size as usize)?;
                (Form::New { ordered: flags & 4 != 0 }, address.saturating_add(skipped + size), len)
            }
            [1, _, _, _, _, _, _, _, len @ ..] => {
                (Form::Old, address.saturating_add(16), number(&mut &len[..], 4)?)
            }
            _ => return damaged(format!("no object header at {address}")),
        };
        let mut object = Self { messages: Vec::new() };
        let mut blocks = vec![(first, len)];
        while let Some((at, len)) = blocks.pop() {
            object.block(file, form, at, len, &mut blocks)?;
        }
        Ok(object)
    }

    /// Reads the messages of a block; `blocks` takes those that it continues in.
    fn block(
        &mut self,
        file: &File,
        form: Form,
        at: u64,
        len: u64,
        blocks: &mut Vec<(u64, u64)>,
    ) -> Result<(), Fault> {
        let block = file.read(at, len)?;
        let mut rest = &block[..];
        let head = match form {
            Form::Old => 8,
            Form::New { ordered } => {
                if ordered {
                    6
                } else {
                    4
                }
            }
        };
        // What is too short for a message is a gap.
        while rest.len() >= head {
            let mut fields = take(&mut rest, head)?;
            let kind = number(&mut fields, if head == 8 { 2 } else { 1 })?;
            let size = number(&mut fields, 2)?;
            let flags = number(&mut fields, 1)?;
            let address = at + (block.len() - rest.len()) as u64;
            let data = take(&mut rest, size as usize)?;
            if kind == CONTINUATION {
                let (mut at, mut len) = {
                    let data = &mut &data[..];
                    (number(data, 8)?, number(data, 8)?)
                };
                if head != 8 {
                    // A signature before, and a checksum behind.
                    (at, len) = (at.saturating_add(4), len.saturating_sub(8));
                }
                blocks.push((at, len));
            } else if flags & SHARED == 0 {
                self.messages.push(Message { kind, data: data.to_vec(), address });
            }
        }
        Ok(())
    }

    /// The data of the first message of a kind, and where it is.
    pub(super) fn message(&self, kind: u64) -> Option<&Message> {
        self.messages.iter().find(|message| message.kind == kind)
    }
}
