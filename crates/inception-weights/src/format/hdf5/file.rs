//! A file: where its addresses are, and how much of its structure may be read.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use super::bytes::{number, take};
use super::collection::Collection;
use crate::input::{Fault, Input, Range, damaged, unsupported};

/// The first bytes of a file.
const SIGNATURE: [u8; 8] = *b"\x89HDF\r\n\x1a\n";

/// An address that stands for "nowhere".
pub(super) const UNDEFINED: u64 = u64::MAX;

/// An HDF5 file that is all or a part of an input.
pub(crate) struct File<'a> {
    input: &'a Input,
    place: Range,
    /// Where addresses count from, in the input.
    base: u64,
    /// The address of the outermost group.
    pub(super) root: u64,
    /// How many bytes of structure may still be read: what refers to itself ends here.
    budget: Cell<u64>,
    /// Collections of text that attributes refer to, by address.
    pub(super) heaps: RefCell<HashMap<u64, Collection>>,
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
            _ => return unsupported(format!("a superblock of version {version}")),
        };
        if sizes != [8, 8] {
            return unsupported(format!("addresses and lengths of {sizes:?} bytes, where 8 are usual"));
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

    /// Bytes of structure at an address.
    pub(super) fn read(&self, address: u64, len: u64) -> Result<Vec<u8>, Fault> {
        let offset = self.offset(address, len)?;
        // Looking costs something, too.
        self.charge(usize::try_from(len.max(16)).unwrap_or(usize::MAX))?;
        Ok(self.input.read(offset, len)?)
    }

    /// Counts `bytes` that are kept against what may be read.
    pub(super) fn charge(&self, bytes: usize) -> Result<(), Fault> {
        match self.budget.get().checked_sub(bytes as u64) {
            Some(left) => {
                self.budget.set(left);
                Ok(())
            }
            None => damaged("its structure refers to itself, or to the same bytes over and over"),
        }
    }

    /// Where `len` bytes at an address are in the input.
    pub(super) fn offset(&self, address: u64, len: u64) -> Result<u64, Fault> {
        let offset = self.base.checked_add(address);
        let end = offset.and_then(|offset| offset.checked_add(len));
        match (offset, end) {
            (Some(offset), Some(end)) if end <= self.place.offset + self.place.len => Ok(offset),
            _ => damaged(format!("{len} bytes at {address} end beyond the file's {} bytes", self.place.len)),
        }
    }
}
