//! NEON (Advanced SIMD), which every aarch64 CPU has: thirty-two registers of four floats.

use std::arch::aarch64::*;
use std::arch::asm;
use std::arch::is_aarch64_feature_detected;

use super::Isa;
use super::portable::Portable;
use crate::dtype::DType;
use crate::kernels::depthwise;
use crate::kernels::simd::{Operand, Simd, Stored, also_bytes, methods, some_bytes};
use crate::kernels::table::{CostModel, Kernels, features, kernel_set};

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

/// An element type of which a register holds four steps of the micro-kernel, each a lane that an instruction
/// multiplies by.
trait ByLane: Operand<Neon> {
    /// Four steps of a pixel.
    type Pixels: Copy;

    /// Those at `p`.
    unsafe fn pixels(p: *const Self) -> Self::Pixels;
    /// See [`Operand::dot`], by step number `LANE`.
    unsafe fn dot_lane<const LANE: i32>(
        pixels: Self::Pixels,
        weights: Self::Weights,
        acc: Self::Acc,
    ) -> Self::Acc;
}

impl ByLane for f32 {
    type Pixels = float32x4_t;

    #[inline(always)]
    unsafe fn pixels(p: *const f32) -> float32x4_t {
        // SAFETY: NEON, and four floats at `p`.
        unsafe { vld1q_f32(p) }
    }
    #[inline(always)]
    unsafe fn dot_lane<const LANE: i32>(
        pixels: float32x4_t,
        weights: float32x4_t,
        acc: float32x4_t,
    ) -> float32x4_t {
        // SAFETY: NEON.
        unsafe { vfmaq_laneq_f32::<LANE>(acc, weights, pixels) }
    }
}

/// Multiplies step number `LANE` of the four in each register of `pixels` by `NZ` registers of weights.
///
/// One register of weights is loaded at a time: with twenty-four accumulators and six pixels two are left.
#[inline(always)]
unsafe fn multiply_step<I: ByLane, const MR: usize, const NZ: usize, const LANE: i32>(
    pixels: &[I::Pixels; MR],
    weights: *const f32,
    acc: &mut [[I::Acc; NZ]; MR],
) {
    for z in 0..NZ {
        // SAFETY: the caller vouches for NZ registers of weights.
        unsafe {
            let weights = I::weights(weights.add(4 * z));
            for (acc, pixel) in acc.iter_mut().zip(pixels) {
                acc[z] = I::dot_lane::<LANE>(*pixel, weights, acc[z]);
            }
        }
    }
}

/// Multiplies channels by four steps, which a register of each row holds: a multiply-add takes a lane of it,
/// where a broadcast from memory would be an instruction for each step. Returns how many channels it
/// multiplied; `width` is the distance from one step's weights to the next.
#[inline(always)]
unsafe fn multiply_fours<I: ByLane, const MR: usize, const NZ: usize>(
    rows: &[*const I; MR],
    k: usize,
    mut weights: *const f32,
    width: usize,
    acc: &mut [[I::Acc; NZ]; MR],
) -> usize {
    let mut done = 0;
    while done + 4 * I::PACK <= k {
        // SAFETY: four steps from channel `done` on exist in each row, and as many rows of weights.
        unsafe {
            let mut pixels = [I::pixels(rows[0].add(done)); MR];
            for (pixel, row) in pixels.iter_mut().zip(rows).skip(1) {
                *pixel = I::pixels(row.add(done));
            }
            multiply_step::<I, MR, NZ, 0>(&pixels, weights, acc);
            multiply_step::<I, MR, NZ, 1>(&pixels, weights.add(width), acc);
            multiply_step::<I, MR, NZ, 2>(&pixels, weights.add(2 * width), acc);
            multiply_step::<I, MR, NZ, 3>(&pixels, weights.add(3 * width), acc);
            weights = weights.add(4 * width);
        }
        done += 4 * I::PACK;
    }
    done
}

/// [`multiply_fours`] with a constant for the usual `width`, which becomes part of the loads: a block is
/// mostly as wide as its panel.
#[inline(always)]
unsafe fn multiply_panel<I: ByLane, const MR: usize, const NZ: usize>(
    rows: &[*const I; MR],
    k: usize,
    weights: *const f32,
    width: usize,
    acc: &mut [[I::Acc; NZ]; MR],
) -> usize {
    // SAFETY: the caller's promise.
    unsafe {
        if width == 4 * NZ {
            multiply_fours(rows, k, weights, 4 * NZ, acc)
        } else {
            multiply_fours(rows, k, weights, width, acc)
        }
    }
}

// SAFETY: loads and stores touch exactly the floats that the trait allows: masked-off lanes are not accessed,
// and a prefetch is a hint, which faults on no address.
unsafe impl Simd for Neon {
    type V = float32x4_t;
    const LANES: usize = 4;
    const PREFETCH_STEPS: usize = 0;
    const PREFETCH_ROWS: bool = false;
    const VECTORS: usize = 4;
    const WIDE_DEPTHWISE: bool = true;

    methods! {
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
    }

    #[inline(always)]
    unsafe fn multiply_channels<const MR: usize, const NZ: usize>(
        rows: &[*const f32; MR],
        k: usize,
        b: *const f32,
        width: usize,
        acc: &mut [[float32x4_t; NZ]; MR],
    ) -> usize {
        // SAFETY: the caller's promise.
        unsafe { multiply_panel(rows, k, b, width, acc) }
    }
}

// SAFETY: each method touches exactly the elements that the traits allow.
unsafe impl Stored<Neon> for u8 {
    const DTYPE: DType = DType::U8;
    const QUANTIZED: bool = true;

    #[inline(always)]
    unsafe fn load_n(p: *const u8, n: usize) -> float32x4_t {
        // SAFETY: NEON; `n` elements at `p`.
        unsafe {
            let words = vmovl_u8(vreinterpret_u8_s32(vdup_n_s32(some_bytes(p, n.min(4)))));
            vcvtq_f32_u32(vmovl_u16(vget_low_u16(words)))
        }
    }
    #[inline(always)]
    unsafe fn store_n(p: *mut u8, v: float32x4_t, n: usize) {
        // SAFETY: NEON; `n` elements at `p`.
        unsafe {
            // To the nearest, to even where two are as near; each conversion saturates.
            let words = vqmovn_u32(vcvtnq_u32_f32(v));
            let bytes = vreinterpret_u32_u8(vqmovn_u16(vcombine_u16(words, words)));
            let bytes = vget_lane_u32::<0>(bytes).to_le_bytes();
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), p, n.min(4));
        }
    }
}

/// Bytes of pixels that an instruction multiplies by signed ones of weights, sixteen of these by four of a
/// pixel. (The intrinsics are not stable yet.)
///
/// # Safety
/// As [`Simd`].
unsafe trait DotProduct: Stored<Neon> {
    /// What is taken away from each byte of a pixel, so that it is one of the instruction's: 0 or 128.
    const SHIFT: u8;

    /// `acc` and the products of each four bytes of `weights` by four bytes of `pixels`, those of lane
    /// `LANE`.
    unsafe fn dot<const LANE: i32>(pixels: int8x16_t, weights: int8x16_t, acc: int32x4_t) -> int32x4_t;
}

/// Implements [`DotProduct`] for another name of `u8` by an instruction.
macro_rules! dot_product {
    ($(#[$docs:meta])* $name:ident: $instruction:literal, shift: $shift:literal) => {
        also_bytes! { Neon: $(#[$docs])* $name }

        // SAFETY: arithmetic of registers.
        unsafe impl DotProduct for $name {
            const SHIFT: u8 = $shift;

            #[inline(always)]
            unsafe fn dot<const LANE: i32>(
                pixels: int8x16_t,
                weights: int8x16_t,
                mut acc: int32x4_t,
            ) -> int32x4_t {
                // SAFETY: registers only; the CPU has what the kernels' set asks for.
                unsafe {
                    asm!(
                        concat!($instruction, " {0:v}.4s, {1:v}.16b, {2:v}.4b[{3}]"),
                        inout(vreg) acc,
                        in(vreg) weights,
                        in(vreg) pixels,
                        const LANE,
                        options(pure, nomem, nostack, preserves_flags),
                    );
                }
                acc
            }
        }
    };
}

dot_product! {
    /// A `u8` that is multiplied as it is.
    Mixed: "sudot", shift: 0
}
dot_product! {
    /// A `u8` that is multiplied as a signed byte, less by 128. What that takes from the sums, 128 times the
    /// sum of the weights, is added again.
    Signed: "sdot", shift: 128
}

/// `bytes` of a pixel as the instruction takes them.
#[inline(always)]
unsafe fn shifted<I: DotProduct>(bytes: int8x16_t) -> int8x16_t {
    if I::SHIFT == 0 {
        return bytes;
    }
    let mut bytes = bytes;
    // The highest bit is the difference. The constant is made anew each time: kept in a register it would be
    // the one too many beside accumulators, pixels and weights.
    // SAFETY: registers only.
    unsafe {
        asm!(
            "movi {1:v}.16b, #128",
            "eor {0:v}.16b, {0:v}.16b, {1:v}.16b",
            inout(vreg) bytes,
            out(vreg) _,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    bytes
}

/// Adds a half of what shifting took from the products with `weights`.
#[inline(always)]
unsafe fn half_of_shift<I: DotProduct>(weights: int8x16_t, acc: int32x4_t) -> int32x4_t {
    // SAFETY: NEON.
    unsafe { I::dot::<0>(vdupq_n_s8((I::SHIFT / 2).cast_signed()), weights, acc) }
}

// SAFETY: each method touches exactly the elements that the traits allow.
unsafe impl<I: DotProduct> Operand<Neon> for I {
    type Packed = int8x16_t;
    type Weights = int8x16_t;
    type Acc = int32x4_t;
    const PACK: usize = 4;

    methods! {
        weights(p: *const f32) -> int8x16_t = vld1q_s8(p.cast());
        splat(p: *const I) -> int8x16_t = Self::splat_some(p, 4);
        splat_some(p: *const I, n: usize) -> int8x16_t =
            shifted::<I>(vreinterpretq_s8_s32(vdupq_n_s32(some_bytes(p.cast(), n))));
        zero() -> int32x4_t = vdupq_n_s32(0);
    }
    #[inline(always)]
    unsafe fn dot(a: int8x16_t, b: int8x16_t, acc: int32x4_t) -> int32x4_t {
        // SAFETY: the caller's promise.
        unsafe {
            let acc = <I as DotProduct>::dot::<0>(a, b, acc);
            if I::SHIFT == 0 { acc } else { half_of_shift::<I>(b, half_of_shift::<I>(b, acc)) }
        }
    }
    #[inline(always)]
    unsafe fn floats(acc: int32x4_t) -> float32x4_t {
        // SAFETY: NEON.
        unsafe { vcvtq_f32_s32(acc) }
    }
    #[inline(always)]
    unsafe fn multiply_channels<const MR: usize, const NZ: usize>(
        rows: &[*const I; MR],
        k: usize,
        b: *const f32,
        width: usize,
        acc: &mut [[int32x4_t; NZ]; MR],
    ) -> usize {
        // SAFETY: the caller's promise.
        unsafe {
            let done = multiply_panel(rows, k, b, width, acc);
            // In a loop of its own, since the one above fills all registers.
            if I::SHIFT != 0 {
                let mut halves = [Self::zero(); NZ];
                for step in 0..done / Self::PACK {
                    for (z, half) in halves.iter_mut().enumerate() {
                        *half = half_of_shift::<I>(Self::weights(b.add(step * width + 4 * z)), *half);
                    }
                }
                // Small, so that the compiler unrolls it: see `block`.
                for z in 0..NZ {
                    for acc in acc.iter_mut() {
                        acc[z] = vaddq_s32(acc[z], vshlq_n_s32::<1>(halves[z]));
                    }
                }
            }
            done
        }
    }
}

impl<I: DotProduct> ByLane for I {
    type Pixels = int8x16_t;

    #[inline(always)]
    unsafe fn pixels(p: *const I) -> int8x16_t {
        // SAFETY: NEON, and sixteen elements at `p`.
        unsafe { shifted::<I>(vld1q_s8(p.cast())) }
    }
    #[inline(always)]
    unsafe fn dot_lane<const LANE: i32>(pixels: int8x16_t, weights: int8x16_t, acc: int32x4_t) -> int32x4_t {
        // SAFETY: the caller's promise.
        unsafe { <I as DotProduct>::dot::<LANE>(pixels, weights, acc) }
    }
}

features! { is_aarch64_feature_detected:
    NEON = "neon", "needs a CPU with Advanced SIMD (neon)";
    I8MM = "i8mm", "needs dot products of unsigned and signed bytes (i8mm)";
    DOTPROD = "dotprod", "needs dot products of bytes (dotprod)";
}

/// The kernels; of those for `u8`, the first ones that the CPU can run.
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
    costs: CostModel { l2_bytes: [1 << 20; 2], ..CostModel::AVX2 },
    unused: &[
        ("fp16", || is_aarch64_feature_detected!("fp16")),
        ("bf16", || is_aarch64_feature_detected!("bf16")),
    ],
    sets: &[
        kernel_set! {
            simd: Neon,
            target: [#[target_feature(enable = "neon")]],
            tile_rows: [1 2 3 4 5 6],
            activations: F32,
            features: [NEON],
            conv: [f32 => f32],
            pool: [f32 => f32],
            depthwise: [f32: depthwise::segment::<Neon, f32>, None],
            winograd: [f32],
            elementwise: [f32],
            sum: [f32],
        },
        kernel_set! {
            simd: Neon,
            target: [#[target_feature(enable = "neon,i8mm")]],
            tile_rows: [1 2 3 4 5 6],
            bytes: Mixed,
            features: [NEON, I8MM],
            depthwise: depthwise::segment::<Neon, Mixed>, None,
        },
        kernel_set! {
            simd: Neon,
            target: [#[target_feature(enable = "neon,dotprod")]],
            tile_rows: [1 2 3 4 5 6],
            bytes: Signed,
            features: [NEON, DOTPROD],
            depthwise: depthwise::segment::<Neon, Signed>, None,
        },
        // The arrays that the compiler vectorises, where there are no dot products.
        kernel_set! {
            simd: Portable,
            target: [#[target_feature(enable = "neon")]],
            tile_rows: [1 2 3 4 5 6],
            bytes: u8,
            features: [NEON],
            depthwise: depthwise::segment::<Portable, u8>, None,
        },
    ],
};
