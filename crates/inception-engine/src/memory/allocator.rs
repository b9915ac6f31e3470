//! The allocator: arrays of floats aligned to cache lines, large ones on huge pages.
#![allow(unsafe_code)] // Alignment to lines and pages goes through the allocator's own interface.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::dtype::LINE;

/// A zeroed array of floats that starts on a cache line and is padded to a whole number of them.
pub(crate) struct Aligned {
    start: NonNull<f32>,
    /// Floats.
    len: usize,
    /// The block that it is taken from; without one it is an allocation of its own.
    block: Option<Arc<Block>>,
}

// SAFETY: an `Aligned` owns its memory, like a `Vec<f32>`.
unsafe impl Send for Aligned {}
// SAFETY: as above; shared references only read.
unsafe impl Sync for Aligned {}

impl Aligned {
    /// At least `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let len = whole_lines(len);
        let start = Aligned::allocate(len);
        // SAFETY: so many floats were allocated; they are initialised before anyone else sees them.
        unsafe { start.as_ptr().write_bytes(0, len) };
        Aligned { start, len, block: None }
    }

    /// Room for `len` floats, not initialised, laid out as [`Aligned::layout`] says.
    fn allocate(len: usize) -> NonNull<f32> {
        let layout = Aligned::layout(len);
        // SAFETY: the layout is not empty, and the pages are those of the allocation.
        unsafe {
            let Some(start) = NonNull::new(alloc(layout).cast::<f32>()) else { handle_alloc_error(layout) };
            if layout.align() == HUGE {
                huge::advise(start.as_ptr().cast(), layout.size());
            }
            start
        }
    }

    /// As [`Aligned::zeros`], for weights. Until [`end_block`], the weights of one thread lie one after the
    /// other, so that small ones are on huge pages, too. (That made GoogLeNet 1 to 5 %, Xception65 1 to 2 %
    /// faster: the hardware prefetches within a page.)
    pub fn weights(len: usize) -> Self {
        let len = whole_lines(len);
        let size = len.saturating_mul(size_of::<f32>());
        // The sanitizer must see where each array ends.
        if size >= BLOCK / 4 || cfg!(sanitized) {
            return Aligned::zeros(len);
        }
        OPEN.with_borrow_mut(|open| {
            let (block, used) = match open.take() {
                Some((block, used)) if used + size <= BLOCK => (block, used),
                _ => (Arc::new(Block(Aligned::allocate(BLOCK / size_of::<f32>()))), 0),
            };
            // SAFETY: these floats lie within the block and are handed out once, initialised.
            let start = unsafe {
                let start = block.0.byte_add(used);
                start.as_ptr().write_bytes(0, len);
                start
            };
            *open = Some((block.clone(), used + size));
            Aligned { start, len, block: Some(block) }
        })
    }

    fn layout(len: usize) -> Layout {
        let layout = len.checked_mul(size_of::<f32>()).and_then(|size| {
            // Whole pages, the last one too.
            let (size, align) = match size {
                HALF_HUGE.. => (size.checked_next_multiple_of(HUGE)?, HUGE),
                _ => (size, LINE * size_of::<f32>()),
            };
            Layout::from_size_align(size, align).ok()
        });
        layout.unwrap_or_else(|| panic!("{len} floats are beyond the address space"))
    }

    /// A copy of `values`, then `fill` up to at least `len` floats.
    pub fn padded(values: &[f32], len: usize, fill: f32) -> Self {
        let mut buffer = Aligned::zeros(len.max(values.len()));
        buffer.as_mut().fill(fill);
        buffer.as_mut()[..values.len()].copy_from_slice(values);
        buffer
    }

    /// Floats, padding included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Start of the buffer.
    pub fn as_ptr(&self) -> *const f32 {
        self.start.as_ptr()
    }

    /// Start of the buffer, for writing.
    pub fn as_mut_ptr(&mut self) -> *mut f32 {
        self.start.as_ptr()
    }

    /// The floats, padding included.
    pub fn as_mut(&mut self) -> &mut [f32] {
        // SAFETY: `len` initialised floats, borrowed as `self` is.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

/// `len` floats, at least one, as whole cache lines.
fn whole_lines(len: usize) -> usize {
    len.max(1).checked_next_multiple_of(LINE).unwrap_or(usize::MAX)
}

impl Drop for Aligned {
    fn drop(&mut self) {
        if self.block.is_none() {
            // SAFETY: allocated in `zeros` with this layout.
            unsafe { dealloc(self.start.as_ptr().cast(), Aligned::layout(self.len)) };
        }
    }
}

/// Memory that several arrays of weights share, freed with the last of them. What no array has taken is not
/// initialised and has no pages yet.
struct Block(NonNull<f32>);

// SAFETY: as `Aligned`; arrays of one block share no floats.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated in `weights` with this layout, and the last array is gone.
        unsafe { dealloc(self.0.as_ptr().cast(), Aligned::layout(BLOCK / size_of::<f32>())) };
    }
}

/// Bytes of a block.
const BLOCK: usize = 16 * HUGE;

thread_local! {
    /// The block of this thread's next weights, and how many of its bytes are taken.
    static OPEN: RefCell<Option<(Arc<Block>, usize)>> = const { RefCell::new(None) };
}

/// Ends the block of this thread's weights, so that two networks share none.
pub(crate) fn end_block() {
    OPEN.take();
}

/// Bytes of a huge page. Weights and activations take far more small pages than the translation buffers hold.
const HUGE: usize = 2 << 20;

/// Bytes from which an array is worth a huge page.
const HALF_HUGE: usize = HUGE / 2;

#[cfg(target_os = "linux")]
mod huge {
    unsafe extern "C" {
        /// The system call, from the C library that the standard library links anyway.
        fn madvise(start: *mut u8, length: usize, advice: i32) -> i32;
    }
    const MADV_HUGEPAGE: i32 = 14;

    /// Asks for huge pages. A refusal changes nothing but speed.
    ///
    /// # Safety
    /// `start..start + length` belongs to one allocation; `start` is page-aligned.
    pub(super) unsafe fn advise(start: *mut u8, length: usize) {
        // SAFETY: the caller's promise; this advice does not change what the memory holds.
        unsafe { madvise(start, length, MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
mod huge {
    /// Other systems decide for themselves.
    ///
    /// # Safety
    /// None needed.
    pub(super) unsafe fn advise(_start: *mut u8, _length: usize) {}
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test fails by panicking.
mod tests {
    use super::*;

    #[test]
    fn more_than_the_address_space_is_refused() {
        for len in [usize::MAX, usize::MAX / 4 + 2, isize::MAX as usize / 4 + LINE] {
            let allocated = std::panic::catch_unwind(|| Aligned::zeros(len).len());
            let message = *allocated.unwrap_err().downcast::<String>().unwrap();
            assert!(message.ends_with("floats are beyond the address space"), "{len}: {message}");
        }
    }
}
