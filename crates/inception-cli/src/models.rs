//! `models`

use std::io::{Write, stdout};

use clap::Args;
use inception::{model_rows, models_markdown};

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
