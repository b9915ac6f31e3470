//! Attributes that are text.

use std::collections::hash_map::Entry;

use super::bytes::{number, take};
use super::collection::Collection;
use super::file::{File, UNDEFINED};
use super::header::Object;
use super::message::extent;
use crate::input::{Fault, damaged, le, unsupported};

const ATTRIBUTE: u64 = 0x0c;

/// Where an attribute has its strings.
enum Text {
    /// Here, padded to a length.
    Fixed(usize),
    /// In collections elsewhere.
    Elsewhere,
}

impl Object {
    /// The strings of an attribute; `None` if there is none of that name, or it is no text. An empty list of
    /// h5py's is one of numbers.
    pub(crate) fn strings(&self, file: &File, name: &str) -> Result<Option<Vec<String>>, Fault> {
        for message in self.messages.iter().filter(|message| message.kind == ATTRIBUTE) {
            // Lists in many pieces ask for each of them.
            file.charge(message.data.len())?;
            let data = &mut &message.data[..];
            let version = number(data, 2)? & 0xff;
            let padded = match version {
                1 => 8,
                2 | 3 => 1,
                _ => return unsupported(format!("an attribute of version {version}")),
            };
            let sizes = [number(data, 2)?, number(data, 2)?, number(data, 2)?];
            take(data, if version == 3 { 1 } else { 0 })?;
            let mut part = |size: u64| {
                let bytes = take(data, (size as usize).next_multiple_of(padded))?;
                Ok::<_, Fault>(&bytes[..size as usize])
            };
            let (own, datatype, space) = (part(sizes[0])?, part(sizes[1])?, part(sizes[2])?);
            if own.split(|&byte| byte == 0).next() != Some(name.as_bytes()) {
                continue;
            }
            let count = extent(space)?.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
            let Some(count) = count else { return damaged(format!("an attribute `{name}` without end")) };
            if count == 0 {
                return Ok(Some(Vec::new()));
            }
            let head = take(&mut &datatype[..], 8)?;
            let text = match (head[0] & 15, head[1] & 15) {
                (3, _) => Text::Fixed(le(&head[4..]) as usize),
                (9, 1) => Text::Elsewhere,
                _ => return Ok(None),
            };
            return strings(file, data, count, &text).map(Some);
        }
        Ok(None)
    }

    /// The strings of an attribute that Keras has cut into `name0`, `name1` and so on, as it does with lists
    /// of over 64 kB.
    pub(crate) fn long_strings(&self, file: &File, name: &str) -> Result<Option<Vec<String>>, Fault> {
        if let Some(strings) = self.strings(file, name)? {
            return Ok(Some(strings));
        }
        let mut all = None;
        for i in 0.. {
            let Some(part) = self.strings(file, &format!("{name}{i}"))? else { break };
            all.get_or_insert_with(Vec::new).extend(part);
        }
        Ok(all)
    }
}

fn strings(file: &File, mut data: &[u8], count: u64, text: &Text) -> Result<Vec<String>, Fault> {
    let mut all = Vec::new();
    for _ in 0..count {
        let string = match text {
            Text::Fixed(len) => {
                // No length and no end otherwise.
                let bytes = take(&mut data, (*len).max(1))?;
                let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
                String::from_utf8_lossy(&bytes[..end]).into_owned()
            }
            Text::Elsewhere => {
                let mut place = take(&mut data, 16)?;
                let place = &mut place;
                let (len, heap, index) = (number(place, 4)?, number(place, 8)?, number(place, 4)?);
                elsewhere(file, heap, index, len)?
            }
        };
        file.charge(string.len())?;
        all.push(string);
    }
    Ok(all)
}

/// The first `len` bytes of object `index` of a collection.
fn elsewhere(file: &File, heap: u64, index: u64, len: u64) -> Result<String, Fault> {
    if len == 0 || heap == UNDEFINED {
        return Ok(String::new());
    }
    let mut heaps = file.heaps.borrow_mut();
    let collection = match heaps.entry(heap) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(new) => new.insert(read(file, heap)?),
    };
    let object = collection.object(index);
    match object.zip(usize::try_from(len).ok()).and_then(|(bytes, len)| bytes.get(..len)) {
        Some(bytes) => Ok(String::from_utf8_lossy(bytes).into_owned()),
        None => damaged(format!("no text {index} of {len} bytes in the collection at {heap}")),
    }
}

fn read(file: &File, address: u64) -> Result<Collection, Fault> {
    let head = file.read(address, 16)?;
    if head[..4] != *b"GCOL" {
        return damaged(format!("no collection of text at {address}"));
    }
    let len = le(&head[8..]).saturating_sub(16);
    Ok(Collection::new(file.read(address.saturating_add(16), len)?))
}
