//! The formats of image files, told by their first bytes.

use std::fmt;

/// A format that this crate reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ImageFormat {
    /// JPEG, baseline or progressive.
    Jpeg,
    /// PNG; of an animated one the default image.
    Png,
    /// WebP; of an animated one the first frame.
    WebP,
    /// Windows bitmap.
    Bmp,
    /// TIFF; of several pictures the first one.
    Tiff,
    /// GIF; the first frame.
    Gif,
    /// PBM, PGM or PPM, plain or binary.
    Pnm,
}

impl ImageFormat {
    /// The format that `bytes` begin like, by cv2's signatures. A file that was cut within its signature
    /// counts as that format, so that it is reported as truncated.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        const SIGNATURES: [(&[u8], ImageFormat); 2] =
            [(b"\xff\xd8\xff", ImageFormat::Jpeg), (b"\x89PNG\r\n\x1a\n", ImageFormat::Png)];
        let begins = |signature: &[u8]| bytes.starts_with(signature) || signature.starts_with(bytes);
        if let Some((_, format)) = SIGNATURES.into_iter().find(|(signature, _)| begins(signature)) {
            return Some(format);
        }
        // The formats that a whole signature is needed for.
        match bytes {
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Self::WebP),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Self::Gif),
            // Ordinary TIFF, and BigTIFF with its longer addresses.
            [b'I', b'I', b'*' | b'+', 0, ..] | [b'M', b'M', 0, b'*' | b'+', ..] => Some(Self::Tiff),
            [b'P', b'1'..=b'6', space, ..] if space.is_ascii_whitespace() || *space == b'#' => {
                Some(Self::Pnm)
            }
            // Texts begin with these two letters, too; the size of the second header tells.
            [b'B', b'M', rest @ ..] => match rest.get(12..16) {
                Some([12 | 40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0]) => Some(Self::Bmp),
                _ => None,
            },
            _ => None,
        }
    }
}

impl fmt::Display for ImageFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::WebP => "WebP",
            Self::Bmp => "BMP",
            Self::Tiff => "TIFF",
            Self::Gif => "GIF",
            Self::Pnm => "PNM",
        })
    }
}

/// What the first bytes of something that is no picture that is read look like, for the error message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FoundFormat {
    /// AVIF or HEIF (HEIC).
    Heif,
    /// JPEG 2000.
    Jpeg2000,
    /// JPEG XL.
    JpegXl,
    /// PDF.
    Pdf,
    /// An HTML or XML document, SVG included: often an error page that was saved under an image's name.
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
