//! Work on all cores that is done once, such as packing weights.

use std::sync::{Mutex, PoisonError};

/// Calls `work` with each of `chunks`, on all cores. Starts threads for it.
pub fn for_each<T>(chunks: impl Iterator<Item = T> + Send, work: impl Fn(T) + Sync) {
    let chunks = Mutex::new(chunks);
    let work = || {
        // The lock is held only while a chunk is taken.
        while let Some(chunk) = { chunks.lock().unwrap_or_else(PoisonError::into_inner).next() } {
            work(chunk);
        }
    };
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        for _ in 1..cores {
            // If a thread cannot be started, the others do its work.
            let _ = std::thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
}
