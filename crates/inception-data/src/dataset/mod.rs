//! Images on a disk, labelled or not: folders, lists, archives, Parquet files. Each layout is a file of its
//! own.

mod archive;
mod archive_classes;
mod class_names;
mod classes;
mod files;
mod folder;
mod gzip;
mod item;
mod kept;
mod label_table;
mod layout;
mod list;
mod listing;
mod options;
#[cfg(feature = "parquet")]
mod parquet;
mod sequence;
mod shards;
mod tar;
mod unlabelled;
mod zip;

use std::path::Path;

pub use classes::Classes;
pub use item::Item;
pub use options::DatasetOptions;

use crate::decode::{DecodeOptions, Reader, decode_with};
use crate::error::{DatasetProblem, Error};
use crate::image::RgbImage;
use crate::scan_stats::ScanStats;
use class_names::ClassNames;
use layout::Layout;
use listing::Listing;

/// Images, labelled or not, in a fixed order.
#[derive(Debug)]
pub struct Dataset {
    listing: Listing,
    accept_truncated: bool,
}

impl Dataset {
    /// Lists the images of `path` without opening any. The layout is told by the content of `path`:
    ///
    /// - **A folder** with a folder for each class, named by WordNet id (`n01440764`, the 1000 of ImageNet),
    ///   by class number from 0, or as a [labels file](DatasetOptions::labels) says. Where no folder is any
    ///   of that, and there are as many as classes, they are the classes by sorted name, as torchvision's
    ///   `ImageFolder` counts them. Order: the first image
    ///   of each class by name, then the second of each and so on, so that the first N are of all classes.
    /// - **A list**: `relative/path label` a line, as PaddleClas has them (`val_list.txt`); the path may have
    ///   spaces. `LOC_val_solution.csv` and `ILSVRC2012_validation_ground_truth.txt`, ImageNet's own, are
    ///   lists, too, and a folder without folders that has one of them is its pictures. Order: that of the
    ///   lines. An image that is not there is found out only when it is read.
    /// - **An archive** of such folders, at any depth: tar, tar in gzip, or zip, read where it is. In a tar
    ///   archive a tar archive for each class does, too, as ImageNet's training pictures are shipped. The
    ///   images of a list may be in an archive. Order: as a folder's; of a tar archive in gzip that of the
    ///   archive, because it can only be read from its start on.
    /// - **A Parquet file**, or a folder of them without folders beside them, with a column of images
    ///   (`{bytes, path}`) and one of labels, as Hugging Face's hub ships ImageNet. Order: the files by name,
    ///   the rows as they are. Needs the feature `parquet`.
    ///
    /// # Errors
    /// [`Error::Read`] if something cannot be read, [`Error::List`] for a line that makes no sense, and
    /// [`Error::Dataset`] for everything that would give a wrong or an empty answer: no class, no image, a
    /// folder that names no class, a label out of range, a list of which no image is there, a place for the
    /// images of what is no list.
    pub fn open(path: impl AsRef<Path>, options: &DatasetOptions) -> Result<Self, Error> {
        let path = path.as_ref();
        let names = ClassNames::new(options.num_classes, options.labels.as_deref());
        let layout = Layout::of(path)?;
        if let Some(root) = &options.image_root
            && root != path
            && !matches!(layout, Layout::List | Layout::LabelTable)
        {
            return Err(Error::dataset(path, DatasetProblem::OwnImages { root: root.clone() }));
        }
        let listing = match layout {
            Layout::Folder => match list::in_flat_folder(path)? {
                Some(list) => {
                    let image_root = Some(path.to_owned());
                    list::open(&list, &DatasetOptions { image_root, ..options.clone() })?
                }
                None => folder::open(path, &names)?,
            },
            Layout::Archive(format) => archive_classes::open(path, format, &names)?,
            Layout::List => list::open(path, options)?,
            Layout::LabelTable => return Err(Error::dataset(path, DatasetProblem::SeveralClasses)),
            Layout::Parquet => shards::open(path, options.split.as_deref(), options.num_classes)?,
        };
        Self::of(path, listing, options.accept_truncated)
    }

    /// The images of `path`, of which there must be one.
    fn of(path: &Path, listing: Listing, accept_truncated: bool) -> Result<Self, Error> {
        match listing.items.is_empty() {
            true => Err(Error::dataset(path, DatasetProblem::NoPictures { stats: listing.stats })),
            false => Ok(Self { listing, accept_truncated }),
        }
    }

    /// Lists the images of a table of labels: CSV, in a file `NAME.csv`, with a head and a row for each image.
    /// The first field is its path; an image has any number of classes, each of which is a column with 0 or 1,
    /// or all of which are in one column, by their names, with semicolons between them.
    ///
    /// The classes are [those of the options](DatasetOptions::labels), where there are some: all of them, by
    /// name, in any order. Otherwise they are the columns, or the names by alphabet.
    ///
    /// # Errors
    /// [`Error::Read`] and [`Error::Dataset`], as [`open`](Self::open); also for a file that is no such table,
    /// rows that are not as long as the head, a row without an image or with that of another, a value that is
    /// neither 0 nor 1, and a class that is not known or has no column.
    pub fn open_multilabel(
        path: impl AsRef<Path>,
        options: &DatasetOptions,
    ) -> Result<(Self, Classes), Error> {
        let path = path.as_ref();
        if !matches!(Layout::of(path)?, Layout::LabelTable) {
            return Err(Error::dataset(path, DatasetProblem::NoLabelTable));
        }
        let image_root = options.image_root.as_deref();
        let (listing, classes) = label_table::open(path, image_root, options.labels.as_deref())?;
        Ok((Self::of(path, listing, options.accept_truncated)?, classes))
    }

    /// Whether `path` is a table of labels, which [`open_multilabel`](Self::open_multilabel) opens.
    ///
    /// # Errors
    /// As [`open`](Self::open) for a path of no layout.
    pub fn is_label_table(path: impl AsRef<Path>) -> Result<bool, Error> {
        Ok(matches!(Layout::of(path.as_ref())?, Layout::LabelTable))
    }

    /// Lists the images of `path` without classes: those at any depth of a folder or an archive, in the order
    /// of their paths as text, or of their places in a tar archive in gzip; those of a list, a path a line,
    /// with or without a label; or those of Parquet files. Each has the label 0, but for Parquet's.
    ///
    /// # Errors
    /// As [`open`](Self::open), as far as it is not about classes.
    pub fn open_unlabelled(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        Self::of(path, unlabelled::open(path)?, false)
    }

    /// Lists the images of `path` as [`open`](Self::open) does, with the classes that it has by itself, for
    /// training: `num_classes` of the options has no part.
    ///
    /// The classes are [those of the options](DatasetOptions::labels), where there are some. Otherwise those
    /// of a folder are its folders, by name, or by number where they are numbered from 0; those of an archive
    /// are the folders that its images lie in; those of ImageNet's own lists are ImageNet's; and those of
    /// another list or of Parquet files are the numbers up to the largest label, without names. A table of labels
    /// is opened as [`open_multilabel`](Self::open_multilabel) does.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`Error::Dataset`] for labels that start at 1, for fewer images than classes,
    /// and for a class of a table that no image has.
    pub fn open_with_own_classes(
        path: impl AsRef<Path>,
        options: &DatasetOptions,
    ) -> Result<(Self, Classes), Error> {
        let path = path.as_ref();
        if Self::is_label_table(path)? {
            let (dataset, classes) = Self::open_multilabel(path, options)?;
            return match classes.without_image(dataset.items()) {
                Some(class) => Err(Error::dataset(path, DatasetProblem::NoPositive { class })),
                None => Ok((dataset, classes)),
            };
        }
        let mut options = options.clone();
        let names = match options.labels.take() {
            Some(labels) => Some(labels),
            None => classes::names(path)?,
        };
        options.num_classes = match &names {
            Some(names) => names.len(),
            None => u32::MAX as usize,
        };
        options.labels.clone_from(&names);
        let dataset = Self::open(path, &options)?;
        let classes = match names {
            Some(names) => Classes { count: names.len(), names: Some(names) },
            None => Classes { count: classes::count(path, dataset.items())?, names: None },
        };
        Ok((dataset, classes))
    }

    /// For each image the length in bytes of the file that it is in, and the time of its last change, in
    /// nanoseconds since 1970: what changes when somebody changes an image. Zeros for a file that is not
    /// there.
    pub fn versions(&self) -> Vec<[u64; 2]> {
        self.listing.versions()
    }

    /// All images.
    pub fn items(&self) -> &[Item] {
        &self.listing.items
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.listing.items.len()
    }

    /// Whether its images have [several classes](Item::labels) each.
    pub fn is_multilabel(&self) -> bool {
        self.items().first().is_some_and(|item| item.labels.is_some())
    }

    /// Whether there is none; never so after [`open`](Self::open).
    pub fn is_empty(&self) -> bool {
        self.listing.items.is_empty()
    }

    /// Keeps the first `len` images.
    pub fn truncate(&mut self, len: usize) {
        self.listing.items.truncate(len);
    }

    /// Keeps `len` images, evenly spread over all of them, in their order: a sample, where a dataset is ordered by
    /// class.
    pub fn sample_evenly(&mut self, len: usize) {
        let items = &mut self.listing.items;
        let (all, mut kept, mut at) = (items.len(), 0, 0);
        items.retain(|_| {
            // The first of each of `len` equal parts.
            let keep = kept < len && at == kept * all / len.min(all);
            kept += usize::from(keep);
            at += 1;
            keep
        });
    }

    /// Whether JPEG files that end early are read.
    pub fn accepts_truncated(&self) -> bool {
        self.accept_truncated
    }

    /// Counts of what [`open`](Self::open) found besides ordinary images.
    pub fn scan_stats(&self) -> ScanStats {
        self.listing.stats
    }

    /// Reads the file of image `index` into `bytes`, whose content is replaced.
    ///
    /// # Errors
    /// [`Error::Read`] if it cannot be read, is no file, or is larger than
    /// [`MAX_FILE_BYTES`](crate::MAX_FILE_BYTES).
    pub fn read_bytes(&self, index: usize, bytes: &mut Vec<u8>) -> Result<(), Error> {
        bytes.clear();
        self.listing.read(index, bytes)
    }

    /// Reads and decodes image `index` as OpenCV does.
    ///
    /// # Errors
    /// As [`read_bytes`](Self::read_bytes) and [`decode_with`].
    pub fn read(&self, index: usize) -> Result<RgbImage, Error> {
        let mut bytes = Vec::new();
        self.read_bytes(index, &mut bytes)?;
        let accept_truncated = self.accept_truncated;
        decode_with(&bytes, &DecodeOptions { accept_truncated, ..DecodeOptions::new(Reader::OpenCv) })
    }
}
