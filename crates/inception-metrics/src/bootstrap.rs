//! How much a Fréchet distance depends on which pictures there happen to be.

use crate::draw::Draw;
use crate::error::Error;
use crate::features::Features;
use crate::frechet::frechet_distance;
use crate::sums::Sums;

/// What distances of resampled pictures are like. Each is larger than the distance itself by its bias: of the
/// pictures some are there twice and about a third is not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Of a hundred, two and a half are below.
    pub low: f64,
    /// Of a hundred, two and a half are above.
    pub high: f64,
    /// Standard deviation.
    pub std: f64,
}

/// Fréchet distances of `samples` pairs of sides, each drawn with replacement from the pictures of its side.
///
/// # Errors
///
/// [`Error::TooFew`] without two samples; those of [`frechet_distance`].
pub fn bootstrap(
    first: &Features,
    second: &Features,
    samples: usize,
    draw: &mut dyn Draw,
) -> Result<Interval, Error> {
    if samples < 2 {
        return Err(Error::TooFew { what: "a bootstrap", needed: 2, found: samples });
    }
    let mut resampled = |features: &Features| {
        let mut sums = Sums::new(features.dimensions())?;
        for _ in 0..features.len() {
            let row = draw.below(features.len()) * features.dimensions();
            sums.add(&features.values()[row..row + features.dimensions()])?;
        }
        sums.gaussian()
    };
    let mut distances = Vec::with_capacity(samples);
    for _ in 0..samples {
        distances.push(frechet_distance(&resampled(first)?, &resampled(second)?)?.distance);
    }
    distances.sort_by(f64::total_cmp);
    let mean = distances.iter().sum::<f64>() / samples as f64;
    let variance = distances.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (samples - 1) as f64;
    let at = |share: f64| distances[((samples - 1) as f64 * share).round() as usize];
    Ok(Interval { low: at(0.025), high: at(0.975), std: variance.sqrt() })
}
