//! `fid`

use std::collections::BTreeSet;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use inception::data::Dataset;
use inception::metrics::{
    Features, Gaussian, Interval, KernelOptions, Sums, bootstrap, frechet_distance, inception_score,
    kernel_distance, npy, npz, precision_recall,
};
use inception::nn::Output;
use inception::weights::PartFile;
use inception::{
    FeatureBatch, FeatureExtractor, FeatureState, FidProtocol, PROTOCOLS, Preparation, RunOptions, Skipped,
    Weights, extract, model,
};
use serde::Serialize;

use crate::args::{DeviceArgs, OptionalWeightArgs};
use crate::features::{ReadArgs, settings, state};
use crate::files::create;
use crate::progress::Bar;

/// The most subsets, splits and samples, whose numbers are kept in memory.
const MOST: i64 = 1_000_000;

/// What can be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Metric {
    Fid,
    Kid,
    InceptionScore,
    PrecisionRecall,
}

/// Parses a protocol's name.
fn protocol(name: &str) -> Result<&'static FidProtocol, String> {
    let known: Vec<&str> = PROTOCOLS.iter().map(|protocol| protocol.name).collect();
    PROTOCOLS
        .iter()
        .find(|protocol| protocol.name.eq_ignore_ascii_case(name))
        .ok_or_else(|| format!("the protocols are {}", known.join(", ")))
}

#[derive(Args)]
pub struct Fid {
    /// The generated pictures A and the real ones B: each a folder at any depth, an archive, a list with a
    /// path a line, Parquet, features (.npy), or statistics (.npz with mu and sigma)
    #[arg(value_name = "A B", required = true, num_args = 1..)]
    inputs: Vec<PathBuf>,
    /// Whose recipe for pictures, whose subsets: pytorch-fid, clean-fid, torch-fidelity or torchmetrics
    #[arg(long, value_name = "TOOL", default_value = "pytorch-fid", value_parser = protocol)]
    protocol: &'static FidProtocol,
    /// Only these: fid, kid, inception-score, precision-recall; several with commas between [default: all]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    metrics: Vec<Metric>,
    #[command(flatten)]
    weights: OptionalWeightArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    read: ReadArgs,
    /// Write the statistics of A to FILE (.npz); B may be left out then
    #[arg(long, value_name = "FILE")]
    save_stats: Option<PathBuf>,
    /// Merge statistics of parts, which --save-stats wrote with --shard, to --save-stats
    #[arg(long, requires = "save_stats")]
    merge: bool,
    /// Keep finished batches in FOLDER, and continue from there
    #[arg(long, value_name = "FOLDER")]
    resume: Option<PathBuf>,
    /// Subsets of the kernel distance
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=MOST))]
    kid_subsets: u32,
    /// Pictures in each of them; fewer where there are fewer
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..))]
    kid_size: u32,
    /// Splits of the Inception Score
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=MOST))]
    splits: u32,
    /// How many nearest pictures make a neighbourhood, for precision and recall
    #[arg(long, value_name = "K", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    neighbours: u32,
    /// An interval for FID from N samples of the pictures, drawn with replacement; each takes as long as FID
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=MOST))]
    bootstrap: Option<u32>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A mean and a standard deviation.
#[derive(Clone, Copy, Debug, Serialize)]
struct Spread {
    mean: f64,
    std: f64,
}

/// What `--json` prints.
#[derive(Default, Serialize)]
struct Report {
    fid: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval: Option<Bounds>,
    kid: Option<Spread>,
    inception_score: Option<Spread>,
    precision: Option<f64>,
    recall: Option<f64>,
    images: Vec<Option<u64>>,
    protocol: &'static str,
    dimensions: usize,
    images_per_second: Option<f64>,
    skipped: Vec<Skipped>,
    warnings: Vec<String>,
}

/// Where 95 of 100 distances of resampled pictures lie.
#[derive(Clone, Copy, Debug, Serialize)]
struct Bounds {
    low: f64,
    high: f64,
    std: f64,
}

impl From<Interval> for Bounds {
    fn from(Interval { low, high, std }: Interval) -> Self {
        Self { low, high, std }
    }
}

/// What is known of a side.
struct Side {
    gaussian: Gaussian,
    sums: Option<Sums>,
    /// All of them, where something needs them.
    features: Option<Features>,
    skipped: Vec<Skipped>,
    /// Pictures computed, and in how many seconds.
    speed: (u64, f64),
}

/// An input before anything is computed.
enum Input {
    /// A file of statistics or of features.
    Known(Box<Side>),
    Pictures(Arc<Dataset>),
}

/// The network, once something has to be computed.
struct Network {
    extractor: FeatureExtractor,
    weights: Weights,
    options: RunOptions,
}

impl Fid {
    pub fn run(&self) -> anyhow::Result<()> {
        if self.merge {
            return self.merge();
        }
        match self.inputs.len() {
            1 => ensure!(self.save_stats.is_some(), "A alone has no distance; give B, or --save-stats FILE"),
            2 => ensure!(
                self.read.shard.count == 1,
                "--shard is for the statistics of one side: give A alone, and --save-stats FILE"
            ),
            count => bail!("{count} inputs: A and B are wanted, or with --merge statistics of parts"),
        }
        // The distances are computed on the threads asked for, too, whether there are pictures or not.
        let options = self.device.apply()?;
        let statistics = self.statistics()?;
        let (mut sides, network, missing) = self.sides(options)?;
        let mut warnings: Vec<String> =
            network.iter().flat_map(|network| network.extractor.warnings().to_vec()).collect();
        for (path, side) in self.inputs.iter().zip(&sides) {
            warnings.extend(doubts(path, &side.gaussian));
        }
        warnings.extend(missing);
        warnings.iter().for_each(|warning| stderrln!("warning: {warning}"));
        let mut report = self.compare(&sides, network.as_ref(), &mut warnings)?;
        let (computed, seconds) =
            sides.iter().fold((0, 0.0), |(n, time), side| (n + side.speed.0, time + side.speed.1));
        report.images_per_second = (computed > 0).then(|| computed as f64 / seconds.max(1e-9));
        report.images = sides.iter().map(|side| side.gaussian.images()).collect();
        report.dimensions = sides[0].gaussian.dimensions();
        report.protocol = self.protocol.name;
        report.skipped = sides.iter().flat_map(|side| side.skipped.clone()).collect();
        report.warnings = warnings;
        // Either is kept where the other one fails.
        let printed = self.print(&report);
        if let (Some(file), Some(sums)) = (statistics, &mut sides[0].sums) {
            file.finish(sums)?;
        }
        printed
    }

    /// The file of `--save-stats`, so that one that cannot be written is found before anything is computed.
    fn statistics(&self) -> anyhow::Result<Option<Statistics<'_>>> {
        self.save_stats.as_deref().map(Statistics::create).transpose()
    }

    fn wants(&self, metric: Metric) -> bool {
        self.metrics.is_empty() || self.metrics.contains(&metric)
    }

    /// Whether features have to be kept, and not only their sums.
    fn keeps_features(&self) -> bool {
        let others = [Metric::Kid, Metric::InceptionScore, Metric::PrecisionRecall];
        self.inputs.len() > 1
            && (self.bootstrap.is_some() || others.into_iter().any(|metric| self.wants(metric)))
    }

    /// What is known of the inputs, the network, if there are pictures, and what cannot be computed of them. What is
    /// wrong with a file or with a path is found before anything is computed.
    fn sides(&self, options: RunOptions) -> anyhow::Result<(Vec<Side>, Option<Network>, Vec<String>)> {
        let inputs: Vec<Input> = self.inputs.iter().map(|path| self.input(path)).collect::<Result<_, _>>()?;
        let missing = self.missing(&inputs)?;
        if let (Some(_), [Input::Known(side), ..]) = (&self.save_stats, &inputs[..]) {
            let path = self.inputs[0].display();
            ensure!(side.sums.is_some(), "{path} is statistics of another tool already");
        }
        let has_pictures = inputs.iter().any(|input| matches!(input, Input::Pictures(_)));
        let network = has_pictures.then(|| self.network(options)).transpose()?;
        let mut sides = Vec::new();
        for (path, input) in self.inputs.iter().zip(&inputs) {
            if let (Input::Known(side), Some(network)) = (input, &network) {
                let (first, second) = (side.gaussian.dimensions(), network.extractor.dimensions());
                let error = inception::metrics::Error::Dimensions { first, second };
                ensure!(first == second, "{} and the network's pictures: {error}", path.display());
            }
        }
        for (number, (path, input)) in (1..).zip(self.inputs.iter().zip(inputs)) {
            sides.push(match (input, &network) {
                (Input::Known(side), _) => *side,
                (Input::Pictures(dataset), Some(network)) => self.extract(path, number, network, &dataset)?,
                (Input::Pictures(_), None) => bail!("{}: no network", path.display()),
            });
        }
        Ok((sides, network, missing))
    }

    /// What needs more than the inputs have: an error for what was asked for by name, and a text for the rest.
    fn missing(&self, inputs: &[Input]) -> anyhow::Result<Vec<String>> {
        let mut missing = Vec::new();
        let [a, _] = inputs else { return Ok(missing) };
        let names = |(path, input): (&PathBuf, &Input)| match input {
            Input::Known(side) if side.features.is_none() => Some(path.display().to_string()),
            _ => None,
        };
        let alone: Vec<String> = self.inputs.iter().zip(inputs).filter_map(names).collect();
        let mut need = |asked: bool, metrics: &[Metric], reason: String| {
            ensure!(!asked && !metrics.iter().any(|metric| self.metrics.contains(metric)), "{reason}");
            if metrics.iter().any(|metric| self.wants(*metric)) {
                missing.push(format!("not computed: {reason}"));
            }
            Ok(())
        };
        if !alone.is_empty() {
            let reason = format!(
                "KID, precision, recall and --bootstrap need features of both sides; {} has statistics alone",
                alone.join(" and ")
            );
            need(self.bootstrap.is_some(), &[Metric::Kid, Metric::PrecisionRecall], reason)?;
        }
        if let Input::Known(_) = a {
            let path = self.inputs[0].display();
            let reason = format!("the Inception Score needs pictures; {path} holds features or statistics");
            need(false, &[Metric::InceptionScore], reason)?;
        }
        Ok(missing)
    }

    /// Opens an input.
    fn input(&self, path: &Path) -> anyhow::Result<Input> {
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        let (skipped, speed) = (Vec::new(), (0, 0.0));
        let side = match extension.as_str() {
            "npz" => {
                let npz::Statistics { gaussian, sums, .. } = npz::read(path)?;
                Side { gaussian, sums, features: None, skipped, speed }
            }
            "npy" => {
                let features = npy::read_features(path)?;
                let mut sums = Sums::new(features.dimensions())?;
                sums.add(features.values()).with_context(|| path.display().to_string())?;
                let gaussian = sums.gaussian().with_context(|| path.display().to_string())?;
                Side { gaussian, sums: Some(sums), features: Some(features), skipped, speed }
            }
            _ => return Ok(Input::Pictures(self.read.open(path)?)),
        };
        Ok(Input::Known(Box::new(side)))
    }

    fn network(&self, options: RunOptions) -> anyhow::Result<Network> {
        let spec = model(self.protocol.model)?;
        let weights = self.weights.weights(spec, self.device.seed())?;
        let recipe = |_| Preparation::Stretch(self.protocol.stretch);
        let extractor = FeatureExtractor::new(spec, &weights, Output::Pooled, &options, recipe)?;
        Ok(Network { extractor, weights, options })
    }

    /// Computes the features of pictures.
    fn extract(
        &self,
        path: &Path,
        number: usize,
        network: &Network,
        dataset: &Arc<Dataset>,
    ) -> anyhow::Result<Side> {
        let Network { extractor, weights, options } = network;
        let file = self.resume.as_ref().map(|folder| {
            std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
            Ok::<_, anyhow::Error>(folder.join(format!("{number}.features")))
        });
        let batch = self.read.batch.into();
        let settings = || settings(extractor, weights, options, "pooled", dataset, batch);
        let mut state = state(file.transpose()?.as_deref(), settings, self.read.shard)?;
        let mut sums = Sums::new(extractor.dimensions())?;
        let mut features = match self.keeps_features() {
            true => Some(Features::new(extractor.dimensions(), Vec::new())?),
            false => None,
        };
        let mut bar = Bar::new();
        let extraction = extract(
            extractor,
            dataset,
            &self.read.options(),
            state.as_mut(),
            |batch: &FeatureBatch| -> anyhow::Result<()> {
                sums.add(&batch.features)?;
                features.as_mut().map_or(Ok(()), |features| features.extend(&batch.features))?;
                Ok(())
            },
            |progress| bar.show_extraction(&progress),
        );
        bar.finish();
        let extraction = extraction.with_context(|| path.display().to_string())?;
        if state.as_ref().is_some_and(FeatureState::torn) {
            stderrln!("warning: the last batch of {} was not whole; it was computed again", path.display());
        }
        let gaussian = sums.gaussian().with_context(|| path.display().to_string())?;
        let speed = (extraction.computed, extraction.seconds);
        Ok(Side { gaussian, sums: Some(sums), features, skipped: extraction.skipped, speed })
    }

    /// All metrics that are asked for and can be computed of what there is.
    fn compare(
        &self,
        sides: &[Side],
        network: Option<&Network>,
        warnings: &mut Vec<String>,
    ) -> anyhow::Result<Report> {
        let mut report = Report::default();
        let [a, b] = sides else { return Ok(report) };
        // Sizes are compared whatever is asked for.
        let distance = frechet_distance(&a.gaussian, &b.gaussian)?;
        report.fid = self.wants(Metric::Fid).then_some(distance.distance);
        let draw = || (self.protocol.generator)(self.device.seed());
        let mut note = |error: inception::metrics::Error| {
            let warning = format!("not computed: {error}");
            stderrln!("warning: {warning}");
            warnings.push(warning);
        };
        if let (Some(generated), Some(real)) = (&a.features, &b.features) {
            if self.wants(Metric::Kid) {
                let options = KernelOptions {
                    subsets: self.kid_subsets as usize,
                    size: self.kid_size as usize,
                    second_first: self.protocol.real_first,
                };
                let kid = kernel_distance(generated, real, &options, &mut draw());
                report.kid = kid.map(|kid| Spread { mean: kid.mean, std: kid.std }).map_err(&mut note).ok();
            }
            if self.wants(Metric::PrecisionRecall) {
                let found =
                    precision_recall(generated, real, self.neighbours as usize).map_err(&mut note).ok();
                report.precision = found.map(|found| found.precision);
                report.recall = found.map(|found| found.recall);
            }
            if let Some(samples) = self.bootstrap {
                report.interval = Some(bootstrap(generated, real, samples as usize, &mut draw())?.into());
            }
        }
        if let (Some(features), Some(Network { extractor, .. }), true) =
            (&a.features, network, self.wants(Metric::InceptionScore))
        {
            let logits = features.times(extractor.classifier())?;
            let (splits, FidProtocol { chunks, spread, .. }) = (self.splits as usize, *self.protocol);
            let score = inception_score(&logits, splits, chunks, spread, &mut draw()).map_err(&mut note);
            report.inception_score = score.map(|score| Spread { mean: score.mean, std: score.std }).ok();
        }
        Ok(report)
    }

    /// Adds the statistics of parts.
    fn merge(&self) -> anyhow::Result<()> {
        let (mut whole, mut seen): (Option<Sums>, _) = (None, BTreeSet::new());
        let statistics = self.statistics()?;
        for path in &self.inputs {
            ensure!(seen.insert(std::fs::canonicalize(path)?), "{} is given twice", path.display());
            let Some(sums) = npz::read(path)?.sums else {
                bail!("{} has no exact sums: --save-stats did not write it", path.display())
            };
            match &mut whole {
                Some(whole) => whole.merge(sums).with_context(|| path.display().to_string())?,
                None => whole = Some(sums),
            }
        }
        let (Some(mut whole), Some(file)) = (whole, statistics) else { return Ok(()) };
        file.finish(&mut whole)?;
        let images = vec![Some(whole.images())];
        let (protocol, dimensions) = (self.protocol.name, whole.dimensions());
        self.print(&Report { images, protocol, dimensions, ..Report::default() })
    }

    fn print(&self, report: &Report) -> anyhow::Result<()> {
        let mut out = stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string(report)?)?;
            return Ok(());
        }
        let counts: Vec<String> = report
            .images
            .iter()
            .map(|count| count.map_or("?".to_owned(), |count| count.to_string()))
            .collect();
        writeln!(out, "pictures         {}", counts.join(" and "))?;
        let mut line = |name: &str, value: Option<String>| match value {
            Some(value) => writeln!(out, "{name:<16} {value}"),
            None => Ok(()),
        };
        let spread =
            |value: Option<Spread>| value.map(|Spread { mean, std }| format!("{mean:.6} (std {std:.6})"));
        line("FID", report.fid.map(|fid| format!("{fid:.6}  ({})", report.protocol)))?;
        line(
            "  of samples",
            report.interval.map(|i| format!("{:.4} to {:.4} (std {:.4})", i.low, i.high, i.std)),
        )?;
        line("KID", spread(report.kid))?;
        line("Inception Score", spread(report.inception_score))?;
        line("precision", report.precision.map(|share| format!("{share:.4}")))?;
        line("recall", report.recall.map(|share| format!("{share:.4}")))?;
        line("statistics", self.save_stats.as_ref().map(|path| path.display().to_string()))?;
        line("skipped", (!report.skipped.is_empty()).then(|| report.skipped.len().to_string()))?;
        Ok(())
    }
}

/// A file of statistics under way.
struct Statistics<'a> {
    path: &'a Path,
    file: PartFile,
}

impl<'a> Statistics<'a> {
    fn create(path: &'a Path) -> anyhow::Result<Self> {
        Ok(Self { path, file: create(path)? })
    }

    fn finish(mut self, sums: &mut Sums) -> anyhow::Result<()> {
        npz::write(&mut self.file, self.path, sums)?;
        self.file.finish().with_context(|| format!("writing {}", self.path.display()))
    }
}

/// What makes a distance to these statistics worth less.
fn doubts(path: &Path, side: &Gaussian) -> Option<String> {
    let (images, dimensions) = (side.images()?, side.dimensions());
    let path = path.display();
    if side.trace() == 0.0 {
        return Some(format!("{path}: all {images} pictures have the same features"));
    }
    (images <= dimensions as u64).then(|| {
        format!(
            "{path}: {images} pictures for {dimensions} features: the covariance is singular, and FID is far too large \
             by its bias; it falls as pictures are added, and is to be compared for equal numbers only"
        )
    })
}
