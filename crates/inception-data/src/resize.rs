//! cv2's `INTER_LINEAR` for 8-bit pixels, bit for bit.
//!
//! What it computes (`modules/imgproc/src/resize.cpp`; opencv-python 4.6.0 does not use IPP or its bit-exact code for
//! this case): pixel centres lie at half numbers, source positions are float32, the weights of the two neighbours are
//! rounded to 11 bits. The horizontal pass is exact; the vertical one drops 4 bits before and 16 bits after the
//! multiplication, of each neighbour by itself, so that the result may be one less than correct rounding would give.
//! There is no antialiasing, but a picture halved exactly in both directions is averaged over 2 x 2 pixels instead.

use std::ops::Range;

use crate::image::byte_count;
use crate::{Error, RgbImage};

/// 1.0 as a weight.
const ONE: f32 = 2048.0;

/// Resizes to `width` x `height` pixels with the values of
/// `cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)`.
///
/// Bilinear without antialiasing, whatever the factor. `[height, width, 3]` in and out.
///
/// # Errors
/// [`Error::ZeroSize`] if a side is 0, [`Error::ResizeTooLarge`] if a side exceeds cv2's limit of 2^31 - 1 or memory
/// cannot hold the result.
pub fn resize_cv2_bilinear(image: &RgbImage, width: u32, height: u32) -> Result<RgbImage, Error> {
    let too_large = || Error::ResizeTooLarge {
        width: width.into(),
        height: height.into(),
    };
    let len = byte_count(width, height)
        .filter(|&len| isize::try_from(len).is_ok())
        .ok_or_else(too_large)?;
    let mut window = Cv2Bilinear::new(image, width, height, 0..width, 0..height)?;
    let mut pixels = Vec::new();
    pixels.try_reserve_exact(len).map_err(|_| too_large())?;
    while let Some(row) = window.next_row() {
        pixels.extend_from_slice(row);
    }
    RgbImage::from_raw(width, height, pixels)
}

/// A rectangle of a resized picture, made row by row: what the crop throws away is never computed, and each source row
/// is resized horizontally at most once.
pub(crate) struct Cv2Bilinear<'a> {
    image: &'a RgbImage,
    kind: Kind,
    /// Rows of the rectangle that are still to be made, numbered in the resized picture.
    rows: Range<u32>,
    /// The last row made, `[columns, 3]`.
    row: Vec<u8>,
}

enum Kind {
    /// Half the width and half the height.
    Halve {
        /// Where in a source row the left one of the two pixels of each column starts.
        columns: Vec<usize>,
    },
    /// Every other size.
    Interpolate {
        /// Source rows per resized row.
        scale: f64,
        columns: Vec<Tap>,
        /// Two source rows, resized horizontally: 15 bits, of which the low 4 are dropped already.
        above: HorizontalRow,
        below: HorizontalRow,
        /// Source row of a picture that is one pixel wide, with that pixel twice.
        doubled: Option<[u8; 6]>,
    },
}

/// The two neighbours of a resized pixel in its row.
struct Tap {
    /// Byte offset of the left one; the right one follows.
    at: usize,
    /// Their weights, 0..=2048.
    weights: [i32; 2],
}

struct HorizontalRow {
    /// The source row that `values` were made from.
    source: Option<usize>,
    values: Vec<i16>,
}

impl<'a> Cv2Bilinear<'a> {
    /// The rectangle of `columns` and `rows` of `image` resized to `width` x `height`. Both ranges must lie inside.
    pub(crate) fn new(
        image: &'a RgbImage,
        width: u32,
        height: u32,
        columns: Range<u32>,
        rows: Range<u32>,
    ) -> Result<Self, Error> {
        let (wide, high) = (u64::from(width), u64::from(height));
        if width == 0 || height == 0 {
            return Err(Error::ZeroSize {
                width: wide,
                height: high,
            });
        }
        if i32::try_from(width).is_err() || i32::try_from(height).is_err() {
            return Err(Error::ResizeTooLarge {
                width: wide,
                height: high,
            });
        }
        let len = columns.len() * 3;
        let kind = if u64::from(image.width()) == 2 * wide && u64::from(image.height()) == 2 * high
        {
            Kind::Halve {
                columns: columns.map(|x| x as usize * 6).collect(),
            }
        } else {
            let scale = scale(image.width(), width);
            Kind::Interpolate {
                scale: self::scale(image.height(), height),
                columns: columns.map(|x| Tap::new(x, scale, image.width())).collect(),
                above: HorizontalRow {
                    source: None,
                    values: vec![0; len],
                },
                below: HorizontalRow {
                    source: None,
                    values: vec![0; len],
                },
                doubled: (image.width() == 1).then_some([0; 6]),
            }
        };
        Ok(Self {
            image,
            kind,
            rows,
            row: vec![0; len],
        })
    }

    /// The next row of the rectangle, `[columns, 3]`, or `None` after the last one.
    pub(crate) fn next_row(&mut self) -> Option<&[u8]> {
        let y = self.rows.next()?;
        let image = self.image;
        match &mut self.kind {
            Kind::Halve { columns } => {
                let (upper, lower) = (image.row(2 * y as usize), image.row(2 * y as usize + 1));
                for (out, &at) in self.row.chunks_exact_mut(3).zip(columns.iter()) {
                    let (upper, lower) = (&upper[at..at + 6], &lower[at..at + 6]);
                    for channel in 0..3 {
                        let pair =
                            |row: &[u8]| u32::from(row[channel]) + u32::from(row[channel + 3]);
                        out[channel] = ((pair(upper) + pair(lower) + 2) >> 2) as u8;
                    }
                }
            }
            Kind::Interpolate {
                scale,
                columns,
                above,
                below,
                doubled,
            } => {
                // Unlike a column, a row outside the picture keeps its weight; both neighbours are then the same row,
                // which matters for the rounding.
                let (position, weights) = split(y, *scale);
                let last = i64::from(image.height()) - 1;
                let [upper, lower] =
                    [position, position + 1].map(|row| row.clamp(0, last) as usize);
                // Going down, the row below becomes the row above.
                if above.source != Some(upper) && below.source == Some(upper) {
                    std::mem::swap(above, below);
                }
                for (row, source) in [(&mut *above, upper), (&mut *below, lower)] {
                    if row.source != Some(source) {
                        row.fill(image.row(source), columns, doubled);
                        row.source = Some(source);
                    }
                }
                let [upper, lower] = weights.map(|weight| weight as i16);
                for ((out, &above), &below) in
                    self.row.iter_mut().zip(&above.values).zip(&below.values)
                {
                    *out = ((multiply_high(above, upper) + multiply_high(below, lower) + 2) >> 2)
                        as u8;
                }
            }
        }
        Some(&self.row)
    }
}

impl HorizontalRow {
    fn fill(&mut self, source: &[u8], columns: &[Tap], doubled: &mut Option<[u8; 6]>) {
        let source = match doubled {
            Some(doubled) => {
                doubled[..3].copy_from_slice(source);
                doubled[3..].copy_from_slice(source);
                doubled
            }
            None => source,
        };
        for (out, tap) in self.values.chunks_exact_mut(3).zip(columns) {
            let pair = &source[tap.at..tap.at + 6];
            let [left, right] = tap.weights;
            for channel in 0..3 {
                let sum = i32::from(pair[channel]) * left + i32::from(pair[channel + 3]) * right;
                // At most 255 * 2048 / 16, which fits.
                out[channel] = (sum >> 4) as i16;
            }
        }
    }
}

impl Tap {
    fn new(x: u32, scale: f64, source_width: u32) -> Self {
        let (position, mut weights) = split(x, scale);
        let last = i64::from(source_width) - 1;
        // Outside the picture the border pixel counts alone.
        let mut left = position;
        if position < 0 {
            (left, weights) = (0, [ONE as i32, 0]);
        }
        if position >= last {
            // The right one of the last pair, so that every tap reads two pixels.
            (left, weights) = ((last - 1).max(0), [0, ONE as i32]);
        }
        Self {
            at: left as usize * 3,
            weights,
        }
    }
}

/// Source pixels per resized pixel, with cv2's detour: its reciprocal is computed first.
fn scale(source: u32, resized: u32) -> f64 {
    1.0 / (f64::from(resized) / f64::from(source))
}

/// The source pixel to the left of (or above) resized pixel `index`, from -1 on, and the weights of it and of the next.
fn split(index: u32, scale: f64) -> (i64, [i32; 2]) {
    let position = ((f64::from(index) + 0.5) * scale - 0.5) as f32;
    let whole = position.floor();
    let part = position - whole;
    (
        whole as i64,
        [1.0 - part, part].map(|weight| (weight * ONE).round_ties_even() as i32),
    )
}

/// The high half of a 16 x 16 bit product.
fn multiply_high(a: i16, b: i16) -> i16 {
    ((i32::from(a) * i32::from(b)) >> 16) as i16
}
