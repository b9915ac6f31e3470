//! Whether a run fits in memory and on disk.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use inception_bench::free_memory;

fn gigabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e9
}

/// Refuses `bytes` for `count` pictures, which `what` names with its verb, where they do not fit in memory: with a
/// value of `flag` that does.
pub fn enough_memory(bytes: u64, count: usize, what: &str, flag: &str) -> anyhow::Result<()> {
    if let Some(free) = free_memory().filter(|&free| bytes > free) {
        let fits = (count as f64 * free as f64 / bytes as f64 * 0.9) as u64;
        bail!(
            "{what} {:.1} GB, and {:.1} GB of memory are free: {flag} {fits} fits",
            gigabytes(bytes),
            gigabytes(free)
        );
    }
    Ok(())
}

/// Refuses the views of a run, `bytes` in all, where what is missing of them in `file` does not fit on its disk.
pub fn enough_space(bytes: u64, file: &Path) -> anyhow::Result<()> {
    let kept = fs::metadata(file).map_or(0, |metadata| metadata.len());
    let missing = bytes.saturating_sub(kept);
    let folder = file.parent().context("a file of views is in a folder")?;
    // A file system that does not say is tried.
    if let Some(free) = fs4::available_space(folder).ok().filter(|&free| missing > free) {
        bail!(
            "views take {:.2} GB more, and {:.2} GB are free in {}: fewer --views, --limit, or --cache FOLDER on \
             another disk",
            gigabytes(missing),
            gigabytes(free),
            folder.display()
        );
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test fails by panicking.
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_needs_no_space() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.views");
        enough_space(1, &file).unwrap();
        let refused = enough_space(u64::MAX, &file).unwrap_err().to_string();
        assert!(refused.contains("--views") && refused.contains("GB are free"), "{refused}");
        // As sparse as views that nobody has written yet: only its length counts.
        fs::File::create(&file).unwrap().set_len(1 << 30).unwrap();
        enough_space(1 << 30, &file).unwrap();
    }
}
