//! A fully connected layer and its gradients, as three products of matrices.

/// A fully connected layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// Its weights, `[inputs, outputs]` row-major.
    pub weight: Vec<f32>,
    /// What is added to each output.
    pub bias: Vec<f32>,
}

impl Linear {
    /// Number of inputs.
    pub fn inputs(&self) -> usize {
        self.weight.len() / self.bias.len().max(1)
    }

    /// Rows `[rows, inputs]` to `[rows, outputs]`.
    pub fn forward(&self, rows: &[f32]) -> Vec<f32> {
        let (inputs, outputs) = (self.inputs(), self.bias.len());
        let mut out: Vec<f32> =
            self.bias.iter().copied().cycle().take(rows.len() / inputs * outputs).collect();
        let left = Matrix { values: rows, rows: rows.len() / inputs, columns: inputs, transposed: false };
        let right = Matrix { values: &self.weight, rows: inputs, columns: outputs, transposed: false };
        add_product(left, right, &mut out);
        out
    }

    /// The gradients of weights and bias, from rows `[rows, inputs]` and the gradient of what
    /// [`forward`](Self::forward) made of them.
    pub fn gradients(&self, rows: &[f32], gradient: &[f32]) -> Self {
        let (inputs, outputs) = (self.inputs(), self.bias.len());
        let count = rows.len() / inputs;
        let mut weight = vec![0.0; inputs * outputs];
        let left = Matrix { values: rows, rows: inputs, columns: count, transposed: true };
        let right = Matrix { values: gradient, rows: count, columns: outputs, transposed: false };
        add_product(left, right, &mut weight);
        let mut bias = vec![0.0; outputs];
        for row in gradient.chunks_exact(outputs) {
            bias.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
        Self { weight, bias }
    }
}

/// A matrix in memory, `[rows, columns]` row-major, or the transpose of one that is.
struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    transposed: bool,
}

impl Matrix<'_> {
    /// The steps from row to row and from column to column.
    fn steps(&self) -> (isize, isize) {
        match self.transposed {
            true => (1, self.rows as isize),
            false => (self.columns as isize, 1),
        }
    }
}

/// Adds `left` times `right` to `sum`, `[left.rows, right.columns]` row-major. One thread, so that the sums
/// do not depend on how many there are.
#[allow(unsafe_code)]
fn add_product(left: Matrix<'_>, right: Matrix<'_>, sum: &mut [f32]) {
    let (rows, inner, columns) = (left.rows, left.columns, right.columns);
    assert_eq!(inner, right.rows);
    assert_eq!(left.values.len(), rows * inner);
    assert_eq!(right.values.len(), inner * columns);
    assert_eq!(sum.len(), rows * columns);
    let ((left_row, left_column), (right_row, right_column)) = (left.steps(), right.steps());
    // SAFETY: the three matrices fill their slices, as just checked, and `sum` is borrowed mutably.
    unsafe {
        matrixmultiply::sgemm(
            rows,
            inner,
            columns,
            1.0,
            left.values.as_ptr(),
            left_row,
            left_column,
            right.values.as_ptr(),
            right_row,
            right_column,
            1.0,
            sum.as_mut_ptr(),
            columns as isize,
            1,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 37 + seed * 11) % 17) as f32 / 8.0 - 1.0).collect()
    }

    /// Small integers over eight: single precision holds all products and sums exactly.
    #[test]
    fn products_are_those_by_definition() {
        for (count, inputs, outputs) in [(1, 1, 1), (5, 7, 3), (64, 33, 10), (17, 130, 129)] {
            let layer = Linear { weight: values(inputs * outputs, 1), bias: values(outputs, 2) };
            let (rows, gradient) = (values(count * inputs, 3), values(count * outputs, 4));
            let out = layer.forward(&rows);
            let gradients = layer.gradients(&rows, &gradient);
            for row in 0..count {
                for o in 0..outputs {
                    let products =
                        (0..inputs).map(|i| rows[row * inputs + i] * layer.weight[i * outputs + o]);
                    assert_eq!(out[row * outputs + o], layer.bias[o] + products.sum::<f32>());
                }
            }
            for o in 0..outputs {
                let column = |row: usize| gradient[row * outputs + o];
                assert_eq!(gradients.bias[o], (0..count).map(column).sum::<f32>());
                for i in 0..inputs {
                    let sum: f32 = (0..count).map(|row| rows[row * inputs + i] * column(row)).sum();
                    assert_eq!(gradients.weight[i * outputs + o], sum);
                }
            }
        }
    }
}
