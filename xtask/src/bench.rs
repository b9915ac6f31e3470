//! `cargo xtask bench`

use std::fs;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use inception_bench::{
    Change, Circumstances, Effort, LatencyRow, Regime, Runner, cores, latency, latency_csv, peak_gflops,
    reference_ms, reset_peak_memory,
};
use inception_nn::ModelSpec;

use crate::args::{DeviceArgs, batch, model, table_models};

#[derive(Args)]
pub struct Bench {
    /// Networks by name; several with commas between [default: all of the reference's table]
    #[arg(long = "model", value_name = "NAME", value_delimiter = ',', value_parser = model)]
    models: Vec<&'static ModelSpec>,
    /// Images a run; several with commas between
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1", value_parser = batch)]
    batch: Vec<usize>,
    #[command(flatten)]
    device: DeviceArgs,
    /// Most time to spend on one cell of the table, in seconds; less if its median is known sooner
    #[arg(long, value_name = "S", default_value_t = 3.0, value_parser = seconds)]
    seconds: f64,
    /// An earlier run's --json output: mark what became faster or slower beyond the spread of both runs
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Print JSON
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print comma-separated values
    #[arg(long)]
    csv: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.trim().parse().map_err(|e| format!("{e}"))?;
    if (0.01..=3600.0).contains(&seconds) { Ok(seconds) } else { Err("0.01 to 3600 seconds".to_owned()) }
}

impl Bench {
    pub fn run(&self) -> anyhow::Result<()> {
        let options = self.device.apply()?;
        let baseline = self.baseline.as_deref().map(read_baseline).transpose()?;
        let threads = if options.threads == 0 { cores() } else { options.threads };
        let on = Circumstances {
            device: options.device.to_string(),
            threads,
            precision: options.precision,
            peak_gflops: peak_gflops(threads, options.precision),
            regime: Regime::here(),
        };
        eprintln!("{}", describe(&on));
        let models = if self.models.is_empty() { table_models() } else { self.models.clone() };
        let effort = Effort { budget: Duration::from_secs_f64(self.seconds), ..Effort::default() };
        if !self.json && !self.csv {
            self.print_header()?;
        }
        let mut rows = Vec::new();
        let mut failure = None;
        for (i, spec) in models.iter().enumerate() {
            if self.json || self.csv {
                eprintln!("{} of {}: {}", i + 1, models.len(), spec.name);
            }
            let first = rows.len();
            // What is measured already is printed, whatever happens to the rest.
            if let Err(error) = self.measure(spec, &options, effort, &on, &mut rows) {
                failure = Some(error.context(format!("timing {}", spec.name)));
            }
            if !self.json && !self.csv {
                self.print_model(spec, &rows[first..], baseline.as_deref())?;
            }
            if failure.is_some() {
                break;
            }
        }
        let mut out = stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?;
        } else if self.csv {
            write!(out, "{}", latency_csv(&rows))?;
        }
        match failure {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    fn measure(
        &self,
        spec: &'static ModelSpec,
        options: &inception_bench::RunOptions,
        effort: Effort,
        on: &Circumstances,
        rows: &mut Vec<LatencyRow>,
    ) -> anyhow::Result<()> {
        reset_peak_memory();
        let network = spec.config().with_seed(self.device.seed).init(&options.device.open()?)?;
        let runner = Runner::new(network, [spec.input_size; 2], options)?;
        for &batch in &self.batch {
            rows.push(latency(spec, &runner, batch, effort, on)?);
        }
        Ok(())
    }

    fn print_header(&self) -> anyhow::Result<()> {
        let mut out = stdout().lock();
        write!(out, "{:<26}", "ms: median (10 to 90 %)")?;
        for batch in &self.batch {
            write!(out, "{:>28}", format!("batch {batch}"))?;
        }
        Ok(writeln!(out)?)
    }

    fn print_model(
        &self,
        spec: &ModelSpec,
        rows: &[LatencyRow],
        baseline: Option<&[LatencyRow]>,
    ) -> anyhow::Result<()> {
        let mut out = stdout().lock();
        write!(out, "{:<26}", spec.name)?;
        for row in rows {
            let [low, high] = row.deciles_ms;
            write!(out, "{:>28}", format!("{:.2} ({low:.2}-{high:.2})", row.median_ms))?;
        }
        writeln!(out)?;
        write!(out, "{:<26}", "  GFLOP/s, of peak")?;
        for row in rows {
            let share = row.share_of_peak * 100.0;
            write!(out, "{:>28}", format!("{:.0}, {share:.0} %", row.gflops))?;
        }
        writeln!(out)?;
        write!(out, "{:<26}", "  reference, GPU, FP32")?;
        for batch in &self.batch {
            let reference = reference_ms(spec, *batch).map_or("-".to_owned(), |ms| format!("{ms:.2}"));
            write!(out, "{reference:>28}")?;
        }
        writeln!(out)?;
        if let Some(baseline) = baseline {
            write!(out, "{:<26}", "  against the baseline")?;
            for row in rows {
                let earlier = baseline.iter().find(|earlier| row.is_same_cell(earlier));
                let text = earlier.map_or("not in it".to_owned(), |earlier| {
                    let ratio = row.median_ms / earlier.median_ms;
                    match row.against(earlier) {
                        Change::Noise => format!("{ratio:.2}x, within the noise"),
                        Change::Faster => format!("{ratio:.2}x, FASTER"),
                        Change::Slower => format!("{ratio:.2}x, SLOWER"),
                    }
                });
                write!(out, "{text:>28}")?;
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

fn describe(on: &Circumstances) -> String {
    let Regime { cpu, instruction_set, version, commit, governor, .. } = &on.regime;
    let commit = commit.as_deref().unwrap_or("unknown");
    let governor = governor.as_deref().unwrap_or("unknown");
    format!(
        "{cpu} ({instruction_set}), {} threads, peak {:.0} GFLOP/s measured, governor {governor}; device {}, {}, \
         random weights; inception {version}, commit {commit}",
        on.threads, on.peak_gflops, on.device, on.precision
    )
}

fn read_baseline(path: &Path) -> anyhow::Result<Vec<LatencyRow>> {
    let context = || format!("reading the baseline {}", path.display());
    let text = fs::read_to_string(path).with_context(context)?;
    let rows: Vec<LatencyRow> = serde_json::from_str(&text).with_context(context)?;
    if rows.is_empty() {
        bail!("the baseline {} has no rows", path.display());
    }
    Ok(rows)
}
