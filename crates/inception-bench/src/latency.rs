//! Latency of a network at a batch size.

use std::time::Duration;

use inception_engine::Precision;
use inception_nn::{LATENCY_BATCHES, ModelSpec};
use serde::{Deserialize, Serialize};

use crate::machine::{Regime, peak_memory_mb};
use crate::measure::{Change, Effort, Spread, SystemClock, measure};
use crate::{Error, Runner};

/// One cell of the latency table, with all that is needed to judge it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencyRow {
    /// The network.
    pub model: String,
    /// The device's name.
    pub device: String,
    /// Numbers computed in.
    pub precision: String,
    /// Images a run.
    pub batch: usize,
    /// CPU threads.
    pub threads: usize,
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
    /// At the median.
    pub images_per_second: f64,
    /// 10^9 operations a second at the median; a multiply-add is two, counted as the network is written, so that
    /// an algorithm with fewer multiplications can pass the machine's peak.
    pub gflops: f64,
    /// `gflops` over what multiply-adds in registers reach on as many threads, measured in the same process.
    pub share_of_peak: f64,
    /// The most memory that the process held while loading and running the network, where the system says.
    pub peak_memory_mb: Option<f64>,
    /// What it was measured on.
    pub regime: Regime,
}

impl LatencyRow {
    /// Whether two rows are timings of the same thing.
    pub fn is_same_cell(&self, other: &Self) -> bool {
        let key = |row: &Self| {
            (row.model.clone(), row.device.clone(), row.precision.clone(), row.batch, row.threads)
        };
        key(self) == key(other)
    }

    /// How this row compares with an earlier timing of the same cell.
    pub fn against(&self, baseline: &Self) -> Change {
        let spread = |row: &Self| {
            let [low_ms, high_ms] = row.deciles_ms;
            Spread { low_ms, median_ms: row.median_ms, high_ms }
        };
        spread(self).against(spread(baseline))
    }
}

/// What [`latency`] does not find out itself.
#[derive(Clone, Debug)]
pub struct Circumstances {
    /// The device's name.
    pub device: String,
    /// Numbers computed in.
    pub precision: Precision,
    /// CPU threads.
    pub threads: usize,
    /// What [`peak_gflops`](crate::peak_gflops) gave on them.
    pub peak_gflops: f64,
    /// The machine.
    pub regime: Regime,
}

/// What images are timed: fixed values, spread over what normalised images hold, without structure.
pub fn noise(len: usize) -> Vec<f32> {
    let value = |i: usize| (i.wrapping_mul(2_654_435_761) >> 7 & 0xffff) as f32 / 16384.0 - 2.0;
    (0..len).map(value).collect()
}

/// Times a network at a batch size, on images of noise.
///
/// # Errors
///
/// Those of [`Runner::run`].
pub fn latency(
    spec: &ModelSpec,
    runner: &Runner,
    batch: usize,
    effort: Effort,
    on: &Circumstances,
) -> Result<LatencyRow, Error> {
    let images = noise(batch * runner.image_len());
    let sample = measure(&SystemClock::default(), effort, || {
        runner.run(&images, batch).map(std::hint::black_box).map(drop)
    })?;
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let median = sample.median().as_secs_f64();
    let macs = runner.macs() * batch as u64;
    let gflops = 2.0 * macs as f64 / median / 1e9;
    let (low, high) = sample.median_interval();
    Ok(LatencyRow {
        model: spec.name.to_owned(),
        device: on.device.clone(),
        precision: on.precision.to_string(),
        batch,
        threads: on.threads,
        median_ms: ms(sample.median()),
        min_ms: ms(sample.quantile(0.0)),
        max_ms: ms(sample.quantile(1.0)),
        deciles_ms: [ms(sample.quantile(0.1)), ms(sample.quantile(0.9))],
        median_interval_ms: [ms(low), ms(high)],
        runs: sample.runs(),
        warm_up: sample.warm_up,
        images_per_second: batch as f64 / median,
        gflops,
        share_of_peak: gflops / on.peak_gflops,
        peak_memory_mb: peak_memory_mb(),
        regime: on.regime.clone(),
    })
}

/// The reference's own latency for a cell in single precision, where published: TensorRT on a GPU.
pub fn reference_ms(spec: &ModelSpec, batch: usize) -> Option<f64> {
    let column = LATENCY_BATCHES.iter().position(|&b| b == batch)?;
    Some(spec.reference.latency?.fp32_ms[column])
}

/// Rows as comma-separated values, with a line of names; the regime's fields are left to JSON.
pub fn latency_csv(rows: &[LatencyRow]) -> String {
    let mut text = String::from(
        "model,device,precision,batch,threads,median_ms,min_ms,max_ms,runs,images_per_second,gflops,\
         share_of_peak,peak_memory_mb\n",
    );
    for row in rows {
        let LatencyRow { model, device, precision, batch, threads, median_ms, min_ms, max_ms, .. } = row;
        let LatencyRow { runs, images_per_second, gflops, share_of_peak, .. } = row;
        let memory = row.peak_memory_mb.map(|mb| format!("{mb:.1}")).unwrap_or_default();
        text += &format!(
            "{model},{device},{precision},{batch},{threads},{median_ms:.4},{min_ms:.4},{max_ms:.4},{runs},\
             {images_per_second:.3},{gflops:.2},{share_of_peak:.4},{memory}\n"
        );
    }
    text
}
