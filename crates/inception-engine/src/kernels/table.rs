//! The table of kernels of an instruction set: data that each file of `isa` fills in.
//!
//! Kernels are keyed by the types that they read and write. A new element type is a [`KernelSet`] more in the
//! files of the instruction sets that have kernels for it.

use super::caches;
use super::conv::Tile;
use super::depthwise::{Depthwise, Segment};
use super::elementwise::{Elementwise, Sum};
use super::isa::Isa;
use super::pool::PoolParams;
use super::winograd::{InputTile, OutputTile, Transform};
use crate::dtype::DType;

/// See [`super::conv::panel`].
pub(crate) type ConvKernel = unsafe fn(&Tile);
/// A convolution micro-kernel, and the one for panels whose pairs of weights fit: the same where there is
/// none.
#[derive(Clone, Copy)]
pub(crate) struct ConvKernels {
    /// For any weights.
    pub any: ConvKernel,
    /// For weights that [`pairs_fit`](inception_graph::integers::pairs_fit) holds for.
    pub paired: ConvKernel,
}

/// See [`super::pool::pool`].
pub(crate) type PoolKernel =
    unsafe fn(&PoolParams, *const u8, usize, [usize; 2], *const f32, *const f32, *mut u8);
/// See [`super::winograd::input`].
pub(crate) type WinogradInputKernel = unsafe fn(Transform, &InputTile);
/// See [`super::winograd::output`].
pub(crate) type WinogradOutputKernel = unsafe fn(Transform, &OutputTile);
/// See [`super::elementwise::elementwise`].
pub(crate) type ElementwiseKernel = unsafe fn(&Elementwise, usize);
/// See [`super::elementwise::sum`].
pub(crate) type SumKernel = unsafe fn(&Sum);

/// Winograd's algorithm from bytes to bytes, in integers: the same bits as the direct one's.
#[derive(Clone, Copy)]
pub(crate) struct IntegerWinograd {
    /// Which one, of kernels of 3x3.
    pub transform: Transform,
    /// A multiple of `G` for both axes, in integers.
    pub weights: &'static [[f64; 3]],
    /// Transforms one tile to words, a multiple of eight channels of them.
    pub input: unsafe fn(&InputTile),
    /// Multiplies words by pairs of weights, with 32-bit sums in the place of floats.
    pub multiply: ConvKernel,
    /// Transforms one tile of sums back.
    pub output: unsafe fn(&OutputTile),
    /// Input channels whose sums fit 32 bits.
    pub most_channels: usize,
}

/// A kernel of depthwise convolutions.
#[derive(Clone, Copy)]
pub(crate) struct DepthwiseKernel {
    /// See [`super::depthwise::segment`].
    pub segment: unsafe fn(&Depthwise, &Segment),
    /// What the kernel reads after the weights in the order of channels, in an order of its own; `None` if it
    /// reads nothing else.
    pub second_copy: Option<fn(&DepthwiseLayer<'_>) -> Vec<f32>>,
}

/// A depthwise convolution's values, in the order of channels.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "read by kernels of AVX-512 only"))]
pub(crate) struct DepthwiseLayer<'a> {
    /// `[taps][ld]`
    pub weights: &'a [f32],
    /// Floats from one tap's weights to the next.
    pub ld: usize,
    /// Factor of each channel's sum where it is quantised.
    pub scale: &'a [f32],
    /// Added to each channel.
    pub bias: &'a [f32],
    /// The zero point of a quantised input.
    pub zero: u8,
}

/// A kernel with its key.
pub(crate) struct Row<K> {
    /// The type that it reads.
    pub input: DType,
    /// The type that it writes.
    pub output: DType,
    /// The kernel.
    pub kernel: K,
}

/// A feature of a CPU.
pub(crate) struct Feature {
    /// Whether this CPU has it.
    pub detected: fn() -> bool,
    /// The message for its absence, as the rest of a sentence.
    pub missing: &'static str,
}

/// The name of a CPU feature, and whether this CPU has it.
pub(crate) type UnusedFeature = (&'static str, fn() -> bool);

/// The kernels that one element type of activations needs beside those for `f32`, compiled for the same CPU
/// features.
///
/// The safety contract of each entry is that of the generic function behind it, plus: the CPU has the
/// features, which is so whenever [`Kernels::of`] gave the table for `activations`.
pub(crate) struct KernelSet {
    /// The type in which activations are stored.
    pub activations: DType,
    /// CPU features that the kernels need.
    pub features: &'static [Feature],
    /// Convolution micro-kernels.
    pub conv: &'static [Row<ConvKernel>],
    /// Faster ones for panels whose pairs of weights fit
    /// ([`pairs_fit`](inception_graph::integers::pairs_fit)), with the same results.
    pub paired_conv: &'static [Row<ConvKernel>],
    /// Winograd's algorithm on bytes, where it is faster than the direct one.
    pub integer_winograd: &'static [IntegerWinograd],
    /// Pools.
    pub pool: &'static [Row<PoolKernel>],
    /// Depthwise convolutions.
    pub depthwise: &'static [Row<DepthwiseKernel>],
    /// Winograd's input transforms, to `f32`.
    pub winograd_input: &'static [Row<WinogradInputKernel>],
    /// Winograd's output transforms, from `f32`.
    pub winograd_output: &'static [Row<WinogradOutputKernel>],
    /// Elementwise kernels.
    pub elementwise: &'static [Row<ElementwiseKernel>],
    /// Weighted sums of matrices.
    pub sum: &'static [Row<SumKernel>],
}

impl KernelSet {
    /// The message for the first feature that this CPU lacks, or `None` if it has all.
    pub fn missing(&self) -> Option<&'static str> {
        self.features.iter().find(|feature| !(feature.detected)()).map(|feature| feature.missing)
    }
}

/// The planner's model of a CPU. Costs are in multiply-adds of `f32` by the micro-kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CostModel {
    /// Bytes of a core's first-level cache for data where the system does not say, and the most that the
    /// model counts on.
    pub l1d_bytes: [usize; 2],
    /// Bytes of a core's second-level cache where the system does not say, and the most that the model counts
    /// on, since its constants were fitted with no more.
    pub l2_bytes: [usize; 2],
    /// Floats of transformed input and output that a block of Winograd tiles may hold: most of a second-level
    /// cache of 1 MiB. Not less where the cache is smaller: more reading of weights would cost more.
    pub winograd_block: usize,
    /// Winograd tiles that a block must have room for; with fewer, every few tiles would read all weights.
    pub winograd_tiles: usize,
    /// To move a float through a Winograd transform: a few vector operations and, mostly, the way to the
    /// second-level cache and back.
    pub transform_cost: f64,
    /// To load a weight from the third-level cache.
    pub weight_load_cost: f64,
    /// A multiply-add of a depthwise convolution.
    pub depthwise_cost: f64,
    /// To read or write a float of a matrix that Strassen's algorithm adds.
    pub strassen_add_cost: f64,
    /// Channels in and out from which Strassen's algorithm saves more multiplications than its additions
    /// cost.
    pub strassen_channels: usize,
    /// Pixels of an image from which a chunk of Strassen's algorithm has enough rows to be halved.
    pub strassen_pixels: usize,
    /// Row tiles of a chunk that Strassen's algorithm halves.
    pub strassen_tiles: usize,
    /// Whether Strassen's algorithm reads weights as seldom as it can: chunks may be so large that a quarter
    /// of the input fills half of the second-level cache, not half of it, and threads may share out columns
    /// in place of rows. (Results depend on how rows are cut, so that to change it changes the last bits.)
    pub strassen_spares_weights: bool,
}

impl CostModel {
    /// Bytes of the first- and second-level cache that the model assumes.
    pub fn assumed_caches(&self) -> [usize; 2] {
        let found = caches::sizes();
        let levels = [(self.l1d_bytes, found[0]), (self.l2_bytes, found[1])];
        levels.map(|([default, most], found)| found.unwrap_or(default).min(most))
    }

    /// Floats of weights that stay in the first-level cache while row tiles go by: half of it.
    pub fn l1d_floats(&self) -> usize {
        self.assumed_caches()[0] / 2 / size_of::<f32>()
    }

    /// Floats of the second-level cache that a task may count on for data that it goes over again and again:
    /// half of it.
    pub fn l2_floats(&self) -> usize {
        self.assumed_caches()[1] / 2 / size_of::<f32>()
    }

    /// Winograd's algorithm on so many tiles, for each position of a tile: products, transforms, and the
    /// reading of weights.
    pub fn winograd(&self, tiles: f64, channels: f64, out_channels: f64) -> f64 {
        (tiles + self.weight_load_cost) * channels * out_channels
            + tiles * self.transform_cost * (channels + out_channels)
    }

    /// What Strassen's algorithm adds for each pixel: four sums of inputs and two of products, of a quarter
    /// each.
    pub fn strassen_sums(&self, channels: f64, out_channels: f64) -> f64 {
        self.strassen_add_cost / 4.0 * (14.0 * channels + 6.0 * out_channels)
    }

    /// A CPU with 1 MiB of second-level cache for each core, as it was fitted to Zen 4 with `cargo xtask
    /// explain --measure`.
    pub const L2_OF_1_MIB: CostModel = CostModel {
        l1d_bytes: [32 << 10, 64 << 10],
        l2_bytes: [1 << 20; 2],
        winograd_block: 160 * 1024,
        winograd_tiles: 14,
        transform_cost: 10.0,
        weight_load_cost: 13.0,
        depthwise_cost: 2.5,
        strassen_add_cost: 4.0,
        strassen_channels: 512,
        strassen_pixels: 96,
        // Half of a 19x19 map: on two threads, Xception65 took 126 ms with 7, and 120 with 13.
        strassen_tiles: 13,
        strassen_spares_weights: false,
    };

    /// A CPU with AVX2: half the multiply-adds a second of AVX-512, beside the same caches, so that all that
    /// moves data costs half as many of them.
    pub const AVX2: CostModel = CostModel {
        l2_bytes: [512 << 10, 1 << 20],
        // Two row tiles.
        winograd_tiles: 12,
        transform_cost: 7.0,
        weight_load_cost: 6.5,
        strassen_add_cost: 2.5,
        // Half of a 19x19 map, as above.
        strassen_tiles: 30,
        // Each of two threads of Zen 3 (512 KiB) would otherwise read all weights twice in each layer of
        // Xception.
        strassen_spares_weights: true,
        ..CostModel::L2_OF_1_MIB
    };
}

/// All that there is for one instruction set.
#[derive(Clone, Copy)]
pub(crate) struct Kernels {
    /// The instruction set.
    pub isa: Isa,
    /// Channels that the micro-kernel multiplies for each cache line that it prefetches; see
    /// [`super::simd::Simd::PREFETCH_STEPS`].
    pub prefetch_steps: usize,
    /// Rows (output pixels) of a full tile of the micro-kernel.
    pub tile_rows: usize,
    /// Columns (output channels) of a panel of packed weights.
    pub panel: usize,
    /// Columns of the last panel of a convolution where they suffice.
    pub narrow_panel: usize,
    /// The planner's model of the CPU.
    pub costs: CostModel,
    /// CPU features that could speed up kernels but that none uses yet.
    pub unused: &'static [UnusedFeature],
    /// The kernels, by the type of activations that they are for; those for `f32` come first.
    pub sets: &'static [KernelSet],
}

impl Kernels {
    /// The sets that this CPU can run.
    fn usable(&self) -> impl Iterator<Item = &'static KernelSet> + use<> {
        self.sets.iter().filter(|set| set.missing().is_none())
    }

    /// The set for activations of `dtype`, one that this CPU can run if there is one.
    pub fn set(&self, dtype: DType) -> Option<&'static KernelSet> {
        self.usable().chain(self.sets).find(|set| set.activations == dtype)
    }

    /// The kernel from `input` to `output` among `rows` of each set. [`super::TABLES`] have one for all that
    /// plans ask for.
    fn find<K: Copy + 'static>(
        &self,
        rows: impl Fn(&KernelSet) -> &'static [Row<K>],
        input: DType,
        output: DType,
    ) -> K {
        // The tables are tested on CPUs that cannot run all of them.
        let mut rows = self.usable().chain(self.sets).flat_map(rows);
        match rows.find(|row| (row.input, row.output) == (input, output)) {
            Some(row) => row.kernel,
            None => unreachable!("{} has no kernel from {input:?} to {output:?}", self.isa),
        }
    }

    /// The convolution micro-kernels that read `input` and write `output`: that for any weights, and that for
    /// weights whose pairs fit.
    pub fn conv(&self, input: DType, output: DType) -> ConvKernels {
        let any = self.find(|set| set.conv, input, output);
        let paired = self.set(input).map_or(&[][..], |set| set.paired_conv);
        let paired = paired.iter().find(|row| (row.input, row.output) == (input, output));
        ConvKernels { any, paired: paired.map_or(any, |row| row.kernel) }
    }

    /// The pool that reads `input` and writes `output`.
    pub fn pool(&self, input: DType, output: DType) -> PoolKernel {
        self.find(|set| set.pool, input, output)
    }

    /// The depthwise convolution that reads `input` and writes `output`.
    pub fn depthwise(&self, input: DType, output: DType) -> DepthwiseKernel {
        self.find(|set| set.depthwise, input, output)
    }

    /// The transforms of Winograd's algorithm from activations of `input` to `f32`.
    pub fn winograd_input(&self, input: DType) -> WinogradInputKernel {
        self.find(|set| set.winograd_input, input, DType::F32)
    }

    /// The transforms of Winograd's algorithm from `f32` back to activations of `output`.
    pub fn winograd_output(&self, output: DType) -> WinogradOutputKernel {
        self.find(|set| set.winograd_output, DType::F32, output)
    }

    /// Winograd's algorithm on bytes, where it pays on this CPU.
    pub fn integer_winograd(&self) -> &'static [IntegerWinograd] {
        self.set(DType::U8).map_or(&[], |set| set.integer_winograd)
    }

    /// The elementwise kernel on activations of `dtype`.
    pub fn elementwise(&self, dtype: DType) -> ElementwiseKernel {
        self.find(|set| set.elementwise, dtype, dtype)
    }

    /// The weighted sum of matrices of `f32`.
    pub fn sum(&self) -> SumKernel {
        self.find(|set| set.sum, DType::F32, DType::F32)
    }
}

/// Names features, by the macro that detects them, with the messages for their absence.
#[allow(unused_macros)] // By architectures without intrinsics.
macro_rules! features {
    ($detected:ident: $($name:ident = $feature:tt, $missing:literal;)*) => {
        $(const $name: $crate::kernels::table::Feature =
            $crate::kernels::table::Feature { detected: || $detected!($feature), missing: $missing };)*
    };
}
#[allow(unused_imports)] // As above.
pub(super) use features;

/// A function that carries target features around a call of a generic kernel.
macro_rules! entry {
    ([$(#[$features:meta])*], ($($argument:ident: $type:ty),*) $call:expr) => {{
        $(#[$features])*
        unsafe fn entry($($argument: $type),*) {
            // SAFETY: the caller's promise, unchanged.
            unsafe { $call }
        }
        entry
    }};
}
pub(super) use entry;

/// A row of a table.
macro_rules! row {
    ($simd:ty, $input:ty => $output:ty, $kernel:expr) => {
        $crate::kernels::table::Row {
            input: <$input as $crate::kernels::simd::Stored<$simd>>::DTYPE,
            output: <$output as $crate::kernels::simd::Stored<$simd>>::DTYPE,
            kernel: $kernel,
        }
    };
}
pub(super) use row;

/// Compiles the kernels of a [`KernelSet`] in functions that carry the attribute `target`.
macro_rules! kernel_set {
    // All that there is for `u8`, under one of its names.
    (
        simd: $simd:ty,
        target: $target:tt,
        tile_rows: $tile_rows:tt,
        bytes: $bytes:ty,
        features: $features:tt,
        $(paired_conv: $paired_conv:tt,)?
        $(integer_winograd: $integer_winograd:expr,)?
        depthwise: $segment:expr, $second_copy:expr $(,)?
    ) => {
        kernel_set! {
            simd: $simd,
            target: $target,
            tile_rows: $tile_rows,
            activations: U8,
            features: $features,
            conv: [f32 => $bytes, $bytes => f32, $bytes => $bytes],
            $(paired_conv: $paired_conv,)?
            $(integer_winograd: $integer_winograd,)?
            pool: [$bytes => f32, $bytes => $bytes],
            depthwise: [$bytes: $segment, $second_copy],
            winograd: [],
            elementwise: [$bytes],
            sum: [],
        }
    };
    (
        simd: $simd:ty,
        target: $target:tt,
        tile_rows: $tile_rows:tt,
        activations: $activations:ident,
        features: [$($feature:expr),* $(,)?],
        conv: [$($conv_in:ty => $conv_out:ty),*],
        $(paired_conv: [$($paired_in:ty => $paired_out:ty),*],)?
        $(integer_winograd: $integer_winograd:expr,)?
        pool: [$($pool_in:ty => $pool_out:ty),*],
        depthwise: [$($depthwise:ty: $segment:expr, $second_copy:expr),*],
        winograd: [$($winograd:ty),*],
        elementwise: [$($elementwise:ty),*],
        sum: [$($sum:ty),*] $(,)?
    ) => {{
        use $crate::kernels::table::{DepthwiseKernel, IntegerWinograd, KernelSet, entry, row};
        #[allow(unused_imports)] // A set of integers has no transforms of floats.
        use $crate::kernels::{conv, elementwise, pool, winograd};
        KernelSet {
            activations: $crate::dtype::DType::$activations,
            features: &[$($feature),*],
            conv: &[$(row!($simd, $conv_in => $conv_out, entry!($target, (t: &conv::Tile)
                conv::by_rows!($simd, $conv_in, $conv_out, t, $tile_rows)))),*],
            paired_conv: &[$($(row!($simd, $paired_in => $paired_out, entry!($target, (t: &conv::Tile)
                conv::by_rows!($simd, $paired_in, $paired_out, t, $tile_rows)))),*)?],
            integer_winograd: { const NONE: &[IntegerWinograd] = &[]; [$($integer_winograd,)? NONE][0] },
            pool: &[$(row!($simd, $pool_in => $pool_out, entry!($target, (
                    params: &pool::PoolParams,
                    image: *const u8,
                    y: usize,
                    x: [usize; 2],
                    bias: *const f32,
                    min: *const f32,
                    out: *mut u8
                ) pool::pool::<$simd, $pool_in, $pool_out>(params, image, y, x, bias, min, out)))),*],
            depthwise: &[$(row!($simd, $depthwise => $depthwise, DepthwiseKernel {
                segment: entry!($target,
                    (d: &$crate::kernels::depthwise::Depthwise, s: &$crate::kernels::depthwise::Segment)
                    $segment(d, s)),
                second_copy: $second_copy,
            })),*],
            winograd_input: &[$(row!($simd, $winograd => f32,
                entry!($target, (transform: winograd::Transform, t: &winograd::InputTile)
                    winograd::input::<$simd, $winograd>(transform, t)))),*],
            winograd_output: &[$(row!($simd, f32 => $winograd,
                entry!($target, (transform: winograd::Transform, t: &winograd::OutputTile)
                    winograd::output::<$simd, $winograd>(transform, t)))),*],
            elementwise: &[$(row!($simd, $elementwise => $elementwise,
                entry!($target, (e: &elementwise::Elementwise, pixels: usize)
                    elementwise::elementwise::<$simd, $elementwise>(e, pixels)))),*],
            sum: &[$(row!($simd, $sum => $sum,
                entry!($target, (s: &elementwise::Sum) elementwise::sum::<$simd>(s)))),*],
        }
    }};
}
pub(super) use kernel_set;
