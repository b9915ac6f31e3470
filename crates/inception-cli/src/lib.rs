//! The commands for users: each parses its arguments, calls a crate, and prints. The program `inception` and
//! the workspace's `cargo xtask` have the same ones.

#![deny(clippy::print_stderr)]

/// A line on standard error. Unlike `eprintln!` it does not panic where that is closed or full: what was computed is
/// worth more than what is said beside it.
macro_rules! stderrln {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

#[cfg(not(all(feature = "fid", feature = "serve", feature = "train")))]
mod absent;
mod allocator;
pub mod args;
mod bench;
mod convert;
mod devices;
mod eval;
mod eval_labels;
mod explain;
mod features;
#[cfg(feature = "fid")]
mod fid;
mod files;
mod images;
mod inspect;
mod misclassified;
mod models;
mod predict;
mod pretrained;
mod program;
mod progress;
mod quantize;
#[cfg(feature = "serve")]
mod serve;
mod signals;
#[cfg(feature = "train")]
mod train;

use clap::Subcommand;

#[cfg(not(feature = "fid"))]
use absent::fid;
#[cfg(not(feature = "serve"))]
use absent::serve;
#[cfg(not(feature = "train"))]
use absent::train;

pub use allocator::return_freed_memory;
pub use program::Program;

/// A command and its arguments.
#[derive(Subcommand)]
#[non_exhaustive]
#[allow(missing_docs)] // The docs of variants are the texts of --help.
pub enum Command {
    /// Classify pictures
    Predict(predict::Predict),
    /// Measure latency, by default of every network of the reference's table at batch 1
    Bench(bench::Bench),
    /// Measure accuracy on labelled pictures, whole or in parts
    Eval(eval::Eval),
    /// Train a network, or its classifier alone, on pictures of your own
    Train(Box<train::Train>),
    /// Write the features of pictures: what a network makes of each before its classifier
    Features(features::Features),
    /// Measure how far two sets of pictures are apart: FID, KID, Inception Score, precision and recall
    Fid(Box<fid::Fid>),
    /// Answer over the network: pictures over HTTP, and the Open Inference Protocol (KServe, Triton) over
    /// HTTP and gRPC
    Serve(Box<serve::Serve>),
    /// List the devices of this build and of this machine, with what each GPU can do
    Devices(devices::Devices),
    /// List the models with their parameters, multiply-adds and published accuracy
    Models(models::Models),
    /// Show what the engine makes of a network: the kernel of each node, or what it was fused into
    Explain(explain::Explain),
    /// Write a checkpoint in another format
    Convert(convert::Convert),
    /// Calibrate a network on pictures and write it with weights of 8 bits, for --precision int8
    Quantize(Box<quantize::Quantize>),
    /// List the tensors of a checkpoint and the models that it fits
    Inspect(inspect::Inspect),
}

impl Command {
    /// Runs the command, which `program` was called for.
    ///
    /// # Errors
    ///
    /// What went wrong, for [`Program::exit_code`].
    pub fn run(&self, program: Program) -> anyhow::Result<()> {
        match self {
            Self::Predict(command) => command.run(),
            Self::Bench(command) => command.run(),
            Self::Eval(command) => command.run(),
            Self::Train(command) => command.run(),
            Self::Features(command) => command.run(),
            Self::Fid(command) => command.run(),
            Self::Serve(command) => command.run(),
            Self::Devices(command) => command.run(program),
            Self::Models(command) => command.run(),
            Self::Explain(command) => command.run(),
            Self::Convert(command) => command.run(),
            Self::Quantize(command) => command.run(),
            Self::Inspect(command) => command.run(),
        }
    }
}
