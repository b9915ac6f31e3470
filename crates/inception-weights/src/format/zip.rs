//! The central directory of a zip archive. What is read of it is stored without compression, as Keras and
//! PyTorch write all but the code of TorchScript archives.

use std::collections::{HashMap, HashSet};

use crate::input::{Fault, Input, Range, damaged, le, unsupported};

const END: [u8; 4] = *b"PK\x05\x06";
const END64_LOCATOR: [u8; 4] = *b"PK\x06\x07";
const END64: [u8; 4] = *b"PK\x06\x06";
const CENTRAL: [u8; 4] = *b"PK\x01\x02";
const LOCAL: [u8; 4] = *b"PK\x03\x04";

/// Members by name.
#[derive(Default)]
pub(crate) struct Members {
    stored: HashMap<String, Range>,
    /// Those that are compressed or encrypted.
    packed: HashSet<String>,
}

impl Members {
    /// Where a member is, if there is one of that name.
    pub fn get(&self, name: &str) -> Result<Option<Range>, Fault> {
        match self.packed.contains(name) {
            true => unsupported(format!(
                "`{name}` is compressed or encrypted, which neither PyTorch nor Keras does"
            )),
            false => Ok(self.stored.get(name).copied()),
        }
    }

    /// The names that end in `end`.
    pub fn ending(&self, end: &str) -> impl Iterator<Item = &str> {
        let names = self.stored.keys().chain(&self.packed).map(String::as_str);
        names.filter(move |name| name.ends_with(end))
    }

    pub fn of(input: &Input) -> Result<Self, Fault> {
        members(input)
    }
}

fn members(input: &Input) -> Result<Members, Fault> {
    // The end record has a comment of up to 65535 bytes behind it.
    let tail_len = input.len().min(22 + 0xffff);
    let tail_at = input.len() - tail_len;
    let tail = input.read(tail_at, tail_len)?;
    let end = (0..tail.len().saturating_sub(21))
        .rev()
        .find(|&i| tail[i..].starts_with(&END) && i + 22 + le(&tail[i + 20..i + 22]) as usize == tail.len());
    let Some(end) = end else {
        return damaged("a zip archive without a directory: the file is cut short");
    };
    let record = &tail[end..end + 22];
    let (mut count, mut size, mut offset) = (le(&record[10..12]), le(&record[12..16]), le(&record[16..20]));
    if count == 0xffff || size == 0xffff_ffff || offset == 0xffff_ffff {
        let locator_at = (tail_at + end as u64).checked_sub(20);
        let Some(locator_at) = locator_at else {
            return damaged("a zip archive without its 64-bit directory");
        };
        let locator = input.read(locator_at, 20)?;
        let record = input.read(le(&locator[8..16]), 56)?;
        if !locator.starts_with(&END64_LOCATOR) || !record.starts_with(&END64) {
            return damaged("a zip archive without its 64-bit directory");
        }
        (count, size, offset) = (le(&record[32..40]), le(&record[40..48]), le(&record[48..56]));
    }
    let directory = input.read(offset, size)?;
    let mut rest = &directory[..];
    let mut members = Members::default();
    for _ in 0..count {
        let Some((head, tail)) = rest.split_at_checked(46).filter(|(head, _)| head.starts_with(&CENTRAL))
        else {
            return damaged("a zip directory that ends early");
        };
        let lengths = [&head[28..30], &head[30..32], &head[32..34]].map(|b| le(b) as usize);
        if lengths.iter().sum::<usize>() > tail.len() {
            return damaged("a zip directory that ends early");
        }
        let (name, tail) = tail.split_at(lengths[0]);
        let (extra, tail) = tail.split_at(lengths[1]);
        rest = &tail[lengths[2]..];
        let name = String::from_utf8_lossy(name).into_owned();
        let (method, flags) = (le(&head[10..12]), le(&head[8..10]));
        let mut fields = [le(&head[24..28]), le(&head[20..24]), le(&head[42..46])]; // size, packed size, offset
        wide(extra, &mut fields);
        let [len, packed, local] = fields;
        if method != 0 || flags & 1 != 0 || len != packed {
            members.packed.insert(name);
            continue;
        }
        let header = input.read(local, 30)?;
        if !header.starts_with(&LOCAL) {
            return damaged(format!("`{name}` is not where the directory says"));
        }
        let offset = local + 30 + le(&header[26..28]) + le(&header[28..30]);
        if offset.checked_add(len).is_none_or(|end| end > input.len()) {
            return damaged(format!(
                "`{name}` of {len} bytes at {offset} ends beyond the file's {} bytes",
                input.len()
            ));
        }
        if members.stored.insert(name.clone(), Range { offset, len }).is_some() {
            return damaged(format!("`{name}` is in the archive twice"));
        }
    }
    Ok(members)
}

/// Replaces fields that are all ones by their 64-bit forms (ZIP64).
fn wide(mut extra: &[u8], fields: &mut [u64; 3]) {
    while let Some((head, tail)) = extra.split_at_checked(4) {
        let Some((mut body, rest)) = tail.split_at_checked(le(&head[2..4]) as usize) else { return };
        if le(&head[..2]) == 1 {
            for field in fields.iter_mut().filter(|field| **field == 0xffff_ffff) {
                let Some((value, rest)) = body.split_at_checked(8) else { return };
                *field = le(value);
                body = rest;
            }
        }
        extra = rest;
    }
}
