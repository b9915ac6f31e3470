//! The classes that a dataset has by itself.

use std::collections::BTreeSet;
use std::path::Path;

use super::archive::{Archive, ArchiveFormat};
use super::files::{entries, is_folder};
use super::item::Item;
use super::layout::Layout;
use super::list;
use crate::error::{DatasetProblem, Error};
use crate::labels::labels;
use crate::scan_stats::ScanStats;

/// The classes of a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Classes {
    /// How many there are.
    pub count: usize,
    /// Their names in their order, where the dataset has names.
    pub names: Option<Vec<String>>,
}

impl Classes {
    /// The name of the first class that none of `items`, which may have several, has.
    pub(super) fn without_image(&self, items: &[Item]) -> Option<String> {
        let present: BTreeSet<u32> =
            items.iter().filter_map(|item| item.labels.as_deref()).flatten().copied().collect();
        let missing = (0..).zip(self.names.iter().flatten()).find(|(class, _)| !present.contains(class));
        missing.map(|(_, name)| name.clone())
    }
}

/// The names of the classes of `path`, where its layout has names.
pub(super) fn names(path: &Path) -> Result<Option<Vec<String>>, Error> {
    let imagenets = || Some(labels().iter().map(|&name| name.to_owned()).collect());
    let found: BTreeSet<String> = match Layout::of(path)? {
        Layout::List if list::is_imagenets(path)? => return Ok(imagenets()),
        Layout::List | Layout::LabelTable | Layout::Parquet => return Ok(None),
        Layout::Archive(format) => folders_of_images(path, format)?,
        Layout::Folder if list::in_flat_folder(path)?.is_some() => return Ok(imagenets()),
        Layout::Folder => {
            let folders = entries(path)?.into_iter().filter(is_folder);
            folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
        }
    };
    let mut names: Vec<String> = found.into_iter().collect();
    // Numbers from 0 are the classes' own: in the order of names 10 would come before 2.
    let mut numbers: Vec<usize> = names.iter().filter_map(|name| name.parse().ok()).collect();
    numbers.sort_unstable();
    if numbers.len() == names.len() && numbers.into_iter().eq(0..names.len()) {
        names.sort_by_key(|name| name.parse().unwrap_or(usize::MAX));
    }
    Ok(Some(names))
}

/// The names of the folders that the images of an archive lie in.
fn folders_of_images(path: &Path, format: ArchiveFormat) -> Result<BTreeSet<String>, Error> {
    let (_, images) = Archive::open_images(path, format, &mut ScanStats::default())?;
    let folders = images.iter().filter_map(|item| item.path.parent()?.file_name());
    Ok(folders.map(|name| name.to_string_lossy().into_owned()).collect())
}

/// How many classes the labels of `items` are of.
pub(super) fn count(path: &Path, items: &[Item]) -> Result<usize, Error> {
    let label = items.iter().map(|item| item.label);
    let (smallest, largest) = (label.clone().min().unwrap_or(0), label.max().unwrap_or(0));
    let pictures = items.len();
    if smallest > 0 {
        return Err(Error::dataset(path, DatasetProblem::OneBased { num_classes: largest as usize }));
    }
    if largest as usize >= pictures && largest > 0 {
        return Err(Error::dataset(path, DatasetProblem::SparseLabels { largest, pictures }));
    }
    Ok(largest as usize + 1)
}
