//! The report of an evaluation, and the merging of its parts.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, MergeProblem, StateProblem};
use crate::eval::against::{Against, Apart};
use crate::eval::run::Evaluation;
use crate::eval::settings::{EvalSettings, Shard};
use crate::eval::state;
use crate::eval::tally::{ClassCount, Misclassified, Skipped, Tally};

/// The JSON object of an evaluation. Floats are for reading; [`Exact`] has the integers behind them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
#[allow(missing_docs)]
pub struct EvalReport {
    pub model: String,
    pub images: u64,
    pub top1: f64,
    pub top5: f64,
    pub loss: Option<f64>,
    pub images_per_second: f64,
    pub skipped: Vec<Skipped>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<Vec<ClassRow>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confusion: Option<Vec<ConfusionRow>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub misclassified: Option<Vec<Wrong>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<Against>,
    pub shards: Vec<Shard>,
    pub exact: Exact,
    pub settings: EvalSettings,
    /// Whether the classes are ImageNet's, so that published figures are of the same.
    #[serde(skip)]
    pub imagenet: bool,
}

/// The integers that merging needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Exact {
    /// Pictures whose likeliest class is right.
    pub top1: u64,
    /// Pictures of which one of the five likeliest classes is right.
    pub top5: u64,
    /// Sum of the losses in units of 2^-40, in decimal digits.
    pub loss: String,
    /// Pictures whose loss is no finite number.
    pub not_finite: u64,
    /// Numbers of the skipped pictures in the dataset, in the order of `skipped`.
    pub skipped: Vec<usize>,
    /// Time that it took.
    pub seconds: f64,
}

/// The counts of a class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ClassRow {
    /// The class.
    pub index: u32,
    /// Its name, where it has one.
    pub label: Option<String>,
    /// Its counts.
    #[serde(flatten)]
    pub count: ClassCount,
}

/// A cell of the confusion matrix that is not zero.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfusionRow {
    /// Class of the pictures.
    pub label: u32,
    /// What they were taken for.
    pub guess: u32,
    /// How many.
    pub images: u64,
    /// The name of `label`, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_name: Option<String>,
    /// The name of `guess`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guess_name: Option<String>,
}

/// A picture whose likeliest class is not its own, with the names of both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wrong {
    /// The picture and the classes by number.
    #[serde(flatten)]
    pub picture: Misclassified,
    /// The name of its class, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_name: Option<String>,
    /// The name of the likeliest class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guess_name: Option<String>,
}

/// Optional parts of a report.
#[derive(Clone, Copy, Debug, Default)]
pub struct Details {
    /// Counts by class.
    pub per_class: bool,
    /// The confusion matrix.
    pub confusion: bool,
    /// The pictures that were taken for something else.
    pub misclassified: bool,
}

impl EvalReport {
    /// The report of an evaluation.
    pub fn new(evaluation: &Evaluation, warnings: &[String], details: Details) -> Self {
        let Evaluation { settings, shards, tally, seconds } = evaluation;
        let known = inception_data::labels();
        let imagenet = settings.classes == known.len() && settings.labels.is_none();
        let name = |index: u32| match &settings.labels {
            Some(labels) => labels.get(index as usize).cloned(),
            None => known.get(index as usize).filter(|_| imagenet).map(|&name| name.to_owned()),
        };
        let class_row = |(&index, &count): (&u32, &ClassCount)| ClassRow { index, label: name(index), count };
        let confusion_row = |(&(label, guess), &images): (&(u32, u32), &u64)| ConfusionRow {
            label,
            guess,
            images,
            label_name: name(label),
            guess_name: name(guess),
        };
        let wrong = |picture: &Misclassified| Wrong {
            picture: picture.clone(),
            label_name: name(picture.label),
            guess_name: name(picture.guess),
        };
        Self {
            model: settings.model.clone(),
            images: tally.images,
            top1: tally.top1_share(),
            top5: tally.top5_share(),
            loss: tally.mean_loss(),
            images_per_second: if *seconds > 0.0 { tally.images as f64 / seconds } else { 0.0 },
            skipped: tally.skipped.values().cloned().collect(),
            warnings: warnings.to_vec(),
            classes: details.per_class.then(|| tally.classes.iter().map(class_row).collect()),
            confusion: details.confusion.then(|| tally.confusion.iter().map(confusion_row).collect()),
            misclassified: details.misclassified.then(|| tally.misclassified.values().map(wrong).collect()),
            against: None,
            shards: shards.clone(),
            exact: Exact {
                top1: tally.top1,
                top5: tally.top5,
                loss: tally.loss.to_string(),
                not_finite: tally.not_finite,
                skipped: tally.skipped.keys().copied().collect(),
                seconds: *seconds,
            },
            settings: settings.clone(),
            imagenet,
        }
    }

    /// With the other run of the same pictures.
    #[must_use]
    pub fn with_against(self, against: Against) -> Self {
        Self { against: Some(against), ..self }
    }

    /// A short table beside the published figures.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let loss = self.loss.map_or("not finite".to_owned(), |loss| format!("{loss:.5}"));
        let (top1, top5) = (self.top1 * 100.0, self.top5 * 100.0);
        let mut line = |row: String| writeln!(text, "{row}").expect("a string takes everything");
        if self.images == 0 {
            line("this part has no picture".to_owned());
            return text;
        }
        line(format!(
            "{:<22} {:>8} {:>9} {:>9} {:>11} {:>10}",
            "", "images", "top-1", "top-5", "loss", "images/s"
        ));
        line(format!(
            "{:<22} {:>8} {top1:>7.3} % {top5:>7.3} % {loss:>11} {:>10.1}",
            self.model, self.images, self.images_per_second
        ));
        if let Some(against) = &self.against {
            let loss = against.loss.map_or("not finite".to_owned(), |loss| format!("{loss:.5}"));
            let (top1, top5) = (against.top1 * 100.0, against.top5 * 100.0);
            let device = &against.device;
            line(format!("{device:<22} {:>8} {top1:>7.3} % {top5:>7.3} % {loss:>11}", self.images));
        }
        if let Some(spec) = inception_nn::model(&self.model).ok().filter(|_| self.imagenet) {
            let (top1, top5) = (spec.reference.top1 * 100.0, spec.reference.top5 * 100.0);
            line(format!("{:<22} {:>8} {top1:>7.1} % {top5:>7.1} %", "published (ImageNet)", 50_000));
        }
        if let Some(Against { device, agreement, error, worst, .. }) = &self.against {
            line(format!(
                "\n{:.3} % have the top-1 class of {device}; logits differ by at most {:.2} % of the largest",
                agreement * 100.0,
                error * 100.0
            ));
            line(format!(
                "{:>6} {:>6} {:>8} {:>9}  the furthest apart",
                "class", "guess", "against", "error"
            ));
            for Apart { image, label, guess, against, error } in worst {
                line(format!("{label:>6} {guess:>6} {against:>8} {:>7.2} %  {image}", error * 100.0));
            }
        }
        if !self.skipped.is_empty() {
            line(format!("\n{} pictures could not be used:", self.skipped.len()));
            for Skipped { image, reason } in &self.skipped {
                line(format!("  {image}: {reason}"));
            }
        }
        if let Some(classes) = &self.classes {
            line(format!("\n{:>6} {:>8} {:>9} {:>9}  class", "class", "images", "top-1", "top-5"));
            for ClassRow { index, label, count } in classes {
                let share = |part: u64| part as f64 / count.images.max(1) as f64 * 100.0;
                let name = label.as_deref().unwrap_or_default();
                line(format!(
                    "{index:>6} {:>8} {:>7.2} % {:>7.2} %  {name}",
                    count.images,
                    share(count.top1),
                    share(count.top5)
                ));
            }
        }
        if let Some(confusion) = &self.confusion {
            line(format!("\n{:>6} {:>9} {:>8}", "class", "taken for", "images"));
            for ConfusionRow { label, guess, images, label_name, guess_name } in confusion {
                let names = label_name.as_ref().zip(guess_name.as_ref());
                let names = names.map(|(label, guess)| format!("  {label} -> {guess}")).unwrap_or_default();
                line(format!("{label:>6} {guess:>9} {images:>8}{names}"));
            }
        }
        text
    }
}

/// All optional parts.
const ALL: Details = Details { per_class: true, confusion: true, misclassified: true };

/// Merges the parts in `files`, each the state or the JSON report of a shard. The figures are exactly
/// those of a run over everything.
///
/// # Errors
///
/// [`Error::Merge`] if a part is missing, unfinished or given twice, or parts are of different evaluations;
/// [`Error::State`] if a file cannot be read.
pub fn merge(files: &[PathBuf], details: Details) -> Result<EvalReport, Error> {
    let fail = |problem| Error::Merge { problem };
    let mut seen: BTreeMap<usize, PathBuf> = BTreeMap::new();
    let mut whole: Option<(PathBuf, Evaluation)> = None;
    let mut warnings: Vec<String> = Vec::new();
    let mut has = ALL;
    for path in files {
        let part = read_part(path)?;
        let count = part.evaluation.shards.first().map_or(1, |shard| shard.count);
        for shard in &part.evaluation.shards {
            if let Some(first) = seen.insert(shard.index, path.clone()) {
                let (second, shard) = (path.clone(), shard.to_string());
                return Err(fail(MergeProblem::Twice { first, second, shard }));
            }
        }
        has.per_class &= part.details.per_class;
        has.confusion &= part.details.confusion;
        has.misclassified &= part.details.misclassified;
        warnings.extend(part.warnings);
        let Some((first, sum)) = &mut whole else {
            whole = Some((path.clone(), part.evaluation));
            continue;
        };
        let different = |(what, first_value, second_value)| {
            let (first, second) = (first.clone(), path.clone());
            fail(MergeProblem::Different { first, second, what, first_value, second_value })
        };
        if let Some(difference) = sum.settings.difference(&part.evaluation.settings) {
            return Err(different(difference));
        }
        let sum_count = sum.shards.first().map_or(1, |shard| shard.count);
        if sum_count != count {
            return Err(different(("number of shards".to_owned(), sum_count.to_string(), count.to_string())));
        }
        sum.shards.extend(&part.evaluation.shards);
        sum.seconds += part.evaluation.seconds;
        sum.tally.add_all(&part.evaluation.tally);
        sum.settings.labels = sum.settings.labels.take().or(part.evaluation.settings.labels);
    }
    let Some((_, mut whole)) = whole else { return Err(fail(MergeProblem::Nothing)) };
    let count = whole.shards.first().map_or(1, |shard| shard.count);
    let missing: Vec<String> = (0..count)
        .filter(|index| !seen.contains_key(index))
        .map(|index| format!("{index}/{count}"))
        .collect();
    if !missing.is_empty() {
        return Err(fail(MergeProblem::Missing { count, missing }));
    }
    whole.shards.sort_by_key(|shard| shard.index);
    warnings.sort();
    warnings.dedup();
    let details = Details {
        per_class: details.per_class && has.per_class,
        confusion: details.confusion && has.confusion,
        misclassified: details.misclassified && has.misclassified,
    };
    Ok(EvalReport::new(&whole, &warnings, details))
}

struct Part {
    evaluation: Evaluation,
    warnings: Vec<String>,
    details: Details,
}

fn read_part(path: &Path) -> Result<Part, Error> {
    let bytes = fs::read(path)
        .map_err(|source| Error::State { path: path.to_owned(), problem: StateProblem::Io { source } })?;
    let foreign = || Error::Merge { problem: MergeProblem::Foreign { path: path.to_owned() } };
    if let Some((settings, shard, records)) = state::read(&bytes) {
        let total = shard.batches(settings.batches()).count();
        let (tally, seconds, done) = Tally::of_records(&records, true);
        if done < total {
            let (path, missing) = (path.to_owned(), total - done);
            return Err(Error::Merge { problem: MergeProblem::Unfinished { path, missing, total } });
        }
        let evaluation = Evaluation { settings, shards: vec![shard], tally, seconds };
        return Ok(Part { evaluation, warnings: Vec::new(), details: ALL });
    }
    let report: EvalReport = serde_json::from_slice(&bytes).map_err(|_| foreign())?;
    let EvalReport { images, skipped, warnings, classes, confusion, shards, exact, settings, .. } = report;
    let misclassified = report.misclassified;
    let details = Details {
        per_class: classes.is_some(),
        confusion: confusion.is_some(),
        misclassified: misclassified.is_some(),
    };
    let consistent = exact.skipped.len() == skipped.len()
        && exact.top1 <= exact.top5
        && exact.top5 <= images
        && shards.iter().all(|shard| shard.index < shard.count);
    if !consistent {
        return Err(foreign());
    }
    let tally = Tally {
        images,
        top1: exact.top1,
        top5: exact.top5,
        loss: exact.loss.parse().map_err(|_| foreign())?,
        not_finite: exact.not_finite,
        classes: classes.into_iter().flatten().map(|row| (row.index, row.count)).collect(),
        confusion: confusion.into_iter().flatten().map(|row| ((row.label, row.guess), row.images)).collect(),
        skipped: exact.skipped.into_iter().zip(skipped).collect(),
        misclassified: misclassified
            .into_iter()
            .flatten()
            .map(|wrong| (wrong.picture.index, wrong.picture))
            .collect(),
    };
    Ok(Part { evaluation: Evaluation { settings, shards, tally, seconds: exact.seconds }, warnings, details })
}
