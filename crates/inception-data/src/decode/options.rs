//! Whose way of reading pictures is followed.

use crate::preprocessing::{Arithmetic, Preprocessing};

/// The most pixels that [`decode`](super::decode) and [`read`](super::read) accept: 2^27, that is 384 MiB of
/// RGB.
pub const MAX_PIXELS: u64 = 1 << 27;

/// The library whose pixels [`decode_with`](super::decode_with) gives. They differ in Exif's orientation, in
/// ink, and in grey of 16 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reader {
    /// `cv2.imdecode(data, cv2.IMREAD_COLOR)`, as PaddleClas reads.
    OpenCv,
    /// Pillow's `Image.open(file).convert("RGB")`, as torchvision, timm and Keras read.
    Pillow,
}

/// Options of [`decode_with`](super::decode_with) and [`read_with`](super::read_with); [`new`](Self::new)
/// makes them, and its fields can be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DecodeOptions {
    /// Whose pixels.
    pub reader: Reader,
    /// The most pixels that are accepted.
    pub max_pixels: u64,
    /// Whether a JPEG that ends early is read, its missing part filled with what libjpeg makes of it (grey in
    /// a baseline file), as Pillow does with `ImageFile.LOAD_TRUNCATED_IMAGES`; and a PNG that ends behind its
    /// pixels, as Pillow always does.
    pub accept_truncated: bool,
}

impl DecodeOptions {
    /// As `reader` reads, at most [`MAX_PIXELS`] pixels, no cut files.
    pub const fn new(reader: Reader) -> Self {
        Self { reader, max_pixels: MAX_PIXELS, accept_truncated: false }
    }
}

impl From<&Preprocessing> for DecodeOptions {
    /// As the library reads that the weights were trained with.
    fn from(preprocessing: &Preprocessing) -> Self {
        Self::new(match preprocessing.arithmetic {
            Arithmetic::Paddleclas => Reader::OpenCv,
            Arithmetic::Torchvision => Reader::Pillow,
        })
    }
}
