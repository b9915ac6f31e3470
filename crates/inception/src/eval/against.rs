//! One network in two precisions over the same pictures.

use std::time::Instant;

use inception_data::{Batch, Dataset, LoaderOptions, load};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::eval::run::{EvalOptions, Evaluation, check_labels, check_tally, record};
use crate::eval::settings::EvalSettings;
use crate::eval::tally::{Differences, Tally};
use crate::runner::Runner;

/// The other of two runs over the same pictures, and how far the two are apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Against {
    /// Device and precision of the other run.
    pub device: String,
    /// Its weights, by length and hash of their file.
    pub weights: String,
    /// Share of the pictures whose likeliest class is right in the other run.
    pub top1: f64,
    /// Share of the pictures of which one of the five likeliest classes is right there.
    pub top5: f64,
    /// Its mean cross entropy; `None` if one is no finite number.
    pub loss: Option<f64>,
    /// Share of the pictures with the same likeliest class in both.
    pub agreement: f64,
    /// The largest difference of a logit, over the largest logit of the other run.
    pub error: f64,
    /// The pictures that are furthest apart, at most ten: those with different classes first, then by error.
    pub worst: Vec<Apart>,
}

/// A picture in both runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Apart {
    /// Its path in the dataset.
    pub image: String,
    /// Its class.
    pub label: u32,
    /// The likeliest class.
    pub guess: u32,
    /// The likeliest class of the other run.
    pub against: u32,
    /// The largest difference of its logits, over its largest logit in the other run.
    pub error: f64,
}

/// Pictures in [`Against::worst`].
const WORST: usize = 10;

/// The other run.
#[derive(Clone, Debug)]
pub struct Other<'a> {
    /// What computes it, for images of the same size.
    pub runner: &'a Runner,
    /// Its device and precision.
    pub device: String,
    /// Its weights.
    pub weights: String,
}

/// What both runs have counted.
#[derive(Default)]
struct Both {
    tallies: [Tally; 2],
    differences: Differences,
    apart: Vec<Apart>,
}

impl Both {
    /// Adds a picture by its logits in both runs.
    fn add(&mut self, image: &std::path::Path, label: u32, logits: [&[f32]; 2]) {
        let (classes, error) = self.differences.add(logits[0], logits[1]);
        let [guess, against] = classes.map(|class| class as u32);
        let image = image.to_string_lossy().into_owned();
        self.apart.push(Apart { image, label, guess, against, error });
        let key = |apart: &Apart| (apart.guess == apart.against, -apart.error);
        self.apart.sort_by(|a, b| {
            let ((same_a, error_a), (same_b, error_b)) = (key(a), key(b));
            same_a.cmp(&same_b).then(error_a.total_cmp(&error_b))
        });
        self.apart.truncate(WORST);
    }
}

/// As [`evaluate`](super::evaluate) without a state, by `runner` and by another one, and how far the two are
/// apart. `progress` is told the figures of the first run and how many pictures are done.
///
/// # Errors
///
/// As [`evaluate`](super::evaluate).
pub fn evaluate_against(
    runner: &Runner,
    other: &Other<'_>,
    dataset: &Dataset,
    settings: &EvalSettings,
    options: &EvalOptions,
    mut progress: impl FnMut(&Tally, u64),
) -> Result<(Evaluation, Against), Error> {
    check_labels(dataset, settings)?;
    let EvalOptions { shard, workers, prefetch, max_skipped, misclassified } = *options;
    let loader = LoaderOptions { batch: settings.batch, workers, prefetch };
    let (mut both, mut done, start) = (Both::default(), 0, Instant::now());
    let numbers: Vec<usize> = shard.batches(settings.batches()).collect();
    let pictures = |number: usize| settings.batch.min(settings.pictures - number * settings.batch) as u64;
    let total = numbers.iter().map(|&number| pictures(number)).sum();
    load(dataset, &settings.preprocessing, &loader, numbers, |mut batch: Batch, reuse| {
        let count = batch.items.len();
        let logits = match batch.skipped.len() < count {
            true => [runner.run(&batch.input, count)?, other.runner.run(&batch.input, count)?],
            false => [(); 2].map(|()| vec![0.0; count * settings.classes]),
        };
        reuse(std::mem::take(&mut batch.input));
        for (tally, logits) in both.tallies.iter_mut().zip(&logits) {
            tally.add_record(&record(&batch, logits, dataset, settings)?, misclassified);
        }
        for (i, index) in batch.items.clone().enumerate() {
            if batch.skipped.iter().all(|(skipped, _)| *skipped != index) {
                let range = i * settings.classes..(i + 1) * settings.classes;
                let item = &dataset.items()[index];
                both.add(&item.path, item.label, [&logits[0][range.clone()], &logits[1][range]]);
            }
        }
        done += count as u64;
        progress(&both.tallies[0], done);
        check_tally(&both.tallies[0], total, max_skipped)
    })?;
    let Both { tallies: [tally, theirs], differences, apart } = both;
    let against = Against {
        device: other.device.clone(),
        weights: other.weights.clone(),
        top1: theirs.top1_share(),
        top5: theirs.top5_share(),
        loss: theirs.mean_loss(),
        agreement: differences.agreement(),
        error: differences.error(),
        worst: apart,
    };
    let seconds = start.elapsed().as_secs_f64();
    Ok((Evaluation { settings: settings.clone(), shards: vec![shard], tally, seconds }, against))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pictures with different classes come before those with larger differences; the rest by error.
    #[test]
    fn the_worst_pictures_come_first() {
        let mut both = Both::default();
        for (i, (a, b)) in [
            ([1.0, 0.0], [1.0, 0.5]),
            ([0.49, 0.5], [0.5, 0.49]),
            ([1.0, 0.0], [1.0, 0.0]),
            ([4.0, 0.0], [1.0, 0.0]),
        ]
        .iter()
        .enumerate()
        {
            both.add(format!("{i}.png").as_ref(), 0, [a, b]);
        }
        let order: Vec<_> = both.apart.iter().map(|apart| &*apart.image).collect();
        assert_eq!(order, ["1.png", "3.png", "0.png", "2.png"]);
        assert_eq!((both.differences.agreement(), both.differences.error()), (0.75, 3.0));
        (0..20).for_each(|_| both.add("more.png".as_ref(), 0, [&[1.0, 0.0], &[1.0, 0.0]]));
        assert_eq!(both.apart.len(), WORST);
        both.add("nan.png".as_ref(), 0, [&[f32::NAN, 0.0], &[1.0, 0.0]]);
        assert_eq!(both.differences.error(), f64::INFINITY);
    }
}
