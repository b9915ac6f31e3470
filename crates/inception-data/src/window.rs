//! A part of a resized picture, by whichever rules.

use std::ops::Range;

use crate::image::byte_count;
use crate::pil::{Filter, PilWindow};
use crate::resize::Cv2Bilinear;
use crate::{Error, Resampler, RgbImage};

/// A rectangle of a resized picture, row by row.
pub(crate) enum Window<'a> {
    /// By cv2's rules.
    Cv2(Cv2Bilinear<'a>),
    /// By Pillow's.
    Pil(PilWindow<'a>),
}

impl<'a> Window<'a> {
    /// The rectangle of `columns` and `rows` of `image` resized to `size`, width and height. Both ranges must lie inside.
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
            Resampler::Cv2Bilinear => return Ok(Self::Cv2(Cv2Bilinear::new(image, size, columns, rows))),
            Resampler::PilBilinear => Filter::Bilinear,
            Resampler::PilBicubic => Filter::Bicubic,
        };
        Ok(Self::Pil(PilWindow::new(image, size, columns, rows, filter)))
    }

    /// The next row of the rectangle, or `None` after the last one. The fourth value of a pixel has no meaning.
    pub(crate) fn next_row(&mut self) -> Option<&[[u8; 4]]> {
        match self {
            Self::Cv2(window) => window.next_row(),
            Self::Pil(window) => window.next_row(),
        }
    }

    /// All of `image`, resized to `width` x `height`.
    ///
    /// # Errors
    /// As [`new`](Self::new); [`Error::ResizeTooLarge`] also if memory cannot hold the result.
    pub(crate) fn resize(
        resampler: Resampler,
        image: &'a RgbImage,
        width: u32,
        height: u32,
    ) -> Result<RgbImage, Error> {
        let len = byte_count(width, height).filter(|&len| isize::try_from(len).is_ok());
        let mut pixels = Vec::new();
        let reserved = len.is_some_and(|len| pixels.try_reserve_exact(len).is_ok());
        if !reserved {
            return Err(too_large(width, height));
        }
        let mut window = Self::new(resampler, image, (width, height), 0..width, 0..height)?;
        while let Some(row) = window.next_row() {
            pixels.extend(row.iter().flat_map(|&[red, green, blue, _]| [red, green, blue]));
        }
        RgbImage::from_raw(width, height, pixels)
    }
}

fn too_large(width: u32, height: u32) -> Error {
    Error::ResizeTooLarge { width: width.into(), height: height.into() }
}
