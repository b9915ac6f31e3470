//! `train`

use std::fmt::Display;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Args;
use inception::data::{Classes, Dataset, DatasetOptions, LoaderOptions, ScanStats};
use inception::nn::Output;
use inception::weights::cache_folder;
use inception::{
    ExtractOptions, FeatureExtractor, ModelSpec, Preparation, RunOptions as Device, Shard, Skipped, Weights,
    cores, dataset_version, read_labels,
};
use inception_bench::free_memory;
use inception_train::{
    Best, ClassWeights, EpochMetrics, Event, FeatureOptions, Freeze, HeadLearner, LabelledFeatures, Linear,
    OptimizerKind, Outcome, Recipe, RecipeChanges, RunFolder, RunOptions, Schedule, TrainedFile, Value,
    extract_features, feature_bytes, save_with_head, split, train,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::args::{self, DeviceArgs, PreprocessArgs, WeightArgs};
use crate::progress::Bar;
use crate::signals::on_signal;

/// Set by Ctrl-C.
static STOP: AtomicBool = AtomicBool::new(false);

/// Pictures of which the engine computes features together.
const FEATURE_BATCH: usize = 32;

#[derive(Args)]
pub struct Train {
    /// The network
    #[arg(long, value_name = "NAME", value_parser = args::model)]
    model: &'static ModelSpec,
    #[command(flatten)]
    weights: WeightArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    preprocess: PreprocessArgs,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    recipe: RecipeArgs,
    /// The folder for what is trained: best.safetensors, last.safetensors, metrics.jsonl, and the run's state
    #[arg(long, value_name = "FOLDER")]
    to: PathBuf,
    /// Go on with the run in --to
    #[arg(long)]
    resume: bool,
    /// Where features are kept between runs [default: the folder features of INCEPTION_CACHE, otherwise of
    /// inception in the user's cache folder]
    #[arg(long, value_name = "FOLDER")]
    cache: Option<PathBuf>,
    /// Seconds between two states on disk, at least
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    save_every: f64,
    /// Print one JSON object a line: one an epoch, and the result
    #[arg(long)]
    json: bool,
}

/// Which pictures.
#[derive(Args)]
#[command(next_help_heading = "Pictures")]
struct DataArgs {
    /// Labelled pictures, as `eval` takes them; the folders of classes may have any names
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// Pictures for validation, of the same classes
    #[arg(long, value_name = "PATH", conflicts_with = "val_share")]
    val: Option<PathBuf>,
    /// Without --val: the share of each class that is for validation
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = args::share)]
    val_share: f64,
    /// Where the pictures of a list are, if not beside it: a folder or a tar archive
    #[arg(long, value_name = "PATH")]
    image_root: Option<PathBuf>,
    /// Names of the classes in their order, one a line, which are those of a folder's folders, too
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// What a list counts its first class as: 0, or 1
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1))]
    label_base: u32,
    /// Read JPEG files that end early, what is missing filled in grey
    #[arg(long)]
    accept_truncated: bool,
    /// Only the first N pictures, of all classes in turn
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Fail if more than this share of the pictures cannot be used
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = args::share)]
    max_skipped: f64,
    /// Threads that read and decode pictures [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    workers: Option<u16>,
}

/// How to train.
#[derive(Args)]
#[command(next_help_heading = "Recipe")]
struct RecipeArgs {
    /// A TOML file with any of the flags below, or `paddleclas`: the figures of PaddleClas's configuration of
    /// the network; flags come before both
    #[arg(long, value_name = "FILE|paddleclas")]
    recipe: Option<String>,
    /// What keeps its weights: `head` is all but the classifier
    #[arg(long, value_name = "PART", value_parser = named::<Freeze>)]
    freeze: Option<Freeze>,
    /// Times that each picture is seen [default: 30]
    #[arg(long, value_name = "N")]
    epochs: Option<u32>,
    /// Pictures in a batch [default: 64]
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// sgd (with momentum), adam or adamw [default: adam]
    #[arg(long, value_name = "NAME", value_parser = named::<OptimizerKind>)]
    optimizer: Option<OptimizerKind>,
    /// The highest learning rate [default: 0.001]
    #[arg(long, value_name = "RATE")]
    lr: Option<f64>,
    /// Its course after the warm-up: constant, linear, cosine, or step:EPOCHS:FACTOR [default: cosine]
    #[arg(long, value_name = "NAME")]
    schedule: Option<Schedule>,
    /// Epochs in which it rises from 0 [default: 0]
    #[arg(long, value_name = "EPOCHS")]
    warmup: Option<f64>,
    /// Share of the last step in the next one, for sgd [default: 0.9]
    #[arg(long, value_name = "SHARE")]
    momentum: Option<f64>,
    /// Factor of the weights that is added to their gradients, or by adamw taken from the weights [default:
    /// 0]
    #[arg(long, value_name = "FACTOR")]
    weight_decay: Option<f64>,
    /// Share of a label that is spread over all classes [default: 0]
    #[arg(long, value_name = "SHARE")]
    label_smoothing: Option<f64>,
    /// Blend pictures of a batch in shares of a beta distribution of this parameter; features, with --freeze
    /// head [default: 0, which is without]
    #[arg(long, value_name = "ALPHA")]
    mixup: Option<f64>,
    /// How much the pictures of a class count: none (as all others), or balanced (all classes the same)
    /// [default: none]
    #[arg(long, value_name = "NAME", value_parser = named::<ClassWeights>)]
    class_weights: Option<ClassWeights>,
    /// End after so many epochs without an improvement [default: 0, which is never]
    #[arg(long, value_name = "EPOCHS")]
    patience: Option<u32>,
}

/// A value by the name that it has in a recipe.
fn named<T: DeserializeOwned>(name: &str) -> Result<T, String> {
    serde_json::from_value(name.into()).map_err(|error| error.to_string())
}

impl RecipeArgs {
    fn recipe(&self, spec: &'static ModelSpec, seed: u64) -> anyhow::Result<Recipe> {
        let base = match self.recipe.as_deref() {
            Some("paddleclas") => Recipe::published(spec)?,
            Some(file) => Recipe::head().with(&RecipeChanges::read(Path::new(file))?),
            None => Recipe::head(),
        };
        // The flag has a default; a file's seed is taken where the flag has that.
        let seed = if seed == 0 { base.seed } else { seed };
        let changes = RecipeChanges {
            freeze: self.freeze,
            epochs: self.epochs,
            batch: self.batch,
            optimizer: self.optimizer,
            lr: self.lr,
            schedule: self.schedule,
            warmup: self.warmup,
            momentum: self.momentum,
            weight_decay: self.weight_decay,
            label_smoothing: self.label_smoothing,
            mixup: self.mixup,
            class_weights: self.class_weights,
            patience: self.patience,
            seed: Some(seed),
        };
        let recipe = base.with(&changes);
        recipe.check()?;
        Ok(recipe)
    }
}

/// The last line of `--json`.
#[derive(Serialize)]
struct Report<'a> {
    best: Option<BestReport>,
    last: PathBuf,
    classes: Vec<String>,
    skipped: &'a [Skipped],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct BestReport {
    epoch: u32,
    val_accuracy: Option<f64>,
    file: PathBuf,
}

impl Train {
    pub fn run(&self) -> anyhow::Result<()> {
        let recipe = self.recipe.recipe(self.model, self.device.seed)?;
        let save_every = Duration::try_from_secs_f64(self.save_every).context("--save-every")?;
        let device = self.device.apply()?;
        let weights = self.weights.weights(self.model, self.device.seed)?;
        catch_signals()?;
        let (dataset, classes) = self.open(&self.data.data, None)?;
        ensure!(classes.count >= 2, "{}: a single class leaves nothing to learn", self.data.data.display());
        let val = self.data.val.as_deref().map(|path| self.open(path, Some(&classes))).transpose()?;
        let val = val.map(|(dataset, _)| dataset);
        let choose = |own| Preparation::Classifier(self.preprocess.apply(&own));
        let extractor = FeatureExtractor::new(self.model, &weights, Output::Pooled, &device, choose)?;
        for warning in extractor.warnings() {
            eprintln!("warning: {}: {warning}", self.model.name);
        }
        eprintln!("{}: {}", self.model.name, serde_json::to_string(extractor.recipe())?);
        let total = dataset.len() + val.as_ref().map_or(0, |val| val.len());
        enough_memory(feature_bytes(total, extractor.dimensions()), total)?;
        let identity =
            weights.identity().with_context(|| format!("reading the weights of {}", self.model.name))?;
        let settings = self.settings(
            &recipe,
            &identity,
            &device,
            &extractor,
            &classes,
            [Some(&*dataset), val.as_deref()],
        )?;
        let mut folder = RunFolder::open(&self.to, settings, self.resume)?;
        if self.resume && !folder.resumes() {
            eprintln!("{}: no state of a run is there yet; it begins", self.to.display());
        }
        let training = self.features(&extractor, &dataset, &identity, &device)?;
        let val = val.as_ref().map(|val| self.features(&extractor, val, &identity, &device)).transpose()?;
        let run = Job {
            command: self,
            recipe: &recipe,
            weights: &weights,
            extractor: &extractor,
            classes: &classes,
        };
        run.train(&mut folder, &training, val.as_ref(), save_every)
    }

    /// The pictures of `path`, and their classes: those that they have, or `known` ones.
    fn open(&self, path: &Path, known: Option<&Classes>) -> anyhow::Result<(Arc<Dataset>, Classes)> {
        let mut options = DatasetOptions::new(0);
        let DataArgs { image_root, labels, .. } = &self.data;
        options.image_root.clone_from(image_root);
        options.labels = labels.as_deref().map(read_labels).transpose()?;
        (options.label_base, options.accept_truncated) = (self.data.label_base, self.data.accept_truncated);
        let (mut dataset, classes) = match known {
            None => Dataset::open_with_own_classes(path, &options)?,
            Some(known) => {
                options.num_classes = known.count;
                options.labels.clone_from(&known.names);
                (Dataset::open(path, &options)?, known.clone())
            }
        };
        if let (Some(limit), None) = (self.data.limit, known) {
            dataset.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        }
        let stats = dataset.scan_stats();
        if stats != ScanStats::default() {
            eprintln!("{}: {stats}", path.display());
        }
        Ok((Arc::new(dataset), classes))
    }

    /// All that the result of a run depends on.
    fn settings(
        &self,
        recipe: &Recipe,
        identity: &str,
        device: &Device,
        extractor: &FeatureExtractor,
        classes: &Classes,
        [data, val]: [Option<&Dataset>; 2],
    ) -> anyhow::Result<Vec<(String, String)>> {
        let mut settings = Vec::new();
        let mut add = |name: &str, value: &dyn Display| settings.push((name.to_owned(), value.to_string()));
        add("model", &self.model.name);
        add("weights", &identity);
        add("device", &device.description());
        add("preprocessing", &serde_json::to_string(extractor.recipe())?);
        add("classes", &serde_json::to_string(&(classes.count, &classes.names))?);
        let version = |dataset: Option<&Dataset>| dataset.map_or_else(|| "none".to_owned(), dataset_version);
        add("data", &version(data));
        add("pictures for validation", &version(val));
        add("share for validation", &self.data.val_share);
        if let serde_json::Value::Object(fields) = serde_json::to_value(recipe)? {
            fields.iter().for_each(|(name, value)| add(name, value));
        }
        Ok(settings)
    }

    fn features(
        &self,
        extractor: &FeatureExtractor,
        dataset: &Arc<Dataset>,
        identity: &str,
        device: &Device,
    ) -> anyhow::Result<LabelledFeatures> {
        let workers = self.data.workers.map_or_else(cores, usize::from);
        let loader = LoaderOptions { batch: FEATURE_BATCH, workers, prefetch: 2 };
        let cache = self.cache.clone().unwrap_or_else(|| cache_folder().join("features"));
        let options = FeatureOptions {
            weights: identity,
            device: &device.description(),
            extract: ExtractOptions { shard: Shard::WHOLE, loader, max_skipped: self.data.max_skipped },
            cache: &cache,
            stop: &STOP,
        };
        let mut bar = Bar::new();
        let found = extract_features(extractor, dataset, &options, |progress| bar.show_extraction(&progress));
        bar.finish();
        let (features, file) = found?;
        let (pictures, computed) = (features.labels.len(), features.computed);
        eprintln!("features of {pictures} pictures, {computed} of them computed now: {}", file.display());
        ensure!(pictures > 0, "no picture could be used");
        Ok(features)
    }
}

/// The first Ctrl-C ends the epoch, the second one the process.
fn catch_signals() -> anyhow::Result<()> {
    let act = || {
        if STOP.swap(true, Ordering::Relaxed) {
            // As a shell reports it.
            exit(130);
        }
        eprintln!("ending after the batch under way; once more ends it at once");
    };
    on_signal(act).context("catching Ctrl-C")
}

/// Refuses a run whose features do not fit into memory.
fn enough_memory(bytes: u64, pictures: usize) -> anyhow::Result<()> {
    if let Some(free) = free_memory().filter(|&free| bytes > free) {
        let gigabytes = |bytes: u64| bytes as f64 / 1e9;
        let fit = (pictures as f64 * free as f64 / bytes as f64 * 0.9) as u64;
        bail!(
            "the features of {pictures} pictures take {:.1} GB, and {:.1} GB of memory are free: --limit {fit} fits",
            gigabytes(bytes),
            gigabytes(free)
        );
    }
    Ok(())
}

/// A run whose features are there.
struct Job<'a> {
    command: &'a Train,
    recipe: &'a Recipe,
    weights: &'a Weights,
    extractor: &'a FeatureExtractor,
    classes: &'a Classes,
}

impl Job<'_> {
    fn train(
        &self,
        folder: &mut RunFolder,
        training: &LabelledFeatures,
        val: Option<&LabelledFeatures>,
        save_every: Duration,
    ) -> anyhow::Result<()> {
        let Self { command, recipe, extractor, classes, .. } = *self;
        let labels = &training.labels;
        let share = if val.is_some() { 0.0 } else { command.data.val_share };
        let parts = split(labels, classes.count, share, recipe.seed);
        let warnings = self.warnings(&parts, val.is_some());
        for warning in &warnings {
            eprintln!("warning: {warning}");
        }
        let validation = match val {
            Some(val) => (val, (0..val.labels.len()).collect()),
            None => (training, parts.validation),
        };
        eprintln!("{} pictures to train on, {} for validation", parts.training.len(), validation.1.len());
        let start = Linear::initial(command.model, classes.count, recipe.seed)?;
        let scale = extractor.classifier_scale();
        let rows = (training, parts.training);
        let mut learner = HeadLearner::new(rows, Some(validation), start, scale, recipe)?;
        let mut show =
            Show { bar: Bar::new(), epochs: recipe.epochs, json: command.json, first: None, broken: None };
        let options = RunOptions { stop: &STOP, save_every };
        let outcome = train(&mut learner, recipe, folder, options, &mut |event| show.event(event));
        show.bar.finish();
        let outcome = outcome?;
        show.broken.map_or(Ok(()), Err)?;
        let skipped: Vec<Skipped> =
            [Some(training), val].into_iter().flatten().flat_map(|part| part.skipped.clone()).collect();
        self.finish(&outcome, learner.linear(), folder.path(), skipped, warnings)
    }

    /// What is wrong with the classes.
    fn warnings(&self, parts: &inception_train::Split, has_val: bool) -> Vec<String> {
        let name = |&class: &u32| match &self.classes.names {
            Some(names) => names[class as usize].clone(),
            None => class.to_string(),
        };
        let list = |classes: &[u32]| classes.iter().take(10).map(name).collect::<Vec<_>>().join(", ");
        let mut warnings = Vec::new();
        if !parts.empty.is_empty() {
            warnings.push(format!("{} classes have no picture: {}", parts.empty.len(), list(&parts.empty)));
        }
        if !parts.single.is_empty() && !has_val {
            warnings.push(format!(
                "{} classes have a single picture, which is trained on and not validated: {}",
                parts.single.len(),
                list(&parts.single)
            ));
        }
        warnings
    }

    /// Writes the trained files, and says what came out.
    fn finish(
        &self,
        outcome: &Outcome,
        last: &Linear,
        folder: &Path,
        skipped: Vec<Skipped>,
        warnings: Vec<String>,
    ) -> anyhow::Result<()> {
        let [best_file, last_file] = ["best.safetensors", "last.safetensors"].map(|name| folder.join(name));
        self.write(&linear(&outcome.best_values)?, outcome.best, &best_file)?;
        self.write(last, None, &last_file)?;
        if outcome.interrupted {
            eprintln!("interrupted after {} whole epochs; --resume goes on", outcome.epochs);
        } else if outcome.stopped_early {
            eprintln!("ended after {} epochs: nothing improved any more", outcome.epochs);
        }
        let mut out = stdout().lock();
        if self.command.json {
            let count = self.classes.count;
            let numbers = || (0..count).map(|class| class.to_string()).collect();
            let best = outcome.best.map(|Best { epoch, validation, .. }| BestReport {
                epoch,
                val_accuracy: validation.map(|validation| validation.accuracy()),
                file: best_file,
            });
            let classes = self.classes.names.clone().unwrap_or_else(numbers);
            let report = Report { best, last: last_file, classes, skipped: &skipped, warnings };
            writeln!(out, "{}", serde_json::to_string(&report)?)?;
            return Ok(());
        }
        match outcome.best {
            Some(Best { epoch, validation: Some(validation), .. }) => writeln!(
                out,
                "{}: epoch {epoch}, {:.2} % of {} pictures right",
                best_file.display(),
                validation.accuracy() * 100.0,
                validation.pictures
            )?,
            _ => writeln!(out, "{}: after {} epochs", best_file.display(), outcome.epochs)?,
        }
        if !skipped.is_empty() {
            writeln!(out, "{} pictures could not be used", skipped.len())?;
        }
        Ok(())
    }

    fn write(&self, head: &Linear, best: Option<Best>, path: &Path) -> anyhow::Result<()> {
        let Preparation::Classifier(preprocessing) = self.extractor.recipe() else {
            bail!("a classifier's pictures are not stretched");
        };
        let training = serde_json::json!({"recipe": self.recipe, "best": best});
        let file = TrainedFile {
            spec: self.command.model,
            weights: self.weights,
            seed: self.recipe.seed,
            preprocessing,
            labels: self.classes.names.as_deref(),
            training: &training.to_string(),
        };
        save_with_head(&file, head, path).with_context(|| format!("writing {}", path.display()))
    }
}

/// The classifier that a run kept.
fn linear(values: &[Value]) -> anyhow::Result<Linear> {
    match values {
        [weight, bias] => Ok(Linear { weight: weight.values.clone(), bias: bias.values.clone() }),
        _ => bail!("a classifier has weights and a bias"),
    }
}

/// Shows a run while it goes on.
struct Show {
    bar: Bar,
    epochs: u32,
    json: bool,
    /// Pictures of all epochs that were done after the first batch of this run.
    first: Option<u64>,
    /// Why standard output takes no more.
    broken: Option<anyhow::Error>,
}

impl Show {
    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Batch { epoch, done, total, loss, accuracy, .. } => {
                let (all, done) = (u64::from(self.epochs) * total, u64::from(epoch - 1) * total + done);
                let first = *self.first.get_or_insert(done);
                let what = format!("epoch {epoch}  loss {loss:.4}  accuracy {:.2} %  ", accuracy * 100.0);
                self.bar.show(done - first, done, all, &what);
            }
            Event::Epoch(metrics) => {
                if let (Err(error), None) = (self.print(metrics), &self.broken) {
                    // Nobody reads it any more: the epoch under way is the last.
                    STOP.store(true, Ordering::Relaxed);
                    self.broken = Some(error);
                }
            }
            _ => {}
        }
    }

    fn print(&self, metrics: &EpochMetrics) -> anyhow::Result<()> {
        if self.json {
            return Ok(writeln!(stdout().lock(), "{}", serde_json::to_string(metrics)?)?);
        }
        let EpochMetrics { epoch, loss, accuracy, val_loss, val_accuracy, .. } = metrics;
        let mut line = format!("epoch {epoch}  loss {loss:.4}  accuracy {:.2} %", accuracy * 100.0);
        if let (Some(loss), Some(accuracy)) = (val_loss, val_accuracy) {
            line += &format!("  validation: loss {loss:.4}  accuracy {:.2} %", accuracy * 100.0);
        }
        self.bar.line(&line);
        Ok(())
    }
}
