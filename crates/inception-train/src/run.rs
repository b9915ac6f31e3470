//! A run: epochs of batches, metrics, the best epoch, and a state from which it goes on.
//!
//! All that is random follows from the recipe's seed and the place in the run. So a run that goes on from its
//! state makes the steps that it would have made, to the bit.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use inception::data::Mixup;

use crate::draw::{Use, generator};
use crate::error::{Error, FolderProblem};
use crate::folder::RunFolder;
use crate::labels::Judgement;
use crate::loss::Loss;
use crate::metrics::EpochMetrics;
use crate::optimizer::Optimizer;
use crate::recipe::Recipe;
use crate::state::{self, Progress, Value};
use crate::transfer::TrainedFile;
use crate::validation::{Best, Bits, Count, Validation};

/// A batch to learn from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Batch<'a> {
    /// The epoch, from 1.
    pub epoch: u32,
    /// The batch in the epoch, from 0.
    pub number: usize,
    /// The pictures for training, by number.
    pub pictures: &'a [usize],
    /// Those of the batch after it in the epoch, which can be read meanwhile; none after the last.
    pub next: &'a [usize],
    /// The learning rate.
    pub lr: f64,
    /// The seed of all that is random.
    pub seed: u64,
    /// Parameter of the beta distribution of mixup; 0 is without.
    pub mixup: f64,
}

impl Batch<'_> {
    /// Which of `count` pictures are blended, and how.
    ///
    /// # Errors
    ///
    /// [`Error::Inception`] for a parameter above 1.
    pub fn blend(&self, count: usize) -> Result<Option<Mixup>, Error> {
        if self.mixup <= 0.0 {
            return Ok(None);
        }
        let mut random = generator(self.seed, Use::Mixup, [self.epoch.into(), self.number as u64]);
        Ok(Some(Mixup::draw(&mut random, count as u32, self.mixup)?))
    }
}

/// What came of a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchResult {
    /// The sum of the losses of its pictures.
    pub loss: f64,
    /// Decisions that were right before the step: the likeliest class of a picture, or of several classes
    /// whether it has each.
    pub correct: u64,
    /// Its pictures that could be used; without one no step is made.
    pub pictures: u64,
}

/// What learns from batches.
pub trait Learner {
    /// Number of classes.
    fn classes(&self) -> usize;

    /// Number of pictures for training.
    fn pictures(&self) -> usize;

    /// The loss.
    fn loss(&self) -> Loss {
        Loss::CrossEntropy
    }

    /// Makes one step.
    ///
    /// # Errors
    ///
    /// What reading or computing gives.
    fn learn(&mut self, batch: &Batch<'_>) -> Result<BatchResult, Error>;

    /// Judges the pictures for validation: `each` gets a picture's number in its dataset, and what came of it.
    ///
    /// # Errors
    ///
    /// What reading or computing gives.
    fn judge(&mut self, each: &mut dyn FnMut(usize, Judgement<'_>)) -> Result<(), Error>;

    /// How the network does on the pictures for validation; `None` if there are none.
    ///
    /// # Errors
    ///
    /// Those of [`judge`](Self::judge).
    fn validate(&mut self) -> Result<Option<Validation>, Error> {
        let mut count = Count::default();
        self.judge(&mut |_, judgement| count.add(&judgement))?;
        Ok(count.finish())
    }

    /// Writes the network of `file` as it is now to `path`, a safetensors file that all commands read.
    ///
    /// # Errors
    ///
    /// [`Error::Inception`] for weights that cannot be read, and a file that cannot be written.
    fn write(&self, file: &TrainedFile<'_>, path: &Path) -> Result<(), Error>;

    /// All that changes in the course of the run, apart from the optimiser.
    fn values(&self) -> Vec<Value>;

    /// Takes back what [`values`](Self::values) gave.
    fn set_values(&mut self, values: Vec<Value>);

    /// The optimiser.
    fn optimizer(&self) -> &Optimizer;

    /// The optimiser, to be given its state.
    fn optimizer_mut(&mut self) -> &mut Optimizer;
}

/// What a run tells while it goes on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A batch is done.
    Batch {
        /// The epoch, from 1.
        epoch: u32,
        /// Pictures of the epoch that are done.
        done: u64,
        /// Pictures of an epoch.
        total: u64,
        /// The mean loss of the epoch so far.
        loss: f64,
        /// Share of its pictures so far that were right, as in [`EpochMetrics`].
        accuracy: f64,
    },
    /// An epoch is done.
    Epoch(&'a EpochMetrics),
}

/// How a run is kept and ended.
#[derive(Clone, Copy, Debug)]
pub struct RunOptions<'a> {
    /// Set by someone to end the run after the batch under way.
    pub stop: &'a AtomicBool,
    /// Time between two states on disk, at least; zero is each batch.
    pub save_every: Duration,
}

/// What came of a run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// The best epoch; `None` if not one was finished.
    pub best: Option<Best>,
    /// The values after the best epoch, or the last ones if none was finished.
    pub best_values: Vec<Value>,
    /// Epochs that were finished.
    pub epochs: u32,
    /// Whether it was asked to end before its last epoch.
    pub interrupted: bool,
    /// Whether it ended because nothing improved any more.
    pub stopped_early: bool,
}

/// Times the loss of a classifier that guesses at random, from which on a loss that grows is said to diverge.
/// Large features and a bold rate give tens in the first epochs of runs that end well.
const HOPELESS: f64 = 1000.0;

/// Trains `learner` by `recipe`, from where the state in `folder` is.
///
/// # Errors
///
/// [`Error::Diverged`], [`Error::Folder`], [`Error::NoPictures`], and those of `learner`. The state on disk
/// is that of the last time that it was kept.
pub fn train(
    learner: &mut dyn Learner,
    recipe: &Recipe,
    folder: &mut RunFolder,
    options: RunOptions<'_>,
    observe: &mut dyn FnMut(&Event<'_>),
) -> Result<Outcome, Error> {
    recipe.check()?;
    if learner.pictures() == 0 {
        return Err(Error::NoPictures);
    }
    let mut run = Run::open(learner, recipe, folder, options)?;
    let mut interrupted = false;
    while !run.has_ended() && !interrupted {
        interrupted = run.epoch(observe)?;
    }
    run.save()?;
    let Run { learner, progress, best, .. } = &mut run;
    let best_values = if progress.best.is_some() { std::mem::take(best) } else { learner.values() };
    Ok(Outcome {
        best: progress.best,
        best_values,
        epochs: progress.epoch,
        interrupted,
        stopped_early: !interrupted && progress.epoch < recipe.epochs,
    })
}

struct Run<'a> {
    learner: &'a mut dyn Learner,
    recipe: &'a Recipe,
    folder: &'a mut RunFolder,
    options: RunOptions<'a>,
    progress: Progress,
    best: Vec<Value>,
    /// When the state was last kept.
    saved: Instant,
}

impl<'a> Run<'a> {
    fn open(
        learner: &'a mut dyn Learner,
        recipe: &'a Recipe,
        folder: &'a mut RunFolder,
        options: RunOptions<'a>,
    ) -> Result<Self, Error> {
        let (mut progress, mut best) = (Progress::default(), Vec::new());
        if let Some(stored) = folder.take_stored() {
            let like = learner.values();
            let restored = stored.restore(&like, learner.optimizer_mut());
            let values;
            (values, best) = restored.map_err(|problem| folder.failed(problem))?;
            learner.set_values(values);
            progress = stored.progress;
        }
        Ok(Self { learner, recipe, folder, options, progress, best, saved: Instant::now() })
    }

    fn has_ended(&self) -> bool {
        let Progress { epoch, best, batch, .. } = &self.progress;
        let patience = self.recipe.patience;
        let stale = best.is_some_and(|best| patience > 0 && epoch - best.epoch >= patience);
        *epoch >= self.recipe.epochs || (stale && *batch == 0)
    }

    /// The rest of an epoch; whether it was asked to end before its last batch.
    fn epoch(&mut self, observe: &mut dyn FnMut(&Event<'_>)) -> Result<bool, Error> {
        let (start, seen_before) = (Instant::now(), self.progress.seen);
        let (pictures, size) = (self.learner.pictures(), self.recipe.batch);
        let batches = pictures.div_ceil(size);
        let (seed, epoch) = (self.recipe.seed, self.progress.epoch + 1);
        // As many pictures fit into no memory.
        let drawn = u32::try_from(pictures).unwrap_or(u32::MAX);
        let order = generator(seed, Use::Order, [epoch.into(), 0]).permutation(drawn);
        while self.progress.batch < batches {
            if self.options.stop.load(Ordering::Relaxed) {
                if self.progress.seen > seen_before {
                    self.report(epoch, batches, start, seen_before, true, observe)?;
                }
                return Ok(true);
            }
            let first = self.progress.batch * size;
            let (chosen, rest) = order[first..].split_at(size.min(pictures - first));
            self.batch(epoch, batches as u64, chosen, &rest[..size.min(rest.len())])?;
            let Progress { loss, correct, seen, .. } = self.progress;
            let counted = seen.max(1) as f64;
            let (loss, accuracy) = (loss.0 / counted, correct as f64 / self.decisions(seen));
            let done = (first + chosen.len()) as u64;
            observe(&Event::Batch { epoch, done, total: pictures as u64, loss, accuracy });
            self.save_if_due()?;
        }
        self.finish_epoch(epoch, batches, start, seen_before, observe)?;
        Ok(false)
    }

    /// Decisions that are made of so many pictures.
    fn decisions(&self, pictures: u64) -> f64 {
        (pictures.max(1) * self.learner.loss().decisions(self.learner.classes())) as f64
    }

    /// Makes a step.
    fn batch(&mut self, epoch: u32, batches: u64, pictures: &[usize], next: &[usize]) -> Result<(), Error> {
        let Self { recipe, progress, .. } = self;
        let step = u64::from(progress.epoch) * batches + progress.batch as u64;
        let lr = recipe.lr_at(step, batches);
        let number = progress.batch;
        let Recipe { seed, mixup, .. } = **recipe;
        let result = self.learner.learn(&Batch { epoch, number, pictures, next, lr, seed, mixup })?;
        let loss = result.loss / result.pictures.max(1) as f64;
        if !loss.is_finite() {
            return Err(Error::Diverged { epoch, step: step + 1, loss, lr });
        }
        self.progress.batch += 1;
        self.progress.loss.0 += result.loss;
        self.progress.correct += result.correct;
        self.progress.seen += result.pictures;
        Ok(())
    }

    /// Validates, and appends and shows the figures.
    fn report(
        &mut self,
        epoch: u32,
        batches: usize,
        start: Instant,
        seen_before: u64,
        interrupted: bool,
        observe: &mut dyn FnMut(&Event<'_>),
    ) -> Result<(EpochMetrics, Option<Validation>, u64), Error> {
        let validation = self.learner.validate()?;
        let Progress { loss, correct, seen, batch, .. } = self.progress;
        // Also where a state was kept between the last batch of an epoch and its end.
        let steps = u64::from(epoch - 1) * batches as u64 + batch as u64;
        let lr = self.recipe.lr_at(steps.saturating_sub(1), batches as u64);
        let done = seen - seen_before + validation.map_or(0, |validation| validation.pictures);
        let metrics = EpochMetrics {
            epoch,
            step: self.learner.optimizer().steps(),
            loss: loss.0 / seen.max(1) as f64,
            accuracy: correct as f64 / self.decisions(seen),
            val_loss: validation.map(|validation| validation.loss),
            val_accuracy: validation.map(|validation| validation.accuracy()),
            val_mean_average_precision: validation.and_then(|validation| validation.mean_average_precision),
            lr,
            images_per_second: done as f64 / start.elapsed().as_secs_f64().max(1e-9),
            interrupted,
        };
        let json = serde_json::to_string(&metrics)
            .map_err(|error| self.folder.failed(FolderProblem::Io { source: error.into() }))?;
        let length = self.folder.append_metrics(&json)?;
        observe(&Event::Epoch(&metrics));
        Ok((metrics, validation, length))
    }

    fn finish_epoch(
        &mut self,
        epoch: u32,
        batches: usize,
        start: Instant,
        seen_before: u64,
        observe: &mut dyn FnMut(&Event<'_>),
    ) -> Result<(), Error> {
        let (metrics, validation, length) =
            self.report(epoch, batches, start, seen_before, false, observe)?;
        let guessing = self.learner.loss().of_guessing(self.learner.classes());
        let before = self.progress.before.map_or(guessing, |before| before.0);
        if metrics.loss > before && metrics.loss > HOPELESS * guessing {
            let EpochMetrics { step, loss, lr, .. } = metrics;
            return Err(Error::Diverged { epoch, step, loss, lr });
        }
        let best = match (validation, self.progress.best.and_then(|best| best.validation)) {
            (Some(new), Some(old)) => new.is_better_than(&old),
            _ => true,
        };
        if best {
            self.progress.best = Some(Best { epoch, validation });
            self.best = self.learner.values();
        }
        let progress = &mut self.progress;
        (progress.epoch, progress.batch, progress.metrics) = (epoch, 0, length);
        (progress.loss, progress.correct, progress.seen) = (Bits(0.0), 0, 0);
        progress.before = Some(Bits(metrics.loss));
        self.save_if_due()
    }

    fn save_if_due(&mut self) -> Result<(), Error> {
        match self.saved.elapsed() >= self.options.save_every {
            true => self.save(),
            false => Ok(()),
        }
    }

    fn save(&mut self) -> Result<(), Error> {
        let values = self.learner.values();
        let (path, settings) = (self.folder.state(), self.folder.settings());
        state::write(&path, settings, &self.progress, &values, &self.best, self.learner.optimizer())?;
        self.saved = Instant::now();
        Ok(())
    }
}
