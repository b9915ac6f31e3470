//! AVX2 with FMA: sixteen registers of eight floats.

use std::arch::asm;
use std::arch::x86_64::*;

use super::avx2_vector::Avx2;
use super::{Isa, avx2_depthwise, avx2_winograd};
use crate::dtype::DType;
use crate::kernels::depthwise;
use crate::kernels::simd::{Operand, Simd, Stored, also_bytes, methods, some_bytes};
use crate::kernels::table::{CostModel, Kernels, features, kernel_set};

// SAFETY: each method touches exactly the elements that the traits allow.
unsafe impl Stored<Avx2> for u8 {
    const DTYPE: DType = DType::U8;
    const QUANTIZED: bool = true;

    #[inline(always)]
    unsafe fn load_n(p: *const u8, n: usize) -> __m256 {
        // SAFETY: AVX2; `n` elements at `p`.
        unsafe {
            let bytes = if n >= 8 {
                _mm_loadl_epi64(p.cast())
            } else {
                let mut bytes = [0u8; 8];
                std::ptr::copy_nonoverlapping(p, bytes.as_mut_ptr(), n);
                _mm_loadl_epi64(bytes.as_ptr().cast())
            };
            _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes))
        }
    }
    #[inline(always)]
    unsafe fn store_n(p: *mut u8, v: __m256, n: usize) {
        // SAFETY: AVX2; `n` elements at `p`.
        unsafe {
            // The rounding is to the nearest, to even where two are as near: nobody changes that mode.
            let v = _mm256_cvtps_epi32(_mm256_min_ps(v, _mm256_set1_ps(255.0)));
            let words = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
            let bytes = _mm_packus_epi16(words, words);
            if n >= 8 {
                _mm_storel_epi64(p.cast(), bytes);
            } else {
                let mut all = [0u8; 8];
                _mm_storel_epi64(all.as_mut_ptr().cast(), bytes);
                std::ptr::copy_nonoverlapping(all.as_ptr(), p, n);
            }
        }
    }
}

// `vpmaddubsw`, which multiplies bytes, saturates sums of two products at 32767, and two can be 64770. So
// bytes become words first, the even and the odd ones of each four apart, and `vpmaddwd` sums their products
// in 32 bits. (`Paired` is for weights of which no two have such sums.)
//
// SAFETY: as above.
unsafe impl Operand<Avx2> for u8 {
    /// The even and the odd channels of each lane as words.
    type Packed = [__m256i; 2];
    type Weights = [__m256i; 2];
    type Acc = __m256i;
    const PACK: usize = 4;

    #[inline(always)]
    unsafe fn weights(p: *const f32) -> [__m256i; 2] {
        // SAFETY: AVX2, and eight times four weights at `p`.
        unsafe {
            let v = _mm256_loadu_si256(p.cast());
            [_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(v)), _mm256_srai_epi16::<8>(v)]
        }
    }
    methods! {
        splat(p: *const u8) -> [__m256i; 2] = words(p.cast::<i32>().read_unaligned());
        splat_some(p: *const u8, n: usize) -> [__m256i; 2] = words(some_bytes(p, n));
        zero() -> __m256i = _mm256_setzero_si256();
    }
    #[inline(always)]
    unsafe fn dot(a: [__m256i; 2], b: [__m256i; 2], acc: __m256i) -> __m256i {
        // SAFETY: AVX2.
        unsafe {
            let acc = _mm256_add_epi32(acc, _mm256_madd_epi16(a[0], b[0]));
            _mm256_add_epi32(acc, _mm256_madd_epi16(a[1], b[1]))
        }
    }
    #[inline(always)]
    unsafe fn floats(acc: __m256i) -> __m256 {
        // SAFETY: AVX2.
        unsafe { _mm256_cvtepi32_ps(acc) }
    }
}

/// Four bytes in every lane, the even and the odd ones as words.
#[inline(always)]
unsafe fn words(bytes: i32) -> [__m256i; 2] {
    // SAFETY: AVX2.
    unsafe {
        let v = _mm256_set1_epi32(bytes);
        [_mm256_and_si256(v, _mm256_set1_epi16(0xff)), _mm256_srli_epi16::<8>(v)]
    }
}

/// Another name of `u8` with a dot product of its own.
macro_rules! multiplied_bytes {
    ($(#[$docs:meta])* $name:ident: weights($p:ident) -> $weights:ty = $load:expr, $($dot:tt)*) => {
        also_bytes! { Avx2: $(#[$docs])* $name }

        // SAFETY: as above.
        unsafe impl Operand<Avx2> for $name {
            type Packed = __m256i;
            type Weights = $weights;
            type Acc = __m256i;
            const PACK: usize = 4;

            methods! {
                weights($p: *const f32) -> $weights = $load;
                splat(p: *const $name) -> __m256i = _mm256_set1_epi32(p.cast::<i32>().read_unaligned());
                splat_some(p: *const $name, n: usize) -> __m256i = _mm256_set1_epi32(some_bytes(p.cast(), n));
                zero() -> __m256i = _mm256_setzero_si256();
                floats(acc: __m256i) -> __m256 = _mm256_cvtepi32_ps(acc);
            }
            $($dot)*
        }
    };
}

multiplied_bytes! {
    /// A `u8` that AVX-VNNI multiplies: the same bits in the end.
    Vnni: weights(p) -> __m256i = _mm256_loadu_si256(p.cast()),
    #[inline(always)]
    unsafe fn dot(a: __m256i, b: __m256i, acc: __m256i) -> __m256i {
        // SAFETY: AVX-VNNI.
        unsafe { _mm256_dpbusd_avx_epi32(acc, a, b) }
    }
}
multiplied_bytes! {
    /// A `u8` that `vpmaddubsw` multiplies by weights of which no two saturate it
    /// ([`pairs_fit`](inception_graph::integers::pairs_fit)): the same bits in the end.
    ///
    /// Sums, a pixel, the pairs and the ones fill the registers, so that `vpmaddubsw` loads the weights. The
    /// compiler would load the ones: on Zen 3 a tile of 6x16 took 17.1 cycles for four channels that way, as
    /// `vpmaddwd` is slow with an operand in memory, and takes 12.5 this way.
    Paired: weights(p) -> *const f32 = p,
    // `asm!` knows no vectors outside of such a function, which is inlined into kernels of the same features.
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    unsafe fn dot(a: __m256i, b: *const f32, mut acc: __m256i) -> __m256i {
        // SAFETY: the caller's promise: eight times four weights at `b`.
        unsafe {
            asm!(
                "vpmaddubsw {pairs}, {a}, ymmword ptr [{b}]",
                "vpmaddwd {pairs}, {pairs}, {ones}",
                "vpaddd {acc}, {acc}, {pairs}",
                pairs = out(ymm_reg) _,
                a = in(ymm_reg) a,
                b = in(reg) b,
                ones = in(ymm_reg) _mm256_set1_epi16(1),
                acc = inout(ymm_reg) acc,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        acc
    }
}

features! { is_x86_feature_detected:
    AVX2 = "avx2", "needs a CPU with AVX2 (avx2)";
    FMA = "fma", "needs a CPU with fused multiply-adds (fma)";
    AVXVNNI = "avxvnni", "needs AVX2's integer dot products (avxvnni)";
}

/// The kernels; of those for `u8`, the first ones that the CPU can run.
pub(in crate::kernels) static KERNELS: Kernels = Kernels {
    isa: Isa::Avx2,
    prefetch_steps: Avx2::PREFETCH_STEPS,
    // Twelve accumulators, two vectors of weights and one broadcast pixel fill fifteen of sixteen registers.
    tile_rows: 6,
    panel: 16,
    narrow_panel: 8,
    costs: CostModel::AVX2,
    unused: &[],
    sets: &[
        kernel_set! {
            simd: Avx2,
            target: [#[target_feature(enable = "avx2,fma")]],
            tile_rows: [1 2 3 4 5 6],
            activations: F32,
            features: [AVX2, FMA],
            conv: [f32 => f32],
            pool: [f32 => f32],
            depthwise: [f32: depthwise::segment::<Avx2, f32>, None],
            winograd: [f32],
            elementwise: [f32],
            sum: [f32],
        },
        kernel_set! {
            simd: Avx2,
            target: [#[target_feature(enable = "avx2,fma,avxvnni")]],
            tile_rows: [1 2 3 4 5 6],
            bytes: Vnni,
            features: [AVX2, FMA, AVXVNNI],
            depthwise: avx2_depthwise::segment, Some(avx2_depthwise::second_copy),
        },
        kernel_set! {
            simd: Avx2,
            target: [#[target_feature(enable = "avx2,fma")]],
            tile_rows: [1 2 3 4 5 6],
            bytes: u8,
            features: [AVX2, FMA],
            paired_conv: [Paired => f32, Paired => Paired],
            integer_winograd: avx2_winograd::KERNELS,
            depthwise: avx2_depthwise::segment, Some(avx2_depthwise::second_copy),
        },
    ],
};
