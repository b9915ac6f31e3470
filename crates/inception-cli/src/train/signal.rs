//! Ctrl-C in a run.

use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;

use crate::signals::on_signal;

/// Set by Ctrl-C.
pub static STOP: AtomicBool = AtomicBool::new(false);

/// The first Ctrl-C ends the run after the batch under way, the second one the process.
pub fn catch_signals() -> anyhow::Result<()> {
    let act = || {
        if STOP.swap(true, Ordering::Relaxed) {
            // As a shell reports it.
            exit(130);
        }
        stderrln!("ending after the batch under way; once more ends it at once");
    };
    on_signal(act).context("catching Ctrl-C")
}
