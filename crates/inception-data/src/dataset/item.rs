//! An image of a dataset and where its bytes are.

use std::path::PathBuf;

/// An image and its class.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Item {
    /// Path relative to the dataset's root; in a Parquet file the name that it has for the image.
    pub path: PathBuf,
    /// Its class, from 0; 0 where it has [`labels`](Self::labels).
    pub label: u32,
    /// In a dataset of images of several classes those that it has, in order.
    pub labels: Option<Box<[u32]>>,
    /// Offset and length of its bytes in the archive.
    pub(super) span: Option<(u64, u64)>,
}

impl Item {
    pub(super) fn new(path: PathBuf, label: u32) -> Self {
        Self { path, label, labels: None, span: None }
    }
}

/// Orders images round robin: one of each class in turn, those of a class by name.
pub(super) fn round_robin(mut items: Vec<Item>) -> Vec<Item> {
    items.sort_by(|a, b| (a.label, &a.path).cmp(&(b.label, &b.path)));
    let mut round = 0;
    let mut rounds = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        round = if index > 0 && items[index - 1].label == item.label { round + 1 } else { 0 };
        rounds.push(round);
    }
    let mut order: Vec<(usize, Item)> = rounds.into_iter().zip(items).collect();
    // Stable: within a round the order by class stays.
    order.sort_by_key(|(round, _)| *round);
    order.into_iter().map(|(_, item)| item).collect()
}
