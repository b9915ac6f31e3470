//! Aligned buffers, views into the arena, and the planner that lays tensors out in it.
#![allow(unsafe_code)] // Alignment to lines and pages goes through the allocator's own interface.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::dtype::DType;

pub(crate) use crate::dtype::LINE;

/// Cache lines between pixels that fall into at most two sets of a first-level cache of 64 sets.
const CROWDED: usize = 32;

/// Elements from the start of one pixel to the start of the next: `channels` rounded up to whole cache lines, and one line more
/// where the rows of a tile, which the micro-kernel reads side by side, would otherwise evict each other. (With 1024 channels
/// of `f32`, all rows of a tile in one set, pointwise convolutions ran at 65 % of the multiply-add limit, and now at 90 %.)
pub(crate) fn pixel_stride(channels: usize, dtype: DType) -> usize {
    let line = LINE * dtype.pack();
    let lines = channels.div_ceil(line);
    if lines.is_multiple_of(CROWDED) { (lines + 1) * line } else { lines * line }
}

/// A zeroed array of floats that starts on a cache line and is padded to a whole number of them.
pub(crate) struct Aligned {
    start: NonNull<f32>,
    /// Floats.
    len: usize,
    /// What it is a part of, if it is not an allocation of its own.
    block: Option<Arc<Block>>,
}

// SAFETY: an `Aligned` owns its memory, like a `Vec<f32>`.
unsafe impl Send for Aligned {}
// SAFETY: as above; shared references only read.
unsafe impl Sync for Aligned {}

impl Aligned {
    /// At least `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let len = len.max(1).next_multiple_of(LINE);
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

    /// As [`Aligned::zeros`], for weights: those of one thread lie one after the other, so that small ones get huge pages, too,
    /// until [`end_block`]. (They made GoogLeNet 1 to 5 %, Xception65 1 to 2 % faster: the hardware fetches ahead within a page.)
    pub fn weights(len: usize) -> Self {
        let len = len.max(1).next_multiple_of(LINE);
        let size = len * size_of::<f32>();
        // The sanitizer is to see where each ends.
        if size >= BLOCK / 4 || cfg!(sanitized) {
            return Aligned::zeros(len);
        }
        OPEN.with_borrow_mut(|open| {
            let (block, used) = match open.take() {
                Some((block, used)) if used + size <= BLOCK => (block, used),
                _ => (Arc::new(Block(Aligned::allocate(BLOCK / size_of::<f32>()))), 0),
            };
            // SAFETY: the part lies within the block and is handed out once, initialised.
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
        let size = len * size_of::<f32>();
        // Whole pages, the last one too.
        let (size, align) = match size {
            HALF_HUGE.. => (size.next_multiple_of(HUGE), HUGE),
            _ => (size, LINE * size_of::<f32>()),
        };
        // A size beyond the address space cannot be met; the allocator says so more clearly than an overflow.
        Layout::from_size_align(size, align).unwrap_or(Layout::new::<[f32; LINE]>())
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

impl Drop for Aligned {
    fn drop(&mut self) {
        if self.block.is_none() {
            // SAFETY: allocated in `zeros` with this layout.
            unsafe { dealloc(self.start.as_ptr().cast(), Aligned::layout(self.len)) };
        }
    }
}

/// Memory that several arrays of weights share; it goes with the last of them. What no array has taken is not initialised, and
/// the system has given no pages for it.
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
    /// The block from which this thread's next weights come, and its bytes that are taken.
    static OPEN: RefCell<Option<(Arc<Block>, usize)>> = const { RefCell::new(None) };
}

/// Has the weights that follow begin a block of their own, so that networks share none.
pub(crate) fn end_block() {
    OPEN.take();
}

/// Size of a huge page. Weights and activations go through far more small pages than the translation buffers hold.
const HUGE: usize = 2 << 20;

/// Size from which memory is worth a huge page.
const HALF_HUGE: usize = HUGE / 2;

#[cfg(target_os = "linux")]
mod huge {
    unsafe extern "C" {
        /// The system call, from the C library that the standard library links anyway.
        fn madvise(start: *mut u8, length: usize, advice: i32) -> i32;
    }
    const MADV_HUGEPAGE: i32 = 14;

    /// Asks for huge pages. It is advice: a refusal changes nothing but speed.
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

/// Under AddressSanitizer (`cargo xtask check --sanitize`), tensors in the arena are told apart as if each had an allocation of its
/// own, with [`FENCE`] floats between them, and none existed before its first wave and after its last.
pub(crate) mod sanitizer {
    use super::{LINE, Lifetime};

    /// Floats after each tensor that nobody may touch.
    pub(crate) const FENCE: usize = if cfg!(sanitized) { LINE } else { 0 };

    #[cfg(sanitized)]
    unsafe extern "C" {
        fn __asan_poison_memory_region(start: *const u8, length: usize);
        fn __asan_unpoison_memory_region(start: *const u8, length: usize);
    }

    /// Forbids all of an arena for a batch of `n` but what lives at `level`; with no level, forbids nothing.
    ///
    /// # Safety
    /// `arena` has room for the `buffers` of `n` images, `floats` for each.
    pub(crate) unsafe fn forbid(
        arena: *const f32,
        [floats, n]: [usize; 2],
        buffers: &[(usize, Lifetime)],
        level: Option<usize>,
    ) {
        #[cfg(sanitized)]
        // SAFETY: ranges of the caller's arena; what they hold is not touched.
        unsafe {
            let Some(level) = level else {
                return __asan_unpoison_memory_region(arena.cast(), floats * n * size_of::<f32>());
            };
            __asan_poison_memory_region(arena.cast(), floats * n * size_of::<f32>());
            for (offset, buffer) in buffers.iter().filter(|(_, b)| (b.first..=b.last).contains(&level)) {
                let start = arena.wrapping_add(offset * n).cast();
                __asan_unpoison_memory_region(start, (buffer.size - FENCE) * n * size_of::<f32>());
            }
        }
        #[cfg(not(sanitized))]
        let _ = (arena, floats, n, buffers, level);
    }
}

/// Where a tensor lies: a range of channels of a buffer in the arena, the images of a batch one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct View {
    /// Start of the buffer in floats for a batch of one; for a batch of n everything is n times as far.
    pub offset: usize,
    /// First channel.
    pub channel: usize,
    /// Elements from one pixel to the next.
    pub ld: usize,
    /// Pixels of one image.
    pub pixels: usize,
    /// What the buffer holds.
    pub dtype: DType,
}

impl View {
    /// The view without its first `channels` channels.
    pub fn skip_channels(self, channels: usize) -> View {
        View { channel: self.channel + channels, ..self }
    }

    /// Bytes from the start of the arena to the first channel of pixel `pixel`, counted through a batch of `n`.
    pub fn at(&self, n: usize, pixel: usize) -> usize {
        self.offset * n * size_of::<f32>() + (self.channel + pixel * self.ld) * self.dtype.size()
    }
}

/// A buffer to be placed: its size, and the first and last wave that touch it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetime {
    /// Floats.
    pub size: usize,
    /// The wave that first writes it.
    pub first: usize,
    /// The wave that last reads or writes it.
    pub last: usize,
}

/// Gives each buffer an offset so that no two that live in one wave overlap; returns the offsets and the arena's size.
///
/// Largest first, each into the lowest gap that fits: within a few percent of the lower bound on these networks.
pub(crate) fn place(buffers: &[Lifetime]) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(buffers[i].size));
    let mut offsets = vec![0; buffers.len()];
    let mut placed: Vec<usize> = Vec::new();
    let mut arena = 0;
    for i in order {
        let buffer = buffers[i];
        let mut taken: Vec<(usize, usize)> = placed
            .iter()
            .filter(|&&j| buffers[j].first <= buffer.last && buffer.first <= buffers[j].last)
            .map(|&j| (offsets[j], offsets[j] + buffers[j].size))
            .collect();
        taken.sort_unstable();
        let mut offset = 0;
        for (start, end) in taken {
            if start >= offset + buffer.size {
                break;
            }
            offset = offset.max(end);
        }
        offsets[i] = offset;
        arena = arena.max(offset + buffer.size);
        placed.push(i);
    }
    (offsets, arena)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_of_one_wave_never_overlap() {
        // A small multiplicative generator: sizes and lifetimes of all kinds, the same on every run.
        let mut state = 7u64;
        let mut next = |below: usize| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize % below
        };
        let buffers: Vec<Lifetime> = (0..200)
            .map(|_| {
                let first = next(50);
                Lifetime { size: LINE * (1 + next(100)), first, last: first + next(8) }
            })
            .collect();
        let (offsets, arena) = place(&buffers);
        let mut live = vec![0; 64];
        for (i, a) in buffers.iter().enumerate() {
            assert!(offsets[i] + a.size <= arena && offsets[i] % LINE == 0);
            live[a.first..=a.last].iter_mut().for_each(|wave| *wave += a.size);
            for (j, b) in buffers.iter().enumerate().take(i) {
                let together = a.first <= b.last && b.first <= a.last;
                let apart = offsets[i] + a.size <= offsets[j] || offsets[j] + b.size <= offsets[i];
                assert!(!together || apart, "{i} and {j}");
            }
        }
        let bound = live.into_iter().max().unwrap_or(0);
        assert!(arena < bound * 3 / 2, "arena {arena}, at least {bound} needed");
    }
}
