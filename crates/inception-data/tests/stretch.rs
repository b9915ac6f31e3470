//! Pictures stretched in single precision, against the functions of the tools that compute FID:
//! `tests/goldens/fid/resize.json`, which `generate.py` beside it wrote.

#![allow(clippy::unwrap_used, missing_docs)]

use inception_data::{Error, FloatResampler, Prepare, RgbImage, Scaling, Stretch};
use serde_json::Value;

/// Of 255: positions and weights are rounded to f32, differently by differently written code, and a pixel's
/// neighbour may be 255 away. A resampler that is another one is off by tens.
const TOLERANCE: f32 = 4e-3;
/// PyTorch's antialiased weights have its roundings here; what is left is that of the sums. Exact weights are
/// off by 5e-3.
const SAME_WEIGHTS: f32 = 3e-4;

fn image(width: u32, height: u32) -> RgbImage {
    let pixels = (0..width * height * 3).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    RgbImage::from_raw(width, height, pixels).unwrap()
}

/// Pixels of 0 to 255, `[height, width, 3]`. The square that a network takes is cut to the golden's size.
fn stretched(resampler: FloatResampler, from: &RgbImage, side: u32) -> Vec<f32> {
    let stretch = Stretch { resampler, side, scaling: Scaling::Byte };
    let mut planes = vec![0.0; stretch.output_len()];
    stretch.apply(from, &mut planes).unwrap();
    let len = (side * side) as usize;
    (0..len).flat_map(|at| [0, 1, 2].map(|channel| planes[channel * len + at] * 128.0 + 128.0)).collect()
}

#[test]
fn pixels_are_the_tools() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/goldens/fid/resize.json");
    let cases: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(cases.len() > 8);
    for case in cases {
        let numbers = |key: &str| [0, 1].map(|at| case[key][at].as_u64().unwrap() as u32);
        let ([width, height], [side, _]) = (numbers("from"), numbers("to"));
        let source = image(width, height);
        for resampler in [
            FloatResampler::TorchBilinear,
            FloatResampler::TorchAntialiased,
            FloatResampler::TensorFlowBilinear,
            FloatResampler::PilBicubic,
        ] {
            let name = serde_json::to_value(resampler).unwrap();
            let wanted = case[name.as_str().unwrap()].as_array().unwrap();
            let found = stretched(resampler, &source, side);
            assert_eq!(wanted.len(), found.len());
            for (at, (found, wanted)) in found.iter().zip(wanted).enumerate() {
                let off = (found - wanted.as_f64().unwrap() as f32).abs();
                let antialiased = resampler == FloatResampler::TorchAntialiased;
                assert!(
                    off < if antialiased { SAME_WEIGHTS } else { TOLERANCE },
                    "{name}, {width}x{height} to {side}: value {at} is {found}, not {wanted}"
                );
            }
        }
    }
}

#[test]
fn scalings() {
    let source = RgbImage::from_raw(1, 1, vec![0, 128, 255]).unwrap();
    let of = |scaling| {
        let mut out = [0.0; 3];
        Stretch { resampler: FloatResampler::TorchBilinear, side: 1, scaling }
            .apply(&source, &mut out)
            .unwrap();
        out
    };
    assert_eq!(of(Scaling::Byte), [-1.0, 0.0, 127.0 / 128.0]);
    assert_eq!(of(Scaling::Unit), [-1.0, 128.0 / 255.0 * 2.0 - 1.0, 1.0]);
}

#[test]
fn a_buffer_of_another_size_is_refused() {
    let stretch = Stretch { resampler: FloatResampler::PilBicubic, side: 4, scaling: Scaling::Unit };
    let error = stretch.apply(&image(3, 3), &mut [0.0; 47]).unwrap_err();
    assert!(matches!(error, Error::BufferLength { expected: 48, found: 47 }));
    let none = Stretch { side: 0, ..stretch }.apply(&image(3, 3), &mut []).unwrap_err();
    assert!(matches!(none, Error::ZeroSize { .. }));
}
