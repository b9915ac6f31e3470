//! Resizing equals Pillow's, and the input of a network torchvision's, every bit.
#![allow(clippy::unwrap_used)] // In a test the panic is the report.

mod common;

use common::{Summary, fnv, goldens_dir, pattern};
use inception_data::{Arithmetic, Error, Preprocessing, Resampler, resize};
use serde::Deserialize;

/// `pillow.json`; `generate_pillow.py` says what its fields are.
#[derive(Deserialize)]
struct Goldens {
    resize: Vec<ResizeGolden>,
    preprocess: Vec<TensorGolden>,
    ten_crop: Vec<TensorGolden>,
}

#[derive(Deserialize)]
struct ResizeGolden {
    resampler: Resampler,
    from: (u32, u32),
    #[serde(flatten)]
    to: Summary,
}

#[derive(Deserialize)]
struct TensorGolden {
    pattern: (u32, u32),
    resampler: Resampler,
    resize_short: u32,
    crop: u32,
    mean: [f32; 3],
    std: [f32; 3],
    fnv: String,
    values: Vec<(usize, f32)>,
    resized: Option<(u32, u32)>,
}

impl TensorGolden {
    fn preprocessing(&self) -> Preprocessing {
        let &Self { resampler, resize_short, crop, mean, std, .. } = self;
        Preprocessing { resampler, arithmetic: Arithmetic::Torchvision, resize_short, crop, mean, std }
    }

    /// What differs.
    fn difference(&self, out: &[f32]) -> Option<String> {
        let name =
            format!("{:?}, {:?}, {} -> {}", self.pattern, self.resampler, self.resize_short, self.crop);
        for &(index, wanted) in &self.values {
            if out[index].to_bits() != wanted.to_bits() {
                return Some(format!("{name}: [{index}] is {} instead of {wanted}", out[index]));
            }
        }
        let hash = fnv(out.iter().flat_map(|value| value.to_le_bytes()));
        (hash != self.fnv).then(|| format!("{name}: sampled values agree, the hash does not"))
    }
}

fn goldens() -> Goldens {
    let text = std::fs::read_to_string(goldens_dir().join("pillow.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn equals_pillow_on_every_size() {
    let cases = goldens().resize;
    assert!(cases.len() > 900);
    let differs_from_cv2 = |case: &ResizeGolden| {
        let (width, height) = case.from;
        let image = pattern(width, height);
        let cv2 = resize(&image, Resampler::Cv2Bilinear, case.to.width, case.to.height).unwrap();
        case.to.difference(&cv2).is_some()
    };
    assert!(cases.iter().filter(|case| differs_from_cv2(case)).count() > 800, "the cases tell the two apart");
    let failures: Vec<String> = cases
        .iter()
        .filter_map(|case| {
            let (width, height) = case.from;
            let image = pattern(width, height);
            let resized = resize(&image, case.resampler, case.to.width, case.to.height).unwrap();
            let difference = case.to.difference(&resized)?;
            Some(format!("{:?} from {width} x {height}: {difference}", case.resampler))
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn equals_torchvision_to_the_last_bit() {
    let cases = goldens().preprocess;
    assert!(cases.len() > 40);
    let mut failures = Vec::new();
    for case in &cases {
        let preprocessing = case.preprocessing();
        let image = pattern(case.pattern.0, case.pattern.1);
        let size = preprocessing.resized_size(image.width(), image.height()).unwrap();
        assert_eq!(Some(size), case.resized, "{:?}: size after resizing", case.pattern);
        let mut out = vec![f32::NAN; preprocessing.output_len()];
        preprocessing.apply(&image, &mut out).unwrap();
        failures.extend(case.difference(&out));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Paddle's and torchvision's arithmetic are told apart by the goldens: with the other one most of them fail.
#[test]
fn the_arithmetic_matters() {
    let cases = goldens().preprocess;
    let others = cases.iter().filter(|case| {
        let preprocessing = Preprocessing { arithmetic: Arithmetic::Paddleclas, ..case.preprocessing() };
        let mut out = vec![f32::NAN; preprocessing.output_len()];
        preprocessing.apply(&pattern(case.pattern.0, case.pattern.1), &mut out).unwrap();
        case.difference(&out).is_some()
    });
    assert!(others.count() * 10 > cases.len() * 9);
}

#[test]
fn ten_crops_equal_torchvisions() {
    let cases = goldens().ten_crop;
    assert!(cases.len() >= 5);
    for case in &cases {
        let preprocessing = case.preprocessing();
        let mut out = vec![f32::NAN; preprocessing.output_len() * 10];
        preprocessing.ten_crop(&pattern(case.pattern.0, case.pattern.1), &mut out).unwrap();
        assert_eq!(case.difference(&out), None);
    }
    let preprocessing = cases[0].preprocessing();
    let wanted = preprocessing.output_len() * 10;
    assert!(matches!(
        preprocessing.ten_crop(&pattern(90, 77), &mut [0.0; 7]),
        Err(Error::BufferLength { expected, found: 7 }) if expected == wanted
    ));
}

#[test]
fn long_thin_pictures_cost_no_memory() {
    let mut out = vec![f32::NAN; 3 * 299 * 299];
    for (width, height) in [(1, 200_000), (200_000, 1), (2, 100_001)] {
        let preprocessing = Preprocessing::torchvision(320, 299);
        preprocessing.apply(&pattern(width, height), &mut out).unwrap();
        assert!(out.iter().all(|value| value.is_finite()), "{width} x {height}");
    }
    assert!(matches!(
        resize(&pattern(4, 4), Resampler::PilBilinear, 0, 9),
        Err(Error::ZeroSize { width: 0, height: 9 })
    ));
    assert!(matches!(
        resize(&pattern(4, 4), Resampler::PilBicubic, u32::MAX, 9),
        Err(Error::ResizeTooLarge { .. })
    ));
}
