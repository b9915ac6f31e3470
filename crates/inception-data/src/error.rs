//! The one error type of the crate.

use std::fmt;
use std::io;
use std::path::PathBuf;

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

    /// A buffer of another length than the shape asks for.
    #[error("a buffer of {found} elements where {expected} were expected")]
    BufferLength {
        /// Elements that the shape needs.
        expected: usize,
        /// Elements that the buffer has.
        found: usize,
    },
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
