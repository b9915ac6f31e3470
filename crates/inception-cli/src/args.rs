//! Flags that several commands have.

use std::path::PathBuf;

use anyhow::{Context, anyhow, ensure};
use clap::Args;
use inception::weights::cache_folder;
use inception::{DeviceKind, MODELS, ModelSpec, Origin, Precision, RunOptions, Weights, cores};

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

/// Which networks.
#[derive(Args)]
pub struct ModelArgs {
    /// Networks by name, whatever the case; several with commas between
    #[arg(long = "model", value_name = "NAME", value_delimiter = ',', required = true, value_parser = model)]
    pub models: Vec<&'static ModelSpec>,
}

/// Which weights.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct WeightArgs {
    /// A checkpoint; its format is found from its content
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// The published weights; the first time they are downloaded (see --help)
    ///
    /// Only PaddleClas publishes at addresses that are known here. A download is resumed if it breaks off,
    /// and the kept file is verified each time. INCEPTION_CACHE is the folder for them (otherwise `inception`
    /// in the user's cache folder), INCEPTION_MIRROR an address instead of PaddleClas's, and
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
        Ok(match &self.weights {
            Some(file) => Weights::File(file.clone()),
            None if self.pretrained => Weights::File(crate::pretrained::fetch(spec)?),
            None => Weights::Random { seed },
        })
    }
}

/// Where Burn keeps which kernel won; it decides this by itself.
const KEPT: &str = "the fastest are kept in target/environment, for every later start";

/// Where measured choices of kernels are kept, if they are asked for; says so.
pub fn tuning_folder(tune: bool) -> Option<PathBuf> {
    let folder = tune.then(|| cache_folder().join("tuning"))?;
    eprintln!("tuning: what is not in {} yet is measured, for some seconds a network", folder.display());
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
    /// Element type to compute in: f32; bf16 on the engine, where the CPU has AVX512-BF16; f16 on a GPU that
    /// has it; either on flex, for comparison
    #[arg(long, value_name = "DTYPE", default_value = "f32")]
    precision: Precision,
    /// CPU threads [default: all cores]
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..))]
    threads: Vec<u16>,
    /// Seed of everything random
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

impl DeviceArgs {
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
            eprintln!("{gpu}: the first run of each network and batch tries kernels out; {KEPT}");
        }
        Ok(all)
    }
}
