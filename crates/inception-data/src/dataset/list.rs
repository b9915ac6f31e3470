//! A list of images and labels, such as PaddleClas's `val_list.txt`.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;

use super::archive;
use super::files::without_dots;
use super::item::Item;
use super::layout::Layout;
use super::listing::{Listing, Source};
use crate::error::{DatasetProblem, Error};
use crate::scan_stats::ScanStats;

/// Lists the images of a file with `relative/path label` on each line. They are below `image_root`, beside
/// the list without one.
pub(super) fn open(path: &Path, image_root: Option<&Path>, num_classes: usize) -> Result<Listing, Error> {
    let text = fs::read(path).map_err(Error::reading(path))?;
    let Ok(text) = String::from_utf8(text) else {
        return Err(Error::dataset(path, DatasetProblem::UnknownKind));
    };
    let mut stats = ScanStats::default();
    let root = image_root.unwrap_or(path.parent().unwrap_or(Path::new(""))).to_owned();
    let (source, spans) = match image_root {
        Some(root) if matches!(Layout::of(root)?, Layout::Archive) => {
            let (file, members) = archive::members(root, &mut stats)?;
            let spans: HashMap<_, _> =
                members.into_iter().filter_map(|item| Some((item.path, item.span?))).collect();
            (Source::Archive(Mutex::new(file)), spans)
        }
        _ => (Source::Files, HashMap::new()),
    };

    let mut items = Vec::new();
    for (number, line) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let wrong = |label: &str| Error::List {
            path: path.to_owned(),
            line: number,
            label: label.to_owned(),
            num_classes,
        };
        // Paths may have spaces, labels have none.
        let (name, label) = line.rsplit_once([' ', '\t']).ok_or_else(|| wrong(""))?;
        let class = label.parse::<u32>().ok().filter(|&class| (class as usize) < num_classes);
        let name = Path::new(name.trim_end());
        let span = spans.get(&without_dots(name)).copied();
        let item = Item::new(name.to_owned(), class.ok_or_else(|| wrong(label))?);
        items.push(Item { span, ..item });
    }
    // If all are missing, it is the folder that is wrong; one alone counts as an image that cannot be read.
    let found = |item: &Item| match source {
        Source::Archive(_) => item.span.is_some(),
        _ => root.join(&item.path).exists(),
    };
    if !items.is_empty() && !items.iter().any(found) {
        return Err(Error::dataset(path, DatasetProblem::AllMissing { count: items.len(), root }));
    }
    Ok(Listing { items, root, source, stats })
}
