//! A tar archive, read in place.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Mutex;

use super::class_names::{ClassNames, NamedClass};
use super::files::{is_hidden, without_dots};
use super::item::{Item, round_robin};
use super::listing::{Listing, Source};
use crate::error::{DatasetProblem, Error};
use crate::files::{has_extension, is_image};
use crate::scan_stats::ScanStats;

/// Lists the images of an archive whose folders are classes, at whatever depth. An archive inside it is such a
/// folder, named without `.tar`: ImageNet's training pictures are shipped so.
pub(super) fn open(path: &Path, names: &ClassNames) -> Result<Listing, Error> {
    let mut stats = ScanStats::default();
    let (file, members) = members(path, &mut stats)?;
    let mut items = Vec::new();
    for mut item in with_inner(path, &file, members, &mut stats)? {
        if !is_image(&item.path) {
            stats.other_files += 1;
            continue;
        }
        // The innermost folder that names a class; else the innermost one, for the message.
        let above: Vec<String> =
            item.path.iter().rev().skip(1).map(|name| name.to_string_lossy().into_owned()).collect();
        let class = above.iter().find(|name| !matches!(names.class(name), NamedClass::Unknown));
        item.label = match class.or(above.first()) {
            Some(folder) => names.class_or_error(path, folder)?,
            None => return Err(Error::dataset(path, DatasetProblem::NoClasses { stats })),
        };
        items.push(item);
    }
    let source = Source::Archive(Mutex::new(file));
    Ok(Listing { items: round_robin(items), root: path.to_owned(), source, stats })
}

/// The members, with those of archives among them in their place.
fn with_inner(
    path: &Path,
    file: &File,
    members: Vec<Item>,
    stats: &mut ScanStats,
) -> Result<Vec<Item>, Error> {
    let mut all = Vec::with_capacity(members.len());
    for member in members {
        let (Some((start, len)), true) = (member.span, has_extension(&member.path, "tar")) else {
            all.push(member);
            continue;
        };
        let folder = member.path.with_extension("");
        for inner in members_of(path, Section { file, start, len, at: 0 }, len, stats)? {
            let span = inner.span.map(|(offset, len)| (start + offset, len));
            all.push(Item { path: folder.join(inner.path), span, ..member.clone() });
        }
    }
    Ok(all)
}

/// A part of a file.
struct Section<'a> {
    file: &'a File,
    start: u64,
    len: u64,
    at: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.file.seek(SeekFrom::Start(self.start + self.at))?;
        let read = self.file.take(self.len.saturating_sub(self.at)).read(bytes)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for Section<'_> {
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

/// The members of an archive, whatever they are, with a label of 0.
pub(super) fn members(path: &Path, stats: &mut ScanStats) -> Result<(File, Vec<Item>), Error> {
    let file = File::open(path).map_err(Error::reading(path))?;
    let len = file.metadata().map_err(Error::reading(path))?.len();
    let members = members_of(path, &file, len, stats)?;
    Ok((file, members))
}

/// The members of the archive in `reader`, which has `len` bytes; it is the file `path` or a part of it.
fn members_of(
    path: &Path,
    reader: impl Read + Seek,
    len: u64,
    stats: &mut ScanStats,
) -> Result<Vec<Item>, Error> {
    let damaged = |source| Error::dataset(path, DatasetProblem::Archive { source });
    let mut archive = tar::Archive::new(reader);
    let mut members = Vec::new();
    let mut end = 0;
    for entry in archive.entries_with_seek().map_err(damaged)? {
        let entry = entry.map_err(damaged)?;
        end = entry.raw_file_position().saturating_add(entry.size());
        end = end.checked_next_multiple_of(512).unwrap_or(u64::MAX);
        let kind = entry.header().entry_type();
        if kind.is_dir() || kind.is_pax_global_extensions() {
            continue;
        }
        let path = without_dots(&entry.path().map_err(damaged)?);
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
    if len < end.saturating_add(512) {
        return Err(damaged(io::Error::new(io::ErrorKind::UnexpectedEof, "it ends without an end mark")));
    }
    Ok(members)
}
