//! The engine beside other runtimes: the same network with the same weights, timed in turn.

use std::fmt::Write;

use inception::MODELS;
use serde::{Deserialize, Serialize};

use crate::environment::Environment;
use crate::measure::{Sample, median};
use crate::rows::{environments, grouped_by, threads_text};

/// The times of one runtime in a comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuntimeTimes {
    /// The runtime.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Largest difference of its logits from the first runtime's, over the largest logit.
    pub logits_differ: f64,
    /// Milliseconds of every timed run, by rounds.
    pub rounds_ms: Vec<Vec<f64>>,
}

impl RuntimeTimes {
    /// All runs together; `None` if there are none.
    pub fn sample(&self) -> Option<Sample> {
        Sample::of_ms(self.rounds_ms.iter().flatten().copied())
    }

    fn median_ms(&self) -> Option<f64> {
        median(self.rounds_ms.iter().flatten().copied())
    }
}

/// One network at one batch size, threads and precision, timed on several runtimes in alternation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The network.
    pub model: String,
    /// Images a run.
    pub batch: usize,
    /// CPU threads of each runtime.
    pub threads: usize,
    /// The element type of those runtimes that have it.
    pub precision: String,
    /// The engine first. Each runtime had one turn in each round.
    #[serde(alias = "contestants")] // Its name in older files.
    pub runtimes: Vec<RuntimeTimes>,
    /// What it was measured on.
    #[serde(alias = "regime")] // Its name in older files.
    pub environment: Environment,
}

/// The speedup of the engine over the best rival.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Speedup {
    /// The rival with the shortest median.
    pub rival: String,
    /// Its median over ours.
    pub ratio: f64,
    /// The smallest and the largest ratio of the medians of one round.
    pub rounds: [f64; 2],
}

impl Comparison {
    /// Whether both are of the same network, batch, threads and precision.
    pub fn is_same_cell(&self, other: &Self) -> bool {
        self.is_cell(&other.model, other.batch, other.threads, &other.precision)
    }

    /// Whether it is of this network, batch, threads and precision.
    pub fn is_cell(&self, model: &str, batch: usize, threads: usize, precision: &str) -> bool {
        (&*self.model, self.batch, self.threads, &*self.precision) == (model, batch, threads, precision)
    }

    /// The speedup over the best rival; `None` without rivals.
    pub fn speedup(&self) -> Option<Speedup> {
        let (ours, rivals) = self.runtimes.split_first()?;
        let medians = rivals.iter().filter_map(|rival| Some((rival, rival.median_ms()?)));
        let (best, shortest) = medians.min_by(|(_, a), (_, b)| a.total_cmp(b))?;
        let pairs = best.rounds_ms.iter().zip(&ours.rounds_ms);
        let ratios = pairs
            .filter_map(|(rival, ours)| Some(median(rival.iter().copied())? / median(ours.iter().copied())?));
        let rounds =
            ratios.fold([f64::INFINITY, 0.0], |[low, high], ratio| [low.min(ratio), high.max(ratio)]);
        let ratio = shortest / ours.median_ms()?;
        Some(Speedup { rival: best.name.clone(), ratio, rounds })
    }
}

/// Comparisons as tables: one for each number of threads and precision, a line for each cell.
pub fn comparison_markdown(cells: &[Comparison]) -> String {
    let mut settings = grouped_by(cells, |cell| (cell.precision != "f32", &*cell.precision, cell.threads));
    settings.sort_by_key(|&(setting, _)| setting);
    let tables =
        settings.iter().map(|&((_, precision, threads), ref cells)| table(cells, precision, threads));
    tables.collect::<Vec<_>>().join("\n")
}

/// The cells of one table.
fn table(cells: &[&Comparison], precision: &str, threads: usize) -> String {
    let environments = environments(cells.iter().map(|cell| &cell.environment)).join("; ");
    let mut text = format!("{precision}, {}; {environments}\n\n", threads_text(threads));
    let runtimes = grouped_by(cells.iter().flat_map(|cell| &cell.runtimes), |c| &*c.name);
    text += "| network | batch |";
    for (name, parts) in &runtimes {
        write!(text, " {name} {} |", parts[0].version).expect("a string takes everything");
    }
    text += " best rival / ours (rounds) |\n|---|---|";
    text += &"---|".repeat(runtimes.len() + 1);
    text.push('\n');
    let place = |model: &str| MODELS.iter().position(|spec| spec.name == model);
    let mut sorted = cells.to_vec();
    sorted.sort_by_key(|cell| (place(&cell.model), cell.batch));
    for cell in sorted {
        let mut line = format!("| {} | {} |", cell.model, cell.batch);
        for (name, _) in &runtimes {
            let runtime = cell.runtimes.iter().find(|c| c.name == *name);
            let figure = runtime.and_then(RuntimeTimes::sample).map_or("-".to_owned(), |sample| {
                let [low, median, high] = sample.spread_ms();
                format!("{median:.1} ({low:.1}-{high:.1})")
            });
            line += &format!(" {figure} |");
        }
        line += &cell.speedup().map_or(" - |".to_owned(), |speedup| {
            let [low, high] = speedup.rounds;
            format!(" **{:.2}** ({low:.2}-{high:.2}), {} |", speedup.ratio, speedup.rival)
        });
        text += &line;
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime(name: &str, rounds_ms: &[&[f64]]) -> RuntimeTimes {
        let rounds_ms = rounds_ms.iter().map(|round| round.to_vec()).collect();
        RuntimeTimes { name: name.into(), version: "1".into(), logits_differ: 0.0, rounds_ms }
    }

    #[test]
    fn the_speedup_is_over_the_best_rival_and_pairs_rounds() {
        let cell = Comparison {
            model: "GoogLeNet".into(),
            batch: 1,
            threads: 2,
            precision: "f32".into(),
            runtimes: vec![
                runtime("engine", &[&[10.0, 10.0, 90.0], &[20.0, 20.0, 20.0]]),
                runtime("slow", &[&[50.0], &[50.0]]),
                runtime("fast", &[&[15.0, 15.0, 15.0], &[22.0, 22.0, 22.0]]),
            ],
            environment: Environment::here(),
        };
        let speedup = cell.speedup().expect("there are rivals");
        assert_eq!(speedup.rival, "fast");
        // Medians over all runs: 18.5 and 20; of the rounds 15 / 10 and 22 / 20.
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(near(speedup.ratio, 18.5 / 20.0), "{}", speedup.ratio);
        assert!(near(speedup.rounds[0], 1.1) && near(speedup.rounds[1], 1.5), "{:?}", speedup.rounds);
        let table = comparison_markdown(&[cell]);
        assert!(table.contains("| GoogLeNet | 1 | 20.0 (10.0-55.0) | 50.0 (50.0-50.0) |"), "{table}");
        assert!(table.contains("** (1.10-1.50), fast |"), "{table}");
    }
}
