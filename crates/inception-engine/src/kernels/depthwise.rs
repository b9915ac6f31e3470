//! Depthwise convolution, one row segment of output pixels at a time, vectorised over channels.

use super::element::Stored;
use super::isa::Simd;

/// What stays the same for every row of one depthwise convolution.
#[derive(Clone, Copy)]
pub(crate) struct Depthwise {
    /// Input height and width in pixels.
    pub input: [usize; 2],
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Vertical and horizontal stride.
    pub stride: [usize; 2],
    /// Top and left padding.
    pub pad: [usize; 2],
    /// Vertical and horizontal dilation.
    pub dilation: [usize; 2],
    /// Channels.
    pub channels: usize,
    /// Elements from one input pixel to the next.
    pub ld_in: usize,
    /// Clamp the input at zero before use.
    pub input_relu: bool,
}

/// One segment of an output row.
#[derive(Clone, Copy)]
pub(crate) struct Segment {
    /// First pixel of the image that the segment belongs to.
    pub image: *const u8,
    /// Output row.
    pub y: usize,
    /// First output column, and one past the last.
    pub x: [usize; 2],
    /// Weights `[kernel taps][ld_weights]`.
    pub weights: *const f32,
    /// Floats from one tap's weights to the next: the channels rounded up to a whole vector.
    pub ld_weights: usize,
    /// Added to each channel.
    pub bias: *const f32,
    /// Lower bound of each channel: 0 is ReLU, -inf is none.
    pub floor: *const f32,
    /// Added to each output before the floor, or null: the residual at the segment's first pixel.
    pub residual: *const u8,
    /// Elements from one pixel of the residual to the next.
    pub ld_residual: usize,
    /// Where the first pixel goes.
    pub out: *mut u8,
    /// Elements from one output pixel to the next.
    pub ld_out: usize,
    /// Second copy of the output clamped at zero (what a ReLU would make of it), or null.
    pub relu_out: *mut u8,
    /// Elements from one pixel of the second copy to the next.
    pub ld_relu: usize,
}

/// Output pixels that share their input loads in the blocked path.
pub(super) const GROUP: usize = 4;

/// Adds the residual, applies the floor and stores `N` pixels' vectors.
///
/// One small loop for each of them, so that the compiler unrolls all and `acc` stays in registers.
///
/// # Safety
/// `s` is valid for pixels `i..i + N` of the segment and channels `c..c + n`; see [`Simd`].
#[inline(always)]
unsafe fn finish<S: Simd, E: Stored<S>, const N: usize>(
    s: &Segment,
    i: usize,
    c: usize,
    n: usize,
    mut acc: [S::V; N],
) {
    // SAFETY: the caller vouches for the pixels and channels; the floor is padded to a whole vector.
    unsafe {
        if !s.residual.is_null() {
            for (j, acc) in acc.iter_mut().enumerate() {
                *acc = S::add(*acc, E::load_n(s.residual.cast::<E>().add((i + j) * s.ld_residual + c), n));
            }
        }
        let floor = S::load(s.floor.add(c));
        for acc in &mut acc {
            *acc = S::max(*acc, floor);
        }
        if !s.out.is_null() {
            for (j, acc) in acc.iter().enumerate() {
                E::store_n(s.out.cast::<E>().add((i + j) * s.ld_out + c), *acc, n);
            }
        }
        if !s.relu_out.is_null() {
            for (j, acc) in acc.iter().enumerate() {
                let out = s.relu_out.cast::<E>().add((i + j) * s.ld_relu + c);
                E::store_n(out, S::max(*acc, S::splat(0.0)), n);
            }
        }
    }
}

/// Any pixel, any kernel: taps outside the input are skipped.
///
/// # Safety
/// `s` describes memory valid for `d`; `x` is an output column of the segment; see [`Simd`].
#[inline(always)]
unsafe fn pixel<S: Simd, E: Stored<S>>(d: &Depthwise, s: &Segment, x: usize, c: usize, n: usize) {
    // SAFETY: taps are bounds-checked against the input's extent, channels c..c + n exist, weights and bias are padded.
    unsafe {
        let mut acc = S::load(s.bias.add(c));
        for ky in 0..d.kernel[0] {
            let iy = (s.y * d.stride[0] + ky * d.dilation[0]).wrapping_sub(d.pad[0]);
            if iy >= d.input[0] {
                continue;
            }
            for kx in 0..d.kernel[1] {
                let ix = (x * d.stride[1] + kx * d.dilation[1]).wrapping_sub(d.pad[1]);
                if ix >= d.input[1] {
                    continue;
                }
                let mut v = E::load_n(s.image.cast::<E>().add((iy * d.input[1] + ix) * d.ld_in + c), n);
                if d.input_relu {
                    v = S::max(v, S::splat(0.0));
                }
                let w = S::load(s.weights.add((ky * d.kernel[1] + kx) * s.ld_weights + c));
                acc = S::fma(v, w, acc);
            }
        }
        finish::<S, E, 1>(s, x - s.x[0], c, n, [acc]);
    }
}

/// `GROUP` pixels from column `x` of a 3x3 kernel whose taps all lie inside the input horizontally.
///
/// The pixels share input columns, so the group loads each once; a lone pixel would load nine vectors for nine
/// multiply-adds and be bound by the load ports. Channels are the inner loop: all streams are then sequential, and the
/// prefetchers follow them.
///
/// # Safety
/// As [`pixel`], and the columns are interior; `STRIDE` and `DILATION` are those of `d`.
#[inline(always)]
unsafe fn group<S: Simd, E: Stored<S>, const STRIDE: usize, const DILATION: usize, const RELU: bool>(
    d: &Depthwise,
    s: &Segment,
    x: usize,
) {
    // The kernel rows that lie inside the input.
    let row = |ky: usize| (s.y * d.stride[0] + ky * d.dilation[0]).wrapping_sub(d.pad[0]);
    let first = (0..3).find(|&ky| row(ky) < d.input[0]).unwrap_or(3);
    let last = (first..3).find(|&ky| row(ky) >= d.input[0]).unwrap_or(3);
    // At most 9 columns: 3 * STRIDE + 2 * DILATION + 1 with stride 2 and dilation 1, or 1 and 2.
    let columns = (GROUP - 1) * STRIDE + 2 * DILATION + 1;
    let mut c = 0;
    while c < d.channels {
        let n = (d.channels - c).min(S::LANES);
        // SAFETY: rows are bounds-checked above, columns are interior by the caller's promise, channels c..c + n exist,
        // weights and bias are padded to whole vectors.
        unsafe {
            let bias = S::load(s.bias.add(c));
            let mut acc = [bias; GROUP];
            for ky in first..last {
                let row =
                    s.image.cast::<E>().add((row(ky) * d.input[1] + x * STRIDE - d.pad[1]) * d.ld_in + c);
                let mut v = [bias; 9];
                for (j, v) in v.iter_mut().enumerate().take(columns) {
                    *v = E::load_n(row.add(j * d.ld_in), n);
                    if RELU {
                        *v = S::max(*v, S::splat(0.0));
                    }
                }
                for kx in 0..3 {
                    let w = S::load(s.weights.add((ky * 3 + kx) * s.ld_weights + c));
                    for (i, acc) in acc.iter_mut().enumerate() {
                        *acc = S::fma(v[i * STRIDE + kx * DILATION], w, *acc);
                    }
                }
            }
            finish::<S, E, GROUP>(s, x - s.x[0], c, n, acc);
        }
        c += S::LANES;
    }
}

/// One segment, all channels.
///
/// # Safety
/// The pointers of `s` are valid for what their fields describe under the geometry `d`; see [`Simd`].
#[inline(always)]
pub(super) unsafe fn segment<S: Simd, E: Stored<S>>(d: &Depthwise, s: &Segment) {
    // Output columns whose taps all lie inside the input.
    let reach = (d.kernel[1] - 1) * d.dilation[1];
    let first = d.pad[1].div_ceil(d.stride[1]);
    let last = (d.input[1] + d.pad[1]).checked_sub(reach + 1).map_or(0, |x| x / d.stride[1] + 1);
    let from = first.clamp(s.x[0], s.x[1]);
    let to = last.clamp(from, s.x[1]);
    // SAFETY: the caller's promise, restricted to columns of the segment and, in groups, to interior ones.
    unsafe {
        let mut done = [from, from];
        if d.kernel == [3, 3] && to - from >= GROUP {
            done = match (d.stride[1], d.dilation[1], d.input_relu) {
                (1, 1, false) => groups(from, to, |x| group::<S, E, 1, 1, false>(d, s, x)),
                (1, 1, true) => groups(from, to, |x| group::<S, E, 1, 1, true>(d, s, x)),
                (2, 1, false) => groups(from, to, |x| group::<S, E, 2, 1, false>(d, s, x)),
                (2, 1, true) => groups(from, to, |x| group::<S, E, 2, 1, true>(d, s, x)),
                (1, 2, false) => groups(from, to, |x| group::<S, E, 1, 2, false>(d, s, x)),
                (1, 2, true) => groups(from, to, |x| group::<S, E, 1, 2, true>(d, s, x)),
                _ => done,
            };
        }
        for x in (s.x[0]..done[0]).chain(done[1]..s.x[1]) {
            let mut c = 0;
            while c < d.channels {
                pixel::<S, E>(d, s, x, c, (d.channels - c).min(S::LANES));
                c += S::LANES;
            }
        }
    }
}

/// Covers columns `from..to` with groups; the last one may overlap its neighbour, which computes a few pixels twice.
#[inline(always)]
pub(super) fn groups(from: usize, to: usize, mut group: impl FnMut(usize)) -> [usize; 2] {
    let mut x = from;
    while x < to {
        group(x.min(to - GROUP));
        x += GROUP;
    }
    [from, to]
}
