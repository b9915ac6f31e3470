//! The goldens: what PaddleClas computes from the formula's weights.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A file of `tests/goldens`; `generate.py` there says what its fields are.
#[derive(Debug, Deserialize)]
#[allow(missing_docs)]
pub struct Golden {
    pub model: String,
    pub output_stride: usize,
    pub size: usize,
    pub stages: Vec<StageGolden>,
    pub logits: Vec<Vec<f32>>,
    #[serde(default)]
    pub auxiliary: Vec<Vec<Vec<f32>>>,
    #[serde(default)]
    pub logits_299: Vec<Vec<f32>>,
    #[serde(default)]
    pub keys: Vec<(String, Vec<usize>)>,
    pub photograph: Vec<f32>,
    #[serde(default)]
    pub parameters: usize,
    #[serde(default)]
    pub macs: u64,
}

/// The map after a stage, for the first image.
#[derive(Debug, Deserialize)]
#[allow(missing_docs)]
pub struct StageGolden {
    pub name: String,
    pub shape: Vec<usize>,
    pub mean: f64,
    pub norm: f64,
}

/// The folder of the goldens: this one, or where INCEPTION_GOLDENS says that it is on another machine.
pub fn folder() -> PathBuf {
    let here = || Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens");
    std::env::var_os("INCEPTION_GOLDENS").map_or_else(here, PathBuf::from)
}

fn json<T: DeserializeOwned>(path: &Path) -> T {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Reads the golden called `name`.
pub fn read(name: &str) -> Golden {
    json(&folder().join(format!("{name}.json")))
}

/// The logits of image 0 of the formula that the library of a network of another origin computes.
pub fn of_other_origin(name: &str) -> Vec<f32> {
    #[derive(Deserialize)]
    struct Logits {
        logits: Vec<Vec<f32>>,
    }
    json::<Logits>(&folder().join(format!("weights/{name}.json"))).logits.swap_remove(0)
}

/// Relative to the largest logit: ten times under what the project promises. f32 sums in another order differ
/// by 2e-6 at most after 40 to 70 layers (seen on flex and ndarray); `sensitivity.rs` shows what moves the
/// logits by more.
pub const TOLERANCE: f32 = 1e-5;

/// Checks an image's logits against the reference: within [`TOLERANCE`], and the same first five classes. The
/// worst difference.
pub fn check_logits(logits: &[f32], reference: &[f32], what: &str) -> f32 {
    let worst = worst_difference(logits, reference);
    println!("{what}: {worst:.1e} of the largest logit off");
    assert!(worst <= TOLERANCE, "{what}: {worst:.2e} of the largest logit off");
    assert_eq!(top(logits, 5), top(reference, 5), "{what}: the first five classes");
    worst
}

/// The worst difference from the reference, relative to the reference's largest logit.
pub fn worst_difference(logits: &[f32], reference: &[f32]) -> f32 {
    assert_eq!(logits.len(), reference.len());
    let largest = reference.iter().fold(0f32, |m, v| m.max(v.abs()));
    let worst = logits.iter().zip(reference).map(|(a, b)| (a - b).abs());
    // A NaN is the worst difference of all, which `max` would pass over.
    worst.fold(0f32, |m, d| if d.is_nan() { f32::INFINITY } else { m.max(d) }) / largest
}

/// Indices of the `k` largest values, largest first.
pub fn top(values: &[f32], k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    order.truncate(k);
    order
}
