//! The one error type of the crate.

mod dataset;

use std::io;
use std::path::{Path, PathBuf};

pub use dataset::DatasetProblem;

use crate::format::{FoundFormat, ImageFormat};

/// A cause that comes from a decoder of another crate.
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why an image could not be read or turned into network input.
///
/// Fields rather than prose, so that a caller can count and list failures by kind. A cause of another crate
/// is kept as [`source`](std::error::Error::source).
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

    /// The file was read, but is no image that can be used; the source says why.
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

    /// No format that is read.
    #[error("expected JPEG, PNG, WebP, BMP, TIFF, GIF or PNM, found {found}")]
    UnsupportedFormat {
        /// What the first bytes look like.
        found: FoundFormat,
    },

    /// The data end before the image does.
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

    /// An image of no pixels, as a source or after resizing.
    #[error("a picture of {width} x {height} has no pixels")]
    ZeroSize {
        /// Width in pixels.
        width: u64,
        /// Height in pixels.
        height: u64,
    },

    /// The resized image would be wider or higher than 2^31 - 1 pixels, cv2's limit.
    #[error("a resized picture of {width} x {height} is larger than 2^31 - 1 pixels a side")]
    ResizeTooLarge {
        /// Width after resizing, in pixels.
        width: u64,
        /// Height after resizing, in pixels.
        height: u64,
    },

    /// The resized image is smaller than the crop.
    #[error(
        "a crop of {crop} x {crop} does not fit into a picture that is resized to a short side of {resize_short}"
    )]
    CropTooLarge {
        /// Side of the crop in pixels.
        crop: u32,
        /// Short side after resizing, in pixels.
        resize_short: u32,
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
    #[error("{}: {problem}", path.display())]
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
        if label.is_empty() { "no label behind a space or a tab".to_owned() } else { format!("the label `{label}`") }
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

    /// A file of names of classes that cannot be used.
    #[error("{}: {reason}", path.display())]
    Labels {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
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

impl Error {
    /// To make an [`Error::Read`] of what the operating system says about `path`.
    pub(crate) fn reading(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Read { path: path.to_owned(), source }
    }

    /// Data of `format` that a decoder does not take.
    pub(crate) fn undecodable(format: ImageFormat, source: impl Into<Cause>) -> Self {
        Self::Undecodable { format, source: source.into() }
    }

    /// What a decoder says of `bytes` bytes: whether they are cut short, and the rest.
    pub(crate) fn decoding(format: ImageFormat, bytes: usize, cut: bool, source: impl Into<Cause>) -> Self {
        match cut {
            true => Self::Truncated { format, bytes, source: Some(source.into()) },
            false => Self::undecodable(format, source),
        }
    }

    /// The dataset `path` has this `problem`.
    pub(crate) fn dataset(path: &Path, problem: DatasetProblem) -> Self {
        Self::Dataset { path: path.to_owned(), problem: Box::new(problem) }
    }
}
