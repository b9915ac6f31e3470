//! Under AddressSanitizer (`cargo xtask check --sanitize`), each tensor in the arena looks like an allocation
//! of its own: [`FENCE`] floats separate it from the next, and it exists from its first level to its last.
#![allow(unsafe_code)] // The sanitizer's interface is C.

use super::Arena;
use crate::dtype::LINE;

/// Floats after each tensor that nobody may touch.
pub(crate) const FENCE: usize = if cfg!(sanitized) { LINE } else { 0 };

#[cfg(sanitized)]
unsafe extern "C" {
    fn __asan_poison_memory_region(start: *const u8, length: usize);
    fn __asan_unpoison_memory_region(start: *const u8, length: usize);
}

/// Forbids, or allows, to touch `floats` floats.
///
/// # Safety
/// They belong to one allocation.
unsafe fn mark(start: *const f32, floats: usize, forbidden: bool) {
    let (_start, _bytes) = (start.cast::<u8>(), floats * size_of::<f32>());
    #[cfg(sanitized)]
    // SAFETY: the caller's promise; what the memory holds is not touched.
    unsafe {
        match forbidden {
            true => __asan_poison_memory_region(_start, _bytes),
            false => __asan_unpoison_memory_region(_start, _bytes),
        }
    }
    #[cfg(not(sanitized))]
    let _ = forbidden;
}

/// Forbids all of the memory of `arena`, at `start` for a batch of `n`, but what lives at `level`. Without a
/// level, forbids nothing.
///
/// # Safety
/// `start` has room for `n` images.
pub(crate) unsafe fn forbid(start: *const f32, n: usize, arena: &Arena, level: Option<usize>) {
    if !cfg!(sanitized) {
        return;
    }
    // SAFETY: ranges of the caller's arena.
    unsafe {
        mark(start, arena.floats * n, level.is_some());
        for buffer in &arena.buffers {
            if level.is_some_and(|level| buffer.lifetime.contains(level)) {
                mark(start.wrapping_add(buffer.offset * n), (buffer.lifetime.size - FENCE) * n, false);
            }
        }
    }
}
