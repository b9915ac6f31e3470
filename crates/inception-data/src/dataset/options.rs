//! How a dataset is opened.

use std::path::PathBuf;

/// Options of [`Dataset::open`](crate::Dataset::open); [`new`](Self::new) makes them, and its fields can be set.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DatasetOptions {
    /// Number of classes; a label beyond is an error.
    pub num_classes: usize,
    /// Where the images of a list are, if not beside it: a folder or a tar archive.
    pub image_root: Option<PathBuf>,
    /// A text file with one line a class, in the order of the class numbers: the name of its folder. Without
    /// it folders are named by WordNet id or by class number.
    pub labels: Option<PathBuf>,
    /// Which files of a folder of Parquet files: those whose name starts with this, as in
    /// `validation-00000-of-00014`. Needed where there is more than one such name.
    pub split: Option<String>,
    /// What a list counts its first class as: 0, or 1.
    pub label_base: u32,
    /// Whether JPEG files that end early are read, as [`DecodeOptions::accept_truncated`](crate::DecodeOptions::accept_truncated) says.
    pub accept_truncated: bool,
}

impl DatasetOptions {
    /// `num_classes` classes, images beside their list, folders named by WordNet id or class number.
    pub const fn new(num_classes: usize) -> Self {
        Self {
            num_classes,
            image_root: None,
            labels: None,
            split: None,
            label_base: 0,
            accept_truncated: false,
        }
    }
}
