//! `serve`

use std::ffi::OsString;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use clap::{Args, FromArgMatches, ValueEnum};
use inception::{ModelSpec, Pool, RunOptions, Weights};
use inception_serve::{Keys, ModelSource, ServeOptions, Server, TlsFiles};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::args::{self, DeviceArgs, PreprocessArgs};

/// Where HTTP is served if nobody says.
const HTTP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);

/// Longest file of flags that is read, in bytes.
const MAX_CONFIG: u64 = 1 << 20;

/// A network to serve.
#[derive(Clone, Debug)]
struct Model {
    /// What clients ask for.
    name: String,
    spec: &'static ModelSpec,
    file: Option<PathBuf>,
}

/// Parses `[NAME:]MODEL[=FILE]`.
fn model(text: &str) -> Result<Model, String> {
    let (names, file) = match text.split_once('=') {
        Some((names, file)) => (names, Some(PathBuf::from(file))),
        None => (text, None),
    };
    let (name, model) = match names.split_once(':') {
        Some((name, model)) => (Some(name), model),
        None => (None, names),
    };
    let spec = args::model(model).map_err(|error| error.to_string())?;
    Ok(Model { name: name.unwrap_or(spec.name).to_owned(), spec, file })
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// Weights of the models without a file.
#[derive(Args)]
#[group(multiple = false)]
struct OtherWeights {
    /// The published weights, for models without a FILE; the first time they are downloaded (see `predict
    /// --help`)
    #[arg(long)]
    pretrained: bool,
    /// Weights drawn from --seed, for models without a FILE: for trying things out; the classes mean nothing
    #[arg(long)]
    random_weights: bool,
}

#[derive(Args)]
pub struct Serve {
    /// Networks to serve, each with its checkpoint, and with a name of its own if it is not to be called as
    /// in the table: GoogLeNet=googlenet.safetensors, flowers:InceptionV3=flowers.onnx
    #[arg(long = "model", value_name = "[NAME:]MODEL[=FILE]", num_args = 1.., required_unless_present = "config", value_parser = model)]
    models: Vec<Model>,
    #[command(flatten)]
    weights: OtherWeights,
    /// Flags in a file, in TOML: `http = "0.0.0.0:8080"`, `model = ["GoogLeNet=googlenet.safetensors"]`;
    /// those of the command line come before them
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where HTTP is served [default: 127.0.0.1:8080, unless --grpc is given alone]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address)]
    http: Option<SocketAddr>,
    /// Where gRPC is served
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address)]
    grpc: Option<SocketAddr>,
    /// The most pictures that the engine gets at once [default: twice the cores]
    #[arg(long, value_name = "N", value_parser = args::batch)]
    max_batch: Option<usize>,
    /// How long a picture waits for others that are being decoded, to share a batch; alone it never waits
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 2.0, value_parser = milliseconds)]
    max_delay_ms: f64,
    /// Pictures of a model that may wait; more are refused (503, Retry-After)
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    queue: u32,
    /// Threads that decode pictures [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    decoders: Option<u16>,
    /// Names of the classes of every model, instead of the files'; as those of `predict`
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// The certificate for TLS, in PEM, with those that it is signed by
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Keys, one a line: who has none of them is refused (`Authorization: Bearer KEY`, `X-API-Key: KEY`, or
    /// the password that a browser asks for)
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Bytes of a request, in units of 2^20
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=2048))]
    max_body_mb: u16,
    /// Pixels of a picture, in millions
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=134))]
    max_megapixels: u16,
    /// Pictures of a request
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    max_pictures: u16,
    /// Connections at the same time; more wait
    #[arg(long, value_name = "N", default_value_t = 16384, value_parser = clap::value_parser!(u32).range(1..))]
    max_connections: u32,
    /// Seconds after which a connection on which nothing moves is closed
    #[arg(long, value_name = "SECONDS", default_value_t = 75, value_parser = clap::value_parser!(u32).range(1..))]
    idle: u32,
    /// After SIGTERM, seconds in which requests are still accepted, as the last of their connection
    #[arg(long, value_name = "SECONDS", default_value_t = 1)]
    lame_duck: u16,
    /// After them, seconds in which accepted requests are answered at most
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    drain: u16,
    /// The form of the log, on standard error
    #[arg(long, value_name = "FORM", default_value = "text")]
    log: LogFormat,
    /// What is logged: off, error, warn, info, or debug, which has a line for each request
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: LevelFilter,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    preprocess: PreprocessArgs,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let mut found = text.to_socket_addrs().into_iter().flatten();
    found.next().ok_or_else(|| "expected an address and a port, as 127.0.0.1:8080 or 0.0.0.0:8080".to_owned())
}

fn milliseconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(time) if (0.0..=60_000.0).contains(&time) => Ok(time),
        _ => Err("0 to 60000 milliseconds".to_owned()),
    }
}

/// The flags that a file stands for, but for those that are given otherwise.
fn flags_of(path: &Path, is_overridden: impl Fn(&str) -> bool) -> anyhow::Result<Vec<OsString>> {
    let shown = || path.display().to_string();
    let length = std::fs::metadata(path).with_context(shown)?;
    ensure!(length.is_file() && length.len() <= MAX_CONFIG, "{} is no file of flags", path.display());
    let text = std::fs::read_to_string(path).with_context(shown)?;
    let table: toml::Table = text.parse().with_context(shown)?;
    let mut flags = Vec::new();
    for (name, value) in table {
        ensure!(name != "config", "{}: a file of flags names no other", path.display());
        if is_overridden(&name) {
            continue;
        }
        let values = match value {
            toml::Value::Array(values) => values,
            value => vec![value],
        };
        for value in values {
            let value = match value {
                toml::Value::Boolean(false) => continue,
                toml::Value::Boolean(true) => {
                    flags.push(format!("--{name}").into());
                    continue;
                }
                toml::Value::String(text) => text,
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Float(number) => number.to_string(),
                _ => bail!("{}: {name} is no flag's value", path.display()),
            };
            flags.push(format!("--{name}={value}").into());
        }
    }
    Ok(flags)
}

impl Serve {
    pub fn run(&self) -> anyhow::Result<()> {
        match &self.config {
            Some(config) => self.with_file(config)?.serve(),
            None => self.serve(),
        }
    }

    /// The flags of a file and, coming before them, those of the command line, which clap has forgotten the
    /// text of.
    fn with_file(&self, config: &Path) -> anyhow::Result<Self> {
        let name = OsString::from("serve");
        let given = std::env::args_os().skip_while(|argument| *argument != name).skip(1);
        // Flags that may not be given twice, and those that exclude each other.
        let has_weights = self.weights.pretrained || self.weights.random_weights;
        let is_overridden = |flag: &str| match flag {
            "model" => !self.models.is_empty(),
            "pretrained" | "random-weights" => has_weights,
            _ => false,
        };
        let all = [name.clone()].into_iter().chain(flags_of(config, is_overridden)?).chain(given);
        let command = Self::augment_args(clap::Command::new("serve").args_override_self(true));
        let matches = command.try_get_matches_from(all).map_err(|error| {
            let text = error.to_string();
            let text =
                text.trim_start_matches("error: ").split("\n\nUsage").next().unwrap_or_default().trim();
            anyhow!("{} and the command line: {text}", config.display())
        })?;
        let serve = Self::from_arg_matches(&matches)?;
        ensure!(!serve.models.is_empty(), "no model is named, in {} or by --model", config.display());
        Ok(serve)
    }

    fn serve(&self) -> anyhow::Result<()> {
        crate::allocator::keep_freed_memory();
        self.log();
        // Before it starts, so that none is missed.
        let signals = signals()?;
        let run = self.device.apply()?;
        let pool = Pool::new(run.threads);
        let server = Server::start(self.options(&pool)?, self.sources(run, pool)?)?;
        let at = |address: Option<SocketAddr>| address.map(|address| address.to_string()).unwrap_or_default();
        tracing::info!(http = at(server.http()), grpc = at(server.grpc()), "ready");
        until_stopped(server, signals);
        Ok(())
    }

    fn log(&self) {
        // Of the libraries below only what goes wrong.
        let targets = Targets::new().with_target("inception", self.log_level);
        let to_stderr = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
        let registry = tracing_subscriber::registry().with(targets);
        // An error is that there is a log already.
        let _ = match self.log {
            LogFormat::Text => registry.with(to_stderr).try_init(),
            LogFormat::Json => registry.with(to_stderr.json().flatten_event(true)).try_init(),
        };
    }

    fn options(&self, pool: &Pool) -> anyhow::Result<ServeOptions> {
        let mut options = ServeOptions::default();
        options.http = self.http.or(if self.grpc.is_some() { None } else { Some(HTTP) });
        options.grpc = self.grpc;
        options.max_batch = self.max_batch.unwrap_or(options.max_batch);
        options.max_delay = Duration::from_secs_f64(self.max_delay_ms / 1e3);
        options.queue = self.queue as usize;
        options.decoders = self.decoders.map_or(options.decoders, usize::from);
        options.threads = pool.threads();
        options.limits.body_bytes = usize::from(self.max_body_mb) << 20;
        options.limits.all_body_bytes = options.limits.all_body_bytes.max(4 * options.limits.body_bytes);
        options.limits.pixels = u64::from(self.max_megapixels) * 1_000_000;
        options.limits.pictures = self.max_pictures.into();
        options.limits.connections = self.max_connections as usize;
        options.limits.idle = Duration::from_secs(self.idle.into());
        options.lame_duck = Duration::from_secs(self.lame_duck.into());
        options.drain = Duration::from_secs(self.drain.into());
        options.keys = self.api_key_file.as_ref().map(Keys::read).transpose()?;
        let files = self.tls_cert.clone().zip(self.tls_key.clone());
        options.tls = files.map(|(certificate, key)| TlsFiles { certificate, key });
        Ok(options)
    }

    /// Where the models come from; all of them on the threads of `pool`.
    fn sources(&self, mut run: RunOptions, pool: Pool) -> anyhow::Result<Vec<ModelSource>> {
        (run.pool, run.batch_invariant) = (Some(pool), true);
        let shared = Arc::new((run, self.preprocess.clone(), self.labels.clone()));
        let source = |model: &Model| {
            let Model { name, spec, file } = model.clone();
            let is_file = file.is_some();
            let weights = match file {
                Some(file) => Weights::File(file),
                None if self.weights.pretrained => Weights::File(crate::pretrained::fetch(spec)?),
                None if self.weights.random_weights => Weights::Random { seed: self.device.seed() },
                None => bail!("{name} needs weights: --model {name}=FILE, --pretrained or --random-weights"),
            };
            let shared = shared.clone();
            let of_log = name.clone();
            let load = move || {
                let (run, preprocess, labels): &(RunOptions, PreprocessArgs, Option<PathBuf>) = &shared;
                let (classifier, warnings, assumed) =
                    args::classifier(spec, &weights, is_file, preprocess, run, labels.as_deref())?;
                for warning in warnings.iter().chain(&assumed) {
                    tracing::warn!(model = of_log, warning);
                }
                Ok((classifier, warnings))
            };
            Ok(ModelSource::new(name, load))
        };
        self.models.iter().map(source).collect()
    }
}

/// What the process is told by the system.
#[cfg(unix)]
fn signals() -> anyhow::Result<signal_hook::iterator::Signals> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM]).context("waiting for signals")
}

/// Serves until SIGTERM or SIGINT, and loads the models again at SIGHUP. A second SIGTERM or SIGINT ends at
/// once.
#[cfg(unix)]
fn until_stopped(server: Server, mut signals: signal_hook::iterator::Signals) {
    use signal_hook::consts::SIGHUP;
    for signal in signals.forever() {
        if signal == SIGHUP {
            // What became of it is in the log.
            server.reload();
            continue;
        }
        tracing::info!("stopping: accepted requests are answered");
        std::thread::spawn(move || {
            if signals.forever().any(|signal| signal != SIGHUP) {
                std::process::exit(1);
            }
        });
        server.stop();
        tracing::info!("stopped");
        return;
    }
}

#[cfg(not(unix))]
fn signals() -> anyhow::Result<()> {
    Ok(())
}

/// Serves until the process is ended.
#[cfg(not(unix))]
fn until_stopped(_server: Server, (): ()) {
    loop {
        std::thread::park();
    }
}
