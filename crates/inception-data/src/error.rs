//! The one error type of the crate.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::Encounters;

/// A cause that comes from a decoder of another crate.
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a picture could not be read or turned into network input.
///
/// Fields rather than prose, so that a caller can count and list failures by kind. A cause of another crate is kept as
/// [`source`](std::error::Error::source).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be opened or read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },

    /// The file was read, but is no picture that can be used; the source says why.
    #[error("cannot use {} as a picture", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with its content.
        source: Box<Error>,
    },

    /// There are no bytes at all.
    #[error("the file is empty")]
    Empty,

    /// Neither JPEG nor PNG.
    #[error("expected JPEG or PNG, found {found}")]
    UnsupportedFormat {
        /// What the first bytes look like.
        found: FoundFormat,
    },

    /// The data end before the picture does.
    #[error("the {format} data end before the picture does ({bytes} bytes)")]
    Truncated {
        /// The format that the first bytes announce.
        format: ImageFormat,
        /// How many bytes there are.
        bytes: usize,
        /// What the decoder said, where it was the decoder that noticed.
        source: Option<Cause>,
    },

    /// The data break the rules of their format, or use a part of it that the decoder does not know.
    #[error("the {format} data cannot be decoded")]
    Undecodable {
        /// The format that the first bytes announce.
        format: ImageFormat,
        /// What the decoder said.
        source: Cause,
    },

    /// A colour model that is neither grey, RGB, YCbCr nor CMYK.
    #[error("{format} with {components} colour components is not supported")]
    UnsupportedColour {
        /// The format that the first bytes announce.
        format: ImageFormat,
        /// Number of components of a pixel.
        components: u8,
    },

    /// More pixels declared than allowed. Nothing was allocated for them.
    #[error("{width} x {height} pixels declared, more than the limit of {max_pixels} pixels")]
    TooLarge {
        /// Declared width in pixels.
        width: u64,
        /// Declared height in pixels.
        height: u64,
        /// The limit on their product.
        max_pixels: u64,
    },

    /// A picture of no pixels, as a source or after resizing.
    #[error("a picture of {width} x {height} has no pixels")]
    ZeroSize {
        /// Width in pixels.
        width: u64,
        /// Height in pixels.
        height: u64,
    },

    /// The resized picture would be wider or higher than 2^31 - 1 pixels, cv2's limit.
    #[error("a resized picture of {width} x {height} is larger than 2^31 - 1 pixels a side")]
    ResizeTooLarge {
        /// Width after resizing, in pixels.
        width: u64,
        /// Height after resizing, in pixels.
        height: u64,
    },

    /// The resized picture is smaller than the crop: `resize_short` is less than `crop`.
    #[error("a crop of {crop} x {crop} does not fit into a resized picture of {width} x {height}")]
    CropTooLarge {
        /// Side of the crop in pixels.
        crop: u32,
        /// Width after resizing, in pixels.
        width: u32,
        /// Height after resizing, in pixels.
        height: u32,
    },

    /// A field of [`Preprocessing`](crate::Preprocessing) that makes no sense.
    #[error("preprocessing field `{field}` cannot be {value}")]
    InvalidPreprocessing {
        /// Name of the field.
        field: &'static str,
        /// Its value.
        value: f64,
    },

    /// A folder, list or archive that cannot be used as a whole.
    #[error("cannot evaluate on {}: {problem}", path.display())]
    Dataset {
        /// The folder, list, archive or labels file.
        path: PathBuf,
        /// Why not.
        problem: Box<DatasetProblem>,
    },

    /// A line of a list that is not `relative/path label` with a class of the network.
    #[error(
        "{}, line {line}: expected `relative/path label` with a label of 0 to {}, found {}",
        path.display(),
        num_classes.saturating_sub(1),
        if label.is_empty() { "no label".to_owned() } else { format!("the label `{label}`") }
    )]
    List {
        /// The list.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// What stands where the label should; empty if nothing does.
        label: String,
        /// Number of classes of the network.
        num_classes: usize,
    },

    /// A buffer of another length than the shape asks for.
    #[error("a buffer of {found} elements where {expected} were expected")]
    BufferLength {
        /// Elements that the shape needs.
        expected: usize,
        /// Elements that the buffer has.
        found: usize,
    },
}

/// Why a dataset cannot be used as a whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetProblem {
    /// Neither a folder nor a list nor an archive.
    #[error(
        "it is neither a folder of classes nor a list of `relative/path label` lines nor a tar or Parquet file"
    )]
    UnknownKind,
    /// An archive that cannot be read in place.
    #[error(
        "it is compressed with {format}; pictures are compressed already, unpack it to a plain .tar or a folder"
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
    /// A folder of Parquet files of more than one kind.
    #[error("which of its Parquet files? Name a split of {}", found.join(", "))]
    Splits {
        /// What the names of the files start with.
        found: Vec<String>,
    },
    /// A folder that lacks some of the Parquet files that belong together.
    #[error(
        "it has {found} of the {parts} Parquet files that its files' names announce; name a single file to use it alone"
    )]
    MissingParts {
        /// Files that are there.
        found: usize,
        /// Files that there should be.
        parts: usize,
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
        "it has no folder for a class (a WordNet id such as n01440764, or a number from 0); {encounters}"
    )]
    NoClasses {
        /// What was there instead.
        encounters: Encounters,
    },
    /// Not a single picture.
    #[error("there is no picture in it; {encounters}")]
    NoPictures {
        /// What was there instead.
        encounters: Encounters,
    },
    /// A folder that names no class.
    #[error(
        "its folder `{name}` names no class: {}",
        if *by_labels { "the labels file has no such line" } else { "expected a WordNet id of ImageNet's 1000, or a number from 0" }
    )]
    UnknownFolder {
        /// The folder.
        name: String,
        /// Whether a labels file says how folders are named.
        by_labels: bool,
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
    #[error(
        "its folder `{name}` is one of ImageNet's 1000 classes, the network has {num_classes}; give a labels file \
         with one folder name a line"
    )]
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
    /// A labels file with one name for two classes.
    #[error("classes {first} and {second} are both named `{name}`")]
    SameName {
        /// The name.
        name: String,
        /// One class.
        first: u32,
        /// The other one.
        second: u32,
    },
    /// A labels file of another length than the network has classes.
    #[error("expected one line for each of the network's {expected} classes, found {found}")]
    LabelsLength {
        /// Classes of the network.
        expected: usize,
        /// Lines of the file.
        found: usize,
    },
    /// A list of which not a single picture is there.
    #[error("none of its {count} pictures is in {}", root.display())]
    AllMissing {
        /// Lines of the list.
        count: usize,
        /// Where they were looked for.
        root: PathBuf,
    },
}

impl fmt::Display for Encounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            (self.links, "linked pictures"),
            (self.hidden, "hidden files or folders"),
            (self.foreign, "files that are no pictures"),
            (self.folder_links, "links to folders"),
            (self.empty_classes, "classes without a picture"),
        ];
        let mut seen = counts.into_iter().filter(|(count, _)| *count > 0).peekable();
        if seen.peek().is_none() {
            return f.write_str("nothing else was met");
        }
        f.write_str("met ")?;
        for (index, (count, what)) in seen.enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{count} {what}")?;
        }
        Ok(())
    }
}

/// A format that this crate reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ImageFormat {
    /// JPEG, baseline or progressive.
    Jpeg,
    /// PNG; of an animated one the default image.
    Png,
}

impl fmt::Display for ImageFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
        })
    }
}

/// What the first bytes of something that is neither JPEG nor PNG look like, for the error message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FoundFormat {
    /// GIF.
    Gif,
    /// WebP.
    WebP,
    /// Windows bitmap.
    Bmp,
    /// TIFF, or a raw format built on it.
    Tiff,
    /// AVIF or HEIF (HEIC).
    Heif,
    /// JPEG 2000.
    Jpeg2000,
    /// JPEG XL.
    JpegXl,
    /// PDF.
    Pdf,
    /// An HTML or XML document, SVG included: often an error page that was saved under a picture's name.
    Markup,
    /// Other text.
    Text,
    /// None of these.
    Unknown,
}

impl FoundFormat {
    /// Looks at the first bytes of `bytes`.
    pub(crate) fn sniff(bytes: &[u8]) -> Self {
        const MAGIC: &[(usize, &[u8], FoundFormat)] = &[
            (0, b"GIF8", FoundFormat::Gif),
            (8, b"WEBP", FoundFormat::WebP),
            (0, b"BM", FoundFormat::Bmp),
            (0, b"II*\0", FoundFormat::Tiff),
            (0, b"MM\0*", FoundFormat::Tiff),
            (4, b"ftypavif", FoundFormat::Heif),
            (4, b"ftyphei", FoundFormat::Heif),
            (4, b"ftypmif1", FoundFormat::Heif),
            (4, b"jP  \r\n\x87\n", FoundFormat::Jpeg2000),
            (0, b"\xff\x4f\xff\x51", FoundFormat::Jpeg2000),
            (0, b"\xff\x0a", FoundFormat::JpegXl),
            (4, b"JXL \r\n\x87\n", FoundFormat::JpegXl),
            (0, b"%PDF-", FoundFormat::Pdf),
        ];
        for (at, magic, found) in MAGIC {
            if bytes.get(*at..).is_some_and(|rest| rest.starts_with(magic)) {
                return *found;
            }
        }
        let head = &bytes[..bytes.len().min(512)];
        // A multi-byte character may be cut at the end of `head`; only an error before that is one.
        let text = match std::str::from_utf8(head) {
            Ok(text) => text,
            Err(error) if error.error_len().is_none() => {
                std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
            }
            Err(_) => return Self::Unknown,
        };
        if text.is_empty() || text.contains('\0') {
            Self::Unknown
        } else if text.trim_start_matches('\u{feff}').trim_start().starts_with('<') {
            Self::Markup
        } else {
            Self::Text
        }
    }
}

impl fmt::Display for FoundFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gif => "GIF",
            Self::WebP => "WebP",
            Self::Bmp => "BMP",
            Self::Tiff => "TIFF",
            Self::Heif => "HEIF or AVIF",
            Self::Jpeg2000 => "JPEG 2000",
            Self::JpegXl => "JPEG XL",
            Self::Pdf => "PDF",
            Self::Markup => "HTML or XML",
            Self::Text => "text",
            Self::Unknown => "unknown data",
        })
    }
}
