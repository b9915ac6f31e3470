//! A list of images and labels, such as PaddleClas's `val_list.txt`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::archive::{Archive, spans};
use super::files::{entries, is_folder, read_text, without_dots};
use super::item::Item;
use super::layout::{KAGGLE_HEAD, Layout};
use super::listing::{Listing, Source};
use super::options::DatasetOptions;
use crate::error::{DatasetProblem, Error};
use crate::labels::{class_of_devkit_id, class_of_wordnet_id, labels};
use crate::scan_stats::ScanStats;

/// Lists the images of a file with `relative/path label` on each line. They are below `image_root`, beside
/// the list without one.
pub(super) fn open(path: &Path, options: &DatasetOptions) -> Result<Listing, Error> {
    let image_root = options.image_root.as_deref();
    let text = read_text(path)?;
    let rows = match text.strip_prefix(KAGGLE_HEAD) {
        Some(rows) => kaggle_rows(path, rows, options.num_classes)?,
        None if has_numbers_alone(&text) => ground_truth_rows(path, &text, options.num_classes)?,
        None => labelled_rows(path, &text, options)?,
    };
    let items = rows.into_iter().map(|(name, class)| Item::new(name, class)).collect();
    locate(path, image_root, items)
}

/// Finds the images of the list `path` where they are: below `image_root`, which may be an archive, or beside
/// the list.
pub(super) fn locate(path: &Path, image_root: Option<&Path>, items: Vec<Item>) -> Result<Listing, Error> {
    let mut stats = ScanStats::default();
    let root = image_root.unwrap_or(path.parent().unwrap_or(Path::new(""))).to_owned();
    let (source, spans) = match image_root.map(|root| Ok((root, Layout::of(root)?))).transpose()? {
        Some((root, Layout::Archive(format))) => {
            let (archive, members) = Archive::open(root, format, &mut stats)?;
            (Source::Archive(archive), spans(members))
        }
        _ => (Source::Files, HashMap::new()),
    };
    let with_span = |item: Item| {
        let span = spans.get(&without_dots(&item.path)).copied();
        Item { span, ..item }
    };
    let mut items: Vec<Item> = items.into_iter().map(with_span).collect();
    if matches!(&source, Source::Archive(archive) if archive.is_sequential()) {
        items.sort_by_key(|item| item.span);
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

/// The lists that ImageNet's validation pictures are shipped with, which lie in one folder.
const IMAGENETS_LISTS: [&str; 2] = ["ILSVRC2012_validation_ground_truth.txt", "LOC_val_solution.csv"];

/// The list of the pictures in a folder that has one of [`IMAGENETS_LISTS`] and no folders.
pub(super) fn in_flat_folder(root: &Path) -> Result<Option<PathBuf>, Error> {
    let list = IMAGENETS_LISTS.into_iter().map(|name| root.join(name)).find(|list| list.is_file());
    let Some(list) = list else { return Ok(None) };
    Ok((!entries(root)?.iter().any(is_folder)).then_some(list))
}

/// Whether each line is a number and nothing else, as in `ILSVRC2012_validation_ground_truth.txt`.
fn has_numbers_alone(text: &str) -> bool {
    let is_number = |line: &str| !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_digit());
    let text = text.trim_end();
    !text.is_empty() && text.lines().all(|line| is_number(line.trim()))
}

/// Rows of a class alone, as the development kit of ILSVRC 2012 counts them, from 1; the line is the
/// picture's number.
fn ground_truth_rows(path: &Path, text: &str, num_classes: usize) -> Result<Vec<(PathBuf, u32)>, Error> {
    if num_classes != labels().len() {
        return Err(Error::dataset(path, DatasetProblem::WordNetList { num_classes }));
    }
    let row = |(number, line): (usize, &str)| {
        let id = line.trim();
        let class = id.parse().ok().and_then(class_of_devkit_id);
        let class = class.ok_or_else(|| {
            Error::dataset(path, DatasetProblem::DevkitLabel { line: number, id: id.to_owned() })
        })?;
        Ok((format!("ILSVRC2012_val_{number:08}.JPEG").into(), class as u32))
    };
    (1..).zip(text.trim_end().lines()).map(row).collect()
}

/// Whether a list is one of ImageNet's own, whose classes are ImageNet's.
pub(super) fn is_imagenets(path: &Path) -> Result<bool, Error> {
    let text = read_text(path)?;
    Ok(text.starts_with(KAGGLE_HEAD) || has_numbers_alone(&text))
}

/// Rows of `name,WordNet id and box, ...`: the first id is the class, and names lack `.JPEG`.
fn kaggle_rows(path: &Path, rows: &str, num_classes: usize) -> Result<Vec<(PathBuf, u32)>, Error> {
    if num_classes != labels().len() {
        return Err(Error::dataset(path, DatasetProblem::WordNetList { num_classes }));
    }
    let mut found = Vec::new();
    // The first line is the rest of the head.
    for (number, row) in (1..).zip(rows.lines()) {
        let Some((name, boxes)) = row.split_once(',') else { continue };
        let id = boxes.split_whitespace().next().unwrap_or_default();
        let class = class_of_wordnet_id(id).ok_or_else(|| wrong_label(path, number, id, num_classes))?;
        found.push((format!("{name}.JPEG").into(), class as u32));
    }
    Ok(found)
}

/// Rows of `relative/path label`.
fn labelled_rows(path: &Path, text: &str, options: &DatasetOptions) -> Result<Vec<(PathBuf, u32)>, Error> {
    let num_classes = options.num_classes;
    let lines = || (1..).zip(text.lines().map(str::trim));
    let label_of = |line: &str| -> Option<u64> { line.rsplit([' ', '\t']).next()?.parse().ok() };
    let mut rows = Vec::new();
    for (number, line) in lines().filter(|(_, line)| !line.is_empty()) {
        // Paths may have spaces, labels have none.
        let separated = line.rsplit_once([' ', '\t']);
        let (name, label) = separated.ok_or_else(|| wrong_label(path, number, "", num_classes))?;
        let class = label.parse::<u32>().ok().and_then(|label| label.checked_sub(options.label_base));
        let Some(class) = class.filter(|&class| (class as usize) < num_classes) else {
            let from_one = lines().filter(|(_, line)| !line.is_empty()).all(|(_, line)| {
                label_of(line).is_some_and(|label| (1..=num_classes as u64).contains(&label))
            });
            return Err(match options.label_base == 0 && from_one {
                true => Error::dataset(path, DatasetProblem::OneBased { num_classes }),
                false => wrong_label(path, number, label, num_classes),
            });
        };
        rows.push((name.trim_end().into(), class));
    }
    Ok(rows)
}

fn wrong_label(path: &Path, line: usize, label: &str, num_classes: usize) -> Error {
    Error::List { path: path.to_owned(), line, label: label.to_owned(), num_classes }
}
