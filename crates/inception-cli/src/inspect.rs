//! `inspect`

use std::io::{Write, stdout};
use std::path::PathBuf;

use clap::Args;
use inception::weights::{Checkpoint, Dtype, fitting_models};

#[derive(Args)]
pub struct Inspect {
    /// The checkpoint, in any known format
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub fn run(&self) -> anyhow::Result<()> {
        let checkpoint = Checkpoint::open(&self.file)?;
        let models: Vec<_> = fitting_models(&checkpoint).iter().map(|spec| spec.name).collect();
        let numbers = checkpoint.entries.iter().filter(|e| !matches!(e.dtype, Dtype::Other(_)));
        let parameters: usize = numbers.map(|e| e.len()).sum();
        let text = match self.json {
            true => {
                let tensors = checkpoint.entries.iter().map(
                    |e| serde_json::json!({"name": e.key, "shape": e.shape, "dtype": e.dtype.to_string()}),
                );
                let tensors: Vec<_> = tensors.collect();
                let metadata: serde_json::Map<_, _> =
                    checkpoint.metadata.iter().map(|(k, v)| (k.to_owned(), v.into())).collect();
                let whole = serde_json::json!({
                    "format": checkpoint.format.name(), "tensors": tensors, "parameters": parameters,
                    "likely_models": models, "metadata": metadata,
                });
                serde_json::to_string_pretty(&whole)? + "\n"
            }
            false => {
                let mut text = format!(
                    "{}: {}, {} tensors, {parameters} values\n",
                    self.file.display(),
                    checkpoint.format.name(),
                    checkpoint.entries.len()
                );
                let fits = if models.is_empty() { "no known model".to_owned() } else { models.join(", ") };
                text += &format!("fits: {fits}\n");
                for (key, value) in checkpoint.metadata.iter() {
                    let short: String = value.chars().take(80).collect();
                    text += &format!("{key}: {short}\n");
                }
                for e in &checkpoint.entries {
                    text += &format!("  {:<70} {:<6} {:?}\n", e.key, e.dtype.to_string(), e.shape);
                }
                text
            }
        };
        Ok(stdout().write_all(text.as_bytes())?)
    }
}
