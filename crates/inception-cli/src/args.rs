//! Flags that several commands have.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, ensure};
use clap::{Args, ValueEnum};
use inception::data::{Arithmetic, Preprocessing, Resampler};
use inception::nn::Output;
use inception::weights::cache_folder;
use inception::{
    Classifier, DeviceKind, FeatureExtractor, MODELS, ModelSpec, Origin, Precision, Preparation, Recipe,
    RecipeSource, RunOptions, Weights, cores, read_labels,
};
use serde::de::DeserializeOwned;

/// Parses a model's name, so that a misspelt one is refused with the nearest names before anything starts.
pub fn model(name: &str) -> Result<&'static ModelSpec, inception::nn::Error> {
    inception::model(name)
}

/// The networks of the reference's table.
pub fn table_models() -> Vec<&'static ModelSpec> {
    MODELS.iter().filter(|spec| spec.origin == Origin::PaddleClas).collect()
}

/// Parses a batch size.
pub fn batch(text: &str) -> Result<usize, String> {
    let batch = text.trim().parse().map_err(|e| format!("{e}"))?;
    if (1..=256).contains(&batch) { Ok(batch) } else { Err("1 to 256 images".to_owned()) }
}

/// Parses a share of pictures.
pub fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("expected a share of 0 to 1".to_owned()),
    }
}

/// Which networks.
#[derive(Args)]
pub struct ModelArgs {
    /// Networks by name, whatever the case; several with commas between
    #[arg(long = "model", value_name = "NAME", value_delimiter = ',', required = true, value_parser = model)]
    pub models: Vec<&'static ModelSpec>,
}

/// Which weights.
#[derive(Args)]
pub struct WeightArgs {
    #[command(flatten)]
    source: WeightSource,
    /// Of a checkpoint with several dictionaries of tensors the one to take, by its place in the file, as
    /// `state_dict` or `model.ema`; without it the one that fits, and of several the average (EMA)
    #[arg(long, value_name = "NAME", requires = "weights")]
    state_dict: Option<String>,
}

/// Where the weights come from: one of these.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct WeightSource {
    /// A checkpoint; its format is found from its content
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// The published weights; the first time they are downloaded (see --help)
    ///
    /// Only PaddleClas and pytorch-fid publish at addresses that are known here. A download is resumed if it
    /// breaks off, and the kept file is verified each time. INCEPTION_CACHE is the folder for them (otherwise
    /// `inception` in the user's cache folder), INCEPTION_MIRROR an address instead of theirs, and
    /// INCEPTION_OFFLINE=1 forbids downloads.
    #[arg(long)]
    pretrained: bool,
    /// Weights drawn from --seed: for trying things out; the classes mean nothing
    #[arg(long)]
    random_weights: bool,
}

impl WeightArgs {
    /// The weights asked for of `spec`; clap requires exactly one of the flags.
    pub fn weights(&self, spec: &ModelSpec, seed: u64) -> anyhow::Result<Weights> {
        Ok(match (&self.source.weights, &self.state_dict) {
            (Some(path), Some(name)) => Weights::StateDict { path: path.clone(), name: name.clone() },
            (Some(file), None) => Weights::File(file.clone()),
            _ if self.source.pretrained => Weights::File(crate::pretrained::fetch(spec)?),
            _ => Weights::Random { seed },
        })
    }

    /// Whether the weights are a file of the user's.
    pub fn is_file(&self) -> bool {
        self.source.weights.is_some()
    }
}

/// Which weights, where there may be nothing to compute with them.
#[cfg(feature = "fid")]
#[derive(Args)]
#[group(multiple = false)]
pub struct OptionalWeightArgs {
    /// A checkpoint; its format is found from its content
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// The published weights; the first time they are downloaded (see `predict --help`)
    #[arg(long)]
    pretrained: bool,
    /// Weights drawn from --seed: for trying things out; the figures mean nothing
    #[arg(long)]
    random_weights: bool,
}

#[cfg(feature = "fid")]
impl OptionalWeightArgs {
    /// The weights asked for of `spec`, which are needed.
    pub fn weights(&self, spec: &ModelSpec, seed: u64) -> anyhow::Result<Weights> {
        match self {
            Self { weights: Some(file), .. } => Ok(Weights::File(file.clone())),
            Self { pretrained: true, .. } => Ok(Weights::File(crate::pretrained::fetch(spec)?)),
            Self { random_weights: true, .. } => Ok(Weights::Random { seed }),
            _ => {
                Err(anyhow!("{} needs weights: --weights FILE, --pretrained or --random-weights", spec.name))
            }
        }
    }
}

/// The heading of the flags of [`PreprocessArgs`] in `--help`.
const PIXELS: &str = "Preprocessing, instead of what the weights ask for";

/// What is done to pictures where the weights ask for something else, or nobody says.
#[derive(Args, Clone)]
pub struct PreprocessArgs {
    /// A recipe: paddleclas, torchvision (its presets, for networks without transform_input), timm, keras, or
    /// imagenet (ImageNet's mean and standard deviation, and the rest as it is)
    #[arg(long, help_heading = PIXELS, value_name = "NAME")]
    preprocess: Option<RecipeName>,
    /// How to resize: cv2-bilinear, pil-bilinear or pil-bicubic
    #[arg(long, help_heading = PIXELS, value_name = "NAME", value_parser = named::<Resampler>)]
    resampler: Option<Resampler>,
    /// Whose rounding of sizes, of the crop's place and of pixels: paddleclas or torchvision
    #[arg(long, help_heading = PIXELS, value_name = "NAME", value_parser = named::<Arithmetic>)]
    arithmetic: Option<Arithmetic>,
    /// Short side after resizing
    #[arg(long, help_heading = PIXELS, value_name = "PIXELS")]
    resize_short: Option<u32>,
    /// Side of the centre crop
    #[arg(long, help_heading = PIXELS, value_name = "PIXELS")]
    crop: Option<u32>,
    /// Mean of red, green and blue, on the scale of 0 to 1
    #[arg(long, help_heading = PIXELS, value_name = "R,G,B", value_parser = mean, allow_negative_numbers = true)]
    mean: Option<[f32; 3]>,
    /// Standard deviation of red, green and blue
    #[arg(long, help_heading = PIXELS, value_name = "R,G,B", value_parser = deviation, allow_negative_numbers = true)]
    std: Option<[f32; 3]>,
}

/// A recipe by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum RecipeName {
    Paddleclas,
    Torchvision,
    Timm,
    Keras,
    Imagenet,
}

/// A value by the name that it has in a report.
fn named<T: DeserializeOwned>(name: &str) -> Result<T, String> {
    serde_json::from_value(name.into()).map_err(|error| error.to_string())
}

fn mean(text: &str) -> Result<[f32; 3], String> {
    three(text, |value| (0.0..=1.0).contains(&value))
}

fn deviation(text: &str) -> Result<[f32; 3], String> {
    three(text, |value| value > 0.0 && value <= 1.0)
}

fn three(text: &str, fits: impl Fn(f32) -> bool) -> Result<[f32; 3], String> {
    let numbers: Result<Vec<f32>, _> = text.split(',').map(|number| number.trim().parse()).collect();
    match numbers.ok().and_then(|numbers| <[f32; 3]>::try_from(numbers).ok()) {
        Some(numbers) if numbers.iter().all(|&value| fits(value)) => Ok(numbers),
        Some(_) => Err("pixels are on a scale of 0 to 1; divide numbers of 0 to 255 by 255".to_owned()),
        None => Err("expected three numbers with commas between".to_owned()),
    }
}

impl PreprocessArgs {
    /// What is asked for, where the weights ask for `own`.
    pub fn apply(&self, own: &Preprocessing) -> Preprocessing {
        let (short, crop) = (own.resize_short, own.crop);
        let torchvision = Preprocessing::torchvision(short, crop);
        let half = Preprocessing { mean: [0.5; 3], std: [0.5; 3], ..torchvision };
        let mut changed = match self.preprocess {
            None => *own,
            Some(RecipeName::Paddleclas) => Preprocessing::paddleclas(short, crop),
            Some(RecipeName::Torchvision) => torchvision,
            Some(RecipeName::Timm) => Preprocessing { resampler: Resampler::PilBicubic, ..half },
            Some(RecipeName::Keras) => half,
            Some(RecipeName::Imagenet) => {
                Preprocessing { mean: torchvision.mean, std: torchvision.std, ..*own }
            }
        };
        changed.resampler = self.resampler.unwrap_or(changed.resampler);
        changed.arithmetic = self.arithmetic.unwrap_or(changed.arithmetic);
        changed.resize_short = self.resize_short.unwrap_or(changed.resize_short);
        changed.crop = self.crop.unwrap_or(changed.crop);
        changed.mean = self.mean.unwrap_or(changed.mean);
        changed.std = self.std.unwrap_or(changed.std);
        changed
    }

    /// What is assumed of a file of weights that says nothing, for standard error, unless the user says what pixels
    /// are to be. `own` is what is known of the weights.
    pub fn assumed(&self, spec: &ModelSpec, own: &Recipe) -> Option<String> {
        let is_said = self.preprocess.is_some() || (self.mean.is_some() && self.std.is_some());
        if is_said || own.source != RecipeSource::Origin {
            return None;
        }
        let Preprocessing { mean, std, .. } = self.apply(&own.preprocessing);
        Some(format!(
            "{}: the file does not say what it was trained on; the pixels of its origin's published weights are \
             assumed, mean {mean:?}, standard deviation {std:?}. --preprocess, or --mean and --std, say otherwise, and \
             convert keeps it",
            spec.name
        ))
    }
}

/// Networks, their weights, and what is done to pictures for them.
#[derive(Args)]
pub struct NetworkArgs {
    /// Which networks.
    #[command(flatten)]
    pub models: ModelArgs,
    #[command(flatten)]
    weights: WeightArgs,
    /// Where they run.
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    preprocess: PreprocessArgs,
}

impl NetworkArgs {
    /// A classifier with the weights asked for; what is to be known of it is said on standard error, and is
    /// in the list of warnings. `labels` are names of its classes.
    pub fn classifier(
        &self,
        spec: &'static ModelSpec,
        options: &RunOptions,
        labels: Option<&Path>,
    ) -> anyhow::Result<(Weights, Classifier, Vec<String>)> {
        let weights = self.weights.weights(spec, self.device.seed())?;
        let (classifier, warnings, assumed) =
            classifier(spec, &weights, self.weights.is_file(), &self.preprocess, options, labels)?;
        say(spec, &warnings, assumed);
        Ok((weights, classifier, warnings))
    }

    /// As [`classifier`](Self::classifier), for features.
    pub fn extractor(
        &self,
        spec: &'static ModelSpec,
        output: Output,
        options: &RunOptions,
    ) -> anyhow::Result<(Weights, FeatureExtractor, Vec<String>)> {
        let weights = self.weights.weights(spec, self.device.seed())?;
        let recipe = |asked| Preparation::Classifier(self.preprocess.apply(&asked));
        let extractor = FeatureExtractor::new(spec, &weights, output, options, recipe)?;
        let own = extractor.own_recipe();
        let used = self.preprocess.apply(&own.preprocessing);
        let warnings = with_override(extractor.warnings(), own, &used)?;
        let assumed = self.weights.is_file().then(|| self.preprocess.assumed(spec, own));
        say(spec, &warnings, assumed.flatten());
        Ok((weights, extractor, warnings))
    }
}

/// `known` of weights, and that `used` is not what they ask for themselves, which is `own`.
fn with_override(known: &[String], own: &Recipe, used: &Preprocessing) -> anyhow::Result<Vec<String>> {
    let mut warnings = known.to_vec();
    if own.preprocessing != *used {
        let own = serde_json::to_string(&own.preprocessing)?;
        warnings.push(format!("the weights ask for {own}, overridden"));
    }
    Ok(warnings)
}

/// Says on standard error what is to be known of the network, and what is assumed of its pictures.
pub fn say(spec: &ModelSpec, warnings: &[String], assumed: Option<String>) {
    for warning in warnings {
        stderrln!("warning: {}: {warning}", spec.name);
    }
    if let Some(assumed) = assumed {
        stderrln!("assumed: {assumed}");
    }
}

/// A classifier of `spec` with `weights`, the user's own file or not; what is to be known of its answers; and
/// what is assumed of its pictures, if something is. `labels` are names of its classes.
pub fn classifier(
    spec: &'static ModelSpec,
    weights: &Weights,
    is_file: bool,
    preprocess: &PreprocessArgs,
    options: &RunOptions,
    labels: Option<&Path>,
) -> anyhow::Result<(Classifier, Vec<String>, Option<String>)> {
    let mut classifier =
        Classifier::with_preprocessing(spec, weights, options, |asked| preprocess.apply(asked))?;
    if let Some(path) = labels {
        let names = read_labels(path)?;
        classifier = classifier.with_labels(names).with_context(|| path.display().to_string())?;
    }
    let (own, used) = (classifier.own_recipe(), classifier.preprocessing());
    let warnings = with_override(classifier.warnings(), own, used)?;
    let assumed = is_file.then(|| preprocess.assumed(spec, own)).flatten();
    Ok((classifier, warnings, assumed))
}

/// Where Burn keeps which kernel won; it decides this by itself.
const KEPT: &str = "the fastest are kept in target/environment, for every later start";

/// Where measured choices of kernels are kept, if they are asked for; says so.
pub fn tuning_folder(tune: bool) -> Option<PathBuf> {
    let folder = tune.then(|| cache_folder().join("tuning"))?;
    stderrln!("tuning: what is not in {} yet is measured, for some seconds a network", folder.display());
    Some(folder)
}

/// Where and how a network runs.
#[derive(Args)]
pub struct DeviceArgs {
    /// Where to run: engine (compiled for this CPU); in builds with the feature of that name flex or ndarray
    /// (Burn's CPU backends), or a GPU through wgpu, vulkan or cuda
    #[arg(long, value_name = "DEVICE", default_value = "engine")]
    pub device: DeviceKind,
    /// Which GPU, as the command `devices` counts them [default: the most powerful]
    #[arg(long, value_name = "N")]
    adapter: Option<usize>,
    /// Keep the engine to algorithms that add and multiply as the network is written, without Winograd
    #[arg(long)]
    exact: bool,
    /// Use for each layer the kernel that is fastest here, as measured on the first start (some seconds a
    /// network) and kept in the folder tuning of INCEPTION_CACHE (otherwise inception in the user's cache
    /// folder)
    #[arg(long, conflicts_with = "exact")]
    tune: bool,
    /// Element type to compute in: f32; bf16 on the engine, where the CPU has AVX512-BF16; int8 on the engine, of
    /// weights that `quantize` wrote; f16 on a GPU that has it; f16 and bf16 on flex, for comparison
    #[arg(long, value_name = "DTYPE", default_value = "f32")]
    precision: Precision,
    /// CPU threads [default: all cores]
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..))]
    threads: Vec<u16>,
    /// Seed of everything random [default: 0]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

impl DeviceArgs {
    /// The seed of everything random.
    pub fn seed(&self) -> u64 {
        self.seed.unwrap_or(0)
    }

    /// Makes the process compute as asked for, and says how; to be called once, before anything computes.
    pub fn apply(&self) -> anyhow::Result<RunOptions> {
        let [options] = <[_; 1]>::try_from(self.run_options()?)
            .map_err(|all| anyhow!("--threads has {} numbers; one is wanted here", all.len()))?;
        if !self.threads.is_empty() {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads);
            pool.build_global().context("starting the threads")?;
        }
        Ok(options)
    }

    /// What is asked for with each number of threads.
    pub fn run_options(&self) -> anyhow::Result<Vec<RunOptions>> {
        let threads = self.threads.iter().map(|&threads| threads.into());
        let threads: Vec<usize> = if self.threads.is_empty() { vec![cores()] } else { threads.collect() };
        let Self { device, adapter, exact, precision, .. } = *self;
        ensure!(!self.tune || device == DeviceKind::Engine, "--tune is for the engine");
        let tune = tuning_folder(self.tune);
        let options = |threads| {
            let mut options = RunOptions::on(device).with_precision(precision);
            (options.adapter, options.threads) = (adapter, threads);
            (options.exact, options.tune) = (exact, tune.clone());
            options
        };
        let all: Vec<RunOptions> = threads.into_iter().map(options).collect();
        ensure!(!device.is_gpu() || all.len() == 1, "a GPU is not asked for with several --threads");
        for options in &all {
            options.check()?;
        }
        if let Some(gpu) = device.adapter(adapter)? {
            stderrln!("{gpu}: the first run of each network and batch tries kernels out; {KEPT}");
        }
        Ok(all)
    }
}
