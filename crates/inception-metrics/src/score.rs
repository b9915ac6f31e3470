//! Inception Score: Salimans et al., *Improved techniques for training GANs*, 2016.

use std::ops::Range;

use crate::draw::Draw;
use crate::error::Error;
use crate::features::Features;

/// How pictures are cut into splits of nearly equal size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunks {
    /// From `i * pictures / splits` on: torch-fidelity's.
    Even,
    /// All of the same size, rounded up, but the last: PyTorch's `chunk`.
    RoundedUp,
}

/// Which standard deviation over splits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Divided by the number of splits: NumPy's.
    Population,
    /// Divided by one less: PyTorch's.
    Sample,
}

/// The score of splits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InceptionScore {
    /// Mean over the splits.
    pub mean: f64,
    /// Standard deviation over them.
    pub std: f64,
}

/// The exponential of the mean divergence of a picture's classes from those of its split. `logits` are
/// `[pictures, classes]`, and are shuffled by `draw`.
///
/// # Errors
///
/// [`Error::TooFew`] with fewer pictures than splits.
pub fn inception_score(
    logits: &Features,
    splits: usize,
    chunks: Chunks,
    spread: Spread,
    draw: &mut dyn Draw,
) -> Result<InceptionScore, Error> {
    let pictures = logits.len();
    if splits == 0 || pictures < splits.max(2) {
        return Err(Error::TooFew { what: "an Inception Score", needed: splits.max(2), found: pictures });
    }
    let order = draw.permutation(pictures);
    let ranges: Vec<Range<usize>> = match chunks {
        Chunks::Even => (0..splits).map(|i| i * pictures / splits..(i + 1) * pictures / splits).collect(),
        Chunks::RoundedUp => {
            let size = pictures.div_ceil(splits);
            (0..pictures).step_by(size).map(|start| start..(start + size).min(pictures)).collect()
        }
    };
    let scores: Vec<f64> = ranges.into_iter().map(|range| score(logits, &order[range])).collect();
    let count = scores.len() as f64;
    let mean = scores.iter().sum::<f64>() / count;
    let divisor = match spread {
        Spread::Population => count,
        Spread::Sample => count - 1.0,
    };
    let std = (scores.iter().map(|score| (score - mean).powi(2)).sum::<f64>() / divisor).sqrt();
    Ok(InceptionScore { mean, std })
}

/// The score of one split.
fn score(logits: &Features, pictures: &[usize]) -> f64 {
    let classes = logits.dimensions();
    let mut shares = vec![0.0; classes];
    let mut negative_entropy = 0.0;
    for &picture in pictures {
        let row = &logits.values()[picture * classes..][..classes];
        let largest = row.iter().copied().map(f64::from).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = row.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum();
        for (share, &logit) in shares.iter_mut().zip(row) {
            let log = f64::from(logit) - largest - sum.ln();
            *share += log.exp();
            negative_entropy += log.exp() * log;
        }
    }
    // The mean of p (log p - log q) is that of p log p less q log q, of the mean q.
    let count = pictures.len() as f64;
    let of_mean: f64 =
        shares.iter().map(|share| share / count).filter(|&q| q > 0.0).map(|q| q * q.ln()).sum();
    (negative_entropy / count - of_mean).exp()
}
