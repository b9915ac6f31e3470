//! NEON (Advanced SIMD), which every aarch64 CPU has: thirty-two registers of four floats.

use std::arch::aarch64::*;
use std::arch::asm;
use std::arch::is_aarch64_feature_detected;

use super::Isa;
use super::portable::Portable;
use crate::kernels::depthwise;
use crate::kernels::simd::{Simd, implement_simd};
use crate::kernels::table::{CostModel, Kernels, kernel_set};

/// A vector of NEON.
pub(crate) struct Neon;

/// The first `n < 4` floats at `p`, zeros in the other lanes. There are no masks.
#[inline(always)]
unsafe fn load_some(p: *const f32, n: usize) -> float32x4_t {
    // SAFETY: the caller vouches for n floats; lanes from n on are not loaded.
    unsafe {
        let none = vdup_n_f32(0.0);
        match n {
            0 => vcombine_f32(none, none),
            1 => vcombine_f32(vld1_lane_f32::<0>(p, none), none),
            2 => vcombine_f32(vld1_f32(p), none),
            _ => vcombine_f32(vld1_f32(p), vld1_lane_f32::<0>(p.add(2), none)),
        }
    }
}

/// Writes the first `n < 4` lanes.
#[inline(always)]
unsafe fn store_some(p: *mut f32, v: float32x4_t, n: usize) {
    // SAFETY: the caller vouches for n floats; lanes from n on are not stored.
    unsafe {
        if n >= 2 {
            vst1_f32(p, vget_low_f32(v));
        }
        match n {
            1 => vst1q_lane_f32::<0>(p, v),
            3 => vst1q_lane_f32::<2>(p.add(2), v),
            _ => {}
        }
    }
}

/// Multiplies channel number `LANE` of the four in each register of `pixels` by `NZ` registers of weights.
///
/// One register of weights is loaded at a time: with twenty-four accumulators and six pixels two are left.
#[inline(always)]
unsafe fn multiply_channel<const MR: usize, const NZ: usize, const LANE: i32>(
    pixels: &[float32x4_t; MR],
    weights: *const f32,
    acc: &mut [[float32x4_t; NZ]; MR],
) {
    for z in 0..NZ {
        // SAFETY: the caller vouches for NZ registers of weights.
        unsafe {
            let weights = vld1q_f32(weights.add(4 * z));
            for (acc, pixel) in acc.iter_mut().zip(pixels) {
                acc[z] = vfmaq_laneq_f32::<LANE>(acc[z], weights, *pixel);
            }
        }
    }
}

/// Multiplies channels by fours, which a register of each row holds: a multiply-add takes a lane of it, where
/// a broadcast from memory would be an instruction for each channel. Returns how many it multiplied; `width`
/// is the distance from one channel's weights to the next.
#[inline(always)]
unsafe fn multiply_fours<const MR: usize, const NZ: usize>(
    rows: &[*const f32; MR],
    k: usize,
    mut weights: *const f32,
    width: usize,
    acc: &mut [[float32x4_t; NZ]; MR],
) -> usize {
    let mut done = 0;
    while done + 4 <= k {
        // SAFETY: channels done..done + 4 exist in each row, and as many rows of weights.
        unsafe {
            let mut pixels = [vdupq_n_f32(0.0); MR];
            for (pixel, row) in pixels.iter_mut().zip(rows) {
                *pixel = vld1q_f32(row.add(done));
            }
            multiply_channel::<MR, NZ, 0>(&pixels, weights, acc);
            multiply_channel::<MR, NZ, 1>(&pixels, weights.add(width), acc);
            multiply_channel::<MR, NZ, 2>(&pixels, weights.add(2 * width), acc);
            multiply_channel::<MR, NZ, 3>(&pixels, weights.add(3 * width), acc);
            weights = weights.add(4 * width);
        }
        done += 4;
    }
    done
}

implement_simd! {
    Neon: 4 lanes of float32x4_t, prefetch_steps: 0, prefetch_rows: false;
    splat(x: f32) -> float32x4_t = vdupq_n_f32(x);
    load(p: *const f32) -> float32x4_t = vld1q_f32(p);
    load_n(p: *const f32, n: usize) -> float32x4_t = if n >= 4 { vld1q_f32(p) } else { load_some(p, n) };
    store_n(p: *mut f32, v: float32x4_t, n: usize) =
        if n >= 4 { vst1q_f32(p, v) } else { store_some(p, v, n) };
    add(a: float32x4_t, b: float32x4_t) -> float32x4_t = vaddq_f32(a, b);
    sub(a: float32x4_t, b: float32x4_t) -> float32x4_t = vsubq_f32(a, b);
    mul(a: float32x4_t, b: float32x4_t) -> float32x4_t = vmulq_f32(a, b);
    fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t = vfmaq_f32(c, a, b);
    // Of a number and a NaN the number, as `f64::max` of the reference gives it.
    max(a: float32x4_t, b: float32x4_t) -> float32x4_t = vmaxnmq_f32(a, b);
    // The intrinsic is not stable yet.
    prefetch(p: *const f32) =
        asm!("prfm pldl2keep, [{}]", in(reg) p, options(nostack, preserves_flags, readonly));
    {
        const VECTORS: usize = 4;
        const WIDE_DEPTHWISE: bool = true;

        #[inline(always)]
        unsafe fn multiply_channels<const MR: usize, const NZ: usize>(
            rows: &[*const f32; MR],
            k: usize,
            b: *const f32,
            width: usize,
            acc: &mut [[float32x4_t; NZ]; MR],
        ) -> usize {
            // SAFETY: the caller's promise.
            unsafe {
                // A block is mostly as wide as its panel; a constant distance becomes part of the load.
                if width == 4 * NZ {
                    multiply_fours(rows, k, b, 4 * NZ, acc)
                } else {
                    multiply_fours(rows, k, b, width, acc)
                }
            }
        }
    }
}

/// The kernels.
pub(in crate::kernels) static KERNELS: Kernels = Kernels {
    isa: Isa::Neon,
    prefetch_steps: Neon::PREFETCH_STEPS,
    // Twenty-four accumulators, six registers of pixels and two of weights are all thirty-two registers.
    tile_rows: 6,
    panel: 16,
    narrow_panel: 8,
    // The tile is AVX2's, and a cycle has as many multiply-adds or half as many; Neoverse N1 and V1 have 1
    // MiB of second-level cache for each core. The costs have not been measured on a CPU of this
    // architecture.
    costs: CostModel { second_level: [1 << 20; 2], ..CostModel::AVX2 },
    unused: &[
        ("dotprod", || is_aarch64_feature_detected!("dotprod")),
        ("fp16", || is_aarch64_feature_detected!("fp16")),
        ("bf16", || is_aarch64_feature_detected!("bf16")),
        ("i8mm", || is_aarch64_feature_detected!("i8mm")),
    ],
    sets: &[
        kernel_set! {
            simd: Neon,
            target: [#[target_feature(enable = "neon")]],
            tile_rows: [1 2 3 4 5 6],
            activations: F32,
            features: [is_aarch64_feature_detected!("neon") => "needs a CPU with Advanced SIMD (neon)"],
            conv: [f32 => f32],
            pool: [f32 => f32],
            depthwise: [f32: depthwise::segment::<Neon, f32>, None],
            winograd: [f32],
            elementwise: [f32],
            sum: [f32],
        },
        // The arrays that the compiler vectorises: there are no intrinsics for `u8` here yet.
        kernel_set! {
            simd: Portable,
            target: [#[target_feature(enable = "neon")]],
            tile_rows: [1 2 3 4 5 6],
            activations: U8,
            features: [is_aarch64_feature_detected!("neon") => "needs a CPU with Advanced SIMD (neon)"],
            conv: [f32 => u8, u8 => f32, u8 => u8],
            pool: [u8 => f32, u8 => u8],
            depthwise: [u8: depthwise::segment::<Portable, u8>, None],
            winograd: [],
            elementwise: [u8],
            sum: [],
        },
    ],
};
