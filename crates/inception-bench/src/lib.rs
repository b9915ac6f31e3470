//! Measurements of the Inception family: latency, comparison with other runtimes, costs before the first
//! answer, and layers of the engine one by one; with the tables and the page that show them.

mod comparison;
mod costs;
mod environment;
mod error;
pub mod html;
mod latency;
mod layers;
mod measure;
mod memory;
mod peak;
mod report;
mod rows;

pub use comparison::{Comparison, RuntimeTimes, Speedup, comparison_markdown};
pub use costs::{ColdStart, Costs, costs_markdown};
pub use environment::Environment;
pub use error::Error;
pub use latency::{
    BenchConditions, BenchRow, BenchTarget, Cell, LatencyRow, REFERENCE_GPU, compare_threads, latencies,
    latency, latency_csv, latency_markdown, reference_ms,
};
pub use layers::{choices, layer_errors};
pub use measure::{
    BETWEEN_PROCESSES, Change, Clock, MIN_RUNS, Sample, Spread, StopRule, SystemClock, measure, median,
};
pub use memory::{free_memory, memory_of_process_mb, peak_memory_mb, reset_peak_memory};
pub use peak::peak_gflops;
pub use report::report_html;
