//! The page of a run: its curves, classes, confusions, and the pictures that it is most wrong about.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use inception::data::{Dataset, Resampler, RgbImage, resize};
use inception::{LabelTally, Outcome};
use inception_bench::html::{Caption, Series, escaped, line_chart, page};
use inception_train::{Best, EpochMetrics, Recipe};

use super::show::average_precision;

/// Pictures that are shown.
const PICTURES: usize = 24;

/// The longer side of a picture that is shown, in pixels.
const SIDE: u32 = 144;

/// Classes up to which every pair of classes has a cell in the table of confusions.
const MATRIX: usize = 30;

/// Pairs of classes that are listed where there are more classes.
const PAIRS: usize = 50;

const TRAINING: &str = "#005aa0";
const VALIDATION: &str = "#c85000";

/// A figure of an epoch, where it has one.
type Figure<'a> = &'a dyn Fn(&EpochMetrics) -> Option<f64>;

/// A picture's number, its classes and its logits.
pub type Labelled = (usize, Box<[u32]>, Vec<f32>);

/// Pictures by their number, and what a network made of them.
#[derive(Clone, Copy)]
pub enum Judged<'a> {
    /// Each has one class.
    One(&'a [(usize, Outcome)]),
    /// Each has any number of classes.
    Several(&'a [Labelled]),
}

/// A wrong picture.
struct WrongPicture {
    item: usize,
    /// What it is, and what it was taken for.
    what: String,
    /// `None` is no number.
    loss: Option<f64>,
}

/// What a page shows.
pub struct RunReport<'a> {
    pub model: &'a str,
    pub recipe: &'a Recipe,
    /// Names of all classes.
    pub classes: &'a [String],
    pub metrics: &'a [EpochMetrics],
    pub best: Option<Best>,
    /// Pictures for validation, and what the best epoch's network made of them.
    pub judged: Judged<'a>,
    pub pictures: &'a Dataset,
    /// Pictures that could not be used.
    pub skipped: usize,
    pub warnings: &'a [String],
}

impl RunReport<'_> {
    /// Writes the page to `path`.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        fs::write(path, self.html()?).with_context(|| format!("writing {}", path.display()))
    }

    fn html(&self) -> anyhow::Result<String> {
        let mut body = self.summary()?;
        body += &format!("<div class=\"charts\">\n{}\n</div>\n", self.charts().join("\n"));
        let classes = |table: String| format!("<h2>Classes</h2>\n<div class=\"table\">\n{table}</div>\n");
        match self.judged {
            Judged::One([]) | Judged::Several([]) => {}
            Judged::One(judged) => {
                let outcomes: Vec<Outcome> = judged.iter().map(|&(_, outcome)| outcome).collect();
                body += &classes(self.per_class(&outcomes));
                body += &self.confusions(&outcomes);
                body += &self.worst(self.wrong(judged), judged.len());
            }
            Judged::Several(judged) => {
                body += &classes(self.per_label(judged));
                body += &self.worst(self.wrong_labels(judged), judged.len());
            }
        }
        Ok(page(&format!("Training of {}", self.model), &body))
    }

    fn summary(&self) -> anyhow::Result<String> {
        let mut text = match self.best {
            Some(Best { epoch, validation: Some(validation) })
                if matches!(self.judged, Judged::Several(_)) =>
            {
                format!(
                    "<p>Best epoch: {epoch}, {}{:.2} % of the labels of {} pictures for validation right, loss \
                     {:.4}.</p>\n",
                    average_precision(validation.mean_average_precision),
                    validation.accuracy() * 100.0,
                    validation.pictures,
                    validation.loss
                )
            }
            Some(Best { epoch, validation: Some(validation) }) => format!(
                "<p>Best epoch: {epoch}, {:.2} % of {} pictures for validation right, loss {:.4}.</p>\n",
                validation.accuracy() * 100.0,
                validation.pictures,
                validation.loss
            ),
            Some(Best { epoch, validation: None }) => {
                format!("<p>{epoch} epochs, without pictures for validation.</p>\n")
            }
            None => "<p>No epoch was finished.</p>\n".to_owned(),
        };
        if self.skipped > 0 {
            text += &format!("<p>{} pictures could not be used.</p>\n", self.skipped);
        }
        for warning in self.warnings {
            text += &format!("<p>Warning: {}</p>\n", escaped(warning));
        }
        let recipe = serde_json::to_string(self.recipe)?;
        Ok(text + &format!("<p>Recipe: <code>{}</code></p>\n", escaped(&recipe)))
    }

    /// The curves that have two points.
    fn charts(&self) -> Vec<String> {
        let chart = |title: &str, lines: &[(&str, &str, Figure<'_>)]| {
            let series = lines.iter().map(|&(name, colour, value)| {
                let point = |epoch: &EpochMetrics| Some((f64::from(epoch.epoch), value(epoch)?));
                Series { name, colour, points: self.metrics.iter().filter_map(point).collect() }
            });
            let series: Vec<Series<'_>> = series.filter(|series| !series.points.is_empty()).collect();
            line_chart(&Caption { title, x: "epoch", y: title }, &series)
        };
        let charts = [
            chart(
                "loss",
                &[
                    ("training", TRAINING, &|epoch| Some(epoch.loss)),
                    ("validation", VALIDATION, &|epoch| epoch.val_loss),
                ],
            ),
            chart(
                "accuracy, %",
                &[
                    ("training", TRAINING, &|epoch| Some(epoch.accuracy * 100.0)),
                    ("validation", VALIDATION, &|epoch| Some(epoch.val_accuracy? * 100.0)),
                ],
            ),
            chart(
                "mean average precision, %",
                &[("validation", VALIDATION, &|epoch| Some(epoch.val_mean_average_precision? * 100.0))],
            ),
            chart("learning rate", &[("learning rate", TRAINING, &|epoch| Some(epoch.lr))]),
        ];
        charts.into_iter().flatten().collect()
    }

    fn name(&self, class: u32) -> String {
        escaped(&self.classes[class as usize])
    }

    /// Of each class with pictures for validation: how many, how many of them are right, and how many of those
    /// that were taken for it.
    fn per_class(&self, outcomes: &[Outcome]) -> String {
        let mut counts: BTreeMap<u32, [u32; 3]> = BTreeMap::new();
        for outcome in outcomes {
            let own = counts.entry(outcome.label).or_default();
            own[0] += 1;
            own[1] += u32::from(outcome.label == outcome.guess);
            counts.entry(outcome.guess).or_default()[2] += 1;
        }
        let share = |part: u32, all: u32| match all {
            0 => "–".to_owned(),
            all => format!("{:.1} %", f64::from(part) / f64::from(all) * 100.0),
        };
        let rows = counts.iter().map(|(&class, &[all, right, taken])| {
            let (name, recall, precision) = (self.name(class), share(right, all), share(right, taken));
            format!("<tr><td>{name}</td><td>{all}</td><td>{recall}</td><td>{precision}</td></tr>\n")
        });
        let head = "<tr><th>class</th><th>pictures</th><th>recall</th><th>precision</th></tr>\n";
        format!("<table>\n{head}{}</table>\n", rows.collect::<String>())
    }

    /// How often a class was taken for another.
    fn confusions(&self, outcomes: &[Outcome]) -> String {
        let mut counts: BTreeMap<(u32, u32), u32> = BTreeMap::new();
        for outcome in outcomes {
            *counts.entry((outcome.label, outcome.guess)).or_default() += 1;
        }
        let table = match self.classes.len() {
            0..=MATRIX => self.matrix(&counts),
            _ => self.pairs(counts),
        };
        format!("<h2>Confusions</h2>\n<div class=\"table\">\n{table}</div>\n")
    }

    /// A row for each class, a column for what its pictures were taken for.
    fn matrix(&self, counts: &BTreeMap<(u32, u32), u32>) -> String {
        let classes = 0..u32::try_from(self.classes.len()).expect("a few classes");
        let head = classes.clone().map(|class| format!("<th>{}</th>", self.name(class)));
        let mut table =
            format!("<table>\n<tr><th>class \\ taken for</th>{}</tr>\n", head.collect::<String>());
        for label in classes.clone() {
            let count = |guess| counts.get(&(label, guess)).copied().unwrap_or(0);
            let all: u32 = classes.clone().map(count).sum();
            table += &format!("<tr><th>{}</th>", self.name(label));
            for guess in classes.clone() {
                let [r, g, b] = if guess == label { [0, 120, 90] } else { [200, 80, 0] };
                let alpha = 0.6 * f64::from(count(guess)) / f64::from(all.max(1));
                let colour = format!("rgba({r},{g},{b},{alpha:.2})");
                table += &format!("<td style=\"background:{colour}\">{}</td>", count(guess));
            }
            table += "</tr>\n";
        }
        table + "</table>\n"
    }

    /// The pairs that are confused most often.
    fn pairs(&self, counts: BTreeMap<(u32, u32), u32>) -> String {
        let mut pairs: Vec<_> = counts.into_iter().filter(|((label, guess), _)| label != guess).collect();
        pairs.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        let rows = pairs.iter().take(PAIRS).map(|&((label, guess), count)| {
            format!("<tr><td>{}</td><td>{}</td><td>{count}</td></tr>\n", self.name(label), self.name(guess))
        });
        let head = "<tr><th>class</th><th>taken for</th><th>pictures</th></tr>\n";
        format!("<table>\n{head}{}</table>\n", rows.collect::<String>())
    }

    /// Of each class: how many pictures have it, how many of them are found, how many of those that were found
    /// have it, and the average precision.
    fn per_label(&self, judged: &[Labelled]) -> String {
        let mut tally = LabelTally::new(self.classes.len());
        judged.iter().for_each(|(_, labels, logits)| tally.add(labels, logits));
        let part = |part: u64, all: u64| (all > 0).then(|| part as f64 / all as f64);
        let share =
            |share: Option<f64>| share.map_or("–".to_owned(), |share| format!("{:.1} %", share * 100.0));
        let rows = tally.rows().into_iter().map(|row| {
            let (name, positives) = (self.name(row.index), row.positives);
            let recall = share(part(row.correct, positives));
            let precision = share(part(row.correct, row.guessed));
            let average = share(row.average_precision);
            format!(
                "<tr><td>{name}</td><td>{positives}</td><td>{recall}</td><td>{precision}</td><td>{average}</td></tr>\n"
            )
        });
        let head = "<tr><th>class</th><th>pictures</th><th>recall</th><th>precision</th>\
                    <th>average precision</th></tr>\n";
        format!("<table>\n{head}{}</table>\n", rows.collect::<String>())
    }

    /// The pictures that were taken for another class.
    fn wrong(&self, judged: &[(usize, Outcome)]) -> Vec<WrongPicture> {
        let wrong = judged.iter().filter(|(_, outcome)| outcome.label != outcome.guess);
        let picture = |&(item, outcome): &(usize, Outcome)| {
            let what = format!("{}, taken for {}", self.name(outcome.label), self.name(outcome.guess));
            WrongPicture { item, what, loss: outcome.loss.map(|loss| loss as f64 / Outcome::LOSS_UNIT) }
        };
        wrong.map(picture).collect()
    }

    /// The pictures of which a class is missing, or one too many.
    fn wrong_labels(&self, judged: &[Labelled]) -> Vec<WrongPicture> {
        let names = |classes: &[u32]| match classes {
            [] => "nothing".to_owned(),
            classes => classes.iter().map(|&class| self.name(class)).collect::<Vec<_>>().join(" and "),
        };
        let picture = |(item, labels, logits): &Labelled| {
            let guessed: Vec<u32> =
                (0..).zip(logits).filter(|(_, logit)| **logit > 0.0).map(|(class, _)| class).collect();
            let mut tally = LabelTally::new(logits.len());
            tally.add(labels, logits);
            let loss = Some(tally.loss()).filter(|loss| loss.is_finite());
            let what = format!("{}, taken for {}", names(labels), names(&guessed));
            (guessed != labels[..]).then_some(WrongPicture { item: *item, what, loss })
        };
        judged.iter().filter_map(picture).collect()
    }

    /// The wrong pictures of the largest loss, of `all` pictures.
    fn worst(&self, mut wrong: Vec<WrongPicture>, all: usize) -> String {
        // A loss that is no number is the largest.
        let loss = |picture: &WrongPicture| picture.loss.unwrap_or(f64::INFINITY);
        wrong.sort_by(|a, b| loss(b).total_cmp(&loss(a)));
        let mut html = format!("<h2>Wrong pictures</h2>\n<p>{} of {all}", wrong.len());
        html += &match wrong.len() {
            0..=PICTURES => ".</p>\n".to_owned(),
            _ => format!("; the {PICTURES} of the largest loss.</p>\n"),
        };
        html += "<div class=\"pictures\">\n";
        for WrongPicture { item, what, loss } in wrong.into_iter().take(PICTURES) {
            let path = escaped(&self.pictures.items()[item].path.display().to_string());
            let shown =
                match self.pictures.read(item).map_err(anyhow::Error::from).and_then(|p| thumbnail(&p)) {
                    Ok(png) => {
                        format!("<img alt=\"\" src=\"data:image/png;base64,{}\">", STANDARD.encode(png))
                    }
                    // It was read before; what is shown says where it was.
                    Err(_) => String::new(),
                };
            let loss = loss.map_or("no number".to_owned(), |loss| format!("{loss:.2}"));
            html +=
                &format!("<figure>{shown}<figcaption>{what}, loss {loss}<br>{path}</figcaption></figure>\n");
        }
        html + "</div>\n"
    }
}

/// A picture whose longer side is [`SIDE`] or less, as PNG.
fn thumbnail(picture: &RgbImage) -> anyhow::Result<Vec<u8>> {
    let longest = picture.width().max(picture.height()).max(SIDE);
    let scaled = |side: u32| (u64::from(side) * u64::from(SIDE)).div_ceil(longest.into()).max(1) as u32;
    let small = resize(picture, Resampler::PilBilinear, scaled(picture.width()), scaled(picture.height()))?;
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, small.width(), small.height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header()?.write_image_data(small.pixels())?;
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test fails by panicking.
mod tests {
    use super::*;

    #[test]
    fn pictures_keep_their_proportions() {
        let size = |width, height| {
            let pixels = vec![7; (width * height * 3) as usize];
            let png = thumbnail(&RgbImage::from_raw(width, height, pixels).unwrap()).unwrap();
            [16, 20].map(|at| u32::from_be_bytes(png[at..at + 4].try_into().unwrap()))
        };
        assert_eq!(size(288, 96), [144, 48]);
        assert_eq!(size(1, 1440), [1, 144]);
        assert_eq!(size(10, 20), [10, 20], "small ones stay as they are");
    }
}
