//! `quantize`

use std::io::{Write, stdout};
use std::path::PathBuf;

use anyhow::{bail, ensure};
use clap::Args;
use inception::data::Dataset;
use inception::engine::{LayerNoise, RangeMethod};
use inception::{ModelSpec, QuantizeOptions, Quantized, cores, quantize};

use crate::args::{PreprocessArgs, WeightArgs};
use crate::progress::Bar;

#[derive(Args)]
pub struct Quantize {
    /// The network
    #[arg(long, value_name = "NAME", value_parser = crate::args::model)]
    model: &'static ModelSpec,
    #[command(flatten)]
    weights: WeightArgs,
    /// Pictures of the kind that the network will see, without classes: a folder at any depth, an archive (tar,
    /// tar.gz, zip), a list with a path a line, or Parquet (needs the feature `parquet`)
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// Only the first N pictures
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// The file to write: .safetensors, which commands with --precision int8 read, or .onnx in the form QDQ, for
    /// other runtimes
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// How the range of a tensor is chosen: least-squares, min-max, or percentile:SHARE, as percentile:0.9999
    #[arg(long, value_name = "METHOD", default_value = "least-squares", value_parser = method)]
    ranges: RangeMethod,
    /// CPU threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Seed of --random-weights
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    preprocess: PreprocessArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Parses how ranges are chosen.
fn method(text: &str) -> Result<RangeMethod, String> {
    match text.split_once(':') {
        None if text == "least-squares" => Ok(RangeMethod::LeastSquares),
        None if text == "min-max" => Ok(RangeMethod::MinMax),
        Some(("percentile", share)) => crate::args::share(share).map(RangeMethod::Percentile),
        _ => Err("expected least-squares, min-max or percentile:SHARE".to_owned()),
    }
}

impl Quantize {
    pub fn run(&self) -> anyhow::Result<()> {
        let extension = self.to.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        ensure!(
            ["safetensors", "onnx"].iter().any(|known| extension.eq_ignore_ascii_case(known)),
            "{}: the name has to end in .safetensors or .onnx, the formats that hold integers",
            self.to.display()
        );
        let weights = self.weights.weights(self.model, self.seed)?;
        let mut dataset = Dataset::open_unlabelled(&self.data)?;
        dataset.truncate(self.limit as usize);
        if dataset.is_empty() {
            bail!("there is no picture in {}", self.data.display());
        }
        let mut options = QuantizeOptions::default();
        let threads = self.threads.map_or_else(cores, usize::from);
        (options.method, options.threads, options.workers) = (self.ranges, threads, threads);
        let (mut bar, total) = (Bar::new(), 2 * dataset.len() as u64);
        let change = |own: &_| self.preprocess.apply(own);
        let seen = |done: usize| bar.show(done as u64, done as u64, total, "");
        let quantized = quantize(self.model, &weights, &dataset, &self.to, &options, change, seen);
        if let Ok(quantized) = &quantized {
            bar.name_skipped(quantized.skipped.iter());
        }
        bar.finish();
        let quantized = quantized?;
        for warning in &quantized.warnings {
            eprintln!("warning: {}: {warning}", self.model.name);
        }
        self.print(&quantized)
    }

    fn print(&self, quantized: &Quantized) -> anyhow::Result<()> {
        let Quantized { images, skipped, layers, agreement, error, bytes, .. } = quantized;
        let mut out = stdout().lock();
        if self.json {
            let layers = layers.iter().map(|layer| {
                // JSON has no infinity.
                let decibels = layer.decibels.is_finite().then_some(layer.decibels);
                let dtype = layer.precision.name();
                serde_json::json!({"layer": layer.node, "op": layer.op, "dtype": dtype, "snr_db": decibels})
            });
            let object = serde_json::json!({
                "model": self.model.name, "file": self.to, "bytes": bytes, "images": images,
                "skipped": skipped, "agreement": agreement, "error": error,
                "layers": layers.collect::<Vec<_>>(),
            });
            return Ok(writeln!(out, "{object}")?);
        }
        writeln!(out, "{:<60} {:<12} dtype  signal to noise, dB", "layer", "operation")?;
        for LayerNoise { node, op, precision, decibels, .. } in layers {
            writeln!(out, "{node:<60} {op:<12} {:<5} {decibels:8.1}", precision.name())?;
        }
        writeln!(
            out,
            "{}: {bytes} bytes; {images} pictures, of which {:.1} % have the first class of f32; logits differ by \
             at most {error:.1e} of the largest",
            self.to.display(),
            agreement * 100.0
        )?;
        Ok(())
    }
}
