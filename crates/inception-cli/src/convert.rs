//! `convert`

use std::io::{Write, stderr, stdout};
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use inception::weights::{self, Checkpoint, Dtype, Metadata};
use inception::{ModelSpec, Precision, data, preprocessing};

#[derive(Args)]
pub struct Convert {
    /// The network
    #[arg(long, value_name = "NAME", value_parser = crate::args::model)]
    model: &'static ModelSpec,
    /// The checkpoint to read, in any known format
    #[arg(long, value_name = "FILE", required_unless_present = "pretrained")]
    from: Option<PathBuf>,
    /// Read the published weights, as `predict --help` has it
    #[arg(long, conflicts_with = "from")]
    pretrained: bool,
    /// The file to write: .safetensors, .bpk or .onnx
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Element type to write; only .safetensors can hold f16 and bf16
    #[arg(long, value_name = "DTYPE", default_value = "f32")]
    precision: Precision,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Convert {
    pub fn run(&self) -> anyhow::Result<()> {
        let from = match &self.from {
            Some(file) => file.clone(),
            None => crate::pretrained::fetch(self.model)?,
        };
        let checkpoint = Checkpoint::open(&from)?;
        // What the weights expect of a picture goes along, unless the checkpoint itself says it.
        let recipe = match checkpoint.metadata.preprocessing() {
            Some(json) => json.to_owned(),
            None => serde_json::to_string(&preprocessing(self.model))?,
        };
        let mut metadata = Metadata::of(self.model).with(Metadata::PREPROCESSING, recipe);
        let labels: Vec<_> = data::labels().iter().collect();
        if checkpoint.metadata.get("labels").is_none() && labels.len() == self.model.num_classes {
            metadata = metadata.with("labels", serde_json::to_string(&labels)?);
        }
        let dtype = match self.precision {
            Precision::F32 => Dtype::F32,
            Precision::F16 => Dtype::F16,
            Precision::Bf16 => Dtype::Bf16,
            other => bail!("no format here holds {other}"),
        };
        let done = weights::convert(self.model, &checkpoint, &self.to, &dtype, &metadata)
            .context("nothing was converted")?;
        for warning in done.loaded.warnings() {
            writeln!(stderr(), "warning: {warning}")?;
        }
        match self.json {
            true => {
                writeln!(stdout(), "{}", serde_json::json!({"tensors": done.tensors, "bytes": done.bytes}))?;
            }
            false => {
                let (from, to) = (from.display(), self.to.display());
                writeln!(stdout(), "{from} -> {to}: {} tensors, {} bytes", done.tensors, done.bytes)?;
            }
        }
        Ok(())
    }
}
