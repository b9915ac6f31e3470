//! Latency of networks at batch sizes: rows of the table, how each comes about, and how rows are rendered.

use std::fmt::Write;
use std::time::Duration;

use inception::engine::noise;
use inception::nn::LATENCY_BATCHES;
use inception::{DeviceKind, MODELS, ModelSpec, Runner, catch_panic};
use serde::{Deserialize, Serialize};

use crate::environment::Environment;
use crate::error::Error;
use crate::measure::{Change, Clock, Sample, Spread, StopRule, measure};
use crate::memory::peak_memory_mb;
use crate::rows::{environments, grouped_by, threads_text};

/// What the reference's latencies were measured on; see [`inception::nn::Reference`].
pub const REFERENCE_GPU: &str = "V100, TensorRT";

/// A cell of the latency table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// The network.
    pub model: String,
    /// The device's name.
    pub device: String,
    /// The element type.
    pub precision: String,
    /// Images a run.
    pub batch: usize,
    /// CPU threads.
    pub threads: usize,
}

/// A timing of a cell, with all that is needed to judge it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LatencyRow {
    /// What was timed.
    #[serde(flatten)]
    pub cell: Cell,
    /// The median run, host to host: from normalised images in memory to logits in memory.
    pub median_ms: f64,
    /// The fastest run.
    pub min_ms: f64,
    /// The slowest run.
    pub max_ms: f64,
    /// A tenth of the runs were faster than the first, a tenth slower than the second.
    pub deciles_ms: [f64; 2],
    /// The median lies between with 95 % confidence.
    pub median_interval_ms: [f64; 2],
    /// Timed runs.
    pub runs: usize,
    /// Runs before.
    pub warm_up: usize,
    /// On a GPU, the median run from images that are there to logits that stay there.
    #[serde(default)]
    pub device_ms: Option<f64>,
    /// At the median.
    pub images_per_second: f64,
    /// 10^9 operations a second at the median; a multiply-add is two, counted as the network is written, so
    /// that an algorithm with fewer multiplications can pass the machine's peak.
    pub gflops: f64,
    /// `gflops` over what multiply-adds in registers reach on as many of the CPU's threads, measured in the
    /// same process; it says nothing of a GPU.
    pub share_of_peak: f64,
    /// How much faster than on the fewest threads of the same run, over how many times as many threads.
    #[serde(default)]
    pub share_of_ideal: Option<f64>,
    /// The most memory that the process held while loading and running the network, where the system says.
    pub peak_memory_mb: Option<f64>,
    /// What it was measured on.
    #[serde(alias = "regime")] // Its name in older files.
    pub environment: Environment,
    /// The file that the weights are of; without one they are random.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
}

impl LatencyRow {
    /// How this row compares with an earlier timing of the same cell.
    pub fn against(&self, baseline: &Self) -> Change {
        let spread = |row: &Self| {
            let [low_ms, high_ms] = row.deciles_ms;
            Spread { low_ms, median_ms: row.median_ms, high_ms }
        };
        let peak = |row: &Self| row.gflops / row.share_of_peak;
        spread(self).against(spread(baseline), peak(baseline) / peak(self))
    }
}

/// The result of a cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
#[serde(untagged)]
pub enum BenchRow {
    /// The timing.
    Timed(Box<LatencyRow>),
    /// There is none.
    Failed {
        /// What was to be timed.
        #[serde(flatten)]
        cell: Cell,
        /// What went wrong.
        error: String,
    },
}

impl BenchRow {
    /// The timing, if there is one.
    pub fn timed(&self) -> Option<&LatencyRow> {
        match self {
            Self::Timed(row) => Some(row),
            Self::Failed { .. } => None,
        }
    }
}

/// A network on a device, to be timed.
pub trait BenchTarget {
    /// The device.
    fn device(&self) -> DeviceKind;

    /// Floats of one image.
    fn image_len(&self) -> usize;

    /// Multiply-adds of one image.
    fn macs(&self) -> u64;

    /// Bytes of the machine's memory that a run takes at least, weights apart; `None` if that is not known.
    fn memory(&self, batch: usize) -> Option<u64>;

    /// Normalised images to logits.
    ///
    /// # Errors
    ///
    /// Where the device fails.
    fn run(&self, images: &[f32], batch: usize) -> Result<Vec<f32>, inception::Error>;

    /// On a GPU, a run of images that are there already, complete when it returns; `None` where the device is
    /// the CPU and there is no way to and fro.
    fn on_device<'a>(
        &'a self,
        images: &[f32],
        batch: usize,
    ) -> Option<Box<dyn FnMut() -> Result<(), inception::Error> + 'a>>;
}

impl BenchTarget for Runner {
    fn device(&self) -> DeviceKind {
        self.device()
    }

    fn image_len(&self) -> usize {
        self.image_len()
    }

    fn macs(&self) -> u64 {
        self.macs()
    }

    fn memory(&self, batch: usize) -> Option<u64> {
        self.memory(batch)
    }

    fn run(&self, images: &[f32], batch: usize) -> Result<Vec<f32>, inception::Error> {
        self.run(images, batch)
    }

    fn on_device<'a>(
        &'a self,
        images: &[f32],
        batch: usize,
    ) -> Option<Box<dyn FnMut() -> Result<(), inception::Error> + 'a>> {
        Some(Box::new(self.on_device(images, batch)?))
    }
}

/// The conditions of a measurement.
#[derive(Clone, Debug)]
pub struct BenchConditions {
    /// What [`peak_gflops`](crate::peak_gflops) gave on as many threads.
    pub peak_gflops: f64,
    /// Bytes that a run may take; `None` if that is not known.
    pub memory: Option<u64>,
    /// When to stop.
    pub stop: StopRule,
    /// The machine.
    pub environment: Environment,
    /// The file that the weights are of; without one they are random.
    pub weights: Option<String>,
}

/// Times cells of one network on one device, one after the other, and tells `done` of each: a cell that fails
/// does not cost the others theirs.
pub fn latencies(
    target: &impl BenchTarget,
    cells: Vec<Cell>,
    clock: &impl Clock,
    on: &BenchConditions,
    mut done: impl FnMut(BenchRow),
) {
    for cell in cells {
        done(match latency(target, &cell, clock, on) {
            Ok(row) => BenchRow::Timed(Box::new(row)),
            Err(error) => BenchRow::Failed { cell, error: error.to_string() },
        });
    }
}

/// Times a network at a batch size, on images of noise.
///
/// # Errors
///
/// [`Error::Memory`] before anything runs, and those of [`BenchTarget::run`]; a panic in it is
/// [`inception::Error::Device`].
pub fn latency(
    target: &impl BenchTarget,
    cell: &Cell,
    clock: &impl Clock,
    on: &BenchConditions,
) -> Result<LatencyRow, Error> {
    let batch = cell.batch;
    if let (Some(needed), Some(free)) = (target.memory(batch), on.memory)
        && needed > free
    {
        return Err(Error::Memory {
            batch,
            needed_mb: needed.div_ceil(1_000_000),
            free_mb: free / 1_000_000,
        });
    }
    let images = noise(batch * target.image_len());
    let time = |run: &mut dyn FnMut() -> Result<(), inception::Error>| {
        // Burn's operations panic where a device is lost.
        measure(clock, on.stop, || catch_panic(target.device(), &mut *run))
    };
    // A GPU tries kernels out in the first run and records the second: neither is what a run takes.
    if target.device().is_gpu() {
        for _ in 0..2 {
            catch_panic(target.device(), || target.run(&images, batch))?;
        }
    }
    let sample = time(&mut || target.run(&images, batch).map(std::hint::black_box).map(drop))?;
    let device_ms = match target.on_device(&images, batch) {
        Some(mut run) => Some(ms(time(&mut *run)?.median())),
        None => None,
    };
    Ok(row(target, cell, on, &sample, device_ms))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn row(
    target: &impl BenchTarget,
    cell: &Cell,
    on: &BenchConditions,
    sample: &Sample,
    device_ms: Option<f64>,
) -> LatencyRow {
    let median = sample.median().as_secs_f64();
    let macs = target.macs() * cell.batch as u64;
    let gflops = 2.0 * macs as f64 / median / 1e9;
    let (low, high) = sample.median_interval();
    LatencyRow {
        cell: cell.clone(),
        median_ms: ms(sample.median()),
        min_ms: ms(sample.quantile(0.0)),
        max_ms: ms(sample.quantile(1.0)),
        deciles_ms: [ms(sample.quantile(0.1)), ms(sample.quantile(0.9))],
        median_interval_ms: [ms(low), ms(high)],
        runs: sample.runs(),
        warm_up: sample.warm_up,
        device_ms,
        images_per_second: cell.batch as f64 / median,
        gflops,
        share_of_peak: gflops / on.peak_gflops,
        share_of_ideal: None,
        peak_memory_mb: peak_memory_mb(),
        environment: on.environment.clone(),
        weights: on.weights.clone(),
    }
}

/// Fills in [`LatencyRow::share_of_ideal`] of rows that have a counterpart on fewer threads.
pub fn compare_threads(rows: &mut [BenchRow]) {
    let timed: Vec<(Cell, f64)> =
        rows.iter().filter_map(BenchRow::timed).map(|row| (row.cell.clone(), row.median_ms)).collect();
    for row in rows {
        let BenchRow::Timed(row) = row else { continue };
        let same =
            timed.iter().filter(|(cell, _)| Cell { threads: row.cell.threads, ..cell.clone() } == row.cell);
        row.share_of_ideal = same
            .min_by_key(|(cell, _)| cell.threads)
            .filter(|(cell, _)| cell.threads < row.cell.threads)
            .map(|(cell, median)| median * cell.threads as f64 / (row.median_ms * row.cell.threads as f64));
    }
}

/// The reference's own latency for a cell, where published: its half precision for ours, whichever that is.
pub fn reference_ms(spec: &ModelSpec, batch: usize, precision: &str) -> Option<f64> {
    let column = LATENCY_BATCHES.iter().position(|&b| b == batch)?;
    let latency = spec.reference.latency?;
    Some(if precision == "f32" { latency.fp32_ms[column] } else { latency.fp16_ms[column] })
}

/// Rows as comma-separated values, with a line of names; the environment's fields are left to JSON, and so
/// are cells that failed.
pub fn latency_csv(rows: &[BenchRow]) -> String {
    let mut text = String::from(
        "model,device,precision,batch,threads,median_ms,min_ms,max_ms,runs,images_per_second,gflops,\
         share_of_peak,peak_memory_mb\n",
    );
    for row in rows.iter().filter_map(BenchRow::timed) {
        let Cell { model, device, precision, batch, threads } = &row.cell;
        let LatencyRow { median_ms, min_ms, max_ms, runs, images_per_second, .. } = row;
        let LatencyRow { gflops, share_of_peak, .. } = row;
        let memory = row.peak_memory_mb.map(|mb| format!("{mb:.1}")).unwrap_or_default();
        text += &format!(
            "{model},{device},{precision},{batch},{threads},{median_ms:.4},{min_ms:.4},{max_ms:.4},{runs},\
             {images_per_second:.3},{gflops:.2},{share_of_peak:.4},{memory}\n"
        );
    }
    text
}

/// Rows as tables in the reference's shape, one for each device, precision and number of threads:
/// milliseconds by network and batch, and the reference's figures beside them.
pub fn latency_markdown(rows: &[BenchRow]) -> String {
    let configs = grouped_by(rows.iter().filter_map(BenchRow::timed), run_config);
    configs.iter().map(|(config, rows)| table(rows, *config)).collect::<Vec<_>>().join("\n")
}

/// Device, precision and threads: what the rows of a table have in common.
type RunConfig<'a> = (&'a str, &'a str, usize);

fn run_config(row: &LatencyRow) -> RunConfig<'_> {
    (&row.cell.device, &row.cell.precision, row.cell.threads)
}

fn table(rows: &[&LatencyRow], (device, precision, threads): RunConfig<'_>) -> String {
    let mut batches: Vec<usize> = rows.iter().map(|row| row.cell.batch).collect();
    batches.sort_unstable();
    batches.dedup();
    let environments = environments(rows.iter().map(|row| &row.environment)).join("; ");
    let mut text =
        format!("{device}, {precision}, {}; {environments}\n\n| network, ms |", threads_text(threads));
    for batch in &batches {
        text += &format!(" batch {batch} |");
    }
    for batch in &batches {
        text += &format!(" {REFERENCE_GPU}, batch {batch} |");
    }
    text += &format!("\n|{}\n", "---|".repeat(1 + 2 * batches.len()));
    for spec in MODELS {
        let of = |batch: usize| {
            rows.iter().find(|row| row.cell.model == spec.name && row.cell.batch == batch).map(|row| {
                let [low, high] = row.deciles_ms;
                format!("{:.1} ({low:.1}-{high:.1})", row.median_ms)
            })
        };
        let cells: Vec<_> = batches.iter().map(|&batch| of(batch)).collect();
        if cells.iter().all(Option::is_none) {
            continue;
        }
        let reference = |&batch: &usize| reference_ms(spec, batch, precision).map(|ms| format!("{ms:.1}"));
        let cells = cells.into_iter().chain(batches.iter().map(reference));
        write!(text, "| {} |", spec.name).expect("a string takes everything");
        for cell in cells {
            write!(text, " {} |", cell.as_deref().unwrap_or("-")).expect("a string takes everything");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::cell::Cell as StdCell;

    use super::*;

    /// A device that takes a millisecond an image and a quarter of that without the ways to and fro, and is
    /// lost (with an error, or a panic) at a batch of 8.
    struct Fake {
        now: StdCell<Duration>,
        panics: bool,
    }

    impl Clock for Fake {
        fn now(&self) -> Duration {
            self.now.get()
        }
    }

    impl Fake {
        fn take(&self, milliseconds: f64) {
            self.now.set(self.now.get() + Duration::from_secs_f64(milliseconds / 1e3));
        }
    }

    impl BenchTarget for Fake {
        fn device(&self) -> DeviceKind {
            DeviceKind::Wgpu
        }

        fn image_len(&self) -> usize {
            3
        }

        fn macs(&self) -> u64 {
            1_000_000
        }

        fn memory(&self, batch: usize) -> Option<u64> {
            Some(batch as u64 * 1_000_000)
        }

        fn run(&self, images: &[f32], batch: usize) -> Result<Vec<f32>, inception::Error> {
            assert_eq!(images.len(), 3 * batch);
            assert!(batch != 8 || !self.panics, "the device is lost");
            self.take(batch as f64);
            match batch {
                8 => Err(inception::Error::Device {
                    device: DeviceKind::Wgpu,
                    reason: "the device is lost".into(),
                }),
                _ => Ok(vec![0.0; batch]),
            }
        }

        fn on_device<'a>(
            &'a self,
            _: &[f32],
            batch: usize,
        ) -> Option<Box<dyn FnMut() -> Result<(), inception::Error> + 'a>> {
            Some(Box::new(move || {
                self.take(batch as f64 / 4.0);
                Ok(())
            }))
        }
    }

    fn cell(batch: usize, threads: usize) -> Cell {
        let [model, device, precision] = ["GoogLeNet", "wgpu", "f32"].map(str::to_owned);
        Cell { model, device, precision, batch, threads }
    }

    fn on() -> BenchConditions {
        BenchConditions {
            peak_gflops: 8.0,
            memory: Some(100_000_000),
            stop: StopRule::default(),
            environment: Environment::here(),
            weights: None,
        }
    }

    #[test]
    fn a_lost_device_and_a_batch_too_large_cost_only_their_own_rows() {
        for panics in [false, true] {
            let fake = Fake { now: StdCell::default(), panics };
            let cells = [1, 8, 256, 4].map(|batch| cell(batch, 2)).to_vec();
            let mut rows = Vec::new();
            latencies(&fake, cells, &fake, &on(), |row| rows.push(row));
            let [BenchRow::Timed(first), lost, large, BenchRow::Timed(last)] = &rows[..] else {
                panic!("{rows:?}")
            };
            assert!((first.median_ms - 1.0).abs() < 1e-6 && (last.median_ms - 4.0).abs() < 1e-6);
            assert!((last.device_ms.unwrap_or(0.0) - 1.0).abs() < 1e-6, "{:?}", last.device_ms);
            // Four images of 10^6 multiply-adds in 4 ms; a quarter of the peak.
            assert!((last.gflops - 2.0).abs() < 1e-6 && (last.share_of_peak - 0.25).abs() < 1e-6);
            let error = |row: &BenchRow| match row {
                BenchRow::Failed { error, .. } => error.clone(),
                BenchRow::Timed(row) => panic!("{row:?}"),
            };
            assert!(error(lost).contains("the device is lost"), "{}", error(lost));
            assert!(error(large).contains("needs at least 256 MB, and 100 MB are free"), "{}", error(large));

            let json = serde_json::to_string(&rows).expect("rows are JSON");
            assert_eq!(serde_json::from_str::<Vec<BenchRow>>(&json).expect("and come back"), rows);
            assert_eq!(latency_csv(&rows).lines().count(), 3);
            let table = latency_markdown(&rows);
            assert!(table.contains("| GoogLeNet | 1.0 (1.0-1.0) | 4.0 (4.0-4.0) | 1.4 | 2.9 |"), "{table}");
        }
    }

    #[test]
    fn the_share_of_ideal_is_against_the_fewest_threads() {
        let fake = Fake { now: StdCell::default(), panics: false };
        let mut rows = Vec::new();
        let cells = vec![cell(3, 4), cell(3, 1), cell(3, 2), cell(4, 2)];
        latencies(&fake, cells, &fake, &on(), |row| rows.push(row));
        compare_threads(&mut rows);
        let shares: Vec<_> = rows.iter().filter_map(BenchRow::timed).map(|row| row.share_of_ideal).collect();
        // As slow on four threads as on one: a quarter of the ideal.
        assert_eq!(shares, [Some(0.25), None, Some(0.5), None]);
    }
}
