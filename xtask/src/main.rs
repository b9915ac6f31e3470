//! The commands of the workspace; `cargo xtask --help` lists them. Each parses, calls a crate, and prints.

mod args;
mod bench;
mod check;
mod convert;
mod devices;
mod eval;
mod explain;
mod inspect;
mod models;
mod parity;
mod predict;
mod pretrained;
mod rivals;
mod serve;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Image classifiers of the Inception family: GoogLeNet, the Xceptions, Inception V3 and V4.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 110)]
#[command(after_help = models::help())]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Say what is in a picture
    Predict(predict::Predict),
    /// Measure latency, by default of every network of the reference's table at batch 1
    Bench(bench::Bench),
    /// Measure latency beside other runtimes, in turn, on the same networks with the same weights
    Rivals(rivals::Rivals),
    #[command(hide = true)]
    Serve(serve::Serve),
    /// Measure accuracy on labelled pictures, whole or in parts
    Eval(eval::Eval),
    /// List the devices of this build and of this machine, with what each GPU can do
    Devices(devices::Devices),
    /// List the models with their exact parameters and multiply-adds beside the published figures
    Models(models::Models),
    /// Show what the engine makes of a network: for each node its kernel, or what became of it
    Explain(explain::Explain),
    /// Write a checkpoint in another format
    Convert(convert::Convert),
    /// Say what is in a checkpoint and which models it fits
    Inspect(inspect::Inspect),
    /// Compare checkpoints that the real tools write with what those tools compute
    Parity(parity::Parity),
    /// Check the workspace: formatting, lints, docs, tests, cheapest first
    Check(check::Check),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Predict(command) => command.run(),
        Command::Bench(command) => command.run(),
        Command::Rivals(command) => command.run(),
        Command::Serve(command) => command.run(),
        Command::Eval(command) => command.run(),
        Command::Devices(command) => command.run(),
        Command::Models(command) => command.run(),
        Command::Explain(command) => command.run(),
        Command::Convert(command) => command.run(),
        Command::Inspect(command) => command.run(),
        Command::Parity(command) => command.run(),
        Command::Check(command) => command.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads our output has seen enough: `cargo xtask models | head -1` is no failure.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do if standard error is closed, too.
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io_errors = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    io_errors.map(io::Error::kind).any(|kind| kind == io::ErrorKind::BrokenPipe)
}
