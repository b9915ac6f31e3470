//! Pillow's `Image.resize` for 8-bit pixels, bilinear and bicubic, bit for bit.
//!
//! What it computes (`src/libImaging/Resample.c`): a filter as wide as the factor of reduction asks for, so
//! that shrinking averages (antialiasing); its weights in double precision, divided by their sum, then
//! rounded to 22 bits; first all rows horizontally, rounded to 8 bits, then all columns vertically. A
//! direction in which the size stays is left out. Since version 13 the vertical pass comes first where the
//! height shrinks by more than twice as many pixels as the width, which rounds differently
//! (`generate_pillow.py` has both kinds).

use std::ops::Range;

use crate::image::RgbImage;

/// Whether Pillow resizes vertically first, by the sizes before and after: since version 13 it begins with the
/// direction in which more is thrown away.
pub(super) fn is_vertical_first(image: &RgbImage, (width, height): (u32, u32)) -> bool {
    let [shorter, narrower] = [(image.height(), height), (image.width(), width)]
        .map(|(source, resized)| i64::from(source) - i64::from(resized));
    shorter > 0 && shorter > 2 * narrower
}

/// Bits after the binary point of a weight.
const PRECISION: u32 = 22;

/// Which curve weighs the source pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filter {
    /// `Image.BILINEAR`: a triangle.
    Bilinear,
    /// `Image.BICUBIC`: Keys' cubic with a = -1/2.
    Bicubic,
}

impl Filter {
    /// Source pixels to either side of the centre, where the image grows.
    pub(super) fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }

    pub(super) fn weight(self, x: f64) -> f64 {
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

/// A rectangle of a resized image, made row by row; what the crop throws away is never computed.
///
/// Pixels have a fourth value without meaning, so that they line up with vector registers.
pub(crate) struct PillowRows<'a> {
    image: &'a RgbImage,
    /// Source columns that the rectangle needs.
    used: Range<usize>,
    columns: Taps,
    rows: Taps,
    /// The next row of the rectangle, from 0.
    next: usize,
    /// Source rows, resized horizontally: source row `y` is at `y % ring.len()`.
    ring: Vec<Row>,
    /// The first source row that is not in the ring yet.
    filled: usize,
    /// Whether the vertical pass comes first; nothing is in the ring then.
    vertical_first: bool,
    /// The used part of the source row at hand, and as many pixels more as one is made of.
    source: Vec<[i32; 4]>,
    /// Weighted sums of a row.
    sums: Vec<[i32; 4]>,
    row: Row,
    /// Whether this CPU has AVX2.
    avx2: bool,
}

/// A row of the rectangle, in blocks of so many pixels; what is over has no meaning.
type Row = Vec<[[u8; 4]; BLOCK]>;

/// Pixels whose vertical sums are made together, in registers.
const BLOCK: usize = 8;

/// Source pixels that are weighed horizontally in one vector instruction.
const TOGETHER: usize = 2;

/// Which source pixels make up each resized one, along one direction.
struct Taps {
    /// First source pixel and number of source pixels of each resized one.
    spans: Vec<(usize, usize)>,
    /// Weights of all of them, one after the other, each four times; filled up with zeros to `each` a resized
    /// pixel.
    weights: Vec<[[i32; 4]; TOGETHER]>,
    /// Elements of `weights` for a resized pixel.
    each: usize,
}

impl Taps {
    /// Those of the resized pixels `range` of a direction of `source` pixels that becomes `resized` long.
    fn new(source: u32, resized: u32, range: Range<u32>, filter: Filter) -> Self {
        let scale = f64::from(source) / f64::from(resized);
        let filter_scale = scale.max(1.0);
        let support = filter.support() * filter_scale;
        let span = |index: u32| {
            let centre = (f64::from(index) + 0.5) * scale;
            // Converting saturates: below 0 becomes 0, as in Pillow.
            let first = (centre - support + 0.5) as u32;
            (centre, first..((centre + support + 0.5) as u32).min(source))
        };
        let spans: Vec<(usize, usize)> = match source == resized {
            true => range.clone().map(|index| (index as usize, 1)).collect(),
            false => range.clone().map(|index| (span(index).1.start as usize, span(index).1.len())).collect(),
        };
        let each = spans.iter().map(|&(_, count)| count).max().unwrap_or(1).div_ceil(TOGETHER);
        let mut weights = vec![[[0; 4]; TOGETHER]; spans.len() * each];
        let mut exact = Vec::new();
        for (index, fixed) in range.zip(weights.chunks_exact_mut(each)) {
            let fixed = fixed.as_flattened_mut();
            if source == resized {
                fixed[0] = [1 << PRECISION; 4];
                continue;
            }
            let (centre, span) = span(index);
            exact.clear();
            exact.extend(span.map(|x| filter.weight((f64::from(x) - centre + 0.5) * (1.0 / filter_scale))));
            let sum: f64 = exact.iter().sum();
            for (fixed, &weight) in fixed.iter_mut().zip(&exact) {
                let weight = if sum == 0.0 { weight } else { weight / sum } * f64::from(1 << PRECISION);
                // Half away from zero, and then towards it.
                *fixed = [(if weight < 0.0 { weight - 0.5 } else { weight + 0.5 }) as i32; 4];
            }
        }
        Self { spans, weights, each }
    }

    /// First source pixel of resized pixel `index` of the range, and the weights from there on.
    fn of(&self, index: usize) -> (usize, impl Iterator<Item = i32> + Clone) {
        let (first, count) = self.spans[index];
        let weights = self.weights[index * self.each..][..self.each].as_flattened();
        (first, weights[..count].iter().map(|weight| weight[0]))
    }

    /// The source pixels that are needed, of which the first pixel and the last one mark the ends.
    fn used(&self) -> Range<usize> {
        match (self.spans.first(), self.spans.last()) {
            (Some(&(first, _)), Some(&(last, count))) => first..last + count,
            _ => 0..0,
        }
    }
}

/// Half a unit of the result.
const HALF: i32 = 1 << (PRECISION - 1);

/// Rounds a weighted sum to 8 bits.
#[inline(always)]
fn round(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

impl<'a> PillowRows<'a> {
    /// The rectangle of `columns` and `rows` of `image` resized to `width` x `height`. Both ranges must lie
    /// inside.
    pub(super) fn new(
        image: &'a RgbImage,
        (width, height): (u32, u32),
        columns: Range<u32>,
        rows: Range<u32>,
        filter: Filter,
    ) -> Self {
        let len = columns.len();
        let columns = Taps::new(image.width(), width, columns, filter);
        let rows = Taps::new(image.height(), height, rows, filter);
        // With a pass left out the order makes no difference.
        let vertical_first = is_vertical_first(image, (width, height));
        let row = vec![[[0; 4]; BLOCK]; len.div_ceil(BLOCK)];
        let used = columns.used();
        Self {
            image,
            next: 0,
            ring: if vertical_first { Vec::new() } else { vec![row.clone(); rows.each * TOGETHER] },
            filled: rows.used().start,
            vertical_first,
            source: vec![[0; 4]; used.len() + columns.each * TOGETHER],
            sums: vec![[0; 4]; len],
            row,
            used,
            columns,
            rows,
            #[cfg(target_arch = "x86_64")]
            avx2: is_x86_feature_detected!("avx2"),
            #[cfg(not(target_arch = "x86_64"))]
            avx2: false,
        }
    }

    /// The next row of the rectangle, or `None` after the last one.
    pub(super) fn next_row(&mut self) -> Option<&[[u8; 4]]> {
        if self.next == self.rows.spans.len() {
            return None;
        }
        match self.avx2 {
            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code)]
            // SAFETY: the field says that the CPU has AVX2.
            true => unsafe { self.make_row_avx2() },
            _ => self.make_row(),
        }
        self.next += 1;
        Some(&self.row.as_flattened()[..self.columns.spans.len()])
    }

    /// As [`make_row`](Self::make_row): the compiler has other instructions for the same lines. What every
    /// x86-64 CPU has lacks a multiplication of 32-bit numbers.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn make_row_avx2(&mut self) {
        self.make_row();
    }

    #[inline(always)]
    fn make_row(&mut self) {
        if self.vertical_first {
            self.make_row_vertical_first();
        } else {
            self.make_row_horizontal_first();
        }
    }

    #[inline(always)]
    fn make_row_horizontal_first(&mut self) {
        let (first, count) = self.rows.spans[self.next];
        // Spans only move down, so that each source row is resized once at most.
        self.filled = self.filled.max(first);
        while self.filled < first + count {
            let row = &self.image.row(self.filled)[self.used.start * 3..self.used.end * 3];
            widen(row, &mut self.source);
            let place = self.filled % self.ring.len();
            weigh(&self.source, self.used.start, &self.columns, &mut self.sums, &mut self.ring[place]);
            self.filled += 1;
        }
        let (first, weights) = self.rows.of(self.next);
        for (block, out) in self.row.iter_mut().enumerate() {
            let mut sums = [HALF; 4 * BLOCK];
            for (y, weight) in (first..).zip(weights.clone()) {
                let values = self.ring[y % self.ring.len()][block].as_flattened();
                for (sum, &value) in sums.iter_mut().zip(values) {
                    *sum += i32::from(value) * weight;
                }
            }
            for (out, sum) in out.as_flattened_mut().iter_mut().zip(sums) {
                *out = round(sum);
            }
        }
    }

    #[inline(always)]
    fn make_row_vertical_first(&mut self) {
        let sums = &mut self.source[..self.used.len()];
        sums.fill([HALF; 4]);
        let (first, weights) = self.rows.of(self.next);
        for (y, weight) in (first..).zip(weights) {
            let row = &self.image.row(y)[self.used.start * 3..self.used.end * 3];
            for (sums, pixel) in sums.iter_mut().zip(row.as_chunks::<3>().0) {
                for (sum, &value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(value) * weight;
                }
            }
        }
        for sum in sums.as_flattened_mut() {
            *sum = round(*sum).into();
        }
        weigh(&self.source, self.used.start, &self.columns, &mut self.sums, &mut self.row);
    }
}

/// Gives the pixels of `row` 32 bits a value. The fourth value is the next pixel's first.
#[inline(always)]
fn widen(row: &[u8], wide: &mut [[i32; 4]]) {
    let count = row.len() / 3;
    for (index, wide) in wide[..count].iter_mut().enumerate() {
        if let Some(pixel) = row[index * 3..].first_chunk::<4>() {
            *wide = pixel.map(i32::from);
        }
    }
    if let Some(&[red, green, blue]) = row.last_chunk() {
        wide[count - 1] = [red, green, blue, 0].map(i32::from);
    }
}

/// Resizes a row horizontally, of which `source` is the part from column `start` on.
#[inline(always)]
fn weigh(source: &[[i32; 4]], start: usize, columns: &Taps, sums: &mut [[i32; 4]], resized: &mut Row) {
    let weights = columns.weights.chunks_exact(columns.each);
    // Two loops, because the compiler makes vector instructions of each alone.
    for ((&(first, _), weights), out) in columns.spans.iter().zip(weights).zip(&mut *sums) {
        let pixels = source[first - start..].as_chunks::<TOGETHER>().0;
        let mut sums = [0; 4 * TOGETHER];
        for (pixels, weights) in pixels.iter().zip(weights) {
            for ((sum, value), weight) in
                sums.iter_mut().zip(pixels.as_flattened()).zip(weights.as_flattened())
            {
                *sum += value * weight;
            }
        }
        *out = std::array::from_fn(|channel| HALF + sums[channel] + sums[4 + channel]);
    }
    for (out, &sum) in resized.as_flattened_mut().as_flattened_mut().iter_mut().zip(sums.as_flattened()) {
        *out = round(sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What other CPUs compute is what this one does.
    #[test]
    fn every_instruction_set_gives_the_same_pixels() {
        let pixels = (0..211_u32 * 173 * 3).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let image = RgbImage::from_raw(211, 173, pixels).expect("the size is right");
        for filter in [Filter::Bilinear, Filter::Bicubic] {
            for size in [(64, 53), (300, 90), (211, 20), (500, 400)] {
                let rows = || PillowRows::new(&image, size, 3..size.0 - 1, 0..size.1, filter);
                let mut portable = PillowRows { avx2: false, ..rows() };
                let mut native = rows();
                while let Some(row) = native.next_row() {
                    assert_eq!(Some(row), portable.next_row(), "{filter:?}, {size:?}");
                }
                assert_eq!(portable.next_row(), None);
            }
        }
    }
}
