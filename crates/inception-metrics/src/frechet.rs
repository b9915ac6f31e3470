//! Fréchet distance (FID): Heusel et al., *GANs trained by a two time-scale update rule converge to a local Nash
//! equilibrium*, 2017.

use faer::{Mat, MatRef, Side};

use crate::error::Error;
use crate::gaussian::Gaussian;

/// The Fréchet distance and what it is the sum of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frechet {
    /// The distance, `means + traces - 2 * root`; a rounding below 0 for equal sides.
    pub distance: f64,
    /// Squared distance of the means.
    pub means: f64,
    /// Sum of both traces.
    pub traces: f64,
    /// The trace of the root of the product of the covariances.
    pub root: f64,
    /// Eigenvalues that are not 0 of the covariance that has fewer: less than features where there are fewer
    /// pictures.
    pub rank: usize,
}

/// `|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))`.
///
/// The eigenvalues of `S1 S2` are those of the symmetric `S1^(1/2) S2 S1^(1/2)`, so that no complex numbers turn
/// up and singular covariances need no care: eigenvalues of 0 add nothing, and those that rounding has made
/// negative are 0.
///
/// # Errors
///
/// [`Error::Dimensions`]; [`Error::Eigenvalues`] if they are not found, which no covariance has done yet.
pub fn frechet_distance(first: &Gaussian, second: &Gaussian) -> Result<Frechet, Error> {
    let (dimensions, other) = (first.dimensions(), second.dimensions());
    if dimensions != other {
        return Err(Error::Dimensions { first: dimensions, second: other });
    }
    let means = first.mean().iter().zip(second.mean()).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
    let traces = first.trace() + second.trace();
    // The root is taken of the side of fewer pictures: of a smaller rank is less to compute.
    let count = |side: &Gaussian| side.images().unwrap_or(u64::MAX);
    let (rooted, other) = if count(second) < count(first) { (second, first) } else { (first, second) };
    let root = half(rooted)?;
    let rank = root.ncols();
    let between = root.transpose() * (matrix(other) * &root);
    let eigenvalues = between.self_adjoint_eigenvalues(Side::Lower).map_err(|_| Error::Eigenvalues)?;
    let root: f64 = eigenvalues.iter().map(|value| value.max(0.0).sqrt()).sum();
    Ok(Frechet { distance: means + traces - 2.0 * root, means, traces, root, rank })
}

fn matrix(side: &Gaussian) -> MatRef<'_, f64> {
    MatRef::from_row_major_slice(side.covariance(), side.dimensions(), side.dimensions())
}

/// `[dimensions, rank]`, of which the product with its transpose is the covariance.
fn half(side: &Gaussian) -> Result<Mat<f64>, Error> {
    let eigen = matrix(side).self_adjoint_eigen(Side::Lower).map_err(|_| Error::Eigenvalues)?;
    let (vectors, values) = (eigen.U(), eigen.S().column_vector());
    let largest = (0..side.dimensions()).map(|at| values[at]).fold(0.0, f64::max);
    // What rounding leaves of eigenvalues of 0.
    let noise = largest * f64::EPSILON * side.dimensions() as f64;
    let kept: Vec<usize> = (0..side.dimensions()).filter(|&at| values[at] > noise).collect();
    Ok(Mat::from_fn(side.dimensions(), kept.len(), |row, column| {
        vectors[(row, kept[column])] * values[kept[column]].sqrt()
    }))
}
