//! The part of HDF5 that Keras writes through h5py: groups, attributes of text, and datasets whose values lie in one
//! piece. Nothing of the values is read here.
//!
//! Two crates read HDF5 in pure Rust. `hdf5-reader` 0.12.1 survived every cut and every changed byte of Keras's files,
//! and takes 37 seconds of one core to compile, ndarray not counted (Intel Xeon, family 6 model 207). `hdf5-pure`
//! 0.47.0 takes 89, and one changed byte of a compressed dataset makes it ask for 205 GB, which ends the process. A
//! checkpoint needs names, shapes and places only, which is a small part of either.
//!
//! Read are superblocks 0 to 3, object headers 1 and 2, groups as symbol tables and as links in their header, and
//! contiguous and compact datasets. What only `libver="latest"` writes (groups in fractal heaps), compressed and chunked
//! datasets are refused by name.

mod attribute;
mod group;
mod header;
mod message;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

pub(super) use group::Links;
pub(super) use header::Object;
pub(super) use message::Dataset;

use crate::input::{Fault, Input, Range, damaged};

/// The first bytes of a file.
pub(super) const SIGNATURE: [u8; 8] = *b"\x89HDF\r\n\x1a\n";

/// An address that stands for "nowhere".
const UNDEFINED: u64 = u64::MAX;

/// An HDF5 file that is all or a part of an input.
pub(super) struct File<'a> {
    pub input: &'a Input,
    place: Range,
    /// Where addresses count from, in the input.
    base: u64,
    root: u64,
    /// How many bytes of structure may still be read: what refers to itself ends here.
    budget: Cell<u64>,
    /// Collections of text that attributes refer to, by address.
    heaps: RefCell<HashMap<u64, attribute::Collection>>,
}

/// A number of up to 8 bytes, the lowest first.
pub(super) fn le(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

/// Takes `count` bytes off the front of `bytes`.
fn take<'b>(bytes: &mut &'b [u8], count: usize) -> Result<&'b [u8], Fault> {
    let Some((head, tail)) = bytes.split_at_checked(count) else {
        return damaged(format!("a structure of {} bytes lacks {count} more", bytes.len()));
    };
    *bytes = tail;
    Ok(head)
}

/// Takes a number of `size` bytes off the front of `bytes`.
fn number(bytes: &mut &[u8], size: usize) -> Result<u64, Fault> {
    take(bytes, size).map(le)
}

impl<'a> File<'a> {
    /// The file at `place` of `input`, which lies within the input.
    pub fn open(input: &'a Input, place: Range) -> Result<Self, Fault> {
        // Each structure once, and as much again for the pieces that several tensors share.
        let budget = Cell::new(place.len.saturating_mul(2).saturating_add(1 << 16));
        let mut file = Self { input, place, base: place.offset, root: 0, budget, heaps: RefCell::default() };
        let start = file.read(0, 96.min(place.len))?;
        let start = &mut &start[..];
        if take(start, 8)? != SIGNATURE {
            return damaged("no HDF5 signature at its start");
        }
        let version = number(start, 1)?;
        let sizes = match version {
            0 | 1 => {
                take(start, 4)?;
                let sizes = [number(start, 1)?, number(start, 1)?];
                take(start, if version == 0 { 9 } else { 13 })?;
                sizes
            }
            2 | 3 => {
                let sizes = [number(start, 1)?, number(start, 1)?];
                take(start, 1)?;
                sizes
            }
            _ => return damaged(format!("a superblock of version {version}")),
        };
        if sizes != [8, 8] {
            return damaged(format!("addresses and lengths of {sizes:?} bytes, where 8 are usual"));
        }
        let base = number(start, 8)?;
        take(start, 8)?;
        let end = number(start, 8)?;
        // The driver's block or the root's name come between in the older versions.
        take(start, if version < 2 { 16 } else { 0 })?;
        file.root = number(start, 8)?;
        match base.checked_add(end).is_some_and(|end| end <= place.len) {
            true => file.base = place.offset + base,
            false => return damaged(format!("it is cut short: {} bytes of {end}", place.len)),
        }
        Ok(file)
    }

    /// The outermost group.
    pub fn root(&self) -> Result<Object, Fault> {
        Object::at(self, self.root)
    }

    /// Bytes of structure at an address.
    fn read(&self, address: u64, len: u64) -> Result<Vec<u8>, Fault> {
        let offset = self.offset(address, len)?;
        // Looking costs something, too.
        self.charge(usize::try_from(len.max(16)).unwrap_or(usize::MAX))?;
        Ok(self.input.read(offset, len)?)
    }

    /// Counts `bytes` that are kept against what may be read.
    fn charge(&self, bytes: usize) -> Result<(), Fault> {
        match self.budget.get().checked_sub(bytes as u64) {
            Some(left) => {
                self.budget.set(left);
                Ok(())
            }
            None => damaged("its structure refers to itself, or to the same bytes over and over"),
        }
    }

    /// Where `len` bytes at an address are in the input.
    fn offset(&self, address: u64, len: u64) -> Result<u64, Fault> {
        let offset = self.base.checked_add(address);
        let end = offset.and_then(|offset| offset.checked_add(len));
        match (offset, end) {
            (Some(offset), Some(end)) if end <= self.place.offset + self.place.len => Ok(offset),
            _ => damaged(format!("{len} bytes at {address} end beyond the file's {} bytes", self.place.len)),
        }
    }
}
