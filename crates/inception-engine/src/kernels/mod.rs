//! Kernels: written once over [`isa::Simd`], compiled for each instruction set, reached through a table of functions.
//!
//! A kernel knows nothing of graphs, threads or buffers. It gets pointers and extents from the executor (`run`), which
//! owns the promise that they are in bounds; that is why the entries are `unsafe fn`.
#![allow(unsafe_code)] // Vector loads and stores go through raw pointers; this is where they live.

pub(crate) mod conv;
pub(crate) mod depthwise;
#[cfg(target_arch = "x86_64")]
pub(crate) mod depthwise_bf16;
pub(crate) mod element;
pub(crate) mod isa;
pub(crate) mod pointwise;
pub(crate) mod winograd;

use conv::Tile;
use depthwise::{Depthwise, Segment};
use element::{Element, Stored};
use half::bf16;
use isa::{Isa, Simd};
use pointwise::{Elementwise, Sum, Window};
use winograd::{F23, F33By2, F43, F45, F47, F54, One, TileIn, TileOut};

use crate::Precision;

/// Declares the Winograd transforms: the enum that names them, their table, and the dispatch on them.
macro_rules! transforms {
    ($($(#[$doc:meta])* $variant:ident: $y:ident, $x:ident, $name:literal, $pace:literal;)*) => {
        /// A pair of one-dimensional Winograd schemes, vertical and horizontal.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Transform {
            $($(#[$doc])* $variant,)*
        }

        /// Every transform that the kernels have.
        pub(crate) const TRANSFORMS: &[TransformSpec] = &[$(spec::<$y, $x>(Transform::$variant, $name, $pace),)*];

        /// See [`winograd::input`].
        ///
        /// # Safety
        /// As that function.
        #[inline(always)]
        unsafe fn winograd_input<S: Simd, E: Stored<S>>(transform: Transform, t: &TileIn) {
            match transform {
                // SAFETY: the caller's promise, unchanged.
                $(Transform::$variant => unsafe { winograd::input::<S, E, $y, $x>(t) },)*
            }
        }

        /// See [`winograd::output`].
        ///
        /// # Safety
        /// As that function.
        #[inline(always)]
        unsafe fn winograd_output<S: Simd, E: Stored<S>>(transform: Transform, t: &TileOut) {
            match transform {
                // SAFETY: the caller's promise, unchanged.
                $(Transform::$variant => unsafe { winograd::output::<S, E, $y, $x>(t) },)*
            }
        }
    };
}

transforms! {
    /// Kernels of 3x3.
    F43xF43: F43, F43, "winograd F(4x4,3x3)", 1.0;
    /// Kernels of 3x3 on small maps: fewer weights.
    F23xF23: F23, F23, "winograd F(2x2,3x3)", 1.0;
    /// Kernels of 3x3 with a stride of 2.
    F33By2xF33By2: F33By2, F33By2, "winograd F(3x3,3x3) by 2", 1.1;
    /// Kernels of 4x4: what 7x7 with a stride of 2 is over the phases of the image.
    F54xF54: F54, F54, "winograd F(5x5,4x4)", 1.0;
    /// Kernels of 5x5.
    F45xF45: F45, F45, "winograd F(4x4,5x5)", 1.1;
    /// Kernels of 1x3.
    OnexF43: One, F43, "winograd F(4,3) along rows", 1.0;
    /// Kernels of 3x1.
    F43xOne: F43, One, "winograd F(4,3) along columns", 1.0;
    /// Kernels of 1x7.
    OnexF47: One, F47, "winograd F(4,7) along rows", 0.9;
    /// Kernels of 7x1.
    F47xOne: F47, One, "winograd F(4,7) along columns", 0.9;
}

/// What a transform costs and how its weights are made.
#[derive(Clone, Copy)]
pub(crate) struct TransformSpec {
    /// Which one.
    pub transform: Transform,
    /// Name for `explain`.
    pub name: &'static str,
    /// What the cost model leaves out: how many times as long as others it takes, as `cargo xtask explain --measure` finds.
    pub pace: f64,
    /// Outputs of a tile.
    pub outputs: [usize; 2],
    /// Kernel size.
    pub kernel: [usize; 2],
    /// Inputs from one output to the next.
    pub stride: [usize; 2],
    /// Multiplications along each axis.
    pub points: [usize; 2],
    /// The pairs of points of each axis.
    pub pairs: [&'static [f64]; 2],
}

const fn spec<Y: winograd::Scheme, X: winograd::Scheme>(
    transform: Transform,
    name: &'static str,
    pace: f64,
) -> TransformSpec {
    TransformSpec {
        transform,
        name,
        pace,
        outputs: [Y::M, X::M],
        kernel: [Y::R, X::R],
        stride: [Y::STRIDE, X::STRIDE],
        points: [Y::POINTS, X::POINTS],
        pairs: [Y::PAIRS, X::PAIRS],
    }
}

/// The kernels of one instruction set for one precision: the type in which activations are stored.
///
/// The safety contract of each entry is that of the generic function behind it, plus: the CPU has the instruction set,
/// which is so whenever the table came from [`Kernels::of`].
#[derive(Clone, Copy)]
pub(crate) struct Kernels {
    /// The instruction set.
    pub isa: Isa,
    /// Rows of pixels in a full convolution tile.
    pub rows: usize,
    /// See [`conv`]: from and to `f32` (0) or the activations' type (1).
    conv: [[unsafe fn(&Tile); 2]; 2],
    /// The type in which activations are stored.
    pub element: Element,
    /// See [`depthwise::segment`].
    pub depthwise: unsafe fn(&Depthwise, &Segment),
    /// See [`winograd::input`].
    pub winograd_input: unsafe fn(Transform, &TileIn),
    /// See [`winograd::output`].
    pub winograd_output: unsafe fn(Transform, &TileOut),
    /// See [`pointwise::pool`]: from activations to `f32` (0) or activations (1).
    pool: [PoolKernel; 2],
    /// See [`pointwise::elementwise`].
    pub elementwise: unsafe fn(&Elementwise, usize),
    /// See [`pointwise::sum`].
    pub sum: unsafe fn(&Sum),
}

/// A pool's entry.
pub(crate) type PoolKernel =
    unsafe fn(&Window, *const u8, usize, [usize; 2], *const f32, *const f32, *mut u8);

impl Kernels {
    /// The table of `isa` for `precision`, or `None` where this CPU cannot run it.
    pub fn of(isa: Isa, precision: Precision) -> Option<&'static Kernels> {
        let usable = isa.available() && precision.missing(isa).is_none();
        usable.then_some(match (isa, precision) {
            (Isa::Portable, _) => &portable::TABLE,
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx2, _) => &avx2::TABLE,
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512, Precision::F32) => &avx512::TABLE,
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512, Precision::Bf16) => &avx512_bf16::TABLE,
            #[cfg(not(target_arch = "x86_64"))]
            _ => &portable::TABLE,
        })
    }

    /// The convolution kernel that reads `input` and writes `output`: `f32`, or what activations are stored as.
    pub fn conv(&self, input: Element, output: Element) -> unsafe fn(&Tile) {
        self.conv[usize::from(input == self.element)][usize::from(output == self.element)]
    }

    /// The pool kernel that reads activations and writes `output`.
    pub fn pool(&self, output: Element) -> PoolKernel {
        self.pool[usize::from(output == self.element)]
    }
}

/// An entry to [`conv`] that carries target features.
macro_rules! conv {
    ($name:ident, $simd:ty, $input:ty, $output:ty, $(#[$features:meta])*, [$($row:literal)*]) => {
        $(#[$features])*
        pub(super) unsafe fn $name(t: &Tile) {
            conv::by_rows!($simd, $input, $output, t, $($row)*)
        }
    };
}

/// An entry to [`pointwise::pool`] that carries target features.
macro_rules! pool {
    ($name:ident, $simd:ty, $input:ty, $output:ty, $(#[$features:meta])*) => {
        $(#[$features])*
        pub(super) unsafe fn $name(
            w: &Window,
            image: *const u8,
            y: usize,
            x: [usize; 2],
            bias: *const f32,
            floor: *const f32,
            out: *mut u8,
        ) {
            // SAFETY: the caller's promise, unchanged.
            unsafe { pointwise::pool::<$simd, $input, $output>(w, image, y, x, bias, floor, out) }
        }
    };
}

/// Compiles every kernel for one instruction set and one type of activations, in functions that carry its target features.
/// `$conv` and `$pool` are the table's fields, with the entries made here as `conv` and `pool`.
macro_rules! table {
    (
        $module:ident, $isa:expr, $simd:ty, $stored:ty, $element:expr, $(#[$features:meta])*,
        rows $rows:literal $row_counts:tt, conv $conv:expr, pool $pool:expr, depthwise $depthwise:path
    ) => {
        mod $module {
            use super::*;

            // The safety contracts are those of the generic functions; see `Kernels`.
            conv!(conv, $simd, $stored, $stored, $(#[$features])*, $row_counts);
            pool!(pool, $simd, $stored, $stored, $(#[$features])*);

            $(#[$features])*
            unsafe fn depthwise(d: &Depthwise, s: &Segment) {
                // SAFETY: the caller's promise, unchanged.
                unsafe { $depthwise(d, s) }
            }
            $(#[$features])*
            unsafe fn winograd_input(transform: Transform, t: &TileIn) {
                // SAFETY: the caller's promise, unchanged.
                unsafe { super::winograd_input::<$simd, $stored>(transform, t) }
            }
            $(#[$features])*
            unsafe fn winograd_output(transform: Transform, t: &TileOut) {
                // SAFETY: the caller's promise, unchanged.
                unsafe { super::winograd_output::<$simd, $stored>(transform, t) }
            }
            $(#[$features])*
            unsafe fn elementwise(e: &Elementwise, pixels: usize) {
                // SAFETY: the caller's promise, unchanged.
                unsafe { pointwise::elementwise::<$simd, $stored>(e, pixels) }
            }
            $(#[$features])*
            unsafe fn sum(s: &Sum) {
                // SAFETY: the caller's promise, unchanged.
                unsafe { pointwise::sum::<$simd>(s) }
            }

            pub(super) static TABLE: Kernels = Kernels {
                isa: $isa,
                element: $element,
                rows: $rows,
                conv: $conv,
                depthwise,
                winograd_input,
                winograd_output,
                pool: $pool,
                elementwise,
                sum,
            };
        }
    };
}

// Row counts: accumulators, one panel row of weights and one broadcast fill the register file.
table!(portable, Isa::Portable, isa::Portable, f32, Element::F32, ,
    rows 2 [1 2], conv [[conv; 2]; 2], pool [pool; 2], depthwise depthwise::segment::<isa::Portable, f32>);
#[cfg(target_arch = "x86_64")]
table!(avx2, Isa::Avx2, isa::Avx2, f32, Element::F32, #[target_feature(enable = "avx2,fma")],
    rows 6 [1 2 3 4 5 6], conv [[conv; 2]; 2], pool [pool; 2], depthwise depthwise::segment::<isa::Avx2, f32>);
#[cfg(target_arch = "x86_64")]
table!(avx512, Isa::Avx512, isa::Avx512, f32, Element::F32, #[target_feature(enable = "avx512f")],
    rows 14 [1 2 3 4 5 6 7 8 9 10 11 12 13 14], conv [[conv; 2]; 2], pool [pool; 2],
    depthwise depthwise::segment::<isa::Avx512, f32>);
#[cfg(target_arch = "x86_64")]
table!(avx512_bf16, Isa::Avx512, isa::Avx512, bf16, Element::Bf16,
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")],
    rows 14 [1 2 3 4 5 6 7 8 9 10 11 12 13 14],
    conv [[avx512::conv, ends_bf16::first], [ends_bf16::last, conv]], pool [ends_bf16::pool, pool],
    depthwise depthwise_bf16::segment);

/// Where a network in `bf16` meets `f32`: its first and last convolutions, and the pool before the last.
#[cfg(target_arch = "x86_64")]
mod ends_bf16 {
    use super::*;

    conv!(first, isa::Avx512, f32, bf16,
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")],
        [1 2 3 4 5 6 7 8 9 10 11 12 13 14]);
    conv!(last, isa::Avx512, bf16, f32,
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")],
        [1 2 3 4 5 6 7 8 9 10 11 12 13 14]);
    pool!(pool, isa::Avx512, bf16, f32,
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]);
}
