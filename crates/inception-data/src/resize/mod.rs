//! Resizing as OpenCV and Pillow do it: whole images, or the rows of a rectangle of the result.

mod float;
mod opencv;
mod pillow;

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::image::{RgbImage, byte_count};
pub use float::FloatResampler;
pub(crate) use float::stretch;
use opencv::Cv2Rows;
use pillow::{Filter, PillowRows};

/// How pixels are interpolated when an image is resized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Resampler {
    /// OpenCV's `INTER_LINEAR`: bilinear without antialiasing, in fixed point. PaddleClas's evaluation uses
    /// it.
    Cv2Bilinear,
    /// Pillow's `BILINEAR`: antialiased where the image shrinks. torchvision's weights use it.
    PilBilinear,
    /// Pillow's `BICUBIC`: antialiased where the image shrinks. Most of timm's weights use it.
    PilBicubic,
}

/// Resizes all of an image to `width` x `height` pixels: the values of `cv2.resize(image, (width, height),
/// interpolation=cv2.INTER_LINEAR)` or of Pillow's `image.resize((width, height), Image.BILINEAR)`.
///
/// # Errors
/// [`Error::ZeroSize`] if a side is 0, [`Error::ResizeTooLarge`] if a side exceeds 2^31 - 1 or memory cannot
/// hold the result.
pub fn resize(image: &RgbImage, resampler: Resampler, width: u32, height: u32) -> Result<RgbImage, Error> {
    let len = byte_count(width, height).filter(|&len| isize::try_from(len).is_ok());
    let mut pixels = Vec::new();
    let reserved = len.is_some_and(|len| pixels.try_reserve_exact(len).is_ok());
    if !reserved {
        return Err(too_large(width, height));
    }
    let mut rows = ResizedRows::new(resampler, image, (width, height), 0..width, 0..height)?;
    while let Some(row) = rows.next_row() {
        pixels.extend(row.iter().flat_map(|&[red, green, blue, _]| [red, green, blue]));
    }
    RgbImage::from_raw(width, height, pixels)
}

/// A rectangle of a resized image, row by row.
pub(crate) enum ResizedRows<'a> {
    /// By cv2's rules.
    Cv2(Cv2Rows<'a>),
    /// By Pillow's.
    Pillow(PillowRows<'a>),
}

impl<'a> ResizedRows<'a> {
    /// The rectangle of `columns` and `rows` of `image` resized to `size`, width and height. Both ranges must
    /// lie inside.
    ///
    /// # Errors
    /// [`Error::ZeroSize`] if a side is 0, [`Error::ResizeTooLarge`] if one exceeds 2^31 - 1.
    pub(crate) fn new(
        resampler: Resampler,
        image: &'a RgbImage,
        size @ (width, height): (u32, u32),
        columns: Range<u32>,
        rows: Range<u32>,
    ) -> Result<Self, Error> {
        if width == 0 || height == 0 {
            return Err(Error::ZeroSize { width: width.into(), height: height.into() });
        }
        if i32::try_from(width.max(height)).is_err() {
            return Err(too_large(width, height));
        }
        let filter = match resampler {
            Resampler::Cv2Bilinear => return Ok(Self::Cv2(Cv2Rows::new(image, size, columns, rows))),
            Resampler::PilBilinear => Filter::Bilinear,
            Resampler::PilBicubic => Filter::Bicubic,
        };
        Ok(Self::Pillow(PillowRows::new(image, size, columns, rows, filter)))
    }

    /// The next row of the rectangle, or `None` after the last one. The fourth value of a pixel has no
    /// meaning.
    pub(crate) fn next_row(&mut self) -> Option<&[[u8; 4]]> {
        match self {
            Self::Cv2(rows) => rows.next_row(),
            Self::Pillow(rows) => rows.next_row(),
        }
    }
}

fn too_large(width: u32, height: u32) -> Error {
    Error::ResizeTooLarge { width: width.into(), height: height.into() }
}
