//! Exact sums of features and of their products.

use rayon::prelude::*;

use crate::error::Error;
use crate::features::check_rows;
use crate::gaussian::Gaussian;
use crate::limits::{MAX_DIMENSIONS, MAX_IMAGES};
use crate::product::add_transposed_times;

/// Features are multiples of 2^-27: rounded by 4e-9 at most, where they are not of that form already.
const FRACTION: i32 = 27;
/// Their magnitude is below 2^16, so that they are integers of 43 bits and a sign.
const LIMIT: f32 = 65536.0;
/// Bits of the low one of the two parts that such an integer is split into; the high one has as many.
const PART: u32 = 22;
/// Pictures whose products are summed in `f64` before they are added to the integers. Products of parts are
/// at most 2^42, two of them are added for each picture, and sums below 2^53 are exact.
const BLOCK: usize = 256;
/// Rows of the products that a thread computes together.
const BAND: usize = 64;

/// Sums of features and of their products, from which mean and covariance follow.
///
/// Features are integers in units of 2^-27, and so are their sums: they depend neither on the order of the
/// pictures nor on the parts that were merged, on the number of threads or on the CPU. Memory is `8
/// dimensions^2` bytes and two blocks of 256 pictures, however many pictures there are.
#[derive(Clone, Debug)]
pub struct Sums {
    dimensions: usize,
    images: u64,
    sums: Vec<i64>,
    /// The upper triangle, row by row.
    products: Vec<i128>,
    /// Features that are not in the products yet, in units of 2^-27.
    pending: Vec<i64>,
}

impl Sums {
    /// Of no picture.
    ///
    /// # Errors
    ///
    /// [`Error::Rows`] without a feature, [`Error::TooWide`].
    pub fn new(dimensions: usize) -> Result<Self, Error> {
        check_rows(dimensions, &[])?;
        if dimensions > MAX_DIMENSIONS {
            return Err(Error::TooWide { dimensions });
        }
        let products = vec![0; triangle(dimensions)];
        Ok(Self { dimensions, images: 0, sums: vec![0; dimensions], products, pending: Vec::new() })
    }

    /// Sums that [`parts`](Self::parts) gave.
    ///
    /// # Errors
    ///
    /// [`Error::Rows`] for products of another size, [`Error::TooMany`].
    pub fn from_parts(images: u64, sums: Vec<i64>, products: Vec<i128>) -> Result<Self, Error> {
        let dimensions = sums.len();
        if dimensions == 0 || products.len() != triangle(dimensions) {
            return Err(Error::Rows { values: products.len(), dimensions });
        }
        if images > MAX_IMAGES {
            return Err(Error::TooMany);
        }
        // No pictures have larger ones, and with these nothing overflows.
        let bound = i128::from(images) << (2 * (PART * 2 - 1));
        if products.iter().any(|product| product.unsigned_abs() > bound.unsigned_abs())
            || sums.iter().any(|&sum| i128::from(sum).abs() > i128::from(images) << (PART * 2 - 1))
        {
            return Err(Error::Rows { values: products.len(), dimensions });
        }
        Ok(Self { dimensions, images, sums, products, pending: Vec::new() })
    }

    /// Number of pictures, sums `[dimensions]` in units of 2^-27, and sums of products in units of 2^-54: the
    /// upper triangle, row by row.
    pub fn parts(&mut self) -> (u64, &[i64], &[i128]) {
        self.flush();
        (self.images, &self.sums, &self.products)
    }

    /// Features of a picture.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Number of pictures.
    pub fn images(&self) -> u64 {
        self.images
    }

    /// Adds pictures, a row of features each.
    ///
    /// # Errors
    ///
    /// [`Error::Rows`], [`Error::Value`] and [`Error::TooMany`], and nothing is added.
    pub fn add(&mut self, rows: &[f32]) -> Result<(), Error> {
        check_rows(self.dimensions, rows)?;
        if let Some(at) = rows.iter().position(|value| value.abs() >= LIMIT) {
            return Err(Error::Value { index: at % self.dimensions, value: rows[at] });
        }
        self.count((rows.len() / self.dimensions) as u64)?;
        for row in rows.chunks_exact(self.dimensions) {
            for (sum, &value) in self.sums.iter_mut().zip(row) {
                // A power of two is multiplied exactly.
                let value = (f64::from(value) * f64::from(1 << FRACTION)).round_ties_even() as i64;
                *sum += value;
                self.pending.push(value);
            }
            if self.pending.len() == BLOCK * self.dimensions {
                self.flush();
            }
        }
        Ok(())
    }

    /// Adds the pictures of another part.
    ///
    /// # Errors
    ///
    /// [`Error::Dimensions`] and [`Error::TooMany`].
    pub fn merge(&mut self, mut other: Self) -> Result<(), Error> {
        if self.dimensions != other.dimensions {
            return Err(Error::Dimensions { first: self.dimensions, second: other.dimensions });
        }
        self.count(other.images)?;
        self.flush();
        other.flush();
        self.sums.iter_mut().zip(&other.sums).for_each(|(sum, other)| *sum += other);
        self.products.iter_mut().zip(&other.products).for_each(|(sum, other)| *sum += other);
        Ok(())
    }

    /// Mean and covariance, each entry rounded a few times at most from what they are exactly.
    ///
    /// # Errors
    ///
    /// [`Error::TooFew`] with fewer than two pictures.
    pub fn gaussian(&mut self) -> Result<Gaussian, Error> {
        if self.images < 2 {
            let found = self.images as usize;
            return Err(Error::TooFew { what: "a covariance", needed: 2, found });
        }
        self.flush();
        let images = i128::from(self.images);
        let unit = f64::from(FRACTION).exp2();
        let mean = self.sums.iter().map(|&sum| sum as f64 / images as f64 / unit).collect();
        let divisor = (images * (images - 1)) as f64;
        let mut covariance = vec![0.0; self.dimensions * self.dimensions];
        let mut products = self.products.iter();
        for row in 0..self.dimensions {
            for column in row..self.dimensions {
                let product = products.next().copied().unwrap_or_default();
                // At most 2^126 each, with 2^20 pictures of 2^43.
                let sums = i128::from(self.sums[row]) * i128::from(self.sums[column]);
                let value = (images * product - sums) as f64 / divisor / unit / unit;
                covariance[row * self.dimensions + column] = value;
                covariance[column * self.dimensions + row] = value;
            }
        }
        Gaussian::new(mean, covariance, Some(self.images))
    }

    fn count(&mut self, more: u64) -> Result<(), Error> {
        let images = self.images.saturating_add(more);
        if images > MAX_IMAGES {
            return Err(Error::TooMany);
        }
        self.images = images;
        Ok(())
    }

    /// Adds the products of pending pictures.
    fn flush(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() {
            return;
        }
        let (high, low): (Vec<f64>, Vec<f64>) = pending.par_iter().map(|&value| split(value)).unzip();
        let dimensions = self.dimensions;
        let mut rest = &mut self.products[..];
        let mut bands = Vec::with_capacity(dimensions.div_ceil(BAND));
        for first in (0..dimensions).step_by(BAND) {
            let rows = BAND.min(dimensions - first);
            let (band, after) =
                rest.split_at_mut(triangle(dimensions - first) - triangle(dimensions - first - rows));
            bands.push((first, rows, band));
            rest = after;
        }
        bands
            .into_par_iter()
            .for_each(|(first, rows, band)| add_band(&high, &low, dimensions, first, rows, band));
        self.pending = pending;
        self.pending.clear();
    }
}

/// Entries of the upper triangle of a square.
fn triangle(side: usize) -> usize {
    side * (side + 1) / 2
}

/// An integer as `high * 2^22 + low`, both of at most 21 bits and a sign, as floats.
fn split(value: i64) -> (f64, f64) {
    let half = 1 << (PART - 1);
    let low = ((value + half) & ((1 << PART) - 1)) - half;
    (((value - low) >> PART) as f64, low as f64)
}

/// Adds products to the rows `first..first + rows` of the triangle.
fn add_band(high: &[f64], low: &[f64], dimensions: usize, first: usize, rows: usize, band: &mut [i128]) {
    let columns = dimensions - first;
    let product = |pairs: &[(&[f64], &[f64])]| {
        let mut sum = vec![0.0; rows * columns];
        for &(left, right) in pairs {
            add_transposed_times((left, first, rows), (right, first), dimensions, &mut sum);
        }
        sum
    };
    let squares = product(&[(high, high)]);
    let mixed = product(&[(high, low), (low, high)]);
    let rests = product(&[(low, low)]);
    let mut band = band.iter_mut();
    for row in 0..rows {
        let span = row * columns + row..(row + 1) * columns;
        let parts = squares[span.clone()].iter().zip(&mixed[span.clone()]).zip(&rests[span]);
        for ((square, mixed), rest) in parts {
            let sum = (i128::from(*square as i64) << (2 * PART))
                + (i128::from(*mixed as i64) << PART)
                + i128::from(*rest as i64);
            if let Some(product) = band.next() {
                *product += sum;
            }
        }
    }
}
