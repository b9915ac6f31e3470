//! Precision and recall: Kynkäänniemi et al., *Improved precision and recall metric for assessing generative
//! models*, 2019.

use rayon::prelude::*;

use crate::error::Error;
use crate::features::Features;
use crate::product::times_transposed;

/// Pictures whose distances to all others are in memory at once.
const BLOCK: usize = 256;

/// Shares of pictures that lie among those of the other side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PrecisionRecall {
    /// Of the generated pictures, the share that lies within the neighbourhood of some real one.
    pub precision: f64,
    /// Of the real pictures, the share that lies within the neighbourhood of some generated one.
    pub recall: f64,
}

/// Precision and recall. The neighbourhood of a picture reaches to its `neighbours`-th nearest of the same
/// side; the tools take the third.
///
/// # Errors
///
/// [`Error::Dimensions`]; [`Error::TooFew`] unless each side has more than `neighbours` pictures.
pub fn precision_recall(
    generated: &Features,
    real: &Features,
    neighbours: usize,
) -> Result<PrecisionRecall, Error> {
    generated.check_like(real)?;
    let found = generated.len().min(real.len());
    if found <= neighbours {
        return Err(Error::TooFew { what: "precision and recall", needed: neighbours + 1, found });
    }
    let [generated, real] = [generated, real].map(Points::new);
    Ok(PrecisionRecall {
        precision: generated.share_within(&real, &real.radii(neighbours)),
        recall: real.share_within(&generated, &generated.radii(neighbours)),
    })
}

/// Features in `f64` with the squares of their lengths.
struct Points {
    values: Vec<f64>,
    squares: Vec<f64>,
    dimensions: usize,
}

impl Points {
    fn new(features: &Features) -> Self {
        let (values, dimensions) = (features.widened(), features.dimensions());
        let squares = values.chunks(dimensions).map(|row| row.iter().map(|v| v * v).sum()).collect();
        Self { values, squares, dimensions }
    }

    /// Calls `each` with blocks of the squared distances of our pictures to all of `other`, a row each.
    fn distances<T: Send>(&self, other: &Self, each: impl Fn(&mut [f64]) -> T + Sync) -> Vec<T> {
        let mut results = Vec::with_capacity(self.squares.len());
        let blocks = self.values.chunks(BLOCK * self.dimensions).zip(self.squares.chunks(BLOCK));
        for (block, squares) in blocks {
            let mut products = times_transposed(block, &other.values, self.dimensions);
            let rows = products.par_chunks_mut(other.squares.len()).zip(squares);
            results.par_extend(rows.map(|(row, square)| {
                for (value, other) in row.iter_mut().zip(&other.squares) {
                    *value = (square + other - 2.0 * *value).max(0.0);
                }
                each(row)
            }));
        }
        results
    }

    /// The squared distance of each picture to its `neighbours`-th nearest; the nearest is itself.
    fn radii(&self, neighbours: usize) -> Vec<f64> {
        self.distances(self, |row| *row.select_nth_unstable_by(neighbours, f64::total_cmp).1)
    }

    /// The share of our pictures that lie within a radius of some picture of `other`.
    fn share_within(&self, other: &Self, radii: &[f64]) -> f64 {
        let within =
            self.distances(other, |row| row.iter().zip(radii).any(|(distance, radius)| distance <= radius));
        within.iter().filter(|&&within| within).count() as f64 / within.len() as f64
    }
}
