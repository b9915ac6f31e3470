//! NumPy's files, whole and damaged.

#![cfg(feature = "distances")]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use common::{features, sums};
use inception_metrics::npy::{self, Element, Writer};
use inception_metrics::{Sums, npz};

fn write(path: &Path, sums: &mut Sums) {
    npz::write(File::create(path).unwrap(), path, sums).unwrap();
}

#[test]
fn features_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("features.npy");
    let features = features(1, 37, 5, 0);
    for (element, exact) in [(Element::F32, true), (Element::F16, false)] {
        let mut writer = Writer::new(File::create(&path).unwrap(), element, 5).unwrap();
        writer.add(&features.values()[..50]).unwrap();
        writer.add(&features.values()[50..]).unwrap();
        writer.finish().unwrap();
        let found = npy::read_features(&path).unwrap();
        assert_eq!((found.len(), found.dimensions()), (37, 5));
        let worst =
            found.values().iter().zip(features.values()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        // Half a unit in the last of 11 bits, below 4.
        assert!(if exact { worst == 0.0 } else { worst <= 2e-3 }, "{worst}");
    }
}

#[test]
fn statistics_come_back_and_merge() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let features = features(1, 50, 9, 0);
    let (first, second) = features.values().split_at(9 * 20);
    let part = |rows: &[f32]| {
        let mut sums = Sums::new(9).unwrap();
        sums.add(rows).unwrap();
        sums
    };
    write(&path("whole.npz"), &mut sums(&features));
    write(&path("first.npz"), &mut part(first));
    write(&path("second.npz"), &mut part(second));
    let [whole, first, second] =
        ["whole", "first", "second"].map(|name| npz::read(&path(&format!("{name}.npz"))).unwrap());
    let mut merged = second.sums.unwrap();
    merged.merge(first.sums.unwrap()).unwrap();
    assert_eq!(merged.gaussian().unwrap(), whole.gaussian);
    assert_eq!(whole.gaussian.images(), Some(50));
    write(&path("merged.npz"), &mut merged);
    assert_eq!(fs::read(path("merged.npz")).unwrap(), fs::read(path("whole.npz")).unwrap());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4, "nothing else is left");
}

/// What NumPy writes: `np.savez_compressed(path, mu=mu, sigma=sigma)` with an array in Fortran order and one
/// of f32.
#[test]
fn numpys_own_files() {
    let read = |name: &str| {
        let path = format!("{}/../../tests/goldens/fid/{name}", env!("CARGO_MANIFEST_DIR"));
        npz::read(path.as_ref())
    };
    let found = read("numpy.npz").unwrap();
    assert_eq!(found.gaussian.mean(), [0.5, 1.5, 2.5]);
    assert_eq!(found.gaussian.covariance(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
    assert!(found.sums.is_none() && found.gaussian.images().is_none());
    for (name, reason) in [
        ("nan.npz", "the covariance of the statistics has an entry that is NaN"),
        ("negative.npz", "sigma is no covariance: its variance 1 is -0.5"),
    ] {
        let error = read(name).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(reason), "{error}");
    }
}

#[test]
fn damaged_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (good, path) = (folder.path().join("good.npz"), folder.path().join("bad.npz"));
    write(&good, &mut sums(&features(1, 8, 3, 0)));
    let bytes = fs::read(&good).unwrap();
    // Cut anywhere, and each byte of the start and of some others changed: an error or the same numbers, no
    // panic.
    for len in (0..bytes.len()).step_by(7) {
        fs::write(&path, &bytes[..len]).unwrap();
        assert!(npz::read(&path).is_err(), "cut to {len}");
    }
    for at in (0..bytes.len()).step_by(3) {
        let mut changed = bytes.clone();
        changed[at] ^= 0x55;
        fs::write(&path, changed).unwrap();
        let _ = npz::read(&path);
    }
    let array = |header: &str, values: &[u8]| {
        let mut file = File::create(folder.path().join("bad.npy")).unwrap();
        file.write_all(b"\x93NUMPY\x01\x00").unwrap();
        file.write_all(&(header.len() as u16).to_le_bytes()).unwrap();
        file.write_all(header.as_bytes()).unwrap();
        file.write_all(values).unwrap();
        npy::read_features(&folder.path().join("bad.npy")).unwrap_err().to_string()
    };
    let good = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }\n";
    let cases = [
        ("{'descr': '|O', 'fortran_order': False, 'shape': (2, 2), }\n", 16),
        ("{'descr': '<f4', 'shape': (2, 2), }\n", 16),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 99999999999999999999), }\n", 16),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }\n", 16),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }\n", 16),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (4, 0), }\n", 0),
        ("{'descr': '<i8', 'fortran_order': False, 'shape': (1, 2), }\n", 16),
        (good, 15),
        ("", 0),
    ];
    for (header, len) in cases {
        let error = array(header, &vec![0; len]);
        assert!(error.contains("bad.npy"), "{header}: {error}");
    }
}
