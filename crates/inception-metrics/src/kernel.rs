//! Kernel distance (KID): Bińkowski et al., *Demystifying MMD GANs*, 2018.

use rayon::prelude::*;

use crate::draw::Draw;
use crate::error::Error;
use crate::features::Features;
use crate::product::times_transposed;

/// Bytes that the kernels of all pictures may take; beyond, those of each subset are computed by themselves.
const MEMORY: usize = 512 << 20;

/// The subsets that [`kernel_distance`] averages over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelOptions {
    /// Number of subsets.
    pub subsets: usize,
    /// Pictures of each side in a subset; fewer where a side has fewer.
    pub size: usize,
    /// Draw the second side's pictures before the first's.
    pub second_first: bool,
}

impl Default for KernelOptions {
    /// What all tools have: 100 subsets of 1000 pictures.
    fn default() -> Self {
        Self { subsets: 100, size: 1000, second_first: false }
    }
}

/// The kernel distance of subsets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KernelDistance {
    /// Mean over the subsets; may be a little below 0.
    pub mean: f64,
    /// Standard deviation over them, not corrected for their number.
    pub std: f64,
    /// Pictures of each side in a subset.
    pub size: usize,
}

/// The unbiased estimate of the squared maximum mean discrepancy with the kernel `(x y / dimensions + 1)^3`,
/// over random subsets.
///
/// # Errors
///
/// [`Error::Dimensions`]; [`Error::TooFew`] with fewer than two pictures on a side or in a subset.
pub fn kernel_distance(
    first: &Features,
    second: &Features,
    options: &KernelOptions,
    draw: &mut dyn Draw,
) -> Result<KernelDistance, Error> {
    first.check_like(second)?;
    let size = options.size.min(first.len()).min(second.len());
    if size < 2 || options.subsets == 0 {
        return Err(Error::TooFew { what: "a kernel distance", needed: 2, found: size });
    }
    let mut take = |features: &Features| {
        let mut order = draw.permutation(features.len());
        order.truncate(size);
        order
    };
    let subsets: Vec<_> = (0..options.subsets)
        .map(|_| match options.second_first {
            true => {
                let second = take(second);
                (take(first), second)
            }
            false => (take(first), take(second)),
        })
        .collect();
    let all = first.len() + second.len();
    let together = all.saturating_mul(all).saturating_mul(size_of::<f64>()) <= MEMORY
        && all * all <= 4 * options.subsets * size * size;
    let estimates: Vec<f64> = match together {
        true => {
            let (x, y) = (first.widened(), second.widened());
            let kernels = Kernels::new(&x, &y, first.dimensions());
            subsets.par_iter().map(|(x, y)| kernels.estimate(x, y)).collect()
        }
        false => {
            let own: Vec<usize> = (0..size).collect();
            let of = |(x, y): &(Vec<usize>, Vec<usize>)| {
                Kernels::new(&first.gather(x), &second.gather(y), first.dimensions()).estimate(&own, &own)
            };
            subsets.iter().map(of).collect()
        }
    };
    let count = estimates.len() as f64;
    let mean = estimates.iter().sum::<f64>() / count;
    let variance = estimates.iter().map(|estimate| (estimate - mean).powi(2)).sum::<f64>() / count;
    Ok(KernelDistance { mean, std: variance.sqrt(), size })
}

/// The kernels of all pairs within and between two sides.
struct Kernels {
    within_first: Vec<f64>,
    within_second: Vec<f64>,
    between: Vec<f64>,
    counts: [usize; 2],
}

impl Kernels {
    fn new(first: &[f64], second: &[f64], dimensions: usize) -> Self {
        let kernels = |x: &[f64], y: &[f64]| {
            let mut products = times_transposed(x, y, dimensions);
            products.iter_mut().for_each(|value| *value = (*value / dimensions as f64 + 1.0).powi(3));
            products
        };
        Self {
            within_first: kernels(first, first),
            within_second: kernels(second, second),
            between: kernels(first, second),
            counts: [first.len() / dimensions, second.len() / dimensions],
        }
    }

    /// The estimate of the subsets `x` and `y`, of equal size.
    fn estimate(&self, x: &[usize], y: &[usize]) -> f64 {
        let sum = |kernels: &[f64], stride: usize, rows: &[usize], columns: &[usize]| {
            let row =
                |&row: &usize| columns.iter().map(|&column| kernels[row * stride + column]).sum::<f64>();
            rows.iter().map(row).sum::<f64>()
        };
        let diagonal = |kernels: &[f64], stride: usize, rows: &[usize]| {
            rows.iter().map(|&row| kernels[row * stride + row]).sum::<f64>()
        };
        let [first, second] = self.counts;
        let size = x.len() as f64;
        let within = sum(&self.within_first, first, x, x) - diagonal(&self.within_first, first, x)
            + sum(&self.within_second, second, y, y)
            - diagonal(&self.within_second, second, y);
        within / (size * (size - 1.0)) - 2.0 * sum(&self.between, second, x, y) / (size * size)
    }
}
