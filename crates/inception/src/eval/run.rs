//! A part of a dataset, classified and counted.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use inception_data::{Batch, Dataset, LoaderOptions, Prepare, load};

use crate::error::Error;
use crate::eval::settings::{EvalSettings, Shard};
use crate::eval::state::StateFile;
use crate::eval::tally::{Misclassified, Outcome, Record, Skipped, Tally, reason};
use crate::runner::{Pending, Runner};

/// Options of [`evaluate`] that do not change the figures.
#[derive(Clone, Copy, Debug)]
pub struct EvalOptions {
    /// Which part of the dataset.
    pub shard: Shard,
    /// Threads that read, decode and resize.
    pub workers: usize,
    /// Decoded batches that may wait for the network.
    pub prefetch: usize,
    /// Largest share of the part's pictures that may be skipped; more end the run.
    pub max_skipped: f64,
    /// Whether [`Tally::misclassified`] is filled.
    pub misclassified: bool,
}

/// The progress of [`evaluate`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Progress<'a> {
    /// The figures so far, those of an earlier run included.
    pub tally: &'a Tally,
    /// Pictures that this run has classified or skipped.
    pub done_now: u64,
    /// Pictures of the part that are done, those of an earlier run included.
    pub done: u64,
    /// Pictures of the part.
    pub total: u64,
}

/// The figures of a run, and how long it took.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Evaluation {
    /// What was evaluated.
    pub settings: EvalSettings,
    /// The parts that are in it.
    pub shards: Vec<Shard>,
    /// The exact figures.
    pub tally: Tally,
    /// Time in seconds in which all pictures were read, classified and counted, summed over runs.
    pub seconds: f64,
}

/// Classifies the pictures of a part of `dataset` and counts.
///
/// `state` continues what it holds, and gets each batch as it is done. `progress` is called after each.
///
/// # Errors
///
/// [`Error::TooManySkipped`] as soon as more than the allowed share of the part is skipped, [`Error::State`]
/// if the state cannot be written, [`Error::Label`] for a label that the network does not have, and those of
/// [`Runner::run`]. What was done by then is in `state`.
pub fn evaluate(
    runner: &Runner,
    dataset: &Dataset,
    settings: &EvalSettings,
    options: &EvalOptions,
    state: Option<&mut StateFile>,
    mut progress: impl FnMut(Progress<'_>),
) -> Result<Evaluation, Error> {
    check_labels(dataset, settings)?;
    let mut run = EvalRun::new(dataset, settings, options, state);
    run.check_skipped()?;
    progress(run.progress());
    let loader =
        LoaderOptions { batch: settings.batch, workers: options.workers, prefetch: options.prefetch };
    let todo = std::mem::take(&mut run.todo);
    run_batches(runner, dataset, &settings.preprocessing, &loader, todo, |batch, logits| {
        run.finish(batch, logits)?;
        progress(run.progress());
        run.check_skipped()
    })?;
    let EvalRun { tally, seconds, .. } = run;
    Ok(Evaluation { settings: settings.clone(), shards: vec![options.shard], tally, seconds })
}

/// Runs batches of `dataset`; `finish` gets each without its pixels, in order, and its logits, `[batch, classes]`;
/// none where no picture of it could be used.
///
/// # Errors
///
/// Those of [`Runner::run`], and that of `finish`.
pub fn run_batches(
    runner: &Runner,
    dataset: &Dataset,
    preprocessing: &dyn Prepare,
    loader: &LoaderOptions,
    batches: impl IntoIterator<Item = usize> + Send,
    mut finish: impl FnMut(&Batch, Option<Vec<f32>>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut take = |batch: &Batch, pending: Option<Pending>| {
        let logits = pending.map(|pending| runner.finish(pending)).transpose()?;
        finish(batch, logits)
    };
    // A GPU computes a batch while the one before it is counted and the one after it is decoded.
    let mut under_way = None;
    load(dataset, preprocessing, loader, batches, |mut batch, reuse| -> Result<(), Error> {
        let count = batch.items.len();
        // A batch without a single picture needs no network.
        let started = (batch.skipped.len() < count).then(|| runner.start(&batch.input, count)).transpose();
        if let Some((batch, pending)) = under_way.take() {
            take(&batch, pending)?;
        }
        let pending = started?;
        reuse(std::mem::take(&mut batch.input));
        if pending.as_ref().is_some_and(|pending| !pending.is_done()) {
            under_way = Some((batch, pending));
            return Ok(());
        }
        take(&batch, pending)
    })?;
    match under_way {
        Some((batch, pending)) => take(&batch, pending),
        None => Ok(()),
    }
}

/// An evaluation under way.
struct EvalRun<'a> {
    dataset: &'a Dataset,
    settings: &'a EvalSettings,
    max_skipped: f64,
    misclassified: bool,
    state: Option<&'a mut StateFile>,
    tally: Tally,
    seconds: f64,
    /// Batches of the part that are left.
    todo: Vec<usize>,
    done_now: u64,
    done: u64,
    total: u64,
    /// When the last batch was finished.
    last: Instant,
}

impl<'a> EvalRun<'a> {
    fn new(
        dataset: &'a Dataset,
        settings: &'a EvalSettings,
        options: &EvalOptions,
        state: Option<&'a mut StateFile>,
    ) -> Self {
        let records = state.as_ref().map_or(&[][..], |state| state.records());
        let (tally, seconds, _) = Tally::of_records(records, options.misclassified);
        let finished: HashSet<usize> = records.iter().map(|record| record.batch).collect();
        let pictures = |batch: usize| settings.batch.min(settings.pictures - batch * settings.batch) as u64;
        let (done, todo): (Vec<_>, Vec<_>) =
            options.shard.batches(settings.batches()).partition(|batch| finished.contains(batch));
        let [done, left] =
            [&done, &todo].map(|batches| batches.iter().map(|&batch| pictures(batch)).sum::<u64>());
        let (total, last) = (done + left, Instant::now());
        let &EvalOptions { max_skipped, misclassified, .. } = options;
        Self {
            dataset,
            settings,
            max_skipped,
            misclassified,
            state,
            tally,
            seconds,
            todo,
            done_now: 0,
            done,
            total,
            last,
        }
    }

    fn progress(&self) -> Progress<'_> {
        Progress { tally: &self.tally, done_now: self.done_now, done: self.done, total: self.total }
    }

    fn check_skipped(&self) -> Result<(), Error> {
        check_tally(&self.tally, self.total, self.max_skipped)
    }

    /// Counts a batch's logits and keeps them in the state. Without them no picture could be used.
    fn finish(&mut self, batch: &Batch, logits: Option<Vec<f32>>) -> Result<(), Error> {
        let count = batch.items.len();
        let logits = logits.unwrap_or_else(|| vec![0.0; count * self.settings.classes]);
        let mut record = record(batch, &logits, self.dataset, self.settings)?;
        record.seconds = self.last.elapsed().as_secs_f64();
        self.last = Instant::now();
        self.tally.add_record(&record, self.misclassified);
        self.seconds += record.seconds;
        if let Some(state) = &mut self.state {
            state.append(&record)?;
        }
        self.done_now += count as u64;
        self.done += count as u64;
        Ok(())
    }
}

/// Refuses labels that the network does not have.
pub(super) fn check_labels(dataset: &Dataset, settings: &EvalSettings) -> Result<(), Error> {
    match dataset.items().iter().find(|item| item.label as usize >= settings.classes) {
        Some(item) => Err(Error::Label { label: item.label, classes: settings.classes }),
        None => Ok(()),
    }
}

/// Ends a run over `total` pictures of which more than the share `limit` cannot be used.
pub(super) fn check_tally(tally: &Tally, total: u64, limit: f64) -> Result<(), Error> {
    check_skipped(tally.skipped.len(), tally.skipped.values().next(), total, limit)
}

/// Whether so many pictures of `total` may be skipped, at most the share `limit`; `first` is one of them.
///
/// # Errors
///
/// [`Error::TooManySkipped`].
pub fn check_skipped(skipped: usize, first: Option<&Skipped>, total: u64, limit: f64) -> Result<(), Error> {
    match first {
        Some(first) if skipped as f64 > limit * total as f64 => {
            Err(Error::TooManySkipped { skipped: skipped as u64, total, limit, first: first.clone() })
        }
        _ => Ok(()),
    }
}

/// The results of a batch by its logits, without its time.
pub(super) fn record(
    batch: &Batch,
    logits: &[f32],
    dataset: &Dataset,
    settings: &EvalSettings,
) -> Result<Record, Error> {
    let expected = batch.items.len() * settings.classes;
    if logits.len() != expected {
        return Err(Error::Scores { expected, found: logits.len() });
    }
    let mut record = Record { batch: batch.number, ..Record::default() };
    let mut reasons: BTreeMap<usize, String> =
        batch.skipped.iter().map(|(index, error)| (*index, reason(error))).collect();
    for (index, logits) in batch.items.clone().zip(logits.chunks_exact(settings.classes)) {
        let item = &dataset.items()[index];
        match reasons.remove(&index) {
            Some(reason) => {
                let image = item.path.to_string_lossy().into_owned();
                record.skipped.push((index, Skipped { image, reason }));
            }
            None => {
                let outcome = Outcome::of(logits, item.label);
                record.outcomes.push(outcome);
                if outcome.rank > 0 {
                    let (image, probability) =
                        (item.path.to_string_lossy().into_owned(), Outcome::confidence(logits));
                    let Outcome { label, guess, .. } = outcome;
                    record.wrong.push(Misclassified { index, image, label, guess, probability });
                }
            }
        }
    }
    Ok(record)
}
