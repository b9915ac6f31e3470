//! Products of matrices.

use gemm::{Parallelism, gemm};

/// `left` `[rows, inner]` times the transpose of `right` `[columns, inner]`, `[rows, columns]`, all
/// row-major, on all threads of rayon's pool.
pub(crate) fn times_transposed(left: &[f64], right: &[f64], inner: usize) -> Vec<f64> {
    let (rows, columns) = (left.len() / inner, right.len() / inner);
    let mut product = vec![0.0; rows * columns];
    let left = Matrix { values: left, rows, columns: inner, row: inner, column: 1 };
    let right = Matrix { values: right, rows: inner, columns, row: 1, column: inner };
    multiply(left, right, &mut product, false, Parallelism::Rayon(0));
    product
}

/// Adds the transpose of `left` `[inner, rows]` times `right` `[inner, columns]` to `sum` `[rows, columns]`.
/// Only `rows` columns of `left` from `left_at` on and those of `right` from `right_at` on take part; both
/// have `stride` columns.
pub(crate) fn add_transposed_times(
    (left, left_at, rows): (&[f64], usize, usize),
    (right, right_at): (&[f64], usize),
    stride: usize,
    sum: &mut [f64],
) {
    let inner = left.len() / stride;
    let columns = stride - right_at;
    if inner == 0 {
        return;
    }
    let left = Matrix { values: &left[left_at..], rows, columns: inner, row: 1, column: stride };
    let right = Matrix { values: &right[right_at..], rows: inner, columns, row: stride, column: 1 };
    multiply(left, right, sum, true, Parallelism::None);
}

/// A matrix in memory: the steps from row to row and from column to column.
struct Matrix<'a> {
    values: &'a [f64],
    rows: usize,
    columns: usize,
    row: usize,
    column: usize,
}

impl Matrix<'_> {
    /// Values from the first to the last.
    fn extent(&self) -> usize {
        match (self.rows, self.columns) {
            (0, _) | (_, 0) => 0,
            (rows, columns) => (rows - 1) * self.row + (columns - 1) * self.column + 1,
        }
    }
}

/// `left` times `right`, added to `product` or written over it.
#[allow(unsafe_code)]
fn multiply(left: Matrix<'_>, right: Matrix<'_>, product: &mut [f64], add: bool, parallelism: Parallelism) {
    let (rows, columns, inner) = (left.rows, right.columns, left.columns);
    assert_eq!(inner, right.rows);
    assert_eq!(product.len(), rows * columns);
    assert!(left.extent() <= left.values.len() && right.extent() <= right.values.len());
    let step = |step: usize| step as isize;
    // SAFETY: the matrices lie within their slices, as just checked, and the product is borrowed mutably.
    unsafe {
        gemm(
            rows,
            columns,
            inner,
            product.as_mut_ptr(),
            1,
            step(columns),
            add,
            left.values.as_ptr(),
            step(left.column),
            step(left.row),
            right.values.as_ptr(),
            step(right.column),
            step(right.row),
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}
