//! `explain`

mod choices;
mod errors;
mod plan;
mod profile;
mod scaling;

use std::io::{Write, stdout};

use anyhow::bail;
use clap::Args;
use inception::engine::noise;
use inception::{Precision, RunOptions, Runner, cores};

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
    /// Element type to compute in: f32, int8, or bf16 where the CPU has AVX512-BF16
    #[arg(long, value_name = "DTYPE", default_value = "f32")]
    precision: Precision,
    /// Time every layer by each algorithm that can compute it, beside what the cost model expects; fails
    /// where the plan's pick is slower than another beyond the noise
    #[arg(long)]
    measure: bool,
    /// Say what more threads would make of the plan, from the time that each layer takes one thread
    #[arg(long, conflicts_with_all = ["measure", "json"])]
    scaling: bool,
    /// Say how far each layer is from an evaluation in f64, by itself and from the image on, over the layer's
    /// largest value; and the logits, with and without --exact, and what --exact costs
    #[arg(long, conflicts_with_all = ["measure", "scaling", "json"])]
    errors: bool,
    /// Say where the time goes: each layer beside the machine's limit, a loop of multiply-adds; most time
    /// lost first
    #[arg(long, conflicts_with_all = ["measure", "scaling", "errors", "json"])]
    profile: bool,
    /// Print the summary of --errors or --profile as a row of a Markdown table
    #[arg(long)]
    summary: bool,
    /// Images a run with --scaling or --profile
    #[arg(long, value_name = "N", default_value = "1", value_parser = batch)]
    batch: usize,
    /// Times that --measure, --scaling, --errors and --profile run each layer
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..))]
    repeats: u16,
    /// CPU threads, but of --scaling [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Explain {
    pub fn run(&self) -> anyhow::Result<()> {
        let mut out = stdout().lock();
        // Rows of --json: nodes of plans, or timings.
        let (mut nodes, mut timings) = (Vec::new(), Vec::new());
        let mut lagging = 0;
        let mut options = RunOptions::default().with_precision(self.precision);
        options.check()?;
        options.threads = if self.scaling { 1 } else { self.threads.map_or_else(cores, usize::from) };
        (options.exact, options.tune) = (self.exact, tuning_folder(self.tune));
        let (batch, repeats) = (self.batch, self.repeats.into());
        for spec in &self.models.models {
            let (config, size) = (spec.config(), [spec.input_size; 2]);
            let options = options.calibrated_on_noise(&config, size)?;
            if self.errors {
                errors::print(&mut out, spec, &options, repeats, self.summary)?;
                continue;
            }
            if self.measure {
                let choices = inception_bench::choices(&config, size, &options, repeats)?;
                lagging += choices.iter().filter(|choice| choice.lag().is_some()).count();
                match self.json {
                    true => {
                        timings.extend(choices.iter().flat_map(|choice| choices::timings(spec.name, choice)))
                    }
                    false => choices::print(&mut out, spec.name, &choices)?,
                }
                continue;
            }
            let runner = Runner::build(|device| Ok(config.init(device)?), size, &options)?;
            let Some(compiled) = runner.compiled() else { continue };
            if self.profile {
                let layers = compiled.profile(&noise(batch * runner.image_len()), batch, repeats)?;
                profile::print(&mut out, spec.name, &options, batch, layers, self.summary)?;
            } else if self.scaling {
                let scaling = compiled.scaling(batch, repeats, &[1, 2, 4, 8, 16])?;
                scaling::print(&mut out, spec.name, batch, compiled.barriers(), &scaling)?;
            } else if self.json {
                nodes.extend(plan::nodes(spec.name, compiled));
            } else {
                plan::print(&mut out, spec.name, self.precision, compiled)?;
            }
        }
        if self.json && self.measure {
            writeln!(out, "{}", serde_json::to_string_pretty(&timings)?)?;
        } else if self.json {
            writeln!(out, "{}", serde_json::to_string_pretty(&nodes)?)?;
        }
        if lagging > 0 {
            bail!("the plan's pick is not the fastest in {lagging} layers (marked in the table)");
        }
        Ok(())
    }
}
