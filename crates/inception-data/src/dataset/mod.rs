//! Images on a disk, labelled or not: folders, lists, archives, Parquet files. Each layout is a file of its own.

mod archive;
mod class_names;
mod files;
mod folder;
mod item;
mod layout;
mod list;
mod listing;
#[cfg(feature = "parquet")]
mod parquet;
mod shards;
mod unlabelled;

use std::path::{Path, PathBuf};

pub use item::Item;
pub use listing::MAX_FILE_BYTES;

use crate::decode::decode;
use crate::error::{DatasetProblem, Error};
use crate::image::RgbImage;
use crate::scan_stats::ScanStats;
use class_names::ClassNames;
use layout::Layout;
use listing::Listing;

/// Options of [`Dataset::open`]; [`new`](Self::new) makes them, and its fields can be set.
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
}

impl DatasetOptions {
    /// `num_classes` classes, images beside their list, folders named by WordNet id or class number.
    pub const fn new(num_classes: usize) -> Self {
        Self { num_classes, image_root: None, labels: None, split: None }
    }
}

/// Labelled images in a fixed order.
#[derive(Debug)]
pub struct Dataset(Listing);

impl Dataset {
    /// Lists the images of `path` without opening any. The layout is told by the content of `path`:
    ///
    /// - **A folder** with a folder for each class, named by WordNet id (`n01440764`, the 1000 of ImageNet),
    ///   by class number from 0, or as a [labels file](DatasetOptions::labels) says. Order: the first image
    ///   of each class by name, then the second of each and so on, so that the first N are of all classes.
    /// - **A list**: `relative/path label` a line, as PaddleClas has them (`val_list.txt`); the path may have
    ///   spaces. Order: that of the lines. An image that is not there is found out only when it is read.
    /// - **A tar archive** of such folders, at any depth, read in place. The images of a list may be in one,
    ///   too.
    /// - **A Parquet file**, or a folder of them without folders beside them, with a column of images
    ///   (`{bytes, path}`) and one of labels, as Hugging Face's hub ships ImageNet. Order: the files by name,
    ///   the rows as they are. Needs the feature `parquet`.
    ///
    /// # Errors
    /// [`Error::Read`] if something cannot be read, [`Error::List`] for a line that makes no sense, and
    /// [`Error::Dataset`] for everything that would give a wrong or an empty answer: no class, no image, a
    /// folder that names no class, a label out of range, a labels file of another length, a list of which no
    /// image is there.
    pub fn open(path: impl AsRef<Path>, options: &DatasetOptions) -> Result<Self, Error> {
        let path = path.as_ref();
        let names = ClassNames::new(options.num_classes, options.labels.as_deref())?;
        let listing = match Layout::of(path)? {
            Layout::Folder => folder::open(path, &names)?,
            Layout::Archive => archive::open(path, &names)?,
            Layout::List => list::open(path, options.image_root.as_deref(), options.num_classes)?,
            Layout::Parquet => shards::open(path, options.split.as_deref(), options.num_classes)?,
        };
        if listing.items.is_empty() {
            return Err(Error::dataset(path, DatasetProblem::NoPictures { stats: listing.stats }));
        }
        Ok(Self(listing))
    }

    /// Lists the images of `path` without classes: those at any depth of a folder or a tar archive, in the order
    /// of their paths as text; those of a list, a path a line, with or without a label; or those of Parquet files.
    /// Each has the label 0, but for Parquet's.
    ///
    /// # Errors
    /// As [`open`](Self::open), as far as it is not about classes.
    pub fn open_unlabelled(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let listing = unlabelled::open(path)?;
        match listing.items.is_empty() {
            true => Err(Error::dataset(path, DatasetProblem::NoPictures { stats: listing.stats })),
            false => Ok(Self(listing)),
        }
    }

    /// All images.
    pub fn items(&self) -> &[Item] {
        &self.0.items
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.0.items.len()
    }

    /// Whether there is none; never so after [`open`](Self::open).
    pub fn is_empty(&self) -> bool {
        self.0.items.is_empty()
    }

    /// Keeps the first `len` images.
    pub fn truncate(&mut self, len: usize) {
        self.0.items.truncate(len);
    }

    /// Counts of what [`open`](Self::open) found besides ordinary images.
    pub fn scan_stats(&self) -> ScanStats {
        self.0.stats
    }

    /// Reads the file of image `index` into `bytes`, whose content is replaced.
    ///
    /// # Errors
    /// [`Error::Read`] if it cannot be read, is no file, or is larger than [`MAX_FILE_BYTES`].
    pub fn read_bytes(&self, index: usize, bytes: &mut Vec<u8>) -> Result<(), Error> {
        bytes.clear();
        self.0.read(index, bytes)
    }

    /// Reads and decodes image `index`.
    ///
    /// # Errors
    /// As [`read_bytes`](Self::read_bytes) and [`decode`].
    pub fn read(&self, index: usize) -> Result<RgbImage, Error> {
        let mut bytes = Vec::new();
        self.read_bytes(index, &mut bytes)?;
        decode(&bytes)
    }
}
