//! Folders of Parquet files: splits, and the shards that a split consists of.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::files::{entries, is_folder, is_hidden};
use super::listing::Listing;
#[cfg(feature = "parquet")]
use super::{listing::Source, parquet::ParquetFiles};
use crate::error::{DatasetProblem, Error};
use crate::files::has_extension;
use crate::scan_stats::ScanStats;

/// Lists the rows of a Parquet file, or of the shards of a `split` in a folder.
pub(super) fn open(path: &Path, split: Option<&str>, num_classes: usize) -> Result<Listing, Error> {
    let (files, stats) = match path.is_dir() {
        true => shards(path, split)?,
        false => (vec![path.to_owned()], ScanStats::default()),
    };
    #[cfg(feature = "parquet")]
    {
        let (files, items) = ParquetFiles::open(&files, num_classes)?;
        Ok(Listing { items, root: path.to_owned(), source: Source::Parquet(Box::new(files)), stats })
    }
    #[cfg(not(feature = "parquet"))]
    {
        let _ = (files, stats, num_classes);
        Err(Error::dataset(path, DatasetProblem::NeedsFeature { format: "Parquet", feature: "parquet" }))
    }
}

/// Whether a folder has Parquet files and no folder beside them.
pub(super) fn holds_parquet(root: &Path) -> Result<bool, Error> {
    let entries = entries(root)?;
    let is_parquet =
        |entry: &fs::DirEntry| !is_hidden(&entry.file_name()) && has_extension(&entry.path(), "parquet");
    Ok(!entries.iter().any(is_folder) && entries.iter().any(is_parquet))
}

/// The split of a Parquet file and its number of shards: `validation` and 14 of `validation-00000-of-00014`.
fn split_of(path: &Path) -> (String, Option<usize>) {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let words: Vec<&str> = stem.split(['-', '_', '.']).collect();
    let is_number = |word: &&str| word.bytes().all(|byte| byte.is_ascii_digit());
    let name = words.iter().take_while(|word| !is_number(word)).copied().collect::<Vec<_>>().join("-");
    let of = words.iter().position(|word| *word == "of").and_then(|at| words.get(at + 1)?.parse().ok());
    (name, of)
}

/// The shards of a split, in the order of their names. Without a `split` the folder must hold only one.
fn shards(root: &Path, split: Option<&str>) -> Result<(Vec<PathBuf>, ScanStats), Error> {
    let mut stats = ScanStats::default();
    let mut splits: BTreeMap<String, (Vec<PathBuf>, Option<usize>)> = BTreeMap::new();
    for entry in entries(root)? {
        if is_hidden(&entry.file_name()) {
            stats.hidden += 1;
        } else if has_extension(&entry.path(), "parquet") {
            let (name, of) = split_of(&entry.path());
            let (files, count) = splits.entry(name).or_default();
            files.push(entry.path());
            *count = of;
        } else {
            stats.other_files += 1;
        }
    }
    let names = || splits.keys().cloned().collect();
    let chosen = match split {
        Some(name) => splits.get(name),
        None if splits.len() == 1 => splits.values().next(),
        None => None,
    };
    let Some((files, count)) = chosen else {
        return Err(Error::dataset(root, DatasetProblem::Splits { found: names() }));
    };
    match *count {
        Some(count) if count != files.len() => {
            let found = files.len();
            Err(Error::dataset(root, DatasetProblem::MissingShards { found, count }))
        }
        _ => Ok((files.clone(), stats)),
    }
}
