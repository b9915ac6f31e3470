//! Resized pixels equal cv2's, every one.
#![allow(clippy::unwrap_used)] // In a test the panic is the report.

mod common;

use common::{goldens, pattern, pixel};
use inception_data::{Error, Resampler, resize};

#[test]
fn equals_cv2_on_every_size() {
    let cases = goldens().resize;
    assert!(cases.len() > 400);
    let mut failures = Vec::new();
    for case in &cases {
        let (width, height) = case.from;
        let resized =
            resize(&pattern(width, height), Resampler::Cv2Bilinear, case.to.width, case.to.height).unwrap();
        if let Some(difference) = case.to.difference(&resized) {
            failures
                .push(format!("{width} x {height} -> {} x {}: {difference}", case.to.width, case.to.height));
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {} cases differ:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

/// The goldens would be worthless if they could not tell bilinear resizing from cv2's: plain rounding in
/// floating point must fail most of them.
#[test]
fn goldens_tell_cv2_from_exact_bilinear() {
    let cases = goldens().resize;
    let differing = cases
        .iter()
        .filter(|case| {
            let source = pattern(case.from.0, case.from.1);
            let (width, height) = (case.to.width, case.to.height);
            let at = |index: u32, from: u32, to: u32| {
                let position = (f64::from(index) + 0.5) * f64::from(from) / f64::from(to) - 0.5;
                let position = position.clamp(0.0, f64::from(from - 1));
                (position.floor() as u32, (position.floor() as u32 + 1).min(from - 1), position.fract())
            };
            let mut pixels = Vec::new();
            for y in 0..height {
                let (top, bottom, down) = at(y, source.height(), height);
                for x in 0..width {
                    let (left, right, across) = at(x, source.width(), width);
                    for channel in 0..3 {
                        let value = |x, y| f64::from(pixel(&source, x, y).unwrap()[channel]);
                        let mix = |a: f64, b: f64, share: f64| a * (1.0 - share) + b * share;
                        let upper = mix(value(left, top), value(right, top), across);
                        let lower = mix(value(left, bottom), value(right, bottom), across);
                        pixels.push(mix(upper, lower, down).round() as u8);
                    }
                }
            }
            let exact = inception_data::RgbImage::from_raw(width, height, pixels).unwrap();
            case.to.difference(&exact).is_some()
        })
        .count();
    assert!(differing * 10 > cases.len() * 8, "only {differing} of {} cases notice", cases.len());
}

#[test]
fn refuses_sizes_that_cannot_be() {
    let image = pattern(3, 2);
    for (width, height) in [(0, 5), (5, 0), (0, 0)] {
        assert!(matches!(resize(&image, Resampler::Cv2Bilinear, width, height), Err(Error::ZeroSize { .. })));
    }
    assert!(matches!(resize(&image, Resampler::Cv2Bilinear, 1 << 31, 1), Err(Error::ResizeTooLarge { .. })));
    assert!(matches!(
        resize(&image, Resampler::Cv2Bilinear, i32::MAX as u32, i32::MAX as u32),
        Err(Error::ResizeTooLarge { .. })
    ));
}
