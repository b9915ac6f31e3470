//! Where tensors are.

use inception_graph::Shape;

/// Floats after the end of each buffer that kernels may read: two vectors of 16.
pub(crate) const SLACK: usize = 32;

/// A tensor of a batch in a buffer: images, of pixels, of channels. Other tensors' channels may lie between
/// those of its pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub buffer: usize,
    /// The first float of the first pixel.
    pub offset: usize,
    /// Floats from pixel to pixel.
    pub stride: usize,
    pub shape: Shape,
}

/// A [`View`] in memory that threads share.
#[derive(Clone, Copy)]
pub(crate) struct Raw<T> {
    pointer: *mut T,
    /// Floats from pixel to pixel.
    pub stride: usize,
    pub pixels: usize,
    pub channels: usize,
}

// SAFETY: it is an address; whoever uses it says who else does.
unsafe impl<T: Send> Send for Raw<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Raw<T> {}

impl<T: Copy> Raw<T> {
    /// `view` of a buffer that begins at `buffer`.
    ///
    /// # Safety
    ///
    /// The buffer has the view's offset.
    pub unsafe fn new(buffer: *mut T, view: &View) -> Self {
        // SAFETY: the caller's promise.
        let pointer = unsafe { buffer.add(view.offset) };
        Self { pointer, stride: view.stride, pixels: view.shape.pixels(), channels: view.shape.channels }
    }

    /// Whether both are the same floats.
    pub fn same_memory(&self, other: &Self) -> bool {
        std::ptr::eq(self.pointer, other.pointer) && self.stride == other.stride
    }

    /// Some of the channels.
    ///
    /// # Safety
    ///
    /// A pixel is in memory.
    pub unsafe fn part(&self, first: usize, channels: usize) -> Self {
        assert!(first + channels <= self.channels);
        // SAFETY: the caller's promise; a pixel has them.
        Self { pointer: unsafe { self.pointer.add(first) }, channels, ..*self }
    }

    /// Floats from image to image.
    pub fn image(&self) -> usize {
        self.pixels * self.stride
    }

    /// The channels of the pixel number `pixel`, counted through the images.
    ///
    /// # Safety
    ///
    /// The buffer has such a pixel.
    pub unsafe fn at(&self, pixel: usize) -> *mut T {
        // SAFETY: the caller's promise.
        unsafe { self.pointer.add(pixel * self.stride) }
    }

    /// As [`at`](Self::at), to be read.
    ///
    /// # Safety
    ///
    /// As [`at`](Self::at), and nobody writes there while the slice lives.
    pub unsafe fn row<'a>(&self, pixel: usize) -> &'a [T] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts(self.at(pixel), self.channels) }
    }

    /// As [`at`](Self::at), to be written.
    ///
    /// # Safety
    ///
    /// As [`at`](Self::at), and nobody else has access while the slice lives.
    pub unsafe fn row_mut<'a>(&self, pixel: usize) -> &'a mut [T] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.at(pixel), self.channels) }
    }
}

/// Memory that is written by several threads at once, each its own part.
#[derive(Clone, Copy)]
pub(crate) struct Shared<T>(pub *mut T);

// SAFETY: it is an address; whoever uses it says who else does.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// The address (as a method, so that a closure takes all of it and not the field, which is not `Sync`).
    pub fn get(self) -> *mut T {
        self.0
    }
}

/// Calls `work` with each number below `count`, on the threads of the pool.
pub(crate) fn parallel(count: usize, work: impl Fn(usize) + Sync + Send) {
    use rayon::prelude::*;
    match count {
        0 => {}
        1 => work(0),
        _ => (0..count).into_par_iter().for_each(work),
    }
}
