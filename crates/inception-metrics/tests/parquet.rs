//! Features in Parquet: what the crate itself reads of it, and that pyarrow has read the same.

#![cfg(feature = "parquet")]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use common::features;
use half::f16;
use inception_metrics::npy::Element;
use inception_metrics::parquet::Writer;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;

/// A file of `rows` pictures of `dimensions` features, in pieces of `piece` rows.
fn written(element: Element, rows: usize, dimensions: usize, piece: usize) -> (Vec<f32>, Vec<u8>) {
    let values = features(1, rows, dimensions, 0).values().to_vec();
    let names: Vec<PathBuf> = (0..rows).map(|row| PathBuf::from(format!("below/ü{row}.png"))).collect();
    let mut writer = Writer::new(Cursor::new(Vec::new()), element, dimensions).unwrap();
    for (values, names) in values.chunks(piece * dimensions).zip(names.chunks(piece)) {
        writer.add(values, names.iter().map(PathBuf::as_path)).unwrap();
    }
    (values, writer.finish().unwrap().into_inner())
}

fn read(bytes: Vec<u8>) -> (usize, Vec<(String, Vec<f32>)>) {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    let reader = SerializedFileReader::new(file).unwrap();
    let number = |field: &Field| match field {
        Field::Float(value) => *value,
        Field::Float16(value) => value.to_f32(),
        other => panic!("{other:?}"),
    };
    let rows = reader.get_row_iter(None).unwrap().map(|row| {
        let row = row.unwrap();
        let columns: Vec<(&String, &Field)> = row.get_column_iter().collect();
        let [(first, Field::Str(path)), (second, Field::ListInternal(list))] = columns[..] else {
            panic!("{columns:?}")
        };
        assert_eq!((first.as_str(), second.as_str()), ("path", "features"));
        (path.clone(), list.elements().iter().map(number).collect())
    });
    let rows = rows.collect();
    (reader.num_row_groups(), rows)
}

#[test]
fn rows_come_back() {
    for (element, rows, dimensions, piece) in [
        (Element::F32, 37, 5, 8),
        (Element::F16, 37, 5, 37),
        (Element::F32, 1100, 2048, 256),
        (Element::F32, 0, 3, 1),
    ] {
        let (values, bytes) = written(element, rows, dimensions, piece);
        let (groups, found) = read(bytes);
        // A group is closed with the piece that fills it: 2^20 numbers.
        assert_eq!(groups, (rows * dimensions).div_ceil(1 << 20).min(rows));
        assert_eq!(found.len(), rows);
        for (row, (path, found)) in found.iter().enumerate() {
            assert_eq!(*path, format!("below/ü{row}.png"));
            let wanted = &values[row * dimensions..][..dimensions];
            let wanted: Vec<f32> = match element {
                Element::F16 => wanted.iter().map(|&value| f16::from_f32(value).to_f32()).collect(),
                _ => wanted.to_vec(),
            };
            assert_eq!(*found, wanted);
        }
    }
}

/// `tests/goldens/fid/features.parquet` and `features-f16.parquet` are files of this test that pyarrow has
/// read: `generate.py parquet` there checks each number. Their bytes are written again here.
#[test]
fn files_that_pyarrow_has_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/goldens/fid");
    for (name, element) in [("features.parquet", Element::F32), ("features-f16.parquet", Element::F16)] {
        let (_, bytes) = written(element, 9, 4, 4);
        let path = folder.join(name);
        if std::env::var_os("INCEPTION_WRITE_PARQUET").is_some() {
            std::fs::write(&path, &bytes).unwrap();
        }
        let (_, wanted) = read(std::fs::read(path).unwrap());
        assert_eq!(read(bytes).1, wanted, "{name}");
    }
}

#[test]
fn rows_without_paths_are_refused() {
    let mut writer = Writer::new(Cursor::new(Vec::new()), Element::F32, 2).unwrap();
    assert!(writer.add(&[1.0, 2.0], std::iter::empty()).is_err());
    assert!(Writer::new(Cursor::new(Vec::new()), Element::F32, 0).is_err());
}
