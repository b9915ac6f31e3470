//! What is in a group: names and the addresses of objects.

use std::collections::BTreeMap;

use super::bytes::{number, take};
use super::file::{File, UNDEFINED};
use super::header::Object;
use crate::input::{Fault, damaged, unsupported};

const LINK_INFO: u64 = 0x02;
const LINK: u64 = 0x06;
const SYMBOL_TABLE: u64 = 0x11;

/// Members by name. Links to other names and files are left out.
pub(crate) type Links = BTreeMap<String, u64>;

impl Object {
    /// The members of a group; `None` for a dataset.
    pub(crate) fn links(&self, file: &File) -> Result<Option<Links>, Fault> {
        let mut links = Links::new();
        if let Some(table) = self.message(SYMBOL_TABLE) {
            let data = &mut &table.data[..];
            let (tree, heap) = (number(data, 8)?, number(data, 8)?);
            symbols(file, tree, None, &names(file, heap)?, &mut links)?;
            return Ok(Some(links));
        }
        if let Some(info) = self.message(LINK_INFO) {
            let data = &mut &info.data[..];
            let flags = number(data, 2)? >> 8;
            take(data, if flags & 1 != 0 { 8 } else { 0 })?;
            if number(data, 8)? != UNDEFINED {
                return unsupported(
                    "a group of over eight members as libver=\"latest\" writes it; save it as Keras does, without libver",
                );
            }
        }
        for message in self.messages.iter().filter(|message| message.kind == LINK) {
            link(&message.data, &mut links)?;
        }
        let is_group = self.message(LINK_INFO).is_some() || !links.is_empty();
        Ok(is_group.then_some(links))
    }

    /// The object at a path of names with slashes between.
    pub(crate) fn find(file: &File, links: &Links, path: &str) -> Result<Option<Self>, Fault> {
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        let Some(&first) = parts.next().and_then(|part| links.get(part)) else { return Ok(None) };
        let mut object = Self::at(file, first)?;
        for part in parts {
            let Some(&next) = object.links(file)?.as_ref().and_then(|links| links.get(part)) else {
                return Ok(None);
            };
            object = Self::at(file, next)?;
        }
        Ok(Some(object))
    }
}

/// The bytes of a local heap: names with zeros between.
fn names(file: &File, heap: u64) -> Result<Vec<u8>, Fault> {
    let head = file.read(heap, 32)?;
    let mut head = &head[..];
    if take(&mut head, 8)?[..4] != *b"HEAP" {
        return damaged(format!("no names at {heap}"));
    }
    let len = number(&mut head, 8)?;
    take(&mut head, 8)?;
    file.read(number(&mut head, 8)?, len)
}

/// Walks a tree of symbol tables. `level` is that of the node if its parent has said it, which bounds the
/// depth.
fn symbols(file: &File, node: u64, level: Option<u64>, names: &[u8], links: &mut Links) -> Result<(), Fault> {
    let head = file.read(node, 24)?;
    let mut head = &head[..];
    let signature = take(&mut head, 4)?;
    let (kind, own) = (number(&mut head, 1)?, number(&mut head, 1)?);
    if signature != b"TREE" || kind != 0 || level.is_some_and(|level| level != own) {
        return damaged(format!("no list of a group at {node}"));
    }
    let children = number(&mut head, 2)?;
    let entries = file.read(node.saturating_add(24), children * 16)?;
    let mut entries = &entries[..];
    for _ in 0..children {
        take(&mut entries, 8)?; // The greatest name before it.
        let child = number(&mut entries, 8)?;
        match own {
            0 => table(file, child, names, links)?,
            _ => symbols(file, child, Some(own - 1), names, links)?,
        }
    }
    Ok(())
}

/// One symbol table.
fn table(file: &File, at: u64, names: &[u8], links: &mut Links) -> Result<(), Fault> {
    let head = file.read(at, 8)?;
    let mut head = &head[..];
    if take(&mut head, 6)?[..4] != *b"SNOD" {
        return damaged(format!("no members of a group at {at}"));
    }
    let count = number(&mut head, 2)?;
    let entries = file.read(at.saturating_add(8), count * 40)?;
    let mut entries = &entries[..];
    for _ in 0..count {
        let (name, object) = (number(&mut entries, 8)?, number(&mut entries, 8)?);
        let is_soft = number(&mut entries, 4)? == 2;
        take(&mut entries, 20)?;
        let name = usize::try_from(name).ok().and_then(|name| names.get(name..));
        let name = name.and_then(|name| Some(&name[..name.iter().position(|&byte| byte == 0)?]));
        let Some(name) = name else { return damaged("a member of a group has no name") };
        // Many entries may share one long name.
        file.charge(name.len())?;
        if !is_soft {
            links.insert(String::from_utf8_lossy(name).into_owned(), object);
        }
    }
    Ok(())
}

/// A link in the header of its group.
fn link(mut data: &[u8], links: &mut Links) -> Result<(), Fault> {
    let data = &mut data;
    let flags = number(data, 2)? >> 8;
    let kind = if flags & 8 != 0 { number(data, 1)? } else { 0 };
    take(data, if flags & 4 != 0 { 8 } else { 0 })?;
    take(data, if flags & 0x10 != 0 { 1 } else { 0 })?;
    let len = number(data, 1 << (flags & 3))?;
    let name = take(data, usize::try_from(len).unwrap_or(usize::MAX))?;
    if kind == 0 {
        links.insert(String::from_utf8_lossy(name).into_owned(), number(data, 8)?);
    }
    Ok(())
}
