//! `--pretrained`: published weights by name, with progress on standard error.

use std::path::PathBuf;

use inception_nn::ModelSpec;

/// The file with the published weights of `spec`, downloaded if it is not there yet.
#[cfg(not(feature = "download"))]
pub fn fetch(spec: &ModelSpec) -> anyhow::Result<PathBuf> {
    anyhow::bail!("this build cannot download the weights of {}: it lacks the feature `download`", spec.name)
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
    let path = inception_weights::Cache::from_env().fetch(spec, &mut |progress| {
        if stderr().is_terminal() {
            bar.set_position(progress.done);
            progress.total.into_iter().for_each(|total| bar.set_length(total));
        } else if last_line.is_none_or(|last| last.elapsed() > Duration::from_secs(30)) {
            last_line = Some(Instant::now());
            let megabytes = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
            let total = progress.total.map_or_else(|| "an unknown number".to_owned(), megabytes);
            eprintln!("{}: downloading, {} of {total}", spec.name, megabytes(progress.done));
        }
    });
    bar.finish_and_clear();
    path.map_err(|error| match error {
        inception_weights::Error::NotPublished { .. } => {
            anyhow::anyhow!("{error}; give a checkpoint by --weights")
        }
        error => error.into(),
    })
}
