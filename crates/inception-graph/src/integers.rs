//! Weights as integers of 8 bits, with a scale for each output channel.
//!
//! The same numbers give the same integers wherever they are rounded: as a network is calibrated, compiled or
//! written.

/// Largest magnitude of an integer: signed and symmetric around zero.
const LARGEST: f32 = 127.0;

/// Largest magnitude of the sum of a pair's integers of one sign: times 255 it still fits 16 bits.
const LARGEST_PAIR: i32 = i16::MAX as i32 / u8::MAX as i32;

/// Scales that are tried for a channel of which a pair does not fit, beside the one that its largest weight
/// asks for.
const STEPS: usize = 4;

/// Whether two integers times any two bytes, and the sum of both, fit 16 bits. `vpmaddubsw` of AVX2, which
/// multiplies pairs of bytes, saturates otherwise.
pub fn pairs_fit(pair: [i8; 2]) -> bool {
    let [a, b] = pair.map(i32::from);
    a.max(0) + b.max(0) <= LARGEST_PAIR && a.min(0) + b.min(0) >= -LARGEST_PAIR
}

/// The integer nearest to a weight in units of `scale`, to even where two are as near.
pub fn integer_weight(weight: f32, scale: f32) -> i8 {
    nearest(weight, scale) as i8
}

/// Rounds the weights of one output channel, `[in][taps]`, and returns the integers and their scale.
///
/// The largest weight becomes 127, and the others the nearest integers. Where the weights of channels `2 n`
/// and `2 n + 1` at one tap do not satisfy [`pairs_fit`], the scale is enlarged, or those two become smaller
/// by the same amount, or both: what has the least sum of squared errors. That is left out where the number
/// of channels is odd, since engines pair channels of different taps there.
///
/// Weights that are integers in some unit already, as a file of integers has them, stay those.
pub fn integer_weights(channel: &[f32], taps: usize) -> (Vec<i8>, f32) {
    let scale = weight_scale(channel);
    let rounded = |scale: f32| channel.iter().map(|&w| nearest(w, scale)).collect::<Vec<f32>>();
    let bytes = |rounded: Vec<f32>| rounded.into_iter().map(|q| q as i8).collect();
    let found = rounded(scale);
    let channels = channel.len() / taps.max(1);
    let pairs = || pairs(if channels.is_multiple_of(2) { channels } else { 0 }, taps);
    let too_large = |[i, j]: [usize; 2], q: &[f32]| same_sign(q[i], q[j]) > LARGEST_PAIR as f32;
    if !pairs().any(|pair| too_large(pair, &found)) || are_integers(channel, scale) {
        return (bytes(found), scale);
    }
    // In units of this all pairs fit, but for the rounding.
    let most = pairs().map(|[i, j]| same_sign(channel[i], channel[j])).fold(0.0, f32::max);
    let enough = (most / LARGEST_PAIR as f32).max(scale);
    let mut best = (f64::INFINITY, found, scale);
    for step in 0..=STEPS {
        let scale = scale + (enough - scale) * (step as f32 / STEPS as f32);
        let mut found = rounded(scale);
        for [i, j] in pairs() {
            if too_large([i, j], &found) {
                // The nearest two whose sum is the largest that there may be.
                let [a, b] = [channel[i], channel[j]].map(|w| w.abs() / scale);
                let most = LARGEST_PAIR as f32;
                let first = ((a - b + most) / 2.0).round_ties_even().clamp(most - LARGEST, LARGEST);
                (found[i], found[j]) = (first.copysign(found[i]), (most - first).copysign(found[j]));
            }
        }
        let squared = |(w, q): (&f32, &f32)| f64::from(w - q * scale).powi(2);
        let error: f64 = channel.iter().zip(&found).map(squared).sum();
        if error < best.0 {
            best = (error, found, scale);
        }
    }
    (bytes(best.1), best.2)
}

/// The scale of a channel's weights: its largest becomes 127. Weights that are integers in another unit
/// already, as other programs quantise them, keep that, so that they are not rounded a second time.
fn weight_scale(channel: &[f32]) -> f32 {
    let largest = channel.iter().fold(0.0f32, |m, w| m.max(w.abs()));
    let scale = largest / LARGEST;
    if !(scale.is_finite() && scale >= f32::MIN_POSITIVE) {
        return 1.0;
    }
    // Some use -128, too, which becomes -127; it comes last, since it also fits what 64 fits. Two or three
    // small integers would fit any few weights.
    let others = (64u8..=126).rev().chain([128]).map(|most| largest / f32::from(most));
    match channel.len() > 4 && !are_integers(channel, scale) {
        true => others.into_iter().find(|unit| are_integers(channel, *unit)).unwrap_or(scale),
        false => scale,
    }
}

/// Whether all weights are integers in this unit.
fn are_integers(channel: &[f32], unit: f32) -> bool {
    // More than the rounding of a product of an integer and a scale; a few weights that are none are further
    // away.
    const NEAR: f32 = 1e-4;
    channel.iter().all(|w| {
        let quotient = w / unit;
        (quotient - quotient.round_ties_even()).abs() < NEAR
    })
}

/// From here on a float has no bits for fractions.
const WHOLE: f32 = 12_582_912.0;

/// The integer nearest to a number below 2^22, the even one of two as near, in the low bits. What is no
/// number is 0 in them. (Without SSE4.1 rounding by name is a function call.)
#[inline(always)]
pub fn round_to_even(x: f32) -> u32 {
    (x + WHOLE).to_bits()
}

/// As [`integer_weight`].
fn nearest(weight: f32, scale: f32) -> f32 {
    f32::from_bits(round_to_even((weight / scale).clamp(-LARGEST, LARGEST))) - WHOLE
}

/// The magnitude of the sum of two numbers of the same sign; of others, zero: they fit.
fn same_sign(a: f32, b: f32) -> f32 {
    if (a > 0.0) == (b > 0.0) { (a + b).abs() } else { 0.0 }
}

/// The places of the weights of channels `2 n` and `2 n + 1` at each tap.
fn pairs(channels: usize, taps: usize) -> impl Iterator<Item = [usize; 2]> {
    (0..channels / 2).flat_map(move |pair| {
        let first = 2 * pair * taps;
        (first..first + taps).map(move |i| [i, i + taps])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers from -1 to 1, small ones more often.
    fn numbers(seed: u32, count: usize) -> Vec<f32> {
        let mut state = seed.wrapping_mul(2_654_435_769) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as f32 / u32::MAX as f32 * 2.0 - 1.0
        };
        (0..count).map(|_| next() * next()).collect()
    }

    fn error(weights: &[f32], integers: &[i8], scale: f32) -> f64 {
        let squared = |(w, q): (&f32, &i8)| f64::from(w - f32::from(*q) * scale).powi(2);
        weights.iter().zip(integers).map(squared).sum()
    }

    /// Exactly the pairs whose sums with bytes at the ends of their range fit 16 bits.
    #[test]
    fn pairs_fit_if_no_sum_leaves_16_bits() {
        for a in i8::MIN..=i8::MAX {
            for b in i8::MIN..=i8::MAX {
                let sum = |x: i32, y: i32| i32::from(a) * x + i32::from(b) * y;
                let sums = [sum(0, 255), sum(255, 0), sum(255, 255)];
                let fit = sums.iter().all(|sum| i16::try_from(*sum).is_ok());
                assert_eq!(pairs_fit([a, b]), fit, "{a} {b}");
            }
        }
    }

    /// All pairs fit, errors are on average less than a step of the scale with which they fit by rounding,
    /// and integers are found again, also behind a batch norm.
    #[test]
    fn pairs_of_rounded_weights_fit() {
        let mut enlarged = 0;
        for seed in 0..300 {
            let (taps, channels) = ([1, 3, 9][seed as usize % 3], 8 + seed as usize % 40 * 2);
            let weights = numbers(seed, channels * taps);
            let (integers, scale) = integer_weights(&weights, taps);
            for [i, j] in pairs(channels, taps) {
                assert!(pairs_fit([integers[i], integers[j]]), "{seed}: {} {}", integers[i], integers[j]);
            }
            let largest = weights.iter().fold(0.0f32, |m, w| m.max(w.abs())) / 127.0;
            assert!(scale >= largest * 0.999 && scale <= largest * 2.0, "{seed}: {scale} of {largest}");
            enlarged += i32::from(scale > largest * 1.001);
            let most =
                pairs(channels, taps).map(|[i, j]| same_sign(weights[i], weights[j])).fold(0.0, f32::max);
            let enough = f64::from((most / 128.0).max(largest));
            assert!(error(&weights, &integers, scale) <= weights.len() as f64 * enough.powi(2), "{seed}");
            for factor in [1.0, 0.37, -2.9] {
                let stored: Vec<f32> = integers.iter().map(|&q| f32::from(q) * scale * factor).collect();
                let (again, unit) = integer_weights(&stored, taps);
                let signed: Vec<i8> = integers.iter().map(|q| if factor < 0.0 { -q } else { *q }).collect();
                assert_eq!(again, signed, "{seed}");
                assert!((unit / (scale * f32::abs(factor)) - 1.0).abs() < 1e-5, "{seed}");
            }
        }
        assert!(enlarged > 100, "{enlarged}");
    }

    /// A file of integers whose pairs do not fit is what it was, and so is a stem of three channels.
    #[test]
    fn integers_and_odd_channels_are_rounded_as_they_were() {
        let weights = [127.0f32, 90.0, 64.0, 101.0, -3.0, -120.0, -9.0, 55.0].map(|q| q * 0.013);
        let (integers, _) = integer_weights(&weights, 1);
        assert_eq!(integers, [127, 90, 64, 101, -3, -120, -9, 55]);
        let weights = numbers(5, 27);
        let (integers, scale) = integer_weights(&weights, 9);
        assert_eq!(scale, weights.iter().fold(0.0f32, |m, w| m.max(w.abs())) / 127.0);
        assert_eq!(integers, weights.iter().map(|&w| integer_weight(w, scale)).collect::<Vec<i8>>());
        assert_eq!(integer_weights(&[0.0; 6], 1), (vec![0; 6], 1.0));
    }

    /// Integers of which the largest is 100 are found again in their unit; other numbers get the largest for
    /// 127.
    #[test]
    fn weights_that_are_integers_stay_those() {
        let unit = 0.003_7f32;
        for integers in [[100, -57, 3, 0, 41, -99], [64, -31, 2, 0, 41, -17], [127, -1, 0, 5, 44, -127]] {
            let weights = integers.map(|n| f32::from(n) * unit);
            let (found, scale) = integer_weights(&weights, 1);
            assert!((scale - unit).abs() < 1e-7, "{scale}");
            assert_eq!(found, integers);
        }
        let others = [0.31f32, -0.127, 0.0551, 0.2, -0.017, 0.093];
        assert_eq!(weight_scale(&others), 0.31 / 127.0);
    }
}
