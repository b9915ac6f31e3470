//! The table of models, counted and rendered.

use std::fmt::Write;

use inception_nn::{MODELS, ModelSpec};
use serde::Serialize;

/// A model with its exact counts beside the published ones.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ModelRow {
    /// The reference table's name.
    pub name: &'static str,
    /// Rows and columns of the network's input.
    pub input_size: usize,
    /// The picture's short side before the centre is cropped.
    pub resize_short: usize,
    /// Trainable parameters, GoogLeNet's auxiliary heads included.
    pub parameters: usize,
    /// Multiply-adds of inference on one image.
    pub macs: u64,
    /// What is published.
    pub reference: Published,
    /// Why the counts differ from what is published.
    pub note: &'static str,
}

/// Published figures: accuracy as shares, operations in 10^9, parameters in 10^6.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
#[allow(missing_docs)]
pub struct Published {
    pub top1: f64,
    pub top5: f64,
    pub flops_g: Option<f64>,
    pub params_m: f64,
    /// Milliseconds at each batch of [`LATENCY_BATCHES`](inception_nn::LATENCY_BATCHES), in half and in
    /// single precision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<[[f64; 4]; 2]>,
}

/// Counts every model of [`MODELS`] from the module itself.
///
/// # Errors
///
/// None for the table as it is; those of [`inception_nn::NetworkConfig::init`] if a row cannot be built.
pub fn model_rows() -> Result<Vec<ModelRow>, inception_nn::Error> {
    MODELS.iter().map(model_row).collect()
}

fn model_row(spec: &ModelSpec) -> Result<ModelRow, inception_nn::Error> {
    let trainable = spec.config().tensors()?.into_iter().filter(|tensor| tensor.role.is_trainable());
    let reference = &spec.reference;
    Ok(ModelRow {
        name: spec.name,
        input_size: spec.input_size,
        resize_short: spec.resize_short,
        parameters: trainable.map(|tensor| tensor.shape.iter().product::<usize>()).sum(),
        macs: spec.config().graph([spec.input_size; 2])?.macs(),
        reference: Published {
            top1: reference.top1,
            top5: reference.top5,
            flops_g: reference.flops_g,
            params_m: reference.params_m,
            latency_ms: reference.latency.map(|latency| [latency.fp16_ms, latency.fp32_ms]),
        },
        note: spec.note,
    })
}

/// The table of models: input in pixels, rounded counts, published accuracy.
pub fn models_markdown(rows: &[ModelRow]) -> String {
    let mut text = String::from(
        "| model | input | parameters | MACs | top-1 / top-5, published |\n|---|---|---|---|---|\n",
    );
    for ModelRow { name, input_size, parameters, macs, reference: Published { top1, top5, .. }, .. } in rows {
        let (millions, billions) = (*parameters as f64 / 1e6, *macs as f64 / 1e9);
        let line =
            format!("| {name} | {input_size} | {millions:.2} M | {billions:.2} G | {top1:.3} / {top5:.3} |");
        writeln!(text, "{line}").expect("a string takes everything");
    }
    text
}

/// The table of counts: exact parameters and multiply-adds beside those published, and why they differ.
pub fn counts_markdown(rows: &[ModelRow]) -> String {
    let mut text = String::from(
        "| model | parameters | published, M | MACs | published FLOPs, G | counts differ because |\n\
         |---|---|---|---|---|---|\n",
    );
    for row in rows {
        let Published { flops_g, params_m, .. } = row.reference;
        let (parameters, macs) = (grouped(row.parameters as u64), grouped(row.macs));
        let (name, note) = (row.name, row.note);
        let flops = flops_g.map_or_else(|| "-".to_owned(), |flops| format!("{flops:.2}"));
        let line = format!("| {name} | {parameters} | {params_m:.2} | {macs} | {flops} | {note} |");
        writeln!(text, "{line}").expect("a string takes everything");
    }
    text
}

/// Digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(" ")
}
