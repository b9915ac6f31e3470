//! Memory of processes and of the system, as Linux says; other systems say nothing.

use std::fs;

/// The value of `key` in a file of `/proc`, whose unit is 1024 bytes; in bytes.
fn bytes(file: &str, key: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    Some(value.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// The memory that a process holds and the most that it has held, in units of 10^6 bytes.
pub fn memory_of_process_mb(id: u32) -> Option<[f64; 2]> {
    let file = format!("/proc/{id}/status");
    Some([bytes(&file, "VmRSS")?, bytes(&file, "VmHWM")?].map(|bytes| bytes as f64 / 1e6))
}

/// The most memory that this process has held, in units of 10^6 bytes, since [`reset_peak_memory`] or its
/// start.
pub fn peak_memory_mb() -> Option<f64> {
    memory_of_process_mb(std::process::id()).map(|[_, peak]| peak)
}

/// Memory that a process can still take without others being pushed out, in bytes.
pub fn free_memory() -> Option<u64> {
    bytes("/proc/meminfo", "MemAvailable")
}

/// Forgets the peak so far, where the system allows it.
pub fn reset_peak_memory() {
    // If it fails, the peak is that of the whole process: larger, never smaller.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn memory_peaks() {
        let before = peak_memory_mb();
        let block = std::hint::black_box(vec![1u8; 64 << 20]);
        let after = peak_memory_mb();
        drop(block);
        assert!(after > before, "{before:?} {after:?}");
    }
}
