//! `predict`

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use inception::weights::Output;
use inception::{Classifier, Guess, Prediction, data};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::args::NetworkArgs;
use crate::program::message;

#[derive(Args)]
pub struct Predict {
    #[command(flatten)]
    network: NetworkArgs,
    /// Names of the classes in their order: one a line, `0 name` a line, or JSON (a list, a map,
    /// `class_to_idx`)
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Pictures, JPEG or PNG
    #[arg(long = "image", value_name = "FILE", required = true, num_args = 1..)]
    images: Vec<PathBuf>,
    /// How many classes to print for each picture
    #[arg(long, value_name = "K", default_value_t = 5)]
    top_k: usize,
    /// With --json: all logits, too
    #[arg(long, requires = "json")]
    with_logits: bool,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// A line of `--json`.
#[derive(Serialize)]
struct Line<'a> {
    image: &'a Path,
    model: &'static str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'a [String],
    /// What they are, where they are no shares of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    probabilities: Option<Output>,
    top: Vec<Guess>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logits: Option<&'a [f32]>,
}

impl Predict {
    pub fn run(&self) -> anyhow::Result<()> {
        let options = self.network.device.apply()?;
        let mut failures = 0;
        for spec in &self.network.models.models {
            let (_, classifier, warnings) =
                self.network.classifier(spec, &options, self.labels.as_deref())?;
            // Until the first answer, which on a GPU waits for kernels to be compiled and tried.
            let waiting = self.network.device.device.is_gpu().then(|| waiting(spec.name));
            for image in &self.images {
                let answer = self.predict(&classifier, image);
                waiting.iter().for_each(ProgressBar::finish_and_clear);
                // A picture that cannot be used does not cost the others their answers.
                match answer {
                    Ok(prediction) => self.print(&classifier, &warnings, image, &prediction)?,
                    Err(error) => {
                        failures += 1;
                        eprintln!("error: {}", message(&error));
                    }
                }
            }
        }
        if failures > 0 {
            bail!(
                "{failures} of {} predictions failed",
                self.images.len() * self.network.models.models.len()
            );
        }
        Ok(())
    }

    fn predict(&self, classifier: &Classifier, image: &Path) -> anyhow::Result<Prediction> {
        let picture = data::read(image)?;
        classifier.predict(&picture).with_context(|| image.display().to_string())
    }

    fn print(
        &self,
        classifier: &Classifier,
        warnings: &[String],
        image: &Path,
        prediction: &Prediction,
    ) -> anyhow::Result<()> {
        let top = classifier.top(prediction, self.top_k);
        let model = classifier.spec().name;
        let mut out = stdout().lock();
        if self.json {
            let logits = self.with_logits.then_some(&prediction.logits[..]);
            let sigmoid = (classifier.output() == Output::Sigmoid).then_some(Output::Sigmoid);
            let line = Line { image, model, warnings, probabilities: sigmoid, top, logits };
            writeln!(out, "{}", serde_json::to_string(&line)?)?;
            return Ok(());
        }
        writeln!(out, "{} ({model})", image.display())?;
        for guess in top {
            let Guess { index, label, probability, .. } = guess;
            writeln!(out, "  {:6.2} %  {index:4}  {}", probability * 100.0, label.unwrap_or_default())?;
        }
        Ok(())
    }
}

/// A sign of life, on a terminal.
fn waiting(model: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg}  {elapsed}");
    let bar = ProgressBar::new_spinner().with_message(format!("{model}: trying kernels out"));
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
