//! A decoded image.

use crate::error::Error;

/// An 8-bit RGB image, `[height, width, 3]`, rows from the top, without gaps between rows; never empty.
#[derive(Clone, PartialEq, Eq)]
pub struct RgbImage {
    width: u32,
    height: u32,
    pixels: Vec<u8>,
}

impl RgbImage {
    /// An image of existing pixels, for instance of a video frame.
    ///
    /// # Errors
    /// [`Error::ZeroSize`] if a side is 0, [`Error::BufferLength`] if `pixels` is not `height * width * 3`
    /// long.
    pub fn from_raw(width: u32, height: u32, pixels: Vec<u8>) -> Result<Self, Error> {
        if width == 0 || height == 0 {
            return Err(Error::ZeroSize { width: width.into(), height: height.into() });
        }
        match byte_count(width, height) {
            Some(expected) if expected == pixels.len() => Ok(Self { width, height, pixels }),
            expected => {
                Err(Error::BufferLength { expected: expected.unwrap_or(usize::MAX), found: pixels.len() })
            }
        }
    }

    /// Width in pixels, at least 1.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels, at least 1.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// All pixels, `[height, width, 3]`.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The pixels, `[height, width, 3]`.
    pub fn into_pixels(self) -> Vec<u8> {
        self.pixels
    }

    /// The rectangle of `width` x `height` pixels whose first pixel is in column `left` of row `top`.
    ///
    /// # Errors
    /// [`Error::ZeroSize`] if a side is 0 or the rectangle does not lie inside.
    pub(crate) fn cut(&self, left: u32, top: u32, width: u32, height: u32) -> Result<Self, Error> {
        let inside = |start: u32, len: u32, end: u32| u64::from(start) + u64::from(len) <= u64::from(end);
        if !inside(left, width, self.width) || !inside(top, height, self.height) {
            return Err(Error::ZeroSize { width: 0, height: 0 });
        }
        let rows = (top..top + height).flat_map(|y| {
            let at = left as usize * 3;
            &self.row(y as usize)[at..at + width as usize * 3]
        });
        Self::from_raw(width, height, rows.copied().collect())
    }

    /// Row `y`, `[width, 3]`; `y` must be less than the height.
    pub(crate) fn row(&self, y: usize) -> &[u8] {
        let stride = self.width as usize * 3;
        &self.pixels[y * stride..(y + 1) * stride]
    }
}

impl std::fmt::Debug for RgbImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RgbImage({} x {})", self.width, self.height)
    }
}

/// `height * width * 3`, or `None` if memory cannot hold as many bytes.
pub(crate) fn byte_count(width: u32, height: u32) -> Option<usize> {
    usize::try_from(u64::from(width) * u64::from(height)).ok()?.checked_mul(3)
}

/// Refuses an image of no pixels or of too many, before anything is allocated for it; the bytes of its RGB
/// otherwise.
pub(crate) fn check_size(width: u32, height: u32, max_pixels: u64) -> Result<usize, Error> {
    let (wide, high) = (u64::from(width), u64::from(height));
    if wide == 0 || high == 0 {
        return Err(Error::ZeroSize { width: wide, height: high });
    }
    let too_large = Error::TooLarge { width: wide, height: high, max_pixels };
    if wide * high > max_pixels {
        return Err(too_large);
    }
    byte_count(width, height).ok_or(too_large)
}

/// An image that the `image` crate decoded, from any of its formats. Colour is converted as that crate
/// converts it; alpha is dropped. Orientation is not applied: it is the decoder's to apply.
///
/// ```
/// let picture = image::DynamicImage::new_luma8(4, 3);
/// let picture = inception_data::RgbImage::try_from(picture)?;
/// assert_eq!((picture.width(), picture.height()), (4, 3));
/// # Ok::<(), inception_data::Error>(())
/// ```
///
/// # Errors
/// [`Error::ZeroSize`] for an image without pixels.
#[cfg(feature = "image")]
impl TryFrom<image::DynamicImage> for RgbImage {
    type Error = Error;

    fn try_from(picture: image::DynamicImage) -> Result<Self, Error> {
        let picture = picture.into_rgb8();
        let (width, height) = picture.dimensions();
        Self::from_raw(width, height, picture.into_raw())
    }
}
