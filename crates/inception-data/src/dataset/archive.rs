//! A tar archive, read in place.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Mutex;

use super::class_names::{ClassNames, NamedClass};
use super::files::{is_hidden, without_dots};
use super::item::{Item, round_robin};
use super::listing::{Listing, Source};
use crate::error::{DatasetProblem, Error};
use crate::files::is_image;
use crate::scan_stats::ScanStats;

/// Lists the images of an archive whose folders are classes, at whatever depth.
pub(super) fn open(path: &Path, names: &ClassNames) -> Result<Listing, Error> {
    let mut stats = ScanStats::default();
    let (file, members) = members(path, &mut stats)?;
    let mut items = Vec::new();
    for mut item in members {
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

/// The members of an archive, whatever they are, with a label of 0.
pub(super) fn members(path: &Path, stats: &mut ScanStats) -> Result<(File, Vec<Item>), Error> {
    let damaged = |source| Error::dataset(path, DatasetProblem::Archive { source });
    let file = File::open(path).map_err(Error::reading(path))?;
    let mut archive = tar::Archive::new(file);
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
    let file = archive.into_inner();
    // Empty blocks close an archive; without them what follows has been cut off.
    if file.metadata().map_err(Error::reading(path))?.len() < end.saturating_add(512) {
        return Err(damaged(io::Error::new(io::ErrorKind::UnexpectedEof, "it ends without an end mark")));
    }
    Ok((file, members))
}
