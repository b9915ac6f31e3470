//! Sizes and multiply-adds, walked over the module itself.

/// What one forward pass over one image takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Multiply-adds of the convolutions and fully connected layers: the published convention.
    /// Batch norms (foldable), poolings, additions and ReLUs are left out.
    pub macs: u64,
}

/// A layer that knows the size of what it makes and what making it costs.
pub(crate) trait Trace {
    /// The `[height, width]` that an `input` of that size becomes, its cost added to `cost`; `None`
    /// where the input is too small for a window to fit.
    fn trace(&self, input: [usize; 2], cost: &mut Cost) -> Option<[usize; 2]>;
}

impl<T: Trace> Trace for [T] {
    fn trace(&self, input: [usize; 2], cost: &mut Cost) -> Option<[usize; 2]> {
        self.iter().try_fold(input, |size, layer| layer.trace(size, cost))
    }
}

/// Floor-mode output size of a sliding window; `None` where the padded input is smaller than it.
pub(crate) fn window_output(
    input: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    dilation: [usize; 2],
) -> Option<[usize; 2]> {
    let side = |i: usize| {
        let window = dilation[i] * (kernel[i] - 1) + 1;
        let room = (input[i] + 2 * padding[i]).checked_sub(window)?;
        (input[i] > 0).then_some(room / stride[i] + 1)
    };
    Some([side(0)?, side(1)?])
}

/// Output size of a pool that lets a last window hang over the edge where `output`, of floor mode, leaves pixels over; such
/// a pool is never padded.
pub(crate) fn rounded_up(
    input: [usize; 2],
    output: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
) -> [usize; 2] {
    let covered = |i: usize| (output[i] - 1) * stride[i] + kernel[i];
    [0, 1].map(|i| output[i] + usize::from(covered(i) < input[i]))
}
