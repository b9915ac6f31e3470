//! Pictures without classes: those of a folder, a list or an archive, in the order of their names or lines.

use std::path::Path;

use super::archive::Archive;
use super::files::read_text;
use super::folder::walk;
use super::item::Item;
use super::label_table;
use super::layout::Layout;
use super::list::locate;
use super::listing::{Listing, Source};
use super::shards;
use crate::error::Error;
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
            let (archive, images) = Archive::open_images(path, format, &mut stats)?;
            (images, Source::Archive(archive), path.to_owned())
        }
        Layout::List => return list(path),
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
fn list(path: &Path) -> Result<Listing, Error> {
    let text = read_text(path)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let name = |line: &'_ str| match line.rsplit_once([' ', '\t']) {
        Some((name, label)) if label.bytes().all(|byte| byte.is_ascii_digit()) => name.trim_end().to_owned(),
        _ => line.to_owned(),
    };
    locate(path, None, lines.map(|line| Item::new(name(line).into(), 0)).collect())
}
