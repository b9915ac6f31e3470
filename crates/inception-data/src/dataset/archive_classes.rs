//! The pictures of an archive by the folders of classes in it.

use std::collections::HashMap;
use std::path::Path;

use super::archive::{Archive, ArchiveFormat};
use super::class_names::{ClassNames, NamedClass};
use super::item::{Item, round_robin};
use super::listing::{Listing, Source};
use crate::error::{DatasetProblem, Error};
use crate::scan_stats::ScanStats;

/// Lists the pictures of an archive whose folders are classes, at whatever depth. A tar archive inside a tar
/// archive is such a folder, named without `.tar`: ImageNet's training pictures are shipped so.
pub(super) fn open(path: &Path, format: ArchiveFormat, names: &ClassNames) -> Result<Listing, Error> {
    let mut stats = ScanStats::default();
    let (archive, mut items) = Archive::open_images(path, format, &mut stats)?;
    let by_order = by_order(&items, names);
    stats.sorted_classes = by_order.as_ref().map_or(0, HashMap::len);
    for item in &mut items {
        // The innermost folder that names a class; else the innermost one, for the message.
        let above = folders(&item.path);
        let class = above.iter().find(|name| !matches!(names.class(name), NamedClass::Unknown));
        item.label = match (&by_order, class.or(above.first())) {
            (Some(order), Some(folder)) => order.get(folder).copied().unwrap_or_default(),
            (None, Some(folder)) => names.class_or_error(path, folder)?,
            (_, None) => {
                stats.loose_pictures = 1;
                return Err(Error::dataset(path, DatasetProblem::NoClasses { stats }));
            }
        };
    }
    let items = if archive.is_sequential() { items } else { round_robin(items) };
    Ok(Listing { items, root: path.to_owned(), source: Source::Archive(archive), stats })
}

/// The folders above a member, innermost first.
fn folders(path: &Path) -> Vec<String> {
    path.iter().rev().skip(1).map(|name| name.to_string_lossy().into_owned()).collect()
}

/// The classes by the order of the names of the pictures' folders, where these can only be that.
fn by_order(items: &[Item], names: &ClassNames) -> Option<HashMap<String, u32>> {
    let mut innermost: Vec<String> = Vec::new();
    for item in items {
        let above = folders(&item.path);
        if above.iter().any(|name| !matches!(names.class(name), NamedClass::Unknown)) {
            return None;
        }
        innermost.push(above.into_iter().next()?);
        // Those of neighbours are mostly the same.
        if let [.., before, last] = &innermost[..]
            && before == last
        {
            innermost.pop();
        }
    }
    innermost.sort();
    innermost.dedup();
    names.are_in_order_of(&innermost).then(|| innermost.into_iter().zip(0..).collect())
}
