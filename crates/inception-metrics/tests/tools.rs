//! Figures of the tools from the same features: `tests/goldens/fid/metrics.json`, which its script wrote.

#![cfg(feature = "distances")]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{features, sums};
use inception_data::MersenneTwister;
use inception_metrics::{
    Chunks, Draw, Features, KernelOptions, Spread, frechet_distance, inception_score, kernel_distance,
    precision_recall,
};
use serde_json::Value;

/// A few roundings of f64: products are added in another order.
const ROUNDED: f64 = 1e-10;
/// torch-fidelity's distances between pictures are f64 here; its shares are f32.
const SINGLE: f64 = 1e-6;

fn golden() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/goldens/fid/metrics.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn near(found: f64, wanted: &Value, tolerance: f64, what: &str) {
    let wanted = wanted.as_f64().unwrap();
    let off = (found - wanted).abs() / wanted.abs().max(1e-3);
    assert!(off <= tolerance, "{what}: {found} is not {wanted}, {off:.1e}");
}

struct NumPy(MersenneTwister);

impl Draw for NumPy {
    fn permutation(&mut self, count: usize) -> Vec<usize> {
        self.0.permutation(count as u32)
    }
    fn below(&mut self, count: usize) -> usize {
        self.0.integer(count as u32 - 1) as usize
    }
}

struct Case {
    golden: Value,
    generated: Features,
    real: Features,
}

impl Case {
    fn number(&self, key: &str) -> usize {
        self.golden[key].as_u64().unwrap() as usize
    }

    fn numpy(&self) -> NumPy {
        NumPy(MersenneTwister::numpy(self.number("seed") as u32))
    }
}

fn cases() -> impl Iterator<Item = Case> {
    golden().into_iter().map(|golden| {
        let number = |key: &str| golden[key].as_u64().unwrap() as usize;
        let dimensions = number("dimensions");
        let generated = features(1, number("first"), dimensions, 0);
        let real = features(5000, number("second"), dimensions, 2500);
        Case { golden, generated, real }
    })
}

#[test]
fn means_and_covariances() {
    for case in cases() {
        let gaussian = sums(&case.generated).gaussian().unwrap();
        for (at, wanted) in case.golden["mean"].as_array().unwrap().iter().enumerate() {
            near(gaussian.mean()[at], wanted, ROUNDED, "mean");
        }
        for (at, wanted) in case.golden["variances"].as_array().unwrap().iter().enumerate() {
            near(gaussian.covariance()[at * (case.number("dimensions") + 1)], wanted, ROUNDED, "variance");
        }
    }
}

/// The second case has fewer pictures than features. There the tools' own roots of a singular matrix are the
/// less exact ones: of eigenvalues of 0 they have the roots of roundings, about 1e-8 each.
#[test]
fn frechet_distances() {
    for case in cases() {
        let [a, b] = [&case.generated, &case.real].map(|side| sums(side).gaussian().unwrap());
        let found = frechet_distance(&a, &b).unwrap();
        let singular = case.generated.len() <= case.number("dimensions");
        let tolerance = if singular { 1e-5 } else { 1e-9 };
        for tool in ["pytorch-fid", "clean-fid", "torch-fidelity"] {
            near(found.distance, &case.golden[tool]["fid"], tolerance, tool);
        }
        assert_eq!(found.rank, case.number("dimensions").min(case.generated.len() - 1));
        let back = frechet_distance(&b, &a).unwrap();
        assert!((back.distance - found.distance).abs() < 1e-7 * found.distance);
        assert!(frechet_distance(&a, &a).unwrap().distance.abs() < 1e-7 * a.trace());
    }
}

#[test]
fn kernel_distances_with_numpys_subsets() {
    for case in cases() {
        let options = |second_first| KernelOptions {
            subsets: case.number("subsets"),
            size: case.number("size"),
            second_first,
        };
        let of = |second_first| {
            kernel_distance(&case.generated, &case.real, &options(second_first), &mut case.numpy()).unwrap()
        };
        near(of(false).mean, &case.golden["torch-fidelity"]["kid"]["mean"], ROUNDED, "torch-fidelity");
        near(of(false).std, &case.golden["torch-fidelity"]["kid"]["std"], ROUNDED, "torch-fidelity");
        near(of(true).mean, &case.golden["clean-fid"]["kid"]["mean"], ROUNDED, "clean-fid");
    }
}

#[test]
fn scores_and_neighbourhoods() {
    for case in cases() {
        let scaled = case.generated.values().iter().map(|value| value * 4.0).collect();
        let logits = Features::new(case.number("dimensions"), scaled).unwrap();
        let splits = case.number("splits");
        let wanted = &case.golden["torch-fidelity"];
        let score =
            inception_score(&logits, splits, Chunks::Even, Spread::Population, &mut case.numpy()).unwrap();
        near(score.mean, &wanted["inception_score"]["mean"], ROUNDED, "score");
        near(score.std, &wanted["inception_score"]["std"], 1e-8, "spread of the score");
        let found = precision_recall(&case.generated, &case.real, 3).unwrap();
        near(found.precision, &wanted["precision"], SINGLE, "precision");
        near(found.recall, &wanted["recall"], SINGLE, "recall");
    }
}

/// Kernels of all pictures and those of each subset give the same.
#[test]
fn large_sides_are_computed_by_subset() {
    let (a, b) = (features(3, 900, 4, 0), features(4, 800, 4, 100));
    let mut draw = common::Random(3);
    let options = KernelOptions { subsets: 2, size: 30, second_first: false };
    let found = kernel_distance(&a, &b, &options, &mut draw).unwrap();
    // Of many subsets, all kernels are computed at once.
    let many = KernelOptions { subsets: 2000, ..options };
    let all = kernel_distance(&a, &b, &many, &mut common::Random(3)).unwrap();
    assert!((found.mean - all.mean).abs() < 6.0 * all.std, "{found:?} {all:?}");
    assert_eq!(found.size, 30);
}
