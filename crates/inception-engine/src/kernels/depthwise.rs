//! Depthwise convolution, one row segment of output pixels at a time, vectorised over channels.

use super::simd::{Simd, Stored};
use crate::graph::Window;

/// Parameters of a depthwise convolution, the same for all its rows.
#[derive(Clone, Copy)]
pub(crate) struct Depthwise {
    /// Input height and width in pixels.
    pub input: [usize; 2],
    /// Kernel, stride, padding, dilation.
    pub window: Window,
    /// Elements from one input pixel to the next.
    pub ld_in: usize,
    /// Clamp the input at zero before use.
    pub input_relu: bool,
    /// The zero point of a quantised input.
    pub zero: u8,
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
    /// First channel, and one past the last.
    pub c: [usize; 2],
    /// Weights `[kernel taps][ld_weights]`.
    pub weights: *const f32,
    /// Floats from one tap's weights to the next: the channels rounded up to a whole vector.
    pub ld_weights: usize,
    /// Factor of each channel's sum where it is quantised; else null.
    pub scale: *const f32,
    /// Added to each channel.
    pub bias: *const f32,
    /// Lower bound of each channel: 0 is ReLU, -inf is none.
    pub min: *const f32,
    /// Added to each output before the lower bound, or null: the residual at the segment's first pixel.
    pub residual: *const u8,
    /// Elements from one pixel of the residual to the next.
    pub ld_residual: usize,
    /// Factor of the residual where it is quantised.
    pub residual_scale: f32,
    /// Where the first pixel goes.
    pub out: *mut u8,
    /// Elements from one output pixel to the next.
    pub ld_out: usize,
    /// Second copy of the output, after a ReLU, or null.
    pub relu_out: *mut u8,
    /// Elements from one pixel of the second copy to the next.
    pub ld_relu: usize,
    /// What stands for zero in the output.
    pub relu_floor: f32,
}

/// Output pixels of a register block: neighbours in a row, which share their input loads.
pub(super) const PIXELS: usize = 4;

/// The epilogue: adds the residual, applies the lower bound and stores `N` pixels' vectors.
///
/// One small loop for each of them, so that the compiler unrolls all and `acc` stays in registers.
///
/// # Safety
/// `s` is valid for pixels `i..i + N` of the segment and channels `c..c + n`; see [`Simd`].
#[inline(always)]
unsafe fn epilogue<S: Simd, E: Stored<S>, const N: usize>(
    s: &Segment,
    i: usize,
    c: usize,
    n: usize,
    mut acc: [S::V; N],
) {
    // SAFETY: the caller vouches for the pixels and channels; `min` is padded to a whole vector.
    unsafe {
        if E::QUANTIZED {
            let (scale, bias) = (S::load(s.scale.add(c)), S::load(s.bias.add(c)));
            for acc in &mut acc {
                *acc = S::add(S::mul(*acc, scale), bias);
            }
        }
        if !s.residual.is_null() {
            for (j, acc) in acc.iter_mut().enumerate() {
                let mut residual = E::load_n(s.residual.cast::<E>().add((i + j) * s.ld_residual + c), n);
                if E::QUANTIZED {
                    residual = S::mul(residual, S::splat(s.residual_scale));
                }
                *acc = S::add(*acc, residual);
            }
        }
        let min = S::load(s.min.add(c));
        for acc in &mut acc {
            *acc = S::max(*acc, min);
        }
        if !s.out.is_null() {
            for (j, acc) in acc.iter().enumerate() {
                E::store_n(s.out.cast::<E>().add((i + j) * s.ld_out + c), *acc, n);
            }
        }
        if !s.relu_out.is_null() {
            for (j, acc) in acc.iter().enumerate() {
                let out = s.relu_out.cast::<E>().add((i + j) * s.ld_relu + c);
                E::store_n(out, S::max(*acc, S::splat(s.relu_floor)), n);
            }
        }
    }
}

/// What sums begin with: the bias, or nothing where it is added to the scaled sum.
///
/// # Safety
/// The channels from `c` on exist, or are padding; see [`Simd`].
#[inline(always)]
unsafe fn begin<S: Simd, E: Stored<S>>(s: &Segment, c: usize) -> S::V {
    // SAFETY: the caller's promise.
    unsafe { if E::QUANTIZED { S::splat(0.0) } else { S::load(s.bias.add(c)) } }
}

/// `n` channels of the input at `p`, as differences from the zero point where they are quantised: their
/// products with weights and their sums are integers then, exact in `f32`.
///
/// # Safety
/// They exist; see [`Simd`].
#[inline(always)]
unsafe fn read<S: Simd, E: Stored<S>>(d: &Depthwise, p: *const E, n: usize) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let v = E::load_n(p, n);
        if E::QUANTIZED { S::sub(v, S::splat(f32::from(d.zero))) } else { v }
    }
}

/// Any pixel, any kernel: taps outside the input are skipped.
///
/// # Safety
/// `s` describes memory valid for `d`; `x` is an output column of the segment; see [`Simd`].
#[inline(always)]
unsafe fn pixel<S: Simd, E: Stored<S>>(d: &Depthwise, s: &Segment, x: usize, c: usize, n: usize) {
    // SAFETY: taps are bounds-checked against the input's extent, channels c..c + n exist, weights and bias
    // are padded.
    unsafe {
        let mut acc = begin::<S, E>(s, c);
        for ky in 0..d.window.kernel[0] {
            let iy = (s.y * d.window.stride[0] + ky * d.window.dilation[0]).wrapping_sub(d.window.pad[0]);
            if iy >= d.input[0] {
                continue;
            }
            for kx in 0..d.window.kernel[1] {
                let ix = (x * d.window.stride[1] + kx * d.window.dilation[1]).wrapping_sub(d.window.pad[1]);
                if ix >= d.input[1] {
                    continue;
                }
                let mut v = read::<S, E>(d, s.image.cast::<E>().add((iy * d.input[1] + ix) * d.ld_in + c), n);
                if d.input_relu {
                    v = S::max(v, S::splat(0.0));
                }
                let w = S::load(s.weights.add((ky * d.window.kernel[1] + kx) * s.ld_weights + c));
                acc = S::fma(v, w, acc);
            }
        }
        epilogue::<S, E, 1>(s, x - s.x[0], c, n, [acc]);
    }
}

/// The input under a register block and a kernel of 3x3: where its rows and columns lie, and which of them
/// exist.
pub(super) struct Footprint {
    /// The kernel rows that lie inside the input.
    pub rows: std::ops::Range<usize>,
    /// The columns, counted from the leftmost of the block, that lie inside the input.
    pub columns: std::ops::Range<usize>,
    /// Element of the image at which the topmost row of the leftmost column would lie; wraps around zero.
    pub start: usize,
    /// Elements from one kernel row to the next.
    pub step: usize,
    /// As `start`, of the topmost input row that no output row up to this one reads, but the next one does.
    pub next: usize,
    /// How many such rows there are.
    pub next_rows: usize,
}

impl Footprint {
    /// The footprint of the block from column `x` of output row `y`.
    pub fn new(d: &Depthwise, y: usize, x: usize) -> Self {
        let [top, left] = [0, 1].map(|axis| [y, x][axis] * d.window.stride[axis]);
        let row = |ky: usize| (top + ky * d.window.dilation[0]).wrapping_sub(d.window.pad[0]);
        let at = |row: usize| {
            row.wrapping_mul(d.input[1])
                .wrapping_add(left)
                .wrapping_sub(d.window.pad[1])
                .wrapping_mul(d.ld_in)
        };
        let first = (0..3).find(|&ky| row(ky) < d.input[0]).unwrap_or(3);
        let last = (first..3).find(|&ky| row(ky) >= d.input[0]).unwrap_or(3);
        let below = row(2).wrapping_add(1);
        Footprint {
            rows: first..last,
            columns: d.window.pad[1].saturating_sub(left)
                ..(d.input[1] + d.window.pad[1]).saturating_sub(left),
            start: at(row(0)),
            step: d.window.dilation[0] * d.input[1] * d.ld_in,
            next: at(below),
            next_rows: d.input[0].saturating_sub(below).min(d.window.stride[0]),
        }
    }

    /// Prefetches `columns` columns of the rows that the next output row is the first to read, at the channel
    /// at which `image` begins. The hardware's prefetcher sees no pattern from one row of pixels to the next.
    ///
    /// # Safety
    /// See [`Simd`].
    #[inline(always)]
    pub unsafe fn prefetch<S: Simd, E>(&self, d: &Depthwise, image: *const E, columns: usize) {
        for row in 0..self.next_rows {
            let next = image.wrapping_add(self.next).wrapping_add(row * d.input[1] * d.ld_in);
            for j in 0..columns {
                // SAFETY: the caller's promise; a hint, which faults on no address.
                unsafe { S::prefetch(next.wrapping_add(j * d.ld_in).cast()) };
            }
        }
    }
}

/// Channels `c..c + n` of [`PIXELS`] pixels from column `x` of a 3x3 kernel, of which the first `pixels` are
/// wanted. Input columns outside the input are zeros.
///
/// The pixels share input columns, so the block loads each once; a lone pixel would load nine vectors for
/// nine multiply-adds and be bound by the load ports.
///
/// # Safety
/// As [`pixel`]; `STRIDE` and `DILATION` are those of `d`, and `footprint` that of the block.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // It is the body of one loop.
unsafe fn block<S: Simd, E: Stored<S>, const STRIDE: usize, const DILATION: usize, const RELU: bool>(
    d: &Depthwise,
    s: &Segment,
    footprint: &Footprint,
    x: usize,
    pixels: usize,
    c: usize,
    n: usize,
) {
    // At most 9 columns: 3 * STRIDE + 2 * DILATION + 1 with stride 2 and dilation 1, or 1 and 2.
    let columns = (PIXELS - 1) * STRIDE + 2 * DILATION + 1;
    // SAFETY: rows and, at the edges, columns are checked against the input, channels c..c + n exist, weights
    // and bias are padded to whole vectors.
    unsafe {
        let image = s.image.cast::<E>().wrapping_add(c);
        if S::PREFETCH_ROWS {
            footprint.prefetch::<S, E>(d, image, PIXELS * STRIDE);
        }
        let mut acc = [begin::<S, E>(s, c); PIXELS];
        for ky in footprint.rows.clone() {
            let row = image.wrapping_add(footprint.start).wrapping_add(ky * footprint.step);
            let mut v = [S::splat(0.0); 9];
            for (j, v) in v.iter_mut().enumerate().take(columns) {
                if !footprint.columns.contains(&j) {
                    continue;
                }
                *v = read::<S, E>(d, row.wrapping_add(j * d.ld_in), n);
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
        for (i, acc) in acc.iter().enumerate() {
            // Not `take(pixels)`: the loop is to be unrolled.
            if i >= pixels {
                break;
            }
            epilogue::<S, E, 1>(s, x - s.x[0] + i, c, n, [*acc]);
        }
    }
}

/// `N` vectors of channels at a time, while there are so many, of `P` pixels from column `x` of a 3x3 kernel;
/// returns the channel after them. As many input columns as a tap reaches lie outside the input, on the
/// `LEFT` or the `RIGHT`, or none.
///
/// What holds for all channels is settled outside of the loop, which has nothing else to decide: with
/// registers of eight floats, [`block`] takes as long to find its addresses as to multiply.
///
/// # Safety
/// As [`block`].
#[inline(always)]
unsafe fn whole_vectors<
    S: Simd,
    E: Stored<S>,
    const STRIDE: usize,
    const DILATION: usize,
    const RELU: bool,
    const LEFT: bool,
    const RIGHT: bool,
    const P: usize,
    const N: usize,
>(
    d: &Depthwise,
    s: &Segment,
    footprint: &Footprint,
    x: usize,
) -> usize {
    let columns = (P - 1) * STRIDE + 2 * DILATION + 1;
    let outside = |j: usize| (LEFT && j < DILATION) || (RIGHT && j >= columns - DILATION);
    let (rows, step, ld) = (footprint.rows.len(), footprint.step, d.ld_in);
    let image = s.image.cast::<E>();
    let first = image.wrapping_add(footprint.start).wrapping_add(footprint.rows.start * step);
    let weights = s.weights.wrapping_add(footprint.rows.start * 3 * s.ld_weights);
    let mut c = s.c[0];
    while c + N * S::LANES <= s.c[1] {
        // SAFETY: `rows` rows of the kernel lie inside the input, and so do the columns that are not outside;
        // channels c..c + N * LANES exist; weights and bias are padded to whole vectors.
        unsafe {
            if S::PREFETCH_ROWS {
                footprint.prefetch::<S, E>(d, image.wrapping_add(c), P * STRIDE);
            }
            let mut acc = [[S::splat(0.0); P]; N];
            for (z, acc) in acc.iter_mut().enumerate() {
                *acc = [begin::<S, E>(s, c + z * S::LANES); P];
            }
            let (mut row, mut w) = (first.wrapping_add(c), weights.wrapping_add(c));
            for _ in 0..rows {
                for (z, acc) in acc.iter_mut().enumerate() {
                    let mut v = [S::splat(0.0); 2 * PIXELS * 2 + 1];
                    for (j, v) in v.iter_mut().enumerate().take(columns) {
                        if outside(j) {
                            continue;
                        }
                        *v = read::<S, E>(d, row.wrapping_add(j * ld + z * S::LANES), S::LANES);
                        if RELU {
                            *v = S::max(*v, S::splat(0.0));
                        }
                    }
                    for kx in 0..3 {
                        let w = S::load(w.wrapping_add(kx * s.ld_weights + z * S::LANES));
                        for (i, acc) in acc.iter_mut().enumerate() {
                            if !outside(i * STRIDE + kx * DILATION) {
                                *acc = S::fma(v[i * STRIDE + kx * DILATION], w, *acc);
                            }
                        }
                    }
                }
                (row, w) = (row.wrapping_add(step), w.wrapping_add(3 * s.ld_weights));
            }
            for (z, acc) in acc.iter().enumerate() {
                epilogue::<S, E, P>(s, x - s.x[0], c + z * S::LANES, S::LANES, *acc);
            }
        }
        c += N * S::LANES;
    }
    c
}

/// [`whole_vectors`] of `P` pixels, `N` vectors at a time, by what lies outside the input; the first channel
/// where that is neither nothing nor what a tap reaches.
///
/// # Safety
/// As [`block`]; the `P` pixels belong to the segment.
#[inline(always)]
unsafe fn whole_vectors_at<
    S: Simd,
    E: Stored<S>,
    const STRIDE: usize,
    const DILATION: usize,
    const RELU: bool,
    const P: usize,
    const N: usize,
>(
    d: &Depthwise,
    s: &Segment,
    footprint: &Footprint,
    x: usize,
) -> usize {
    let columns = (P - 1) * STRIDE + 2 * DILATION + 1;
    let outside = [footprint.columns.start.min(columns), columns.saturating_sub(footprint.columns.end)];
    // SAFETY: the caller's promise; `LEFT` and `RIGHT` are as `whole_vectors` defines them.
    unsafe {
        match outside.map(|columns| (columns > 0, columns == 0 || columns == DILATION)) {
            [(false, _), (false, _)] => {
                whole_vectors::<S, E, STRIDE, DILATION, RELU, false, false, P, N>(d, s, footprint, x)
            }
            [(true, true), (false, _)] => {
                whole_vectors::<S, E, STRIDE, DILATION, RELU, true, false, P, N>(d, s, footprint, x)
            }
            [(false, _), (true, true)] => {
                whole_vectors::<S, E, STRIDE, DILATION, RELU, false, true, P, N>(d, s, footprint, x)
            }
            _ => s.c[0],
        }
    }
}

/// The register blocks of a segment.
///
/// # Safety
/// As [`segment`]; `STRIDE` and `DILATION` are the horizontal ones of `d`.
#[inline(always)]
unsafe fn blocks<S: Simd, E: Stored<S>, const STRIDE: usize, const DILATION: usize, const RELU: bool>(
    d: &Depthwise,
    s: &Segment,
) {
    let mut start = s.x[0];
    while start < s.x[1] {
        let wide = 2 * PIXELS;
        if S::WIDE_DEPTHWISE && start + wide <= s.x[1] && (s.c[1] - s.c[0]).is_multiple_of(2 * S::LANES) {
            let footprint = Footprint::new(d, s.y, start);
            // SAFETY: the caller's promise.
            let c = unsafe {
                whole_vectors_at::<S, E, STRIDE, DILATION, RELU, { 2 * PIXELS }, 2>(d, s, &footprint, start)
            };
            if c == s.c[1] {
                start += wide;
                continue;
            }
        }
        // The last block overlaps its neighbour, unless it is alone, and computes a few pixels twice.
        let x = start.min(s.x[1].saturating_sub(PIXELS).max(s.x[0]));
        let pixels = (s.x[1] - x).min(PIXELS);
        start += PIXELS;
        let footprint = Footprint::new(d, s.y, x);
        let mut c = s.c[0];
        if pixels == PIXELS {
            // SAFETY: the caller's promise.
            c = unsafe { whole_vectors_at::<S, E, STRIDE, DILATION, RELU, PIXELS, 1>(d, s, &footprint, x) };
        }
        while c < s.c[1] {
            let n = (s.c[1] - c).min(S::LANES);
            // SAFETY: the caller's promise.
            unsafe {
                block::<S, E, STRIDE, DILATION, RELU>(d, s, &footprint, x, pixels, c, n);
            }
            c += S::LANES;
        }
    }
}

/// One segment of the channels `s.c`.
///
/// # Safety
/// The pointers of `s` are valid for what their fields describe under the geometry `d`; see [`Simd`].
#[inline(always)]
pub(super) unsafe fn segment<S: Simd, E: Stored<S>>(d: &Depthwise, s: &Segment) {
    // SAFETY: the caller's promise.
    unsafe {
        match (d.window.kernel, d.window.stride[1], d.window.dilation[1], d.input_relu) {
            ([3, 3], 1, 1, false) => blocks::<S, E, 1, 1, false>(d, s),
            ([3, 3], 1, 1, true) => blocks::<S, E, 1, 1, true>(d, s),
            ([3, 3], 2, 1, false) => blocks::<S, E, 2, 1, false>(d, s),
            ([3, 3], 2, 1, true) => blocks::<S, E, 2, 1, true>(d, s),
            ([3, 3], 1, 2, false) => blocks::<S, E, 1, 2, false>(d, s),
            ([3, 3], 1, 2, true) => blocks::<S, E, 1, 2, true>(d, s),
            _ => {
                for x in s.x[0]..s.x[1] {
                    let mut c = s.c[0];
                    while c < s.c[1] {
                        pixel::<S, E>(d, s, x, c, (s.c[1] - c).min(S::LANES));
                        c += S::LANES;
                    }
                }
            }
        }
    }
}
