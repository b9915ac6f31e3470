//! What can be wrong with a dataset as a whole.

use std::io;
use std::path::PathBuf;

use crate::scan_stats::ScanStats;

/// A cause that comes from a reader of another crate.
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a dataset cannot be used as a whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetProblem {
    /// Neither a folder nor a list nor an archive.
    #[error(
        "it is neither a folder of classes nor a list of `relative/path label` lines nor a tar, zip or Parquet file"
    )]
    UnknownKind,
    /// A place for the images of what has them in itself.
    #[error("it is no list, and has its pictures in itself; there is no use for {}", root.display())]
    OwnImages {
        /// The place.
        root: PathBuf,
    },
    /// An archive that cannot be read in place.
    #[error(
        "it is compressed with {format}, and no .tar.gz; pictures are compressed already, unpack it to a plain .tar or a folder"
    )]
    Compressed {
        /// Name of the compression.
        format: &'static str,
    },
    /// An archive that is damaged or ends too early.
    #[error("the archive is damaged: {source}")]
    Archive {
        /// What the reader said.
        source: io::Error,
    },
    /// A Parquet file that is damaged or not as expected.
    #[error("the Parquet file is damaged, or uses what is not supported: {source}")]
    Parquet {
        /// What the reader said.
        source: Cause,
    },
    /// A Parquet file without the columns that are needed.
    #[error("it has not exactly one column of {what}, nor one named `{name}`; its columns are {}", columns.join(", "))]
    Columns {
        /// What the column should hold.
        what: &'static str,
        /// The name that it has where several could be meant.
        name: String,
        /// The columns that are there.
        columns: Vec<String>,
    },
    /// A row whose label is no class of the network.
    #[error(
        "its row {row} (from 0) has {}; expected a label of 0 to {}{}",
        label.map_or("no label".to_owned(), |label| format!("the label {label}")),
        num_classes.saturating_sub(1),
        if *label == Some(-1) { "; hubs ship splits for contests without labels, as -1" } else { "" }
    )]
    RowLabel {
        /// Number of the row, from 0.
        row: usize,
        /// Its label, if it has one.
        label: Option<i64>,
        /// Number of classes of the network.
        num_classes: usize,
    },
    /// A folder of Parquet files of more than one split.
    #[error("which of its Parquet files? Name a split of {}", found.join(", "))]
    Splits {
        /// What the names of the files start with.
        found: Vec<String>,
    },
    /// A folder that lacks some shards of a split.
    #[error(
        "it has {found} of the {count} Parquet files that its files' names announce; name a single file to use it alone"
    )]
    MissingShards {
        /// Files that are there.
        found: usize,
        /// Files that there should be.
        count: usize,
    },
    /// Something that this build leaves out.
    #[error("{format} files need the feature `{feature}`: add `--features {feature}` to the build")]
    NeedsFeature {
        /// The format.
        format: &'static str,
        /// The feature of this crate, and of those above it.
        feature: &'static str,
    },
    /// Nothing that names a class.
    #[error(
        "it has no folder for a class (its name, a WordNet id such as n01440764, or a number from 0); {stats}"
    )]
    NoClasses {
        /// What was there instead.
        stats: ScanStats,
    },
    /// Not a single image.
    #[error("there is no picture in it; {stats}")]
    NoPictures {
        /// What was there instead.
        stats: ScanStats,
    },
    /// A folder that names no class.
    #[error(
        "its folder `{name}` names no class: {}",
        match by_labels {
            true => "no class has this name, and it is no WordNet id of ImageNet's 1000 and no number from 0".to_owned(),
            false => format!("expected a WordNet id of ImageNet's 1000, a number from 0, or {num_classes} folders, \
                              one for each class of the network"),
        }
    )]
    UnknownFolder {
        /// The folder.
        name: String,
        /// Whether the classes have names.
        by_labels: bool,
        /// Number of classes of the network.
        num_classes: usize,
    },
    /// A folder whose number is too high.
    #[error("its folder for class {class} is out of range: the network has {num_classes} classes, from 0")]
    FolderOutOfRange {
        /// The number.
        class: u64,
        /// Number of classes of the network.
        num_classes: usize,
    },
    /// A folder named by WordNet id for a network whose classes are others.
    #[error("its folder `{name}` is one of ImageNet's 1000 classes, the network has {num_classes}")]
    WordNetFolder {
        /// The folder.
        name: String,
        /// Number of classes of the network.
        num_classes: usize,
    },
    /// Two folders of one class.
    #[error("its folders `{first}` and `{second}` are both class {class}")]
    SameClass {
        /// The class.
        class: u32,
        /// One folder.
        first: String,
        /// The other one.
        second: String,
    },
    /// A folder with the name of two classes.
    #[error("its folder `{name}` is ambiguous: classes {first} and {second} are both named so")]
    SameName {
        /// The name.
        name: String,
        /// One class.
        first: u32,
        /// The other one.
        second: u32,
    },
    /// A list whose labels start at 1: none is 0, and one is the number of classes.
    #[error("its labels are 1 to {num_classes}, and the network's classes are counted from 0")]
    OneBased {
        /// Number of classes of the network.
        num_classes: usize,
    },
    /// A list of WordNet ids for a network whose classes are others.
    #[error("its classes are ImageNet's 1000, the network has {num_classes}")]
    WordNetList {
        /// Number of classes of the network.
        num_classes: usize,
    },
    /// A line of ImageNet's ground truth that is no class.
    #[error("its line {line} is `{id}`; the development kit of ILSVRC 2012 counts the classes 1 to 1000")]
    DevkitLabel {
        /// Number of the line, from 1.
        line: usize,
        /// What it says.
        id: String,
    },
    /// Labels that leave more classes without a picture than there are pictures.
    #[error(
        "its largest label is {largest}, and it has {pictures} pictures: labels are the numbers of classes, from 0"
    )]
    SparseLabels {
        /// The largest label.
        largest: u32,
        /// Pictures of the dataset.
        pictures: usize,
    },
    /// A list of which not a single image is there.
    #[error(
        "none of its {count} pictures is in {}",
        if root.as_os_str().is_empty() { "the current folder".into() } else { root.to_string_lossy() }
    )]
    AllMissing {
        /// Lines of the list.
        count: usize,
        /// Where they were looked for.
        root: PathBuf,
    },
    /// A table of labels where each image has one class.
    #[error("it is a table of labels, by which a picture has any number of classes")]
    SeveralClasses,
    /// No table of labels where each image has several classes.
    #[error("it is no table of labels: a .csv file with a head, and a row for each picture")]
    NoLabelTable,
    /// A quotation mark that nothing closes.
    #[error("the quotation mark in its line {line} is never closed")]
    OpenQuotation {
        /// Number of the line in which the row starts, from 1.
        line: usize,
    },
    /// A row that is not as long as the head.
    #[error("its line {line} has {found} fields, and its first one {expected}")]
    RowLength {
        /// Number of the line, from 1.
        line: usize,
        /// Its fields.
        found: usize,
        /// Those of the head.
        expected: usize,
    },
    /// A row that names no image.
    #[error("its line {line} names no picture")]
    RowWithoutPicture {
        /// Number of the line, from 1.
        line: usize,
    },
    /// Two rows of one image.
    #[error("its lines {first} and {second} are both of {picture}")]
    SamePicture {
        /// The image.
        picture: String,
        /// One line, from 1.
        first: usize,
        /// The other one.
        second: usize,
    },
    /// Two columns of one class, or one without a name.
    #[error(
        "{}",
        if class.is_empty() { "a column has no name".to_owned() } else { format!("two columns are named `{class}`") }
    )]
    SameColumn {
        /// The class.
        class: String,
    },
    /// A class without a column.
    #[error("no column is named `{class}`, which is a class")]
    NoColumn {
        /// The class.
        class: String,
    },
    /// A class that the dataset should not have.
    #[error("its line {line} names `{class}`, which is no class")]
    UnknownClass {
        /// Number of the line, from 1.
        line: usize,
        /// The name.
        class: String,
    },
    /// A value that does not say whether an image has a class.
    #[error("its line {line} has `{value}` for the class `{class}`; expected 0 or 1")]
    NotBinary {
        /// Number of the line, from 1.
        line: usize,
        /// The class.
        class: String,
        /// The value.
        value: String,
    },
    /// A class that no image has.
    #[error("no picture has the class `{class}`")]
    NoPositive {
        /// The class.
        class: String,
    },
}
