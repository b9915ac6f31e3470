//! `cargo xtask parity`: full-size checkpoints, written by the real tools, against what those tools compute.

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use burn::tensor::{Device, Tensor, TensorData};
use clap::Args;
use inception_weights::{Checkpoint, load};
use serde::Deserialize;

/// Of the largest logit, as the project promises.
const TOLERANCE: f32 = 1e-4;

#[derive(Args)]
pub struct Parity {
    /// Where the environments of the real tools are, or are made: rivals, paddle and p2o
    #[arg(long, value_name = "DIR", default_value = "target/parity/environments")]
    environments: PathBuf,
    /// Where the checkpoints are, or are made; about 8 GB
    #[arg(long, value_name = "DIR", default_value = "target/parity/checkpoints")]
    checkpoints: PathBuf,
    /// Compare what is there; make nothing
    #[arg(long)]
    no_make: bool,
    /// Also write the table to this file
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
}

/// A line of the manifests that `full_size.py` writes.
#[derive(Deserialize)]
struct Row {
    model: String,
    size: usize,
    source: String,
    file: String,
}

impl Parity {
    pub fn run(&self) -> anyhow::Result<()> {
        if !self.no_make {
            self.make()?;
        }
        let mut rows: Vec<Row> = Vec::new();
        let folder = std::fs::read_dir(&self.checkpoints);
        for file in folder.with_context(|| format!("{}", self.checkpoints.display()))? {
            let path = file?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("manifest-")) {
                let text = std::fs::read_to_string(&path)?;
                let manifest: Vec<Row> =
                    serde_json::from_str(&text).with_context(|| format!("{}", path.display()))?;
                rows.extend(manifest);
            }
        }
        ensure!(!rows.is_empty(), "no checkpoints in {}", self.checkpoints.display());
        rows.sort_by(|a, b| (&a.model, &a.file).cmp(&(&b.model, &b.file)));
        let mut table = String::from(
            "| network | file | format | written by | worst difference / largest logit | load, s |\n|---|---|---|---|---|---|\n",
        );
        let mut failures = 0;
        for row in &rows {
            let line = match self.compare(row) {
                Ok((format, worst, seconds)) => {
                    failures += usize::from(worst > TOLERANCE);
                    let verdict = if worst > TOLERANCE { " **over**" } else { "" };
                    format!("{format} | {} | {worst:.1e}{verdict} | {seconds:.2} |", row.source)
                }
                Err(error) => {
                    failures += 1;
                    format!("- | {} | **{}** | |", row.source, format!("{error:#}").replace('\n', " "))
                }
            };
            let line = format!("| {} | {} | {line}\n", row.model, row.file);
            stdout().write_all(line.as_bytes())?;
            table += &line;
        }
        if let Some(path) = &self.table {
            std::fs::write(path, table).with_context(|| format!("{}", path.display()))?;
        }
        match failures {
            0 => Ok(()),
            _ => bail!("{failures} of {} checkpoints differ", rows.len()),
        }
    }

    /// Environments and checkpoints, as far as they are not there.
    fn make(&self) -> anyhow::Result<()> {
        let scripts = Path::new("tests/goldens/weights");
        let run = |command: &mut Command| -> anyhow::Result<()> {
            let status = command.status().with_context(|| format!("starting {command:?}"))?;
            ensure!(status.success(), "{command:?} failed: {status}");
            Ok(())
        };
        run(Command::new("bash").arg(scripts.join("environments.sh")).arg(&self.environments))?;
        for (kind, environment) in [("torch", "rivals"), ("paddle", "paddle"), ("p2o", "p2o")] {
            let done = self.checkpoints.join(format!("{kind}.done"));
            if !done.exists() {
                let python = self.environments.join(environment).join("bin/python");
                run(Command::new(python).arg(scripts.join("full_size.py")).arg(kind).arg(&self.checkpoints))?;
                std::fs::write(done, "")?;
            }
        }
        Ok(())
    }

    fn compare(&self, row: &Row) -> anyhow::Result<(&'static str, f32, f64)> {
        let spec = inception_nn::model(&row.model)?;
        let device = Device::flex();
        let start = Instant::now();
        let checkpoint = Checkpoint::open(self.checkpoints.join(&row.file))?;
        let loaded = load(spec, &checkpoint, &device)?;
        let seconds = start.elapsed().as_secs_f64();
        let input =
            TensorData::new(self.floats(&format!("input{}.f32", row.size))?, [1, 3, row.size, row.size]);
        let reference = self.floats(&format!("{}.logits.f32", row.model))?;
        let logits = loaded.network.forward(Tensor::<4>::from_data(input, &device)).into_data();
        let logits = logits.try_into_vec::<f32>().map_err(|e| anyhow::anyhow!("{e:?}"))?;
        ensure!(logits.len() == reference.len(), "{} logits, not {}", logits.len(), reference.len());
        let largest = reference.iter().fold(0f32, |m, v| m.max(v.abs()));
        let off = logits.iter().zip(&reference).map(|(a, b)| (a - b).abs());
        // A NaN is the worst difference of all, which `max` would pass over.
        let worst = off.fold(0f32, |m, d| if d.is_nan() { f32::INFINITY } else { m.max(d) });
        Ok((checkpoint.format.name(), worst / largest, seconds))
    }

    fn floats(&self, name: &str) -> anyhow::Result<Vec<f32>> {
        let path = self.checkpoints.join(name);
        let bytes = std::fs::read(&path).with_context(|| format!("{}", path.display()))?;
        let (chunks, _) = bytes.as_chunks::<4>();
        Ok(chunks.iter().map(|&b| f32::from_le_bytes(b)).collect())
    }
}
