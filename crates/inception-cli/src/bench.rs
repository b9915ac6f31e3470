//! `bench`

use std::fs::{self, File};
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Args;
use inception::{Classifier, Cores, DeviceKind, ModelSpec, RunOptions, Runner, Weights, model_rows};
use inception_bench::{
    BenchConditions, BenchRow, Cell, Change, Environment, LatencyRow, MIN_RUNS, REFERENCE_GPU, StopRule,
    SystemClock, compare_threads, free_memory, latencies, latency_csv, latency_markdown, peak_gflops,
    reference_ms, report_html, reset_peak_memory,
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::args::{DeviceArgs, batch, model, say, table_models};
use crate::signals::on_signal;

/// Measures latency, by default of every network of the reference's table at batch 1.
///
/// --threads takes several numbers with commas between. Ctrl-C prints what is measured by then.
#[derive(Args)]
pub struct Bench {
    /// Networks by name; several with commas between [default: all of the reference's table]
    #[arg(long = "model", value_name = "NAME", value_delimiter = ',', value_parser = model)]
    models: Vec<&'static ModelSpec>,
    /// Images a run; several with commas between
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1", value_parser = batch)]
    batch: Vec<usize>,
    /// A checkpoint of the one network of --model, instead of random weights; what `quantize` wrote, for int8
    #[arg(long, value_name = "FILE", requires = "models")]
    weights: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
    /// Most time to spend on one cell of the table, in seconds; less if its median is known sooner
    #[arg(long, value_name = "S", default_value_t = 3.0, value_parser = seconds)]
    seconds: f64,
    /// Fewest timed runs of a cell, whatever they take; fewer than 6 bound no median with 95 % confidence
    #[arg(long, value_name = "N", default_value_t = MIN_RUNS as u16, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// Refuse batches that need more memory, in units of 10^6 bytes [default: what the system has free]
    #[arg(long, value_name = "MB")]
    memory: Option<u64>,
    /// Let the system move threads between cores
    #[arg(long)]
    no_pin: bool,
    /// An earlier run's --json output: mark what became faster or slower beyond the noise of both runs
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Also write DIR/index.html: tables and charts on one page
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Print JSON
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print comma-separated values
    #[arg(long)]
    csv: bool,
    /// Append each row to FILE as soon as it is measured, a JSON object a line: a run that is cut short keeps
    /// what it has
    #[arg(long, value_name = "FILE")]
    rows: Option<PathBuf>,
    /// Measure nothing: print the rows of --json output as tables in Markdown, and write their --report
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.trim().parse().map_err(|e| format!("{e}"))?;
    if (0.01..=3600.0).contains(&seconds) { Ok(seconds) } else { Err("0.01 to 3600 seconds".to_owned()) }
}

/// A message of the measuring thread.
enum Event {
    /// A cell is done.
    Row(BenchRow),
    /// Nothing more will come.
    End,
    /// Ctrl-C, or a signal to end.
    Interrupted,
}

/// Says [`Event::End`] when dropped, so that even a panic ends the waiting.
struct Ending(Sender<Event>);

impl Drop for Ending {
    fn drop(&mut self) {
        // Nobody listens any more after an interruption.
        let _ = self.0.send(Event::End);
    }
}

impl Bench {
    pub fn run(&self) -> anyhow::Result<()> {
        if let Some(file) = &self.table {
            let rows = read_rows(file)?;
            stdout().write_all(latency_markdown(&rows).as_bytes())?;
            return self.write_report(&rows);
        }
        let run_options = self.device.run_options()?;
        let baseline = self.baseline.as_deref().map(read_baseline).transpose()?;
        // Before the work rather than after it.
        self.make_report_folder()?;
        let models = if self.models.is_empty() { table_models() } else { self.models.clone() };
        ensure!(
            self.weights.is_none() || models.len() == 1,
            "--weights are of one network: give one --model"
        );
        let plan = self.plan(&run_options)?;

        let (sender, events) = channel();
        let of_signals = sender.clone();
        // The receiver may have all that it wanted.
        on_signal(move || _ = of_signals.send(Event::Interrupted)).context("catching Ctrl-C")?;
        let weights = match &self.weights {
            Some(file) => Weights::File(file.clone()),
            None => Weights::Random { seed: self.device.seed() },
        };
        let job = Job { models: models.clone(), batches: self.batch.clone(), weights, plan };
        let total = job.models.len() * job.batches.len() * job.plan.len();
        let builder = thread::Builder::new().name("measuring".into());
        // Not joined: an interruption does not wait for a run that takes minutes.
        builder.spawn(move || job.run(&Ending(sender))).context("starting a thread")?;

        let open = |path: &PathBuf| {
            let file = File::options().create(true).append(true).open(path);
            file.with_context(|| format!("opening {}", path.display()))
        };
        let kept = self.rows.as_ref().map(open).transpose()?;
        let table = Table { command: self, models: &models, baseline, run_options: &run_options, kept };
        let (rows, interrupted) = table.collect(&events, total)?;
        let mut out = stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?;
        } else if self.csv {
            write!(out, "{}", latency_csv(&rows))?;
        }
        out.flush()?;
        self.write_report(&rows)?;
        let failed = rows.iter().filter(|row| row.timed().is_none()).count();
        let done = rows.len();
        ensure!(!interrupted, "interrupted; {done} of {total} cells are done");
        ensure!(done == total, "the measuring thread ended; {done} of {total} cells are done");
        ensure!(failed == 0, "{failed} of {total} cells could not be measured");
        Ok(())
    }

    /// How each column's cells are run and measured; says so.
    fn plan(&self, run_options: &[RunOptions]) -> anyhow::Result<Vec<(RunOptions, BenchConditions)>> {
        let pinned = if self.no_pin { None } else { Cores::here() };
        let here = Environment { pinned: pinned.is_some(), ..Environment::here() };
        let budget = Duration::from_secs_f64(self.seconds);
        let stop = StopRule { budget, runs: self.runs.into(), ..StopRule::default() };
        let weights = self.weights.as_ref().map(|file| file.display().to_string());
        let plan = run_options.iter().map(|options| {
            let mut options = options.clone();
            options.cores = pinned.clone();
            let gpu = options.device.adapter(options.adapter)?.map(|gpu| gpu.to_string());
            let on = BenchConditions {
                peak_gflops: peak_gflops(options.threads, options.precision),
                memory: self.memory.map(|mb| mb * 1_000_000).or_else(free_memory),
                stop,
                environment: Environment { gpu, ..here.clone() },
                weights: weights.clone(),
            };
            stderrln!(
                "{}, {}, {} threads, peak {:.0} GFLOP/s measured, {}; {}",
                options.device,
                options.precision,
                options.threads,
                on.peak_gflops,
                weights.as_deref().unwrap_or("random weights"),
                on.environment
            );
            Ok((options, on))
        });
        plan.collect()
    }

    fn make_report_folder(&self) -> anyhow::Result<()> {
        let Some(folder) = &self.report else { return Ok(()) };
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))
    }

    fn write_report(&self, rows: &[BenchRow]) -> anyhow::Result<()> {
        let Some(folder) = &self.report else { return Ok(()) };
        self.make_report_folder()?;
        let page = folder.join("index.html");
        let html = report_html(rows, &model_rows()?);
        fs::write(&page, html).with_context(|| format!("writing {}", page.display()))
    }
}

/// The cells to measure.
struct Job {
    models: Vec<&'static ModelSpec>,
    batches: Vec<usize>,
    weights: Weights,
    plan: Vec<(RunOptions, BenchConditions)>,
}

impl Job {
    fn run(&self, to: &Ending) {
        // Nobody listens any more after an interruption.
        let done = |row| _ = to.0.send(Event::Row(row));
        for spec in &self.models {
            for (options, on) in &self.plan {
                let cell = |&batch: &usize| Cell {
                    model: spec.name.to_owned(),
                    device: options.device.to_string(),
                    precision: options.precision.to_string(),
                    batch,
                    threads: options.threads,
                };
                let cells: Vec<Cell> = self.batches.iter().map(cell).collect();
                if let Err(error) = self.measure(spec, options, on, cells.clone(), &done) {
                    let error = format!("{error:#}");
                    cells.into_iter().for_each(|cell| done(BenchRow::Failed { cell, error: error.clone() }));
                }
            }
        }
    }

    /// Fails only before the first cell.
    fn measure(
        &self,
        spec: &'static ModelSpec,
        options: &RunOptions,
        on: &BenchConditions,
        cells: Vec<Cell>,
        done: &(impl Fn(BenchRow) + Sync),
    ) -> anyhow::Result<()> {
        let size = [spec.input_size; 2];
        // The engine brings threads of its own to the one that calls it; the eager devices use the pool they
        // are run in.
        let threads = if options.device == DeviceKind::Engine { 1 } else { options.threads };
        let cores = options.cores.clone();
        let pin = move |thread| _ = cores.as_ref().map(|cores| cores.pin(thread));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).start_handler(pin).build()?;
        pool.install(|| {
            let measure = |runner: &Runner| latencies(runner, cells, &SystemClock::default(), on, done);
            match self.weights {
                Weights::Random { seed } => {
                    let config = spec.config().with_seed(seed);
                    let options = options.calibrated_on_noise(&config, size)?;
                    // What calibration takes is not the network's.
                    reset_peak_memory();
                    measure(&Runner::build(|device| Ok(config.init(device)?), size, &options)?);
                }
                _ => {
                    reset_peak_memory();
                    let classifier = Classifier::new(spec, &self.weights, options)?;
                    say(spec, classifier.warnings(), None);
                    measure(classifier.runner());
                }
            }
            Ok(())
        })
    }
}

fn progress_bar(cells: usize) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(cells as u64), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len}  {elapsed}  {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    // A cell may take minutes.
    bar.enable_steady_tick(Duration::from_secs(1));
    bar
}

/// The table on the terminal.
struct Table<'a> {
    command: &'a Bench,
    models: &'a [&'static ModelSpec],
    baseline: Option<Vec<BenchRow>>,
    run_options: &'a [RunOptions],
    /// Where each row goes at once.
    kept: Option<File>,
}

impl Table<'_> {
    fn is_wanted(&self) -> bool {
        !self.command.json && !self.command.csv
    }

    /// Waits for all rows and prints those of each network as soon as they are there. Also says whether it
    /// was interrupted.
    fn collect(&self, events: &Receiver<Event>, total: usize) -> anyhow::Result<(Vec<BenchRow>, bool)> {
        let bar = progress_bar(total);
        let mut rows: Vec<BenchRow> = Vec::new();
        bar.suspend(|| self.print_header())?;
        let per_model = self.command.batch.len() * self.run_options.len();
        let interrupted = loop {
            bar.set_message(self.models.get(rows.len() / per_model).map_or("", |spec| spec.name));
            let row = match events.recv()? {
                Event::Row(row) => row,
                Event::End => break false,
                Event::Interrupted => break true,
            };
            let done = rows.len() + 1;
            match &row {
                BenchRow::Failed { cell: Cell { model, batch, .. }, error } => {
                    bar.suspend(|| stderrln!("error: {model} at batch {batch}: {error}"));
                }
                // A log shows where the command is, too.
                BenchRow::Timed(row) if bar.is_hidden() => {
                    stderrln!("{done} of {total}: {} at batch {}", row.cell.model, row.cell.batch);
                }
                _ => {}
            }
            if let Some(mut kept) = self.kept.as_ref() {
                // In one piece, so that no line is half there.
                kept.write_all(format!("{}\n", serde_json::to_string(&row)?).as_bytes())?;
            }
            rows.push(row);
            compare_threads(&mut rows);
            bar.inc(1);
            if done.is_multiple_of(per_model) {
                bar.suspend(|| {
                    self.print_model(self.models[done / per_model - 1], &rows[done - per_model..])
                })?;
            }
        };
        bar.finish_and_clear();
        let partial = rows.len() % per_model;
        if partial > 0 {
            self.print_model(self.models[rows.len() / per_model], &rows[rows.len() - partial..])?;
        }
        Ok((rows, interrupted))
    }

    /// Threads and batch of each column.
    fn columns(&self) -> impl Iterator<Item = (usize, usize)> {
        let batches = &self.command.batch;
        self.run_options.iter().flat_map(move |options| batches.iter().map(|&batch| (options.threads, batch)))
    }

    fn print_header(&self) -> anyhow::Result<()> {
        if !self.is_wanted() {
            return Ok(());
        }
        let mut out = stdout().lock();
        write!(out, "{:<32}", "ms: median (10 to 90 %)")?;
        for (threads, batch) in self.columns() {
            let threads =
                if self.run_options.len() > 1 { format!(", {threads} threads") } else { String::new() };
            write!(out, "{:>28}", format!("batch {batch}{threads}"))?;
        }
        Ok(writeln!(out)?)
    }

    fn print_model(&self, spec: &ModelSpec, rows: &[BenchRow]) -> anyhow::Result<()> {
        if !self.is_wanted() {
            return Ok(());
        }
        let mut out = stdout().lock();
        let mut line = |title: &str, text: &dyn Fn(&LatencyRow) -> Option<String>| -> anyhow::Result<()> {
            let texts: Vec<_> = rows.iter().map(|row| row.timed().and_then(text)).collect();
            if title != spec.name && texts.iter().all(Option::is_none) {
                return Ok(());
            }
            write!(out, "{title:<32}")?;
            for text in texts {
                write!(out, "{:>28}", text.as_deref().unwrap_or("-"))?;
            }
            Ok(writeln!(out)?)
        };
        line(spec.name, &|row| {
            let [low, high] = row.deciles_ms;
            Some(format!("{:.2} ({low:.2}-{high:.2})", row.median_ms))
        })?;
        line("  on the device alone", &|row| Some(format!("{:.2}", row.device_ms?)))?;
        line("  GFLOP/s, of peak", &|row| {
            // The peak is the CPU's.
            let share =
                row.environment.gpu.is_none().then(|| format!(", {:.0} %", row.share_of_peak * 100.0));
            Some(format!("{:.0}{}", row.gflops, share.unwrap_or_default()))
        })?;
        line("  of ideal scaling", &|row| Some(format!("{:.0} %", row.share_of_ideal? * 100.0)))?;
        line(&format!("  reference ({REFERENCE_GPU})"), &|row| {
            Some(format!("{:.2}", reference_ms(spec, row.cell.batch, &row.cell.precision)?))
        })?;
        line("  against the baseline", &|row| {
            let mut baseline = self.baseline.as_ref()?.iter().filter_map(BenchRow::timed);
            let Some(earlier) = baseline.find(|earlier| row.cell == earlier.cell) else {
                return Some("not in it".to_owned());
            };
            let ratio = row.median_ms / earlier.median_ms;
            Some(match row.against(earlier) {
                Change::Noise => format!("{ratio:.2}x, within the noise"),
                Change::Faster => format!("{ratio:.2}x, FASTER"),
                Change::Slower => format!("{ratio:.2}x, SLOWER"),
            })
        })
    }
}

fn read_rows(path: &Path) -> anyhow::Result<Vec<BenchRow>> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let rows = match text.trim_start().starts_with('[') {
        true => serde_json::from_str(&text),
        // What --rows writes: a row a line.
        false => text.lines().map(serde_json::from_str).collect(),
    };
    rows.with_context(|| format!("reading {}", path.display()))
}

fn read_baseline(path: &Path) -> anyhow::Result<Vec<BenchRow>> {
    let rows = read_rows(path)?;
    if rows.is_empty() {
        bail!("the baseline {} has no rows", path.display());
    }
    Ok(rows)
}
