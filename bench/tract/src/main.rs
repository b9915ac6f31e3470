//! tract as a runtime of `cargo xtask rivals`: reads requests a line each, answers each with a line.
//!
//! - `load FILE BATCH`: the ONNX model, optimised for that batch; `ready VERSION`
//! - `infer INPUT OUTPUT`: files of little-endian floats, images in, logits out; `done`
//! - `time RUNS`: that many runs on the images of the last `infer`; their milliseconds
//! - anything that fails: `error REASON`

use std::fs;
use std::io::{BufRead, Write, stdin, stdout};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use tract_linalg::multithread::{Executor, set_default_executor};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;
use tract_onnx::tract_hir::internal::DimLike;

/// The version of the dependency, as Cargo.toml pins it.
const VERSION: &str = "0.23.9";

#[derive(Default)]
struct Worker {
    model: Option<Arc<TypedRunnableModel>>,
    images: Option<Tensor>,
}

impl Worker {
    fn answer(&mut self, request: &str) -> anyhow::Result<String> {
        match request.split_whitespace().collect::<Vec<_>>()[..] {
            ["load", file, batch] => {
                let batch = batch.parse()?;
                let model = tract_onnx::onnx().model_for_path(file)?;
                let shape = model.input_fact(0)?.shape.clone();
                let side = |axis: usize| -> anyhow::Result<usize> {
                    let side = shape.dim(axis).and_then(|side| side.concretize());
                    Ok(side.with_context(|| format!("axis {axis} is open"))?.to_usize()?)
                };
                let shape = [batch, side(1)?, side(2)?, side(3)?];
                let model = model.with_input_fact(0, f32::fact(shape).into())?.into_optimized()?;
                self.images = Some(Tensor::zero::<f32>(&shape)?);
                self.model = Some(model.into_runnable()?);
                Ok(format!("ready {VERSION}"))
            }
            ["infer", input, output] => {
                let images = self.images.as_mut().context("no model is loaded")?;
                let bytes = fs::read(input).with_context(|| input.to_owned())?;
                let (floats, _) = bytes.as_chunks::<4>();
                let floats: Vec<f32> = floats.iter().map(|&b| f32::from_le_bytes(b)).collect();
                *images = Tensor::from_shape(images.shape(), &floats)?;
                let logits = self.run()?;
                let bytes: Vec<u8> = logits.iter().flat_map(|v| v.to_le_bytes()).collect();
                fs::write(output, bytes).with_context(|| output.to_owned())?;
                Ok("done".to_owned())
            }
            ["time", runs] => {
                let mut times = Vec::new();
                for _ in 0..runs.parse()? {
                    let start = Instant::now();
                    std::hint::black_box(self.run()?);
                    times.push(format!("{:.4}", start.elapsed().as_secs_f64() * 1e3));
                }
                Ok(times.join(" "))
            }
            _ => bail!("no such request: {request}"),
        }
    }

    fn run(&self) -> anyhow::Result<Vec<f32>> {
        let (Some(model), Some(images)) = (&self.model, &self.images) else { bail!("no model is loaded") };
        let outputs = model.run(tvec![images.clone().into()])?;
        Ok(outputs[0].to_plain_array_view::<f32>()?.iter().copied().collect())
    }
}

fn main() -> anyhow::Result<()> {
    let threads = std::env::args().nth(1).context("usage: tract-rival THREADS")?.parse()?;
    set_default_executor(Executor::multithread(threads));
    let mut worker = Worker::default();
    for request in stdin().lock().lines() {
        let answer = worker.answer(&request?);
        let answer = answer.unwrap_or_else(|error| format!("error {error:#}").replace('\n', " "));
        writeln!(stdout(), "{answer}")?;
    }
    Ok(())
}
