//! The engine beside other runtimes: the same network with the same weights, timed in turn.

use std::fmt::Write;
use std::time::Duration;

use inception_nn::MODELS;
use serde::{Deserialize, Serialize};

use crate::machine::Regime;
use crate::measure::Sample;
use crate::table::{grouped_by, regimes, threads_text};

/// A runtime's part in a comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Contestant {
    /// The runtime.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Largest difference of its logits from the first contestant's, over the largest logit.
    pub logits_differ: f64,
    /// Milliseconds of every timed run, by rounds.
    pub rounds_ms: Vec<Vec<f64>>,
}

impl Contestant {
    /// All runs together; `None` if there are none.
    pub fn sample(&self) -> Option<Sample> {
        sample(self.rounds_ms.iter().flatten())
    }
}

fn sample<'a>(times_ms: impl IntoIterator<Item = &'a f64>) -> Option<Sample> {
    Sample::new(times_ms.into_iter().map(|&ms| Duration::from_secs_f64(ms.max(0.0) / 1e3)))
}

/// The median in seconds.
fn median<'a>(times_ms: impl IntoIterator<Item = &'a f64>) -> Option<f64> {
    Some(sample(times_ms)?.median().as_secs_f64())
}

/// A cell of the table of rivals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The network.
    pub model: String,
    /// Images a run.
    pub batch: usize,
    /// CPU threads of each contestant.
    pub threads: usize,
    /// Numbers computed in, by those that can.
    pub precision: String,
    /// Ours first; of one round each had its turn before the next round began.
    pub contestants: Vec<Contestant>,
    /// What it was measured on.
    pub regime: Regime,
}

/// How many times as fast as the best rival ours is.
#[derive(Clone, Debug, PartialEq)]
pub struct Lead {
    /// The rival with the shortest median.
    pub rival: String,
    /// Its median over ours.
    pub ratio: f64,
    /// The smallest and the largest of the ratios of the medians of one round.
    pub rounds: [f64; 2],
}

impl Comparison {
    /// Whether two are of the same cell of the table.
    pub fn is_same_cell(&self, other: &Self) -> bool {
        self.is_cell(&other.model, other.batch, other.threads, &other.precision)
    }

    /// Whether it is the cell of the table that these make out.
    pub fn is_cell(&self, model: &str, batch: usize, threads: usize, precision: &str) -> bool {
        (&*self.model, self.batch, self.threads, &*self.precision) == (model, batch, threads, precision)
    }

    /// The lead over the best rival; `None` without rivals.
    pub fn lead(&self) -> Option<Lead> {
        let (ours, rivals) = self.contestants.split_first()?;
        let medians =
            rivals.iter().filter_map(|rival| Some((rival, median(rival.rounds_ms.iter().flatten())?)));
        let (best, shortest) = medians.min_by(|(_, a), (_, b)| a.total_cmp(b))?;
        let pairs = best.rounds_ms.iter().zip(&ours.rounds_ms);
        let ratios = pairs.filter_map(|(rival, ours)| Some(median(rival)? / median(ours)?));
        let rounds =
            ratios.fold([f64::INFINITY, 0.0], |[low, high], ratio| [low.min(ratio), high.max(ratio)]);
        let ratio = shortest / median(ours.rounds_ms.iter().flatten())?;
        Some(Lead { rival: best.name.clone(), ratio, rounds })
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
    let regimes = regimes(cells.iter().map(|cell| &cell.regime)).join("; ");
    let mut text = format!("{precision}, {}; {regimes}\n\n", threads_text(threads));
    let contestants = grouped_by(cells.iter().flat_map(|cell| &cell.contestants), |c| &*c.name);
    text += "| network | batch |";
    for (name, parts) in &contestants {
        write!(text, " {name} {} |", parts[0].version).expect("a string takes everything");
    }
    text += " best rival / ours (rounds) |\n|---|---|";
    text += &"---|".repeat(contestants.len() + 1);
    text.push('\n');
    let place = |model: &str| MODELS.iter().position(|spec| spec.name == model);
    let mut sorted = cells.to_vec();
    sorted.sort_by_key(|cell| (place(&cell.model), cell.batch));
    for cell in sorted {
        let mut line = format!("| {} | {} |", cell.model, cell.batch);
        for (name, _) in &contestants {
            let contestant = cell.contestants.iter().find(|c| c.name == *name);
            let figure = contestant.and_then(Contestant::sample).map_or("-".to_owned(), |sample| {
                let [low, median, high] = [0.1, 0.5, 0.9].map(|q| sample.quantile(q).as_secs_f64() * 1e3);
                format!("{median:.1} ({low:.1}-{high:.1})")
            });
            line += &format!(" {figure} |");
        }
        line += &cell.lead().map_or(" - |".to_owned(), |lead| {
            let [low, high] = lead.rounds;
            format!(" **{:.2}** ({low:.2}-{high:.2}), {} |", lead.ratio, lead.rival)
        });
        text += &line;
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contestant(name: &str, rounds_ms: &[&[f64]]) -> Contestant {
        let rounds_ms = rounds_ms.iter().map(|round| round.to_vec()).collect();
        Contestant { name: name.into(), version: "1".into(), logits_differ: 0.0, rounds_ms }
    }

    #[test]
    fn the_lead_is_over_the_best_rival_and_pairs_rounds() {
        let cell = Comparison {
            model: "GoogLeNet".into(),
            batch: 1,
            threads: 2,
            precision: "f32".into(),
            contestants: vec![
                contestant("engine", &[&[10.0, 10.0, 90.0], &[20.0, 20.0, 20.0]]),
                contestant("slow", &[&[50.0], &[50.0]]),
                contestant("fast", &[&[15.0, 15.0, 15.0], &[22.0, 22.0, 22.0]]),
            ],
            regime: Regime::here(),
        };
        let lead = cell.lead().expect("there are rivals");
        assert_eq!(lead.rival, "fast");
        // Medians over all runs: 18.5 and 20; of the rounds 15 / 10 and 22 / 20.
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(near(lead.ratio, 18.5 / 20.0), "{}", lead.ratio);
        assert!(near(lead.rounds[0], 1.1) && near(lead.rounds[1], 1.5), "{:?}", lead.rounds);
        let table = comparison_markdown(&[cell]);
        assert!(table.contains("| GoogLeNet | 1 | 20.0 (10.0-55.0) | 50.0 (50.0-50.0) |"), "{table}");
        assert!(table.contains("** (1.10-1.50), fast |"), "{table}");
    }
}
