//! Sums are the same to the bit in whatever order and in whatever parts pictures come.

#![cfg(feature = "distances")]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{Random, features};
use inception_metrics::{Draw, Error, Features, Gaussian, Sums};

/// Features of every magnitude that sums take, of both signs.
fn wild(random: &mut Random, pictures: usize, dimensions: usize) -> Vec<f32> {
    let value = |random: &mut Random| {
        let bits = random.next();
        let exponent = (bits >> 32) % 50;
        let value = (bits as u32 as f32 / 4e9) * (exponent as f32 - 34.0).exp2();
        if bits & 1 == 0 { value } else { -value }
    };
    (0..pictures * dimensions).map(|_| value(random)).collect()
}

/// The parts of a random division, each added in a random order and in pieces, merged in a random order.
fn in_parts(random: &mut Random, rows: &[f32], dimensions: usize) -> Gaussian {
    let order = random.permutation(rows.len() / dimensions);
    let mut parts: Vec<Sums> = (0..1 + random.below(5)).map(|_| Sums::new(dimensions).unwrap()).collect();
    let mut at = 0;
    while at < order.len() {
        let count = (1 + random.below(300)).min(order.len() - at);
        let piece: Vec<f32> = order[at..at + count]
            .iter()
            .flat_map(|&row| &rows[row * dimensions..][..dimensions])
            .copied()
            .collect();
        let part = random.below(parts.len());
        parts[part].add(&piece).unwrap();
        at += count;
    }
    let mut whole = parts.swap_remove(random.below(parts.len()));
    while !parts.is_empty() {
        let part = parts.swap_remove(random.below(parts.len()));
        match random.below(2) {
            0 => whole.merge(part).unwrap(),
            _ => {
                let mut other = part;
                other.merge(whole).unwrap();
                whole = other;
            }
        }
    }
    whole.gaussian().unwrap()
}

#[test]
fn any_order_and_any_parts_give_the_same_bits() {
    let mut random = Random(1);
    for dimensions in [1, 3, 17, 64, 65, 130] {
        for pictures in [2, 5, 255, 256, 257, 700] {
            let rows = wild(&mut random, pictures, dimensions);
            let mut whole = Sums::new(dimensions).unwrap();
            whole.add(&rows).unwrap();
            let whole = whole.gaussian().unwrap();
            for _ in 0..3 {
                let other = in_parts(&mut random, &rows, dimensions);
                // `==` takes 0 and -0 for equal; bits do not.
                let bits = |side: &Gaussian| {
                    let values = side.mean().iter().chain(side.covariance());
                    values.map(|value| value.to_bits()).collect::<Vec<u64>>()
                };
                assert_eq!(bits(&whole), bits(&other), "{pictures} pictures of {dimensions}");
            }
        }
    }
}

/// The sums are those of the features, and cancellation costs no digits: pictures that differ by a part in a
/// million.
#[test]
fn covariances_are_exact() {
    let rows: Vec<f32> = (0..600).map(|n| 1000.0 + ((n * 7919) % 613) as f32 / 1024.0).collect();
    let mut sums = Sums::new(2).unwrap();
    sums.add(&rows).unwrap();
    let found = sums.gaussian().unwrap();
    // Multiples of 2^-10 that f64 adds and multiplies exactly.
    let columns =
        [0, 1].map(|at| rows.iter().skip(at).step_by(2).map(|&v| f64::from(v) - 1000.0).collect::<Vec<_>>());
    let total = |values: &[f64]| values.iter().sum::<f64>();
    for (a, first) in columns.iter().enumerate() {
        let mean = 1000.0 + total(first) / 300.0;
        assert!((found.mean()[a] - mean).abs() <= mean * f64::EPSILON, "{} {mean}", found.mean()[a]);
        for (b, second) in columns.iter().enumerate() {
            let products: f64 = first.iter().zip(second).map(|(x, y)| x * y).sum();
            let exact = (300.0 * products - total(first) * total(second)) / (300.0 * 299.0);
            let off = (found.covariance()[a * 2 + b] - exact).abs() / exact.abs();
            assert!(off < 4.0 * f64::EPSILON, "{a}, {b}: {off:e}");
        }
    }
}

/// More pictures than are summed in floats at a time, at the largest magnitude: nothing overflows.
#[test]
fn the_largest_features_fit() {
    let largest = 65535.996_f32;
    let mut sums = Sums::new(2).unwrap();
    for _ in 0..40 {
        sums.add(&[largest, -largest].repeat(1000)).unwrap();
    }
    let found = sums.gaussian().unwrap();
    assert_eq!(found.mean(), [f64::from(largest), f64::from(-largest)]);
    assert_eq!(found.covariance(), [0.0; 4]);
    assert_eq!(found.images(), Some(40_000));
}

#[test]
fn what_cannot_be_summed_is_refused() {
    let mut sums = Sums::new(2).unwrap();
    assert!(matches!(sums.add(&[1.0]), Err(Error::Rows { values: 1, dimensions: 2 })));
    assert!(matches!(sums.add(&[1.0, f32::NAN]), Err(Error::Value { index: 1, .. })));
    assert!(matches!(sums.add(&[1.0, 0.0, f32::INFINITY, 0.0]), Err(Error::Value { index: 0, .. })));
    assert!(matches!(sums.add(&[65536.0, 0.0]), Err(Error::Value { index: 0, value: 65536.0 })));
    assert_eq!(sums.images(), 0, "nothing of these was added");
    assert!(matches!(sums.gaussian(), Err(Error::TooFew { needed: 2, found: 0, .. })));
    sums.add(&[1.0, 2.0]).unwrap();
    assert!(matches!(sums.gaussian(), Err(Error::TooFew { needed: 2, found: 1, .. })));
    let other = Sums::new(3).unwrap();
    assert!(matches!(sums.merge(other), Err(Error::Dimensions { first: 2, second: 3 })));
    assert!(matches!(Sums::new(0), Err(Error::Rows { .. })));
    assert!(matches!(Features::new(0, Vec::new()), Err(Error::Rows { .. })));
    assert!(matches!(Features::new(2, vec![f32::NAN, 1.0]), Err(Error::Value { .. })));
    // Sums that no pictures have would overflow later.
    assert!(Sums::from_parts(2, vec![i64::MAX; 2], vec![0; 3]).is_err());
    assert!(Sums::from_parts(2, vec![0; 2], vec![i128::MAX; 3]).is_err());
    assert!(Sums::from_parts(1 << 21, vec![0; 2], vec![0; 3]).is_err());
    assert!(Sums::from_parts(2, vec![0; 2], vec![0; 4]).is_err());
    // A wide row is refused before its covariance is given memory.
    assert!(matches!(Sums::new(1 << 30), Err(Error::TooWide { .. })));
    assert!(features(1, 2, 2, 0).times(&[1.0; 3]).is_err());
}
