//! What timings have in common: their input and their statistics.

use std::time::Duration;

/// The input on which networks are timed: fixed values, spread over what normalised images hold, without
/// structure.
pub fn noise(len: usize) -> Vec<f32> {
    let value = |i: usize| (i.wrapping_mul(2_654_435_761) >> 7 & 0xffff) as f32 / 16384.0 - 2.0;
    (0..len).map(value).collect()
}

/// The value below which `share` (0 to 1) of the values lie, which must be in order; between two values the
/// line that joins them.
///
/// # Panics
/// For no values.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = share.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

/// Median, and first and last decile.
pub(crate) fn quantiles(times: &mut [Duration]) -> (Duration, [Duration; 2]) {
    times.sort_unstable();
    let seconds: Vec<f64> = times.iter().map(Duration::as_secs_f64).collect();
    let at = |share| Duration::from_secs_f64(quantile(&seconds, share));
    (at(0.5), [at(0.1), at(0.9)])
}
