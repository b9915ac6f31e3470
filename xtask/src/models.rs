//! `cargo xtask models`

use std::io::{Write, stdout};

use clap::Args;
use inception_bench::{model_rows, models_markdown};
use inception_nn::MODELS;

/// The end of `--help`.
pub fn help() -> String {
    let names: Vec<_> = MODELS.iter().map(|spec| spec.name).collect();
    format!(
        "Models: {}\n\nA first try:\n  cargo xtask predict --model GoogLeNet --random-weights --image \
         tests/images/ILSVRC2012_val_00000010.jpeg",
        names.join(" ")
    )
}

#[derive(Args)]
pub struct Models {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Models {
    pub fn run(&self) -> anyhow::Result<()> {
        let rows = model_rows()?;
        let text = match self.json {
            true => serde_json::to_string_pretty(&rows)? + "\n",
            false => models_markdown(&rows),
        };
        Ok(stdout().write_all(text.as_bytes())?)
    }
}
