//! Views: where the tensors of a network lie in the arena.

use crate::QuantParams;
use crate::dtype::{DType, LINE};

/// Cache lines between pixels that fall into at most two sets of a first-level cache of 64 sets.
const CROWDED: usize = 32;

/// Elements from one pixel to the next: `channels` rounded up to whole cache lines, and one line more where
/// the rows of a tile, which the micro-kernel reads side by side, would otherwise evict each other. (With
/// 1024 channels of `f32` and all rows of a tile in one set, pointwise convolutions ran at 65 % of the
/// multiply-add limit; with the line, at 90 %.)
pub(crate) fn pixel_stride(channels: usize, dtype: DType) -> usize {
    let line = LINE * dtype.pack();
    let lines = channels.div_ceil(line);
    if lines.is_multiple_of(CROWDED) { (lines + 1) * line } else { lines * line }
}

/// Where a tensor lies: a range of channels of a buffer in the arena. The images of a batch follow each
/// other.
#[derive(Clone, Copy, Debug, PartialEq)]
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
    /// What its bytes stand for, where it holds bytes.
    pub quant: QuantParams,
}

impl View {
    /// The view without its first `channels` channels.
    pub fn skip_channels(self, channels: usize) -> View {
        View { channel: self.channel + channels, ..self }
    }

    /// Bytes from the start of the arena to the first channel of pixel `pixel`, counted through a batch of
    /// `n`.
    pub fn at(&self, n: usize, pixel: usize) -> usize {
        self.offset * n * size_of::<f32>() + (self.channel + pixel * self.ld) * self.dtype.size()
    }
}
