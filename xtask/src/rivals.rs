//! `cargo xtask rivals`

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, IsTerminal, Write, stderr, stdout};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Args;
use inception::engine::noise;
use inception::nn::with_storage_device;
use inception::weights::{Metadata, PartFile, save, save_onnx};
use inception::{DeviceKind, ModelSpec, Precision, cores};
use inception_bench::{
    ColdStart, Comparison, Costs, Environment, RuntimeTimes, comparison_markdown, costs_markdown,
    memory_of_process_mb,
};
use inception_cli::args::{batch, model, table_models};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::rival_worker::{read_floats, write_floats};

/// Largest difference of logits from ours, over the largest logit: in single precision what the project
/// promises there, in half precision a few roundings to eight bits.
const fn tolerance(precision: Precision, device: DeviceKind) -> f32 {
    match precision {
        Precision::F32 if device.is_gpu() => 1e-3,
        Precision::F32 => 1e-4,
        _ => 2e-2,
    }
}

/// Between two turns, so that threads that still spin for the last runtime do not disturb the next.
const PAUSE: Duration = Duration::from_millis(100);

/// A turn shorter than this begins with a run that does not count: caches hold the last runtime's data.
const LONG_RUN_MS: f64 = 300.0;

const SCRIPT: &str = "bench/rivals.py";
const VERSIONS: &str = "bench/versions.txt";
const TRACT: &str = "bench/tract/Cargo.toml";

/// Every runtime, and the Python packages, named as their modules, that it needs; none of those that are not
/// Python's.
const RUNTIMES: &[(&str, &[&str])] = &[
    ("onnxruntime", &["numpy", "onnxruntime"]),
    ("openvino", &["numpy", "openvino"]),
    ("torch", &["numpy", "onnx", "torch"]),
    ("torch-compile", &["numpy", "onnx", "torch"]),
    ("tract", &[]),
];

/// Times the engine and other runtimes in turn, on the same network with the same weights.
///
/// The first call makes a Python environment with what is chosen, and builds tract if that is. Each runtime
/// is a process of its own. Our network is written as ONNX; all must give its logits before anything is
/// timed. A round gives each a turn, the next round begins with the next runtime.
#[derive(Args)]
pub struct Rivals {
    /// Networks by name; several with commas between [default: all of the reference's table]
    #[arg(long = "model", value_name = "NAME", value_delimiter = ',', value_parser = model)]
    models: Vec<&'static ModelSpec>,
    /// Images a run; several with commas between
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1", value_parser = batch)]
    batch: Vec<usize>,
    /// CPU threads of each runtime [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Where we run: the engine, or a GPU as `bench --device` has it, which PyTorch then uses, too
    #[arg(long, value_name = "DEVICE", default_value = "engine")]
    device: DeviceKind,
    /// Element type to compute in: a hint to OpenVINO, a type of PyTorch; ONNX Runtime and tract stay in f32
    #[arg(long, value_name = "DTYPE", default_value = "f32")]
    precision: Precision,
    /// The runtimes to measure against; several with commas between
    #[arg(long = "rival", value_name = "RUNTIME", value_delimiter = ',', value_parser = runtime)]
    #[arg(default_value = "onnxruntime,openvino,torch,tract")]
    rivals: Vec<String>,
    /// Rounds
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Time of one turn, in seconds; at least one run
    #[arg(long, value_name = "S", default_value_t = 0.5)]
    seconds: f64,
    /// Where the Python environment is, or is made, in a folder named rivals
    #[arg(long, value_name = "DIR", default_value = "target/rivals/environments")]
    environments: PathBuf,
    /// Where the results go, as rivals.json; cells that it has of the same commit are not measured again
    /// [default: bench/runs/DATE-CPU-THREADSt]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Measure again what was measured before
    #[arg(long)]
    again: bool,
    /// Seed of the weights
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Print all cells as JSON, too
    #[arg(long)]
    json: bool,
    /// Measure cold processes instead, at batch 1: time from the weights and from the start of the process to
    /// the first answer, and memory. Each round starts every runtime anew; the results go into costs.json.
    /// The files have just been written, and are read from memory. Linux only.
    #[arg(long, conflicts_with_all = ["batch", "seconds", "precision"])]
    costs: bool,
    /// Measure nothing: print the table of a rivals.json, or with --costs of a costs.json
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
}

fn runtime(name: &str) -> Result<String, String> {
    let names: Vec<_> = RUNTIMES.iter().map(|(name, _)| *name).collect();
    if names.contains(&name) { Ok(name.to_owned()) } else { Err(format!("there are {}", names.join(", "))) }
}

impl Rivals {
    pub fn run(&self) -> anyhow::Result<()> {
        if let (Some(file), true) = (&self.table, self.costs) {
            stdout().write_all(costs_markdown(&read_cells(file)?).as_bytes())?;
            return Ok(());
        }
        if let Some(file) = &self.table {
            stdout().write_all(comparison_markdown(&read_cells(file)?).as_bytes())?;
            return Ok(());
        }
        let threads = self.threads.map_or_else(cores, usize::from);
        let on_gpu = |name: &&String| !self.device.is_gpu() || name.starts_with("torch");
        if let Some(name) = self.rivals.iter().find(|name| !on_gpu(name)) {
            bail!("{name} runs on the CPU here; beside a GPU: --rival torch,torch-compile");
        }
        let gpu = self.device.adapter(None)?.map(|gpu| gpu.to_string());
        let environment = Environment { gpu, ..Environment::here() };
        let folder = self.out.clone().unwrap_or_else(|| default_folder(&environment, self.device, threads));
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        if self.costs {
            return self.measure_costs(&folder.join("costs.json"), threads, &environment);
        }
        let file = folder.join("rivals.json");
        let mut cells: Vec<Comparison> = if file.exists() { read_cells(&file)? } else { Vec::new() };
        let programs = self.set_up()?;
        let models = if self.models.is_empty() { table_models() } else { self.models.clone() };
        let scratch = Path::new("target/rivals/models");
        fs::create_dir_all(scratch)?;
        let mut failures = 0;
        for spec in models {
            let wanted = |&&batch: &&usize| {
                let (name, precision) = (spec.name, self.precision.to_string());
                let mut kept = cells.iter().filter(|cell| {
                    cell.environment == environment && cell.is_cell(name, batch, threads, &precision)
                });
                self.again
                    || !kept.any(|cell| {
                        self.rivals.iter().all(|name| cell.runtimes.iter().any(|c| c.name == *name))
                    })
            };
            let batches: Vec<usize> = self.batch.iter().filter(wanted).copied().collect();
            if batches.is_empty() {
                eprintln!("{}: measured before at this commit", spec.name);
                continue;
            }
            let onnx = std::path::absolute(scratch.join(format!("{}.onnx", spec.name)))?;
            with_storage_device(|device| {
                let network = spec.config().with_seed(self.seed).init(device)?;
                anyhow::Ok(save_onnx(&network, spec, &Metadata::of(spec), &onnx)?)
            })?;
            let mut session = Session::start(spec, threads, self.device, self.precision, &programs)?;
            for batch in batches {
                let measured = session.measure(&onnx, batch, self.rounds, self.seconds, &environment);
                let cell = match measured.with_context(|| format!("{} at batch {batch}", spec.name)) {
                    Ok(cell) => cell,
                    Err(error) => {
                        // What is measured stays, and the others get their turn.
                        eprintln!("error: {error:#}");
                        failures += 1;
                        session = Session::start(spec, threads, self.device, self.precision, &programs)?;
                        continue;
                    }
                };
                print_cell(&cell)?;
                cells.retain(|old| !old.is_same_cell(&cell));
                cells.push(cell);
                write_cells(&file, &cells)?;
            }
            fs::remove_file(&onnx)?;
        }
        if self.json {
            writeln!(stdout(), "{}", serde_json::to_string(&cells)?)?;
        }
        eprintln!("results: {}", file.display());
        ensure!(failures == 0, "{failures} cells were not measured");
        Ok(())
    }

    /// Starts every runtime anew in each round, and asks for one answer.
    fn measure_costs(&self, file: &Path, threads: usize, environment: &Environment) -> anyhow::Result<()> {
        let mut rows: Vec<Costs> = if file.exists() { read_cells(file)? } else { Vec::new() };
        let programs = self.set_up()?;
        let models = if self.models.is_empty() { table_models() } else { self.models.clone() };
        let scratch = std::path::absolute("target/rivals/costs")?;
        fs::create_dir_all(&scratch)?;
        for spec in models {
            // Each reads the format that it is at home with.
            let files = ["safetensors", "onnx"].map(|format| scratch.join(format!("{}.{format}", spec.name)));
            with_storage_device(|device| {
                let network = spec.config().with_seed(self.seed).init(device)?;
                let metadata = Metadata::of(spec);
                save(&network, &metadata, &files[0])?;
                anyhow::Ok(save_onnx(&network, spec, &metadata, &files[1])?)
            })?;
            let (input, output) = (scratch.join("input"), scratch.join("logits"));
            write_floats(&input, &noise(3 * spec.input_size.pow(2)))?;
            let mut commands = Session::commands(spec, threads, self.device, Precision::F32, &programs)?;
            let mut runtimes: Vec<ColdStart> = Vec::new();
            let mut ours = Vec::new();
            for round in 0..self.rounds {
                for (i, (name, command)) in commands.iter_mut().enumerate() {
                    progress(&format!("{}: round {} of {}, {name}", spec.name, round + 1, self.rounds));
                    sleep(PAUSE);
                    let begin = Instant::now();
                    let mut process = Process::start(name, command)?;
                    // Something that nobody knows: the answer shows that the process is there.
                    let _ = process.ask("hello");
                    let [before_mb, _] = process.memory_mb()?;
                    let there = Instant::now();
                    let ready = process.ask(&format!("load {} 1", files[i.min(1)].display()))?;
                    process.ask(&format!("infer {} {}", input.display(), output.display()))?;
                    let (load_ms, cold_ms) = (ms(there), ms(begin));
                    let [resting_mb, peak_mb] = process.memory_mb()?;
                    let logits = read_floats(&output)?;
                    ours = if i == 0 { logits.clone() } else { ours };
                    let off = difference(&ours, &logits);
                    ensure!(
                        off <= tolerance(Precision::F32, self.device),
                        "{name}'s logits are off by {off:.1e} of the largest"
                    );
                    if round == 0 {
                        let version = ready.strip_prefix("ready ").unwrap_or(&ready).to_owned();
                        let (cold_ms, load_ms) = (Vec::new(), Vec::new());
                        let name = name.clone();
                        runtimes.push(ColdStart {
                            name,
                            version,
                            cold_ms,
                            load_ms,
                            before_mb,
                            peak_mb,
                            resting_mb,
                        });
                    }
                    let start = &mut runtimes[i];
                    start.cold_ms.push(cold_ms);
                    start.load_ms.push(load_ms);
                    // The worst of the rounds.
                    start.peak_mb = start.peak_mb.max(peak_mb);
                    start.resting_mb = start.resting_mb.max(resting_mb);
                }
            }
            progress("");
            for path in files.iter().chain([&input, &output]) {
                fs::remove_file(path)?;
            }
            let row =
                Costs { model: spec.name.to_owned(), threads, runtimes, environment: environment.clone() };
            stdout().write_all(costs_markdown(std::slice::from_ref(&row)).as_bytes())?;
            rows.retain(|old| (&old.model, old.threads) != (&row.model, threads));
            rows.push(row);
            write_cells(file, &rows)?;
        }
        eprintln!("results: {}", file.display());
        Ok(())
    }

    /// Makes what the runtimes need, as far as it is not there, and gives each one's name and command.
    fn set_up(&self) -> anyhow::Result<Vec<(String, Vec<PathBuf>)>> {
        let run = |command: &mut Command| -> anyhow::Result<()> {
            eprintln!("running {command:?}");
            let status = command.stdout(Stdio::null()).status();
            let status = status.with_context(|| format!("starting {command:?}"))?;
            ensure!(status.success(), "{command:?} failed: {status}");
            Ok(())
        };
        let chosen = |name: &str| self.rivals.iter().any(|rival| rival == name);
        let environment = self.environments.join("rivals");
        let python = environment.join("bin/python");
        let needed = RUNTIMES.iter().filter(|(name, _)| chosen(name)).flat_map(|(_, packages)| *packages);
        let packages: BTreeSet<&str> = needed.copied().collect();
        if !packages.is_empty() {
            let modules: Vec<&str> = packages.iter().copied().collect();
            let import = format!("import {}", modules.join(", "));
            let check = Command::new(&python).args(["-c", &import]).stderr(Stdio::null()).status();
            if !check.is_ok_and(|status| status.success()) {
                run(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
                let install = ["-m", "pip", "install", "--quiet", "--constraint", VERSIONS];
                run(Command::new(&python).args(install).args(packages))?;
            }
        }
        let target = Path::new("target/rivals/tract");
        if chosen("tract") {
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let build =
                ["build", "--release", "--locked", "--quiet", "--manifest-path", TRACT, "--target-dir"];
            run(Command::new(cargo).args(build).arg(target))?;
        }
        let command = |(name, packages): &(&str, &[&str])| {
            let command = match packages.is_empty() {
                true => vec![target.join("release/tract-rival")],
                false => vec![python.clone(), SCRIPT.into(), name.into()],
            };
            (name.to_string(), command)
        };
        Ok(RUNTIMES.iter().filter(|(name, _)| chosen(name)).map(command).collect())
    }
}

/// A runtime's process.
struct Process {
    name: String,
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Process {
    fn start(name: &str, command: &mut Command) -> anyhow::Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {name}: {command:?}"))?;
        let (requests, answers) = child.stdin.take().zip(child.stdout.take()).context("no pipes")?;
        Ok(Self { name: name.to_owned(), child, requests, answers: BufReader::new(answers) })
    }

    /// The memory that the process holds and the most that it has held, in units of 10^6 bytes.
    fn memory_mb(&self) -> anyhow::Result<[f64; 2]> {
        memory_of_process_mb(self.child.id())
            .context("this system does not say how much memory a process has")
    }

    /// Asks for something and waits for the answer.
    fn ask(&mut self, request: &str) -> anyhow::Result<String> {
        let mut answer = String::new();
        let asked = writeln!(self.requests, "{request}").and_then(|()| self.answers.read_line(&mut answer));
        let read = asked.with_context(|| format!("{} ended", self.name))?;
        ensure!(read > 0, "{} ended without an answer to `{request}`", self.name);
        match answer.trim().strip_prefix("error ") {
            Some(reason) => bail!("{}: {reason}", self.name),
            None => Ok(answer.trim().to_owned()),
        }
    }

    fn time(&mut self, runs: usize) -> anyhow::Result<Vec<f64>> {
        let answer = self.ask(&format!("time {runs}"))?;
        let times: Result<Vec<f64>, _> = answer.split_whitespace().map(str::parse).collect();
        times.with_context(|| format!("{} answered {answer:?}", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All runtimes of one network, ours first.
struct Session {
    spec: &'static ModelSpec,
    threads: usize,
    device: DeviceKind,
    precision: Precision,
    processes: Vec<Process>,
}

impl Session {
    fn start(
        spec: &'static ModelSpec,
        threads: usize,
        device: DeviceKind,
        precision: Precision,
        programs: &[(String, Vec<PathBuf>)],
    ) -> anyhow::Result<Self> {
        let mut commands = Self::commands(spec, threads, device, precision, programs)?;
        let processes = commands.iter_mut().map(|(name, command)| Process::start(name, command));
        let processes = processes.collect::<anyhow::Result<_>>()?;
        Ok(Self { spec, threads, device, precision, processes })
    }

    /// Each runtime's name and how to start it.
    fn commands(
        spec: &'static ModelSpec,
        threads: usize,
        device: DeviceKind,
        precision: Precision,
        programs: &[(String, Vec<PathBuf>)],
    ) -> anyhow::Result<Vec<(String, Command)>> {
        let (count, numbers) = (threads.to_string(), precision.to_string());
        let mut ours = Command::new(std::env::current_exe().context("finding ourselves")?);
        ours.args(["rival-worker", "--model", spec.name, "--threads", &count, "--precision", &numbers]);
        ours.args(["--device", device.name()]);
        let mut commands = vec![(device.name().to_owned(), ours)];
        for (name, command) in programs {
            let mut program = Command::new(&command[0]);
            program.args(&command[1..]).arg(&count);
            if command.len() > 1 {
                program.arg(&numbers).arg(if device.is_gpu() { "cuda" } else { "cpu" });
            }
            commands.push((name.clone(), program));
        }
        Ok(commands)
    }

    fn measure(
        &mut self,
        onnx: &Path,
        batch: usize,
        rounds: u16,
        seconds: f64,
        environment: &Environment,
    ) -> anyhow::Result<Comparison> {
        let input = onnx.with_extension("input");
        write_floats(&input, &images(batch, 3 * self.spec.input_size.pow(2)))?;
        let mut runtimes: Vec<RuntimeTimes> = Vec::new();
        let mut ours: Vec<f32> = Vec::new();
        let mut runs = Vec::new();
        for process in &mut self.processes {
            progress(&format!("{} at batch {batch}: readying {}", self.spec.name, process.name));
            let ready = process.ask(&format!("load {} {batch}", onnx.display()))?;
            let output = onnx.with_extension("logits");
            process.ask(&format!("infer {} {}", input.display(), output.display()))?;
            let logits = read_floats(&output)?;
            if runtimes.is_empty() {
                ours = logits.clone();
            }
            let logits_differ = difference(&ours, &logits);
            let allowed = tolerance(self.precision, self.device);
            ensure!(
                logits_differ <= allowed,
                "{}'s logits are off by {logits_differ:.1e} of the largest; allowed are {allowed:.0e}",
                process.name
            );
            // The second run: the first one allocates, or compiles.
            let time = process.time(1)?[0];
            runs.push(((seconds * 1e3 / time) as usize).max(1));
            runtimes.push(RuntimeTimes {
                name: process.name.clone(),
                version: ready.strip_prefix("ready ").unwrap_or(&ready).to_owned(),
                logits_differ: logits_differ.into(),
                rounds_ms: Vec::new(),
            });
        }
        check_images_matter(&ours, batch, tolerance(self.precision, self.device))?;
        let count = self.processes.len();
        for round in 0..usize::from(rounds) {
            progress(&format!("{} at batch {batch}: round {} of {rounds}", self.spec.name, round + 1));
            for i in (0..count).map(|i| (i + round) % count) {
                sleep(PAUSE);
                let uncounted = usize::from(seconds * 1e3 / runs[i] as f64 <= LONG_RUN_MS);
                let times = self.processes[i].time(uncounted + runs[i])?;
                runtimes[i].rounds_ms.push(times[uncounted.min(times.len())..].to_vec());
            }
        }
        progress("");
        fs::remove_file(&input)?;
        Ok(Comparison {
            model: self.spec.name.to_owned(),
            batch,
            threads: self.threads,
            precision: self.precision.to_string(),
            runtimes,
            environment: environment.clone(),
        })
    }
}

/// Noise, each image of the batch of less contrast than the one before: noise alone gives logits that are
/// nearly equal.
fn images(batch: usize, image_len: usize) -> Vec<f32> {
    let mut images = noise(batch * image_len);
    for (i, image) in images.chunks_mut(image_len).enumerate() {
        let contrast = 1.0 - 0.5 * i as f32 / batch as f32;
        image.iter_mut().for_each(|value| *value *= contrast);
    }
    images
}

/// The largest difference over the largest logit; infinite where they cannot be compared.
fn difference(ours: &[f32], theirs: &[f32]) -> f32 {
    let largest = ours.iter().fold(0f32, |m, v| m.max(v.abs()));
    let off = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs());
    // A NaN is the worst difference of all, which `max` would pass over.
    let worst = off.fold(0f32, |m, d| if d.is_nan() { f32::INFINITY } else { m.max(d) });
    if ours.len() == theirs.len() && largest > 0.0 { worst / largest } else { f32::INFINITY }
}

/// Equal logits say something only if they depend on what is computed: different images must give different
/// ones.
fn check_images_matter(logits: &[f32], batch: usize, tolerance: f32) -> anyhow::Result<()> {
    let classes = logits.len() / batch;
    let (first, rest) = logits.split_at(classes);
    if let Some(last) = rest.rchunks(classes).next() {
        let moved = difference(first, last);
        ensure!(moved > tolerance, "two images give logits within {moved:.1e}: nothing is compared");
    }
    Ok(())
}

/// Shows what is being done, where somebody looks.
fn progress(text: &str) {
    if stderr().is_terminal() {
        eprint!("\r\x1b[K{text}");
    }
}

fn print_cell(cell: &Comparison) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    write!(out, "{} batch {} threads {} {}:", cell.model, cell.batch, cell.threads, cell.precision)?;
    for runtime in &cell.runtimes {
        if let Some(sample) = runtime.sample() {
            let [low, median, high] = sample.spread_ms();
            write!(out, " {} {median:.2} ({low:.2}-{high:.2}),", runtime.name)?;
        }
    }
    if let Some(speedup) = cell.speedup() {
        let [low, high] = speedup.rounds;
        write!(out, " best rival / ours {:.3} ({low:.3}-{high:.3}), {}", speedup.ratio, speedup.rival)?;
    }
    Ok(writeln!(out)?)
}

/// Milliseconds since `start`.
fn ms(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

fn read_cells<T: DeserializeOwned>(file: &Path) -> anyhow::Result<Vec<T>> {
    let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("reading {}", file.display()))
}

/// Writes a line for each cell; a reader never sees half of it.
fn write_cells(file: &Path, cells: &[impl Serialize]) -> anyhow::Result<()> {
    let lines: Result<Vec<_>, _> = cells.iter().map(serde_json::to_string).collect();
    let text = format!("[\n{}\n]\n", lines?.join(",\n"));
    let write = || {
        let mut part = PartFile::create(file)?;
        part.write_all(text.as_bytes())?;
        part.finish()
    };
    write().with_context(|| format!("writing {}", file.display()))
}

/// `bench/runs/DATE-CPU-THREADSt`, or `bench/runs/DATE-CPU-DEVICE` for a GPU.
fn default_folder(environment: &Environment, device: DeviceKind, threads: usize) -> PathBuf {
    let words = environment.cpu.to_lowercase();
    let words: Vec<_> = words.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).collect();
    let date = time::OffsetDateTime::now_utc().date();
    let last = if device.is_gpu() { device.to_string() } else { format!("{threads}t") };
    Path::new("bench/runs").join(format!("{date}-{}-{last}", words.join("-")))
}
