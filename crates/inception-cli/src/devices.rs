//! `devices`

use std::io::{Write, stdout};

use clap::Args;
use inception::engine::Isa;
use inception::{Adapter, DeviceKind, Precision, adapters};
use serde::Serialize;

use crate::Program;

#[derive(Args)]
pub struct Devices {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A row of `--json`.
#[derive(Serialize)]
struct Row {
    device: &'static str,
    compiled_in: bool,
    /// What a build needs to have it.
    feature: Option<&'static str>,
    /// Those of a CPU; each adapter has its own.
    precisions: Vec<&'static str>,
    /// What the engine's kernels use of this CPU, and what else it has that they could use.
    #[serde(skip_serializing_if = "Option::is_none")]
    instruction_set: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unused_features: Vec<&'static str>,
    adapters: Vec<Adapter>,
}

impl Row {
    fn of(kind: DeviceKind) -> Self {
        let computes = |precision: &Precision| !kind.is_gpu() && precision.missing(kind).is_none();
        let isa = (kind == DeviceKind::Engine).then(Isa::best);
        Self {
            device: kind.name(),
            compiled_in: kind.is_compiled_in(),
            feature: kind.is_optional().then(|| kind.name()),
            precisions: Precision::ALL.into_iter().filter(computes).map(Precision::name).collect(),
            instruction_set: isa.map(Isa::name),
            unused_features: isa.map(Isa::unused_features).unwrap_or_default(),
            // None where it is not compiled in, or where there is no driver.
            adapters: adapters(kind).unwrap_or_default(),
        }
    }
}

impl Devices {
    pub fn run(&self, program: Program) -> anyhow::Result<()> {
        let rows = DeviceKind::ALL.map(Row::of);
        let mut out = stdout().lock();
        if self.json {
            return Ok(writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?);
        }
        for Row { device, compiled_in, precisions, instruction_set, unused_features, adapters, .. } in rows {
            if !compiled_in {
                writeln!(out, "{device:<8} not in this build; `{}` adds it", program.with_feature(device))?;
            } else if !precisions.is_empty() {
                let isa = instruction_set.map(|isa| format!("; {isa}")).unwrap_or_default();
                let unused = unused_features.join(", ");
                let unused = if unused.is_empty() { unused } else { format!(" (unused: {unused})") };
                writeln!(out, "{device:<8} {}{isa}{unused}", precisions.join(", "))?;
            } else if adapters.is_empty() {
                writeln!(out, "{device:<8} no GPU, or no driver for it, was found")?;
            }
            for adapter in adapters {
                let Adapter { index, largest_buffer_mb, precisions, .. } = &adapter;
                let memory = largest_buffer_mb.map(|mb| format!(", buffers of up to {mb} MB"));
                let memory = memory.unwrap_or_default();
                let precisions = precisions.join(", ");
                writeln!(out, "{device:<8} --adapter {index}: {adapter}; {precisions}{memory}")?;
            }
        }
        Ok(())
    }
}
