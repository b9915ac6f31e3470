//! A run of training, from its pictures to its files.

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use inception::burn::tensor::Device;
use inception::data::{Classes, Dataset, Preprocessing};
use inception::nn::with_storage_device;
use inception::{ModelSpec, Skipped, Weights};
use inception_train::{
    Best, Freeze, HeadLearner, Judgement, LabelledFeatures, Labels, Learner, Linear, Loss, NetworkLearner,
    NetworkOptions, Outcome, Recipe, RunFolder, RunOptions, Split, TrainedFile, train, with_new_classifier,
};
use serde::Serialize;

use super::capacity::{enough_memory, enough_space};
use super::report::{Judged, Labelled, RunReport};
use super::show::{Show, average_precision};
use super::signal::STOP;

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
    #[serde(skip_serializing_if = "Option::is_none")]
    val_mean_average_precision: Option<f64>,
    file: PathBuf,
}

/// A run whose pictures are known.
pub struct Job<'a> {
    pub spec: &'static ModelSpec,
    pub recipe: &'a Recipe,
    pub weights: &'a Weights,
    pub preprocessing: &'a Preprocessing,
    pub classes: &'a Classes,
    /// The share of the pictures that is for validation; 0 where there are others for that.
    pub share: f64,
    /// The dataset of the pictures for validation.
    pub validation_pictures: &'a Dataset,
    pub save_every: Duration,
    pub json: bool,
}

impl Job<'_> {
    /// Trains the classifier on features, those of `val` for validation where there are any; `views` gives those of
    /// changed pictures, which are learned from in the place of `training`, if there are any.
    pub fn train_head(
        &self,
        folder: &mut RunFolder,
        scale: f32,
        training: &LabelledFeatures,
        val: Option<&LabelledFeatures>,
        views: impl FnOnce(&[usize]) -> anyhow::Result<Vec<LabelledFeatures>>,
    ) -> anyhow::Result<()> {
        let (parts, warnings) = self.split(&training.labels, val.map(|val| val.labels.len()));
        let validation = match val {
            Some(val) => (val, (0..val.labels.len()).collect()),
            None => (training, parts.validation),
        };
        let outputs =
            training.labels.loss(self.recipe.one_logit, self.classes.count)?.outputs(self.classes.count);
        let start = Linear::initial(self.spec, outputs, self.recipe.seed)?;
        let items: Vec<usize> = parts.training.iter().map(|&at| training.items[at]).collect();
        let rows = (training, parts.training);
        let learner = HeadLearner::new(rows, Some(validation), start, scale, self.recipe)?;
        let mut learner = learner.with_views(views(&items)?);
        let outcome = self.run(&mut learner, folder)?;
        let skipped: Vec<Skipped> =
            [Some(training), val].into_iter().flatten().flat_map(|part| part.skipped.clone()).collect();
        self.finish(outcome, &mut learner, folder, &skipped, warnings)
    }

    /// Trains the network, or what is not frozen of it, on `device` of Burn's or else on the CPU, from pictures; on
    /// the engine, as `options` say, those of `val` are for validation where there are any.
    pub fn train_network(
        &self,
        folder: &mut RunFolder,
        device: Option<Device>,
        options: NetworkOptions,
        training: &Dataset,
        val: Option<&Dataset>,
    ) -> anyhow::Result<()> {
        let labels = Labels::of(training, 0..training.len());
        let (parts, mut warnings) = self.split(&labels, val.map(Dataset::len));
        let validation = match val {
            Some(val) => (val, (0..val.len()).collect()),
            None => (training, parts.validation),
        };
        let rows = (training, parts.training);
        let outputs = labels.loss(self.recipe.one_logit, self.classes.count)?.outputs(self.classes.count);
        let learner = |own: &Device, device: Option<Device>| {
            let trained = self.weights.training_network(self.spec, own)?;
            let network = with_new_classifier(trained, self.spec, outputs, self.recipe.seed, own)?;
            NetworkLearner::new(network, device, rows, Some(validation), options, self.recipe)
        };
        let mut learner = match device {
            Some(device) => learner(&device.clone(), Some(device)),
            None => with_storage_device(|storage| learner(storage, None)),
        }?;
        if let Some(bytes) = learner.batch_bytes(self.recipe.batch) {
            let batch = self.recipe.batch;
            enough_memory(bytes, batch, &format!("a batch of {batch} pictures takes"), "--batch")?;
        }
        if let Some((file, bytes)) = learner.views() {
            stderrln!("views take {:.2} GB when all are there: {}", bytes as f64 / 1e9, file.display());
            enough_space(bytes, file)?;
        }
        let outcome = self.run(&mut learner, folder)?;
        if !learner.has_auxiliary() {
            let text = match self.recipe.freeze {
                Freeze::Stage(_) => {
                    "the auxiliary classifiers take no part: they read what is frozen, or do not fit its map"
                }
                _ => "the auxiliary classifiers take no part: they do not fit pictures of this size",
            };
            stderrln!("warning: {text}");
            warnings.push(text.to_owned());
        }
        let skipped: Vec<Skipped> = learner.skipped().cloned().collect();
        self.finish(outcome, &mut learner, folder, &skipped, warnings)
    }

    /// Which pictures are for what, and what is wrong with the classes; both are said.
    fn split(&self, labels: &Labels, val: Option<usize>) -> (Split, Vec<String>) {
        let parts = labels.split(self.classes.count, self.share, self.recipe.seed);
        let warnings = self.warnings(&parts, val.is_some());
        for warning in &warnings {
            stderrln!("warning: {warning}");
        }
        let validation = val.unwrap_or(parts.validation.len());
        stderrln!("{} pictures to train on, {validation} for validation", parts.training.len());
        (parts, warnings)
    }

    fn run(&self, learner: &mut dyn Learner, folder: &mut RunFolder) -> anyhow::Result<Outcome> {
        let mut show = Show::new(self.recipe.epochs, self.json);
        let options = RunOptions { stop: &STOP, save_every: self.save_every };
        let outcome = train(learner, self.recipe, folder, options, &mut |event| show.event(event));
        show.bar.finish();
        Ok(outcome?)
    }

    /// What is wrong with the classes.
    fn warnings(&self, parts: &Split, has_val: bool) -> Vec<String> {
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
        outcome: Outcome,
        learner: &mut dyn Learner,
        folder: &RunFolder,
        skipped: &[Skipped],
        mut warnings: Vec<String>,
    ) -> anyhow::Result<()> {
        let [best_file, last_file, page] =
            ["best.safetensors", "last.safetensors", "report.html"].map(|name| folder.path().join(name));
        self.write(learner, None, &last_file)?;
        learner.set_values(outcome.best_values);
        self.write(learner, outcome.best, &best_file)?;
        if let Err(error) = self.report(outcome.best, learner, folder, skipped.len(), &warnings, &page) {
            // What was trained is written.
            let text = format!("there is no report: {error:#}");
            stderrln!("warning: {text}");
            warnings.push(text);
        }
        if outcome.stopped_early {
            stderrln!("ended after {} epochs: nothing improved any more", outcome.epochs);
        }
        let Outcome { best, epochs, interrupted, .. } = outcome;
        self.print((best, epochs), learner.loss(), (best_file, last_file), skipped, warnings)?;
        ensure!(!interrupted, "interrupted after {epochs} whole epochs; --resume goes on");
        Ok(())
    }

    /// Prints what came out.
    fn print(
        &self,
        (best, epochs): (Option<Best>, u32),
        loss: Loss,
        (best_file, last_file): (PathBuf, PathBuf),
        skipped: &[Skipped],
        warnings: Vec<String>,
    ) -> anyhow::Result<()> {
        let mut out = stdout().lock();
        if self.json {
            let best = best.map(|Best { epoch, validation, .. }| BestReport {
                epoch,
                val_accuracy: validation.map(|validation| validation.accuracy()),
                val_mean_average_precision: validation
                    .and_then(|validation| validation.mean_average_precision),
                file: best_file,
            });
            let report = Report { best, last: last_file, classes: self.class_names(), skipped, warnings };
            writeln!(out, "{}", serde_json::to_string(&report)?)?;
            return Ok(());
        }
        match best {
            Some(Best { epoch, validation: Some(validation), .. }) if loss == Loss::BinaryCrossEntropy => {
                writeln!(
                    out,
                    "{}: epoch {epoch}, {}{:.2} % of the labels of {} pictures for validation right",
                    best_file.display(),
                    average_precision(validation.mean_average_precision),
                    validation.accuracy() * 100.0,
                    validation.pictures
                )?;
            }
            Some(Best { epoch, validation: Some(validation), .. }) => writeln!(
                out,
                "{}: epoch {epoch}, top-1 {:.2} % of {} pictures for validation",
                best_file.display(),
                validation.accuracy() * 100.0,
                validation.pictures
            )?,
            _ => writeln!(out, "{}: after {} epochs", best_file.display(), epochs)?,
        }
        if !skipped.is_empty() {
            writeln!(out, "{} pictures could not be used", skipped.len())?;
        }
        Ok(())
    }

    /// Writes the page of the run, with what the learner, as it is now, makes of the pictures for validation.
    fn report(
        &self,
        best: Option<Best>,
        learner: &mut dyn Learner,
        folder: &RunFolder,
        skipped: usize,
        warnings: &[String],
        path: &Path,
    ) -> anyhow::Result<()> {
        let (mut one, mut several) = (Vec::new(), Vec::<Labelled>::new());
        learner.judge(&mut |item, judgement| match judgement {
            Judgement::One(outcome) => one.push((item, outcome)),
            Judgement::Several { labels, logits } => several.push((item, labels.into(), logits.to_vec())),
        })?;
        let report = RunReport {
            model: self.spec.name,
            recipe: self.recipe,
            classes: &self.class_names(),
            metrics: &folder.metrics()?,
            best,
            judged: match learner.loss() {
                Loss::BinaryCrossEntropy => Judged::Several(&several),
                _ => Judged::One(&one),
            },
            pictures: self.validation_pictures,
            skipped,
            warnings,
        };
        report.write(path)
    }

    /// The names of the classes; where they have none, their numbers.
    fn class_names(&self) -> Vec<String> {
        let numbers = || (0..self.classes.count).map(|class| class.to_string()).collect();
        self.classes.names.clone().unwrap_or_else(numbers)
    }

    fn write(&self, learner: &dyn Learner, best: Option<Best>, path: &Path) -> anyhow::Result<()> {
        let training = serde_json::json!({"recipe": self.recipe, "best": best});
        let file = TrainedFile {
            spec: self.spec,
            weights: self.weights,
            seed: self.recipe.seed,
            preprocessing: self.preprocessing,
            labels: self.classes.names.as_deref(),
            activation: learner.loss().activation(),
            training: &training.to_string(),
        };
        learner.write(&file, path).with_context(|| format!("writing {}", path.display()))
    }
}
