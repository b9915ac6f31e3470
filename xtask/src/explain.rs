//! `cargo xtask explain`

use std::io::{Write, stdout};
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use inception_bench::{Alternative, Choice, DeviceKind, Row, RunOptions, Runner, Scaling, Wait, choices};
use serde::Serialize;

use crate::args::{ModelArgs, Precision, batch};

#[derive(Args)]
pub struct Explain {
    #[command(flatten)]
    models: ModelArgs,
    /// Keep to algorithms that add and multiply as the network is written, without Winograd
    #[arg(long)]
    exact: bool,
    /// Precision to compute in: f32, or bf16 where the CPU has AVX512-BF16
    #[arg(long, value_enum, value_name = "NUMBERS", default_value = "f32")]
    precision: Precision,
    /// Time every layer by each algorithm that can compute it, beside what the cost model expects; fails where the plan's
    /// pick is slower than another beyond the noise
    #[arg(long)]
    measure: bool,
    /// Say what more threads would make of the plan, from the time that each layer takes one thread
    #[arg(long, conflicts_with_all = ["measure", "json"])]
    scaling: bool,
    /// Images a run with --scaling
    #[arg(long, value_name = "N", default_value = "1", requires = "scaling", value_parser = batch)]
    batch: usize,
    /// Times that --measure and --scaling run each layer
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..))]
    repeats: u16,
    /// CPU threads of --measure [default: all cores]
    #[arg(long, value_name = "N", requires = "measure", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A row of `--json`.
#[derive(Serialize)]
struct Node {
    model: &'static str,
    node: String,
    op: String,
    kernel: String,
    shape: [usize; 3],
    macs: u64,
}

impl Explain {
    pub fn run(&self) -> anyhow::Result<()> {
        let mut out = stdout().lock();
        let mut nodes = Vec::new();
        let (mut timed, mut lagging) = (Vec::new(), 0);
        for spec in &self.models.models {
            let network = spec.config().init(&DeviceKind::Engine.open()?)?;
            let precision = self.precision.on(DeviceKind::Engine)?;
            let mut options = RunOptions { exact: self.exact, precision, ..RunOptions::default() };
            if self.measure {
                options.threads = self.threads.map_or(0, usize::from);
                let choices = choices(&network, [spec.input_size; 2], &options, self.repeats.into())?;
                lagging += choices.iter().filter(|choice| choice.lag().is_some()).count();
                if self.json {
                    timed.extend(choices.iter().flat_map(|choice| timings(spec.name, choice)));
                } else {
                    print_choices(&mut out, spec.name, &choices)?;
                }
                continue;
            }
            if self.scaling {
                options.threads = 1;
            }
            let runner = Runner::new(network, [spec.input_size; 2], &options)?;
            let Some(compiled) = runner.compiled() else { continue };
            if self.scaling {
                let counts = [1, 2, 4, 8, 16];
                let scaling = compiled.scaling(self.batch, self.repeats.into(), &counts)?;
                print_scaling(&mut out, spec.name, self.batch, compiled.waves(), &scaling)?;
                continue;
            }
            if self.json {
                nodes.extend(compiled.explain().iter().cloned().map(
                    |Row { node, op, kernel, shape, macs }| Node {
                        model: spec.name,
                        node,
                        op,
                        kernel,
                        shape,
                        macs,
                    },
                ));
                continue;
            }
            let (isa, arena) = (compiled.isa().name(), compiled.arena_bytes() as f64 / 1e6);
            let waves = compiled.waves();
            writeln!(
                out,
                "{}: {isa}, {precision}, activations of one image {arena:.1} MB, {waves} meetings of the threads",
                spec.name
            )?;
            for row in compiled.explain() {
                let [height, width, channels] = row.shape;
                let shape = format!("{height}x{width}x{channels}");
                let macs = row.macs as f64 / 1e6;
                writeln!(out, "  {:<28} {:<34} {shape:<13} {macs:8.1} M  {}", row.node, row.op, row.kernel)?;
            }
        }
        if self.json && self.measure {
            writeln!(out, "{}", serde_json::to_string_pretty(&timed)?)?;
        } else if self.json {
            writeln!(out, "{}", serde_json::to_string_pretty(&nodes)?)?;
        }
        if lagging > 0 {
            bail!("the plan's pick is not the fastest in {lagging} layers (marked in the table)");
        }
        Ok(())
    }
}

/// A row of `--measure --json`.
#[derive(Serialize)]
struct Timing {
    model: &'static str,
    nodes: Vec<String>,
    kernel: String,
    picked: bool,
    predicted_us: f64,
    median_us: f64,
    deciles_us: [f64; 2],
    /// How many times as long the pick takes as the best, where that is beyond the noise.
    lag: Option<f64>,
}

fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn timings(model: &'static str, choice: &Choice) -> Vec<Timing> {
    let timing = |(i, alternative): (usize, &Alternative)| Timing {
        model,
        nodes: choice.nodes.clone(),
        kernel: alternative.kernel.clone(),
        picked: i == 0,
        predicted_us: us(alternative.predicted),
        median_us: us(alternative.median),
        deciles_us: alternative.deciles.map(us),
        lag: if i == 0 { choice.lag() } else { None },
    };
    choice.alternatives.iter().enumerate().map(timing).collect()
}

fn print_choices(out: &mut impl Write, model: &str, choices: &[Choice]) -> anyhow::Result<()> {
    writeln!(out, "{model}: microseconds; the plan's pick first")?;
    writeln!(out, "  {:<40} {:<40} {:>9} {:>9}  10 to 90 %", "", "", "predicted", "median")?;
    for choice in choices {
        let mut nodes: String = choice.nodes.join(" ").chars().take(40).collect();
        for Alternative { kernel, predicted, median, deciles } in &choice.alternatives {
            let [low, high] = deciles.map(us);
            writeln!(
                out,
                "  {nodes:<40} {kernel:<40} {:>9.0} {:>9.0}  {low:.0}-{high:.0}",
                us(*predicted),
                us(*median)
            )?;
            nodes.clear();
        }
        if let Some(lag) = choice.lag() {
            writeln!(out, "  ^ the pick takes {lag:.2} times as long as the best")?;
        }
    }
    Ok(())
}

fn print_scaling(
    out: &mut impl Write,
    model: &str,
    batch: usize,
    waves: usize,
    scaling: &[Scaling],
) -> anyhow::Result<()> {
    let per_wave = scaling.first().map_or(0.0, |one| us(one.time) / waves.max(1) as f64);
    writeln!(
        out,
        "{model}, batch {batch}: {waves} meetings of the threads, {per_wave:.0} us of work between two"
    )?;
    for Scaling { threads, time, share_of_ideal, waits } in scaling {
        let ms = time.as_secs_f64() * 1e3;
        writeln!(out, "  {threads:>2} threads: {ms:8.2} ms, {:3.0} % of ideal", share_of_ideal * 100.0)?;
        for Wait { nodes, tasks, work, lost } in waits.iter().take(3).filter(|wait| us(wait.lost) >= 1.0) {
            let nodes: String = nodes.join(" ").chars().take(48).collect();
            let (lost, work) = (us(*lost), us(*work));
            writeln!(out, "      {lost:6.0} us lost in {nodes}: {work:.0} us in {tasks} tasks")?;
        }
    }
    Ok(())
}
