//! The traits that kernels are written over: a vector of floats, and the element types that it is loaded
//! from.
//!
//! Each kernel is written once, generic over [`Simd`], and compiled for each instruction set inside a
//! function that carries its `#[target_feature]` (see `kernels::table`). All methods are `#[inline(always)]`:
//! they only become vector instructions once they are inlined into such a function.
//!
//! Kernels compute in `f32` whatever they read and write. The exception is the convolution micro-kernel: on
//! `bf16` one instruction multiplies two pairs and adds both products to an `f32`, and on `u8` the products
//! of four bytes are added to an `i32`; see [`Operand`].
//!
//! Kernels on `u8` give the same bits on every instruction set. Their sums are of integers, exact in `i32`
//! or, where they are few, in `f32`; what follows is one multiplication and one addition that round on their
//! own, and one rounding to the nearest, to even where two are as near.

use crate::dtype::DType;

/// A vector of `LANES` floats and the few operations that the kernels need.
///
/// # Safety
/// Every method may only be called (after inlining) from code compiled with the instruction set's target
/// features, on a CPU that has them. `load` needs `LANES` readable floats, the `_n` forms need `min(n,
/// LANES)`.
pub(crate) unsafe trait Simd {
    /// The register.
    type V: Copy;
    /// Floats in a register.
    const LANES: usize;
    /// Channels that the micro-kernel multiplies for each cache line of later weights that it prefetches; 0
    /// if it prefetches none. With narrow vectors, a channel has too few multiply-adds to hide a prefetch.
    const PREFETCH_STEPS: usize;
    /// Whether the depthwise convolution prefetches the next row. With narrow vectors it has too few
    /// multiply-adds between two loads for it.
    const PREFETCH_ROWS: bool;
    /// Whether the depthwise convolution takes twice as many pixels and vectors of channels at a time while
    /// there are so many. Thirty-two registers have room for that, and a CPU with a small reorder buffer
    /// needs the sixteen sums: it adds up no other channels before these are done.
    const WIDE_DEPTHWISE: bool = false;
    /// Registers of weights by which the micro-kernel multiplies each row at a time, 2 or 4, while a panel
    /// has them.
    const VECTORS: usize = 2;

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
    /// Prefetches the cache line at `p`, which may be any address, into the second-level cache.
    unsafe fn prefetch(p: *const f32);

    /// Multiplies channels in a way of the instruction set's own: the first ones of the `k` channels of
    /// `rows` with the weights at `b`, of which those of one channel begin `width` floats after those of the
    /// one before. Returns how many it multiplied; the micro-kernel does the others one by one.
    #[inline(always)]
    unsafe fn multiply_channels<const MR: usize, const NZ: usize>(
        _rows: &[*const f32; MR],
        _k: usize,
        _b: *const f32,
        _width: usize,
        _acc: &mut [[Self::V; NZ]; MR],
    ) -> usize {
        0
    }
}

/// Methods of the traits here, each of one expression, an intrinsic for example.
macro_rules! methods {
    ($($name:ident($($argument:ident: $type:ty),*) $(-> $out:ty)? = $body:expr;)*) => {$(
        #[inline(always)]
        #[allow(unused_unsafe)] // Not all are intrinsics.
        unsafe fn $name($($argument: $type),*) $(-> $out)? {
            // SAFETY: the caller's function has the instruction set, and the elements exist (see the trait).
            unsafe { $body }
        }
    )*};
}
pub(super) use methods;

/// An element type that the vectors of `S` can be loaded from and stored to.
///
/// # Safety
/// As [`Simd`]: to be called where the instruction set is enabled, with `min(n, LANES)` elements at `p`.
pub(crate) unsafe trait Stored<S: Simd>: Copy {
    /// The same type as a value: the key of the kernel table.
    const DTYPE: DType;
    /// Whether the elements are integers that stand for numbers by a scale and a zero point. Kernels then
    /// apply the scales that their parameters hold, and never fuse a multiplication with an addition that
    /// rounds.
    const QUANTIZED: bool = false;

    /// The first `n` elements at `p`, zeros in the other lanes.
    unsafe fn load_n(p: *const Self, n: usize) -> S::V;
    /// Writes the first `n` lanes, rounded to the nearest and, as integers, kept in their range.
    unsafe fn store_n(p: *mut Self, v: S::V, n: usize);
}

// SAFETY: `Simd`'s own loads and stores.
unsafe impl<S: Simd> Stored<S> for f32 {
    const DTYPE: DType = DType::F32;

    methods! {
        load_n(p: *const f32, n: usize) -> S::V = S::load_n(p, n);
        store_n(p: *mut f32, v: S::V, n: usize) = S::store_n(p, v, n);
    }
}

/// Another name of `u8`, the same in memory, for another way to sum the products of four bytes a lane.
macro_rules! also_bytes {
    ($simd:ty: $(#[$docs:meta])* $name:ident) => {
        $(#[$docs])*
        #[derive(Clone, Copy)]
        #[repr(transparent)]
        struct $name(u8);

        // SAFETY: those of `u8`.
        unsafe impl $crate::kernels::simd::Stored<$simd> for $name {
            const DTYPE: $crate::dtype::DType = $crate::dtype::DType::U8;
            const QUANTIZED: bool = true;

            methods! {
                load_n(p: *const $name, n: usize) -> <$simd as $crate::kernels::simd::Simd>::V =
                    <u8 as $crate::kernels::simd::Stored<$simd>>::load_n(p.cast(), n);
                store_n(p: *mut $name, v: <$simd as $crate::kernels::simd::Simd>::V, n: usize) =
                    <u8 as $crate::kernels::simd::Stored<$simd>>::store_n(p.cast(), v, n);
            }
        }
    };
}
#[allow(unused_imports)] // By architectures without intrinsics.
pub(super) use also_bytes;

/// An element type that the micro-kernel can multiply: one step takes the [`DType::pack`] channels in four
/// bytes of a pixel, and as many weights from each four bytes of a row of a panel.
///
/// # Safety
/// As [`Simd`]: to be called where the instruction set is enabled.
pub(crate) unsafe trait Operand<S: Simd>: Stored<S> {
    /// A vector with `PACK` channels of a pixel in each lane.
    type Packed: Copy;
    /// A vector with `PACK` weights in each lane, or where it lies, if it is better loaded each time.
    type Weights: Copy;
    /// A vector of sums.
    type Acc: Copy;
    /// Channels in a lane: [`DType::pack`].
    const PACK: usize;

    /// `PACK` weights for each lane.
    unsafe fn weights(p: *const f32) -> Self::Weights;
    /// The `PACK` channels of a pixel at `p`, in every lane.
    unsafe fn splat(p: *const Self) -> Self::Packed;
    /// As `splat`, where only the first `n` channels exist, fewer than `PACK`; the others are zero.
    unsafe fn splat_some(p: *const Self, n: usize) -> Self::Packed;
    /// Sums of nothing.
    unsafe fn zero() -> Self::Acc;
    /// `acc + a * b`, summed over the channels of each lane; `a` is of pixels, `b` of weights.
    unsafe fn dot(a: Self::Packed, b: Self::Weights, acc: Self::Acc) -> Self::Acc;
    /// The sums as floats.
    unsafe fn floats(acc: Self::Acc) -> S::V;

    /// See [`Simd::multiply_channels`].
    #[inline(always)]
    unsafe fn multiply_channels<const MR: usize, const NZ: usize>(
        _rows: &[*const Self; MR],
        _k: usize,
        _b: *const f32,
        _width: usize,
        _acc: &mut [[Self::Acc; NZ]; MR],
    ) -> usize {
        0
    }
}

// SAFETY: `Simd`'s own operations.
unsafe impl<S: Simd> Operand<S> for f32 {
    type Packed = S::V;
    type Weights = S::V;
    type Acc = S::V;
    const PACK: usize = 1;

    methods! {
        weights(p: *const f32) -> S::V = S::load(p);
        splat(p: *const f32) -> S::V = S::splat(*p);
        splat_some(p: *const f32, _n: usize) -> S::V = S::splat(*p);
        zero() -> S::V = S::splat(0.0);
        dot(a: S::V, b: S::V, acc: S::V) -> S::V = S::fma(a, b, acc);
        floats(acc: S::V) -> S::V = acc;
    }
    #[inline(always)]
    unsafe fn multiply_channels<const MR: usize, const NZ: usize>(
        rows: &[*const f32; MR],
        k: usize,
        b: *const f32,
        width: usize,
        acc: &mut [[S::V; NZ]; MR],
    ) -> usize {
        // SAFETY: the caller's promise.
        unsafe { S::multiply_channels(rows, k, b, width, acc) }
    }
}

/// The first `n` of the four bytes at `p` as the low ones of an integer.
///
/// # Safety
/// `n` bytes at `p`, at most four.
#[inline(always)]
pub(super) unsafe fn some_bytes(p: *const u8, n: usize) -> i32 {
    let mut bytes = [0; 4];
    // SAFETY: the caller's promise.
    unsafe { std::ptr::copy_nonoverlapping(p, bytes.as_mut_ptr(), n) };
    i32::from_le_bytes(bytes)
}
