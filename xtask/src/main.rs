//! The commands of the workspace; `cargo xtask --help` lists them: those of `inception`, and chores.

mod check;
mod imports;
mod parity;
mod rival_worker;
mod rivals;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use inception_cli::Program;

/// Image classifiers of the Inception family: GoogLeNet, the Xceptions, Inception V3, V4 and
/// Inception-ResNet-v2.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 110)]
#[command(after_help = Program::Xtask.help())]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(flatten)]
    User(inception_cli::Command),
    /// Measure latency beside other runtimes, in turn, on the same networks with the same weights
    Rivals(rivals::Rivals),
    #[command(hide = true)]
    RivalWorker(rival_worker::RivalWorker),
    /// Compare checkpoints that the real tools write with what those tools compute
    Parity(parity::Parity),
    /// Check the workspace: formatting, lints, docs, tests, cheapest first
    Check(check::Check),
}

fn main() -> ExitCode {
    inception_cli::return_freed_memory();
    let program = Program::Xtask;
    program.exit_code(match Cli::parse().command {
        Command::User(command) => command.run(program),
        Command::Rivals(command) => command.run(),
        Command::RivalWorker(command) => command.run(),
        Command::Parity(command) => command.run(),
        Command::Check(command) => command.run(),
    })
}
