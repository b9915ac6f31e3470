//! cv2's `INTER_LINEAR` for 8-bit pixels, bit for bit.
//!
//! What it computes (`modules/imgproc/src/resize.cpp`; opencv-python 4.6.0 does not use IPP or its bit-exact
//! code for this case): pixel centres lie at half numbers, source positions are float32, the weights of the
//! two neighbours are rounded to 11 bits. The horizontal pass is exact; the vertical one drops 4 bits before
//! and 16 bits after the multiplication, of each neighbour by itself, so that the result may be one less than
//! correct rounding would give. There is no antialiasing, but an image halved exactly in both directions is
//! averaged over 2 x 2 pixels instead.

use std::ops::Range;

use crate::image::RgbImage;

/// 1.0 as a weight.
const ONE: f32 = 2048.0;

/// A rectangle of a resized image, made row by row: what the crop throws away is never computed, and each
/// source row is resized horizontally at most once.
///
/// Resized pixels have a fourth value without meaning, so that pixels line up with vector registers.
pub(crate) struct Cv2Rows<'a> {
    image: &'a RgbImage,
    kind: Kind,
    /// Rows of the rectangle that are still to be made, numbered in the resized image.
    rows: Range<u32>,
    /// The last row made.
    row: Vec<[u8; 4]>,
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
        columns: Box<Columns>,
        /// Two source rows, resized horizontally.
        above: HorizontalRow,
        below: HorizontalRow,
    },
}

/// What the horizontal pass needs to know, in the order in which it reads it, and its working memory.
///
/// Fetching the pixels and weighing them are two loops, because the compiler turns the second one into vector
/// instructions only if it stands alone; together they take half as long as in one loop.
struct Columns {
    /// Byte offset of the left one of each column's two neighbours; the right one follows.
    left_at: Vec<usize>,
    /// Weights of the left and the right neighbours, 0..=2048, the same for each channel.
    left_weights: Vec<[u16; 4]>,
    right_weights: Vec<[u16; 4]>,
    /// The neighbours themselves.
    left: Vec<[u8; 4]>,
    right: Vec<[u8; 4]>,
    /// Copy of the source row and `PADDING` bytes more.
    padded: Vec<u8>,
}

/// Eight bytes are read from the left neighbour on, also where that is the last pixel of the row.
const PADDING: usize = 8;

struct HorizontalRow {
    /// The source row that `values` were made from.
    source: Option<usize>,
    /// Weighted sums of two pixels, 19 bits, of which the low 4 are dropped already.
    values: Vec<[u16; 4]>,
}

impl<'a> Cv2Rows<'a> {
    /// The rectangle of `columns` and `rows` of `image` resized to `width` x `height`. Both ranges must lie
    /// inside.
    pub(super) fn new(
        image: &'a RgbImage,
        (width, height): (u32, u32),
        columns: Range<u32>,
        rows: Range<u32>,
    ) -> Self {
        let len = columns.len();
        let halved = |source: u32, resized: u32| u64::from(source) == 2 * u64::from(resized);
        let kind = if halved(image.width(), width) && halved(image.height(), height) {
            Kind::Halve { columns: columns.map(|x| x as usize * 6).collect() }
        } else {
            let row = || HorizontalRow { source: None, values: vec![[0; 4]; len] };
            Kind::Interpolate {
                scale: scale(image.height(), height),
                columns: Box::new(Columns::new(columns, scale(image.width(), width), image.width())),
                above: row(),
                below: row(),
            }
        };
        Self { image, kind, rows, row: vec![[0; 4]; len] }
    }

    /// The next row of the rectangle, or `None` after the last one.
    pub(super) fn next_row(&mut self) -> Option<&[[u8; 4]]> {
        let y = self.rows.next()?;
        let image = self.image;
        match &mut self.kind {
            Kind::Halve { columns } => {
                let (upper, lower) = (image.row(2 * y as usize), image.row(2 * y as usize + 1));
                for (out, &at) in self.row.iter_mut().zip(columns.iter()) {
                    let (upper, lower) = (&upper[at..at + 6], &lower[at..at + 6]);
                    for channel in 0..3 {
                        let pair = |row: &[u8]| u32::from(row[channel]) + u32::from(row[channel + 3]);
                        out[channel] = ((pair(upper) + pair(lower) + 2) >> 2) as u8;
                    }
                }
            }
            Kind::Interpolate { scale, columns, above, below } => {
                // Unlike a column, a row outside the image keeps its weight; both neighbours are then the
                // same row, which matters for the rounding.
                let (position, [upper_weight, lower_weight]) = split(y, *scale);
                let last = i64::from(image.height()) - 1;
                let [upper, lower] = [position, position + 1].map(|row| row.clamp(0, last) as usize);
                // Going down, the row below becomes the row above.
                if above.source != Some(upper) && below.source == Some(upper) {
                    std::mem::swap(above, below);
                }
                for (row, source) in [(&mut *above, upper), (&mut *below, lower)] {
                    if row.source != Some(source) {
                        columns.weigh(image.row(source), &mut row.values);
                        row.source = Some(source);
                    }
                }
                let (above, below) = (above.values.as_flattened(), below.values.as_flattened());
                for ((out, &above), &below) in self.row.as_flattened_mut().iter_mut().zip(above).zip(below) {
                    let sum = multiply_high(above, upper_weight) + multiply_high(below, lower_weight);
                    *out = ((sum + 2) >> 2) as u8;
                }
            }
        }
        Some(&self.row)
    }
}

impl Columns {
    fn new(columns: Range<u32>, scale: f64, source_width: u32) -> Self {
        let last = i64::from(source_width) - 1;
        let len = columns.len();
        let (left_at, weights): (Vec<usize>, Vec<[u16; 2]>) = columns
            .map(|x| {
                let (position, weights) = split(x, scale);
                // Outside the image the border pixel counts alone.
                let weights = if (0..last).contains(&position) { weights } else { [ONE as u16, 0] };
                (position.clamp(0, last) as usize * 3, weights)
            })
            .unzip();
        Self {
            left_at,
            left_weights: weights.iter().map(|weights| [weights[0]; 4]).collect(),
            right_weights: weights.iter().map(|weights| [weights[1]; 4]).collect(),
            left: vec![[0; 4]; len],
            right: vec![[0; 4]; len],
            padded: vec![0; source_width as usize * 3 + PADDING],
        }
    }

    /// The weighted sum of each column's two neighbours in the row `source`, less its low 4 bits.
    fn weigh(&mut self, source: &[u8], sums: &mut [[u16; 4]]) {
        self.padded[..source.len()].copy_from_slice(source);
        for ((&at, left), right) in self.left_at.iter().zip(&mut self.left).zip(&mut self.right) {
            if let Some(&pair) = self.padded[at..].first_chunk() {
                let pair = u64::from_le_bytes(pair);
                *left = (pair as u32).to_le_bytes();
                *right = ((pair >> 24) as u32).to_le_bytes();
            }
        }
        let left = self.left.as_flattened().iter().zip(self.left_weights.as_flattened());
        let right = self.right.as_flattened().iter().zip(self.right_weights.as_flattened());
        for ((sum, left), right) in sums.as_flattened_mut().iter_mut().zip(left).zip(right) {
            let product = |(&pixel, &weight): (&u8, &u16)| u32::from(pixel) * u32::from(weight);
            // At most 255 * 2048 / 16, which fits.
            *sum = ((product(left) + product(right)) >> 4) as u16;
        }
    }
}

/// Source pixels per resized pixel, with cv2's detour: its reciprocal is computed first.
fn scale(source: u32, resized: u32) -> f64 {
    1.0 / (f64::from(resized) / f64::from(source))
}

/// The source pixel to the left of (or above) resized pixel `index`, from -1 on, and the weights of it and of
/// the next.
fn split(index: u32, scale: f64) -> (i64, [u16; 2]) {
    let position = ((f64::from(index) + 0.5) * scale - 0.5) as f32;
    let whole = position.floor();
    let part = position - whole;
    (whole as i64, [1.0 - part, part].map(|weight| (weight * ONE).round_ties_even() as u16))
}

/// The high half of a 16 x 16 bit product; unsigned, because the compiler has one instruction for that.
fn multiply_high(a: u16, b: u16) -> u16 {
    ((u32::from(a) * u32::from(b)) >> 16) as u16
}
