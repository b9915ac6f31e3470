//! `train`

mod arguments;
mod capacity;
mod job;
mod report;
mod show;
mod signal;

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Args;
use inception::data::{Classes, Dataset, DatasetOptions, LoaderOptions, ScanStats};
use inception::nn::{Output, with_storage_device};
use inception::weights::cache_folder;
use inception::{
    DeviceKind, ExtractOptions, FeatureExtractor, ModelSpec, Precision, Preparation, RunOptions, Shard,
    cores, dataset_version, read_labels,
};
use inception_train::{
    FeatureOptions, Freeze, FrozenOptions, LabelledFeatures, Labels, NetworkOptions, RunFolder, ViewOptions,
    extract_features, extract_views, feature_bytes,
};

use crate::args::{self, DeviceArgs, PreprocessArgs, WeightArgs, say};
use crate::progress::Bar;
use arguments::{DataArgs, RecipeArgs};
use capacity::enough_memory;
use job::Job;
use signal::{STOP, catch_signals};

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
    /// The folder for what is trained: best.safetensors, last.safetensors, report.html, metrics.jsonl, and
    /// the run's state
    #[arg(long, value_name = "FOLDER")]
    to: PathBuf,
    /// Go on with the run in --to
    #[arg(long)]
    resume: bool,
    /// Where features and views are kept between runs [default: the folder features of INCEPTION_CACHE, otherwise of
    /// inception in the user's cache folder]
    #[arg(long, value_name = "FOLDER")]
    cache: Option<PathBuf>,
    /// Seconds between two states on disk, at least [default: 10; 300 with --freeze none or a stage]
    #[arg(long, value_name = "SECONDS")]
    save_every: Option<f64>,
    /// Print one JSON object a line: one an epoch, and the result
    #[arg(long)]
    json: bool,
}

impl Train {
    pub fn run(&self) -> anyhow::Result<()> {
        let recipe = self.recipe.recipe(self.model, self.device.seed)?;
        if let Freeze::Stage(stage) = &recipe.freeze {
            // Before anything is read.
            let output = Output::Map(stage.clone());
            with_storage_device(|device| self.model.config().init(device)?.check_output(&output))
                .context("--freeze takes `head`, `none`, or a stage")?;
        }
        let run_options = self.device.apply()?;
        let weights = self.weights.weights(self.model, self.device.seed())?;
        catch_signals()?;
        let (dataset, classes) = self.open(&self.data.data, None)?;
        ensure!(classes.count >= 2, "{}: a single class leaves nothing to learn", self.data.data.display());
        let val = self.data.val.as_deref().map(|path| self.open(path, Some(&classes))).transpose()?;
        let val = val.map(|(dataset, _)| dataset);
        // Before pictures are read.
        Labels::of(&dataset, std::iter::empty()).loss(recipe.one_logit, classes.count)?;
        if dataset.is_multilabel() {
            stderrln!("{} classes, of which a picture has any number: binary cross entropy", classes.count);
        }
        let own = weights.recipe(self.model)?;
        let preprocessing = self.preprocess.apply(&own.preprocessing);
        preprocessing.check()?;
        if self.weights.is_file() {
            say(self.model, &[], self.preprocess.assumed(self.model, &own));
        }
        stderrln!("{}: {}", self.model.name, serde_json::to_string(&preprocessing)?);
        let identity = weights.identity();
        let identity = identity.with_context(|| format!("reading the weights of {}", self.model.name))?;
        let save_every = self.save_every.unwrap_or(match recipe.freeze {
            Freeze::Head => 10.0,
            // As much is written as several trained files.
            _ => 300.0,
        });
        let job = Job {
            spec: self.model,
            recipe: &recipe,
            weights: &weights,
            preprocessing: &preprocessing,
            classes: &classes,
            share: if val.is_some() { 0.0 } else { self.data.val_share },
            validation_pictures: val.as_ref().unwrap_or(&dataset),
            save_every: Duration::try_from_secs_f64(save_every).context("--save-every")?,
            json: self.json,
        };
        let pictures = [Some(&dataset), val.as_ref()];
        match recipe.freeze {
            Freeze::Head => self.train_head(&job, &identity, &run_options, pictures),
            Freeze::None | Freeze::Stage(_) => self.train_network(&job, &identity, &run_options, pictures),
            _ => bail!("this part cannot be frozen"),
        }
    }

    /// The run in --to, which depends on all of this.
    fn folder(
        &self,
        job: &Job<'_>,
        identity: &str,
        device: &str,
        pictures: [Option<&Arc<Dataset>>; 2],
    ) -> anyhow::Result<RunFolder> {
        let settings = self.settings(job, identity, device, pictures)?;
        let folder = RunFolder::open(&self.to, settings, self.resume)?;
        if self.resume && !folder.resumes() {
            stderrln!("{}: no state of a run is there yet; it begins", self.to.display());
        }
        Ok(folder)
    }

    fn train_head(
        &self,
        job: &Job<'_>,
        identity: &str,
        device: &RunOptions,
        pictures: [Option<&Arc<Dataset>>; 2],
    ) -> anyhow::Result<()> {
        let preprocessing = *job.preprocessing;
        let choose = |_| Preparation::Classifier(preprocessing);
        let extractor = FeatureExtractor::new(self.model, job.weights, Output::Pooled, device, choose)?;
        for warning in extractor.warnings() {
            stderrln!("warning: {}: {warning}", self.model.name);
        }
        let total = pictures.iter().flatten().map(|dataset| dataset.len()).sum();
        let views = job.recipe.views as usize;
        let bytes = feature_bytes(total * (1 + views), extractor.dimensions());
        enough_memory(bytes, total, &format!("the features of {total} pictures take"), "--limit")?;
        let mut folder = self.folder(job, identity, &device.description(), pictures)?;
        let features = |dataset| self.features(&extractor, dataset, identity, device);
        let [training, val] = pictures.map(|dataset| dataset.map(features).transpose());
        let (training, val) = (training?.context("there are pictures to train on")?, val?);
        let views = |items: &[usize]| match pictures[0] {
            Some(dataset) if views > 0 => self.views(&extractor, dataset, items, (job, identity, device)),
            _ => Ok(Vec::new()),
        };
        job.train_head(&mut folder, extractor.classifier_scale(), &training, val.as_ref(), views)
    }

    fn train_network(
        &self,
        job: &Job<'_>,
        identity: &str,
        device: &RunOptions,
        [training, val]: [Option<&Arc<Dataset>>; 2],
    ) -> anyhow::Result<()> {
        // What the engine computes is for validation only.
        let mut validation = RunOptions::default();
        validation.threads = device.threads;
        let kind = device.device;
        let is_whole = job.recipe.freeze == Freeze::None;
        ensure!(!is_whole || device.precision == Precision::F32, "all of a network is trained in f32");
        ensure!(is_whole || kind == DeviceKind::Engine, "a part of a network is trained on the CPU only");
        let burn = match kind {
            DeviceKind::Engine => None,
            kind => Some(RunOptions::on(kind).open()?.autodiff()),
        };
        let description = if is_whole { kind.name().to_owned() } else { device.description() };
        let mut folder = self.folder(job, identity, &description, [training, val])?;
        let options = NetworkOptions {
            preprocessing: *job.preprocessing,
            workers: self.workers(),
            validation,
            classes: job.classes.count,
            frozen: FrozenOptions {
                model: self.model.name.to_owned(),
                weights: identity.to_owned(),
                device: device.clone(),
                cache: self.cache(),
            },
        };
        let training = training.context("there are pictures to train on")?;
        job.train_network(&mut folder, burn, options, training, val.map(|val| &**val))
    }

    /// Whether pictures have any number of classes.
    fn is_multilabel(&self) -> anyhow::Result<bool> {
        Ok(Dataset::is_label_table(&self.data.data)?)
    }

    /// The features of changed pictures, of all views.
    fn views(
        &self,
        extractor: &FeatureExtractor,
        dataset: &Dataset,
        items: &[usize],
        (job, identity, device): (&Job<'_>, &str, &RunOptions),
    ) -> anyhow::Result<Vec<LabelledFeatures>> {
        let options = ViewOptions {
            weights: identity,
            device: &device.description(),
            recipe: job.recipe,
            workers: self.workers(),
            batch: FEATURE_BATCH,
            cache: &self.cache(),
            stop: &STOP,
        };
        let (mut bar, mut computed) = (Bar::new(), 0);
        let found = extract_views(extractor, dataset, items, &options, |now, done, total| {
            computed = now;
            bar.show(now, done, total, "");
        });
        bar.finish();
        let (views, file) = found?;
        let (count, each) = (views.len(), items.len());
        stderrln!("{count} views of {each} pictures, {computed} of them computed now: {}", file.display());
        Ok(views)
    }

    /// Where features and views are kept.
    fn cache(&self) -> PathBuf {
        self.cache.clone().unwrap_or_else(|| cache_folder().join("features"))
    }

    fn workers(&self) -> usize {
        self.data.workers.map_or_else(cores, usize::from)
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
                match self.is_multilabel()? {
                    true => Dataset::open_multilabel(path, &options)?,
                    false => (Dataset::open(path, &options)?, known.clone()),
                }
            }
        };
        if let (Some(limit), None) = (self.data.limit, known) {
            dataset.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        }
        let stats = dataset.scan_stats();
        if stats != ScanStats::default() {
            stderrln!("{}: {stats}", path.display());
        }
        Ok((Arc::new(dataset), classes))
    }

    /// All that the result of a run depends on.
    fn settings(
        &self,
        job: &Job<'_>,
        identity: &str,
        device: &str,
        [data, val]: [Option<&Arc<Dataset>>; 2],
    ) -> anyhow::Result<Vec<(String, String)>> {
        let mut settings = Vec::new();
        let mut add = |name: &str, value: &dyn Display| settings.push((name.to_owned(), value.to_string()));
        add("model", &self.model.name);
        add("weights", &identity);
        add("device", &device);
        add("preprocessing", &serde_json::to_string(job.preprocessing)?);
        add("classes", &serde_json::to_string(&(job.classes.count, &job.classes.names))?);
        let version = |dataset: Option<&Arc<Dataset>>| {
            dataset.map_or_else(|| "none".to_owned(), |dataset| dataset_version(dataset))
        };
        add("data", &version(data));
        add("pictures for validation", &version(val));
        add("share for validation", &self.data.val_share);
        if let serde_json::Value::Object(fields) = serde_json::to_value(job.recipe)? {
            fields.iter().for_each(|(name, value)| add(name, value));
        }
        Ok(settings)
    }

    fn features(
        &self,
        extractor: &FeatureExtractor,
        dataset: &Arc<Dataset>,
        identity: &str,
        device: &RunOptions,
    ) -> anyhow::Result<LabelledFeatures> {
        let loader = LoaderOptions { batch: FEATURE_BATCH, workers: self.workers(), prefetch: 2 };
        let cache = self.cache();
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
        stderrln!("features of {pictures} pictures, {computed} of them computed now: {}", file.display());
        ensure!(pictures > 0, "no picture could be used");
        Ok(features)
    }
}
