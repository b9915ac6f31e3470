//! The arithmetic of sliding windows.

/// A sliding window: what convolutions and pools have in common. Each pair is vertical, horizontal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Kernel size.
    pub kernel: [usize; 2],
    /// Step from one output pixel to the next.
    pub stride: [usize; 2],
    /// Padding before (top, left).
    pub pad: [usize; 2],
    /// Padding after (bottom, right).
    pub pad_end: [usize; 2],
    /// Step from one tap to the next.
    pub dilation: [usize; 2],
    /// Round the output size up instead of down (pools).
    pub ceil: bool,
    /// TensorFlow's padding `same`, of pools: [`Graph::infer_shapes`](crate::Graph::infer_shapes) sets their
    /// `pad` and `pad_end` by the size of the input, so that the output has a pixel for each step. A
    /// convolution keeps its padding.
    pub same: bool,
}

impl Window {
    /// A square window without dilation, the same padding on all sides, sizes rounded down.
    pub fn square(kernel: usize, stride: usize, pad: usize) -> Self {
        Window::new([kernel; 2], [stride; 2], [pad; 2])
    }

    /// A window without dilation, symmetric padding, sizes rounded down.
    pub fn new(kernel: [usize; 2], stride: [usize; 2], pad: [usize; 2]) -> Self {
        Window { kernel, stride, pad, pad_end: pad, dilation: [1; 2], ceil: false, same: false }
    }

    /// Whether the window is one pixel at a time, unpadded, with step one.
    pub fn is_pointwise(&self) -> bool {
        self.kernel == [1; 2] && self.stride == [1; 2] && self.pad == [0; 2] && self.pad_end == [0; 2]
    }

    /// Whether there may be a window without a pixel of the input.
    pub(crate) fn lies_in_padding(&self) -> bool {
        (0..2).any(|axis| self.pad[axis].max(self.pad_end[axis]) >= self.kernel[axis])
    }

    /// Sets the padding of a `same` window for an input of `[height, width]`: what the windows lack is
    /// padded, an odd pixel after the input.
    pub(crate) fn set_same(&mut self, size: [usize; 2]) {
        for (axis, size) in size.into_iter().enumerate() {
            let (kernel, stride) = (self.kernel[axis], self.stride[axis].max(1));
            let reach = size.div_ceil(stride).saturating_sub(1).saturating_mul(stride).saturating_add(kernel);
            let padding = reach.saturating_sub(size);
            (self.pad[axis], self.pad_end[axis]) = (padding / 2, padding - padding / 2);
        }
    }

    /// The row or column, along `axis`, that `tap` reads for output `out` of an input of so many; `None` in
    /// the padding.
    #[inline]
    pub fn source(&self, axis: usize, out: usize, tap: usize, size: usize) -> Option<usize> {
        let at = out * self.stride[axis] + tap * self.dilation[axis];
        at.checked_sub(self.pad[axis]).filter(|&at| at < size)
    }

    /// How many rows or columns, along `axis`, of output `out`'s window without dilation lie in an input of
    /// so many or its padding: the last window of a pool that rounds up may reach beyond.
    #[inline]
    pub fn counted(&self, axis: usize, out: usize, size: usize) -> usize {
        let start = out * self.stride[axis];
        self.kernel[axis].min(size + self.pad[axis] + self.pad_end[axis] - start)
    }

    /// The `[height, width]` that an input of `[height, width]` becomes; `None` if the window does not fit.
    pub fn output(&self, [height, width]: [usize; 2]) -> Option<[usize; 2]> {
        Some([self.extent(0, height)?, self.extent(1, width)?])
    }

    /// Output extent along `axis`. Checked, since the numbers may be a hostile file's.
    fn extent(&self, axis: usize, size: usize) -> Option<usize> {
        let padded = size.checked_add(self.pad[axis])?.checked_add(self.pad_end[axis])?;
        let reach = self.dilation[axis].checked_mul(self.kernel[axis].checked_sub(1)?)?.checked_add(1)?;
        let free = padded.checked_sub(reach)?;
        let stride = self.stride[axis];
        if stride == 0 || self.dilation[axis] == 0 || size == 0 {
            return None;
        }
        if !self.ceil {
            return Some(free / stride + 1);
        }
        let out = free.div_ceil(stride) + 1;
        // As in PyTorch: the last window has to start inside the input or the padding before it.
        Some(if (out - 1) * stride >= size + self.pad[axis] { out - 1 } else { out })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_by_hand() {
        let dilated = Window { dilation: [2; 2], ..Window::square(3, 1, 2) };
        let ceil = Window { ceil: true, ..Window::square(3, 2, 0) };
        for (window, input, output) in [
            (Window::square(3, 2, 0), [299, 298], Some([149, 148])),
            (Window::square(7, 2, 3), [224, 224], Some([112, 112])),
            (dilated, [10, 10], Some([10, 10])),
            // PyTorch: 112 -> 56, where rounding down gives 55.
            (ceil, [112, 112], Some([56, 56])),
            (Window { pad: [1; 2], pad_end: [1; 2], ..ceil }, [2, 2], Some([2, 2])),
            (Window::square(3, 1, 0), [2, 3], None),
            (Window::square(1, 1, 1), [0, 1], None),
            (Window { pad: [usize::MAX; 2], ..Window::square(1, 1, 0) }, [2, 2], None),
        ] {
            assert_eq!(window.output(input), output, "{window:?} on {input:?}");
        }
    }

    /// TensorFlow's `same`, with stride 2 and 1: an even side is padded after its end alone.
    #[test]
    fn same_padding_by_hand() {
        for (stride, size, pads) in
            [(2, 147, (1, 1)), (2, 74, (0, 1)), (2, 2, (0, 1)), (2, 1, (1, 1)), (1, 5, (1, 1))]
        {
            let mut window = Window { same: true, ..Window::square(3, stride, 0) };
            window.set_same([size; 2]);
            assert_eq!((window.pad, window.pad_end), ([pads.0; 2], [pads.1; 2]), "{size}, stride {stride}");
            assert_eq!(window.output([size; 2]), Some([size.div_ceil(stride); 2]));
        }
    }
}
