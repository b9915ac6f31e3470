//! Hashes that identify what was evaluated.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use inception_data::Dataset;
use inception_nn::fnv1a;

/// Bytes of a file that are hashed together.
const CHUNK: u64 = 1 << 20;

/// The hash of pieces in their order.
struct Chain(u64);

impl Chain {
    fn add(&mut self, mut piece: Vec<u8>) {
        piece.extend(self.0.to_le_bytes());
        self.0 = fnv1a(&piece);
    }
}

/// Identifies the pictures and labels of a dataset, their order, and whether cut pictures count.
pub fn dataset_hash(dataset: &Dataset) -> String {
    let mut chain = Chain(0);
    if dataset.accepts_truncated() {
        chain.add(b"truncated pictures are read".to_vec());
    }
    for item in dataset.items() {
        chain.add([item.path.as_os_str().as_encoded_bytes(), &item.label.to_le_bytes()].concat());
        if let Some(labels) = &item.labels {
            chain.add(labels.iter().flat_map(|label| label.to_le_bytes()).collect());
        }
    }
    format!("{:016x}", chain.0)
}

/// Identifies a dataset as [`dataset_hash`] does, and the version of each of its files, by length and time of
/// the last change.
pub fn dataset_version(dataset: &Dataset) -> String {
    let mut chain = Chain(0);
    for version in dataset.versions() {
        chain.add(version.map(u64::to_le_bytes).concat());
    }
    format!("{}, {:016x}", dataset_hash(dataset), chain.0)
}

/// Identifies a file by its content: its length and a hash of all of it.
///
/// # Errors
///
/// What reading it gives.
pub fn file_hash(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let (mut chain, mut len) = (Chain(0), 0);
    loop {
        let mut chunk = Vec::new();
        let count = file.by_ref().take(CHUNK).read_to_end(&mut chunk)?;
        if count == 0 {
            return Ok(format!("{len} bytes, {:016x}", chain.0));
        }
        len += count;
        chain.add(chunk);
    }
}
