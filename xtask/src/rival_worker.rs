//! `cargo xtask rival-worker`: our process in `cargo xtask rivals`, one like the others'.

use std::fs;
use std::io::{BufRead, Write, stdin, stdout};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Args;
use inception::burn::tensor::Device;
use inception::weights::{Checkpoint, load};
use inception::{ModelSpec, RunOptions, Runner};
use inception_cli::args::{DeviceArgs, model};

#[derive(Args)]
pub struct RivalWorker {
    /// The network whose files are asked for
    #[arg(long, value_name = "NAME", value_parser = model)]
    model: &'static ModelSpec,
    #[command(flatten)]
    device: DeviceArgs,
}

/// A network that was loaded, and the images that it is run on.
struct Loaded {
    runner: Runner,
    batch: usize,
    images: Vec<f32>,
}

impl RivalWorker {
    /// Reads requests a line each and answers each with a line; `bench/rivals.py` says which.
    pub fn run(&self) -> anyhow::Result<()> {
        let options = self.device.apply()?;
        let mut loaded = None;
        for request in stdin().lock().lines() {
            let answer = self.answer(&request?, &options, &mut loaded);
            let answer = answer.unwrap_or_else(|error| format!("error {error:#}").replace('\n', " "));
            writeln!(stdout().lock(), "{answer}")?;
        }
        Ok(())
    }

    fn answer(
        &self,
        request: &str,
        options: &RunOptions,
        loaded: &mut Option<Loaded>,
    ) -> anyhow::Result<String> {
        let words: Vec<_> = request.split_whitespace().collect();
        if let ["load", file, batch] = words[..] {
            let batch = batch.parse().context("the batch")?;
            let checkpoint = Checkpoint::open(file)?;
            let network = |device: &Device| Ok(load(self.model, &checkpoint, device)?.network);
            let runner = Runner::build(network, [self.model.input_size; 2], options)?;
            let images = vec![0.0; batch * runner.image_len()];
            *loaded = Some(Loaded { runner, batch, images });
            return Ok(format!("ready {}", env!("CARGO_PKG_VERSION")));
        }
        let Some(Loaded { runner, batch, images }) = loaded else { bail!("nothing is loaded") };
        match words[..] {
            ["infer", input, output] => {
                *images = read_floats(Path::new(input))?;
                write_floats(Path::new(output), &runner.run(images, *batch)?)?;
                Ok("done".to_owned())
            }
            ["time", runs] => {
                let mut times = Vec::new();
                for _ in 0..runs.parse().context("the number of runs")? {
                    let start = Instant::now();
                    std::hint::black_box(runner.run(images, *batch)?);
                    times.push(format!("{:.4}", start.elapsed().as_secs_f64() * 1e3));
                }
                Ok(times.join(" "))
            }
            _ => bail!("no such request: {request}"),
        }
    }
}

/// Little-endian floats of a file.
pub fn read_floats(path: &Path) -> anyhow::Result<Vec<f32>> {
    let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let (chunks, _) = bytes.as_chunks::<4>();
    Ok(chunks.iter().map(|&b| f32::from_le_bytes(b)).collect())
}

/// Writes little-endian floats.
pub fn write_floats(path: &Path, floats: &[f32]) -> anyhow::Result<()> {
    let bytes: Vec<u8> = floats.iter().flat_map(|v| v.to_le_bytes()).collect();
    fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))
}
