//! `cargo xtask convert`

use std::io::{Write, stderr, stdout};
use std::path::PathBuf;

use anyhow::Context;
use burn::tensor::Device;
use clap::Args;
use inception_nn::ModelSpec;
use inception_weights::{Checkpoint, Metadata};

#[derive(Args)]
pub struct Convert {
    /// The network
    #[arg(long, value_name = "NAME", value_parser = crate::args::model)]
    model: &'static ModelSpec,
    /// The checkpoint to read, in any known format
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// The file to write: .safetensors, .bpk or .onnx
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Convert {
    pub fn run(&self) -> anyhow::Result<()> {
        let checkpoint = Checkpoint::open(&self.from)?;
        // What the weights expect of a picture goes along, unless the checkpoint itself says it.
        let preprocessing = match checkpoint.metadata.preprocessing() {
            Some(json) => json.to_owned(),
            None => serde_json::to_string(&inception_bench::preprocessing(self.model))?,
        };
        let mut metadata = Metadata::of(self.model).with(Metadata::PREPROCESSING, preprocessing);
        let labels: Vec<_> = inception_data::labels().iter().collect();
        if checkpoint.metadata.get("labels").is_none() && labels.len() == self.model.num_classes {
            metadata = metadata.with("labels", serde_json::to_string(&labels)?);
        }
        let done = inception_weights::convert(self.model, &checkpoint, &self.to, &metadata, &Device::flex())
            .context("nothing was converted")?;
        for warning in warnings(&done.loaded) {
            writeln!(stderr(), "warning: {warning}")?;
        }
        match self.json {
            true => {
                writeln!(stdout(), "{}", serde_json::json!({"tensors": done.tensors, "bytes": done.bytes}))?;
            }
            false => {
                let (from, to) = (self.from.display(), self.to.display());
                writeln!(stdout(), "{from} -> {to}: {} tensors, {} bytes", done.tensors, done.bytes)?;
            }
        }
        Ok(())
    }
}

/// What a user should know about what was loaded.
pub fn warnings(loaded: &inception_weights::Loaded) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(first) = loaded.not_finite.first() {
        warnings.push(format!(
            "{} tensors hold infinities or NaN, `{first}` among them",
            loaded.not_finite.len()
        ));
    }
    if loaded.background_dropped {
        warnings.push("the first class, TensorFlow's background, was left out".to_owned());
    }
    if let Some(first) = loaded.not_in_file.first() {
        let count = loaded.not_in_file.len();
        warnings.push(format!(
            "{count} tensors that only training needs are not in the file, `{first}` among them"
        ));
    }
    warnings
}
