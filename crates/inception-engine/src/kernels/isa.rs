//! The vector types that the kernels are written over, one per instruction set.
//!
//! Each kernel is written once, generic over [`Simd`], and compiled three times inside a function that carries the
//! matching `#[target_feature]` (see `kernels::table!`). All methods are `#[inline(always)]`: they only become vector
//! instructions once they are inlined into such a function.

use std::fmt;

/// The instruction set that a compiled model runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// No intrinsics: arrays that the compiler vectorises for the target's baseline.
    Portable,
    /// AVX2 with FMA: sixteen registers of eight floats.
    Avx2,
    /// AVX-512F: thirty-two registers of sixteen floats, with masks.
    Avx512,
}

impl Isa {
    /// All tiers, slowest first.
    pub const ALL: [Isa; 3] = [Isa::Portable, Isa::Avx2, Isa::Avx512];

    /// Whether this CPU can run the tier.
    pub fn available(self) -> bool {
        match self {
            Isa::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => is_x86_feature_detected!("avx512f"),
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// The fastest tier that this CPU has.
    pub fn best() -> Isa {
        *Isa::ALL.iter().rev().find(|isa| isa.available()).unwrap_or(&Isa::Portable)
    }

    /// The name that `INCEPTION_ISA` takes and `explain` prints.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }

    /// The tier called `name`, if there is one.
    pub fn from_name(name: &str) -> Option<Isa> {
        Isa::ALL.into_iter().find(|isa| isa.name().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A vector of `LANES` floats and the few operations that the kernels need.
///
/// # Safety
/// Every method may only be called (after inlining) from code compiled with the instruction set's target features, on a
/// CPU that has them. `load` needs `LANES` readable floats, the `_n` forms need `min(n, LANES)`.
pub(crate) unsafe trait Simd {
    /// The register.
    type V: Copy;
    /// Floats in a register.
    const LANES: usize;

    /// `LANES` copies of `x`.
    unsafe fn splat(x: f32) -> Self::V;
    /// The `LANES` floats at `p`, of any alignment.
    unsafe fn load(p: *const f32) -> Self::V;
    /// The first `n` floats at `p`, zeros in the other lanes.
    unsafe fn load_n(p: *const f32, n: usize) -> Self::V;
    /// Writes the first `n` lanes.
    unsafe fn store_n(p: *mut f32, v: Self::V, n: usize);
    /// `a + b`
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once where the hardware can
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The greater of each pair.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// Asks for the cache line at `p`, which may be any address.
    unsafe fn prefetch(p: *const f32);
}

/// Arrays of eight; the compiler turns them into the baseline's vectors.
pub(crate) struct Portable;

// SAFETY: plain Rust, runs anywhere; the loads and stores touch exactly the floats that the trait allows.
unsafe impl Simd for Portable {
    type V = [f32; 8];
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        [x; 8]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::V {
        // SAFETY: the caller vouches for eight floats; an unaligned read needs no more.
        unsafe { p.cast::<[f32; 8]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_n(p: *const f32, n: usize) -> Self::V {
        let mut v = [0.0; 8];
        for (i, x) in v.iter_mut().enumerate().take(n) {
            // SAFETY: i < n, and the caller vouches for n floats.
            *x = unsafe { *p.add(i) };
        }
        v
    }
    #[inline(always)]
    unsafe fn store_n(p: *mut f32, v: Self::V, n: usize) {
        for (i, x) in v.iter().enumerate().take(n) {
            // SAFETY: i < n, and the caller vouches for n floats.
            unsafe { *p.add(i) = *x };
        }
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // Two roundings: `f32::mul_add` would call a library function where the baseline lacks FMA.
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn prefetch(_: *const f32) {}
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Simd;
    use std::arch::x86_64::*;

    /// AVX2 with FMA.
    pub(crate) struct Avx2;

    /// The mask of `vmaskmov` whose first `n` lanes are on.
    #[inline(always)]
    unsafe fn mask(n: usize) -> __m256i {
        // SAFETY: register arithmetic; the caller's function has AVX2 (see the trait).
        unsafe { _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)) }
    }

    // SAFETY: each method is one intrinsic; loads and stores touch exactly the floats that the trait allows.
    unsafe impl Simd for Avx2 {
        type V = __m256;
        const LANES: usize = 8;

        #[inline(always)]
        unsafe fn splat(x: f32) -> __m256 {
            // SAFETY: the caller's function has AVX2 (see the trait).
            unsafe { _mm256_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> __m256 {
            // SAFETY: AVX2, and eight floats at `p`.
            unsafe { _mm256_loadu_ps(p) }
        }
        #[inline(always)]
        unsafe fn load_n(p: *const f32, n: usize) -> __m256 {
            // SAFETY: AVX2; masked-off lanes are not accessed.
            unsafe { if n >= 8 { _mm256_loadu_ps(p) } else { _mm256_maskload_ps(p, mask(n)) } }
        }
        #[inline(always)]
        unsafe fn store_n(p: *mut f32, v: __m256, n: usize) {
            // SAFETY: AVX2; masked-off lanes are not accessed. (The full store is kept apart: a masked one is microcode on AMD.)
            unsafe { if n >= 8 { _mm256_storeu_ps(p, v) } else { _mm256_maskstore_ps(p, mask(n), v) } }
        }
        #[inline(always)]
        unsafe fn add(a: __m256, b: __m256) -> __m256 {
            // SAFETY: AVX2.
            unsafe { _mm256_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: __m256, b: __m256) -> __m256 {
            // SAFETY: AVX2.
            unsafe { _mm256_sub_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: __m256, b: __m256) -> __m256 {
            // SAFETY: AVX2.
            unsafe { _mm256_mul_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
            // SAFETY: FMA.
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn max(a: __m256, b: __m256) -> __m256 {
            // SAFETY: AVX2.
            unsafe { _mm256_max_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn prefetch(p: *const f32) {
            // SAFETY: a hint, which faults on no address.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
        }
    }

    /// AVX-512F.
    pub(crate) struct Avx512;

    // SAFETY: each method is one intrinsic; loads and stores touch exactly the floats that the trait allows.
    unsafe impl Simd for Avx512 {
        type V = __m512;
        const LANES: usize = 16;

        #[inline(always)]
        unsafe fn splat(x: f32) -> __m512 {
            // SAFETY: the caller's function has AVX-512F (see the trait).
            unsafe { _mm512_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> __m512 {
            // SAFETY: AVX-512F, and sixteen floats at `p`.
            unsafe { _mm512_loadu_ps(p) }
        }
        #[inline(always)]
        unsafe fn load_n(p: *const f32, n: usize) -> __m512 {
            // SAFETY: AVX-512F; masked-off lanes are not accessed.
            unsafe { if n >= 16 { _mm512_loadu_ps(p) } else { _mm512_maskz_loadu_ps((1u16 << n) - 1, p) } }
        }
        #[inline(always)]
        unsafe fn store_n(p: *mut f32, v: __m512, n: usize) {
            // SAFETY: AVX-512F; masked-off lanes are not accessed.
            unsafe {
                if n >= 16 { _mm512_storeu_ps(p, v) } else { _mm512_mask_storeu_ps(p, (1u16 << n) - 1, v) }
            }
        }
        #[inline(always)]
        unsafe fn add(a: __m512, b: __m512) -> __m512 {
            // SAFETY: AVX-512F.
            unsafe { _mm512_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: __m512, b: __m512) -> __m512 {
            // SAFETY: AVX-512F.
            unsafe { _mm512_sub_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: __m512, b: __m512) -> __m512 {
            // SAFETY: AVX-512F.
            unsafe { _mm512_mul_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
            // SAFETY: AVX-512F.
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn max(a: __m512, b: __m512) -> __m512 {
            // SAFETY: AVX-512F.
            unsafe { _mm512_max_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn prefetch(p: *const f32) {
            // SAFETY: a hint, which faults on no address.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
        }
    }
}
