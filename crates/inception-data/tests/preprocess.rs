//! The input of a network equals PaddleClas's, every bit, from equal decoded pixels; and what a JPEG
//! decoder's own rounding does to it.
#![allow(clippy::unwrap_used)] // In a test the panic is the report.

mod common;

use common::{expected, fnv, goldens, input, pattern, pixel};
use inception_data::{Error, Preprocessing, Resampler, decode, label, labels, resize};

#[test]
fn equals_paddleclas_to_the_last_bit() {
    let cases = goldens().preprocess;
    assert!(cases.iter().any(|case| case.file.is_some()) && cases.len() > 30);
    let mut failures = Vec::new();
    for case in &cases {
        let (name, image) = match (&case.file, case.pattern) {
            (Some(file), None) => (file.clone(), expected(file)),
            (None, Some((width, height))) => (format!("{width} x {height}"), pattern(width, height)),
            _ => panic!("a golden has either a file or a pattern"),
        };
        let preprocessing = Preprocessing::paddleclas(case.resize_short, case.crop);
        let name = format!("{name}, short side {}, crop {}", case.resize_short, case.crop);

        let size = preprocessing.resized_size(image.width(), image.height()).unwrap();
        assert_eq!(size, case.resized, "{name}: size after resizing");

        // What is there before must not matter.
        let mut out = vec![f32::NAN; preprocessing.output_len()];
        preprocessing.apply(&image, &mut out).unwrap();
        let side = case.crop as usize;
        for &(channel, y, x, wanted) in &case.values {
            let found = out[(channel * side + y) * side + x];
            if found.to_bits() != wanted.to_bits() {
                failures.push(format!("{name}: [{channel}, {y}, {x}] is {found} instead of {wanted}"));
            }
        }
        let hash = fnv(out.iter().flat_map(|value| value.to_le_bytes()));
        if hash != case.fnv {
            failures.push(format!("{name}: hash {hash} instead of {}", case.fnv));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn size_after_resizing_is_rounded_as_python_rounds() {
    let cases = goldens().resized_size;
    let mut halves = 0;
    for &[width, height, short, wanted_width, wanted_height] in &cases {
        let size = Preprocessing::paddleclas(short, short).resized_size(width, height).unwrap();
        assert_eq!(size, (wanted_width, wanted_height), "{width} x {height}, short side {short}");
        // Cases that rounding half up would get wrong.
        let percent = f64::from(short) / f64::from(width.min(height));
        halves += usize::from(
            [width, height].map(|side| (f64::from(side) * percent + 0.5).floor() as u32)
                != [wanted_width, wanted_height],
        );
    }
    assert!(halves >= 5, "only {halves} of {} cases notice how a half is rounded", cases.len());
}

/// The crop is a window of the whole resized image, although the rest of that is never made.
#[test]
fn cropping_before_resizing_changes_nothing() {
    for (width, height) in [(90, 70), (70, 90), (128, 128), (64, 128), (33, 200)] {
        let image = pattern(width, height);
        let preprocessing = Preprocessing::paddleclas(64, 41);
        let (wide, high) = preprocessing.resized_size(width, height).unwrap();
        let resized = resize(&image, Resampler::Cv2Bilinear, wide, high).unwrap();
        let mut out = vec![0.0; preprocessing.output_len()];
        preprocessing.apply(&image, &mut out).unwrap();
        for (index, &value) in out.iter().enumerate() {
            let (channel, y, x) = (index / (41 * 41), index / 41 % 41, index % 41);
            let pixel = pixel(&resized, (wide - 41) / 2 + x as u32, (high - 41) / 2 + y as u32).unwrap();
            let wanted = (f32::from(pixel[channel]) * (1.0_f64 / 255.0) as f32 - preprocessing.mean[channel])
                / preprocessing.std[channel];
            assert_eq!(value.to_bits(), wanted.to_bits(), "{width} x {height}: [{channel}, {y}, {x}]");
        }
    }
}

/// From the JPEG itself every bit of the input is that from OpenCV's pixels.
#[test]
fn a_jpeg_gives_the_input_of_opencvs_pixels() {
    let file = "ILSVRC2012_val_00010010";
    for preprocessing in [Preprocessing::paddleclas(320, 299), Preprocessing::paddleclas(256, 224)] {
        let [ours, theirs] =
            [decode(&input(&format!("{file}.jpeg"))).unwrap(), expected(&format!("{file}.png"))].map(
                |image| {
                    let mut out = vec![0.0; preprocessing.output_len()];
                    preprocessing.apply(&image, &mut out).unwrap();
                    out.into_iter().map(f32::to_bits).collect::<Vec<u32>>()
                },
            );
        assert!(ours == theirs);
    }
}

#[test]
fn a_picture_longer_than_memory_after_resizing_is_cropped_all_the_same() {
    // 320 x 16 million after resizing, of which the centre is 299 x 299.
    let image = pattern(1, 50_000);
    let preprocessing = Preprocessing::paddleclas(320, 299);
    assert_eq!(preprocessing.resized_size(1, 50_000).unwrap(), (320, 16_000_000));
    let mut out = vec![f32::NAN; preprocessing.output_len()];
    preprocessing.apply(&image, &mut out).unwrap();
    assert!(out.iter().all(|value| value.is_finite()));
}

#[test]
fn refuses_what_makes_no_sense() {
    let image = pattern(40, 30);
    let apply = |preprocessing: Preprocessing, len: usize| {
        let mut out = vec![7.0; len];
        let result = preprocessing.apply(&image, &mut out);
        assert!(
            result.is_ok() || out.iter().all(|&value| value == 7.0),
            "an error must leave the buffer alone"
        );
        result
    };
    let fine = Preprocessing::paddleclas(20, 16);
    assert!(apply(fine, 3 * 16 * 16).is_ok());
    assert!(matches!(apply(fine, 3 * 16 * 16 - 1), Err(Error::BufferLength { expected: 768, found: 767 })));
    assert!(matches!(
        apply(Preprocessing { resize_short: 15, ..fine }, 768),
        Err(Error::CropTooLarge { crop: 16, resize_short: 15 })
    ));
    assert!(matches!(
        apply(Preprocessing { resize_short: u32::MAX, ..fine }, 768),
        Err(Error::ResizeTooLarge { .. })
    ));
    assert!(matches!(
        apply(Preprocessing { crop: 0, ..fine }, 0),
        Err(Error::InvalidPreprocessing { field: "crop", .. })
    ));
    assert!(matches!(
        apply(Preprocessing { resize_short: 0, ..fine }, 768),
        Err(Error::InvalidPreprocessing { field: "resize_short", .. })
    ));
    for std in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let preprocessing = Preprocessing { std: [0.2, std, 0.2], ..fine };
        assert!(matches!(apply(preprocessing, 768), Err(Error::InvalidPreprocessing { field: "std", .. })));
    }
    let preprocessing = Preprocessing { mean: [f32::NAN; 3], ..fine };
    assert!(matches!(apply(preprocessing, 768), Err(Error::InvalidPreprocessing { field: "mean", .. })));
}

#[test]
fn every_field_must_be_written_out() {
    let full = serde_json::to_value(Preprocessing::paddleclas(320, 299)).unwrap();
    assert_eq!(
        serde_json::from_value::<Preprocessing>(full.clone()).unwrap(),
        Preprocessing::paddleclas(320, 299)
    );
    let fields: Vec<String> = full.as_object().unwrap().keys().cloned().collect();
    assert_eq!(fields.len(), 6);
    for field in fields {
        let mut less = full.clone();
        less.as_object_mut().unwrap().remove(&field);
        assert!(serde_json::from_value::<Preprocessing>(less).is_err(), "{field} has a default");
    }
    let mut more = full;
    more["scale"] = 0.5.into();
    assert!(serde_json::from_value::<Preprocessing>(more).is_err(), "an unknown field is ignored");
}

#[test]
fn labels_are_paddleclass_own() {
    let golden = goldens().labels;
    assert_eq!(labels().len(), golden.count);
    assert_eq!(fnv(labels().iter().flat_map(|name| name.bytes().chain([b'\n']))), golden.fnv);
    assert_eq!(label(999), Some("toilet tissue, toilet paper, bathroom tissue"));
    assert_eq!(label(1000), None);
}
