//! Data sets and pictures that lie: an error, never a panic, and no more memory than the file's size allows.
#![allow(clippy::unwrap_used, unsafe_code)] // In a test the panic is the report.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use inception_data::{Dataset, DatasetOptions, DecodeOptions, Reader, decode_with, parse_labels};

#[path = "../../../fuzz/src/counting.rs"]
mod counting;
#[path = "../../../fuzz/src/data.rs"]
mod fuzz;

use counting::measured;

/// Buffers of the decoders, and pictures of 2^16 pixels in their forms on the way.
const LITTLE: usize = 8 << 20;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What the fuzz targets have found, and start from.
#[test]
fn the_corpus_is_survived() {
    let formats = workspace().join("tests/goldens/preprocess/formats");
    for &target in fuzz::TARGETS {
        let mut folders = vec![workspace().join("fuzz/corpus").join(target)];
        folders.extend((target == "pictures").then(|| formats.clone()));
        let mut taken = 0;
        for folder in folders {
            for file in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
                let path = file.unwrap().path();
                let bytes = fs::read(&path).unwrap();
                let (is_taken, peak) = measured(|| fuzz::read(target, &bytes));
                assert!(peak < LITTLE + 400 * bytes.len(), "{}: {peak} bytes", path.display());
                taken += usize::from(is_taken);
            }
        }
        assert!(taken > 10, "{target}: {taken} inputs");
    }
}

/// Planes of four components that are smaller than the picture, where the decoder has no upsampling.
#[test]
fn unusual_samplings_of_four_components_are_refused() {
    let mut bytes = fs::read(workspace().join("fuzz/corpus/pictures/2d425b467932")).unwrap();
    let frame = bytes.windows(2).position(|marker| marker == [0xff, 0xc2]).unwrap();
    for samplings in [
        [0x11, 0x11, 0x11, 0x22],
        [0x14, 0x11, 0x11, 0x11],
        [0x11, 0x12, 0x11, 0x11],
        [0x32, 0x21, 0x11, 0x32],
        [0x22, 0x22, 0x11, 0x22],
    ] {
        for (component, sampling) in samplings.into_iter().enumerate() {
            bytes[frame + 11 + 3 * component] = sampling;
        }
        let error = inception_data::decode(&bytes).unwrap_err().to_string();
        let reason =
            std::error::Error::source(&inception_data::decode(&bytes).unwrap_err()).map(|e| e.to_string());
        assert!(reason.is_some_and(|reason| reason.contains("sampling that is not supported")), "{error}");
    }
}

/// A tar archive, the same in gzip, and a zip archive with stored and deflated members.
fn archives() -> [(&'static str, Vec<u8>); 3] {
    let picture = fs::read(workspace().join("tests/goldens/preprocess/inputs/1x1.png")).unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    let long = format!("2/{}.jpg", "x".repeat(120));
    for name in ["1/b.jpg", "./1/a.png", &long, "readme.txt"] {
        let mut header = tar::Header::new_gnu();
        header.set_size(picture.len() as u64);
        builder.append_data(&mut header, name, &picture[..]).unwrap();
    }
    let tar = builder.into_inner().unwrap();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(&tar).unwrap();
    let gzip = encoder.finish().unwrap();
    let mut zip = Vec::new();
    let mut archive = rawzip::ZipArchiveWriter::new(&mut zip);
    for name in ["1/a.jpg", "2/b.png"] {
        let (mut entry, config) =
            archive.new_file(name).compression_method(rawzip::CompressionMethod::DEFLATE).start().unwrap();
        let encoder = flate2::write::DeflateEncoder::new(&mut entry, flate2::Compression::default());
        let mut writer = config.wrap(encoder);
        writer.write_all(&picture).unwrap();
        let (encoder, descriptor) = writer.finish().unwrap();
        encoder.finish().unwrap();
        entry.finish(descriptor).unwrap();
    }
    archive.finish().unwrap();
    [("tar", tar), ("tar.gz", gzip), ("zip", zip)]
}

/// Cut at every byte an archive is an error; with any byte changed it is one, or its pictures are.
#[test]
fn archives_are_guarded_at_every_byte() {
    let folder = tempfile::tempdir().unwrap();
    let open = |path: &Path| {
        let dataset = Dataset::open(path, &DatasetOptions::new(3)).map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        for index in 0..dataset.len() {
            dataset.read_bytes(index, &mut bytes).map_err(|error| error.to_string())?;
        }
        Ok::<_, String>(dataset.len())
    };
    for (kind, whole) in archives() {
        let path = folder.path().join(format!("val.{kind}"));
        fs::write(&path, &whole).unwrap();
        assert!(open(&path).unwrap() >= 2, "{kind}");
        // A tar archive ends with 1024 zeros, of which the reader needs half, and what is behind is padding.
        let needed = if kind == "tar" { whole.len() - 1024 + 512 } else { whole.len() };
        for cut in 0..needed.min(whole.len()) {
            fs::write(&path, &whole[..cut]).unwrap();
            let (result, peak) = measured(|| open(&path));
            assert!(result.is_err(), "{kind} cut at {cut}");
            assert!(peak < 1 << 20, "{kind} cut at {cut}: {peak} bytes");
        }
        for at in 0..whole.len() {
            for change in [0xff, 0x01, 0x80] {
                let mut bytes = whole.clone();
                bytes[at] ^= change;
                fs::write(&path, &bytes).unwrap();
                let (_, peak) = measured(|| open(&path));
                assert!(peak < 2 << 20, "{kind}, byte {at} ^ {change:#x}: {peak} bytes");
            }
        }
    }
}

/// Names in every form, cut at every byte and with every byte changed.
#[test]
fn files_of_names_are_guarded_at_every_byte() {
    for whole in [
        "0 cat\n1 dog, hound\n2 axolotl\n",
        r#"{"class_to_idx": {"dog, hound": 1, "cat": 0, "axolotl": 2}}"#,
        r#"{"0": ["n02123045", "cat"], "1": ["n02084071", "dog"]}"#,
        r#"["cat", "dog"]"#,
    ] {
        for cut in 0..=whole.len() {
            let (_, peak) = measured(|| parse_labels(&whole[..cut]).is_ok());
            assert!(peak < 1 << 16, "{whole} cut at {cut}: {peak} bytes");
        }
        for (at, byte) in (0..whole.len()).flat_map(|at| (0..128).map(move |byte| (at, byte))) {
            let mut bytes = whole.as_bytes().to_vec();
            bytes[at] = byte;
            let _ = parse_labels(std::str::from_utf8(&bytes).unwrap());
        }
    }
    let deep = "[".repeat(100_000);
    assert!(parse_labels(&deep).is_err());
}

/// What the fuzzer has found in decoders: memory for what a header says, before it is compared with anything.
#[test]
fn headers_that_lie_take_little_memory() {
    let corpus = workspace().join("fuzz/corpus/pictures");
    for (file, reason) in [("tiff_huge_entry", "an entry of"), ("webp_huge_frame", "on a canvas of")] {
        let bytes = fs::read(corpus.join(file)).unwrap();
        let (result, peak) = measured(|| decode_with(&bytes, &DecodeOptions::new(Reader::OpenCv)));
        let error = result.unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains(reason), "{file}: {cause}");
        assert!(peak < 1 << 20, "{file}: {peak} bytes");
    }
}

/// Pictures cut at every byte take no more memory than their sizes allow.
#[test]
fn cut_pictures_take_little_memory() {
    for file in fs::read_dir(workspace().join("tests/goldens/preprocess/formats")).unwrap() {
        let path = file.unwrap().path();
        let whole = fs::read(&path).unwrap();
        let mut options = DecodeOptions::new(Reader::Pillow);
        (options.accept_truncated, options.max_pixels) = (true, 1 << 16);
        for cut in (0..whole.len()).step_by(3) {
            let (_, peak) = measured(|| decode_with(&whole[..cut], &options).is_ok());
            assert!(peak < LITTLE, "{} cut at {cut}: {peak} bytes", path.display());
        }
    }
}
