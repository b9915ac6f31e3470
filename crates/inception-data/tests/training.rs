//! From Python's and NumPy's seeds the training transforms give PaddleClas's bits.
#![allow(clippy::unwrap_used)] // In a test the panic is the report.

mod common;

use common::{fnv, goldens_dir, pattern};
use inception_data::{Augmentation, Error, MersenneTwister, Mixup, smooth_label};
use serde::Deserialize;

/// `training.json`; `generate_training.py` says what its fields are.
#[derive(Deserialize)]
struct Goldens {
    augment: Vec<AugmentGolden>,
    mixup: Vec<MixupGolden>,
    smoothing: Vec<SmoothingGolden>,
}

#[derive(Deserialize)]
struct AugmentGolden {
    seed: u64,
    turn: usize,
    pattern: (u32, u32),
    crop: u32,
    fnv: String,
    first: f32,
    last: f32,
}

#[derive(Deserialize)]
struct MixupGolden {
    seed: u32,
    turn: usize,
    count: u32,
    alpha: f64,
    partners: Vec<usize>,
    share: f64,
    fnv: String,
}

#[derive(Deserialize)]
struct SmoothingGolden {
    classes: usize,
    label: usize,
    epsilon: f32,
    on: f32,
    off: f32,
}

fn goldens() -> Goldens {
    let text = std::fs::read_to_string(goldens_dir().join("training.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn crops_and_flips_are_paddleclass() {
    let cases = goldens().augment;
    assert!(cases.len() > 30);
    let mut random = MersenneTwister::python(0);
    for case in &cases {
        if case.turn == 0 {
            random = MersenneTwister::python(case.seed);
        }
        let augmentation = Augmentation::paddleclas(case.crop);
        let mut out = vec![f32::NAN; augmentation.output_len()];
        augmentation.apply(&pattern(case.pattern.0, case.pattern.1), &mut random, &mut out).unwrap();
        let name = format!("seed {}, turn {}", case.seed, case.turn);
        assert_eq!((out[0], out[out.len() - 1]), (case.first, case.last), "{name}");
        assert_eq!(fnv(out.iter().flat_map(|value| value.to_le_bytes())), case.fnv, "{name}");
    }
}

#[test]
fn parts_lie_inside_whatever_the_picture() {
    let augmentation = Augmentation::paddleclas(8);
    let mut random = MersenneTwister::python(1);
    let (mut flipped, mut total) = (0, 0);
    for (width, height) in [(1, 1), (1, 1000), (1000, 1), (7, 5), (u32::MAX, u32::MAX), (u32::MAX, 1)] {
        for _ in 0..200 {
            let part = augmentation.draw(&mut random, width, height);
            assert!(u64::from(part.left) + u64::from(part.width) <= width.into(), "{part:?}");
            assert!(u64::from(part.top) + u64::from(part.height) <= height.into(), "{part:?}");
            flipped += usize::from(part.flipped);
            total += 1;
        }
    }
    assert!((total * 2 / 5..total * 3 / 5).contains(&flipped), "{flipped} of {total} flipped");
    // Of a single pixel a part may have nothing; that is an error, not a panic.
    let mut out = vec![0.0; augmentation.output_len()];
    let results: Vec<_> =
        (0..50).map(|_| augmentation.apply(&pattern(1, 1), &mut random, &mut out)).collect();
    assert!(results.iter().any(|result| matches!(result, Err(Error::ZeroSize { .. }))));
    assert!(matches!(
        Augmentation { ratio: [0.0, 1.0], ..augmentation }.apply(&pattern(9, 9), &mut random, &mut out),
        Err(Error::InvalidPreprocessing { field: "ratio", .. })
    ));
}

#[test]
fn mixup_is_numpys() {
    let cases = goldens().mixup;
    assert!(cases.len() > 20);
    let mut random = MersenneTwister::numpy(0);
    let unit: Vec<f32> = pattern(3, 2).pixels().iter().map(|&value| f32::from(value) / 255.0).collect();
    for case in &cases {
        if case.turn == 0 {
            random = MersenneTwister::numpy(case.seed);
        }
        let mixup = Mixup::draw(&mut random, case.count, case.alpha).unwrap();
        assert_eq!(mixup.partners, case.partners);
        // Two libraries' powers may differ by the last bit.
        assert!((mixup.share - case.share).abs() <= 4.0 * f64::EPSILON * case.share, "{}", mixup.share);
        let images: Vec<f32> =
            (1..=case.count).flat_map(|i| unit.iter().map(move |value| value * i as f32)).collect();
        let mut out = vec![f32::NAN; images.len()];
        Mixup { share: case.share, ..mixup }.blend(&images, &mut out).unwrap();
        assert_eq!(fnv(out.iter().flat_map(|value| value.to_le_bytes())), case.fnv);
    }
}

#[test]
fn mixup_refuses_what_makes_no_sense() {
    let mut random = MersenneTwister::numpy(0);
    for alpha in [0.0, -1.0, 1.5, f64::NAN] {
        assert!(matches!(
            Mixup::draw(&mut random, 4, alpha),
            Err(Error::InvalidPreprocessing { field: "alpha", .. })
        ));
    }
    let mixup = Mixup { partners: vec![1, 0], share: 0.5 };
    assert!(mixup.blend(&[1.0, 2.0, 3.0], &mut [0.0; 3]).is_err());
    assert!(mixup.blend(&[1.0, 2.0], &mut [0.0; 3]).is_err());
    assert!(Mixup { partners: vec![9, 0], share: 0.5 }.blend(&[1.0, 2.0], &mut [0.0; 2]).is_err());
    assert!(Mixup { partners: vec![], share: 0.5 }.blend(&[], &mut []).is_ok());
    assert!(Mixup { partners: vec![], share: 0.5 }.blend(&[1.0], &mut [0.0]).is_err());
}

#[test]
fn labels_are_smoothed_as_paddle_does() {
    for SmoothingGolden { classes, label, epsilon, on, off } in goldens().smoothing {
        let mut shares = vec![0.0; classes];
        shares[label] = 1.0;
        smooth_label(&mut shares, epsilon);
        for (class, share) in shares.into_iter().enumerate() {
            let wanted = if class == label { on } else { off };
            // Single precision, whatever the order of the operations.
            assert!((share - wanted).abs() <= f32::EPSILON, "{class}: {share} instead of {wanted}");
        }
    }
}
