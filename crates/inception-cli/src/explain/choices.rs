//! `--measure`: the plan's choices of kernels against the clock.

use std::io::{self, Write};
use std::time::Duration;

use inception::engine::{Alternative, Choice};
use serde::Serialize;

/// A row of `--measure --json`.
#[derive(Serialize)]
pub struct Timing {
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

/// The rows of a layer.
pub fn timings(model: &'static str, choice: &Choice) -> Vec<Timing> {
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

/// The rows of a network as a table.
pub fn print(out: &mut impl Write, model: &str, choices: &[Choice]) -> io::Result<()> {
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
