//! Resizing to single precision, without rounding to 8 bits: what the tools that compute FID do.

use serde::{Deserialize, Serialize};

use super::pillow::{Filter, is_vertical_first};
use crate::error::Error;
use crate::image::RgbImage;

/// How pixels are interpolated in single precision when an image is stretched to another size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FloatResampler {
    /// PyTorch's `interpolate(mode="bilinear", align_corners=False)`: no antialiasing. pytorch-fid has it.
    TorchBilinear,
    /// The same with `antialias=True`. torchmetrics has it.
    TorchAntialiased,
    /// TensorFlow 1's `resize_bilinear`: no antialiasing, and the first pixels lie on each other, not the
    /// corners. torch-fidelity has it.
    TensorFlowBilinear,
    /// Pillow's `BICUBIC` of floats, cut to 0..=255. clean-fid has it.
    PilBicubic,
}

/// Which source pixels make up each resized one along one direction.
struct Taps {
    /// First source pixel, and where its weights start and end.
    spans: Vec<(usize, usize, usize)>,
    weights: Vec<f32>,
}

impl Taps {
    fn new(resampler: FloatResampler, source: u32, resized: u32) -> Self {
        let mut taps = Self { spans: Vec::with_capacity(resized as usize), weights: Vec::new() };
        // Whole pixels' positions and weights are computed in the precision in which the tools compute them.
        let scale = source as f32 / resized as f32;
        for index in 0..resized {
            match resampler {
                FloatResampler::TorchBilinear => {
                    taps.push_pair(((index as f32 + 0.5) * scale - 0.5).max(0.0), source);
                }
                FloatResampler::TensorFlowBilinear => taps.push_pair(index as f32 * scale, source),
                FloatResampler::TorchAntialiased => taps.push_torch(scale, index, source),
                FloatResampler::PilBicubic if source == resized => taps.push_pair(index as f32, source),
                FloatResampler::PilBicubic => {
                    let scale = f64::from(source) / f64::from(resized);
                    taps.push_bicubic(scale, index, source);
                }
            }
        }
        taps
    }

    /// The two pixels around `position`; the last one alone beyond it.
    fn push_pair(&mut self, position: f32, source: u32) {
        let first = (position as u32).min(source - 1);
        let part = position - first as f32;
        let start = self.weights.len();
        match first + 1 < source {
            true => self.weights.extend([1.0 - part, part]),
            false => self.weights.push(1.0),
        }
        self.spans.push((first as usize, start, self.weights.len()));
    }

    /// The pixels under Pillow's bicubic filter, as wide as the resized pixel.
    fn push_bicubic(&mut self, scale: f64, index: u32, source: u32) {
        let filter = Filter::Bicubic;
        let wide = scale.max(1.0);
        let centre = (f64::from(index) + 0.5) * scale;
        // Converting saturates at 0.
        let first = (centre - filter.support() * wide + 0.5) as u32;
        let end = ((centre + filter.support() * wide + 0.5) as u32).min(source);
        let exact: Vec<f64> =
            (first..end).map(|x| filter.weight((f64::from(x) - centre + 0.5) / wide)).collect();
        let sum: f64 = exact.iter().sum();
        let start = self.weights.len();
        self.weights.extend(exact.into_iter().map(|weight| (weight / sum) as f32));
        self.spans.push((first as usize, start, self.weights.len()));
    }

    /// As PyTorch weighs pixels, with its roundings: single precision where it has it
    /// (`_compute_indices_min_size_weights_aa` of ATen 2.15). Exact weights are off from these by 5e-3 of 255.
    fn push_torch(&mut self, scale: f32, index: u32, source: u32) {
        let wide = scale.max(1.0);
        let inverse = (1.0 / f64::from(wide)) as f32;
        let centre = (f64::from(scale) * (f64::from(index) + 0.5)) as f32;
        // Converting saturates at 0.
        let first = (f64::from(centre - wide) + 0.5) as u32;
        let end = ((f64::from(centre + wide) + 0.5) as u32).min(source);
        let weight = |x: u32| {
            let distance = (f64::from(x as f32 - centre) + 0.5) * f64::from(inverse);
            (1.0 - (distance as f32).abs()).max(0.0)
        };
        let sum: f32 = (first..end).map(weight).sum();
        let start = self.weights.len();
        self.weights.extend((first..end).map(|x| weight(x) / sum));
        self.spans.push((first as usize, start, self.weights.len()));
    }

    /// First source pixel of resized pixel `index`, and the weights from there on.
    fn of(&self, index: usize) -> (usize, &[f32]) {
        let (first, start, end) = self.spans[index];
        (first, &self.weights[start..end])
    }
}

/// Stretches `image` to `width` x `height` pixels with values of 0 to 255, and calls `row` with each row,
/// `[width, 3]`, from the top.
///
/// # Errors
/// [`Error::ZeroSize`] if a side is 0.
pub(crate) fn stretch(
    image: &RgbImage,
    resampler: FloatResampler,
    (width, height): (u32, u32),
    mut row: impl FnMut(&[f32]),
) -> Result<(), Error> {
    if width == 0 || height == 0 {
        return Err(Error::ZeroSize { width: width.into(), height: height.into() });
    }
    let columns = Taps::new(resampler, image.width(), width);
    let rows = Taps::new(resampler, image.height(), height);
    let mut emit = |values: &mut [f32]| {
        if resampler == FloatResampler::PilBicubic {
            values.iter_mut().for_each(|value| *value = value.clamp(0.0, 255.0));
        }
        row(values);
    };
    // Others begin with the rows.
    let vertical_first = resampler == FloatResampler::PilBicubic && is_vertical_first(image, (width, height));
    let mut out = vec![0.0; width as usize * 3];
    if vertical_first {
        let mut source = vec![0.0; image.width() as usize * 3];
        let mut sum = source.clone();
        for index in 0..height as usize {
            sum.fill(0.0);
            let (first, weights) = rows.of(index);
            for (y, &weight) in (first..).zip(weights) {
                widen(image.row(y), &mut source);
                add_scaled(&mut sum, &source, weight);
            }
            narrow(&sum, &columns, &mut out);
            emit(&mut out);
        }
        return Ok(());
    }
    // Rows that are narrowed already: the row `y` is at `y % ring.len()`, and spans only move down.
    let most = rows.spans.iter().map(|(_, start, end)| end - start).max().unwrap_or(1);
    let mut ring = vec![out.clone(); most];
    let mut source = vec![0.0; image.width() as usize * 3];
    let mut filled = 0;
    for index in 0..height as usize {
        let (first, weights) = rows.of(index);
        filled = filled.max(first);
        while filled < first + weights.len() {
            widen(image.row(filled), &mut source);
            narrow(&source, &columns, &mut ring[filled % most]);
            filled += 1;
        }
        out.fill(0.0);
        for (y, &weight) in (first..).zip(weights) {
            add_scaled(&mut out, &ring[y % most], weight);
        }
        emit(&mut out);
    }
    Ok(())
}

fn widen(row: &[u8], wide: &mut [f32]) {
    wide.iter_mut().zip(row).for_each(|(wide, &value)| *wide = value.into());
}

fn add_scaled(sums: &mut [f32], values: &[f32], weight: f32) {
    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value * weight);
}

/// Resizes a row, `[source, 3]` to `[resized, 3]`.
fn narrow(source: &[f32], columns: &Taps, out: &mut [f32]) {
    let pixels = source.as_chunks::<3>().0;
    for (index, out) in out.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        let (first, weights) = columns.of(index);
        let mut sums = [0.0; 3];
        for (pixel, &weight) in pixels[first..].iter().zip(weights) {
            for (sum, value) in sums.iter_mut().zip(pixel) {
                *sum += value * weight;
            }
        }
        *out = sums;
    }
}
