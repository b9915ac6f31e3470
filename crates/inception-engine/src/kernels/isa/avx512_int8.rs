//! AVX-512's dot products of bytes (`vpdpbusd`): the micro-kernel on `u8`, and depthwise convolutions of 3x3.

use std::arch::x86_64::*;

use super::avx512_vector::Avx512;
use crate::dtype::DType;
use crate::kernels::depthwise::{self, Depthwise, Footprint, PIXELS, Segment};
use crate::kernels::simd::{Operand, Stored, methods, some_bytes};
use crate::kernels::table::DepthwiseLayer;

// SAFETY: each method touches exactly the elements that the traits allow; masked-off lanes are not accessed.
unsafe impl Stored<Avx512> for u8 {
    const DTYPE: DType = DType::U8;
    const QUANTIZED: bool = true;

    #[inline(always)]
    unsafe fn load_n(p: *const u8, n: usize) -> __m512 {
        // SAFETY: AVX-512BW and VL, which the kernels for `u8` are compiled for.
        unsafe {
            let bytes = if n >= 16 {
                _mm_loadu_si128(p.cast())
            } else {
                _mm_maskz_loadu_epi8((1u16 << n) - 1, p.cast())
            };
            _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes))
        }
    }
    #[inline(always)]
    unsafe fn store_n(p: *mut u8, v: __m512, n: usize) {
        // SAFETY: AVX-512BW and VL.
        unsafe {
            // The rounding is to the nearest, to even where two are as near: nobody changes that mode.
            let integers = _mm512_cvtps_epi32(_mm512_min_ps(v, _mm512_set1_ps(255.0)));
            let bytes = _mm512_cvtepi32_epi8(_mm512_max_epi32(integers, _mm512_setzero_si512()));
            if n >= 16 {
                _mm_storeu_si128(p.cast(), bytes);
            } else {
                _mm_mask_storeu_epi8(p.cast(), (1u16 << n) - 1, bytes);
            }
        }
    }
}

// SAFETY: as above.
unsafe impl Operand<Avx512> for u8 {
    type Packed = __m512i;
    type Weights = __m512i;
    type Acc = __m512i;
    const PACK: usize = 4;

    methods! {
        weights(p: *const f32) -> __m512i = _mm512_loadu_si512(p.cast());
        splat(p: *const u8) -> __m512i = _mm512_set1_epi32(p.cast::<i32>().read_unaligned());
        splat_some(p: *const u8, n: usize) -> __m512i = _mm512_set1_epi32(some_bytes(p, n));
        zero() -> __m512i = _mm512_setzero_si512();
        dot(a: __m512i, b: __m512i, acc: __m512i) -> __m512i = _mm512_dpbusd_epi32(acc, a, b);
        floats(acc: __m512i) -> __m512 = _mm512_cvtepi32_ps(acc);
    }
}

// Depthwise convolution of 3x3 on `u8`, 64 channels at a time.
//
// The three rows of an input column, and zeros in the place of a fourth, are interleaved to the four bytes of
// a lane, so that one dot product is a column of the kernel. Interleaving works within 128 bits: lane 4 l + j
// of the i-th of four registers is channel 16 l + 4 i + j, and packing the sums to bytes puts them in order
// again.

/// Channels of a register.
const CHANNELS: usize = 64;

/// Registers of lanes for them.
const REGISTERS: usize = 4;

/// Lanes of a register.
const LANES: usize = 16;

/// Lanes of a block of channels in the second copy: three columns of weights, what sums begin with, scales
/// and biases.
const BLOCK: usize = (3 + 3) * REGISTERS * LANES;

/// The channel of lane `lane` of register `register`.
fn channel(register: usize, lane: usize) -> usize {
    lane / 4 * 16 + register * 4 + lane % 4
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
        let weight = |tap: usize, channel: usize| weights[tap * ld + channel] as i8;
        for kx in 0..3 {
            let column = |c: usize| [weight(kx, c), weight(3 + kx, c), weight(6 + kx, c), 0];
            let bytes = |c: usize| column(c).map(i8::cast_unsigned);
            copy.extend(lanes().map(|c| f32::from_bits(u32::from_le_bytes(bytes(c)))));
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
type Sums = [[__m512i; REGISTERS]; PIXELS];

/// Multiplies the input column number `J` of a block, given as its three rows, by the columns of the kernel
/// that meet it.
///
/// # Safety
/// `weights` points at the kernel's columns; the CPU has the features of [`segment`].
#[inline(always)]
unsafe fn column<const J: usize, const STRIDE: usize, const DILATION: usize>(
    rows: [__m512i; 3],
    weights: *const f32,
    sums: &mut Sums,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let zero = _mm512_setzero_si512();
        let (low, high) = (_mm512_unpacklo_epi8(rows[0], rows[1]), _mm512_unpackhi_epi8(rows[0], rows[1]));
        let (low_2, high_2) = (_mm512_unpacklo_epi8(rows[2], zero), _mm512_unpackhi_epi8(rows[2], zero));
        let v = [
            _mm512_unpacklo_epi16(low, low_2),
            _mm512_unpackhi_epi16(low, low_2),
            _mm512_unpacklo_epi16(high, high_2),
            _mm512_unpackhi_epi16(high, high_2),
        ];
        for kx in 0..3 {
            if J >= kx * DILATION && (J - kx * DILATION).is_multiple_of(STRIDE) {
                let i = (J - kx * DILATION) / STRIDE;
                if i < PIXELS {
                    for (register, v) in v.into_iter().enumerate() {
                        let w = _mm512_loadu_si512(weights.add((kx * REGISTERS + register) * LANES).cast());
                        sums[i][register] = _mm512_dpbusd_epi32(sums[i][register], v, w);
                    }
                }
            }
        }
    }
}

/// Scales, adds the residual and rounds the sums of a pixel: bytes in the order of channels.
///
/// # Safety
/// `scales` points at those of the block, which its biases follow; the CPU has the features of [`segment`].
#[inline(always)]
unsafe fn bytes(
    sums: [__m512i; REGISTERS],
    scales: *const f32,
    residual: Option<__m512i>,
    residual_scale: f32,
) -> __m512i {
    // SAFETY: the caller's promise.
    unsafe {
        let zero = _mm512_setzero_si512();
        let mut integers = [zero; REGISTERS];
        for (register, integers) in integers.iter_mut().enumerate() {
            let scale = _mm512_loadu_ps(scales.add(register * LANES));
            let bias = _mm512_loadu_ps(scales.add((REGISTERS + register) * LANES));
            let mut v = _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sums[register]), scale), bias);
            if let Some(residual) = residual {
                let words = match register {
                    0 | 1 => _mm512_unpacklo_epi8(residual, zero),
                    _ => _mm512_unpackhi_epi8(residual, zero),
                };
                let lanes = match register % 2 {
                    0 => _mm512_unpacklo_epi16(words, zero),
                    _ => _mm512_unpackhi_epi16(words, zero),
                };
                let residual = _mm512_mul_ps(_mm512_cvtepi32_ps(lanes), _mm512_set1_ps(residual_scale));
                v = _mm512_add_ps(v, residual);
            }
            *integers = _mm512_cvtps_epi32(_mm512_min_ps(v, _mm512_set1_ps(255.0)));
        }
        let [a, b, c, d] = integers;
        // The first keeps what is below zero, the second makes zero of it.
        _mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d))
    }
}

/// The three rows of the input column number `j` of a block whose first one is at `origin`, of the channels
/// of `mask`. (A closure would be a function of its own, without the instruction set: each load a call.)
///
/// # Safety
/// The channels exist where `footprint` says that rows and columns do; the CPU has the features of
/// [`segment`].
#[inline(always)]
unsafe fn input_column(
    d: &Depthwise,
    footprint: &Footprint,
    origin: *const u8,
    j: usize,
    mask: u64,
) -> [__m512i; 3] {
    // SAFETY: the caller's promise.
    unsafe {
        let zero_point = _mm512_set1_epi8(d.zero.cast_signed());
        let mut rows = [zero_point; 3];
        for (ky, row) in rows.iter_mut().enumerate() {
            if footprint.rows.contains(&ky) && footprint.columns.contains(&j) {
                let p = origin.wrapping_add(ky * footprint.step).wrapping_add(j * d.ld_in);
                *row = _mm512_maskz_loadu_epi8(mask, p.cast());
                if d.input_relu {
                    *row = _mm512_max_epu8(*row, zero_point);
                }
            }
        }
        rows
    }
}

/// Computes [`PIXELS`] pixels from column `x` and stores the first `n`.
///
/// # Safety
/// `s` is valid for pixels `x..x + n` under the geometry `d`; the CPU has the features of [`segment`].
#[inline(always)]
unsafe fn block<const STRIDE: usize, const DILATION: usize>(
    d: &Depthwise,
    s: &Segment,
    footprint: &Footprint,
    x: usize,
    n: usize,
) {
    let pixel = x - s.x[0];
    // SAFETY: rows and columns are checked against the input; channels c..c + 64 that are masked off are not
    // accessed; the second copy of the weights has a block for each 64 channels, and tasks begin with whole
    // ones; the caller vouches for the pixels.
    unsafe {
        let least = _mm512_set1_epi8((*s.min as u8).cast_signed());
        let relu_floor = _mm512_set1_epi8((s.relu_floor as u8).cast_signed());
        let copy = s.weights.add(9 * s.ld_weights);
        let mut c = s.c[0];
        while c < s.c[1] {
            let channels = (s.c[1] - c).min(CHANNELS);
            let mask = u64::MAX >> (CHANNELS - channels);
            let weights = copy.add(c / CHANNELS * BLOCK);
            let image = s.image.wrapping_add(c);
            footprint.prefetch::<Avx512, u8>(d, image, PIXELS * STRIDE);
            let origin = image.wrapping_add(footprint.start);
            let mut first = [least; REGISTERS];
            for (register, first) in first.iter_mut().enumerate() {
                *first = _mm512_loadu_si512(weights.add((3 * REGISTERS + register) * LANES).cast());
            }
            let mut sums = [first; PIXELS];
            // At most nine columns; a loop would have to be unrolled for the sums to stay in registers.
            macro_rules! columns {
                ($($j:literal)*) => {
                    $(if ($j..).contains(&((PIXELS - 1) * STRIDE + 2 * DILATION)) {
                        let rows = input_column(d, footprint, origin, $j, mask);
                        column::<$j, STRIDE, DILATION>(rows, weights, &mut sums);
                    })*
                };
            }
            columns!(0 1 2 3 4 5 6 7 8);
            let scales = weights.add(4 * REGISTERS * LANES);
            for (i, sums) in sums.iter().enumerate() {
                // Not `take(n)`: the loop is to be unrolled.
                if i >= n {
                    break;
                }
                let residual = match s.residual.is_null() {
                    true => None,
                    false => {
                        let residual = s.residual.add((pixel + i) * s.ld_residual + c);
                        Some(_mm512_maskz_loadu_epi8(mask, residual.cast()))
                    }
                };
                let bytes = _mm512_max_epu8(bytes(*sums, scales, residual, s.residual_scale), least);
                if !s.out.is_null() {
                    _mm512_mask_storeu_epi8(s.out.add((pixel + i) * s.ld_out + c).cast(), mask, bytes);
                }
                if !s.relu_out.is_null() {
                    let out = s.relu_out.add((pixel + i) * s.ld_relu + c);
                    _mm512_mask_storeu_epi8(out.cast(), mask, _mm512_max_epu8(bytes, relu_floor));
                }
            }
            c += CHANNELS;
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
/// As [`depthwise::segment`]; the weights are followed by [`second_copy`]; the CPU has AVX-512F, BW, VL and
/// VNNI.
#[inline(always)]
pub(super) unsafe fn segment(d: &Depthwise, s: &Segment) {
    // SAFETY: the caller's promise.
    unsafe {
        match (d.window.kernel, d.window.stride[1], d.window.dilation[1]) {
            ([3, 3], 1, 1) => blocks::<1, 1>(d, s),
            ([3, 3], 2, 1) => blocks::<2, 1>(d, s),
            ([3, 3], 1, 2) => blocks::<1, 2>(d, s),
            _ => depthwise::segment::<Avx512, u8>(d, s),
        }
    }
}
