//! AVX-512F: thirty-two registers of sixteen floats, with masks.

use std::arch::x86_64::*;

use half::bf16;

use super::Isa;
use super::avx512_int8;
use super::avx512_vector::Avx512;
use crate::dtype::DType;
use crate::kernels::depthwise::{self, Depthwise, Footprint, PIXELS, Segment};
use crate::kernels::simd::{Operand, Simd, Stored, methods};
use crate::kernels::table::{CostModel, DepthwiseLayer, Kernels, features, kernel_set};

// SAFETY: each method touches exactly the elements that the traits allow; masked-off lanes are not accessed.
unsafe impl Stored<Avx512> for bf16 {
    const DTYPE: DType = DType::Bf16;

    #[inline(always)]
    unsafe fn load_n(p: *const bf16, n: usize) -> __m512 {
        // SAFETY: AVX-512BW and VL, which the kernels for `bf16` are compiled for.
        unsafe {
            let half = if n >= 16 {
                _mm256_loadu_si256(p.cast())
            } else {
                _mm256_maskz_loadu_epi16((1u16 << n) - 1, p.cast())
            };
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half)))
        }
    }
    #[inline(always)]
    unsafe fn store_n(p: *mut bf16, v: __m512, n: usize) {
        // SAFETY: AVX512-BF16, BW and VL. Both types are 256 bits of anything.
        unsafe {
            let half = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v));
            if n >= 16 {
                _mm256_storeu_si256(p.cast(), half);
            } else {
                _mm256_mask_storeu_epi16(p.cast(), (1u16 << n) - 1, half);
            }
        }
    }
}

// SAFETY: as above.
unsafe impl Operand<Avx512> for bf16 {
    type Packed = __m512bh;
    type Weights = __m512bh;
    type Acc = __m512;
    const PACK: usize = 2;

    #[inline(always)]
    unsafe fn weights(p: *const f32) -> __m512bh {
        // SAFETY: AVX-512F, and sixteen pairs at `p`. Both types are 512 bits of anything.
        unsafe { std::mem::transmute::<__m512i, __m512bh>(_mm512_loadu_si512(p.cast())) }
    }
    #[inline(always)]
    unsafe fn splat(p: *const bf16) -> __m512bh {
        // SAFETY: AVX-512F, and two elements at `p`.
        let pair = unsafe { p.cast::<i32>().read_unaligned() };
        // SAFETY: AVX-512F; both types are 512 bits of anything.
        unsafe { std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(pair)) }
    }
    #[inline(always)]
    unsafe fn splat_some(p: *const bf16, _n: usize) -> __m512bh {
        // SAFETY: AVX-512F, and one element at `p`; both types are 512 bits of anything.
        unsafe {
            let pair = i32::from((*p).to_bits().cast_signed()) & 0xffff;
            std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(pair))
        }
    }
    methods! {
        dot(a: __m512bh, b: __m512bh, acc: __m512) -> __m512 = _mm512_dpbf16_ps(acc, a, b);
        zero() -> __m512 = _mm512_setzero_ps();
        floats(acc: __m512) -> __m512 = acc;
    }
}

// Depthwise convolution of 3x3 on `bf16`, 32 channels at a time.
//
// A register of 32 `bf16` holds 16 pairs of channels. The first of each pair becomes an `f32` by a shift and
// the second by a mask, one instruction for 16 channels; taking channels in their order needs two. Weights
// are therefore packed a second time, with even channels before odd ones (see `DepthwiseWeights`). Sums are
// `f32`.

/// Channels of a register.
const CHANNELS: usize = 32;

/// Where a channel of a block of [`CHANNELS`] lies when even channels come before odd ones.
fn position(channel: usize) -> usize {
    channel / CHANNELS * CHANNELS + channel % 2 * (CHANNELS / 2) + channel % CHANNELS / 2
}

/// The weights in the order of [`position`].
fn second_copy(layer: &DepthwiseLayer<'_>) -> Vec<f32> {
    let mut copy = vec![0.0; layer.weights.len()];
    for (from, to) in layer.weights.chunks_exact(layer.ld).zip(copy.chunks_exact_mut(layer.ld)) {
        for (channel, weight) in from.iter().enumerate() {
            to[position(channel)] = *weight;
        }
    }
    copy
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
        // Word 2i is the i-th of the even ones, word 2i + 1 the i-th of the odd ones, which come 16 words
        // later.
        let pairs = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        let order =
            _mm512_or_si512(pairs, _mm512_slli_epi32::<16>(_mm512_add_epi32(pairs, _mm512_set1_epi32(16))));
        _mm512_permutexvar_epi16(order, bits)
    }
}

/// Computes [`PIXELS`] pixels from column `x` and stores the first `n`. Input columns outside the input are
/// zeros if `EDGE`, else there are none.
///
/// # Safety
/// `s` is valid for pixels `x..x + n` under the geometry `d`; the CPU has the features of [`segment`].
#[inline(always)]
unsafe fn block<const STRIDE: usize, const DILATION: usize, const RELU: bool, const EDGE: bool>(
    d: &Depthwise,
    s: &Segment,
    footprint: &Footprint,
    x: usize,
    n: usize,
) {
    let columns = (PIXELS - 1) * STRIDE + 2 * DILATION + 1;
    let pixel = x - s.x[0];
    let pairs = s.weights.wrapping_add(9 * s.ld_weights);
    let mut c = s.c[0];
    while c < s.c[1] {
        let channels = (s.c[1] - c).min(CHANNELS);
        // SAFETY: rows and, at the edges, columns are checked against the input; channels c..c + channels
        // exist; weights, bias and min are padded to whole blocks; the caller vouches for the pixels.
        unsafe {
            let zero = _mm512_setzero_si512();
            let image = s.image.cast::<bf16>().wrapping_add(c);
            footprint.prefetch::<Avx512, bf16>(d, image, PIXELS * STRIDE);
            let mut acc = [split(s.bias.add(c)); PIXELS];
            for ky in footprint.rows.clone() {
                let row = image.wrapping_add(footprint.start).wrapping_add(ky * footprint.step);
                let mut v = [halves(zero); 9];
                for (j, v) in v.iter_mut().enumerate().take(columns) {
                    if EDGE && !footprint.columns.contains(&j) {
                        continue;
                    }
                    let mut raw = load(row.wrapping_add(j * d.ld_in), channels);
                    if RELU {
                        // The order of bf16 above zero is that of integers, and below zero there are negative
                        // ones.
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
            let min = split(s.min.add(c));
            let mut bits = [zero; PIXELS];
            for (i, (bits, mut acc)) in bits.iter_mut().zip(acc).enumerate() {
                if !s.residual.is_null() && i < n {
                    let residual = s.residual.cast::<bf16>().add((pixel + i) * s.ld_residual + c);
                    for (acc, residual) in acc.iter_mut().zip(halves(load(residual, channels))) {
                        *acc = _mm512_add_ps(*acc, residual);
                    }
                }
                for (acc, min) in acc.iter_mut().zip(min) {
                    *acc = _mm512_max_ps(*acc, min);
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

/// The register blocks of a segment.
///
/// # Safety
/// As [`segment`]; `STRIDE` and `DILATION` are the horizontal ones of `d`.
#[inline(always)]
unsafe fn blocks<const STRIDE: usize, const DILATION: usize>(d: &Depthwise, s: &Segment) {
    let reach = (PIXELS - 1) * STRIDE + 2 * DILATION;
    for x in (s.x[0]..s.x[1]).step_by(PIXELS) {
        let n = (s.x[1] - x).min(PIXELS);
        let footprint = Footprint::new(d, s.y, x);
        let edge = !(footprint.columns.contains(&0) && footprint.columns.contains(&reach));
        // SAFETY: the caller's promise.
        unsafe {
            match (d.input_relu, edge) {
                (false, false) => block::<STRIDE, DILATION, false, false>(d, s, &footprint, x, n),
                (false, true) => block::<STRIDE, DILATION, false, true>(d, s, &footprint, x, n),
                (true, false) => block::<STRIDE, DILATION, true, false>(d, s, &footprint, x, n),
                (true, true) => block::<STRIDE, DILATION, true, true>(d, s, &footprint, x, n),
            }
        }
    }
}

/// One segment, all channels.
///
/// # Safety
/// As [`depthwise::segment`]; the weights are followed by those in the order of [`position`]; the CPU has
/// AVX-512F, BW, VL and BF16.
#[inline(always)]
unsafe fn segment(d: &Depthwise, s: &Segment) {
    // SAFETY: the caller's promise.
    unsafe {
        match (d.window.kernel, d.window.stride[1], d.window.dilation[1]) {
            ([3, 3], 1, 1) => blocks::<1, 1>(d, s),
            ([3, 3], 2, 1) => blocks::<2, 1>(d, s),
            ([3, 3], 1, 2) => blocks::<1, 2>(d, s),
            _ => depthwise::segment::<Avx512, bf16>(d, s),
        }
    }
}

features! { is_x86_feature_detected:
    AVX512F = "avx512f", "needs a CPU with AVX-512 (avx512f)";
    AVX512BW = "avx512bw", "needs AVX-512's byte and word instructions (avx512bw)";
    AVX512VL = "avx512vl", "needs AVX-512 for short vectors (avx512vl)";
    AVX512BF16 = "avx512bf16", "needs AVX-512's bf16 dot products (avx512bf16)";
    AVX512VNNI = "avx512vnni", "needs AVX-512's integer dot products (avx512vnni)";
}

/// The kernels; those for `bf16` need more of AVX-512 than those for `f32`.
pub(in crate::kernels) static KERNELS: Kernels = Kernels {
    isa: Isa::Avx512,
    prefetch_steps: Avx512::PREFETCH_STEPS,
    // Twenty-eight accumulators, two vectors of weights and one broadcast pixel fill thirty-one of thirty-two
    // registers.
    tile_rows: 14,
    panel: 32,
    narrow_panel: 16,
    costs: CostModel::L2_OF_1_MIB,
    unused: &[("avx512fp16", || is_x86_feature_detected!("avx512fp16"))],
    sets: &[
        kernel_set! {
            simd: Avx512,
            target: [#[target_feature(enable = "avx512f")]],
            tile_rows: [1 2 3 4 5 6 7 8 9 10 11 12 13 14],
            activations: F32,
            features: [AVX512F],
            conv: [f32 => f32],
            pool: [f32 => f32],
            depthwise: [f32: depthwise::segment::<Avx512, f32>, None],
            winograd: [f32],
            elementwise: [f32],
            sum: [f32],
        },
        // The ends of a network are `f32`: its first and last convolutions, and the pool before the last.
        kernel_set! {
            simd: Avx512,
            target: [#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]],
            tile_rows: [1 2 3 4 5 6 7 8 9 10 11 12 13 14],
            activations: Bf16,
            // All but the last are older; only a hypervisor could take them away.
            features: [AVX512F, AVX512BW, AVX512VL, AVX512BF16],
            conv: [f32 => bf16, bf16 => f32, bf16 => bf16],
            pool: [bf16 => f32, bf16 => bf16],
            depthwise: [bf16: segment, Some(second_copy)],
            winograd: [bf16],
            elementwise: [bf16],
            sum: [],
        },
        kernel_set! {
            simd: Avx512,
            target: [#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]],
            tile_rows: [1 2 3 4 5 6 7 8 9 10 11 12 13 14],
            bytes: u8,
            features: [AVX512F, AVX512BW, AVX512VL, AVX512VNNI],
            depthwise: avx512_int8::segment, Some(avx512_int8::second_copy),
        },
    ],
};
