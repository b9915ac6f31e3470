//! Depthwise convolution of 3x3 on `bf16`, 32 channels at a time.
//!
//! A register of 32 `bf16` holds 16 pairs of channels. The first of each pair becomes an `f32` by a shift and the second by
//! a mask, one instruction for 16 channels, where taking channels in their order takes two. Weights are therefore packed
//! a second time, with even channels before odd ones (see `DepthwiseWeights`). Sums are `f32`.

use std::arch::x86_64::*;

use half::bf16;

use super::depthwise::{self, Depthwise, Footprint, GROUP, Segment};
use super::isa::Avx512;

/// Channels of a register.
pub(crate) const CHANNELS: usize = 32;

/// Where a channel of a block of [`CHANNELS`] lies when even channels come before odd ones.
pub(crate) const fn position(channel: usize) -> usize {
    channel / CHANNELS * CHANNELS + channel % 2 * (CHANNELS / 2) + channel % CHANNELS / 2
}

/// The first `n` elements at `p`, zeros in the other lanes.
#[inline(always)]
unsafe fn load(p: *const bf16, n: usize) -> __m512i {
    // SAFETY: AVX-512BW; masked-off lanes are not accessed.
    unsafe {
        if n >= CHANNELS {
            _mm512_loadu_si512(p.cast())
        } else {
            _mm512_maskz_loadu_epi16((1u32 << n) - 1, p.cast())
        }
    }
}

/// Writes the first `n` lanes.
#[inline(always)]
unsafe fn store(p: *mut bf16, v: __m512i, n: usize) {
    // SAFETY: AVX-512BW; masked-off lanes are not accessed.
    unsafe {
        if n >= CHANNELS {
            _mm512_storeu_si512(p.cast(), v);
        } else {
            _mm512_mask_storeu_epi16(p.cast(), (1u32 << n) - 1, v);
        }
    }
}

/// Even and odd channels as `f32`.
#[inline(always)]
unsafe fn halves(v: __m512i) -> [__m512; 2] {
    // SAFETY: AVX-512F.
    unsafe {
        let odd = _mm512_and_si512(v, _mm512_set1_epi32(0xffff_0000_u32.cast_signed()));
        [_mm512_castsi512_ps(_mm512_slli_epi32::<16>(v)), _mm512_castsi512_ps(odd)]
    }
}

/// 32 floats in the order of channels as even and odd ones.
#[inline(always)]
unsafe fn split(p: *const f32) -> [__m512; 2] {
    // SAFETY: AVX-512F, and 32 floats at `p`.
    unsafe {
        let [a, b] = [_mm512_loadu_ps(p), _mm512_loadu_ps(p.add(16))];
        let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
        [_mm512_permutex2var_ps(a, even, b), _mm512_permutex2var_ps(a, odd, b)]
    }
}

/// Rounds even and odd channels and puts them in order.
#[inline(always)]
unsafe fn join([even, odd]: [__m512; 2]) -> __m512i {
    // SAFETY: AVX512-BF16 and BW; both types of the transmutation are 512 bits of anything.
    unsafe {
        let bits = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(odd, even));
        // Word 2i is the i-th of the even ones, word 2i + 1 the i-th of the odd ones, which come 16 words later.
        let pairs = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        let order =
            _mm512_or_si512(pairs, _mm512_slli_epi32::<16>(_mm512_add_epi32(pairs, _mm512_set1_epi32(16))));
        _mm512_permutexvar_epi16(order, bits)
    }
}

/// Computes [`GROUP`] pixels from column `x` and stores the first `n`. Input columns outside the input are zeros if
/// `EDGE`, else there are none.
///
/// # Safety
/// `s` is valid for pixels `x..x + n` under the geometry `d`; the CPU has the features of [`segment`].
#[inline(always)]
unsafe fn group<const STRIDE: usize, const DILATION: usize, const RELU: bool, const EDGE: bool>(
    d: &Depthwise,
    s: &Segment,
    under: &Footprint,
    x: usize,
    n: usize,
) {
    let columns = (GROUP - 1) * STRIDE + 2 * DILATION + 1;
    let pixel = x - s.x[0];
    let pairs = s.weights.wrapping_add(9 * s.ld_weights);
    let mut c = s.c[0];
    while c < s.c[1] {
        let channels = (s.c[1] - c).min(CHANNELS);
        // SAFETY: rows and, at the edges, columns are checked against the input; channels c..c + channels exist; weights, bias and
        // floor are padded to whole blocks; the caller vouches for the pixels.
        unsafe {
            let zero = _mm512_setzero_si512();
            let image = s.image.cast::<bf16>().wrapping_add(c);
            under.prefetch::<Avx512, bf16>(d, image, GROUP * STRIDE);
            let mut acc = [split(s.bias.add(c)); GROUP];
            for ky in under.rows.clone() {
                let row = image.wrapping_add(under.start).wrapping_add(ky * under.step);
                let mut v = [halves(zero); 9];
                for (j, v) in v.iter_mut().enumerate().take(columns) {
                    if EDGE && !under.columns.contains(&j) {
                        continue;
                    }
                    let mut raw = load(row.wrapping_add(j * d.ld_in), channels);
                    if RELU {
                        // The order of bf16 above zero is that of integers, and below zero there are negative ones.
                        raw = _mm512_max_epi16(raw, zero);
                    }
                    *v = halves(raw);
                }
                for kx in 0..3 {
                    let w = pairs.add((ky * 3 + kx) * s.ld_weights + c);
                    let w = [_mm512_loadu_ps(w), _mm512_loadu_ps(w.add(16))];
                    for (i, acc) in acc.iter_mut().enumerate() {
                        for (half, acc) in acc.iter_mut().enumerate() {
                            *acc = _mm512_fmadd_ps(v[i * STRIDE + kx * DILATION][half], w[half], *acc);
                        }
                    }
                }
            }
            let floor = split(s.floor.add(c));
            let mut bits = [zero; GROUP];
            for (i, (bits, mut acc)) in bits.iter_mut().zip(acc).enumerate() {
                if !s.residual.is_null() && i < n {
                    let residual = s.residual.cast::<bf16>().add((pixel + i) * s.ld_residual + c);
                    for (acc, residual) in acc.iter_mut().zip(halves(load(residual, channels))) {
                        *acc = _mm512_add_ps(*acc, residual);
                    }
                }
                for (acc, floor) in acc.iter_mut().zip(floor) {
                    *acc = _mm512_max_ps(*acc, floor);
                }
                *bits = join(acc);
            }
            for (i, bits) in bits.iter().enumerate() {
                // Not `take(n)`: the loop is to be unrolled.
                if i >= n {
                    break;
                }
                if !s.out.is_null() {
                    store(s.out.cast::<bf16>().add((pixel + i) * s.ld_out + c), *bits, channels);
                }
                if !s.relu_out.is_null() {
                    let out = s.relu_out.cast::<bf16>().add((pixel + i) * s.ld_relu + c);
                    store(out, _mm512_max_epi16(*bits, zero), channels);
                }
            }
        }
        c += CHANNELS;
    }
}

/// The groups of a segment.
///
/// # Safety
/// As [`segment`]; `STRIDE` and `DILATION` are the horizontal ones of `d`.
#[inline(always)]
unsafe fn groups<const STRIDE: usize, const DILATION: usize>(d: &Depthwise, s: &Segment) {
    let reach = (GROUP - 1) * STRIDE + 2 * DILATION;
    for x in (s.x[0]..s.x[1]).step_by(GROUP) {
        let n = (s.x[1] - x).min(GROUP);
        let under = Footprint::new(d, s.y, x);
        let edge = !(under.columns.contains(&0) && under.columns.contains(&reach));
        // SAFETY: the caller's promise.
        unsafe {
            match (d.input_relu, edge) {
                (false, false) => group::<STRIDE, DILATION, false, false>(d, s, &under, x, n),
                (false, true) => group::<STRIDE, DILATION, false, true>(d, s, &under, x, n),
                (true, false) => group::<STRIDE, DILATION, true, false>(d, s, &under, x, n),
                (true, true) => group::<STRIDE, DILATION, true, true>(d, s, &under, x, n),
            }
        }
    }
}

/// One segment, all channels.
///
/// # Safety
/// As [`depthwise::segment`]; the weights are followed by those in the order of [`position`]; the CPU has AVX-512F, BW, VL
/// and BF16.
#[inline(always)]
pub(super) unsafe fn segment(d: &Depthwise, s: &Segment) {
    // SAFETY: the caller's promise.
    unsafe {
        match (d.kernel, d.stride[1], d.dilation[1]) {
            ([3, 3], 1, 1) => groups::<1, 1>(d, s),
            ([3, 3], 2, 1) => groups::<2, 1>(d, s),
            ([3, 3], 1, 2) => groups::<1, 2>(d, s),
            _ => depthwise::segment::<Avx512, bf16>(d, s),
        }
    }
}
