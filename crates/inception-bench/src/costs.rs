//! Cold start: time and memory of a new process until its first answer, of the engine and of other runtimes.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::environment::Environment;
use crate::measure::median;

/// The cold start of one runtime with one network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ColdStart {
    /// The runtime.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Milliseconds from starting the process to its first answer, in each round.
    pub cold_ms: Vec<f64>,
    /// Milliseconds from the weights' file to the first answer, in a process that is ready for it, in each
    /// round.
    pub load_ms: Vec<f64>,
    /// Memory of the process before it had a network, in units of 10^6 bytes.
    pub before_mb: f64,
    /// The most memory that it held.
    pub peak_mb: f64,
    /// The memory that it held after the first answer.
    pub resting_mb: f64,
}

/// A row of the table of costs: batch 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Costs {
    /// The network.
    pub model: String,
    /// CPU threads of each runtime.
    pub threads: usize,
    /// The engine first.
    pub runtimes: Vec<ColdStart>,
    /// What it was measured on.
    #[serde(alias = "regime")] // Its name in older files.
    pub environment: Environment,
}

/// Costs as a table, a line for each network and runtime.
pub fn costs_markdown(rows: &[Costs]) -> String {
    let mut environments: Vec<_> =
        rows.iter().map(|row| format!("{} threads; {}", row.threads, row.environment)).collect();
    environments.dedup();
    let mut text = format!("{}\n\n", environments.join("; "));
    text += "| network | runtime | weights to first answer, ms | process to first answer, ms | memory, MB: peak | after the first answer | before the network |\n";
    text += "|---|---|---|---|---|---|---|\n";
    for (row, start) in rows.iter().flat_map(|row| row.runtimes.iter().map(move |start| (row, start))) {
        let ColdStart { name, version, cold_ms, load_ms, before_mb, peak_mb, resting_mb } = start;
        let [load, cold] = [load_ms, cold_ms].map(|ms| median(ms.iter().copied()).unwrap_or(f64::NAN));
        let model = &row.model;
        writeln!(
            text,
            "| {model} | {name} {version} | {load:.0} | {cold:.0} | {peak_mb:.0} | {resting_mb:.0} | {before_mb:.0} |"
        )
        .expect("a string takes everything");
    }
    text
}
