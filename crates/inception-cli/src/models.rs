//! `models`

use std::io::{Write, stdout};

use clap::Args;
use inception::{counts_markdown, model_rows, models_markdown};

#[derive(Args)]
pub struct Models {
    /// Print exact counts beside the published ones, and why they differ
    #[arg(long, conflicts_with = "json")]
    counts: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Models {
    pub fn run(&self) -> anyhow::Result<()> {
        let rows = model_rows()?;
        let text = match (self.json, self.counts) {
            (true, _) => serde_json::to_string_pretty(&rows)? + "\n",
            (false, true) => counts_markdown(&rows),
            (false, false) => models_markdown(&rows),
        };
        Ok(stdout().write_all(text.as_bytes())?)
    }
}
