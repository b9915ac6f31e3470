//! A folder with a folder for each class, as torchvision's `ImageFolder` has it.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use super::class_names::ClassNames;
use super::files::{entries, is_folder, is_hidden};
use super::item::{Item, round_robin};
use super::listing::{Listing, Source};
use crate::error::{DatasetProblem, Error};
use crate::files::is_image;
use crate::scan_stats::ScanStats;

/// Lists the images of a folder with a folder for each class.
pub(super) fn open(root: &Path, names: &ClassNames) -> Result<Listing, Error> {
    let mut stats = ScanStats::default();
    let mut items = Vec::new();
    let mut classes: HashMap<u32, String> = HashMap::new();
    let entries = entries(root)?;
    let by_order = by_order(&entries, names);
    for entry in entries {
        let name = entry.file_name();
        if is_hidden(&name) {
            stats.hidden += 1;
            continue;
        }
        // A class's folder may be a link: that is how subsets are made.
        if !fs::metadata(entry.path()).is_ok_and(|metadata| metadata.is_dir()) {
            match is_image(Path::new(&name)) {
                true => stats.loose_pictures += 1,
                false => stats.other_files += 1,
            }
            continue;
        }
        let shown = name.to_string_lossy().into_owned();
        let label = match &by_order {
            Some(order) => order.get(&shown).copied().unwrap_or_default(),
            None => names.class_or_error(root, &shown)?,
        };
        stats.sorted_classes += usize::from(by_order.is_some());
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

/// The classes by the order of their folders' names, as torchvision's `ImageFolder` counts them: where no
/// folder says a class, and there are as many as classes.
fn by_order(entries: &[fs::DirEntry], names: &ClassNames) -> Option<HashMap<String, u32>> {
    let name = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    let folders: Vec<String> = entries.iter().filter(|entry| is_folder(entry)).map(name).collect();
    names.are_in_order_of(&folders).then(|| folders.into_iter().zip(0..).collect())
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
