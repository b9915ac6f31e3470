//! The members of a tar archive, and of tar archives in it.

use std::io::{self, Read, Seek, SeekFrom};

use super::files::{is_hidden, without_dots};
use super::item::Item;
use crate::files::has_extension;
use crate::scan_stats::ScanStats;

/// The members of the archive in `reader`, whatever they are; those of archives among them stand in their
/// place. `len` is how long it is, where that is known before it is read.
pub(super) fn members(
    reader: &mut (impl Read + Seek),
    len: Option<u64>,
    stats: &mut ScanStats,
) -> io::Result<Vec<Item>> {
    let outer = members_of(&mut *reader, len, stats)?;
    let mut all = Vec::with_capacity(outer.len());
    for member in outer {
        let (Some((start, len)), true) = (member.span, has_extension(&member.path, "tar")) else {
            all.push(member);
            continue;
        };
        let folder = member.path.with_extension("");
        let section = Section { reader: &mut *reader, start, len, at: 0 };
        for inner in members_of(section, Some(len), stats)? {
            let span = inner.span.map(|(offset, len)| (start + offset, len));
            all.push(Item { path: folder.join(inner.path), span, ..member.clone() });
        }
    }
    Ok(all)
}

/// Appends the bytes at `span`.
pub(super) fn read_span(
    reader: &mut (impl Read + Seek),
    (start, len): (u64, u64),
    bytes: &mut Vec<u8>,
) -> io::Result<()> {
    let before = bytes.len() as u64;
    reader.seek(SeekFrom::Start(start))?;
    reader.take(len).read_to_end(bytes)?;
    match bytes.len() as u64 - before == len {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// A part of a reader.
struct Section<'a, R> {
    reader: &'a mut R,
    start: u64,
    len: u64,
    at: u64,
}

impl<R: Read + Seek> Read for Section<'_, R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.reader.seek(SeekFrom::Start(self.start + self.at))?;
        let read = self.reader.by_ref().take(self.len.saturating_sub(self.at)).read(bytes)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl<R> Seek for Section<'_, R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// The members of the archive in `reader` itself.
fn members_of(
    mut reader: impl Read + Seek,
    len: Option<u64>,
    stats: &mut ScanStats,
) -> io::Result<Vec<Item>> {
    let mut members = Vec::new();
    let mut end = 0;
    for entry in tar::Archive::new(&mut reader).entries_with_seek()? {
        let entry = entry?;
        end = entry.raw_file_position().saturating_add(entry.size());
        end = end.checked_next_multiple_of(512).unwrap_or(u64::MAX);
        let kind = entry.header().entry_type();
        if kind.is_dir() || kind.is_pax_global_extensions() {
            continue;
        }
        let path = without_dots(&entry.path()?);
        if path.iter().any(is_hidden) {
            stats.hidden += 1;
        } else if kind.is_file() || kind.is_contiguous() {
            let span = Some((entry.raw_file_position(), entry.size()));
            members.push(Item { span, ..Item::new(path, 0) });
        } else {
            stats.other_files += 1;
        }
    }
    // Empty blocks close an archive; without them what follows has been cut off.
    let len = match len {
        Some(len) => len,
        None => reader.seek(SeekFrom::End(0))?,
    };
    if len < end.saturating_add(512) {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ends without an end mark"));
    }
    Ok(members)
}
