//! Files that lie: an error that says what or where, never a panic, and no more memory than the file's size allows.

#![allow(clippy::unwrap_used, missing_docs, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use inception_weights::Checkpoint;

/// Counts what is allocated.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
/// The count is the process's, so that tests that look at it run one at a time.
static ONE: Mutex<()> = Mutex::new(());

// SAFETY: every call goes to the system's allocator unchanged; the counters do not touch the memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: the caller's promises are `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are `System`'s.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Opens `bytes` and reads every tensor; also the most memory that this took beyond what there was.
fn read(bytes: Vec<u8>) -> (Result<(), String>, usize) {
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let result = Checkpoint::from_bytes("hostile", bytes).map_err(|e| e.to_string()).and_then(|checkpoint| {
        for entry in &checkpoint.entries {
            if !matches!(entry.dtype, inception_weights::Dtype::Other(_)) {
                checkpoint.values(entry).map_err(|e| e.to_string())?;
            }
        }
        Ok(())
    });
    (result, PEAK.load(Ordering::Relaxed) - before)
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/goldens/weights/files");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 20);
    files
}

/// A few buffers and the bookkeeping of a test's own threads.
const LITTLE: usize = 4 << 20;

#[test]
fn every_truncation_is_an_error() {
    let _one = ONE.lock().unwrap_or_else(|e| e.into_inner());
    for file in files() {
        let whole = std::fs::read(&file).unwrap();
        for cut in 0..whole.len() {
            let (result, peak) = read(whole[..cut].to_vec());
            let error = result
                .err()
                .unwrap_or_else(|| panic!("{}: readable without its end from {cut} on", file.display()));
            assert!(!error.is_empty());
            assert!(peak < LITTLE, "{} cut at {cut}: {peak} bytes", file.display());
        }
    }
}

/// Every byte changed, in three ways: no panic, and no more memory than a small file deserves.
#[test]
fn every_changed_byte_is_survived() {
    let _one = ONE.lock().unwrap_or_else(|e| e.into_inner());
    for file in files() {
        let whole = std::fs::read(&file).unwrap();
        for at in 0..whole.len() {
            for change in [0xff, 0x01, 0x80] {
                let mut bytes = whole.clone();
                bytes[at] ^= change;
                let (_, peak) = read(bytes);
                assert!(peak < LITTLE, "{} with byte {at} ^ {change:#x}: {peak} bytes", file.display());
            }
        }
    }
}

fn error(bytes: Vec<u8>) -> String {
    let _one = ONE.lock().unwrap_or_else(|e| e.into_inner());
    let size = bytes.len();
    let (result, peak) = read(bytes);
    assert!(peak < LITTLE + 100 * size, "{peak} bytes for a file of {size}");
    result.expect_err("is refused")
}

fn pickle(body: &[u8]) -> Vec<u8> {
    [&[0x80, 4], body].concat()
}

#[test]
fn no_other_name_is_called() {
    for (name, text) in [
        ("os.system", &b"cos\nsystem\n(X\x02\x00\x00\x00ls\x85R."[..]),
        ("builtins.eval", b"\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R."),
        ("numpy.load", b"cnumpy\nload\n)R."),
        ("torch.load", b"ctorch\nload\n)R."),
        ("collections.defaultdict", b"ccollections\ndefaultdict\n)R."),
    ] {
        let error = error(pickle(text));
        assert!(error.contains(&format!("`{name}`")), "{error}");
        assert!(error.contains("at byte"), "{error}");
    }
    // Not by extension, by class, or by `__setstate__` either.
    assert!(error(pickle(b"\x82\x01.")).contains("extension"));
    assert!(error(pickle(b"(ios\nsystem\n.")).contains("class"));
    assert!(error(pickle(b"\x8c\x01aNb.")).contains("state"));
    assert!(error(pickle(b"}N\x85R.")).contains("is called"));
}

#[test]
fn sizes_beyond_the_file_are_refused() {
    for body in [
        &b"B\xff\xff\xff\xff"[..],
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"X\xff\xff\xff\x7f",
        b"\x8d\x00\x00\x00\x00\x00\x00\x00\x80",
        b"\x8b\xff\xff\xff\x7f",
        b"\x96\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        let error = error(pickle(body));
        assert!(error.contains("left") || error.contains("integer of"), "{error}");
    }
}

/// An array of 2^60 values whose bytes are few.
#[test]
fn shapes_beyond_the_file_are_refused() {
    for shape in [
        &b"\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x10\x85"[..], // (2^60,)
        b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x87", // (2^31 - 1,) * 3: overflows
        b"J\xff\xff\xff\x7fK\x00\x86",                        // (2^31 - 1, 0): nothing at all
        b"K\x03\x85",                                         // (3,): one too many
    ] {
        let body = [
            &b"}X\x01\x00\x00\x00acnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01"[..],
            shape,
            b"cnumpy\ndtype\nX\x02\x00\x00\x00f4K\x00K\x01\x87R\x89C\x08\x00\x00\x80\x3f\x00\x00\x80\x3ftbs.",
        ]
        .concat();
        let error = error(pickle(&body));
        assert!(error.contains("`a`"), "{error}");
    }
}

/// A hundred thousand levels, in each way that a pickle can nest.
#[test]
fn deep_nesting_does_not_recurse() {
    let one = ONE.lock().unwrap_or_else(|e| e.into_inner());
    let levels = 100_000;
    let dicts = [b"}N".repeat(levels), b"N".to_vec(), b"s".repeat(levels), b".".to_vec()].concat();
    let (result, peak) = read(pickle(&dicts));
    assert_eq!(result, Ok(())); // No tensor in it.
    assert!(peak < 50 << 20, "{peak} bytes");
    drop(one);
    for (open, close) in [(&b"]"[..], &b"a"[..]), (b"(", b"t"), (b")", b"\x85")] {
        let body = [open.repeat(levels), b"N".to_vec(), close.repeat(levels), b".".to_vec()].concat();
        let error = error(pickle(&body));
        assert!(error.contains("not a dictionary") || error.contains("stack"), "{error}");
    }
    // JSON in a safetensors header, too.
    let json = [b"{\"a\":".repeat(50_000), b"1".to_vec()].concat();
    error([&(json.len() as u64).to_le_bytes()[..], &json].concat());
}

/// Objects without end: more than any checkpoint has.
#[test]
fn too_many_objects_are_refused() {
    let error = error(pickle(&[b"(".to_vec(), b"N".repeat(2_000_000), b"d.".to_vec()].concat()));
    assert!(error.contains("objects"), "{error}");
}

/// A list that is appended to itself, and a dictionary that is its own value.
#[test]
fn cycles_are_harmless() {
    assert!(error(pickle(b"]\x94h\x00a.")).contains("not a dictionary"));
    let _one = ONE.lock().unwrap_or_else(|e| e.into_inner());
    let (result, _) = read(pickle(b"}\x94\x8c\nstate_dicth\x00s."));
    assert_eq!(result, Ok(())); // No tensor in it, which loading then says.
}

fn safetensors(json: &str, data: usize) -> Vec<u8> {
    [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), &vec![0; data]].concat()
}

#[test]
fn safetensors_headers_are_checked() {
    for (json, data) in [
        // Overlapping, out of order, with a gap, too long, too short, reversed, beyond the end.
        (
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
            12,
        ),
        (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, 8),
        (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}}"#, 8),
        (r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,8]}}"#, 8),
        (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#, 8),
        (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 4),
        (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 12),
        (r#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}"#, 0),
        (r#"{"a":{"dtype":"F99","shape":[2],"data_offsets":[0,8]}}"#, 8),
        (r#"{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}"#, 8),
        ("{\"a\":", 0),
    ] {
        let message = error(safetensors(json, data));
        assert!(message.contains("damaged safetensors"), "{json}: {message}");
    }
    let message = error([&u64::MAX.to_le_bytes()[..3], &[0, 0, 0, 0, 0], b"{}"].concat());
    assert!(message.contains("a header of"), "{message}");
}

/// A zip archive of one member.
fn zip(name: &str, method: u16, packed: u32, size: u32, body: &[u8]) -> Vec<u8> {
    let fields = |first: &[u8]| {
        [
            first,
            &method.to_le_bytes(),
            &[0; 8],
            &packed.to_le_bytes(),
            &size.to_le_bytes(),
            &(name.len() as u16).to_le_bytes(),
            &[0; 2],
        ]
        .concat()
    };
    let local = [&fields(b"PK\x03\x04\x0a\x00\x00\x00")[..], name.as_bytes(), body].concat();
    let central = [&fields(b"PK\x01\x02\x0a\x00\x0a\x00\x00\x00")[..], &[0; 14], name.as_bytes()].concat();
    let end = [
        &b"PK\x05\x06\0\0\0\0\x01\0\x01\0"[..],
        &(central.len() as u32).to_le_bytes(),
        &(local.len() as u32).to_le_bytes(),
        &[0; 2],
    ]
    .concat();
    [local, central, end].concat()
}

#[test]
fn zip_bombs_are_not_unpacked() {
    let message = error(zip("a/data.pkl", 8, 100, 1 << 30, &[0; 100]));
    assert!(message.contains("`a/data.pkl` is compressed"), "{message}");
    let message = error(zip("a/data.pkl", 0, 1 << 30, 1 << 30, &[0; 100]));
    assert!(message.contains("ends beyond"), "{message}");
    let message = error(zip("a/b", 0, 2, 2, b"}."));
    assert!(message.contains("without a `data.pkl`"), "{message}");
    let _one = ONE.lock().unwrap_or_else(|e| e.into_inner());
    let (result, _) = read(zip("a/data.pkl", 0, 4, 4, b"\x80\x02}."));
    assert_eq!(result, Ok(()));
}

/// A storage larger than its member, and a view beyond its storage.
#[test]
fn tensors_beyond_their_storage_are_refused() {
    let tensor = |elements: &[u8], shape: &[u8], stride: &[u8]| {
        [
            &b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"[..],
            elements,
            b"tQK\x00",
            shape,
            stride,
            b"\x89ccollections\nOrderedDict\n)RtRs.",
        ]
        .concat()
    };
    for (elements, shape, stride, reason) in [
        (&b"K\x01"[..], &b"K\x01\x85"[..], &b"K\x01\x85"[..], "not in the file"),
        (b"K\x01", b"J\xff\xff\xff\x7f\x85", b"K\x00\x85", "not in the file"),
    ] {
        let body = tensor(elements, shape, stride);
        let message = error(zip("a/data.pkl", 0, body.len() as u32, body.len() as u32, &body));
        assert!(message.contains(reason), "{message}");
    }
}

#[test]
fn other_files_are_named() {
    for (bytes, reason) in [
        (&b""[..], "an empty file"),
        (b"<!DOCTYPE html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"hello world, this is text", "not a known format"),
    ] {
        let message = error(bytes.to_vec());
        assert!(message.contains(reason), "{message}");
    }
}
