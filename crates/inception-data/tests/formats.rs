//! Every kind of picture of `generate_formats.py` equals OpenCV's and Pillow's pixels, in every one.
#![allow(clippy::unwrap_used)] // In a test the panic is the report.

mod common;

use common::{Summary, goldens_dir, pixel};
use inception_data::{DecodeOptions, Error, Reader, decode_with};
use serde::Deserialize;

#[derive(Deserialize)]
struct Formats {
    files: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    file: String,
    opencv: Option<Summary>,
    pillow: Option<Summary>,
}

fn cases() -> Vec<Case> {
    let text = std::fs::read_to_string(goldens_dir().join("formats.json")).unwrap();
    let formats: Formats = serde_json::from_str(&text).unwrap();
    assert!(formats.files.len() > 120);
    formats.files
}

fn bytes(case: &Case) -> Vec<u8> {
    std::fs::read(goldens_dir().join("formats").join(&case.file)).unwrap()
}

/// What OpenCV 4.6 does not read is read as Pillow reads it.
#[test]
fn every_kind_equals_opencv_and_pillow() {
    let mut failures = Vec::new();
    for case in cases().iter().filter(|case| !case.file.starts_with("refused")) {
        let pillow = case.pillow.as_ref();
        for (reader, wanted) in [(Reader::OpenCv, case.opencv.as_ref().or(pillow)), (Reader::Pillow, pillow)]
        {
            let wanted = wanted.unwrap_or_else(|| panic!("{}: neither library reads it", case.file));
            let difference = match decode_with(&bytes(case), &DecodeOptions::new(reader)) {
                Ok(image) => wanted.difference(&image),
                Err(error) => Some(format!("{error}: {:?}", std::error::Error::source(&error))),
            };
            failures.extend(difference.map(|what| format!("{} {reader:?}: {what}", case.file)));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Two rare kinds of JPEG and palettes of TIFF, which the decoders lack, are errors, where OpenCV reads them.
#[test]
fn what_is_not_read_is_refused() {
    let refused: Vec<Case> = cases().into_iter().filter(|case| case.file.starts_with("refused")).collect();
    assert_eq!(refused.len(), 3);
    for case in refused {
        assert!(case.opencv.is_some(), "{}", case.file);
        let error = decode_with(&bytes(&case), &DecodeOptions::new(Reader::OpenCv)).unwrap_err();
        assert!(matches!(error, Error::Undecodable { .. }), "{}: {error:?}", case.file);
    }
}

/// Cut at every byte each file is an error or, where a format has no end mark, a picture; never a panic.
#[test]
fn cuts_at_every_byte_never_panic() {
    for case in cases() {
        let whole = bytes(&case);
        let mut options = DecodeOptions::new(Reader::OpenCv);
        options.max_pixels = 1 << 20;
        for len in 0..whole.len() {
            for accept_truncated in [false, true] {
                options.accept_truncated = accept_truncated;
                let _ = decode_with(&whole[..len], &options);
            }
        }
    }
}

/// Damage gives an error or a picture of the size that it says, never a panic: the same changes each time.
#[test]
fn damage_never_panics() {
    let mut random = common::random();
    let mut options = DecodeOptions::new(Reader::OpenCv);
    options.max_pixels = 1 << 18;
    let (mut pictures, mut errors) = (0, 0);
    for case in cases() {
        let whole = bytes(&case);
        for round in 0..60 {
            let mut damaged = whole.clone();
            for _ in 0..1 + random(4) {
                // Half of the changes hit the header, where they do most.
                let at = random(if round % 2 == 0 { damaged.len() } else { damaged.len().min(80) });
                match random(4) {
                    0 => damaged[at] ^= 1 << random(8),
                    1 => damaged[at] = [0, 0xff, 0x7f, 0x80][random(4)],
                    2 => drop(damaged.drain(at..(at + 1 + random(9)).min(damaged.len()))),
                    _ => damaged.splice(at..at, [0xff, random(256) as u8]).for_each(drop),
                }
                if damaged.is_empty() {
                    break;
                }
            }
            options.accept_truncated = random(2) == 0;
            match decode_with(&damaged, &options) {
                Ok(image) => {
                    pictures += 1;
                    assert_eq!(image.pixels().len(), image.width() as usize * image.height() as usize * 3);
                }
                Err(_) => errors += 1,
            }
        }
    }
    assert!(
        pictures > 1000 && errors > 1000,
        "{pictures} pictures, {errors} errors: the damage is one-sided"
    );
}

/// The part of a cut JPEG that is there comes out as it is, the rest grey; only if that is asked for.
#[test]
fn a_cut_jpeg_is_filled_on_demand() {
    let whole = common::input("ILSVRC2012_val_00010010.jpeg");
    let mut options = DecodeOptions::new(Reader::Pillow);
    let complete = decode_with(&whole, &options).unwrap();
    let cut = &whole[..whole.len() / 2];
    assert!(matches!(decode_with(cut, &options), Err(Error::Truncated { .. })));
    options.accept_truncated = true;
    let filled = decode_with(cut, &options).unwrap();
    let (width, height) = (complete.width(), complete.height());
    assert_eq!((filled.width(), filled.height()), (width, height));
    assert_eq!(pixel(&filled, 0, 0), pixel(&complete, 0, 0));
    assert_eq!(pixel(&filled, width - 1, height - 1), Some([128; 3]));
}
