//! One-dimensional Winograd algorithms F(m, r), by the Cook-Toom construction: their coefficients, computed
//! by the compiler.
//!
//! The interpolation points are 0, `p` and `-p` for each `p` of [`Scheme::PAIRS`], and infinity, in this
//! order. With
//!
//! ```text
//! q(x) = product over pairs p of (x^2 - p^2)        q_p(x) = q(x) / (x^2 - p^2)
//! ```
//!
//! the rows of the three matrices are, for each point,
//!
//! ```text
//! point      B^T: coefficients of    G: for tap t                               A^T: for output i
//! 0          q(x)                    1 / q(0) if t = 0                          1 if i = 0
//! p          x (x + p) q_p(x)        p^t / (2 p^2 q_p(p))                       p^i
//! -p         x (x - p) q_p(x)        (-p)^t / (2 p^2 q_p(p))                    (-p)^i
//! infinity   x q(x)                  1 if t = r - 1                             1 if i = m - 1
//! ```
//!
//! and all other entries are zero. `q` and `q_p` have even powers only, so the rows of `p` and `-p` are the
//! sum and the difference of the same two halves, `x^2 q_p` ([`Coefficients::even`]) and `p x q_p`
//! ([`Coefficients::odd`]): half the work. No rows need balancing, since a factor that is a power of two does
//! not change a rounding.
//!
//! With a stride of 2 the even taps of a kernel see only even inputs, and the odd ones only odd inputs, each
//! with a stride of 1. Of three taps two are even, an F(m, 2); the odd one is multiplied as it is.

/// The longest transform: F(4, 7) has ten points.
pub(super) const MAX_POINTS: usize = 10;
/// Pairs of points of the longest transform.
pub(super) const MAX_PAIRS: usize = MAX_POINTS / 2 - 1;

/// A one-dimensional algorithm F(M, R): `M` outputs of an `R`-tap filter from `POINTS = M + R - 1`
/// multiplications.
///
/// Arrays are [`MAX_POINTS`] long so that one signature serves all schemes. Entries past `POINTS` (or `M`)
/// are not read, and the compiler removes them.
pub(super) trait Scheme {
    /// Outputs of a tile along this axis.
    const M: usize;
    /// Kernel taps along this axis.
    const R: usize;
    /// The finite points other than 0, one of each pair.
    const PAIRS: &'static [f64];
    /// Inputs from one output to the next, 1 or 2.
    const STRIDE: usize = 1;
    /// Multiplications at points.
    const CORE: usize = Self::M + Self::R.div_ceil(Self::STRIDE) - 1;
    /// Inputs of a tile, and multiplications.
    const POINTS: usize = (Self::M - 1) * Self::STRIDE + Self::R;
    /// The factors of the transforms.
    const COEFFICIENTS: Coefficients = Coefficients::of(Self::PAIRS);
}

/// The identity, for an axis along which the kernel has one tap.
pub(super) struct One;

impl Scheme for One {
    const M: usize = 1;
    const R: usize = 1;
    const PAIRS: &'static [f64] = &[];
}

macro_rules! schemes {
    ($($(#[$doc:meta])* $name:ident: F($m:literal, $r:literal) by $stride:literal on $pairs:expr;)*) => {$(
        $(#[$doc])*
        pub(super) struct $name;

        impl Scheme for $name {
            const M: usize = $m;
            const R: usize = $r;
            const PAIRS: &'static [f64] = &$pairs;
            const STRIDE: usize = $stride;
        }

        // A scheme has the points 0, infinity, and pairs; with a stride of 2 also one odd tap, a
        // multiplication an output.
        const _: () = assert!($name::PAIRS.len() * 2 + 2 == $name::CORE);
        const _: () = assert!($stride == 1 || $stride == 2 && $r == 3 && $name::CORE + $m == $name::POINTS);
    )*};
}

schemes! {
    /// 2 multiplications an output instead of 3.
    F23: F(2, 3) by 1 on [1.0];
    /// With a stride of 2: 2.33 multiplications an output instead of 3.
    F33By2: F(3, 3) by 2 on [1.0];
    /// 1.5 multiplications an output instead of 3.
    F43: F(4, 3) by 1 on [1.0, 2.0];
    /// 1.6 multiplications an output instead of 4.
    F54: F(5, 4) by 1 on [1.0, 2.0, 0.5];
    /// 2 multiplications an output instead of 5.
    F45: F(4, 5) by 1 on [1.0, 2.0, 0.5];
    /// 2.5 multiplications an output instead of 7. With 3/4 the error is half of that with the usual 4 and
    /// -1/4.
    F47: F(4, 7) by 1 on [1.0, 2.0, 0.5, 0.75];
}

/// The factors of the transforms of a scheme.
pub(super) struct Coefficients {
    /// Coefficients of `q` at the even powers.
    pub q: [f32; MAX_PAIRS + 1],
    /// For each pair the coefficients of `q_p` at the even powers.
    pub even: [[f32; MAX_PAIRS]; MAX_PAIRS],
    /// `p` times `even`.
    pub odd: [[f32; MAX_PAIRS]; MAX_PAIRS],
    /// Powers of `p` for each pair.
    pub powers: [[f32; MAX_POINTS]; MAX_PAIRS],
}

/// Coefficients, in powers of `x^2`, of the product of `x^2 - p^2` over all pairs but number `skip`.
const fn product(pairs: &[f64], skip: usize) -> [f64; MAX_PAIRS + 1] {
    let mut q = [0.0; MAX_PAIRS + 1];
    q[0] = 1.0;
    let mut k = 0;
    while k < pairs.len() {
        if k != skip {
            let mut j = MAX_PAIRS;
            while j > 0 {
                q[j] = q[j - 1] - pairs[k] * pairs[k] * q[j];
                j -= 1;
            }
            q[0] *= -pairs[k] * pairs[k];
        }
        k += 1;
    }
    q
}

impl Coefficients {
    const fn of(pairs: &[f64]) -> Self {
        let mut c = Coefficients {
            q: [0.0; MAX_PAIRS + 1],
            even: [[0.0; MAX_PAIRS]; MAX_PAIRS],
            odd: [[0.0; MAX_PAIRS]; MAX_PAIRS],
            powers: [[0.0; MAX_POINTS]; MAX_PAIRS],
        };
        let q = product(pairs, usize::MAX);
        let mut j = 0;
        while j <= MAX_PAIRS {
            c.q[j] = q[j] as f32;
            j += 1;
        }
        let mut k = 0;
        while k < pairs.len() {
            let q = product(pairs, k);
            let mut j = 0;
            while j < MAX_PAIRS {
                c.even[k][j] = q[j] as f32;
                c.odd[k][j] = (q[j] * pairs[k]) as f32;
                j += 1;
            }
            let (mut i, mut power) = (0, 1.0);
            while i < MAX_POINTS {
                c.powers[k][i] = power as f32;
                power *= pairs[k];
                i += 1;
            }
            k += 1;
        }
        c
    }
}

/// `G` of the scheme with these pairs, `r` taps and a stride, `[points][r]`. With a stride of 2, whose
/// kernels have three taps, the rows of the even taps come first, then the odd tap for each of the `m`
/// outputs.
pub(super) fn weight_transform(pairs: &[f64], r: usize, [stride, m]: [usize; 2]) -> Vec<Vec<f64>> {
    if stride == 2 {
        let even = weight_transform(pairs, r.div_ceil(2), [1, m]).into_iter().map(|g| vec![g[0], 0.0, g[1]]);
        return even.chain(std::iter::repeat_n(vec![0.0, 1.0, 0.0], m)).collect();
    }
    if r == 1 {
        return vec![vec![1.0]];
    }
    let row =
        |point: f64, factor: f64| (0..r).map(|tap| point.powi(tap as i32) / factor).collect::<Vec<f64>>();
    let mut g = vec![row(0.0, pairs.iter().map(|p| -p * p).product())];
    for p in pairs {
        // The product of the differences from all other points.
        let others: f64 = pairs.iter().filter(|q| *q != p).map(|q| p * p - q * q).product();
        g.extend([*p, -p].map(|point| row(point, 2.0 * p * p * others)));
    }
    g.push((0..r).map(|tap| f64::from(u8::from(tap == r - 1))).collect());
    g
}
