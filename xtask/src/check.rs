//! `cargo xtask check`

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Args;
use inception::engine::Isa;

use crate::imports;

/// What is checked, cheapest first: a title and the arguments of cargo. Tests run in the profile of every
/// other command, so that dependencies are compiled once for both.
const STEPS: &[(&str, &[&str])] = &[
    ("formatting", &["fmt", "--all", "--check"]),
    (
        "lints",
        &["clippy", "--release", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"],
    ),
    ("docs", &["doc", "--release", "--workspace", "--no-deps", "--quiet"]),
    (
        "optional features",
        &[
            "test",
            "--release",
            "--package=inception-data",
            "--package=inception-metrics",
            "--features=inception-data/image,inception-data/parquet,inception-metrics/distances,inception-metrics/parquet",
        ],
    ),
    (
        "readers without Burn",
        &["check", "--release", "--package", "inception-weights", "--no-default-features", "--quiet"],
    ),
    (TESTS, &["test", "--release", "--workspace"]),
];

/// The step that `--features` and `--skip` are for.
const TESTS: &str = "tests";

/// The engine's tests with `INCEPTION_ISA` for each instruction set, so that what compiles for the chosen one
/// is tested on all. Without Burn, which compiles in seconds; the tests that need Burn go over the
/// instruction sets themselves, among the tests above.
const OF_EACH_TIER: &[&str] =
    &["test", "--release", "--package=inception-engine", "--no-default-features", "--lib", "--tests"];

/// The engine's tests under AddressSanitizer. With `sanitized` the engine tells the sanitizer where each
/// tensor lies in its arena. (The target is named so that build scripts and macros are spared, and the
/// engine alone is compiled with optimisation.)
const SANITIZED: (&str, &[&str]) = (
    "kernels under AddressSanitizer",
    &[
        "+nightly",
        "test",
        "--package=inception-engine",
        "--no-default-features",
        "--lib",
        "--tests",
        "--target=x86_64-unknown-linux-gnu",
        "--target-dir=target/sanitized",
        "--config=profile.dev.package.inception-engine.opt-level=1",
    ],
);
const SANITIZER_FLAGS: &str = "-Zsanitizer=address --cfg sanitized";

#[derive(Args)]
pub struct Check {
    /// Run the engine's tests under AddressSanitizer instead; needs the nightly toolchain
    #[arg(long)]
    sanitize: bool,
    /// Compile the workspace's tests with these features, as Cargo has them
    /// (`inception-tests/flex,xtask/flex`)
    #[arg(long, value_name = "LIST", conflicts_with = "sanitize")]
    features: Option<String>,
    /// Leave out the workspace's tests whose names contain this; can be given several times
    #[arg(long, value_name = "NAME", conflicts_with = "sanitize")]
    skip: Vec<String>,
}

impl Check {
    pub fn run(&self) -> anyhow::Result<()> {
        if self.sanitize {
            let nightly = Command::new("rustc").args(["+nightly", "--version"]).output();
            if !nightly.is_ok_and(|output| output.status.success()) {
                eprintln!(
                    "check: SKIPPED: no nightly toolchain; `rustup toolchain install nightly` gets one"
                );
                return Ok(());
            }
            // Cargo by rustup, which knows of `+nightly`.
            return step(Command::new("cargo").env("RUSTFLAGS", SANITIZER_FLAGS), SANITIZED);
        }
        imports::check()?;
        // Cargo sets it for whatever it runs.
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut of_tests: Vec<&str> = self.features.iter().flat_map(|list| ["--features", list]).collect();
        if !self.skip.is_empty() {
            of_tests.push("--");
            of_tests.extend(self.skip.iter().flat_map(|name| ["--skip", name]));
        }
        STEPS.iter().try_for_each(|&(title, arguments)| {
            let more = if title == TESTS { &of_tests[..] } else { &[] };
            step(
                Command::new(&cargo).env("RUSTDOCFLAGS", "--deny warnings"),
                (title, &[arguments, more].concat()),
            )
        })?;
        Isa::ALL.iter().try_for_each(|isa| {
            if !isa.available() {
                eprintln!("check: engine on {isa}: SKIPPED: this CPU lacks {isa}");
                return Ok(());
            }
            let title = format!("engine on {isa}");
            step(Command::new(&cargo).env("INCEPTION_ISA", isa.name()), (&title, OF_EACH_TIER))
        })
    }
}

/// Runs cargo for one step.
fn step(cargo: &mut Command, (title, arguments): (&str, &[&str])) -> anyhow::Result<()> {
    eprintln!("check: {title}: cargo {}", arguments.join(" "));
    let start = Instant::now();
    let status = cargo.args(arguments).status().context("starting cargo")?;
    if !status.success() {
        bail!("{title} failed; `cargo {}` alone repeats it", arguments.join(" "));
    }
    eprintln!("check: {title}: {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}
