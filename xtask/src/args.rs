//! Flags that several commands have.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, anyhow, bail};
use clap::{Args, ValueEnum};
use inception_bench::{DeviceKind, RunOptions, Weights, cores};
use inception_nn::{MODELS, ModelSpec};

/// Parses a model's name, so that a misspelt one is refused with the nearest names before anything starts.
pub fn model(name: &str) -> Result<&'static ModelSpec, inception_nn::Error> {
    inception_nn::model(name)
}

/// The networks of the reference's table.
pub fn table_models() -> Vec<&'static ModelSpec> {
    MODELS.iter().filter(|spec| spec.architecture.is_paddle()).collect()
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
    /// Only PaddleClas publishes at addresses that are known here. A download is resumed if it breaks off, and the kept
    /// file is verified each time. INCEPTION_CACHE is the folder for them (otherwise `inception` in the user's cache
    /// folder), INCEPTION_MIRROR an address instead of PaddleClas's, and INCEPTION_OFFLINE=1 forbids downloads.
    #[arg(long)]
    pretrained: bool,
    /// Weights drawn from --seed: for trying things out; the classes mean nothing
    #[arg(long)]
    random_weights: bool,
}

impl WeightArgs {
    /// The weights asked for of `spec`; clap has seen to it that there is exactly one of the flags.
    pub fn weights(&self, spec: &ModelSpec, seed: u64) -> anyhow::Result<Weights> {
        Ok(match &self.weights {
            Some(file) => Weights::File(file.clone()),
            None if self.pretrained => Weights::File(crate::pretrained::fetch(spec)?),
            None => Weights::Random { seed },
        })
    }
}

/// In which numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    F32,
    F16,
    Bf16,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        })
    }
}

impl Precision {
    /// The precision, where `device` has it.
    pub fn on(self, device: DeviceKind) -> anyhow::Result<inception_bench::Precision> {
        match (self, device) {
            (Self::F32, _) => Ok(inception_bench::Precision::F32),
            (Self::Bf16, DeviceKind::Engine) => Ok(inception_bench::Precision::Bf16),
            (Self::F16, DeviceKind::Engine) => bail!("the engine computes in f32 and bf16, not in f16"),
            _ => bail!("the {device} device computes in f32 only; leave --precision out"),
        }
    }
}

/// Where and how a network runs.
#[derive(Args)]
pub struct DeviceArgs {
    /// Where to run: engine (compiled for this CPU), flex or ndarray (Burn's CPU backends)
    #[arg(long, value_name = "DEVICE", default_value = "engine")]
    pub device: DeviceKind,
    /// Keep the engine to algorithms that add and multiply as the network is written, without Winograd
    #[arg(long)]
    exact: bool,
    /// Numbers to compute in: f32, or bf16 on the engine, where the CPU has AVX512-BF16
    #[arg(long, value_enum, value_name = "NUMBERS", default_value = "f32")]
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
        let [options] = <[_; 1]>::try_from(self.settings()?)
            .map_err(|all| anyhow!("--threads has {} numbers; one is wanted here", all.len()))?;
        if !self.threads.is_empty() {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads);
            pool.build_global().context("starting the threads")?;
        }
        Ok(options)
    }

    /// What is asked for with each number of threads.
    pub fn settings(&self) -> anyhow::Result<Vec<RunOptions>> {
        self.device.open()?;
        let precision = self.precision.on(self.device)?;
        let threads = self.threads.iter().map(|&threads| threads.into());
        let threads: Vec<usize> = if self.threads.is_empty() { vec![cores()] } else { threads.collect() };
        let (device, exact) = (self.device, self.exact);
        let options = |threads| RunOptions { device, threads, exact, precision, cores: None };
        Ok(threads.into_iter().map(options).collect())
    }
}
