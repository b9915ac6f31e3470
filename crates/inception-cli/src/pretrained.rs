//! `--pretrained`: published weights by name, with progress on standard error.

use std::path::PathBuf;

use inception::ModelSpec;

/// The build has no HTTP client.
#[derive(Debug, thiserror::Error)]
#[error("this build cannot download the weights of {model}: it lacks the feature `download`")]
pub struct NoDownload {
    model: &'static str,
}

/// The file with the published weights of `spec`, downloaded if it is not there yet.
#[cfg(not(feature = "download"))]
pub fn fetch(spec: &ModelSpec) -> anyhow::Result<PathBuf> {
    Err(NoDownload { model: spec.name }.into())
}

/// The file with the published weights of `spec`, downloaded if it is not there yet.
#[cfg(feature = "download")]
pub fn fetch(spec: &ModelSpec) -> anyhow::Result<PathBuf> {
    use std::io::{IsTerminal, stderr};
    use std::time::{Duration, Instant};

    use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes}  {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(spec.name);
    let mut last_line: Option<Instant> = None;
    let path = inception::weights::Cache::from_env().fetch(spec, &mut |progress| {
        if stderr().is_terminal() {
            bar.set_position(progress.done);
            progress.total.into_iter().for_each(|total| bar.set_length(total));
        } else if last_line.is_none_or(|last| last.elapsed() > Duration::from_secs(30)) {
            last_line = Some(Instant::now());
            let megabytes = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
            let total = progress.total.map_or_else(|| "an unknown number".to_owned(), megabytes);
            stderrln!("{}: downloading, {} of {total}", spec.name, megabytes(progress.done));
        }
    });
    bar.finish_and_clear();
    Ok(path?)
}
