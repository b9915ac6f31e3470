//! Whether a run fits in memory.

use anyhow::bail;
use inception_bench::free_memory;

/// Refuses `bytes` for `count` pictures, which `what` names with its verb, where they do not fit in memory: with a
/// value of `flag` that does.
pub fn enough_memory(bytes: u64, count: usize, what: &str, flag: &str) -> anyhow::Result<()> {
    if let Some(free) = free_memory().filter(|&free| bytes > free) {
        let gigabytes = |bytes: u64| bytes as f64 / 1e9;
        let fits = (count as f64 * free as f64 / bytes as f64 * 0.9) as u64;
        bail!(
            "{what} {:.1} GB, and {:.1} GB of memory are free: {flag} {fits} fits",
            gigabytes(bytes),
            gigabytes(free)
        );
    }
    Ok(())
}
