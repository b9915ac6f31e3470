//! `cargo xtask explain`

use std::collections::BTreeMap;
use std::io::{Write, stdout};
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use clap::Args;
use inception_bench::{
    Algorithm, Alternative, Choice, Compiled, LayerError, LayerTime, Precision, Row, RunOptions, Runner,
    Sample, Scaling, Wait, accuracy, choices, cores, noise, peak_gflops,
};
use inception_nn::{ModelSpec, Network};
use serde::Serialize;

use crate::args::{ModelArgs, batch, tuning_folder};

#[derive(Args)]
pub struct Explain {
    #[command(flatten)]
    models: ModelArgs,
    /// Keep to algorithms that add and multiply as the network is written, without Winograd
    #[arg(long)]
    exact: bool,
    /// The plan with the kernels that are fastest here, measured first if need be, as bench --tune has it
    #[arg(long, conflicts_with_all = ["exact", "measure", "errors"])]
    tune: bool,
    /// Precision to compute in: f32, or bf16 where the CPU has AVX512-BF16
    #[arg(long, value_name = "NUMBERS", default_value = "f32")]
    precision: Precision,
    /// Time every layer by each algorithm that can compute it, beside what the cost model expects; fails where the plan's
    /// pick is slower than another beyond the noise
    #[arg(long)]
    measure: bool,
    /// Say what more threads would make of the plan, from the time that each layer takes one thread
    #[arg(long, conflicts_with_all = ["measure", "json"])]
    scaling: bool,
    /// Say how far each layer is from an evaluation in f64, by itself and from the image on, over the layer's largest value; and
    /// the logits, with and without --exact, and what --exact costs
    #[arg(long, conflicts_with_all = ["measure", "scaling", "json"])]
    errors: bool,
    /// Say where the time goes: each layer beside the machine's limit, a loop of multiply-adds; most time lost first
    #[arg(long, conflicts_with_all = ["measure", "scaling", "errors", "json"])]
    profile: bool,
    /// Print the summary of --errors or --profile as a row of a Markdown table
    #[arg(long)]
    summary: bool,
    /// Images a run with --scaling or --profile
    #[arg(long, value_name = "N", default_value = "1", value_parser = batch)]
    batch: usize,
    /// Times that --measure, --scaling and --profile run each layer
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..))]
    repeats: u16,
    /// CPU threads of --measure and --profile [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
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
        let tune = tuning_folder(self.tune);
        for spec in &self.models.models {
            let (exact, precision) = (self.exact, self.precision);
            let threads = self.threads.map_or_else(cores, usize::from);
            let tune = tune.clone();
            let mut options = RunOptions { exact, precision, threads, tune, ..RunOptions::default() };
            let network = spec.config().init(&options.open()?)?;
            if self.errors {
                self.print_errors(&mut out, spec, network, &options)?;
                continue;
            }
            if self.measure {
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
            if self.profile {
                self.print_profile(&mut out, spec, compiled, &options)?;
                continue;
            }
            if self.scaling {
                let counts = [1, 2, 4, 8, 16];
                let scaling = compiled.scaling(self.batch, self.repeats.into(), &counts)?;
                print_scaling(&mut out, spec.name, self.batch, compiled.barriers(), &scaling)?;
                continue;
            }
            if self.json {
                nodes.extend(compiled.explain().iter().cloned().map(
                    |Row { node, op, lowering, shape, macs, .. }| Node {
                        model: spec.name,
                        node,
                        op,
                        kernel: lowering,
                        shape,
                        macs,
                    },
                ));
                continue;
            }
            let (isa, arena) = (compiled.isa().name(), compiled.arena_bytes() as f64 / 1e6);
            let barriers = compiled.barriers();
            writeln!(
                out,
                "{}: {isa}, {precision}, activations of one image {arena:.1} MB, {barriers} barriers",
                spec.name
            )?;
            for row in compiled.explain() {
                let [height, width, channels] = row.shape;
                let shape = format!("{height}x{width}x{channels}");
                let macs = row.macs as f64 / 1e6;
                writeln!(
                    out,
                    "  {:<28} {:<34} {shape:<13} {macs:8.1} M  {}",
                    row.node, row.op, row.lowering
                )?;
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

    fn print_errors(
        &self,
        out: &mut impl Write,
        spec: &ModelSpec,
        network: Network,
        options: &RunOptions,
    ) -> anyhow::Result<()> {
        let image = noise(3 * spec.input_size.pow(2));
        let accuracy = accuracy(&network, [spec.input_size; 2], options, &image)?;
        let mut kernels: BTreeMap<String, Vec<&LayerError>> = BTreeMap::new();
        for layer in &accuracy.layers {
            kernels.entry(layer.kernel.to_string()).or_default().push(layer);
        }
        if !self.summary {
            let (name, precision, exact) = (spec.name, options.precision, options.exact);
            writeln!(out, "{name}, {precision}, exact {exact}: errors over the layer's largest value")?;
            writeln!(out, "  {:<44} {:<40} {:>8} {:>8}", "layer", "kernel", "own", "total")?;
            for LayerError { nodes, kernel, own, total } in &accuracy.layers {
                let nodes: String = nodes.join(" ").chars().take(44).collect();
                writeln!(out, "  {nodes:<44} {kernel:<40} {own:8.1e} {total:8.1e}")?;
            }
            for (kernel, layers) in &kernels {
                let worst = layers.iter().map(|layer| layer.own).fold(0.0, f64::max);
                writeln!(out, "  {kernel}: {} layers, the worst own error {worst:.1e}", layers.len())?;
            }
        }
        // The logits and the time of both settings, in turn so that neither has the better moments.
        let mut settings = Vec::new();
        for exact in [false, true] {
            let options = RunOptions { exact, ..options.clone() };
            let output = match exact == self.exact {
                true => accuracy.output,
                false => inception_bench::accuracy(&network, [spec.input_size; 2], &options, &image)?.output,
            };
            settings.push((
                output,
                Runner::new(network.clone(), [spec.input_size; 2], &options)?,
                Vec::new(),
            ));
        }
        for _ in 0..self.repeats {
            for (_, runner, times) in &mut settings {
                let start = Instant::now();
                runner.run(&image, 1)?;
                times.push(start.elapsed());
            }
        }
        let medians = settings.iter().map(|(_, _, times)| {
            Sample::new(times.iter().copied()).map_or(0.0, |sample| sample.median().as_secs_f64() * 1e3)
        });
        let ([default, exact], [fast, slow]) = (
            [settings[0].0, settings[1].0],
            <[f64; 2]>::try_from(medians.collect::<Vec<_>>()).map_err(|_| anyhow!("two settings"))?,
        );
        let worst = |wanted: Algorithm| {
            let layers = accuracy.layers.iter().filter(|layer| layer.kernel.algorithm() == wanted);
            let worst = layers.map(|layer| layer.own).fold(0.0, f64::max);
            if worst > 0.0 { format!("{worst:.1e}") } else { "-".to_owned() }
        };
        let [direct, winograd, strassen] =
            [Algorithm::Direct, Algorithm::Winograd, Algorithm::Strassen].map(worst);
        let cost = slow / fast;
        if self.summary {
            let (name, precision) = (spec.name, options.precision);
            writeln!(
                out,
                "| {name} | {precision} | {direct} | {winograd} | {strassen} | {default:.1e} | {exact:.1e} | {fast:.1} | {slow:.1} | {cost:.2} |"
            )?;
        } else {
            writeln!(
                out,
                "  logits: {default:.1e} of the largest, {exact:.1e} with --exact (promised 1e-4 in f32)"
            )?;
            writeln!(out, "  time: {fast:.1} ms, {slow:.1} ms with --exact, {cost:.2} times as long")?;
        }
        Ok(())
    }

    fn print_profile(
        &self,
        out: &mut impl Write,
        spec: &ModelSpec,
        compiled: &Compiled,
        options: &RunOptions,
    ) -> anyhow::Result<()> {
        let peak = peak_gflops(options.threads, options.precision);
        let image = noise(self.batch * 3 * spec.input_size.pow(2));
        let mut layers = compiled.profile(&image, self.batch, self.repeats.into())?;
        // At the limit all of its time would be multiply-adds; algorithms with fewer of them go past it.
        let lost = |layer: &LayerTime| layer.time.as_secs_f64() - 2.0 * layer.macs as f64 / (peak * 1e9);
        layers.sort_by(|a, b| lost(b).total_cmp(&lost(a)));
        let total: f64 = layers.iter().map(|layer| layer.time.as_secs_f64()).sum();
        let macs: u64 = layers.iter().map(|layer| layer.macs).sum();
        let limit = 2.0 * macs as f64 / (peak * 1e9);
        let mut kinds: BTreeMap<String, [f64; 3]> = BTreeMap::new();
        for layer in &layers {
            let kind = kinds.entry(layer.kernel.to_string()).or_default();
            kind[0] += layer.time.as_secs_f64();
            kind[1] += layer.macs as f64;
            kind[2] += lost(layer);
        }
        let mut kinds: Vec<_> = kinds.into_iter().collect();
        kinds.sort_by(|a, b| b.1[2].total_cmp(&a.1[2]));
        let (name, precision, threads, batch) = (spec.name, options.precision, options.threads, self.batch);
        if self.summary {
            let part = |(kernel, [seconds, macs, lost]): &(String, [f64; 3])| {
                let share = 2e-7 * macs / seconds / peak;
                format!("{kernel} {:+.1} ms ({:.1} ms, {share:.0} %)", lost * 1e3, seconds * 1e3)
            };
            let parts: Vec<_> = kinds.iter().filter(|kind| kind.1[2].abs() > 2e-4).map(part).collect();
            writeln!(
                out,
                "| {name} | {:.1} | {:.1} | {:.0} % | {} |",
                total * 1e3,
                limit * 1e3,
                100.0 * limit / total,
                parts.join("; ")
            )?;
            return Ok(());
        }
        writeln!(
            out,
            "{name}, {precision}, batch {batch}, {threads} threads: {:.2} ms in steps, {:.2} ms of multiply-adds at the limit of {peak:.0} GFLOP/s",
            total * 1e3,
            limit * 1e3
        )?;
        let row = |out: &mut dyn Write, what: &str, kernel: &str, [seconds, macs, lost]: [f64; 3]| {
            writeln!(
                out,
                "  {what:<44} {kernel:<40} {:>8.0} us {:>7.1} GFLOP/s {:>5.0} % {:>+8.0} us",
                seconds * 1e6,
                2e-9 * macs / seconds,
                2e-7 * macs / seconds / peak,
                lost * 1e6
            )
        };
        writeln!(
            out,
            "  layer or kernel, time, operations of the direct method a second, share of the limit, time lost to it"
        )?;
        for layer in &layers {
            let nodes: String = layer.nodes.join(" ").chars().take(44).collect();
            let figures = [layer.time.as_secs_f64(), layer.macs as f64, lost(layer)];
            row(out, &nodes, &layer.kernel.to_string(), figures)?;
        }
        for (kernel, figures) in kinds {
            row(out, "", &kernel, figures)?;
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
        kernel: alternative.kernel.to_string(),
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
    barriers: usize,
    scaling: &[Scaling],
) -> anyhow::Result<()> {
    let between = scaling.first().map_or(0.0, |one| us(one.time) / barriers.max(1) as f64);
    writeln!(out, "{model}, batch {batch}: {barriers} barriers, {between:.0} us of work between two")?;
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
