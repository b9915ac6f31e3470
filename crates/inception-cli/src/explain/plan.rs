//! The plan of a network: the kernel of each node.

use std::io::{self, Write};

use inception::Precision;
use inception::engine::{Compiled, PlannedNode};
use serde::Serialize;

/// A row of `--json`.
#[derive(Serialize)]
pub struct Node {
    model: &'static str,
    node: String,
    op: String,
    kernel: String,
    shape: [usize; 3],
    macs: u64,
}

pub fn nodes(model: &'static str, compiled: &Compiled) -> Vec<Node> {
    let node = |PlannedNode { node, op, lowering, shape, macs, .. }| Node {
        model,
        node,
        op,
        kernel: lowering,
        shape,
        macs,
    };
    compiled.explain().iter().cloned().map(node).collect()
}

pub fn print(out: &mut impl Write, model: &str, precision: Precision, compiled: &Compiled) -> io::Result<()> {
    let (tier, arena) = (compiled.isa().tier(), compiled.arena_bytes() as f64 / 1e6);
    let barriers = compiled.barriers();
    writeln!(
        out,
        "{model}: {tier}, {precision}, activations of one image {arena:.1} MB, {barriers} barriers"
    )?;
    for row in compiled.explain() {
        let [height, width, channels] = row.shape;
        let shape = format!("{height}x{width}x{channels}");
        let macs = row.macs as f64 / 1e6;
        writeln!(out, "  {:<28} {:<34} {shape:<13} {macs:8.1} M  {}", row.node, row.op, row.lowering)?;
    }
    Ok(())
}
