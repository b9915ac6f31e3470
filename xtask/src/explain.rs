//! `cargo xtask explain`

use std::io::{Write, stdout};

use clap::Args;
use inception_bench::{DeviceKind, Row, RunOptions, Runner};
use serde::Serialize;

use crate::args::{ModelArgs, Precision};

#[derive(Args)]
pub struct Explain {
    #[command(flatten)]
    models: ModelArgs,
    /// Keep to algorithms that add and multiply as the network is written, without Winograd
    #[arg(long)]
    exact: bool,
    /// Precision to compute in: f32, or bf16 where the CPU has AVX512-BF16
    #[arg(long, value_enum, value_name = "NUMBERS", default_value = "f32")]
    precision: Precision,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A row of `--json`.
#[derive(Serialize)]
struct Node {
    model: &'static str,
    node: String,
    op: String,
    kernel: String,
    shape: [usize; 3],
    macs: u64,
}

impl Explain {
    pub fn run(&self) -> anyhow::Result<()> {
        let mut out = stdout().lock();
        let mut nodes = Vec::new();
        for spec in &self.models.models {
            let network = spec.config().init(&DeviceKind::Engine.open()?)?;
            let precision = self.precision.on(DeviceKind::Engine)?;
            let options = RunOptions { exact: self.exact, precision, ..RunOptions::default() };
            let runner = Runner::new(network, [spec.input_size; 2], &options)?;
            let Some(compiled) = runner.compiled() else { continue };
            if self.json {
                nodes.extend(compiled.explain().iter().cloned().map(
                    |Row { node, op, kernel, shape, macs }| Node {
                        model: spec.name,
                        node,
                        op,
                        kernel,
                        shape,
                        macs,
                    },
                ));
                continue;
            }
            let (isa, arena) = (compiled.isa().name(), compiled.arena_bytes() as f64 / 1e6);
            let waves = compiled.waves();
            writeln!(
                out,
                "{}: {isa}, {precision}, activations of one image {arena:.1} MB, {waves} meetings of the threads",
                spec.name
            )?;
            for row in compiled.explain() {
                let [height, width, channels] = row.shape;
                let shape = format!("{height}x{width}x{channels}");
                let macs = row.macs as f64 / 1e6;
                writeln!(out, "  {:<28} {:<34} {shape:<13} {macs:8.1} M  {}", row.node, row.op, row.kernel)?;
            }
        }
        if self.json {
            writeln!(out, "{}", serde_json::to_string_pretty(&nodes)?)?;
        }
        Ok(())
    }
}
