//! Fréchet distance (FID): Heusel et al., *GANs trained by a two time-scale update rule converge to a local Nash
//! equilibrium*, 2017.

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt_pivoting::factor::{cholesky_in_place, cholesky_in_place_scratch};
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, Mat, MatRef, Side, Spec, get_global_parallelism};

use crate::error::Error;
use crate::gaussian::Gaussian;

/// The Fréchet distance and what it is the sum of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frechet {
    /// The distance; a rounding below 0 for equal sides.
    pub distance: f64,
    /// Eigenvalues that are not 0 of the covariance that has fewer: less than features where there are fewer
    /// pictures.
    pub rank: usize,
}

/// `|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))`.
///
/// With `S1 = L L^T` the eigenvalues of `S1 S2` are those of the symmetric `L^T S2 L`, so that no complex
/// numbers turn up and singular covariances need no care: `L` has fewer columns then, and eigenvalues that
/// rounding has made negative are 0.
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
    // The factor is that of the side of fewer pictures: of a smaller rank is less to compute.
    let count = |side: &Gaussian| side.images().unwrap_or(u64::MAX);
    let (factored, other) = if count(second) < count(first) { (second, first) } else { (first, second) };
    let Factor { lower, order } = Factor::new(factored)?;
    let (rank, other) = (lower.ncols(), matrix(other));
    if rank == 0 {
        return Ok(Frechet { distance: means + traces, rank });
    }
    let other = Mat::from_fn(dimensions, dimensions, |row, column| other[(order[row], order[column])]);
    let mut between = Mat::zeros(rank, rank);
    triangular::matmul(
        between.as_mut(),
        BlockStructure::TriangularLower,
        Accum::Replace,
        lower.transpose(),
        BlockStructure::Rectangular,
        other * &lower,
        BlockStructure::Rectangular,
        1.0,
        get_global_parallelism(),
    );
    let eigenvalues = between.self_adjoint_eigenvalues(Side::Lower).map_err(|_| Error::Eigenvalues)?;
    let root: f64 = eigenvalues.iter().map(|value| value.max(0.0).sqrt()).sum();
    Ok(Frechet { distance: means + traces - 2.0 * root, rank })
}

fn matrix(side: &Gaussian) -> MatRef<'_, f64> {
    MatRef::from_row_major_slice(side.covariance(), side.dimensions(), side.dimensions())
}

/// A Cholesky factor with pivots: of the covariance with rows and columns in another order, `lower` times its
/// transpose.
struct Factor {
    /// `[dimensions, rank]`, zeros above the diagonal.
    lower: Mat<f64>,
    /// Which feature comes where.
    order: Vec<usize>,
}

impl Factor {
    fn new(side: &Gaussian) -> Result<Self, Error> {
        let size = side.dimensions();
        let mut factor = matrix(side).to_owned();
        let mut order: Vec<usize> = (0..size).collect();
        let largest = (0..size).map(|at| factor[(at, at)]).fold(0.0, f64::max);
        if largest == 0.0 {
            return Ok(Self { lower: Mat::zeros(size, 0), order });
        }
        // A variance of 0 whose last digit is off, which exact sums do not give but other tools' files may.
        for at in 0..size {
            factor[(at, at)] = factor[(at, at)].max(0.0);
        }
        let (par, params) = (get_global_parallelism(), Spec::default());
        let mut buffer = MemBuffer::new(cholesky_in_place_scratch::<usize, f64>(size, par, params));
        let mut inverse = vec![0; size];
        // It ends where what is left is what rounding leaves of zeros.
        let stack = MemStack::new(&mut buffer);
        let found = cholesky_in_place(factor.as_mut(), &mut order, &mut inverse, par, stack, params);
        let rank = found.map_err(|_| Error::Eigenvalues)?.0.rank;
        let lower =
            Mat::from_fn(size, rank, |row, column| if row < column { 0.0 } else { factor[(row, column)] });
        Ok(Self { lower, order })
    }
}
