//! Pillow's `Image.resize` for 8-bit pixels, bilinear and bicubic, bit for bit.
//!
//! What it computes (`src/libImaging/Resample.c`): a filter as wide as the factor of reduction asks for, so that shrinking
//! averages (antialiasing); its weights in double precision, divided by their sum, then rounded to 22 bits; first all rows
//! horizontally, rounded to 8 bits, then all columns vertically. A direction in which the size stays is left out. Since
//! version 13 the vertical pass comes first where the height shrinks by more than twice as many pixels as the width, which
//! rounds differently (`generate_pillow.py` has both kinds).

use std::ops::Range;

use crate::image::byte_count;
use crate::{Error, RgbImage};

/// Bits after the binary point of a weight.
const PRECISION: u32 = 22;

/// Which curve weighs the source pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filter {
    /// `Image.BILINEAR`: a triangle.
    Bilinear,
    /// `Image.BICUBIC`: Keys' cubic with a = -1/2.
    Bicubic,
}

impl Filter {
    /// Source pixels to either side of the centre, where the picture grows.
    fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let x = x.abs();
        match self {
            Self::Bilinear if x < 1.0 => 1.0 - x,
            Self::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            _ => 0.0,
        }
    }
}

/// Resizes to `width` x `height` pixels with the values of Pillow's `image.resize((width, height), Image.BILINEAR)`.
///
/// With antialiasing where the picture shrinks. `[height, width, 3]` in and out.
///
/// # Errors
/// [`Error::ZeroSize`] if a side is 0, [`Error::ResizeTooLarge`] if a side exceeds 2^31 - 1 or memory cannot hold the
/// result.
pub fn resize_pil_bilinear(image: &RgbImage, width: u32, height: u32) -> Result<RgbImage, Error> {
    resize(image, width, height, Filter::Bilinear)
}

/// Resizes to `width` x `height` pixels with the values of Pillow's `image.resize((width, height), Image.BICUBIC)`.
///
/// With antialiasing where the picture shrinks. `[height, width, 3]` in and out.
///
/// # Errors
/// As [`resize_pil_bilinear`].
pub fn resize_pil_bicubic(image: &RgbImage, width: u32, height: u32) -> Result<RgbImage, Error> {
    resize(image, width, height, Filter::Bicubic)
}

fn resize(image: &RgbImage, width: u32, height: u32, filter: Filter) -> Result<RgbImage, Error> {
    let too_large = || Error::ResizeTooLarge { width: width.into(), height: height.into() };
    let len = byte_count(width, height).filter(|&len| isize::try_from(len).is_ok()).ok_or_else(too_large)?;
    let mut window = PilWindow::new(image, width, height, 0..width, 0..height, filter)?;
    let mut pixels = Vec::new();
    pixels.try_reserve_exact(len).map_err(|_| too_large())?;
    while let Some(row) = window.next_row() {
        pixels.extend(row.iter().flat_map(|&[red, green, blue, _]| [red, green, blue]));
    }
    RgbImage::from_raw(width, height, pixels)
}

/// A rectangle of a resized picture, made row by row; what the crop throws away is never computed.
///
/// Resized pixels have a fourth value without meaning, so that pixels line up with vector registers.
pub(crate) struct PilWindow<'a> {
    image: &'a RgbImage,
    columns: Taps,
    rows: Taps,
    /// The next row of the rectangle, from 0.
    next: usize,
    /// Source rows, resized horizontally: source row `y` is at `y % ring.len()`.
    ring: Vec<Vec<[u8; 4]>>,
    /// The first source row that is not in the ring yet.
    filled: usize,
    /// Whether the vertical pass comes first; nothing is in the ring then.
    vertical_first: bool,
    /// The source row at hand with a fourth value per pixel.
    source: Vec<[i32; 4]>,
    /// Sums of the row at hand.
    sums: Vec<[i32; 4]>,
    row: Vec<[u8; 4]>,
}

/// Which source pixels make up each resized one, along one direction.
struct Taps {
    /// First source pixel and number of source pixels of each resized one.
    spans: Vec<(usize, usize)>,
    /// Weights of all of them, one after the other.
    weights: Vec<i32>,
    /// Where each resized pixel's weights start.
    starts: Vec<usize>,
    /// The most source pixels that make up one.
    longest: usize,
}

impl Taps {
    /// Those of the resized pixels `range` of a direction of `source` pixels that becomes `resized` long.
    fn new(source: u32, resized: u32, range: Range<u32>, filter: Filter) -> Self {
        let len = range.len();
        let mut taps = Self {
            spans: Vec::with_capacity(len),
            weights: Vec::new(),
            starts: Vec::with_capacity(len),
            longest: 1,
        };
        let scale = f64::from(source) / f64::from(resized);
        let filter_scale = scale.max(1.0);
        let support = filter.support() * filter_scale;
        let mut weights = Vec::new();
        for index in range {
            taps.starts.push(taps.weights.len());
            if source == resized {
                taps.spans.push((index as usize, 1));
                taps.weights.push(1 << PRECISION);
                continue;
            }
            let centre = (f64::from(index) + 0.5) * scale;
            // Converting saturates: below 0 becomes 0, as in Pillow.
            let first = (centre - support + 0.5) as u32;
            let end = ((centre + support + 0.5) as u32).min(source);
            weights.clear();
            weights.extend(
                (first..end).map(|x| filter.weight((f64::from(x) - centre + 0.5) * (1.0 / filter_scale))),
            );
            let sum: f64 = weights.iter().sum();
            taps.spans.push((first as usize, weights.len()));
            taps.longest = taps.longest.max(weights.len());
            taps.weights.extend(weights.iter().map(|&weight| {
                let weight = if sum == 0.0 { weight } else { weight / sum } * f64::from(1 << PRECISION);
                // Half away from zero, and then towards it.
                (if weight < 0.0 { weight - 0.5 } else { weight + 0.5 }) as i32
            }));
        }
        taps
    }

    /// First source pixel of resized pixel `index` of the range, and the weights from there on.
    fn of(&self, index: usize) -> (usize, &[i32]) {
        let (first, count) = self.spans[index];
        (first, &self.weights[self.starts[index]..][..count])
    }
}

/// Rounds a weighted sum to 8 bits.
fn round(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

impl<'a> PilWindow<'a> {
    /// The rectangle of `columns` and `rows` of `image` resized to `width` x `height`. Both ranges must lie inside.
    pub(crate) fn new(
        image: &'a RgbImage,
        width: u32,
        height: u32,
        columns: Range<u32>,
        rows: Range<u32>,
        filter: Filter,
    ) -> Result<Self, Error> {
        let (wide, high) = (u64::from(width), u64::from(height));
        if width == 0 || height == 0 {
            return Err(Error::ZeroSize { width: wide, height: high });
        }
        if i32::try_from(width).is_err() || i32::try_from(height).is_err() {
            return Err(Error::ResizeTooLarge { width: wide, height: high });
        }
        let len = columns.len();
        let columns = Taps::new(image.width(), width, columns, filter);
        let rows = Taps::new(image.height(), height, rows, filter);
        // With a pass left out the order makes no difference.
        let [shorter, narrower] = [(image.height(), height), (image.width(), width)]
            .map(|(source, resized)| i64::from(source) - i64::from(resized));
        let vertical_first = shorter > 0 && shorter > 2 * narrower;
        let ring = if vertical_first { Vec::new() } else { vec![vec![[0; 4]; len]; rows.longest] };
        let filled = rows.spans.first().map_or(0, |&(first, _)| first);
        Ok(Self {
            image,
            next: 0,
            ring,
            filled,
            vertical_first,
            source: vec![[0; 4]; image.width() as usize],
            sums: vec![[0; 4]; len],
            row: vec![[0; 4]; len],
            columns,
            rows,
        })
    }

    /// The next row of the rectangle, or `None` after the last one.
    pub(crate) fn next_row(&mut self) -> Option<&[[u8; 4]]> {
        if self.next == self.rows.spans.len() {
            return None;
        }
        if self.vertical_first {
            self.next_row_vertical_first();
        } else {
            self.next_row_horizontal_first();
        }
        self.next += 1;
        Some(&self.row)
    }

    fn next_row_horizontal_first(&mut self) {
        let (first, count) = self.rows.spans[self.next];
        // Spans only move down, so that each source row is resized once at most.
        self.filled = self.filled.max(first);
        while self.filled < first + count {
            let row = self.image.row(self.filled).as_chunks::<3>().0;
            for (wide, pixel) in self.source.iter_mut().zip(row) {
                *wide = [pixel[0].into(), pixel[1].into(), pixel[2].into(), 0];
            }
            let place = self.filled % self.ring.len();
            weigh(&self.source, &self.columns, &mut self.ring[place]);
            self.filled += 1;
        }
        let (first, weights) = self.rows.of(self.next);
        self.sums.fill([1 << (PRECISION - 1); 4]);
        for (y, &weight) in (first..).zip(weights) {
            let source = &self.ring[y % self.ring.len()];
            for (sum, &value) in self.sums.as_flattened_mut().iter_mut().zip(source.as_flattened()) {
                *sum += i32::from(value) * weight;
            }
        }
        for (out, &sum) in self.row.as_flattened_mut().iter_mut().zip(self.sums.as_flattened()) {
            *out = round(sum);
        }
    }

    fn next_row_vertical_first(&mut self) {
        let Some((&(left, _), &(last, count))) = self.columns.spans.first().zip(self.columns.spans.last())
        else {
            return;
        };
        let used = left..last + count;
        let (first, weights) = self.rows.of(self.next);
        let source = &mut self.source[used.clone()];
        source.fill([1 << (PRECISION - 1); 4]);
        for (y, &weight) in (first..).zip(weights) {
            let row = &self.image.row(y).as_chunks::<3>().0[used.clone()];
            for (sums, pixel) in source.iter_mut().zip(row) {
                for (sum, &value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(value) * weight;
                }
            }
        }
        for sum in source.as_flattened_mut() {
            *sum = round(*sum).into();
        }
        weigh(&self.source, &self.columns, &mut self.row);
    }
}

/// Resizes the row `source` horizontally.
fn weigh(source: &[[i32; 4]], columns: &Taps, resized: &mut [[u8; 4]]) {
    for (index, out) in resized.iter_mut().enumerate() {
        let (first, weights) = columns.of(index);
        let mut sums = [1 << (PRECISION - 1); 4];
        for (pixel, &weight) in source[first..].iter().zip(weights) {
            for (sum, &value) in sums.iter_mut().zip(pixel) {
                *sum += value * weight;
            }
        }
        *out = sums.map(round);
    }
}
