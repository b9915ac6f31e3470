//! Weights as bytes.

/// The largest magnitude: signed and symmetric around zero.
const LARGEST: f32 = 127.0;

/// The integer nearest to a weight in units of `scale`, as a byte.
pub(super) fn integer(weight: f32, scale: f32) -> u8 {
    ((weight / scale).round_ties_even().clamp(-LARGEST, LARGEST) as i8).cast_unsigned()
}

/// The integers nearest to the weights of each output channel, and the channels' scales: their largest weights become
/// 127.
pub(super) fn integers(weights: &[f32], channels: usize) -> (Vec<u8>, Vec<f32>) {
    let scale = |channel: &[f32]| {
        let scale = channel.iter().fold(0.0f32, |m, w| m.max(w.abs())) / LARGEST;
        if scale.is_finite() && scale >= f32::MIN_POSITIVE { scale } else { 1.0 }
    };
    let rows = || weights.chunks_exact((weights.len() / channels.max(1)).max(1));
    let bytes = rows().flat_map(|row| {
        let scale = scale(row);
        row.iter().map(move |&w| integer(w, scale))
    });
    (bytes.collect(), rows().map(scale).collect())
}
