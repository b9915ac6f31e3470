//! What the fuzz targets of `inception-data` do with their inputs; `crates/inception-data/tests/hostile.rs`
//! does the same with the corpus.

use std::cell::OnceCell;
use std::fs;

use inception_data::{
    Dataset, DatasetOptions, DatasetProblem, DecodeOptions, Error, Reader, decode_with, parse_labels,
};
use tempfile::NamedTempFile;

/// The targets.
pub const TARGETS: &[&str] = &["pictures", "archives", "lists", "labels"];

/// Reads `bytes` as `target` says. Whether they were something to it: others teach nothing.
pub fn read(target: &str, bytes: &[u8]) -> bool {
    match target {
        "pictures" => picture(bytes),
        "archives" => dataset(bytes, |bytes| {
            bytes.starts_with(b"PK")
                || bytes.starts_with(&[0x1f, 0x8b])
                || bytes.get(257..262) == Some(b"ustar")
        }),
        "lists" => dataset(bytes, |bytes| !bytes.contains(&0) && !bytes.starts_with(b"PK")),
        _ => std::str::from_utf8(bytes).is_ok_and(|text| parse_labels(text).is_ok()),
    }
}

/// By both ways of reading, whole or cut.
fn picture(bytes: &[u8]) -> bool {
    let mut decoded = false;
    for reader in [Reader::OpenCv, Reader::Pillow] {
        for accept_truncated in [false, true] {
            let mut options = DecodeOptions::new(reader);
            (options.accept_truncated, options.max_pixels) = (accept_truncated, 1 << 16);
            if let Ok(image) = decode_with(bytes, &options) {
                assert_eq!(
                    image.pixels().len() as u64,
                    3 * u64::from(image.width()) * u64::from(image.height())
                );
                decoded = true;
            }
        }
    }
    decoded
}

thread_local! {
    static FILE: OnceCell<NamedTempFile> = const { OnceCell::new() };
}

/// As data sets of two networks, with and without classes; everything in them is read.
fn dataset(bytes: &[u8], is_own: impl Fn(&[u8]) -> bool) -> bool {
    if !is_own(bytes) {
        return false;
    }
    FILE.with(|file| {
        let file = file.get_or_init(|| NamedTempFile::new().expect("a temporary file"));
        fs::write(file.path(), bytes).expect("a temporary file");
        let opened = [
            Dataset::open(file.path(), &DatasetOptions::new(1000)),
            Dataset::open(file.path(), &DatasetOptions::new(3)),
            Dataset::open_unlabelled(file.path()),
        ];
        let mut content = Vec::new();
        let mut found = false;
        for dataset in opened {
            let dataset = match dataset {
                Ok(dataset) => dataset,
                // A list of pictures that are nowhere is a list.
                Err(Error::Dataset { problem, .. }) => {
                    found |= matches!(*problem, DatasetProblem::AllMissing { .. });
                    continue;
                }
                Err(_) => continue,
            };
            found = true;
            // Forward, and a few back.
            for index in (0..dataset.len()).chain((0..dataset.len()).rev().step_by(7)) {
                let _ = dataset.read_bytes(index, &mut content);
            }
        }
        found
    })
}
