//! Accuracy over a dataset: counted exactly, in pieces that can be stopped, continued and put together.
//!
//! The unit of work is a batch of the whole dataset: batch `k` always holds the same pictures, whoever computes it. Shard
//! `I` of `N` takes the batches with `k % N == I`, a run that continues takes those that are missing. What is kept of a
//! picture is its rank and its loss, and a run's figures are integer sums of these. So the parts give exactly the figures
//! of the whole, in whatever order they come.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use inception_data::{Batch, Dataset, LoaderOptions, Preprocessing, load};
use serde::{Deserialize, Serialize};

use crate::eval_error::EvalError;
use crate::eval_state::{Record, StateFile, fnv};
use crate::{Pending, Runner};

/// Everything that an evaluation's figures depend on. Parts with different settings are never put together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalSettings {
    /// The model's name.
    pub model: String,
    /// What identifies the weights: a hash of the file, or the seed of random ones.
    pub weights: String,
    /// Where and how the network runs.
    pub device: String,
    /// What is done to a picture.
    pub preprocessing: Preprocessing,
    /// Hash of the pictures' names and labels, in order.
    pub dataset: String,
    /// Pictures of the whole dataset.
    pub pictures: usize,
    /// Number of classes.
    pub classes: usize,
    /// Pictures in a batch.
    pub batch: usize,
}

impl EvalSettings {
    /// The first setting in which `other` differs, by name, with both values.
    pub fn difference(&self, other: &Self) -> Option<(&'static str, String, String)> {
        let json = |value: &Preprocessing| serde_json::to_string(value).unwrap_or_default();
        [
            ("model", self.model.clone(), other.model.clone()),
            ("weights", self.weights.clone(), other.weights.clone()),
            ("device", self.device.clone(), other.device.clone()),
            ("preprocessing", json(&self.preprocessing), json(&other.preprocessing)),
            ("pictures", self.pictures.to_string(), other.pictures.to_string()),
            ("dataset", self.dataset.clone(), other.dataset.clone()),
            ("classes", self.classes.to_string(), other.classes.to_string()),
            ("batch", self.batch.to_string(), other.batch.to_string()),
        ]
        .into_iter()
        .find(|(_, ours, theirs)| ours != theirs)
    }

    /// Batches of the whole dataset.
    pub fn batches(&self) -> usize {
        self.pictures.div_ceil(self.batch.max(1))
    }
}

/// Which part of a dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Number of the part, from 0.
    pub index: usize,
    /// Number of parts.
    pub count: usize,
}

impl Shard {
    /// All of it.
    pub const WHOLE: Self = Self { index: 0, count: 1 };

    /// The batches of this part, of `batches` in all.
    pub fn batches(self, batches: usize) -> impl Iterator<Item = usize> {
        (self.index..batches).step_by(self.count.max(1))
    }
}

impl std::str::FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parts {
            Some((index, count)) if index < count => Ok(Self { index, count }),
            Some((index, count)) if count > 0 => {
                Err(format!("shards are counted from 0: of {count} the last is {}, not {index}", count - 1))
            }
            _ => Err("expected I/N, for instance 0/4".to_owned()),
        }
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

/// Units of the loss in a sum: 2^40, so that a picture's loss is kept to a part in 10^12 and sums do not depend on the
/// order.
const LOSS_UNIT: f64 = (1_u64 << 40) as f64;

/// What became of one picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its class.
    pub label: u32,
    /// The likeliest class.
    pub guess: u32,
    /// How many classes are likelier than its own; equal ones of a lower number are.
    pub rank: u32,
    /// Cross entropy in units of 2^-40, or `None` if it is no finite number.
    pub loss: Option<u64>,
}

impl Outcome {
    /// Judges the scores of a picture of class `label`, which must be one of them.
    ///
    /// The loss is `-log(softmax(logits)[label])`, computed in double precision. A score that is not a number is likelier
    /// than all others, so that it cannot pass for a good answer.
    pub fn of(logits: &[f32], label: u32) -> Self {
        let key = |logit: f32| if logit.is_nan() { f32::INFINITY } else { logit };
        let own = logits.get(label as usize).copied().unwrap_or(f32::NAN);
        let likelier = logits.iter().enumerate().filter(|&(class, &logit)| {
            class != label as usize
                && (own.is_nan() || key(logit) > own || (key(logit) == own && class < label as usize))
        });
        let rank = likelier.count() as u32;
        let mut guess = 0;
        for (class, &logit) in logits.iter().enumerate() {
            if key(logit) > key(logits[guess]) {
                guess = class;
            }
        }
        let largest = logits.iter().copied().map(f64::from).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum();
        let loss = sum.ln() + largest - f64::from(own);
        // Far below 2^64 for all finite scores that a network gives; a loss of 2^23 and more is as bad as infinite.
        let loss = (loss.is_finite() && loss < f64::from(1 << 23))
            .then(|| (loss.max(0.0) * LOSS_UNIT).round() as u64);
        Self { label, guess: guess as u32, rank, loss }
    }
}

/// A picture that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Skipped {
    /// Its path in the dataset.
    pub image: String,
    /// Why.
    pub reason: String,
}

/// Counts of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassCount {
    /// Pictures of the class.
    pub images: u64,
    /// Of these, the likeliest class was right.
    pub top1: u64,
    /// Of these, one of the five likeliest was.
    pub top5: u64,
}

/// The exact figures of a run or of a part of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// Pictures that were classified.
    pub images: u64,
    /// Of these, the likeliest class was right.
    pub top1: u64,
    /// Of these, one of the five likeliest was.
    pub top5: u64,
    /// Sum of the losses in units of 2^-40.
    pub loss: u128,
    /// Pictures whose loss is no finite number.
    pub not_finite: u64,
    /// Counts by class.
    pub classes: BTreeMap<u32, ClassCount>,
    /// How often pictures of a class (first) were taken for another one or for itself (second).
    pub confusion: BTreeMap<(u32, u32), u64>,
    /// Pictures that could not be used, in the dataset's order.
    pub skipped: BTreeMap<usize, Skipped>,
}

impl Tally {
    /// Adds a picture.
    pub fn add(&mut self, outcome: &Outcome) {
        let (top1, top5) = (u64::from(outcome.rank == 0), u64::from(outcome.rank < 5));
        self.images += 1;
        self.top1 += top1;
        self.top5 += top5;
        match outcome.loss {
            Some(loss) => self.loss += u128::from(loss),
            None => self.not_finite += 1,
        }
        let class = self.classes.entry(outcome.label).or_default();
        class.images += 1;
        class.top1 += top1;
        class.top5 += top5;
        *self.confusion.entry((outcome.label, outcome.guess)).or_default() += 1;
    }

    fn share(&self, count: u64) -> f64 {
        if self.images == 0 { 0.0 } else { count as f64 / self.images as f64 }
    }

    /// Share of the pictures whose likeliest class is right.
    pub fn top1_share(&self) -> f64 {
        self.share(self.top1)
    }

    /// Share of the pictures of which one of the five likeliest classes is right.
    pub fn top5_share(&self) -> f64 {
        self.share(self.top5)
    }

    /// Mean cross entropy; `None` without pictures or if one's is no finite number.
    pub fn mean_loss(&self) -> Option<f64> {
        (self.images > 0 && self.not_finite == 0).then(|| self.loss as f64 / LOSS_UNIT / self.images as f64)
    }

    /// Adds the figures of another part.
    pub fn add_all(&mut self, other: &Self) {
        self.images += other.images;
        self.top1 += other.top1;
        self.top5 += other.top5;
        self.loss += other.loss;
        self.not_finite += other.not_finite;
        for (&class, count) in &other.classes {
            let sum = self.classes.entry(class).or_default();
            sum.images += count.images;
            sum.top1 += count.top1;
            sum.top5 += count.top5;
        }
        for (&cell, count) in &other.confusion {
            *self.confusion.entry(cell).or_default() += count;
        }
        self.skipped.extend(other.skipped.iter().map(|(&index, skipped)| (index, skipped.clone())));
    }

    /// Those of finished batches, their time and their number. A batch counts once, however often it is there.
    pub(crate) fn of_records(records: &[Record]) -> (Self, f64, usize) {
        let (mut tally, mut seconds, mut seen) = (Self::default(), 0.0, HashSet::new());
        for record in records.iter().filter(|record| seen.insert(record.batch)) {
            tally.add_record(record);
            seconds += record.seconds;
        }
        (tally, seconds, seen.len())
    }

    fn add_record(&mut self, record: &Record) {
        for outcome in &record.outcomes {
            self.add(outcome);
        }
        for (index, skipped) in &record.skipped {
            self.skipped.insert(*index, skipped.clone());
        }
    }
}

/// How [`evaluate`] works; none of it changes the figures.
#[derive(Clone, Copy, Debug)]
pub struct EvalOptions {
    /// Which part of the dataset.
    pub shard: Shard,
    /// Threads that read, decode and resize.
    pub workers: usize,
    /// Batches that may wait for the network.
    pub prefetch: usize,
    /// Largest share of the part's pictures that may be skipped; more end the run.
    pub max_skipped: f64,
}

/// What [`evaluate`] tells while it works.
#[derive(Clone, Copy, Debug)]
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
/// [`EvalError::TooManySkipped`] as soon as more than the allowed share of the part is skipped, [`EvalError::State`] if
/// the state cannot be written, [`EvalError::Label`] for a label that the network does not have, and those of
/// [`Runner::run`]. What was done by then is in `state`.
pub fn evaluate(
    runner: &Runner,
    dataset: &Dataset,
    settings: &EvalSettings,
    options: &EvalOptions,
    mut state: Option<&mut StateFile>,
    mut progress: impl FnMut(Progress<'_>),
) -> Result<Evaluation, EvalError> {
    if let Some(item) = dataset.items().iter().find(|item| item.label as usize >= settings.classes) {
        return Err(EvalError::Label { label: item.label, classes: settings.classes });
    }
    let records = state.as_ref().map_or(&[][..], |state| state.records());
    let (mut tally, mut seconds, _) = Tally::of_records(records);
    let finished: HashSet<usize> = records.iter().map(|record| record.batch).collect();
    let of_shard: Vec<usize> = options.shard.batches(settings.batches()).collect();
    let pictures = |batch: usize| settings.batch.min(settings.pictures - batch * settings.batch) as u64;
    let total: u64 = of_shard.iter().map(|&batch| pictures(batch)).sum();
    let mut done: u64 = of_shard.iter().filter(|batch| finished.contains(batch)).map(|&b| pictures(b)).sum();
    let mut done_now = 0;
    let too_many = |tally: &Tally| {
        let skipped = tally.skipped.len() as u64;
        match tally.skipped.first_key_value() {
            Some((_, first)) if skipped as f64 > options.max_skipped * total as f64 => {
                Err(EvalError::TooManySkipped {
                    skipped,
                    total,
                    limit: options.max_skipped,
                    first: first.clone(),
                })
            }
            _ => Ok(()),
        }
    };
    too_many(&tally)?;
    progress(Progress { tally: &tally, done_now, done, total });

    let loader =
        LoaderOptions { batch: settings.batch, workers: options.workers, prefetch: options.prefetch };
    let todo: Vec<usize> = of_shard.into_iter().filter(|batch| !finished.contains(batch)).collect();
    let mut last = Instant::now();
    let mut finish = |batch: Batch, pending: Option<Pending>| -> Result<(), EvalError> {
        let count = batch.items.len();
        let mut record = Record { batch: batch.number, ..Record::default() };
        let expected = count * settings.classes;
        let logits = match pending {
            Some(pending) => runner.finish(pending)?,
            None => vec![0.0; expected],
        };
        if logits.len() != expected {
            return Err(EvalError::Scores { expected, found: logits.len() });
        }
        let mut reasons: BTreeMap<usize, String> =
            batch.skipped.iter().map(|(index, error)| (*index, reason(error))).collect();
        for (index, logits) in batch.items.zip(logits.chunks_exact(settings.classes)) {
            let item = &dataset.items()[index];
            match reasons.remove(&index) {
                Some(reason) => {
                    let image = item.path.to_string_lossy().into_owned();
                    record.skipped.push((index, Skipped { image, reason }));
                }
                None => record.outcomes.push(Outcome::of(logits, item.label)),
            }
        }
        record.seconds = last.elapsed().as_secs_f64();
        last = Instant::now();
        tally.add_record(&record);
        seconds += record.seconds;
        if let Some(state) = &mut state {
            state.append(&record)?;
        }
        done_now += count as u64;
        done += count as u64;
        progress(Progress { tally: &tally, done_now, done, total });
        too_many(&tally)
    };
    // A GPU computes a batch while the one before it is counted and the one after it is decoded.
    let mut under_way = None;
    load(dataset, &settings.preprocessing, &loader, todo, |mut batch, reuse| -> Result<(), EvalError> {
        let count = batch.items.len();
        // A batch without a single picture needs no network.
        let started = (batch.skipped.len() < count).then(|| runner.start(&batch.input, count)).transpose();
        if let Some((batch, pending)) = under_way.take() {
            finish(batch, pending)?;
        }
        let pending = started?;
        reuse(std::mem::take(&mut batch.input));
        if pending.as_ref().is_some_and(|pending| !pending.is_done()) {
            under_way = Some((batch, pending));
            return Ok(());
        }
        finish(batch, pending)
    })?;
    if let Some((batch, pending)) = under_way {
        finish(batch, pending)?;
    }
    Ok(Evaluation { settings: settings.clone(), shards: vec![options.shard], tally, seconds })
}

/// An error with its causes, in one line and without the picture's path, which stands beside it.
fn reason(error: &inception_data::Error) -> String {
    if let inception_data::Error::Read { source, .. } = error {
        return format!("cannot be read: {source}");
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Identifies the pictures and labels of a dataset and their order.
pub fn dataset_hash(dataset: &Dataset) -> String {
    let mut text = Vec::new();
    let mut hash = fnv(b"");
    for item in dataset.items() {
        text.clear();
        text.extend_from_slice(&hash.to_le_bytes());
        text.extend_from_slice(item.path.as_os_str().as_encoded_bytes());
        text.extend_from_slice(&item.label.to_le_bytes());
        hash = fnv(&text);
    }
    format!("{hash:016x}")
}

/// Identifies a file by its content: its length and a hash of all of it.
///
/// # Errors
///
/// What reading it gives.
pub fn file_hash(path: &std::path::Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut file = std::fs::File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    let (mut hash, mut len) = (fnv(b""), 0_u64);
    loop {
        // Words that do not depend on how much a read returns.
        let mut filled = 0;
        while filled < buffer.len() {
            match file.read(&mut buffer[filled..])? {
                0 => break,
                count => filled += count,
            }
        }
        if filled == 0 {
            return Ok(format!("{len} bytes, {hash:016x}"));
        }
        len += filled as u64;
        // Eight bytes at a time: a checkpoint has hundreds of millions.
        let (words, rest) = buffer[..filled].as_chunks::<8>();
        for word in words {
            hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(0x100_0000_01b3).rotate_left(29);
        }
        for &byte in rest {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}
