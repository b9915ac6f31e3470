//! `eval` of pictures of any number of classes each.

use std::fmt::Write as _;
use std::io::{Write, stdout};
use std::path::Path;

use anyhow::ensure;
use inception::data::{Dataset, DatasetOptions, LoaderOptions};
use inception::weights::Activation;
use inception::{Classifier, LabelRow, LabelTally, Skipped, check_skipped, run_batches};
use serde::Serialize;

use crate::progress::Bar;

/// How pictures are read, and what is printed.
pub struct LabelOptions<'a> {
    pub model: &'a str,
    pub loader: LoaderOptions,
    pub max_skipped: f64,
    pub per_class: bool,
    pub json: bool,
}

/// The JSON object.
#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    images: u64,
    /// The binary cross entropy; nothing where it is no finite number.
    loss: Option<f64>,
    accuracy: f64,
    mean_average_precision: Option<f64>,
    skipped: &'a [Skipped],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    classes: Option<Vec<Row<'a>>>,
}

#[derive(Serialize)]
struct Row<'a> {
    label: Option<&'a str>,
    #[serde(flatten)]
    row: LabelRow,
}

/// Evaluates `classifier` on the table of labels `path`, and prints what came out.
pub fn evaluate(
    classifier: &Classifier,
    path: &Path,
    dataset_options: &DatasetOptions,
    options: &LabelOptions<'_>,
    warnings: &[String],
) -> anyhow::Result<()> {
    ensure!(
        classifier.activation() == Activation::Sigmoid,
        "{} is a table of labels, by which a picture has any number of classes; those of these weights exclude \
         each other",
        path.display()
    );
    let (dataset, found) = Dataset::open_multilabel(path, dataset_options)?;
    let classes = classifier.num_classes();
    ensure!(found.count == classes, "{}: {} classes, the network has {classes}", path.display(), found.count);
    let mut tally = LabelTally::new(classes);
    let mut skipped: Vec<Skipped> = Vec::new();
    let (mut bar, total) = (Bar::new(), dataset.len() as u64);
    let batches = dataset.len().div_ceil(options.loader.batch);
    let (runner, preprocessing) = (classifier.runner(), classifier.preprocessing());
    let done = run_batches(runner, &dataset, preprocessing, &options.loader, 0..batches, |batch, logits| {
        let logits = logits.unwrap_or_else(|| vec![0.0; batch.items.len() * classes]);
        for (item, logits) in batch.items.clone().zip(logits.chunks_exact(classes)) {
            let picture = &dataset.items()[item];
            match batch.skipped.iter().find(|(index, _)| *index == item) {
                Some((_, error)) => skipped.push(Skipped::new(&picture.path, error)),
                None => tally.add(picture.labels.as_deref().unwrap_or_default(), logits),
            }
        }
        let done = batch.items.end as u64;
        bar.name_skipped(skipped.iter());
        bar.show(done, done, total, "");
        check_skipped(skipped.len(), skipped.first(), total, options.max_skipped)
    });
    bar.finish();
    done?;
    print(&tally, classifier.labels(), &skipped, options, warnings)
}

fn print(
    tally: &LabelTally,
    labels: Option<&[String]>,
    skipped: &[Skipped],
    options: &LabelOptions<'_>,
    warnings: &[String],
) -> anyhow::Result<()> {
    let label = |row: &LabelRow| labels.and_then(|labels| Some(&labels.get(row.index as usize)?[..]));
    let report = Report {
        model: options.model,
        images: tally.pictures(),
        loss: Some(tally.loss()).filter(|loss| loss.is_finite()),
        accuracy: tally.accuracy(),
        mean_average_precision: tally.mean_average_precision(),
        skipped,
        warnings,
        classes: options
            .per_class
            .then(|| tally.rows().into_iter().map(|row| Row { label: label(&row), row }).collect()),
    };
    let text = match options.json {
        true => serde_json::to_string(&report)? + "\n",
        false => table(&report),
    };
    let mut out = stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

fn table(report: &Report<'_>) -> String {
    let percent =
        |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{:.2} %", value * 100.0));
    let mut text = format!(
        "{}: {} pictures, {} skipped: mAP {}, {} of the labels right, loss {}\n",
        report.model,
        report.images,
        report.skipped.len(),
        percent(report.mean_average_precision),
        percent(Some(report.accuracy)),
        report.loss.map_or("no finite number".to_owned(), |loss| format!("{loss:.4}")),
    );
    for Row { label, row } in report.classes.iter().flatten() {
        let name = label.map_or_else(|| row.index.to_string(), str::to_owned);
        let LabelRow { positives, guessed, correct, average_precision, .. } = row;
        let average = percent(*average_precision);
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{name}: {positives} have it, {guessed} are taken for it, {correct} of these have it; average \
             precision {average}"
        );
    }
    text
}
