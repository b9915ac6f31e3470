//! Training of a whole network on the pictures of a dataset.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

use inception::burn::tensor::{Device, TensorData};
use inception::data::{Augmentation, Dataset, Preprocessing};
use inception::nn::{ModelSpec, Network, with_storage_device};
use inception::weights::save;
use inception::{Runner, Skipped};

use crate::draw::{Use, generator};
use crate::error::Error;
use crate::labels::{Judgement, Labels};
use crate::loss::Loss;
use crate::network::{TrainingNetwork, with_values};
use crate::optimizer::Optimizer;
use crate::pictures::{Form, Pictures, Reader};
use crate::recipe::{Augment, Recipe};
use crate::run::{Batch, BatchResult, Learner};
use crate::state::Value;
use crate::transfer::{TrainedFile, metadata};

/// Pictures that are validated together.
const CHUNK: usize = 32;

/// How a whole network is trained on pictures.
#[derive(Clone, Debug)]
pub struct NetworkOptions {
    /// What is done to a picture for validation; its size, mean and deviation are those of training, too.
    pub preprocessing: Preprocessing,
    /// Threads that read, decode and resize.
    pub workers: usize,
    /// Where and how validation runs.
    pub validation: inception::RunOptions,
    /// Number of classes.
    pub classes: usize,
}

/// A whole network that learns from pictures, which are read anew each time.
#[derive(Debug)]
pub struct NetworkLearner<'a> {
    network: TrainingNetwork,
    training: (&'a Dataset, Vec<usize>),
    validation: Option<(&'a Dataset, Vec<usize>)>,
    options: NetworkOptions,
    reader: Reader,
    smoothing: f64,
    weights: Option<Vec<f32>>,
    skipped: BTreeMap<String, Skipped>,
    /// The pictures of the next batch, and its epoch and number.
    ahead: Option<((u32, usize), Pictures)>,
}

impl<'a> NetworkLearner<'a> {
    /// A learner that starts with `network`, which has one output for one logit, on `device`, a device of Burn's for training, where it is then,
    /// or otherwise on the CPU. Pictures for training and for validation are numbers of items.
    ///
    /// # Errors
    ///
    /// [`Error::Classes`] and [`Error::EqualLabels`] for pictures that all have the same classes; [`Error::Recipe`]
    /// for one logit where there are several classes a picture or not two of them; [`Error::Inception`] for a label that the network does not have, and pictures that are too small for it.
    pub fn new(
        network: Network,
        device: Option<Device>,
        training: (&'a Dataset, Vec<usize>),
        validation: Option<(&'a Dataset, Vec<usize>)>,
        options: NetworkOptions,
        recipe: &Recipe,
    ) -> Result<Self, Error> {
        let Preprocessing { crop, mean, std, .. } = options.preprocessing;
        network.check_input([crop as usize; 2])?;
        let classes = options.classes;
        for (dataset, items) in [Some(&training), validation.as_ref()].into_iter().flatten() {
            Labels::of(dataset, items.iter().copied()).check(classes)?;
        }
        let labels = Labels::of(training.0, training.1.iter().copied());
        labels.check_training()?;
        let loss = labels.loss(recipe.one_logit, classes)?;
        let augmentation = match recipe.augment {
            Augment::None => None,
            Augment::Paddleclas => Some(Augmentation { mean, std, ..Augmentation::paddleclas(crop) }),
        };
        let network = match device {
            Some(device) => TrainingNetwork::new(network, device, recipe),
            None => TrainingNetwork::compiled::<f32>(&network, [crop as usize; 2], recipe)?,
        };
        Ok(Self {
            network: network.with_loss(loss),
            weights: labels.weights(recipe.class_weights, classes),
            smoothing: recipe.label_smoothing,
            validation: validation.filter(|(_, items)| !items.is_empty()),
            training,
            reader: Reader { preprocessing: options.preprocessing, augmentation, workers: options.workers },
            options,
            skipped: BTreeMap::new(),
            ahead: None,
        })
    }

    /// The items of pictures for training.
    fn items(&self, pictures: &[usize]) -> Vec<usize> {
        pictures.iter().map(|&at| self.training.1[at]).collect()
    }

    /// Bytes that a batch of so many pictures takes beside the weights, where that is known.
    pub fn batch_bytes(&self, batch: usize) -> Option<u64> {
        self.network.batch_bytes(batch)
    }

    /// Whether auxiliary classifiers take part, so far as is known: not where a picture's size is not theirs.
    pub fn has_auxiliary(&self) -> bool {
        self.network.has_auxiliary()
    }

    /// Pictures that could not be used so far.
    pub fn skipped(&self) -> impl Iterator<Item = &Skipped> {
        self.skipped.values()
    }

    /// Remembers which pictures could not be used.
    fn skip(&mut self, dataset: &Dataset, failed: &[(usize, inception::data::Error)]) {
        for (item, error) in failed {
            let skipped = Skipped::new(&dataset.items()[*item].path, error);
            self.skipped.insert(skipped.image.clone(), skipped);
        }
    }
}

impl Learner for NetworkLearner<'_> {
    fn classes(&self) -> usize {
        self.options.classes
    }

    fn pictures(&self) -> usize {
        self.training.1.len()
    }

    fn loss(&self) -> Loss {
        self.network.loss()
    }

    fn learn(&mut self, batch: &Batch<'_>) -> Result<BatchResult, Error> {
        let dataset = self.training.0;
        let (seed, epoch) = (batch.seed, batch.epoch);
        let form = Form::Epoch { seed, epoch };
        let here = (epoch, batch.number);
        let Pictures { items, mut input, failed } = match self.ahead.take() {
            Some((place, pictures)) if place == here => pictures,
            _ => self.reader.read(dataset, &self.items(batch.pictures), form),
        };
        self.skip(dataset, &failed);
        let count = items.len();
        if count == 0 {
            return Ok(BatchResult { loss: 0.0, correct: 0, pictures: 0 });
        }
        let labels = Labels::of(dataset, items.iter().copied());
        let mixup = batch.blend(count)?;
        if let Some(mixup) = &mixup {
            let own = input.clone();
            mixup.blend(&own, &mut input)?;
        }
        let classes = self.classes();
        let targets = labels.targets(classes, self.smoothing, mixup.as_ref())?;
        let side = self.options.preprocessing.crop as usize;
        let images = TensorData::new(input, [count, 3, side, side]);
        // Anew for each batch, so that a run that goes on drops what it would have dropped.
        let drawn = generator(seed, Use::Dropout, [epoch.into(), batch.number as u64]).bits();
        self.network.seed(drawn.into());
        let next = self.items(batch.next);
        let Self { network, reader, weights, .. } = self;
        // The next batch is read while this one is computed.
        let (step, ahead) = beside(
            || network.step(images, &targets, weights.as_deref(), batch.lr, |_, _| {}),
            (!next.is_empty()).then_some(|| reader.read(dataset, &next, form)),
        );
        self.ahead = ahead.map(|pictures| ((epoch, batch.number + 1), pictures));
        let step = step?;
        let correct = labels.correct(&self.loss().scores(&step.logits), classes);
        Ok(BatchResult { loss: step.loss, correct, pictures: count as u64 })
    }

    /// On the engine, which compiles the network as it is now.
    fn judge(&mut self, each: &mut dyn FnMut(usize, Judgement<'_>)) -> Result<(), Error> {
        let Some((dataset, items)) = self.validation.clone() else { return Ok(()) };
        let classes = self.classes();
        let side = self.options.preprocessing.crop as usize;
        let network = |device: &Device| Ok(self.network.network_on(device));
        let runner = Runner::build(network, [side, side], &self.options.validation)?;
        let reader = self.reader;
        let read = |chunk: &[usize]| reader.read(dataset, chunk, Form::Plain);
        let mut chunks = items.chunks(CHUNK);
        let mut ahead = chunks.next().map(read);
        while let Some(Pictures { items: kept, input, failed }) = ahead.take() {
            self.skip(dataset, &failed);
            let logits;
            (logits, ahead) = beside(
                || if kept.is_empty() { Ok(Vec::new()) } else { runner.run(&input, kept.len()) },
                chunks.next().map(|chunk| move || read(chunk)),
            );
            let logits = logits?;
            let labels = Labels::of(dataset, kept.iter().copied());
            let scores = self.loss().scores(&logits);
            for (at, (logits, &item)) in scores.chunks_exact(classes).zip(&kept).enumerate() {
                each(item, labels.judge(at, logits));
            }
        }
        Ok(())
    }

    fn write(&self, file: &TrainedFile<'_>, path: &Path) -> Result<(), Error> {
        save_values(file, self.values(), self.loss().outputs(self.options.classes), path)
    }

    fn values(&self) -> Vec<Value> {
        self.network.values()
    }

    fn set_values(&mut self, values: Vec<Value>) {
        self.network.set_values(values);
    }

    fn optimizer(&self) -> &Optimizer {
        self.network.optimizer()
    }

    fn optimizer_mut(&mut self) -> &mut Optimizer {
        self.network.optimizer_mut()
    }
}

/// What `work` gives, and beside it, on a thread of its own, what `reading` gives.
fn beside<W, R: Send>(
    work: impl FnOnce() -> W,
    reading: Option<impl FnOnce() -> R + Send>,
) -> (W, Option<R>) {
    thread::scope(|scope| {
        let reading = reading.map(|reading| scope.spawn(reading));
        let done = work();
        (done, reading.map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))))
    })
}

/// Writes the network of `file` with all `values` of a run to `path`.
fn save_values(file: &TrainedFile<'_>, values: Vec<Value>, outputs: usize, path: &Path) -> Result<(), Error> {
    let metadata = metadata(file)?;
    with_storage_device(|device| {
        let spec: &ModelSpec = file.spec;
        let config = spec.config().with_num_classes(outputs).with_auxiliary(spec.auxiliary);
        let network = config.with_seed(file.seed).init(device)?;
        Ok(save(&with_values(network, values), &metadata, path)?)
    })
}
