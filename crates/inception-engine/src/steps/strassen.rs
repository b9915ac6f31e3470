//! One level of Strassen's algorithm, in Winograd's form, for large pointwise convolutions: seven products of half the
//! size along each axis instead of eight.
//!
//! The sums of weights are packed ahead. The sums of inputs are made one at a time, and the products are added up where
//! the micro-kernel stores them, in two temporaries of a quarter of the output each, so that all but the weights stays
//! in the second-level cache.

use super::conv::{Head, Panels};
use crate::kernels::Kernels;
use crate::kernels::conv::Tile;
use crate::kernels::element::Element;
use crate::kernels::pointwise::{Elementwise, Sum};
use crate::memory::LINE;
use crate::steps::{Epilogue, part};

/// Channels in and out from which the saved eighth of the multiplications outweighs the additions.
pub(crate) const CHANNELS: usize = 512;

/// Pixels of an image from which a chunk has enough rows to be halved.
pub(crate) const PIXELS: usize = 96;

/// The weights of a matrix product by seven products.
pub(crate) struct Strassen {
    /// B11, B21, T2, T3, -T4, T1, B22: in the order of use.
    weights: [Panels; 7],
    /// Half of the channels in and out; both are even.
    depth: usize,
    width: usize,
    /// Neither bias nor floor, for the temporaries.
    plain: Epilogue,
}

/// The matrix that a product reads: a quarter of the input, or a sum of quarters in scratch memory.
#[derive(Clone, Copy)]
struct Matrix {
    start: *const f32,
    ld: usize,
}

impl Strassen {
    /// Packs `weight`, `[out][in]`, both extents even.
    pub fn new(weight: &[f32], channels: usize, out_channels: usize) -> Self {
        let (depth, width) = (channels / 2, out_channels / 2);
        let b = |row: usize, column: usize, k: usize, o: usize| {
            f64::from(weight[(column * width + o) * channels + row * depth + k])
        };
        let t1 = |k, o| b(0, 1, k, o) - b(0, 0, k, o);
        let t2 = |k, o| b(1, 1, k, o) - t1(k, o);
        let pack = |f: &(dyn Fn(usize, usize) -> f64 + Sync)| {
            Panels::pack(depth, width, |o| (0..depth).map(move |k| f(k, o) as f32))
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
        Strassen { weights, depth, width, plain: Epilogue::new(&[], width, false) }
    }

    /// Channels out.
    pub fn out_channels(&self) -> usize {
        2 * self.width
    }

    /// Floats of scratch memory for `rows` rows: the sum of inputs and two temporaries.
    pub fn scratch(&self, rows: usize) -> usize {
        let half = rows.div_ceil(2);
        half * (self.depth.max(self.width).next_multiple_of(LINE) + 2 * self.width.next_multiple_of(LINE))
    }

    /// Multiplies `rows` rows at `input` and writes them, with the head's epilogue but not its residual, at `out`.
    ///
    /// # Safety
    /// `input` holds `rows` rows of twice `depth` floats, `ld` apart; `out` has room for `rows` rows, and no one else
    /// reads or writes them; `scratch` holds `self.scratch(rows)` floats. `rows` is at least 2.
    pub unsafe fn run(
        &self,
        kernels: &Kernels,
        (input, ld): (*const f32, usize),
        rows: usize,
        head: &Head,
        out: *mut f32,
        scratch: *mut f32,
    ) {
        // An odd number of rows: the halves overlap by one row, which is computed twice, by the same thread.
        let half = rows.div_ceil(2);
        let (below, right) = ((rows - half) * ld, self.depth);
        let quarter = |offset: usize| Matrix { start: input.wrapping_add(offset), ld };
        let [a11, a12, a21, a22] = [0, right, below, below + right].map(quarter);
        let lds = self.depth.next_multiple_of(LINE);
        let ldt = self.width.next_multiple_of(LINE);
        let sum = Matrix { start: scratch, ld: lds };
        let x = scratch.wrapping_add(half * lds.max(ldt));
        let y = x.wrapping_add(half * ldt);
        let [c11, c12, c21, c22] = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(row, column)| {
            (out.wrapping_add(row * (rows - half) * head.out.ld + column * self.width), column * self.width)
        });

        let add = |terms: [(Matrix, f32); 4]| {
            let sum = Sum {
                rows: half,
                columns: self.depth,
                terms: terms.map(|(m, factor)| (m.start, factor)),
                ld,
                out: scratch,
                ld_out: lds,
            };
            // SAFETY: four quarters of the input and one of scratch memory.
            unsafe { (kernels.sum)(&sum) };
        };
        let multiply = |a: Matrix, index: usize, target: Target| {
            let (out, ld_out, epilogue, first) = match target.out {
                Some((out, first)) => (out, head.out.ld, &head.epilogue, first),
                None => (target.temporary, ldt, &self.plain, 0),
            };
            let tiles = half.div_ceil(kernels.rows);
            let mut pointers = [std::ptr::null::<u8>(); 32];
            let product = kernels.conv(Element::F32, Element::F32);
            for p in 0..self.weights[index].count() {
                let panel = self.weights[index].get(p);
                let (next, next_panel) = match self.weights.get(index + 1) {
                    Some(next) if p + 1 == self.weights[index].count() => (next, 0),
                    _ => (&self.weights[index], p + 1),
                };
                for t in 0..tiles {
                    let rows = part(half, t, tiles);
                    for (pointer, row) in pointers.iter_mut().zip(rows.clone()) {
                        *pointer = a.start.wrapping_add(row * a.ld).cast();
                    }
                    let at = |p: *mut f32| {
                        if p.is_null() { p } else { p.wrapping_add(rows.start * ldt + panel.first) }
                    };
                    let tile = Tile {
                        rows: pointers.as_ptr(),
                        n: rows.len(),
                        taps: 1,
                        k: self.depth,
                        weights: panel.weights,
                        ahead: next.ahead(next_panel, t),
                        width: panel.width,
                        valid: panel.valid,
                        bias: epilogue.bias.as_ptr().wrapping_add(first + panel.first),
                        floor: epilogue.floor.as_ptr().wrapping_add(first + panel.first),
                        residual: at(target.plus).cast(),
                        ld_residual: ldt,
                        out: out.wrapping_add(rows.start * ld_out + panel.first).cast(),
                        ld_out,
                    };
                    // SAFETY: the panel has `depth` rows; input, temporaries and output have these rows and columns.
                    unsafe { product(&tile) };
                }
            }
        };
        let null = std::ptr::null_mut();
        let temporary = |temporary, plus| Target { out: None, temporary, plus };
        let store = |out, plus| Target { out: Some(out), temporary: null, plus };
        // The products that two quarters of the output need are added to one of them in a pass of its own.
        let combine = |out: *mut f32, ld_out: usize, shift: *const f32, floor: f32| {
            let e = Elementwise {
                channels: self.width,
                a: x.cast(),
                b: y.cast(),
                out: out.cast(),
                ld: [ldt, ldt, ld_out],
                scale: std::ptr::null(),
                shift,
                floor,
            };
            // SAFETY: both temporaries and the target have `half` rows of `width` floats.
            unsafe { (kernels.elementwise)(&e, half) };
        };
        multiply(a11, 0, temporary(x, null));
        multiply(a12, 1, store(c11, x));
        add([(a21, 1.0), (a22, 1.0), (a11, -1.0), (a11, 0.0)]);
        multiply(sum, 2, temporary(x, x));
        add([(a11, 1.0), (a21, -1.0), (a11, 0.0), (a11, 0.0)]);
        multiply(sum, 3, temporary(y, null));
        combine(scratch, ldt, std::ptr::null(), f32::NEG_INFINITY);
        multiply(a22, 4, store(c21, scratch));
        add([(a21, 1.0), (a22, 1.0), (a11, 0.0), (a11, 0.0)]);
        multiply(sum, 5, temporary(x, x));
        let shift = head.epilogue.bias.as_ptr().wrapping_add(self.width);
        combine(
            c22.0,
            head.out.ld,
            shift,
            if head.relu && head.residual.is_none() { 0.0 } else { f32::NEG_INFINITY },
        );
        add([(a12, 1.0), (a11, 1.0), (a21, -1.0), (a22, -1.0)]);
        multiply(sum, 6, store(c12, x));
    }
}

/// Where a product goes.
#[derive(Clone, Copy)]
struct Target {
    /// A quarter of the output, and its first column,
    out: Option<(*mut f32, usize)>,
    /// or else this temporary.
    temporary: *mut f32,
    /// A temporary that is added, or null.
    plus: *mut f32,
}
