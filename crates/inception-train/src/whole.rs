//! Training of a network, or of what is not frozen of it, on the pictures of a dataset.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;

use inception::burn::tensor::{Device, TensorData};
use inception::data::{Dataset, Preprocessing};
use inception::nn::{ModelSpec, Network, Output, with_storage_device};
use inception::weights::save;
use inception::{Runner, Skipped, dataset_version};

use crate::draw::{Use, generator};
use crate::error::Error;
use crate::labels::{Judgement, Labels};
use crate::loss::Loss;
use crate::network::{TrainingNetwork, with_values};
use crate::optimizer::Optimizer;
use crate::pictures::{Form, Pictures, Reader};
use crate::recipe::{Augment, Freeze, Recipe};
use crate::run::{Batch, BatchResult, Learner};
use crate::state::Value;
use crate::transfer::{TrainedFile, metadata};
use crate::views::{ViewSettings, ViewStore};

/// Pictures that are validated together.
const CHUNK: usize = 32;

/// How a network is trained on pictures.
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
    /// How what is frozen is computed and kept, where the recipe freezes a stage.
    pub frozen: FrozenOptions,
}

/// How the frozen part of a network is computed and kept.
#[derive(Clone, Debug)]
pub struct FrozenOptions {
    /// The model's name.
    pub model: String,
    /// What identifies the weights, as [`inception::Weights::identity`] has it.
    pub weights: String,
    /// Where and how it runs; the engine.
    pub device: inception::RunOptions,
    /// The folder in which views are kept.
    pub cache: PathBuf,
}

/// A frozen part.
#[derive(Debug)]
struct Frozen {
    /// From images to maps.
    runner: Runner,
    /// What is kept of them.
    kept: Option<Kept>,
}

impl Frozen {
    /// That of `network` up to `stage`.
    fn new(
        network: &TrainingNetwork,
        stage: &str,
        dataset: &Dataset,
        options: &NetworkOptions,
        recipe: &Recipe,
    ) -> Result<Self, Error> {
        let FrozenOptions { model, weights, device, cache } = &options.frozen;
        let side = options.preprocessing.crop as usize;
        let mut device = device.clone();
        // Which pictures are computed together may depend on which are kept already.
        device.batch_invariant = true;
        let output = Output::Map(stage.to_owned());
        let runner = Runner::build_output(|own| Ok(network.network_on(own)), [side, side], output, &device)?;
        let settings = ViewSettings {
            model,
            weights,
            device: &device.description(),
            layer: &format!("map after {}", stage.to_lowercase()),
            preprocessing: options.preprocessing,
            augment: recipe.augment,
            // Nothing is drawn for pictures as they are.
            seed: if recipe.augment == Augment::None { 0 } else { recipe.seed },
            dataset: dataset_version(dataset),
            pictures: dataset.len(),
        };
        let kept = match recipe.views {
            0 => None,
            views => {
                let store = ViewStore::of(cache, &settings, runner.output_len())?;
                Some(Kept { store, views })
            }
        };
        Ok(Self { runner, kept })
    }
}

/// Maps on disk.
#[derive(Debug)]
struct Kept {
    store: ViewStore,
    views: u32,
}

impl Kept {
    /// The view of an epoch.
    fn view(&self, epoch: u32) -> u32 {
        epoch.saturating_sub(1) % self.views
    }
}

/// The pictures of a batch, as far as they can be read.
#[derive(Debug, Default)]
struct LoadedBatch {
    /// The maps of those that are kept, by item.
    maps: BTreeMap<usize, Vec<f32>>,
    /// The others.
    pictures: Pictures,
}

/// Reads a batch of an epoch.
fn load_batch(
    reader: &Reader,
    kept: Option<&Kept>,
    dataset: &Dataset,
    items: &[usize],
    (seed, epoch): (u64, u32),
) -> Result<LoadedBatch, Error> {
    let Some(kept) = kept else {
        let pictures = reader.read(dataset, items, Form::Epoch { seed, epoch });
        return Ok(LoadedBatch { pictures, ..LoadedBatch::default() });
    };
    let view = kept.view(epoch);
    let (mut maps, mut missing) = (BTreeMap::new(), Vec::new());
    for &item in items {
        match kept.store.read(view, item)? {
            Some(map) => {
                maps.insert(item, map);
            }
            None => missing.push(item),
        }
    }
    let pictures = match missing.is_empty() {
        true => Pictures::default(),
        false => reader.read(dataset, &missing, Form::View { seed, view }),
    };
    Ok(LoadedBatch { maps, pictures })
}

/// A network that learns from pictures, which are read anew each time unless views of them are kept.
#[derive(Debug)]
pub struct NetworkLearner<'a> {
    network: TrainingNetwork,
    training: (&'a Dataset, Vec<usize>),
    validation: Option<(&'a Dataset, Vec<usize>)>,
    options: NetworkOptions,
    reader: Reader,
    /// What computes the part that is not trained.
    frozen: Option<Frozen>,
    smoothing: f64,
    weights: Option<Vec<f32>>,
    skipped: BTreeMap<String, Skipped>,
    /// The pictures of the next batch, and its epoch and number.
    prefetched: Option<((u32, usize), LoadedBatch)>,
}

impl<'a> NetworkLearner<'a> {
    /// A learner that starts with `network`, which has one output for one logit, on `device`, a device of Burn's for
    /// training, where it is then, or otherwise on the CPU. Pictures for training and for validation are numbers of
    /// items.
    ///
    /// # Errors
    ///
    /// [`Error::Classes`] and [`Error::EqualLabels`] for pictures that all have the same classes; [`Error::Recipe`]
    /// for one logit where there are several classes a picture or not two of them, and for a frozen stage on a device
    /// of Burn's; [`Error::Inception`] for a label that the network does not have, a stage that it does not have, and
    /// pictures that are too small for it.
    pub fn new(
        network: Network,
        device: Option<Device>,
        training: (&'a Dataset, Vec<usize>),
        validation: Option<(&'a Dataset, Vec<usize>)>,
        options: NetworkOptions,
        recipe: &Recipe,
    ) -> Result<Self, Error> {
        let preprocessing = options.preprocessing;
        let crop = preprocessing.crop;
        network.check_input([crop as usize; 2])?;
        let classes = options.classes;
        for (dataset, items) in [Some(&training), validation.as_ref()].into_iter().flatten() {
            Labels::of(dataset, items.iter().copied()).check(classes)?;
        }
        let labels = Labels::of(training.0, training.1.iter().copied());
        labels.check_training()?;
        let loss = labels.loss(recipe.one_logit, classes)?;
        let network = match device {
            Some(_) if matches!(recipe.freeze, Freeze::Stage(_)) => {
                let wanted = "only the CPU trains a part of a network";
                return Err(Error::Recipe { field: "freeze", value: recipe.freeze.clone().into(), wanted });
            }
            Some(device) => TrainingNetwork::new(network, device, recipe),
            None => TrainingNetwork::compiled::<f32>(&network, [crop as usize; 2], recipe)?,
        };
        let frozen = match &recipe.freeze {
            Freeze::Stage(stage) => Some(Frozen::new(&network, stage, training.0, &options, recipe)?),
            Freeze::Head | Freeze::None => None,
        };
        let augmentation = recipe.augment.of(&preprocessing);
        Ok(Self {
            network: network.with_loss(loss),
            weights: labels.weights(recipe.class_weights, classes),
            smoothing: recipe.label_smoothing,
            validation: validation.filter(|(_, items)| !items.is_empty()),
            training,
            reader: Reader { preprocessing, augmentation, workers: options.workers },
            frozen,
            options,
            skipped: BTreeMap::new(),
            prefetched: None,
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

    /// Where views are kept, and how many bytes they take when all are there.
    pub fn views(&self) -> Option<(&Path, u64)> {
        let frozen = self.frozen.as_ref()?;
        let kept = frozen.kept.as_ref()?;
        let slots = kept.views as usize * self.training.1.len();
        Some((kept.store.path(), kept.store.bytes(slots)))
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
        let at = (batch.seed, batch.epoch);
        let (here, next) = (self.items(batch.pictures), self.items(batch.next));
        let kept = self.frozen.as_ref().and_then(|frozen| frozen.kept.as_ref());
        let loaded = match self.prefetched.take() {
            Some((place, loaded)) if place == (batch.epoch, batch.number) => loaded,
            _ => load_batch(&self.reader, kept, dataset, &here, at)?,
        };
        self.skip(dataset, &loaded.pictures.failed);
        let Self { network, reader, frozen, weights, smoothing, options, .. } = self;
        let kept = frozen.as_ref().and_then(|frozen| frozen.kept.as_ref());
        let context = BatchContext {
            dataset,
            items: &here,
            classes: options.classes,
            side: options.preprocessing.crop as usize,
            smoothing: *smoothing,
            weights: weights.as_deref(),
        };
        // The next batch is read while this one is computed.
        let (result, prefetched) = overlapped(
            || context.learn(network, frozen.as_ref(), loaded, batch),
            (!next.is_empty()).then_some(|| load_batch(reader, kept, dataset, &next, at)),
        );
        self.prefetched = prefetched.transpose()?.map(|loaded| ((batch.epoch, batch.number + 1), loaded));
        result
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
        let mut prefetched = chunks.next().map(read);
        while let Some(Pictures { items: kept, input, failed }) = prefetched.take() {
            self.skip(dataset, &failed);
            let logits;
            (logits, prefetched) = overlapped(
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

/// What a step on a batch needs beside its pictures.
struct BatchContext<'a> {
    dataset: &'a Dataset,
    /// The pictures of the batch, whether they can be used or not.
    items: &'a [usize],
    classes: usize,
    /// Of an image, in pixels.
    side: usize,
    smoothing: f64,
    weights: Option<&'a [f32]>,
}

impl BatchContext<'_> {
    /// Makes a step.
    fn learn(
        &self,
        network: &mut TrainingNetwork,
        frozen: Option<&Frozen>,
        LoadedBatch { mut maps, pictures }: LoadedBatch,
        batch: &Batch<'_>,
    ) -> Result<BatchResult, Error> {
        let Pictures { mut items, mut input, .. } = pictures;
        let kept = frozen.and_then(|frozen| Some((&frozen.runner, frozen.kept.as_ref()?)));
        if let Some((runner, kept)) = kept {
            if !items.is_empty() {
                let found = runner.run(&input, items.len())?;
                let view = kept.view(batch.epoch);
                for (&item, map) in items.iter().zip(found.chunks_exact(runner.output_len())) {
                    kept.store.write(view, item, map)?;
                    maps.insert(item, map.to_vec());
                }
            }
            items = self.items.iter().copied().filter(|item| maps.contains_key(item)).collect();
            input = items.iter().filter_map(|item| maps.remove(item)).collect::<Vec<_>>().concat();
        }
        let count = items.len();
        if count == 0 {
            return Ok(BatchResult { loss: 0.0, correct: 0, pictures: 0 });
        }
        let labels = Labels::of(self.dataset, items.iter().copied());
        // Pixels are blended; of what is kept maps are.
        let mixup = batch.blend(count)?;
        if let Some(mixup) = &mixup {
            let own = input.clone();
            mixup.blend(&own, &mut input)?;
        }
        if let Some(Frozen { runner, kept: None }) = frozen {
            input = runner.run(&input, count)?;
        }
        let targets = labels.targets(self.classes, self.smoothing, mixup.as_ref())?;
        let shape = match frozen {
            // The network knows the places of a map's numbers.
            Some(_) => [count, input.len() / count, 1, 1],
            None => [count, 3, self.side, self.side],
        };
        let images = TensorData::new(input, shape);
        // Anew for each batch, so that a run that goes on drops what it would have dropped.
        let drawn = generator(batch.seed, Use::Dropout, [batch.epoch.into(), batch.number as u64]).bits();
        network.seed(drawn.into());
        let step = network.step(images, &targets, self.weights, batch.lr, |_, _| {})?;
        let correct = labels.correct(&network.loss().scores(&step.logits), self.classes);
        Ok(BatchResult { loss: step.loss, correct, pictures: count as u64 })
    }
}

/// What `work` gives, and what `reading` gives on another thread meanwhile.
fn overlapped<W, R: Send>(
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
        let config = spec.training_config().with_num_classes(outputs);
        let network = config.with_seed(file.seed).init(device)?;
        Ok(save(&with_values(network, values), &metadata, path)?)
    })
}
