//! The features of a part of a dataset, in order.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use inception_data::{Dataset, LoaderOptions};

use super::batches::FeatureBatch;
use super::extractor::FeatureExtractor;
use super::state::FeatureState;
use crate::error::Error;
use crate::eval::settings::Shard;
use crate::eval::tally::Skipped;

/// Options of [`extract`].
#[derive(Clone, Copy, Debug)]
pub struct ExtractOptions {
    /// Which part of the dataset.
    pub shard: Shard,
    /// How pictures are read.
    pub loader: LoaderOptions,
    /// Largest share of the part's pictures that may be skipped; more end the run.
    pub max_skipped: f64,
}

/// The progress of [`extract`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ExtractProgress<'a> {
    /// What is done so far.
    pub extraction: &'a Extraction,
    /// Pictures that this run has read, whether they could be used or not.
    pub done_now: u64,
    /// Pictures that are done, those of an earlier run included.
    pub done: u64,
    /// Pictures of the part.
    pub total: u64,
}

/// What came of [`extract`].
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Extraction {
    /// Pictures with features.
    pub images: u64,
    /// Pictures of them that this run has computed.
    pub computed: u64,
    /// Pictures that could not be used, in the dataset's order.
    pub skipped: Vec<Skipped>,
    /// Time in seconds that this run took.
    pub seconds: f64,
}

/// Computes the features of the pictures of a part of `dataset`, and gives them to `consume` in order: first
/// those that `state` holds of an earlier run, then the others, which are kept there, too.
///
/// # Errors
///
/// [`Error::TooManySkipped`], [`Error::State`], [`Error::Feature`], those of [`Runner::run`](crate::Runner::run),
/// and what `consume` gives. What was done by then is in `state`.
pub fn extract<E: From<Error>>(
    extractor: &FeatureExtractor,
    dataset: &Arc<Dataset>,
    options: &ExtractOptions,
    mut state: Option<&mut FeatureState>,
    mut consume: impl FnMut(&FeatureBatch) -> Result<(), E>,
    mut progress: impl FnMut(ExtractProgress<'_>),
) -> Result<Extraction, E> {
    let start = Instant::now();
    let ExtractOptions { shard, loader, max_skipped } = *options;
    let batches: Vec<usize> = shard.batches(dataset.len().div_ceil(loader.batch.max(1))).collect();
    let pictures = |batch: usize| loader.batch.min(dataset.len() - batch * loader.batch) as u64;
    let total = batches.iter().map(|&batch| pictures(batch)).sum();
    let mut extraction = Extraction::default();
    let mut take = |extraction: &mut Extraction, batch: &FeatureBatch| -> Result<(), E> {
        extraction.images += batch.pictures.len() as u64;
        extraction.skipped.extend(batch.skipped.iter().map(|(_, skipped)| skipped.clone()));
        let skipped = extraction.skipped.len() as u64;
        match extraction.skipped.first() {
            Some(first) if skipped as f64 > max_skipped * total as f64 => {
                Err(Error::TooManySkipped { skipped, total, limit: max_skipped, first: first.clone() }.into())
            }
            _ => consume(batch),
        }
    };
    let mut finished = HashSet::new();
    if let Some(state) = &mut state {
        while let Some(batch) = state.replay()? {
            finished.insert(batch.number);
            take(&mut extraction, &batch)?;
        }
    }
    let todo: Vec<usize> = batches.into_iter().filter(|batch| !finished.contains(batch)).collect();
    let (mut done, mut done_now) = (extraction.images + extraction.skipped.len() as u64, 0);
    progress(ExtractProgress { extraction: &extraction, done_now, done, total });
    for batch in extractor.batches(dataset, loader, todo) {
        let batch = batch?;
        if let Some(state) = &mut state {
            state.append(&batch)?;
        }
        take(&mut extraction, &batch)?;
        let count = (batch.pictures.len() + batch.skipped.len()) as u64;
        (done, done_now) = (done + count, done_now + count);
        extraction.computed += batch.pictures.len() as u64;
        extraction.seconds = start.elapsed().as_secs_f64();
        progress(ExtractProgress { extraction: &extraction, done_now, done, total });
    }
    extraction.seconds = start.elapsed().as_secs_f64();
    Ok(extraction)
}
