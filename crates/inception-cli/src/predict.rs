//! `predict`

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use inception::data::{Preprocessing, RgbImage};
use inception::{Classifier, Guess, Prediction};
use indicatif::{ProgressBar, ProgressStyle};

use crate::args::NetworkArgs;
use crate::images::{ImageArgs, Images, lossy};
use crate::program::{message, picture_hint};

#[derive(Args)]
pub struct Predict {
    #[command(flatten)]
    network: NetworkArgs,
    /// Names of the classes in their order: one a line, `0 name` a line, or JSON (a list, a map,
    /// `class_to_idx`)
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    #[command(flatten)]
    images: ImageArgs,
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

impl Predict {
    pub fn run(&self) -> anyhow::Result<()> {
        let options = self.network.device.apply()?;
        let images = self.images.list()?;
        let mut failures = 0;
        for spec in &self.network.models.models {
            let (_, classifier, warnings) =
                self.network.classifier(spec, &options, self.labels.as_deref())?;
            // Until the first answer, which on a GPU waits for kernels to be compiled and tried.
            let waiting = self.network.device.device.is_gpu().then(|| waiting(spec.name));
            for_each_picture(&images, classifier.preprocessing(), |image, picture| {
                let answer = picture.and_then(|picture| {
                    classifier.predict(&picture).with_context(|| image.display().to_string())
                });
                waiting.iter().for_each(ProgressBar::finish_and_clear);
                // A picture that cannot be used does not cost the others their answers.
                match answer {
                    Ok(prediction) => self.print(&classifier, &warnings, image, &prediction)?,
                    Err(error) => {
                        failures += 1;
                        stderrln!("error: {}{}", message(&error), picture_hint(&error));
                    }
                }
                Ok(())
            })?;
        }
        if failures > 0 {
            bail!(
                "{failures} of {} predictions failed",
                images.paths.len() * self.network.models.models.len()
            );
        }
        Ok(())
    }

    fn print(
        &self,
        classifier: &Classifier,
        warnings: &[String],
        image: &Path,
        prediction: &Prediction,
    ) -> anyhow::Result<()> {
        let (name, is_lossy) = lossy(image);
        let mut answer = classifier.answer(name, prediction, self.top_k, self.with_logits);
        let mut out = stdout().lock();
        if self.json {
            (answer.image_is_lossy, answer.warnings) = (is_lossy, warnings);
            writeln!(out, "{}", serde_json::to_string(&answer)?)?;
            return Ok(());
        }
        writeln!(out, "{} ({})", image.display(), answer.model)?;
        for guess in answer.top {
            let Guess { index, label, probability, .. } = guess;
            writeln!(out, "  {:6.2} %  {index:4}  {}", probability * 100.0, label.unwrap_or_default())?;
        }
        Ok(())
    }
}

/// Calls `each` with every picture in its order. The next one is read and decoded meanwhile.
fn for_each_picture(
    images: &Images,
    preprocessing: &Preprocessing,
    mut each: impl FnMut(&Path, anyhow::Result<RgbImage>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    thread::scope(|scope| {
        // A channel without a buffer: at most one picture is decoded ahead, whatever its size.
        let (sender, receiver) = mpsc::sync_channel(0);
        scope.spawn(move || {
            for image in &images.paths {
                if sender.send((image, images.read(image, preprocessing))).is_err() {
                    return;
                }
            }
        });
        receiver.into_iter().try_for_each(|(image, picture)| each(image, picture))
    })
}

/// A sign of life, on a terminal.
fn waiting(model: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg}  {elapsed}");
    let bar = ProgressBar::new_spinner().with_message(format!("{model}: trying kernels out"));
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
