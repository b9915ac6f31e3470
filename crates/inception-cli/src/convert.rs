//! `convert`

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Args;
use inception::weights::{self, Checkpoint, Dtype, LoadOptions, Metadata};
use inception::{ModelSpec, Precision, Weights, data, quantized_to_onnx, read_labels, recipe};

use crate::args::{PreprocessArgs, say};

#[derive(Args)]
pub struct Convert {
    /// The network
    #[arg(long, value_name = "NAME", value_parser = crate::args::model)]
    model: &'static ModelSpec,
    /// The checkpoint to read, in any known format
    #[arg(long, visible_alias = "weights", value_name = "FILE", required_unless_present = "pretrained")]
    from: Option<PathBuf>,
    /// Read the published weights, as `predict --help` has it
    #[arg(long, conflicts_with = "from")]
    pretrained: bool,
    /// The file to write: .safetensors, .bpk or .onnx
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Element type to write; only .safetensors can hold f16 and bf16. int8: a file that `quantize` wrote, as .onnx in
    /// the form QDQ
    #[arg(long, value_name = "DTYPE", default_value = "f32")]
    precision: Precision,
    /// Names of the classes in their order, to be kept in the file: one a line, `0 name` a line, or JSON
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Of a checkpoint with several dictionaries of tensors the one to take, as `predict --help` has it
    #[arg(long, value_name = "NAME")]
    state_dict: Option<String>,
    #[command(flatten)]
    preprocess: PreprocessArgs,
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
        // What the weights expect of a picture goes along, and the names of their classes.
        let own = recipe(self.model, &checkpoint)?;
        say(self.model, &own.notes, None);
        let preprocessing = self.preprocess.apply(&own.preprocessing);
        preprocessing.check()?;
        if self.from.is_some() {
            say(self.model, &[], self.preprocess.assumed(self.model, &own));
        }
        let mut metadata =
            Metadata::of(self.model).with(Metadata::PREPROCESSING, serde_json::to_string(&preprocessing)?);
        let mut options = LoadOptions::default();
        options.state_dict.clone_from(&self.state_dict);
        let classes =
            weights::num_classes(self.model, &checkpoint, &options).context("nothing was converted")?;
        let labels = match &self.labels {
            Some(path) => {
                let names = read_labels(path)?;
                ensure!(
                    names.len() == classes,
                    "{}: {} names for {classes} classes",
                    path.display(),
                    names.len()
                );
                Some(names)
            }
            None if checkpoint.metadata.labels().is_some() || classes != data::labels().len() => None,
            None => Some(data::labels().iter().map(|&name| name.to_owned()).collect()),
        };
        if let Some(labels) = labels {
            metadata = metadata.with(Metadata::LABELS, serde_json::to_string(&labels)?);
        }
        let dtype = match self.precision {
            Precision::F32 => Dtype::F32,
            Precision::F16 => Dtype::F16,
            Precision::Bf16 => Dtype::Bf16,
            Precision::Int8 => return self.write_int8(from, &metadata),
            other => bail!("no format here holds {other}"),
        };
        let done = weights::convert_with(self.model, &checkpoint, &self.to, &dtype, &metadata, options)
            .context("nothing was converted")?;
        self.report(&from, done.tensors, done.bytes, &done.loaded.warnings())
    }

    /// Writes the integers and the scales of a quantised file.
    fn write_int8(&self, from: PathBuf, metadata: &Metadata) -> anyhow::Result<()> {
        let is_onnx = self.to.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"));
        ensure!(
            is_onnx,
            "{}: int8 is written as .onnx here; `quantize` writes .safetensors",
            self.to.display()
        );
        let weights = match &self.state_dict {
            Some(name) => Weights::StateDict { path: from.clone(), name: name.clone() },
            None => Weights::File(from.clone()),
        };
        let (tensors, warnings) =
            quantized_to_onnx(self.model, &weights, &self.to, metadata).context("nothing was converted")?;
        self.report(&from, tensors, std::fs::metadata(&self.to)?.len(), &warnings)
    }

    fn report(&self, from: &Path, tensors: usize, bytes: u64, warnings: &[String]) -> anyhow::Result<()> {
        say(self.model, warnings, None);
        match self.json {
            true => writeln!(stdout(), "{}", serde_json::json!({"tensors": tensors, "bytes": bytes}))?,
            false => {
                let (from, to) = (from.display(), self.to.display());
                writeln!(stdout(), "{from} -> {to}: {tensors} tensors, {bytes} bytes")?;
            }
        }
        Ok(())
    }
}
