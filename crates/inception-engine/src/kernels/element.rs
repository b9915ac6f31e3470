//! How numbers lie in memory: `f32`, or `bf16`, its upper half, which keeps the range and 8 of the 24 bits.
//!
//! Kernels compute in vectors of `f32` whatever they read and write. The one exception is the convolution micro-kernel on
//! `bf16`: there an instruction multiplies two pairs and adds both products to an `f32`, twice as many as it does of `f32`.

use super::isa::Simd;
use half::bf16;

/// The type of a stored number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    /// Four bytes.
    F32,
    /// Two bytes.
    Bf16,
}

impl Element {
    /// Bytes.
    pub fn size(self) -> usize {
        match self {
            Element::F32 => size_of::<f32>(),
            Element::Bf16 => size_of::<bf16>(),
        }
    }

    /// Elements in the four bytes that the micro-kernel broadcasts: channels that it takes at a time.
    pub fn group(self) -> usize {
        size_of::<f32>() / self.size()
    }
}

/// A stored number that the vectors of `S` can be loaded from and stored to.
///
/// # Safety
/// As [`Simd`]: to be called where the instruction set is enabled, with `min(n, LANES)` elements at `p`.
pub(crate) unsafe trait Stored<S: Simd>: Copy {
    /// The first `n` elements at `p`, zeros in the other lanes.
    unsafe fn load_n(p: *const Self, n: usize) -> S::V;
    /// Writes the first `n` lanes, rounded to the nearest.
    unsafe fn store_n(p: *mut Self, v: S::V, n: usize);
}

// SAFETY: `Simd`'s own loads and stores.
unsafe impl<S: Simd> Stored<S> for f32 {
    #[inline(always)]
    unsafe fn load_n(p: *const f32, n: usize) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::load_n(p, n) }
    }
    #[inline(always)]
    unsafe fn store_n(p: *mut f32, v: S::V, n: usize) {
        // SAFETY: the caller's promise.
        unsafe { S::store_n(p, v, n) }
    }
}

/// A stored number that the micro-kernel can multiply: it takes [`Element::group`] channels at a time from four bytes of
/// a pixel, and as many from each four bytes of a row of packed weights.
///
/// # Safety
/// As [`Simd`]: to be called where the instruction set is enabled.
pub(crate) unsafe trait Operand<S: Simd>: Stored<S> {
    /// A vector of groups.
    type Groups: Copy;
    /// Channels of a group.
    const GROUP: usize;

    /// One group of packed weights for each lane.
    unsafe fn weights(p: *const f32) -> Self::Groups;
    /// The group of a pixel's channels at `p`, in every lane.
    unsafe fn splat(p: *const Self) -> Self::Groups;
    /// As `splat`, where only the group's first channel exists.
    unsafe fn splat_first(p: *const Self) -> Self::Groups;
    /// `acc + a * b`, summed over each group
    unsafe fn dot(a: Self::Groups, b: Self::Groups, acc: S::V) -> S::V;
}

// SAFETY: `Simd`'s own operations.
unsafe impl<S: Simd> Operand<S> for f32 {
    type Groups = S::V;
    const GROUP: usize = 1;

    #[inline(always)]
    unsafe fn weights(p: *const f32) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::load(p) }
    }
    #[inline(always)]
    unsafe fn splat(p: *const f32) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::splat(*p) }
    }
    #[inline(always)]
    unsafe fn splat_first(p: *const f32) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::splat(*p) }
    }
    #[inline(always)]
    unsafe fn dot(a: S::V, b: S::V, acc: S::V) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::fma(a, b, acc) }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Operand, Stored, bf16};
    use crate::kernels::isa::Avx512;
    use std::arch::x86_64::*;

    // SAFETY: each method touches exactly the elements that the traits allow; masked-off lanes are not accessed.
    unsafe impl Stored<Avx512> for bf16 {
        #[inline(always)]
        unsafe fn load_n(p: *const bf16, n: usize) -> __m512 {
            // SAFETY: AVX-512BW and VL, which a CPU with AVX512-BF16 has and `Precision::missing` asks for.
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
        type Groups = __m512bh;
        const GROUP: usize = 2;

        #[inline(always)]
        unsafe fn weights(p: *const f32) -> __m512bh {
            // SAFETY: AVX-512F, and sixteen groups at `p`. Both types are 512 bits of anything.
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
        unsafe fn splat_first(p: *const bf16) -> __m512bh {
            // SAFETY: AVX-512F, and one element at `p`; both types are 512 bits of anything.
            unsafe {
                let pair = i32::from((*p).to_bits().cast_signed()) & 0xffff;
                std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(pair))
            }
        }
        #[inline(always)]
        unsafe fn dot(a: __m512bh, b: __m512bh, acc: __m512) -> __m512 {
            // SAFETY: AVX512-BF16.
            unsafe { _mm512_dpbf16_ps(acc, a, b) }
        }
    }
}
