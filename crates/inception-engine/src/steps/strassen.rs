//! One level of Strassen's algorithm, in Winograd's form, for large pointwise convolutions: seven products of
//! half the size along each axis instead of eight.
//!
//! The sums of weights are packed ahead. The sums of inputs are made one at a time, and the micro-kernel's
//! epilogue adds the products up in two temporaries of a quarter of the output each, so that all but the
//! weights stays in the second-level cache.

use std::ops::Range;

use super::panels::{Panels, Visit};
use super::step::{Epilogue, EvenTiles};
use crate::dtype::{DType, LINE};
use crate::kernels::Kernels;
use crate::kernels::conv::{MAX_TILE_ROWS, Tile};
use crate::kernels::elementwise::{Elementwise, Sum};

/// The weights `b` of a matrix product `c = a b` by seven products. All three are cut in halves along both
/// axes:
///
/// ```text
/// s1 = a21 + a22    t1 = b12 - b11    p1 = a11 b11    p5 = s1 t1    u2 = p1 + p6    c11 = p1 + p2
/// s2 = s1 - a11     t2 = b22 - t1     p2 = a12 b21    p6 = s2 t2    u3 = u2 + p7    c12 = u4 + p3
/// s3 = a11 - a21    t3 = b22 - b12    p3 = s4 b22     p7 = s3 t3    u4 = u2 + p5    c21 = u3 - p4
/// s4 = a12 - s2     t4 = t2 - b21     p4 = a22 t4                                   c22 = u3 + p5
/// ```
pub(crate) struct Strassen {
    /// `b11`, `b21`, `t2`, `t3`, `-t4`, `t1`, `b22`, in the order of use.
    weights: [Panels; 7],
    /// Half of the channels in.
    depth: usize,
    /// Half of the channels out.
    width: usize,
    /// Neither bias nor lower bound, for the temporaries.
    identity: Epilogue,
}

/// The matrix that a product reads: a quarter of the input, or a sum of quarters in scratch memory.
#[derive(Clone, Copy)]
struct Matrix {
    start: *const f32,
    ld: usize,
}

impl Strassen {
    /// Packs `weight`, `[out][in]`, both extents even.
    pub fn new(kernels: &Kernels, weight: &[f32], channels: usize, out_channels: usize) -> Self {
        let (depth, width) = (channels / 2, out_channels / 2);
        let b = |row: usize, column: usize, k: usize, o: usize| {
            f64::from(weight[(column * width + o) * channels + row * depth + k])
        };
        let t1 = |k, o| b(0, 1, k, o) - b(0, 0, k, o);
        let t2 = |k, o| b(1, 1, k, o) - t1(k, o);
        let pack = |f: &(dyn Fn(usize, usize) -> f64 + Sync)| {
            Panels::pack(kernels, depth, width, |o| (0..depth).map(move |k| f(k, o) as f32))
        };
        let weights = [
            pack(&|k, o| b(0, 0, k, o)),
            pack(&|k, o| b(1, 0, k, o)),
            pack(&t2),
            pack(&|k, o| b(1, 1, k, o) - b(0, 1, k, o)),
            pack(&|k, o| b(1, 0, k, o) - t2(k, o)),
            pack(&t1),
            pack(&|k, o| b(1, 1, k, o)),
        ];
        Strassen { weights, depth, width, identity: Epilogue::new(&[], width, false) }
    }

    /// Channels out.
    pub fn out_channels(&self) -> usize {
        2 * self.width
    }

    /// Floats from one row of a sum, and of a temporary, to the next.
    fn strides(&self) -> [usize; 2] {
        [self.depth, self.width].map(|columns| columns.next_multiple_of(LINE))
    }

    /// Floats of scratch memory for `rows` rows: the sum of inputs and two temporaries.
    pub fn scratch(&self, rows: usize) -> usize {
        let [ld_sum, ld_temporary] = self.strides();
        rows.div_ceil(2) * (ld_sum.max(ld_temporary) + 2 * ld_temporary)
    }

    /// Panels of each product.
    pub fn panels(&self) -> usize {
        self.weights[0].count()
    }

    /// The columns of the output that the panels `panels` of the products give, a range in each half.
    pub fn columns(&self, panels: &Range<usize>) -> [Range<usize>; 2] {
        let [first, end] =
            [panels.start, panels.end].map(|panel| (panel * self.weights[0].width).min(self.width));
        [first..end, self.width + first..self.width + end]
    }

    /// Multiplies `rows` rows at `input` by the panels `panels` of each product, and writes the columns that
    /// they give, with `epilogue`, at `out`; input and output come with the floats from one of their rows to
    /// the next.
    ///
    /// # Safety
    /// `input` holds `rows` rows of twice `depth` floats; `out` has room for `rows` rows, and no one else
    /// reads or writes these columns of them; `scratch` holds `self.scratch(rows)` floats. `rows` is at least
    /// 2.
    #[allow(clippy::too_many_arguments)] // Three matrices and what part of them.
    pub unsafe fn multiply(
        &self,
        kernels: &Kernels,
        (input, ld): (*const f32, usize),
        rows: usize,
        panels: Range<usize>,
        epilogue: &Epilogue,
        (out, ld_out): (*mut f32, usize),
        scratch: *mut f32,
    ) {
        // The halves of an odd number of rows overlap by one row, which is computed twice, by the same
        // thread.
        let half = rows.div_ceil(2);
        let (below, right) = ((rows - half) * ld, self.depth);
        let quarter = |offset: usize| Matrix { start: input.wrapping_add(offset), ld };
        let [a11, a12, a21, a22] = [0, right, below, below + right].map(quarter);
        let [c11, c12, c21, c22] = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(row, column)| {
            (out.wrapping_add(row * (rows - half) * ld_out + column * self.width), column * self.width)
        });
        let [ld_sum, ld_temporary] = self.strides();
        let x = scratch.wrapping_add(half * ld_sum.max(ld_temporary));
        let y = x.wrapping_add(half * ld_temporary);
        let null = std::ptr::null_mut();
        let temporary = |temporary, plus| Target { out: None, temporary, plus };
        let store = |out, plus| Target { out: Some(out), temporary: null, plus };
        let products = Products { strassen: self, kernels, half, panels, epilogue, ld_out };
        // SAFETY: the caller's promise for input and output; the sum, `x` and `y` lie in scratch memory one
        // after the other, each with room for `half` rows.
        unsafe {
            let sum = |terms| products.sum(terms, scratch);
            // x = p1
            products.multiply(a11, 0, temporary(x, null));
            // c11 = p2 + p1
            products.multiply(a12, 1, store(c11, x));
            // x = u2: p6 + p1
            let s2 = sum([(a21, 1.0), (a22, 1.0), (a11, -1.0), (a11, 0.0)]);
            products.multiply(s2, 2, temporary(x, x));
            // y = p7
            let s3 = sum([(a11, 1.0), (a21, -1.0), (a11, 0.0), (a11, 0.0)]);
            products.multiply(s3, 3, temporary(y, null));
            // u3 = u2 + p7, where the sums are made, and c21 = u3 - p4
            products.add(x, y, (scratch, ld_temporary), None);
            products.multiply(a22, 4, store(c21, scratch));
            // x = u4: p5 + u2
            let s1 = sum([(a21, 1.0), (a22, 1.0), (a11, 0.0), (a11, 0.0)]);
            products.multiply(s1, 5, temporary(x, x));
            // c22 = u4 + p7, which is u3 + p5. Two quarters need p5, so this one gets it in a pass of its
            // own.
            products.add(x, y, (c22.0, ld_out), Some(c22.1));
            // c12 = p3 + u4
            let s4 = sum([(a12, 1.0), (a11, 1.0), (a21, -1.0), (a22, -1.0)]);
            products.multiply(s4, 6, store(c12, x));
        }
    }
}

/// The destination of a product.
#[derive(Clone, Copy)]
struct Target {
    /// A quarter of the output, and its first column.
    out: Option<(*mut f32, usize)>,
    /// The temporary that it goes to where it is not a quarter of the output.
    temporary: *mut f32,
    /// A temporary that is added, or null.
    plus: *mut f32,
}

/// The parameters of the products and sums of one multiplication.
struct Products<'a> {
    strassen: &'a Strassen,
    kernels: &'a Kernels,
    /// Rows of a quarter.
    half: usize,
    /// The panels of each product that are wanted.
    panels: Range<usize>,
    /// The epilogue of the output.
    epilogue: &'a Epilogue,
    /// Floats from one row of the output to the next.
    ld_out: usize,
}

impl Products<'_> {
    /// Writes the sum of `terms`, quarters of the input with their factors, at `out`.
    ///
    /// # Safety
    /// The terms are quarters of one input, and `out` has room for `half` rows of a sum.
    unsafe fn sum(&self, terms: [(Matrix, f32); 4], out: *mut f32) -> Matrix {
        let [ld_sum, _] = self.strassen.strides();
        let sum = Sum {
            rows: self.half,
            columns: self.strassen.depth,
            terms: terms.map(|(term, factor)| (term.start, factor)),
            ld: terms[0].0.ld,
            out,
            ld_out: ld_sum,
        };
        // SAFETY: the caller's promise.
        unsafe { self.kernels.sum()(&sum) };
        Matrix { start: out, ld: ld_sum }
    }

    /// Writes the wanted columns of the sum of temporaries `x` and `y` at `out`, with the epilogue from
    /// column `first` of the output on, if there is one.
    ///
    /// # Safety
    /// All three have `half` rows of `width` floats.
    unsafe fn add(
        &self,
        x: *const f32,
        y: *const f32,
        (out, ld_out): (*mut f32, usize),
        first: Option<usize>,
    ) {
        let [_, ld_temporary] = self.strassen.strides();
        let [columns, _] = self.strassen.columns(&self.panels);
        let bias = |first: usize| self.epilogue.bias.as_ptr().wrapping_add(first + columns.start);
        let e = Elementwise {
            channels: columns.len(),
            a: x.wrapping_add(columns.start).cast(),
            b: y.wrapping_add(columns.start).cast(),
            out: out.wrapping_add(columns.start).cast(),
            ld: [ld_temporary, ld_temporary, ld_out],
            scale: std::ptr::null(),
            shift: first.map_or(std::ptr::null(), bias),
            b_scale: 1.0,
            min: first.map_or(f32::NEG_INFINITY, |_| self.epilogue.lower_bound()),
        };
        // SAFETY: the caller's promise.
        unsafe { self.kernels.elementwise(DType::F32)(&e, self.half) };
    }

    /// Multiplies `a` by matrix `index` of the weights.
    ///
    /// # Safety
    /// `a` has `half` rows of `depth` floats, and the target room for `half` rows of `width`.
    unsafe fn multiply(&self, a: Matrix, index: usize, target: Target) {
        let Strassen { weights, depth, identity, .. } = self.strassen;
        let [_, ld_temporary] = self.strassen.strides();
        let (out, ld_out, epilogue, first) = match target.out {
            Some((out, first)) => (out, self.ld_out, self.epilogue, first),
            None => (target.temporary, ld_temporary, identity, 0),
        };
        let tiles = self.half.div_ceil(self.kernels.tile_rows);
        let mut indirection = [std::ptr::null::<u8>(); MAX_TILE_ROWS];
        let micro_kernel = self.kernels.conv(DType::F32, DType::F32).any;
        let then = (weights.get(index + 1).unwrap_or(&weights[index]), self.panels.start);
        let row_tiles = EvenTiles::new(self.half, tiles);
        weights[index].for_each_tile(self.kernels, self.panels.clone(), tiles, then, |visit| {
            let Visit { panel, tile, prefetch, .. } = visit;
            let rows = row_tiles.rows_of(tile);
            for (pointer, row) in indirection.iter_mut().zip(rows.clone()) {
                *pointer = a.start.wrapping_add(row * a.ld).cast();
            }
            let at = |p: *mut f32| {
                if p.is_null() { p } else { p.wrapping_add(rows.start * ld_temporary + panel.first) }
            };
            let tile = Tile {
                indirection: indirection.as_ptr(),
                rows: rows.len(),
                taps: 1,
                k: *depth,
                weights: panel.weights,
                prefetch,
                width: panel.width,
                valid: panel.valid,
                scale: std::ptr::null(),
                bias: epilogue.bias.as_ptr().wrapping_add(first + panel.first),
                min: epilogue.min.as_ptr().wrapping_add(first + panel.first),
                residual: at(target.plus).cast(),
                ld_residual: ld_temporary,
                residual_scale: 1.0,
                out: out.wrapping_add(rows.start * ld_out + panel.first).cast(),
                ld_out,
            };
            // SAFETY: the panel has `depth` rows; input, temporaries and output have these rows and columns.
            unsafe { micro_kernel(&tile) };
        });
    }
}
