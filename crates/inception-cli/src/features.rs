//! `features`

use std::io::{self, Write, stdout};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use inception::data::{Dataset, LoaderOptions, ScanStats};
use inception::metrics::npy::{self, Element};
#[cfg(feature = "parquet")]
use inception::metrics::parquet;
use inception::nn::Output;
use inception::weights::PartFile;
use inception::{
    ExtractOptions, FeatureBatch, FeatureExtractor, FeatureSettings, FeatureState, RunOptions, Shard,
    Skipped, Weights, cores, dataset_hash, extract, probabilities,
};
use serde::Serialize;

use crate::args::{self, NetworkArgs};
use crate::files::create;
use crate::progress::Bar;

/// Which pictures of a dataset, and how they are read.
#[derive(Args)]
pub struct ReadArgs {
    /// Pictures in a batch
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub batch: u16,
    /// Threads that read and decode pictures [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub workers: Option<u16>,
    /// Only the first N pictures
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Only part I of N, counted from 0
    #[arg(long, value_name = "I/N", default_value = "0/1")]
    pub shard: Shard,
    /// Fail if more than this share of the pictures cannot be used
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = args::share)]
    pub max_skipped: f64,
}

impl ReadArgs {
    /// The options of an extraction.
    pub fn options(&self) -> ExtractOptions {
        let loader = LoaderOptions {
            batch: self.batch.into(),
            workers: self.workers.map_or_else(cores, usize::from),
            prefetch: 2,
        };
        ExtractOptions { shard: self.shard, loader, max_skipped: self.max_skipped }
    }

    /// The pictures of `path`, without classes.
    pub fn open(&self, path: &Path) -> anyhow::Result<Arc<Dataset>> {
        let mut dataset = Dataset::open_unlabelled(path)?;
        if let Some(limit) = self.limit {
            dataset.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        }
        let stats = dataset.scan_stats();
        if stats != ScanStats::default() {
            stderrln!("{}: {stats}", path.display());
        }
        Ok(Arc::new(dataset))
    }
}

/// Everything that the features of `dataset` depend on.
pub fn settings(
    extractor: &FeatureExtractor,
    weights: &Weights,
    run: &RunOptions,
    layer: &str,
    dataset: &Dataset,
    batch: usize,
) -> anyhow::Result<FeatureSettings> {
    let model = extractor.spec().name;
    Ok(FeatureSettings {
        model: model.to_owned(),
        weights: weights.identity().with_context(|| format!("reading the weights of {model}"))?,
        device: run.description(),
        layer: layer.to_owned(),
        recipe: *extractor.recipe(),
        dataset: dataset_hash(dataset),
        pictures: dataset.len(),
        dimensions: extractor.dimensions(),
        batch,
    })
}

/// The state in `path`, if there is one to keep.
pub fn state(
    path: Option<&Path>,
    settings: impl FnOnce() -> anyhow::Result<FeatureSettings>,
    shard: Shard,
) -> anyhow::Result<Option<FeatureState>> {
    path.map(|path| Ok(FeatureState::open(path, &settings()?, shard)?)).transpose()
}

/// Types of numbers in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Dtype {
    F32,
    F16,
}

#[derive(Args)]
pub struct Features {
    #[command(flatten)]
    network: NetworkArgs,
    /// Pictures: a folder at any depth, an archive (tar, tar.gz, zip), a list with a path a line, or Parquet
    /// (needs the feature `parquet`)
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// The file to write; its extension says the format: .npy, .safetensors, or .parquet with the paths of
    /// the pictures (needs the feature `parquet`)
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// What is taken of the network: `pooled` (what its classifier reads), `logits`, `probabilities`, or a
    /// stage, averaged over places
    #[arg(long, value_name = "LAYER", default_value = "pooled")]
    layer: String,
    /// Type of the numbers in the file
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    dtype: Dtype,
    /// Write the pictures' paths to FILE, a line for each row
    #[arg(long, value_name = "FILE")]
    paths: Option<PathBuf>,
    /// Keep finished batches in FILE, and continue from there
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    #[command(flatten)]
    read: ReadArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    images: u64,
    dimensions: usize,
    file: PathBuf,
    images_per_second: f64,
    skipped: Vec<Skipped>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

impl Features {
    pub fn run(&self) -> anyhow::Result<()> {
        let [spec] = self.network.models.models[..] else { bail!("features are those of one --model") };
        let format = Format::of(&self.to)?;
        let run_options = self.network.device.apply()?;
        let layer = self.layer.to_lowercase();
        let output = match layer.as_str() {
            "pooled" => Output::Pooled,
            "logits" | "probabilities" => Output::Logits,
            stage => Output::Stage(stage.to_owned()),
        };
        let (weights, extractor, warnings) = self.network.extractor(spec, output, &run_options)?;
        stderrln!("{}: {}", spec.name, serde_json::to_string(extractor.recipe())?);
        let dataset = self.read.open(&self.data)?;
        let settings =
            || settings(&extractor, &weights, &run_options, &self.layer, &dataset, self.read.batch.into());
        let mut state = state(self.resume.as_deref(), settings, self.read.shard)?;
        let mut target =
            Target::new(format, &self.to, self.dtype, extractor.dimensions(), self.paths.as_deref())?;
        let mut bar = Bar::new();
        let extraction = extract(
            &extractor,
            &dataset,
            &self.read.options(),
            state.as_mut(),
            |batch: &FeatureBatch| -> anyhow::Result<()> {
                let paths = batch.pictures.iter().map(|&index| &*dataset.items()[index].path);
                if layer != "probabilities" {
                    return target.add(&batch.features, paths);
                }
                let rows = batch.features.chunks_exact(extractor.dimensions());
                let rows = rows.flat_map(|logits| probabilities(logits, extractor.activation()));
                target.add(&rows.map(|share| share as f32).collect::<Vec<_>>(), paths)
            },
            |progress| bar.show_extraction(&progress),
        );
        bar.finish();
        let extraction = extraction?;
        if let (Some(path), true) = (&self.resume, state.as_ref().is_some_and(FeatureState::torn)) {
            stderrln!("warning: the last batch in {} was not whole; it was computed again", path.display());
        }
        ensure!(extraction.images > 0, "no picture of this part could be used");
        target.finish()?;
        let report = Report {
            images: extraction.images,
            dimensions: extractor.dimensions(),
            file: self.to.clone(),
            images_per_second: extraction.computed as f64 / extraction.seconds.max(1e-9),
            skipped: extraction.skipped,
            warnings,
        };
        self.print(&report)
    }

    fn print(&self, report: &Report) -> anyhow::Result<()> {
        let mut out = stdout().lock();
        match self.json {
            true => writeln!(out, "{}", serde_json::to_string(report)?)?,
            false => writeln!(
                out,
                "{}: {} pictures, {} features each, {:.1} images/s, {} skipped",
                report.file.display(),
                report.images,
                report.dimensions,
                report.images_per_second,
                report.skipped.len()
            )?,
        }
        Ok(())
    }
}

/// The formats of feature files.
#[derive(Clone, Copy)]
enum Format {
    Npy,
    Safetensors,
    #[cfg(feature = "parquet")]
    Parquet,
}

/// The build writes no Parquet.
#[derive(Debug, thiserror::Error)]
#[error("{}: this build cannot write Parquet: it lacks the feature `parquet`", .0.display())]
#[cfg(not(feature = "parquet"))]
pub struct NoParquet(PathBuf);

impl Format {
    fn of(path: &Path) -> anyhow::Result<Self> {
        match path.extension().and_then(|extension| extension.to_str()).map(str::to_lowercase).as_deref() {
            Some("npy") => Ok(Self::Npy),
            Some("safetensors") => Ok(Self::Safetensors),
            #[cfg(feature = "parquet")]
            Some("parquet") => Ok(Self::Parquet),
            #[cfg(not(feature = "parquet"))]
            Some("parquet") => Err(NoParquet(path.to_owned()).into()),
            _ => bail!("{}: the name has to end in .npy, .safetensors or .parquet", path.display()),
        }
    }
}

/// A file of rows under way.
struct Target {
    path: PathBuf,
    rows: Rows,
    paths: Option<PartFile>,
}

enum Rows {
    Npy(npy::Writer<PartFile>),
    Safetensors(Safetensors),
    #[cfg(feature = "parquet")]
    Parquet(Box<parquet::Writer<PartFile>>),
}

impl Target {
    fn new(
        format: Format,
        path: &Path,
        dtype: Dtype,
        dimensions: usize,
        paths: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let element = match dtype {
            Dtype::F32 => Element::F32,
            Dtype::F16 => Element::F16,
        };
        let rows = create(path)?;
        let rows = match format {
            Format::Npy => Rows::Npy(npy::Writer::new(rows, element, dimensions)?),
            Format::Safetensors => Rows::Safetensors(Safetensors::new(rows, element, dimensions)?),
            #[cfg(feature = "parquet")]
            Format::Parquet => Rows::Parquet(Box::new(parquet::Writer::new(rows, element, dimensions)?)),
        };
        Ok(Self { path: path.to_owned(), rows, paths: paths.map(create).transpose()? })
    }

    fn add<'a>(&mut self, rows: &[f32], paths: impl Iterator<Item = &'a Path> + Clone) -> anyhow::Result<()> {
        let added = match &mut self.rows {
            Rows::Npy(writer) => writer.add(rows),
            Rows::Safetensors(writer) => writer.add(rows),
            #[cfg(feature = "parquet")]
            Rows::Parquet(writer) => writer.add(rows, paths.clone()),
        };
        added.with_context(|| format!("writing {}", self.path.display()))?;
        if let Some(file) = &mut self.paths {
            for path in paths {
                writeln!(file, "{}", path.display())?;
            }
        }
        Ok(())
    }

    fn finish(self) -> anyhow::Result<()> {
        let finished = match self.rows {
            Rows::Npy(writer) => writer.finish(),
            Rows::Safetensors(writer) => writer.finish(),
            #[cfg(feature = "parquet")]
            Rows::Parquet(writer) => writer.finish(),
        };
        finished.and_then(PartFile::finish).with_context(|| format!("writing {}", self.path.display()))?;
        Ok(self.paths.map_or(Ok(()), PartFile::finish)?)
    }
}

/// A `.safetensors` file with one tensor `features`, whose rows are counted at the end.
struct Safetensors {
    file: PartFile,
    element: Element,
    dimensions: usize,
    rows: usize,
}

/// Bytes of its header, filled up with spaces, which the format allows.
const HEADER: usize = 248;

impl Safetensors {
    fn new(mut file: PartFile, element: Element, dimensions: usize) -> io::Result<Self> {
        file.write_all(&[b' '; 8 + HEADER])?;
        Ok(Self { file, element, dimensions, rows: 0 })
    }

    fn add(&mut self, rows: &[f32]) -> io::Result<()> {
        self.rows += rows.len() / self.dimensions;
        self.file.write_all(&npy::bytes_of(self.element, rows))
    }

    fn finish(mut self) -> io::Result<PartFile> {
        let dtype = if self.element == Element::F16 { "F16" } else { "F32" };
        let (shape, bytes) =
            ([self.rows, self.dimensions], self.rows * self.dimensions * self.element.size());
        let header =
            format!(r#"{{"features":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[0,{bytes}]}}}}"#);
        io::Seek::rewind(&mut self.file)?;
        self.file.write_all(&(HEADER as u64).to_le_bytes())?;
        self.file.write_all(format!("{header:HEADER$}").as_bytes())?;
        Ok(self.file)
    }
}
