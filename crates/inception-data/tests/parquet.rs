//! Parquet files of pyarrow give their images, names and labels in order, from any thread; bad files are
//! errors.
#![cfg(feature = "parquet")]
#![allow(clippy::unwrap_used)] // In a test the panic is the report.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{goldens_dir, input};
use inception_data::{Dataset, DatasetOptions, DatasetProblem, Error, LoaderOptions, Preprocessing, load};
use serde::Deserialize;

/// A file of `parquet.json`; `generate_parquet.py` writes it.
#[derive(Deserialize)]
struct Written {
    file: String,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    path: Option<String>,
    label: u32,
    /// Which of the goldens' inputs.
    file: Option<String>,
    /// Whether its bytes are there.
    bytes: bool,
}

fn folder() -> PathBuf {
    goldens_dir().join("parquet")
}

fn written(file: &str) -> Vec<Row> {
    let text = fs::read_to_string(folder().join("parquet.json")).unwrap();
    let all: Vec<Written> = serde_json::from_str(&text).unwrap();
    all.into_iter().find(|written| written.file == file).unwrap().rows
}

fn open(path: impl AsRef<Path>) -> Result<Dataset, Error> {
    Dataset::open(path, &DatasetOptions::new(10))
}

fn refused(path: impl AsRef<Path>, options: &DatasetOptions) -> (DatasetProblem, String) {
    let error = Dataset::open(path, options).unwrap_err();
    let message = error.to_string();
    match error {
        Error::Dataset { problem, .. } => (*problem, message),
        other => panic!("{other:?}"),
    }
}

/// Image `index` is that of `row`.
fn check(dataset: &Dataset, index: usize, row: &Row, file: &str) {
    let name = format!("{file}, row {index}");
    let item = &dataset.items()[index];
    assert_eq!(item.label, row.label, "{name}");
    match &row.path {
        Some(path) => assert_eq!(item.path, Path::new(path), "{name}"),
        None => assert_eq!(item.path, Path::new(&format!("{file}#{index}")), "{name}"),
    }
    let mut bytes = vec![1, 2, 3];
    match (row.bytes, &row.file) {
        (true, Some(file)) => {
            dataset.read_bytes(index, &mut bytes).unwrap();
            assert!(bytes == input(file), "{name}");
        }
        _ => {
            let error = dataset.read_bytes(index, &mut bytes).unwrap_err();
            assert!(
                matches!(&error, Error::Read { path, source } if path.ends_with(name.split(',').next().unwrap())
                && source.to_string().contains("no picture")),
                "{error:?}"
            );
        }
    }
}

#[test]
fn files_of_pyarrow() {
    for file in ["pages.parquet", "plain.parquet", "required.parquet", "other.parquet", "missing.parquet"] {
        let rows = written(file);
        let dataset = open(folder().join(file)).unwrap();
        assert_eq!(dataset.len(), rows.len(), "{file}");
        let order =
            (0..rows.len()).chain((0..rows.len()).rev()).chain((0..rows.len()).map(|i| i * 7 % rows.len()));
        for index in order {
            check(&dataset, index, &rows[index], file);
        }
    }
}

/// As a hub's folder lies: two splits in files of several row groups, and what else there is.
#[test]
fn a_folder_of_a_hub() {
    let root = tempfile::tempdir().unwrap();
    let files = ["validation-00000-of-00002.parquet", "validation-00001-of-00002.parquet"];
    for file in files {
        fs::copy(folder().join(file), root.path().join(file)).unwrap();
    }
    fs::write(root.path().join("README.md"), "").unwrap();
    let rows: Vec<Row> = files.into_iter().flat_map(written).collect();
    let dataset = open(root.path()).unwrap();
    assert_eq!((dataset.len(), dataset.scan_stats().other_files), (25, 1));
    for (index, row) in rows.iter().enumerate() {
        check(&dataset, index, row, "");
    }

    // Batches of a shard by threads of different speed are those of the whole.
    let preprocessing = Preprocessing::paddleclas(20, 16);
    let mut wanted = vec![0.0; preprocessing.output_len() * rows.len()];
    for (out, row) in wanted.chunks_exact_mut(preprocessing.output_len()).zip(&rows) {
        let image = inception_data::decode(&input(row.file.as_ref().unwrap())).unwrap();
        preprocessing.apply(&image, out).unwrap();
    }
    for (batch, numbers) in
        [(4, vec![0, 2, 4, 6]), (4, vec![1, 3, 5]), (25, vec![0]), (1, (0..25).rev().collect())]
    {
        let options = LoaderOptions { batch, workers: 3, prefetch: 1 };
        load::<()>(&dataset, &preprocessing, &options, numbers, |batch, _| {
            let at = batch.items.start * preprocessing.output_len();
            assert!(batch.skipped.is_empty());
            assert!(batch.input == wanted[at..at + batch.input.len()], "batch {}", batch.number);
            Ok(())
        })
        .unwrap();
    }

    // A second split has to be chosen from.
    fs::copy(
        folder().join("plain.parquet"),
        root.path().join("train-00000-of-00001-0123456789abcdef.parquet"),
    )
    .unwrap();
    let options = DatasetOptions::new(10);
    let (problem, message) = refused(root.path(), &options);
    assert!(
        matches!(problem, DatasetProblem::Splits { .. }) && message.contains("train, validation"),
        "{message}"
    );
    let split = |name: &str| {
        let mut options = options.clone();
        options.split = Some(name.to_owned());
        options
    };
    assert!(refused(root.path(), &split("test")).1.contains("train, validation"));
    assert_eq!(Dataset::open(root.path(), &split("train")).unwrap().len(), 12);
    assert_eq!(Dataset::open(root.path(), &split("validation")).unwrap().len(), 25);
    // Part of a download.
    fs::remove_file(root.path().join(files[0])).unwrap();
    let (problem, message) = refused(root.path(), &split("validation"));
    assert!(matches!(problem, DatasetProblem::MissingShards { found: 1, count: 2 }), "{message}");
    assert_eq!(open(root.path().join(files[1])).unwrap().len(), 8);
    // With folders beside them they are not the data.
    fs::create_dir(root.path().join("3")).unwrap();
    assert!(matches!(refused(root.path(), &options).0, DatasetProblem::NoPictures { .. }));
}

#[test]
fn bad_files_are_refused() {
    let options = DatasetOptions::new(10);
    for (file, wanted) in [
        ("label_10.parquet", "row 1 (from 0) has the label 10; expected a label of 0 to 9"),
        ("label_-1.parquet", "contests without labels"),
        ("label_None.parquet", "no label"),
        ("no_label.parquet", "image.bytes, image.path"),
        // What this build cannot decompress is said when the labels are read.
        ("gzip.parquet", "flate2"),
    ] {
        let message = refused(folder().join(file), &options).1;
        assert!(message.contains(wanted), "{file}: {message}");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let whole = fs::read(folder().join("validation-00001-of-00002.parquet")).unwrap();
    for len in (4..whole.len()).step_by(97).chain([whole.len() - 1]) {
        fs::write(file.path(), &whole[..len]).unwrap();
        let problem = refused(file.path(), &options).0;
        assert!(matches!(problem, DatasetProblem::Parquet { .. }), "{len}: {problem}");
    }
    // Another file under the same name, once it is open.
    fs::write(file.path(), &whole).unwrap();
    let dataset = open(file.path()).unwrap();
    fs::write(file.path(), &whole[..whole.len() / 2]).unwrap();
    assert!(matches!(dataset.read(0), Err(Error::Read { .. })));
}

/// Damaged files give an error or images, never a panic: the same random changes each time.
#[test]
fn damage_never_panics() {
    let mut random = common::random();
    let file = tempfile::NamedTempFile::new().unwrap();
    let (mut refused, mut unread, mut read) = (0, 0, 0);
    for name in ["plain.parquet", "required.parquet", "pages.parquet", "missing.parquet"] {
        let whole = fs::read(folder().join(name)).unwrap();
        let footer = 8 + u32::from_le_bytes(*whole[..whole.len() - 4].last_chunk().unwrap()) as usize;
        for round in 0..300 {
            let mut damaged = whole.clone();
            for _ in 0..1 + random(3) {
                // Half of the changes hit the footer.
                let at = if round % 2 == 0 { random(whole.len()) } else { whole.len() - 1 - random(footer) };
                match random(2) {
                    0 => damaged[at] ^= 1 << random(8),
                    _ => damaged[at] = random(256) as u8,
                }
            }
            fs::write(file.path(), &damaged).unwrap();
            let Ok(dataset) = open(file.path()) else {
                refused += 1;
                continue;
            };
            for index in 0..dataset.len() {
                match dataset.read_bytes(index, &mut Vec::new()) {
                    Ok(()) => read += 1,
                    Err(error) => {
                        assert!(!error.to_string().is_empty());
                        unread += 1;
                    }
                }
            }
        }
    }
    println!("{refused} files refused, {unread} pictures unread, {read} read");
    assert!(
        refused > 100 && unread > 100 && read > 100,
        "{refused}, {unread}, {read}: the damage is one-sided"
    );
}
