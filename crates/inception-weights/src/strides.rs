//! Strides of tensors that are not stored row-major.

/// Whether `strides` visit each of as many values as `shape` has exactly once: some order of the dimensions.
pub(crate) fn is_permutation(shape: &[usize], strides: &[usize]) -> bool {
    let mut order: Vec<usize> = (0..shape.len()).filter(|&i| shape[i] != 1).collect();
    order.sort_by_key(|&i| strides[i]);
    let mut next = 1usize;
    order.iter().all(|&i| {
        let expected = next;
        next = next.saturating_mul(shape[i]);
        strides[i] == expected
    })
}

/// Values in the order of `strides`, which [`is_permutation`] has accepted, in row-major order.
pub(crate) fn row_major(values: &[f32], shape: &[usize], strides: &[usize]) -> Vec<f32> {
    let mut index = vec![0; shape.len()];
    let mut at = 0;
    let mut result = Vec::with_capacity(values.len());
    for _ in 0..values.len() {
        result.push(values[at]);
        for d in (0..shape.len()).rev() {
            index[d] += 1;
            at += strides[d];
            if index[d] < shape[d] {
                break;
            }
            at -= strides[d] * shape[d];
            index[d] = 0;
        }
    }
    result
}
