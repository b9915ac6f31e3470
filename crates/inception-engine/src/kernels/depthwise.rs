//! Depthwise convolution, one row segment of output pixels at a time, vectorised over channels.

use super::simd::{Simd, Stored};

/// Parameters of a depthwise convolution, the same for all its rows.
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
    /// First channel, and one past the last.
    pub c: [usize; 2],
    /// Weights `[kernel taps][ld_weights]`.
    pub weights: *const f32,
    /// Floats from one tap's weights to the next: the channels rounded up to a whole vector.
    pub ld_weights: usize,
    /// Added to each channel.
    pub bias: *const f32,
    /// Lower bound of each channel: 0 is ReLU, -inf is none.
    pub min: *const f32,
    /// Added to each output before the lower bound, or null: the residual at the segment's first pixel.
    pub residual: *const u8,
    /// Elements from one pixel of the residual to the next.
    pub ld_residual: usize,
    /// Where the first pixel goes.
    pub out: *mut u8,
    /// Elements from one output pixel to the next.
    pub ld_out: usize,
    /// Second copy of the output, after a ReLU, or null.
    pub relu_out: *mut u8,
    /// Elements from one pixel of the second copy to the next.
    pub ld_relu: usize,
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
        if !s.residual.is_null() {
            for (j, acc) in acc.iter_mut().enumerate() {
                *acc = S::add(*acc, E::load_n(s.residual.cast::<E>().add((i + j) * s.ld_residual + c), n));
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
    // SAFETY: taps are bounds-checked against the input's extent, channels c..c + n exist, weights and bias
    // are padded.
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
        let [top, left] = [0, 1].map(|axis| [y, x][axis] * d.stride[axis]);
        let row = |ky: usize| (top + ky * d.dilation[0]).wrapping_sub(d.pad[0]);
        let at = |row: usize| {
            row.wrapping_mul(d.input[1]).wrapping_add(left).wrapping_sub(d.pad[1]).wrapping_mul(d.ld_in)
        };
        let first = (0..3).find(|&ky| row(ky) < d.input[0]).unwrap_or(3);
        let last = (first..3).find(|&ky| row(ky) >= d.input[0]).unwrap_or(3);
        let below = row(2).wrapping_add(1);
        Footprint {
            rows: first..last,
            columns: d.pad[1].saturating_sub(left)..(d.input[1] + d.pad[1]).saturating_sub(left),
            start: at(row(0)),
            step: d.dilation[0] * d.input[1] * d.ld_in,
            next: at(below),
            next_rows: d.input[0].saturating_sub(below).min(d.stride[0]),
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
/// wanted; all of them and a whole vector of channels if `FULL`. Input columns outside the input are zeros if
/// `EDGE`, else there are none.
///
/// The pixels share input columns, so the block loads each once; a lone pixel would load nine vectors for
/// nine multiply-adds and be bound by the load ports.
///
/// # Safety
/// As [`pixel`]; `STRIDE` and `DILATION` are those of `d`, and `footprint` that of the block.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // It is the body of one loop.
unsafe fn block<
    S: Simd,
    E: Stored<S>,
    const STRIDE: usize,
    const DILATION: usize,
    const RELU: bool,
    const EDGE: bool,
    const FULL: bool,
>(
    d: &Depthwise,
    s: &Segment,
    footprint: &Footprint,
    x: usize,
    pixels: usize,
    c: usize,
    n: usize,
) {
    // Then the compiler knows that nothing is to be masked.
    let (n, pixels) = if FULL { (S::LANES, PIXELS) } else { (n, pixels) };
    // At most 9 columns: 3 * STRIDE + 2 * DILATION + 1 with stride 2 and dilation 1, or 1 and 2.
    let columns = (PIXELS - 1) * STRIDE + 2 * DILATION + 1;
    // SAFETY: rows and, at the edges, columns are checked against the input, channels c..c + n exist, weights
    // and bias are padded to whole vectors.
    unsafe {
        let image = s.image.cast::<E>().wrapping_add(c);
        footprint.prefetch::<S, E>(d, image, PIXELS * STRIDE);
        let bias = S::load(s.bias.add(c));
        let mut acc = [bias; PIXELS];
        for ky in footprint.rows.clone() {
            let row = image.wrapping_add(footprint.start).wrapping_add(ky * footprint.step);
            let mut v = [S::splat(0.0); 9];
            for (j, v) in v.iter_mut().enumerate().take(columns) {
                if EDGE && !footprint.columns.contains(&j) {
                    continue;
                }
                *v = E::load_n(row.wrapping_add(j * d.ld_in), n);
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
        if FULL {
            return epilogue::<S, E, PIXELS>(s, x - s.x[0], c, n, acc);
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

/// The register blocks of a segment.
///
/// # Safety
/// As [`segment`]; `STRIDE` and `DILATION` are the horizontal ones of `d`.
#[inline(always)]
unsafe fn blocks<S: Simd, E: Stored<S>, const STRIDE: usize, const DILATION: usize, const RELU: bool>(
    d: &Depthwise,
    s: &Segment,
) {
    let reach = (PIXELS - 1) * STRIDE + 2 * DILATION;
    for x in (s.x[0]..s.x[1]).step_by(PIXELS) {
        let pixels = (s.x[1] - x).min(PIXELS);
        let footprint = Footprint::new(d, s.y, x);
        let edge = !(footprint.columns.contains(&0) && footprint.columns.contains(&reach));
        let mut c = s.c[0];
        while c < s.c[1] {
            let n = (s.c[1] - c).min(S::LANES);
            // SAFETY: the caller's promise; `EDGE` and `FULL` are as `block` defines them.
            unsafe {
                match (edge, pixels == PIXELS && n == S::LANES) {
                    (false, true) => {
                        block::<S, E, STRIDE, DILATION, RELU, false, true>(d, s, &footprint, x, pixels, c, n)
                    }
                    (true, true) => {
                        block::<S, E, STRIDE, DILATION, RELU, true, true>(d, s, &footprint, x, pixels, c, n)
                    }
                    (_, false) => {
                        block::<S, E, STRIDE, DILATION, RELU, true, false>(d, s, &footprint, x, pixels, c, n)
                    }
                }
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
        match (d.kernel, d.stride[1], d.dilation[1], d.input_relu) {
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
