//! The allocator of the C library.

/// Has glibc give each block of a megabyte or more back to the system as soon as it is freed. By default it
/// keeps such blocks from the second one on, in a heap with holes: while a network is loaded its weights go
/// through many of them, and the peak of memory is a third higher. Does nothing where there is no glibc.
///
/// A program calls it first thing in `main`.
pub fn return_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[allow(unsafe_code)]
    // SAFETY: mallopt(3) takes two numbers. There is one thread yet, so that no allocation is under way.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 20);
    }
}

/// Has glibc keep up to 16 MB at the end of each thread's heap when blocks are freed there. A server's
/// threads take the same blocks for each picture; without this they go back to the system each time, which
/// then hands out and clears the same pages again.
///
/// To be called before there are other threads.
#[cfg(feature = "serve")]
pub(crate) fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[allow(unsafe_code)]
    // SAFETY: mallopt(3) takes two numbers. There is one thread yet, so that no allocation is under way.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, 16 << 20);
    }
}
