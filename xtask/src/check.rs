//! `cargo xtask check`

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Args;

/// What is checked, cheapest first: a title and the arguments of cargo. Tests run in the profile of every other
/// command, so that dependencies are compiled once for both.
const STEPS: &[(&str, &[&str])] = &[
    ("formatting", &["fmt", "--all", "--check"]),
    (
        "lints",
        &["clippy", "--release", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"],
    ),
    ("docs", &["doc", "--release", "--workspace", "--no-deps", "--quiet"]),
    ("tests", &["test", "--release", "--workspace"]),
    (
        "optional features",
        &["test", "--release", "--package", "inception-data", "--features", "image,parquet"],
    ),
    (
        "readers without Burn",
        &["check", "--release", "--package", "inception-weights", "--no-default-features", "--quiet"],
    ),
];

#[derive(Args)]
pub struct Check {}

impl Check {
    pub fn run(&self) -> anyhow::Result<()> {
        // Cargo sets it for whatever it runs.
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        for (title, arguments) in STEPS {
            eprintln!("check: {title}: cargo {}", arguments.join(" "));
            let start = Instant::now();
            let mut command = Command::new(&cargo);
            command.args(*arguments).env("RUSTDOCFLAGS", "--deny warnings");
            let status = command.status().with_context(|| format!("starting {}", cargo.display()))?;
            if !status.success() {
                bail!("{title} failed; `cargo {}` alone repeats it", arguments.join(" "));
            }
            eprintln!("check: {title}: {:.0} s", start.elapsed().as_secs_f64());
        }
        Ok(())
    }
}
