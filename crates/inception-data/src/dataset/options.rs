//! How a dataset is opened.

use std::path::PathBuf;

/// Options of [`Dataset::open`](crate::Dataset::open); [`new`](Self::new) makes them, and its fields can be
/// set.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DatasetOptions {
    /// Number of classes; a label beyond is an error.
    pub num_classes: usize,
    /// Where the images of a list are, if not beside it: a folder or an archive.
    pub image_root: Option<PathBuf>,
    /// The names of the classes in their order, after which their folders may be named, besides WordNet ids
    /// and class numbers; [`read_labels`](crate::read_labels) reads them from a file.
    pub labels: Option<Vec<String>>,
    /// Which files of a folder of Parquet files: those whose name starts with this, as in
    /// `validation-00000-of-00014`. Needed where there is more than one such name.
    pub split: Option<String>,
    /// What a list counts its first class as: 0, or 1.
    pub label_base: u32,
    /// Whether JPEG files that end early are read, as
    /// [`DecodeOptions::accept_truncated`](crate::DecodeOptions::accept_truncated) says.
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
