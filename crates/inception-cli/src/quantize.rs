//! `quantize`

use std::io::{Write, stdout};
use std::path::PathBuf;

use anyhow::{bail, ensure};
use clap::Args;
use inception::data::Dataset;
use inception::engine::{LayerSqnr, RangeMethod};
use inception::{
    LayerInFloat, ModelSpec, QuantizeOptions, QuantizeProgress, QuantizeStage, Quantized, cores, quantize,
};

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
    /// Only N pictures, evenly spread over all of them
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// The file to write: .safetensors, which commands with --precision int8 read, or .onnx in the form QDQ, for
    /// other runtimes
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// How the range of a tensor is chosen: least-squares, min-max, or percentile:SHARE, as percentile:0.9999
    #[arg(long, value_name = "METHOD", default_value = "least-squares", value_parser = method)]
    ranges: RangeMethod,
    /// Leave the fewest layers in f32 with which at most this share of the pictures has another first class than in f32,
    /// as 0.01
    #[arg(long, value_name = "SHARE", value_parser = max_drop)]
    max_drop: Option<f64>,
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
        Some(("percentile", text)) => match crate::args::share(text)? {
            share if share > 0.5 => Ok(RangeMethod::Percentile(share)),
            _ => Err("expected a share above 0.5, as 0.9999".to_owned()),
        },
        _ => Err("expected least-squares, min-max or percentile:SHARE".to_owned()),
    }
}

/// Parses a share that may be zero.
fn max_drop(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..1.0).contains(&share) => Ok(share),
        _ => Err("expected a number from 0 to below 1".to_owned()),
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
        dataset.sample_evenly(self.limit as usize);
        if dataset.is_empty() {
            bail!("there is no picture in {}", self.data.display());
        }
        let mut options = QuantizeOptions::default();
        let threads = self.threads.map_or_else(cores, usize::from);
        (options.method, options.threads, options.workers) = (self.ranges, threads, threads);
        options.max_drop = self.max_drop;
        let (mut bar, mut at) = (Bar::new(), QuantizeStage::Calibrate);
        let change = |own: &_| self.preprocess.apply(own);
        let seen = |QuantizeProgress { stage, done, total, .. }: QuantizeProgress| {
            if stage != at {
                at = stage;
                bar.restart();
            }
            let what = match stage {
                QuantizeStage::Calibrate => "calibrating  ".to_owned(),
                QuantizeStage::Order => "ordering layers  ".to_owned(),
                QuantizeStage::Try(set) => format!("choosing layers, set {set}  "),
                QuantizeStage::Compare => "comparing with f32  ".to_owned(),
                _ => String::new(),
            };
            bar.show(done as u64, done as u64, total as u64, &what);
        };
        let quantized = quantize(self.model, &weights, &dataset, &self.to, &options, change, seen);
        if let Ok(quantized) = &quantized {
            bar.name_skipped(quantized.skipped.iter());
        }
        bar.finish();
        let quantized = quantized?;
        for warning in &quantized.warnings {
            stderrln!("warning: {}: {warning}", self.model.name);
        }
        self.print(&quantized)
    }

    fn print(&self, quantized: &Quantized) -> anyhow::Result<()> {
        let Quantized { images, skipped, layers, floats, agreement, error, bytes, .. } = quantized;
        let mut out = stdout().lock();
        if self.json {
            let layers = layers.iter().map(|layer| {
                // JSON has no infinity.
                let decibels = layer.sqnr_db.is_finite().then_some(layer.sqnr_db);
                let dtype = layer.precision.name();
                serde_json::json!({"layer": layer.node, "op": layer.op, "dtype": dtype, "snr_db": decibels})
            });
            let object = serde_json::json!({
                "model": self.model.name, "file": self.to, "bytes": bytes, "images": images,
                "skipped": skipped, "warnings": quantized.warnings, "agreement": agreement, "error": error,
                "layers": layers.collect::<Vec<_>>(),
                "in_f32": floats.iter().map(|l| serde_json::json!({"layer": l.layer, "error": l.error})).collect::<Vec<_>>(),
            });
            return Ok(writeln!(out, "{object}")?);
        }
        writeln!(out, "{:<60} {:<12} dtype  signal to noise, dB", "layer", "operation")?;
        for LayerSqnr { node, op, precision, sqnr_db, .. } in layers {
            writeln!(out, "{node:<60} {op:<12} {:<5} {sqnr_db:8.1}", precision.name())?;
        }
        for LayerInFloat { layer, error, .. } in floats {
            writeln!(
                out,
                "{layer} stays in f32: in int8 it alone moves the logits by {:.1} %",
                error * 100.0
            )?;
        }
        if let Some(drop) = self.max_drop.filter(|drop| 1.0 - agreement > *drop) {
            stderrln!(
                "warning: {:.1} % of the pictures have another first class, more than {:.1} %: no layer is left to \
                 put into f32",
                (1.0 - agreement) * 100.0,
                drop * 100.0
            );
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
