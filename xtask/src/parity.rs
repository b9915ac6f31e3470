//! `cargo xtask parity`: full-size checkpoints, written by the real tools, against what those tools compute.

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use clap::Args;
use inception::burn::tensor::Device;
use inception::nn::with_storage_device;
use inception::weights::{Checkpoint, load};
use inception::{ModelSpec, RunOptions, Runner};
use inception_bench::{Environment, median, peak_memory_mb, reset_peak_memory};
use serde::{Deserialize, Serialize};

/// Of the largest logit, as the project promises.
const TOLERANCE: f32 = 1e-4;

#[derive(Args)]
pub struct Parity {
    /// Where the environments of the real tools are, or are made: rivals, paddle, p2o and keras
    #[arg(long, value_name = "DIR", default_value = "target/parity/environments")]
    environments: PathBuf,
    /// Where the checkpoints are, or are made; about 9 GB
    #[arg(long, value_name = "DIR", default_value = "target/parity/checkpoints")]
    checkpoints: PathBuf,
    /// Compare what is there; make nothing
    #[arg(long)]
    no_make: bool,
    /// Also write the table to this file
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
    /// Instead, how long loading takes from each format and how much memory, beside the tools' own readers;
    /// the table goes to this file
    #[arg(long, value_name = "FILE")]
    loading: Option<PathBuf>,
    /// Load one file and print what it took: what --loading starts for each file
    #[arg(long, value_name = "FILE", hide = true, requires = "model")]
    load: Option<PathBuf>,
    #[arg(long, value_name = "NAME", hide = true, value_parser = inception_cli::args::model)]
    model: Option<&'static ModelSpec>,
}

/// What loading a file took.
#[derive(Clone, Copy, Deserialize, Serialize)]
struct Loading {
    seconds: f64,
    /// The most resident memory beyond what there was before, in MB of 10^6 bytes.
    megabytes: f64,
}

/// Files of [`full_size.py`](../../tests/goldens/weights/full_size.py), and the environment whose reader is
/// the rival.
const LOADED: &[(&str, &str, Option<&str>)] = &[
    ("timm-xception65", "timm-xception65.pth", Some("rivals")),
    ("timm-xception65", "timm-xception65.legacy.pth", Some("rivals")),
    ("timm-xception65", "timm-xception65.safetensors", Some("rivals")),
    ("Xception65", "Xception65.protocol4.pdparams", Some("paddle")),
    ("Xception65", "Xception65.protocol2.pdparams", Some("paddle")),
    ("timm-xception65", "timm-xception65.torchscript.onnx", None),
    ("Xception65", "Xception65.p2o.onnx", None),
    ("Xception65", "Xception65.pir/inference.json", None),
    ("torchvision-inception_v3", "torchvision-inception_v3.module.pth", None),
    ("torchvision-inception_v3", "torchvision-inception_v3.training.pth", None),
    ("torchvision-inception_v3", "torchvision-inception_v3.traced.pt", None),
    ("torchvision-inception_v3", "torchvision-inception_v3.exported.pt2", None),
    ("torchvision-inception_v3", "torchvision-inception_v3.transformed.dynamo.onnx", None),
    ("GoogLeNet", "GoogLeNet.old.softmax/inference.pdmodel", None),
    ("keras-xception", "keras-xception.h5", None),
    ("keras-xception", "keras-xception.weights.h5", None),
    ("keras-xception", "keras-xception.keras", None),
];

/// Runs of each, in turns; the median counts.
const RUNS: usize = 5;

/// A line of the manifests that `full_size.py` writes.
#[derive(Deserialize)]
struct Row {
    model: String,
    size: usize,
    source: String,
    file: String,
    /// The file of the tool's logits; by the model's name unless said.
    logits: Option<String>,
}

impl Parity {
    pub fn run(&self) -> anyhow::Result<()> {
        if let (Some(file), Some(spec)) = (&self.load, self.model) {
            let found = load_alone(spec, file)?;
            return Ok(writeln!(stdout(), "{}", serde_json::to_string(&found)?)?);
        }
        if !self.no_make {
            self.make()?;
        }
        if let Some(path) = &self.loading {
            return self.loading(path);
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
            "# Full-size checkpoints against the tools that wrote them\n\n\
             What `cargo xtask parity --table FILE` wrote. The input is the photograph\n\
             `tests/images/ILSVRC2012_val_00000010.jpeg`, resized by Pillow and normalised once for all tools; ours: the engine.\n\n\
             | network | file | format | written by | worst difference / largest logit | load, s |\n|---|---|---|---|---|---|\n",
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
        for (kind, environment) in [
            ("torch", "rivals"),
            ("exports", "rivals"),
            ("paddle", "paddle"),
            ("p2o", "p2o"),
            ("keras", "keras"),
        ] {
            let done = self.checkpoints.join(format!("{kind}.done"));
            if !done.exists() {
                let python = self.environments.join(environment).join("bin/python");
                run(Command::new(&python)
                    .arg(scripts.join("full_size.py"))
                    .arg(kind)
                    .arg(&self.checkpoints))?;
                // Really trained weights, by npm; without that program they are left out.
                let has_npm = Command::new("npm").arg("--version").output().is_ok();
                if kind == "keras" && has_npm {
                    run(Command::new(python).arg(scripts.join("real.py")).arg(&self.checkpoints))?;
                }
                std::fs::write(done, "")?;
            }
        }
        Ok(())
    }

    /// Measures each file of [`LOADED`] and writes the table.
    fn loading(&self, path: &Path) -> anyhow::Result<()> {
        let ours = std::env::current_exe().context("this program's own path")?;
        let Environment { cpu, cores, commit, .. } = Environment::here();
        let commit = commit.as_deref().unwrap_or("unknown");
        let mut table = format!(
            "# Loading from each format\n\n\
             What `cargo xtask parity --loading FILE` wrote: medians of {RUNS} runs in turns, each a process of its own, files\n\
             in the page cache. Ours opens the file and fills the network; Python's is the call alone, of `torch.load`,\n\
             `safetensors.numpy.load_file` or `paddle.load`. Memory: the peak beyond what the process had before.\n\n\
             {cpu}, {cores} cores; commit {commit}.\n\n| file | MB | ours, s | ours, MB | Python, s | Python, MB |\n|---|---|---|---|---|---|\n"
        );
        for &(model, name, environment) in LOADED {
            let file = self.checkpoints.join(name);
            if !file.exists() {
                eprintln!("{}: not there, left out", file.display());
                continue;
            }
            let mut runs: [Vec<Loading>; 2] = Default::default();
            // The first run brings the file into the page cache, and does not count.
            for run in 0..=RUNS {
                let mut commands = vec![Command::new(&ours)];
                commands[0].args(["parity", "--model", model, "--load"]).arg(&file);
                commands.extend(environment.map(|environment| {
                    let mut command = Command::new(self.environments.join(environment).join("bin/python"));
                    command.arg("tests/goldens/weights/load_time.py").arg(&file);
                    command
                }));
                for (command, runs) in commands.iter_mut().zip(&mut runs) {
                    let output = command.output().with_context(|| format!("starting {command:?}"))?;
                    let errors = String::from_utf8_lossy(&output.stderr);
                    ensure!(output.status.success(), "{command:?}: {errors}");
                    let text = String::from_utf8_lossy(&output.stdout);
                    let line = text.lines().last().unwrap_or_default();
                    let found = serde_json::from_str(line).with_context(|| format!("{command:?}: {line}"))?;
                    if run > 0 {
                        runs.push(found);
                    }
                }
            }
            // A program's values are beside it, and those of ONNX may be.
            let files = [file.clone(), file.with_extension("pdiparams"), file.with_extension("onnx.data")];
            let size: u64 = files.iter().filter_map(|file| Some(std::fs::metadata(file).ok()?.len())).sum();
            let size = size as f64 / 1e6;
            let [ours, theirs] = runs.map(|runs| {
                let median = |value: fn(&Loading) -> f64| median(runs.iter().map(value));
                match (median(|run| run.seconds), median(|run| run.megabytes)) {
                    (Some(seconds), Some(megabytes)) => format!("{seconds:.3} | {megabytes:.0}"),
                    _ => "- | -".to_owned(),
                }
            });
            let line = format!("| {name} | {size:.0} | {ours} | {theirs} |\n");
            stdout().write_all(line.as_bytes())?;
            table += &line;
        }
        std::fs::write(path, table).with_context(|| format!("{}", path.display()))
    }

    fn compare(&self, row: &Row) -> anyhow::Result<(&'static str, f32, f64)> {
        let spec = inception::model(&row.model)?;
        let start = Instant::now();
        let checkpoint = Checkpoint::open(self.checkpoints.join(&row.file))?;
        let mut seconds = 0.0;
        let init = |device: &Device| {
            let loaded = load(spec, &checkpoint, device)?;
            seconds = start.elapsed().as_secs_f64();
            Ok(loaded.network)
        };
        let runner = Runner::build(init, [row.size; 2], &RunOptions::default())?;
        let mut input = self.floats(&format!("input{}.f32", row.size))?;
        // What the file does to its image itself is part of our preprocessing.
        let transform = checkpoint.surroundings.input.unwrap_or([[1.0, 0.0]; 3]);
        for (plane, [scale, shift]) in input.chunks_mut(row.size * row.size).zip(transform) {
            plane.iter_mut().for_each(|value| *value = (f64::from(*value) * scale + shift) as f32);
        }
        let logits = runner.run(&input, 1)?;
        let own = format!("{}.logits.f32", row.model);
        let reference = self.floats(row.logits.as_ref().unwrap_or(&own))?;
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

/// Loads a file in this process, which has done nothing else.
fn load_alone(spec: &'static ModelSpec, file: &Path) -> anyhow::Result<Loading> {
    reset_peak_memory();
    let before = peak_memory_mb();
    let start = Instant::now();
    let checkpoint = Checkpoint::open(file)?;
    // The network is dropped while its device is there.
    let seconds = with_storage_device(|device| {
        let _loaded = load(spec, &checkpoint, device)?;
        anyhow::Ok(start.elapsed().as_secs_f64())
    })?;
    let megabytes = peak_memory_mb().zip(before).map(|(after, before)| after - before);
    Ok(Loading {
        seconds,
        megabytes: megabytes.context("this system does not say how much memory a process has")?,
    })
}
