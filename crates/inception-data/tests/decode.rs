//! Decoding equals cv2's; bad files are errors, never panics.
#![allow(clippy::unwrap_used)] // In a test the panic is the report.

mod common;

use std::error::Error as _;

use common::{expected, goldens, input};
use inception_data::{
    DecodeOptions, Error, FoundFormat, ImageFormat, Reader, RgbImage, decode, decode_with, read,
};

fn decode_with_limit(bytes: &[u8], max_pixels: u64) -> Result<RgbImage, Error> {
    let mut options = DecodeOptions::new(Reader::OpenCv);
    options.max_pixels = max_pixels;
    decode_with(bytes, &options)
}

#[test]
fn png_equals_cv2() {
    let cases = goldens().png;
    assert!(cases.len() > 20);
    let failures: Vec<String> = cases
        .iter()
        .filter_map(|case| match decode(&input(&case.file)) {
            Ok(image) => {
                case.summary.difference(&image).map(|difference| format!("{}: {difference}", case.file))
            }
            Err(error) => Some(format!("{}: {error}", case.file)),
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn jpeg_equals_cv2() {
    let cases = goldens().jpeg;
    assert!(cases.len() > 25);
    for case in &cases {
        let ours = decode(&input(&case.file)).unwrap_or_else(|error| panic!("{}: {error:?}", case.file));
        assert!(ours == expected(&case.expected), "{} differs", case.file);
    }
}

/// Pillow does not apply Exif's orientation, rounds ink otherwise, and cuts 16-bit grey off at 255.
#[test]
fn pillow_differs_where_it_does() {
    let as_pillow = DecodeOptions::new(Reader::Pillow);
    for (file, differs) in [
        ("exif1.jpg", false),
        ("exif6.jpg", true),
        ("exif6_after.png", true),
        ("cmyk.jpg", true),
        ("ycck.jpg", true),
        ("grey16.png", true),
        ("grey_alpha16.png", false),
        ("rgb16.png", false),
        ("palette_transparent.png", false),
        ("part_420.jpg", false),
    ] {
        let bytes = input(file);
        let same = decode(&bytes).unwrap() == decode_with(&bytes, &as_pillow).unwrap();
        assert_eq!(!same, differs, "{file}");
    }
    let upright = decode(&input("exif1.jpg")).unwrap();
    assert_eq!(decode_with(&input("exif6.jpg"), &as_pillow).unwrap(), upright);
    let grey = decode_with(&input("grey16.png"), &as_pillow).unwrap();
    assert!(grey.pixels().iter().all(|&value| value == 255));
}

/// The eight stored orientations of one image come out as eight different images of the same pixels, so that
/// a wrong turn cannot hide behind a symmetric image.
#[test]
fn orientations_differ_as_stored_and_keep_the_pixels() {
    let upright = decode(&input("exif1.jpg")).unwrap();
    let mut seen = vec![upright.clone()];
    for value in 2..=8 {
        let turned = decode(&input(&format!("exif{value}.jpg"))).unwrap();
        let [before, after] = [&upright, &turned].map(|image| {
            let mut pixels: Vec<&[u8]> = image.pixels().chunks_exact(3).collect();
            pixels.sort_unstable();
            pixels
        });
        assert!(before == after, "orientation {value} only moves pixels");
        assert!(!seen.contains(&turned), "orientation {value} equals another one");
        seen.push(turned);
    }
}

#[test]
fn empty() {
    assert!(matches!(decode(b""), Err(Error::Empty)));
}

/// Every cut of a PNG is an error, and an honest one.
#[test]
fn truncated_png() {
    let whole = input("rgb.png");
    for len in 1..whole.len() {
        match decode(&whole[..len]) {
            Err(Error::Truncated { format: ImageFormat::Png, bytes, .. }) => assert_eq!(bytes, len),
            other => panic!("cut at {len} of {}: {other:?}", whole.len()),
        }
    }
}

/// Pillow reads a PNG without its end, and so does who accepts cut files; of its pixels nothing may lack.
#[test]
fn a_png_without_its_end() {
    let whole = input("rgb.png");
    let (end, pixels) = (&whole[..whole.len() - 12], &whole[..whole.len() - 30]);
    let mut options = DecodeOptions::new(Reader::OpenCv);
    assert!(matches!(decode_with(end, &options), Err(Error::Truncated { .. })));
    options.accept_truncated = true;
    for options in [options, DecodeOptions::new(Reader::Pillow)] {
        assert_eq!(decode_with(end, &options).unwrap(), decode(&whole).unwrap());
        assert!(matches!(decode_with(pixels, &options), Err(Error::Truncated { .. })));
    }
}

/// A TIFF of 2 x 1 pixels of these 8-bit samples, grey or RGB, with what ExtraSamples says of a last one.
fn tiff(big: bool, planes: u64, extra: Option<u64>, samples: &[u8]) -> Vec<u8> {
    let each = samples.len() as u64 / 2;
    let colour = if each == 3 { 2 } else { 1 };
    let mut fields =
        vec![(256, 2), (257, 1), (258, 0), (259, 1), (262, colour), (273, 0), (277, each), (278, 1)];
    fields.extend([(279, samples.len() as u64), (284, planes)]);
    fields.extend(extra.map(|extra| (338, extra)));
    let number = |value: u64, len: usize| value.to_le_bytes()[..len].to_vec();
    let (head, size, entry) = match big {
        true => (b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0".to_vec(), 8, 20),
        false => (b"II*\0\x08\0\0\0".to_vec(), 4, 12),
    };
    let count = if big { 8 } else { 2 };
    let data = (head.len() + count + fields.len() * entry + size) as u64;
    let mut file = [head, number(fields.len() as u64, count)].concat();
    for (tag, value) in fields {
        let (kind, values, value) = match tag {
            258 if each == 3 => (3, each, data + samples.len() as u64),
            258 => (3, each, 0x0008_0008 & (u64::MAX >> (64 - 16 * each))),
            // Two planes of as many bytes each.
            273 if planes == 2 => (3, 2, data | (data + 2) << 16),
            279 if planes == 2 => (3, 2, 0x0002_0002),
            273 => (4, 1, data),
            279 => (4, 1, value),
            _ => (3, 1, value),
        };
        file.extend([number(tag, 2), number(kind, 2), number(values, size), number(value, size)].concat());
    }
    [file, number(0, size), samples.to_vec(), [8, 0].repeat(3)].concat()
}

/// OpenCV 4.6 and Pillow 13 give these pixels, too.
#[test]
fn tiff_with_grey_and_alpha_and_bigtiff() {
    let wanted = [200, 200, 200, 100, 100, 100];
    for (big, extra, samples) in [
        (false, None, &[200, 100][..]),
        (true, None, &[200, 100]),
        (false, Some(1), &[200, 128, 100, 255]),
        (false, Some(2), &[200, 128, 100, 255]),
        (true, Some(2), &[200, 128, 100, 255]),
    ] {
        let file = tiff(big, 1, extra, samples);
        let image = decode(&file).unwrap_or_else(|error| panic!("{big}, {extra:?}: {:?}", error.source()));
        assert_eq!(image.pixels(), wanted, "{big}, {extra:?}");
        // An entry of more values than the file has room for: the second, its number of values.
        let mut hostile = file.clone();
        let at = if big { 24 + 20 + 7 } else { 10 + 12 + 7 };
        hostile[at] = 0x7f;
        let error = decode(&hostile).unwrap_err();
        assert!(error.source().is_some_and(|source| source.to_string().contains("an entry of")), "{error:?}");
    }
    let rgb = [1, 2, 3, 4, 5, 6];
    assert_eq!(decode(&tiff(false, 1, None, &rgb)).unwrap().pixels(), rgb);
    let error = decode(&tiff(false, 2, Some(2), &[200, 100, 128, 255])).unwrap_err();
    assert!(error.source().unwrap().to_string().contains("separate planes"), "{error:?}");
}

/// Every cut of a JPEG is an error, where cv2 fills the rest with grey: within the header, within the pixels,
/// and of the end marker alone.
#[test]
fn truncated_jpeg() {
    for file in ["part_grey.jpg", "part_restart.jpg", "part_420_progressive.jpg", "exif6.jpg"] {
        let whole = input(file);
        for len in (1..whole.len())
            .step_by(if whole.len() > 4000 { 37 } else { 1 })
            .chain([whole.len() - 2, whole.len() - 1])
        {
            match decode(&whole[..len]) {
                Err(Error::Truncated { format: ImageFormat::Jpeg, bytes, .. }) => assert_eq!(bytes, len),
                other => panic!("{file} cut at {len} of {}: {other:?}", whole.len()),
            }
        }
        // What follows the end doesn't matter, as in cv2.
        let longer = [&whole[..], b"and a comment"].concat();
        assert_eq!(decode(&longer).unwrap(), decode(&whole).unwrap());
    }
}

/// A cut JPEG that somebody closed with an end marker is noticed, too: its last scan ends early.
#[test]
fn an_end_marker_after_a_cut_is_not_believed() {
    let whole = input("ILSVRC2012_val_00010010.jpeg");
    let closed = [&whole[..whole.len() / 2], b"\xff\xd9"].concat();
    assert!(matches!(decode(&closed), Err(Error::Truncated { .. })));
}

#[test]
fn other_formats_are_named() {
    let cases: &[(&[u8], FoundFormat)] = &[
        (b"BM\x46\0\0\0", FoundFormat::Unknown),
        (b"BMW is a make of cars", FoundFormat::Text),
        (b"\0\0\0\x20ftypavif", FoundFormat::Heif),
        (b"\0\0\0\x20ftypheic", FoundFormat::Heif),
        (b"\0\0\0\x0cjP  \r\n\x87\n", FoundFormat::Jpeg2000),
        (b"\xff\x0a\x01", FoundFormat::JpegXl),
        (b"%PDF-1.7", FoundFormat::Pdf),
        (b"\n<!DOCTYPE html><title>404</title>", FoundFormat::Markup),
        (b"n02123394/x.jpeg 283\n", FoundFormat::Text),
        ("Gr\u{fc}\u{df}e".as_bytes(), FoundFormat::Text),
        (b"\0\0\0\0", FoundFormat::Unknown),
        (b"\x80\x81\x82", FoundFormat::Unknown),
    ];
    for (bytes, wanted) in cases {
        match decode(bytes) {
            Err(Error::UnsupportedFormat { found }) => assert_eq!(found, *wanted, "{bytes:?}"),
            other => panic!("{bytes:?}: {other:?}"),
        }
    }
    let message = decode(b"\xff\x0a\x01").unwrap_err().to_string();
    assert_eq!(message, "expected JPEG, PNG, WebP, BMP, TIFF, GIF or PNM, found JPEG XL");
}

fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let crc = [&kind[..], data].concat().iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    });
    [&(data.len() as u32).to_be_bytes()[..], kind, data, &(!crc).to_be_bytes()].concat()
}

/// A PNG of a few bytes that declares an image of `width` x `height`.
fn png_bomb(width: u32, height: u32) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 6, 0, 0, 0]].concat();
    [
        &b"\x89PNG\r\n\x1a\n"[..],
        &chunk(b"IHDR", &header),
        &chunk(b"IDAT", b"x\x9c\x03\0\0\0\0\x01"),
        &chunk(b"IEND", b""),
    ]
    .concat()
}

#[test]
fn bombs_are_refused_by_their_headers() {
    for (width, height) in [(60_000, 60_000), (i32::MAX as u32, i32::MAX as u32), (1, i32::MAX as u32)] {
        match decode(&png_bomb(width, height)) {
            Err(Error::TooLarge { width: w, height: h, .. }) => {
                assert_eq!((w, h), (width.into(), height.into()))
            }
            other => panic!("{width} x {height}: {other:?}"),
        }
    }
    // The same file with a size that is allowed fails for another reason, so the limit is what refused it.
    assert!(matches!(decode(&png_bomb(60, 60)), Err(Error::Undecodable { .. } | Error::Truncated { .. })));

    let mut jpeg = input("part_420.jpg");
    let frame = jpeg.windows(2).position(|pair| pair == b"\xff\xc0").unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff; 4]);
    assert!(matches!(decode(&jpeg), Err(Error::TooLarge { width: 65_535, height: 65_535, .. })));
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0; 4]);
    assert!(matches!(decode(&jpeg), Err(Error::ZeroSize { width: 0, height: 0 })));
}

#[test]
fn the_limit_is_on_pixels() {
    for file in ["part_420.jpg", "3x1000.png"] {
        let data = input(file);
        let image = decode(&data).unwrap();
        let pixels = u64::from(image.width()) * u64::from(image.height());
        assert!(decode_with_limit(&data, pixels).is_ok());
        assert!(
            matches!(decode_with_limit(&data, pixels - 1), Err(Error::TooLarge { max_pixels, .. }) if max_pixels == pixels - 1)
        );
    }
}

#[test]
fn kinds_of_jpeg_that_are_not_supported_are_errors() {
    let whole = input("part_420.jpg");
    let frame = whole.windows(2).position(|pair| pair == b"\xff\xc0").unwrap();
    // 12 bits.
    let mut other = whole.clone();
    other[frame + 4] = 12;
    match decode(&other) {
        Err(error @ Error::Undecodable { format: ImageFormat::Jpeg, .. }) => {
            assert!(error.source().is_some())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_files_errors_say_which_file() {
    let missing = read("no/such/picture.jpg").unwrap_err();
    assert_eq!(missing.to_string(), "cannot read no/such/picture.jpg");
    assert!(missing.source().is_some());

    let not_a_picture = common::goldens_dir().join("generate.py");
    let error = read(&not_a_picture).unwrap_err();
    assert!(error.to_string().contains("generate.py"), "{error}");
    assert!(matches!(
        error,
        Error::File { source, .. } if matches!(*source, Error::UnsupportedFormat { found: FoundFormat::Text })
    ));
}

/// Damaged files give an error or an image, never a panic: some thousand random changes, the same ones each
/// time.
#[test]
fn damage_never_panics() {
    let mut random = common::random();
    let files = [
        "exif6.jpg",
        "rgb_adobe.jpg",
        "cmyk.jpg",
        "ycck.jpg",
        "1x1.jpg",
        "part_420_progressive.jpg",
        "part_422.jpg",
        "exif6_before.png",
        "rgba16.png",
        "palette4.png",
        "grey_alpha.png",
        "filtered.png",
        "animated.png",
        "animated_beside.png",
    ];
    let (mut pictures, mut errors) = (0, 0);
    for file in files {
        let whole = input(file);
        for round in 0..400 {
            let mut damaged = whole.clone();
            for _ in 0..1 + random(4) {
                // Half of the changes hit the header, where they do most.
                let at = if round % 2 == 0 { random(damaged.len()) } else { random(damaged.len().min(640)) };
                match random(4) {
                    0 => damaged[at] ^= 1 << random(8),
                    1 => damaged[at] = random(256) as u8,
                    2 => drop(damaged.drain(at..(at + 1 + random(9)).min(damaged.len()))),
                    _ => damaged.splice(at..at, [0xff, random(256) as u8]).for_each(drop),
                }
                if damaged.is_empty() {
                    break;
                }
            }
            // A small limit keeps the test quick where a size was hit.
            match decode_with_limit(&damaged, 1 << 20) {
                Ok(image) => {
                    pictures += 1;
                    assert_eq!(image.pixels().len(), image.width() as usize * image.height() as usize * 3);
                }
                Err(error) => {
                    errors += 1;
                    assert!(!error.to_string().is_empty());
                }
            }
        }
    }
    assert!(pictures > 100 && errors > 1000, "{pictures} pictures, {errors} errors: the damage is one-sided");
}
