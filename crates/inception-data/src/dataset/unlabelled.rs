//! Pictures without classes: those of a folder, a list or an archive, in the order of their names or lines.

use std::fs;
use std::path::Path;

use super::archive::Archive;
use super::folder::walk;
use super::item::Item;
use super::label_table;
use super::layout::Layout;
use super::listing::{Listing, Source};
use super::shards;
use crate::error::{DatasetProblem, Error};
use crate::files::is_image;
use crate::scan_stats::ScanStats;

/// Lists the pictures of `path`, all with the label 0.
pub(super) fn open(path: &Path) -> Result<Listing, Error> {
    let mut stats = ScanStats::default();
    let (mut items, source, root) = match Layout::of(path)? {
        Layout::Folder => {
            let mut items = Vec::new();
            walk(path, Path::new(""), 0, &mut items, &mut stats)?;
            (items, Source::Files, path.to_owned())
        }
        Layout::Archive(format) => {
            let (archive, mut members) = Archive::open(path, format, &mut stats)?;
            let all = members.len();
            members.retain(|item| is_image(&item.path));
            stats.other_files += all - members.len();
            (members, Source::Archive(archive), path.to_owned())
        }
        Layout::List => return list(path, stats),
        Layout::LabelTable => return Ok(label_table::open(path, None, None)?.0),
        Layout::Parquet => return shards::open(path, None, u32::MAX as usize),
    };
    // As Python sorts paths as text.
    let sequential = matches!(&source, Source::Archive(archive) if archive.is_sequential());
    let by_text =
        |a: &Item, b: &Item| a.path.as_os_str().as_encoded_bytes().cmp(b.path.as_os_str().as_encoded_bytes());
    if !sequential {
        items.sort_by(by_text);
    }
    Ok(Listing { items, root, source, stats })
}

/// The lines of a list, with or without labels.
fn list(path: &Path, stats: ScanStats) -> Result<Listing, Error> {
    let text = fs::read(path).map_err(Error::reading(path))?;
    let Ok(text) = String::from_utf8(text) else {
        return Err(Error::dataset(path, DatasetProblem::UnknownKind));
    };
    let root = path.parent().unwrap_or(Path::new("")).to_owned();
    let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim).filter(|line| !line.is_empty());
    let name = |line: &'_ str| match line.rsplit_once([' ', '\t']) {
        Some((name, label)) if label.bytes().all(|byte| byte.is_ascii_digit()) => name.trim_end().to_owned(),
        _ => line.to_owned(),
    };
    let items: Vec<Item> = lines.map(|line| Item::new(name(line).into(), 0)).collect();
    if !items.is_empty() && !items.iter().any(|item| root.join(&item.path).exists()) {
        return Err(Error::dataset(path, DatasetProblem::AllMissing { count: items.len(), root }));
    }
    Ok(Listing { items, root, source: Source::Files, stats })
}
