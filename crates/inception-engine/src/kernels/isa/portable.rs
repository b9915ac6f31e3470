//! No intrinsics: arrays that the compiler vectorises for the baseline of the target.

use super::Isa;
use crate::dtype::DType;
use crate::graph::integers::round_to_even;
use crate::kernels::depthwise;
use crate::kernels::simd::{Operand, Simd, Stored, methods, some_bytes};
use crate::kernels::table::{CostModel, Kernels, kernel_set};

/// Arrays of eight floats.
pub(crate) struct Portable;

// SAFETY: plain Rust, runs anywhere; the loads and stores touch exactly the floats that the trait allows.
unsafe impl Simd for Portable {
    type V = [f32; 8];
    const LANES: usize = 8;
    const PREFETCH_STEPS: usize = 0;
    const PREFETCH_ROWS: bool = false;

    methods! {
        splat(x: f32) -> Self::V = [x; 8];
        load(p: *const f32) -> Self::V = p.cast::<[f32; 8]>().read_unaligned();
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
    methods! {
        add(a: Self::V, b: Self::V) -> Self::V = std::array::from_fn(|i| a[i] + b[i]);
        sub(a: Self::V, b: Self::V) -> Self::V = std::array::from_fn(|i| a[i] - b[i]);
        mul(a: Self::V, b: Self::V) -> Self::V = std::array::from_fn(|i| a[i] * b[i]);
        // Two roundings: `f32::mul_add` would call a library function where the baseline lacks FMA.
        fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V = std::array::from_fn(|i| a[i] * b[i] + c[i]);
        max(a: Self::V, b: Self::V) -> Self::V =
            std::array::from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] });
        prefetch(_p: *const f32) = ();
    }
}

// SAFETY: plain Rust; the loads and stores touch exactly the elements that the trait allows.
unsafe impl Stored<Portable> for u8 {
    const DTYPE: DType = DType::U8;
    const QUANTIZED: bool = true;

    #[inline(always)]
    unsafe fn load_n(p: *const u8, n: usize) -> [f32; 8] {
        let mut v = [0.0; 8];
        for (i, x) in v.iter_mut().enumerate().take(n) {
            // SAFETY: i < n, and the caller vouches for n elements.
            *x = f32::from(unsafe { *p.add(i) });
        }
        v
    }
    #[inline(always)]
    unsafe fn store_n(p: *mut u8, v: [f32; 8], n: usize) {
        let rounded = v.map(|x| round_to_even(x.clamp(0.0, 255.0)) as u8);
        for (i, x) in rounded.iter().enumerate().take(n) {
            // SAFETY: i < n, and the caller vouches for n elements.
            unsafe { *p.add(i) = *x };
        }
    }
}

// SAFETY: as above.
unsafe impl Operand<Portable> for u8 {
    type Packed = [[u8; 4]; 8];
    type Weights = [[u8; 4]; 8];
    type Acc = [i32; 8];
    const PACK: usize = 4;

    methods! {
        weights(p: *const f32) -> [[u8; 4]; 8] = p.cast::<[[u8; 4]; 8]>().read_unaligned();
        splat(p: *const u8) -> [[u8; 4]; 8] = [p.cast::<[u8; 4]>().read_unaligned(); 8];
        splat_some(p: *const u8, n: usize) -> [[u8; 4]; 8] = [some_bytes(p, n).to_le_bytes(); 8];
        zero() -> [i32; 8] = [0; 8];
    }
    #[inline(always)]
    unsafe fn dot(a: [[u8; 4]; 8], b: [[u8; 4]; 8], acc: [i32; 8]) -> [i32; 8] {
        let product = |i: usize, j: usize| i32::from(a[i][j]) * i32::from(b[i][j].cast_signed());
        std::array::from_fn(|i| acc[i] + product(i, 0) + product(i, 1) + product(i, 2) + product(i, 3))
    }
    #[inline(always)]
    unsafe fn floats(acc: [i32; 8]) -> [f32; 8] {
        acc.map(|sum| sum as f32)
    }
}

/// The kernels; every CPU runs them.
pub(in crate::kernels) static KERNELS: Kernels = Kernels {
    isa: Isa::Portable,
    prefetch_steps: Portable::PREFETCH_STEPS,
    tile_rows: 2,
    panel: 32,
    narrow_panel: 16,
    costs: CostModel::L2_OF_1_MIB,
    unused: &[],
    sets: &[
        kernel_set! {
            simd: Portable,
            target: [],
            tile_rows: [1 2],
            activations: F32,
            features: [],
            conv: [f32 => f32],
            pool: [f32 => f32],
            depthwise: [f32: depthwise::segment::<Portable, f32>, None],
            winograd: [f32],
            elementwise: [f32],
            sum: [f32],
        },
        kernel_set! {
            simd: Portable,
            target: [],
            tile_rows: [1 2],
            bytes: u8,
            features: [],
            depthwise: depthwise::segment::<Portable, u8>, None,
        },
    ],
};
