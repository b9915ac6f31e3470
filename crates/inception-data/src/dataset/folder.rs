//! A folder with a folder for each class, as torchvision's `ImageFolder` has it.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use super::class_names::ClassNames;
use super::files::{entries, is_hidden, is_image};
use super::item::{Item, round_robin};
use super::listing::{Listing, Source};
use crate::error::{DatasetProblem, Error};
use crate::scan_stats::ScanStats;

/// Lists the images of a folder with a folder for each class.
pub(super) fn open(root: &Path, names: &ClassNames) -> Result<Listing, Error> {
    let mut stats = ScanStats::default();
    let mut items = Vec::new();
    let mut classes: HashMap<u32, String> = HashMap::new();
    for entry in entries(root)? {
        let name = entry.file_name();
        if is_hidden(&name) {
            stats.hidden += 1;
            continue;
        }
        // A class's folder may be a link: that is how subsets are made.
        if !fs::metadata(entry.path()).is_ok_and(|metadata| metadata.is_dir()) {
            stats.other_files += 1;
            continue;
        }
        let shown = name.to_string_lossy().into_owned();
        let label = names.class_or_error(root, &shown)?;
        if let Some(first) = classes.insert(label, shown.clone()) {
            return Err(Error::dataset(
                root,
                DatasetProblem::SameClass { class: label, first, second: shown },
            ));
        }
        let before = items.len();
        walk(root, Path::new(&name), label, &mut items, &mut stats)?;
        stats.empty_classes += usize::from(items.len() == before);
    }
    if classes.is_empty() {
        return Err(Error::dataset(root, DatasetProblem::NoClasses { stats }));
    }
    Ok(Listing { items: round_robin(items), root: root.to_owned(), source: Source::Files, stats })
}

/// Collects the images below `root/folder`.
pub(super) fn walk(
    root: &Path,
    folder: &Path,
    label: u32,
    items: &mut Vec<Item>,
    stats: &mut ScanStats,
) -> Result<(), Error> {
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        let full = root.join(&folder);
        for entry in entries(&full)? {
            let name = entry.file_name();
            let path = folder.join(&name);
            let kind = entry.file_type().map_err(Error::reading(&full))?;
            if is_hidden(&name) {
                stats.hidden += 1;
            } else if kind.is_dir() {
                pending.push(path);
            } else if kind.is_symlink() && fs::metadata(root.join(&path)).is_ok_and(|m| m.is_dir()) {
                stats.folder_links += 1;
            } else if (kind.is_file() || kind.is_symlink()) && is_image(&path) {
                // A link to nothing stays: its image is missing, which has to be noticed.
                stats.links += usize::from(kind.is_symlink());
                items.push(Item::new(path, label));
            } else {
                stats.other_files += 1;
            }
        }
    }
    Ok(())
}
