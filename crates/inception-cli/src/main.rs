//! The program `inception`; `inception --help` lists its commands.

use std::process::ExitCode;

use clap::Parser;
use inception_cli::{Command, Program};

/// Image classifiers of the Inception family: GoogLeNet, the Xceptions, Inception V3, V4 and Inception-ResNet-v2.
#[derive(Parser)]
#[command(name = "inception", version, max_term_width = 110, after_help = Program::Inception.help())]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    inception_cli::return_freed_memory();
    let program = Program::Inception;
    program.exit_code(Cli::parse().command.run(program))
}
