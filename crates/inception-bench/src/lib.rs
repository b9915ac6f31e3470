//! What brings networks, weights and pictures together: devices by name, classification, timing, and the table of models.
//!
//! ```
//! use inception_bench::{Predictor, RunOptions, Weights};
//!
//! let spec = inception_nn::model("GoogLeNet")?;
//! let predictor = Predictor::new(spec, &Weights::Random { seed: 0 }, &RunOptions::default())?;
//! # let photograph = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/images/ILSVRC2012_val_00000010.jpeg");
//! let prediction = predictor.predict(&inception_data::read(photograph)?)?;
//! assert_eq!(prediction.logits.len(), 1000);
//! println!("{:?}", predictor.top(&prediction, 5));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod comparison;
mod costs;
mod device;
mod error;
mod eval;
mod eval_error;
mod eval_report;
mod eval_state;
mod gpu;
mod latency;
mod machine;
mod measure;
mod precision;
mod predict;
mod report;
mod run;
mod table;
mod tuning;

pub use comparison::{Comparison, Contestant, Lead, comparison_markdown};
pub use costs::{ColdStart, Costs, costs_markdown};
pub use device::{DeviceKind, UnknownDevice};
pub use error::Error;
pub use eval::{
    ClassCount, EvalOptions, EvalSettings, Evaluation, Outcome, Progress, Shard, Skipped, Tally,
    dataset_hash, evaluate, file_hash,
};
pub use eval_error::{EvalError, MergeProblem, StateProblem};
pub use eval_report::{ClassRow, ConfusionRow, Details, EvalReport, Exact, merge};
pub use eval_state::StateFile;
pub use gpu::{Adapter, adapters};
pub use inception_engine::{
    Accuracy, Algorithm, Alternative, Choice, Compiled, Isa, LayerError, LayerTime, Row, Scaling, Wait, noise,
};
pub use latency::{
    BenchRow, Cell, Circumstances, LatencyRow, REFERENCE_GPU, Subject, compare_threads, latencies, latency,
    latency_csv, latency_markdown, reference_ms,
};
pub use machine::{Cores, Regime, cores, free_memory, peak_gflops, peak_memory_mb, reset_peak_memory};
pub use measure::{BETWEEN_PROCESSES, Change, Clock, Effort, MIN_RUNS, Sample, Spread, SystemClock, measure};
pub use precision::{Precision, UnknownPrecision};
pub use predict::{Guess, Prediction, Predictor, Weights, preprocessing};
pub use report::report_html;
pub use run::{Pending, RunOptions, Runner, accuracy, choices};
pub use table::{ModelRow, model_rows, models_markdown};
