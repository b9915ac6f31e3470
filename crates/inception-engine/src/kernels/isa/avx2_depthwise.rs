//! Depthwise convolution of 3x3 on `u8` by `vpmaddwd`, 16 channels at a time.
//!
//! Of each input column the bytes of three rows become words. The first two rows, and the third with zeros,
//! are interleaved to the pairs of a lane, so that two products and two sums are a column of the kernel.
//! Interleaving works within 128 bits: lane 4 l + j of the i-th of two registers is channel 8 l + 4 i + j,
//! and packing the sums to words puts them in order again.

use std::arch::x86_64::*;

use super::avx2_vector::{Avx2, dot_of_words, load_words};
use crate::kernels::depthwise::{self, Depthwise, Footprint, PIXELS, Segment};
use crate::kernels::table::DepthwiseLayer;

/// Channels of a block.
const CHANNELS: usize = 16;

/// Registers of lanes for them.
const REGISTERS: usize = 2;

/// Lanes of a register.
const LANES: usize = 8;

/// Lanes of a block of channels in the second copy: of three columns the weights of two rows and of the third,
/// what sums begin with, scales and biases.
const BLOCK: usize = (3 * 2 + 3) * REGISTERS * LANES;

/// The channel of lane `lane` of register `register`.
fn channel(register: usize, lane: usize) -> usize {
    lane / 4 * 8 + register * 4 + lane % 4
}

/// What the kernel reads of each block of channels, as [`BLOCK`] says; nothing for other kernels than 3x3.
pub(super) fn second_copy(layer: &DepthwiseLayer<'_>) -> Vec<f32> {
    let DepthwiseLayer { weights, ld, scale, bias, zero } = *layer;
    if weights.len() != 9 * ld {
        return Vec::new();
    }
    let mut copy = Vec::with_capacity(ld / CHANNELS * BLOCK);
    for block in (0..ld).step_by(CHANNELS) {
        let lanes = || (0..REGISTERS).flat_map(|i| (0..LANES).map(move |lane| block + channel(i, lane)));
        // The weights are integers from -127 to 127.
        let weight = |tap: usize, channel: usize| weights[tap * ld + channel] as i16;
        let pair = |a: i16, b: i16| {
            let [a, b] = [a, b].map(|w| u32::from(w.cast_unsigned()));
            f32::from_bits(a | b << 16)
        };
        for kx in 0..3 {
            copy.extend(lanes().map(|c| pair(weight(kx, c), weight(3 + kx, c))));
            copy.extend(lanes().map(|c| pair(weight(6 + kx, c), 0)));
        }
        let sum = |c: usize| (0..9).map(|tap| i32::from(weight(tap, c))).sum::<i32>();
        copy.extend(lanes().map(|c| f32::from_bits((-i32::from(zero) * sum(c)).cast_unsigned())));
        for values in [scale, bias] {
            copy.extend(lanes().map(|c| values.get(c).copied().unwrap_or(0.0)));
        }
    }
    copy
}

/// The sums of [`PIXELS`] pixels.
type Sums = [[__m256i; REGISTERS]; PIXELS];

/// Multiplies the input column number `J` of a block, given as its three rows, by the columns of the kernel
/// that meet it.
///
/// # Safety
/// `weights` points at the kernel's columns; AVX2.
#[inline(always)]
unsafe fn column<const J: usize, const STRIDE: usize, const DILATION: usize>(
    rows: [__m256i; 3],
    weights: *const f32,
    sums: &mut Sums,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let zero = _mm256_setzero_si256();
        let first = [_mm256_unpacklo_epi16(rows[0], rows[1]), _mm256_unpackhi_epi16(rows[0], rows[1])];
        let third = [_mm256_unpacklo_epi16(rows[2], zero), _mm256_unpackhi_epi16(rows[2], zero)];
        for kx in 0..3 {
            if J >= kx * DILATION && (J - kx * DILATION).is_multiple_of(STRIDE) {
                let i = (J - kx * DILATION) / STRIDE;
                if i < PIXELS {
                    for (part, v) in [first, third].into_iter().enumerate() {
                        for (register, v) in v.into_iter().enumerate() {
                            let place = (2 * kx + part) * REGISTERS + register;
                            let w = _mm256_loadu_si256(weights.add(place * LANES).cast());
                            sums[i][register] = dot_of_words(v, w, sums[i][register]);
                        }
                    }
                }
            }
        }
    }
}

/// Scales, adds the residual and rounds the sums of a pixel: words in the order of channels.
///
/// # Safety
/// `scales` points at those of the block, which its biases follow; AVX2.
#[inline(always)]
unsafe fn words(
    sums: [__m256i; REGISTERS],
    scales: *const f32,
    residual: Option<__m256i>,
    residual_scale: f32,
) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe {
        let zero = _mm256_setzero_si256();
        let mut integers = [zero; REGISTERS];
        for (register, integers) in integers.iter_mut().enumerate() {
            let scale = _mm256_loadu_ps(scales.add(register * LANES));
            let bias = _mm256_loadu_ps(scales.add((REGISTERS + register) * LANES));
            let mut v = _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(sums[register]), scale), bias);
            if let Some(residual) = residual {
                let lanes = match register {
                    0 => _mm256_unpacklo_epi16(residual, zero),
                    _ => _mm256_unpackhi_epi16(residual, zero),
                };
                let residual = _mm256_mul_ps(_mm256_cvtepi32_ps(lanes), _mm256_set1_ps(residual_scale));
                v = _mm256_add_ps(v, residual);
            }
            *integers = _mm256_cvtps_epi32(_mm256_min_ps(v, _mm256_set1_ps(255.0)));
        }
        _mm256_packs_epi32(integers[0], integers[1])
    }
}

/// The three rows of the input column number `j` of a block whose first one is at `origin`.
///
/// # Safety
/// The channels exist where `footprint` says that rows and columns do; AVX2.
#[inline(always)]
unsafe fn input_column(d: &Depthwise, footprint: &Footprint, origin: *const u8, j: usize) -> [__m256i; 3] {
    // SAFETY: the caller's promise.
    unsafe {
        let zero_point = _mm256_set1_epi16(i16::from(d.zero));
        let mut rows = [zero_point; 3];
        for (ky, row) in rows.iter_mut().enumerate() {
            if footprint.rows.contains(&ky) && footprint.columns.contains(&j) {
                *row = load_words(origin.wrapping_add(ky * footprint.step).wrapping_add(j * d.ld_in));
                if d.input_relu {
                    *row = _mm256_max_epi16(*row, zero_point);
                }
            }
        }
        rows
    }
}

/// Computes [`PIXELS`] pixels from column `x` of whole blocks of channels, and stores the first `n`.
///
/// # Safety
/// `s` is valid for pixels `x..x + n` under the geometry `d`; AVX2.
#[inline(always)]
unsafe fn block<const STRIDE: usize, const DILATION: usize>(
    d: &Depthwise,
    s: &Segment,
    footprint: &Footprint,
    x: usize,
    n: usize,
) {
    let pixel = x - s.x[0];
    // SAFETY: rows and columns are checked against the input; channels c..c + 16 exist; the second copy of the
    // weights has a block for them, as tasks begin with whole ones; the caller vouches for the pixels.
    unsafe {
        let least = _mm_set1_epi8((*s.min as u8).cast_signed());
        let relu_floor = _mm_set1_epi8((s.relu_floor as u8).cast_signed());
        let copy = s.weights.add(9 * s.ld_weights);
        for c in (s.c[0]..s.c[1]).step_by(CHANNELS) {
            let weights = copy.add(c / CHANNELS * BLOCK);
            let origin = s.image.wrapping_add(c).wrapping_add(footprint.start);
            let begin = weights.add(3 * 2 * REGISTERS * LANES);
            let first = [_mm256_loadu_si256(begin.cast()), _mm256_loadu_si256(begin.add(LANES).cast())];
            let mut sums = [first; PIXELS];
            // At most nine columns; a loop would have to be unrolled for the sums to stay in registers.
            macro_rules! columns {
                ($($j:literal)*) => {
                    $(if ($j..).contains(&((PIXELS - 1) * STRIDE + 2 * DILATION)) {
                        let rows = input_column(d, footprint, origin, $j);
                        column::<$j, STRIDE, DILATION>(rows, weights, &mut sums);
                    })*
                };
            }
            columns!(0 1 2 3 4 5 6 7 8);
            let scales = begin.add(REGISTERS * LANES);
            for (i, sums) in sums.iter().enumerate() {
                // Not `take(n)`: the loop is to be unrolled.
                if i >= n {
                    break;
                }
                let residual = match s.residual.is_null() {
                    true => None,
                    false => Some(load_words(s.residual.add((pixel + i) * s.ld_residual + c))),
                };
                let words = words(*sums, scales, residual, s.residual_scale);
                let bytes = _mm256_permute4x64_epi64::<0b1000>(_mm256_packus_epi16(words, words));
                let bytes = _mm_max_epu8(_mm256_castsi256_si128(bytes), least);
                if !s.out.is_null() {
                    _mm_storeu_si128(s.out.add((pixel + i) * s.ld_out + c).cast(), bytes);
                }
                if !s.relu_out.is_null() {
                    let out = s.relu_out.add((pixel + i) * s.ld_relu + c);
                    _mm_storeu_si128(out.cast(), _mm_max_epu8(bytes, relu_floor));
                }
            }
        }
    }
}

/// The register blocks of a segment.
///
/// # Safety
/// As [`segment`]; `STRIDE` and `DILATION` are the horizontal ones of `d`.
#[inline(always)]
unsafe fn blocks<const STRIDE: usize, const DILATION: usize>(d: &Depthwise, s: &Segment) {
    for x in (s.x[0]..s.x[1]).step_by(PIXELS) {
        // SAFETY: the caller's promise.
        unsafe { block::<STRIDE, DILATION>(d, s, &Footprint::new(d, s.y, x), x, (s.x[1] - x).min(PIXELS)) };
    }
}

/// One segment, channels from a multiple of [`CHANNELS`] on.
///
/// # Safety
/// As [`depthwise::segment`]; the weights are followed by [`second_copy`]; AVX2.
#[inline(always)]
pub(super) unsafe fn segment(d: &Depthwise, s: &Segment) {
    let whole = s.c[1] - (s.c[1] - s.c[0]) % CHANNELS;
    let (blocks_of, others) = (Segment { c: [s.c[0], whole], ..*s }, Segment { c: [whole, s.c[1]], ..*s });
    // SAFETY: the caller's promise.
    unsafe {
        match (d.window.kernel, d.window.stride[1], d.window.dilation[1]) {
            ([3, 3], 1, 1) => blocks::<1, 1>(d, &blocks_of),
            ([3, 3], 2, 1) => blocks::<2, 1>(d, &blocks_of),
            ([3, 3], 1, 2) => blocks::<1, 2>(d, &blocks_of),
            _ => return depthwise::segment::<Avx2, u8>(d, s),
        }
        if whole < s.c[1] {
            depthwise::segment::<Avx2, u8>(d, &others);
        }
    }
}
