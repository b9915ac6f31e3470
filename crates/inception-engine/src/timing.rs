//! What timings have in common: their input and their statistics.

use std::time::Duration;

/// The input on which networks are timed: fixed values, spread over what normalised images hold, without
/// structure.
pub fn noise(len: usize) -> Vec<f32> {
    let value = |i: usize| (i.wrapping_mul(2_654_435_761) >> 7 & 0xffff) as f32 / 16384.0 - 2.0;
    (0..len).map(value).collect()
}

/// Median, and first and last decile.
pub(crate) fn quantiles(times: &mut [Duration]) -> (Duration, [Duration; 2]) {
    times.sort_unstable();
    let at = |tenths: usize| times[(times.len() - 1) * tenths / 10];
    (at(5), [at(1), at(9)])
}
