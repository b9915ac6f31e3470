//! Files that lie: an error that says what or where, never a panic, and no more memory than the file's size
//! allows.

#![allow(clippy::unwrap_used, missing_docs, unsafe_code)]

use std::path::{Path, PathBuf};

use inception_graph::{Op, Parameter, PoolKind};
use inception_weights::{Checkpoint, Dtype, Error};

#[path = "../../../fuzz/src/counting.rs"]
mod counting;
#[path = "../../../fuzz/src/checkpoints.rs"]
mod fuzz;

use counting::measured;

/// Keys and values of everything in a checkpoint.
type Values = Vec<(String, Vec<f32>)>;

fn values(opened: Result<Checkpoint, Error>) -> Result<Values, String> {
    let checkpoint = opened.map_err(|e| e.to_string())?;
    let numbers = checkpoint.entries.iter().filter(|e| !matches!(e.dtype, Dtype::Other(_)));
    let values = numbers.map(|e| Ok((e.key.clone(), checkpoint.values(e).map_err(|e| e.to_string())?)));
    values.collect()
}

/// Opens `bytes` and reads every tensor; also the most memory that this took.
fn read(bytes: Vec<u8>) -> (Result<(), String>, usize) {
    measured(|| values(Checkpoint::from_bytes("hostile", bytes)).map(drop))
}

fn goldens(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/goldens/weights").join(folder)
}

fn files() -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(goldens("files")).unwrap().map(|f| f.unwrap().path()).collect();
    // Small ones of Keras's; what follows reads each of them as often as it has bytes.
    let keras = ["hdf5_v110.h5", "keras2_flat_weights.h5", "keras3_nested.keras"];
    files.extend(keras.map(|name| goldens("keras").join(name)));
    files.sort();
    assert!(files.len() > 20);
    files
}

/// A small network as each tool exports it: a name, one or two files, and what opens them.
type Graph = (&'static str, Vec<Vec<u8>>, fn(&[Vec<u8>]) -> Result<Checkpoint, Error>);

/// A Paddle program and its values.
fn pair(program: &[u8], values: &[u8]) -> Result<Checkpoint, Error> {
    Checkpoint::from_files("hostile", program.to_vec(), &[("hostile.pdiparams", values)])
}

fn graphs() -> Vec<Graph> {
    let one = |files: &[Vec<u8>]| Checkpoint::from_bytes("hostile", files[0].clone());
    let two = |files: &[Vec<u8>]| pair(&files[0], &files[1]);
    let file = |name: &str| std::fs::read(goldens("graphs").join(name)).unwrap();
    vec![
        ("dynamo.onnx", vec![file("dynamo.onnx")], one),
        ("torchscript.onnx", vec![file("torchscript.onnx")], one),
        ("paddle2onnx.onnx", vec![file("paddle2onnx.onnx")], one),
        ("transformed_torchscript.onnx", vec![file("transformed_torchscript.onnx")], one),
        ("normalised.onnx", vec![file("normalised.onnx")], one),
        ("half.onnx", vec![file("half.onnx")], one),
        ("quantised.onnx", vec![file("quantised.onnx")], one),
        ("quantised_channels.onnx", vec![file("quantised_channels.onnx")], one),
        ("optimised_extended.onnx", vec![file("optimised_extended.onnx")], one),
        ("json", vec![file("new.json"), file("new.pdiparams")], two),
        ("pdmodel", vec![file("old.pdmodel"), file("old.pdiparams")], two),
        ("json with softmax", vec![file("new_softmax.json"), file("new_softmax.pdiparams")], two),
        ("pdmodel with softmax", vec![file("old_softmax.pdmodel"), file("old_softmax.pdiparams")], two),
        ("bpk", vec![bpk()], one),
    ]
}

/// What `burn-pack` writes.
fn bpk() -> Vec<u8> {
    let tensor = |name: &str, values: &[f32]| {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        burn_pack::Tensor::new(
            name.to_owned(),
            burn_pack::DType::F32,
            vec![values.len()],
            None,
            burn_pack::Bytes::from_bytes_vec(bytes),
        )
    };
    let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    let tensors = vec![tensor("a", &[1.0, 2.0]), tensor("b", &[3.0])];
    let writer = burn_pack::Writer::new(tensors).auto_extension(false).overwrite(true);
    writer.with_metadata("model", "GoogLeNet").write_to_file(&path).unwrap();
    std::fs::read(&path).unwrap()
}

/// A few buffers and the bookkeeping of a test's own threads.
const LITTLE: usize = 4 << 20;

#[test]
fn every_truncation_is_an_error() {
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

/// Graphs, too. Their formats do not say where they end, so that a file without its end may be whole; then it
/// has everything, or whatever reads it notices.
#[test]
fn truncated_graphs_have_everything_or_are_errors() {
    for (name, files, open) in graphs() {
        let whole = values(open(&files)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut errors = 0;
        for file in 0..files.len() {
            for cut in 0..files[file].len() {
                let mut files = files.clone();
                files[file].truncate(cut);
                let (result, peak) = measured(|| values(open(&files)));
                match result {
                    Ok(values) => assert_eq!(values, whole, "{name}: file {file} cut at {cut}"),
                    Err(error) => errors += usize::from(!error.is_empty()),
                }
                assert!(peak < LITTLE, "{name}: file {file} cut at {cut}: {peak} bytes");
            }
        }
        let all: usize = files.iter().map(Vec::len).sum();
        assert!(errors * 10 > all * 9, "{name}: {errors} errors in {all} cuts");
    }
}

#[test]
fn every_changed_byte_of_a_graph_is_survived() {
    for (name, files, open) in graphs() {
        for file in 0..files.len() {
            for at in 0..files[file].len() {
                for change in [0xff, 0x01, 0x80] {
                    let mut files = files.clone();
                    files[file][at] ^= change;
                    let (_, peak) = measured(|| values(open(&files)));
                    assert!(peak < LITTLE, "{name}: file {file}, byte {at} ^ {change:#x}: {peak} bytes");
                }
            }
        }
    }
}

/// What the fuzz targets have found, and start from.
#[test]
fn the_corpus_is_survived() {
    for &(target, format) in fuzz::TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
        let mut taken = 0;
        for file in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = file.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            let (is_taken, peak) = measured(|| fuzz::read(target, format, &bytes));
            assert!(peak < LITTLE + 100 * bytes.len(), "{}: {peak} bytes", path.display());
            taken += usize::from(is_taken);
        }
        assert!(taken > 10, "{target}: {taken} inputs");
    }
}

/// Every byte changed, in three ways: no panic, and no more memory than a small file deserves. Of files of
/// over 16 kB, which are Keras's and full of zeros, every second byte and so on.
#[test]
fn every_changed_byte_is_survived() {
    for file in files() {
        let whole = std::fs::read(&file).unwrap();
        // Long files, which hold the sources of PyTorch's classes, in steps.
        for at in (0..whole.len()).step_by(1 + whole.len() / (16 << 10)) {
            for change in [0xff, 0x01, 0x80] {
                let mut bytes = whole.clone();
                bytes[at] ^= change;
                let (_, peak) = read(bytes);
                assert!(peak < LITTLE, "{} with byte {at} ^ {change:#x}: {peak} bytes", file.display());
            }
        }
    }
}

/// HDF5 refers by addresses everywhere. Each of them pointed at itself, at the outermost group, at the end
/// and beyond: whatever then contains itself comes to an end.
#[test]
fn keras_addresses_are_checked() {
    let mut errors = Vec::new();
    for name in ["keras2_flat_weights.h5", "keras3_flat.weights.h5"] {
        let whole = std::fs::read(goldens("keras").join(name)).unwrap();
        let size = whole.len() as u64;
        let number = |at: usize| u64::from_le_bytes(*whole[at..].first_chunk().unwrap());
        let is_address = |&at: &usize| (96..size).contains(&number(at)) && number(at) % 8 == 0;
        let addresses: Vec<usize> = (0..whole.len() - 7).step_by(8).filter(is_address).collect();
        assert!(addresses.len() > 100, "{name}: {}", addresses.len());
        for at in addresses {
            for target in [96, at as u64, size - 8, size, u64::MAX - 7] {
                let mut bytes = whole.clone();
                bytes[at..at + 8].copy_from_slice(&target.to_le_bytes());
                let (result, peak) = read(bytes);
                errors.extend(result.err());
                assert!(peak < LITTLE, "{name}, address at {at} to {target}: {peak} bytes");
            }
        }
    }
    for reason in ["groups deeper than", "end beyond the file", "no object header", "no members of a group"] {
        assert!(errors.iter().any(|error| error.contains(reason)), "{reason}");
    }
}

/// The smallest file that can be: a superblock, the root's header, and messages.
fn hdf5(messages: &[(u8, &[u8])]) -> Vec<u8> {
    let body: Vec<u8> = messages
        .iter()
        .flat_map(|(kind, data)| [&[*kind][..], &(data.len() as u16).to_le_bytes(), &[0], data].concat())
        .collect();
    let header = [&b"OHDR\x02\x02"[..], &(body.len() as u32).to_le_bytes(), &body, &[0; 4]].concat();
    let numbers = [0, u64::MAX, 48 + header.len() as u64, 48].map(u64::to_le_bytes).concat();
    [&b"\x89HDF\r\n\x1a\n\x02\x08\x08\0"[..], &numbers, &[0; 4], &header].concat()
}

/// A list in 2,000 pieces, each of which is looked for among all.
#[test]
fn keras_lists_in_many_pieces_are_bounded() {
    let attribute = |i: usize| {
        let name = format!("layer_names{i}\0");
        let space = [2, 1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0];
        let sizes = [name.len(), 8, space.len()].map(|size| (size as u16).to_le_bytes()).concat();
        [&[3, 0][..], &sizes, &[0], name.as_bytes(), &[0x13, 0, 0, 0, 1, 0, 0, 0], &space, b"a"].concat()
    };
    let group = [&[0, 0][..], &[0xff; 16]].concat();
    let attributes: Vec<_> = (0..2000).map(attribute).collect();
    let messages: Vec<_> =
        [(2, &group[..])].into_iter().chain(attributes.iter().map(|a| (12, &a[..]))).collect();
    let message = error(hdf5(&messages));
    assert!(message.contains("over and over"), "{message}");
}

#[test]
fn keras_text_is_bounded() {
    assert!(error(hdf5(&[(0, &[])])).contains("no group"));
    // An attribute of 2^40 names of no length, of names elsewhere that are not there, and one in an unknown
    // form.
    let attribute = |version: u8, datatype: &[u8], count: u64| {
        let space = [&[2, 1, 0, 1][..], &count.to_le_bytes()].concat();
        let sizes = [12, datatype.len(), space.len()].map(|size| (size as u16).to_le_bytes()).concat();
        [&[version, 0][..], &sizes, &[0], b"layer_names\0", datatype, &space].concat()
    };
    let group = [&[0, 0][..], &[0xff; 16]].concat();
    let of = |attribute: &[u8]| error(hdf5(&[(2, &group), (12, attribute)]));
    let (fixed, elsewhere) = ([0x13, 0, 0, 0, 0, 0, 0, 0], [0x19, 1, 0, 0, 16, 0, 0, 0]);
    assert!(of(&attribute(3, &fixed, 1 << 40)).contains("lacks"));
    assert!(of(&attribute(3, &elsewhere, 1 << 40)).contains("lacks"));
    let missing = [
        attribute(3, &elsewhere, 1),
        [&[1, 0, 0, 0][..], &[48, 0, 0, 0, 0, 0, 0, 0], &[1, 0, 0, 0]].concat(),
    ];
    assert!(of(&missing.concat()).contains("no collection of text at 48"));
    assert!(of(&attribute(9, &fixed, 1)).contains("attribute of version 9"));
    // A header that goes on in itself.
    let continued = [48u64.to_le_bytes(), 60u64.to_le_bytes()].concat();
    let again = error(hdf5(&[(2, &group), (16, &continued)]));
    assert!(again.contains("over and over") || again.contains("lacks"), "{again}");
}

fn error(bytes: Vec<u8>) -> String {
    let size = bytes.len();
    let (result, peak) = read(bytes);
    assert!(peak < LITTLE + 100 * size, "{peak} bytes for a file of {size}");
    result.expect_err("is refused")
}

fn pickle(body: &[u8]) -> Vec<u8> {
    [&[0x80, 4], body].concat()
}

/// A name is the class of an object that does nothing: it is not looked up, and a file of nothing else has no
/// tensors.
#[test]
fn no_other_name_is_called() {
    for (name, text) in [
        ("os.system", &b"cos\nsystem\nX\x02\x00\x00\x00ls\x85R."[..]),
        ("builtins.eval", b"\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R."),
        ("numpy.load", b"cnumpy\nload\n)R."),
        ("torch.load", b"ctorch\nload\n)R."),
        ("collections.defaultdict", b"ccollections\ndefaultdict\n)R."),
        ("os.system", b"(ios\nsystem\n."),
        ("os.system", b"(cos\nsystem\nX\x02\x00\x00\x00lso."),
        ("os.system", b"cos\nsystem\n)}\x92}b."),
        // Calling what a call gave, and giving it a state.
        ("os.system", b"cos\nsystem\n)R)R}X\x01\x00\x00\x00aNsb."),
    ] {
        let error = error(pickle(text));
        assert!(error.contains(&format!("an object of `{name}`")), "{error}");
    }
    // Beside a dictionary they are passed over.
    let (result, _) = read(pickle(b"}(X\x01\x00\x00\x00acos\nsystem\n)RX\x01\x00\x00\x00bcos\nsystem\nu."));
    assert_eq!(result, Ok(()));
    assert!(error(pickle(b"\x82\x01.")).contains("extension"));
    assert!(error(pickle(b"\x8c\x01aNb.")).contains("state"));
    assert!(error(pickle(b"}N\x85R.")).contains("is called"));
    assert!(error(pickle(b"(o.")).contains("without a class"));
}

/// A module that holds itself, and modules that hold the next one twice: 2^40 paths.
#[test]
fn modules_within_modules_are_bounded() {
    let module = |children: &[u8]| [b"cm\nM\n)R}X\x08\x00\x00\x00_modules}(", children, b"usb"].concat();
    let own = [b"cm\nM\n)Rq\x00}X\x08\x00\x00\x00_modules}X\x01\x00\x00\x00ah\x00ssb.".to_vec()].concat();
    assert!(error(pickle(&own)).contains("an object of `m.M`"));
    let mut nested = module(b"");
    for level in 0..40u8 {
        let put = [&nested[..], b"q", &[level], b"0"].concat();
        let both =
            [b"X\x01\x00\x00\x00ah".to_vec(), vec![level], b"X\x01\x00\x00\x00bh".to_vec(), vec![level]]
                .concat();
        nested = [put, module(&both)].concat();
    }
    let (_, peak) = read(pickle(&[&nested[..], b"."].concat()));
    assert!(peak < LITTLE, "{peak} bytes");
}

/// One object at a hundred thousand places: arrays and dictionaries under one long key, and a module's children.
#[test]
fn objects_at_many_places_are_bounded() {
    let times = 100_000;
    let array =
        &b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01K\x01\x85\
        cnumpy\ndtype\nX\x02\x00\x00\x00f4K\x00K\x01\x87R\x89C\x04\x00\x00\x80\x3ftb"[..];
    let dict = b"}X\x01\x00\x00\x00aNs";
    for (length, value) in [(4090u32, array), (4090, dict), (150, array), (150, dict)] {
        let key = [b"X", &length.to_le_bytes()[..], &vec![b'k'; length as usize]].concat();
        let start = [b"}(", &key[..], b"q\x00", value, b"q\x01"].concat();
        let (_, peak) = read(pickle(&[start, b"h\x00h\x01".repeat(times), b"u.".to_vec()].concat()));
        assert!(peak < LITTLE + 40_000_000, "{length}: {peak} bytes");
    }
    let module = b"cm\nM\n)Rq\x00}X\x08\x00\x00\x00_modules}(X\x05\x00\x00\x00childq\x01h\x00";
    let (_, peak) = read(pickle(&[&module[..], &b"h\x01h\x00".repeat(times), b"usb."].concat()));
    assert!(peak < LITTLE + 40_000_000, "{peak} bytes");
}

/// What PyTorch quantises it stores in classes of its own.
#[test]
fn storages_of_quantized_numbers_are_named() {
    let body =
        b"(X\x07\x00\x00\x00storagectorch\nQInt8Storage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQ.";
    let message = error(zip("a/data.pkl", 0, body.len() as u32, body.len() as u32, body));
    assert!(message.contains("`torch.QInt8Storage`"), "{message}");
}

/// What is no file is not opened: nobody may ever write to a pipe.
#[cfg(unix)]
#[test]
fn pipes_are_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("inference.pdiparams");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let error = Checkpoint::open(&pipe).unwrap_err().to_string();
    assert!(error.contains("a pipe or a device"), "{error}");
    // Nor is one that lies where a program's values should.
    let program = folder.path().join("inference.json");
    std::fs::copy(goldens("graphs").join("new.json"), &program).unwrap();
    let error = Checkpoint::open(&program).unwrap_err().to_string();
    assert!(error.contains("not beside it"), "{error}");
    // What is in memory has nothing on the disk beside it.
    let error = Checkpoint::from_bytes(goldens("graphs").join("new.json"), std::fs::read(&program).unwrap());
    assert!(error.unwrap_err().to_string().contains("not beside it"));
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
    let levels = 100_000;
    let dicts = [b"}N".repeat(levels), b"N".to_vec(), b"s".repeat(levels), b".".to_vec()].concat();
    let (result, peak) = read(pickle(&dicts));
    assert_eq!(result, Ok(())); // No tensor in it.
    assert!(peak < 50 << 20, "{peak} bytes");
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
        (b"\n\n<html>", "a web page"),
        (b"hello world, this is text", "not a known format"),
        // The first bytes of TensorFlow's saved_model.pb and frozen graph, and of a .caffemodel.
        (b"\x08\x01\x12\xd5\x9a\x04\x0a\xc4\x8f\x02\x0a\x0e", "saved_model.pb"),
        (b"\x0a\x3c\x0a\x05input\x12\x0bPlaceholder*\x0b\x0a\x05dtype", "no Paddle program"),
        (b"\x0a\x09GoogleNet\x12\x06\x08\x80\x04\x12\x04data", "no Paddle program"),
    ] {
        let message = error(bytes.to_vec());
        assert!(message.contains(reason), "{message}");
    }
}

/// Fields of protocol buffers: numbers, and bytes or messages.
enum Field<'a> {
    Number(u64, u64),
    Bytes(u64, &'a [u8]),
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn message(fields: &[Field]) -> Vec<u8> {
    let field = |field: &Field| match *field {
        Field::Number(number, value) => [varint(number << 3), varint(value)].concat(),
        Field::Bytes(number, bytes) => {
            [varint(number << 3 | 2), varint(bytes.len() as u64), bytes.to_vec()].concat()
        }
    };
    fields.iter().flat_map(field).collect()
}

/// An ONNX model of one image, these tensors and no operation.
fn onnx(tensors: &[Vec<u8>]) -> Vec<u8> {
    let image = message(&[Field::Bytes(1, b"x")]);
    let mut fields: Vec<_> = tensors.iter().map(|tensor| Field::Bytes(5, tensor)).collect();
    fields.extend([Field::Bytes(11, &image), Field::Bytes(12, &image)]);
    let graph = message(&fields);
    message(&[Field::Number(1, 8), Field::Bytes(2, b"x"), Field::Bytes(7, &graph)])
}

/// A tensor of single precision.
fn onnx_tensor(name: &str, shape: &[u64], data: &[u8]) -> Vec<u8> {
    let mut fields: Vec<_> = shape.iter().map(|&d| Field::Number(1, d)).collect();
    fields.extend([Field::Number(2, 1), Field::Bytes(8, name.as_bytes()), Field::Bytes(9, data)]);
    message(&fields)
}

#[test]
fn onnx_tensors_are_checked() {
    {
        let (result, _) = read(onnx(&[onnx_tensor("a", &[2], &[0; 8])]));
        assert_eq!(result, Ok(()));
    }
    for (shape, bytes) in
        [(&[1 << 60][..], 8), (&[1 << 32, 1 << 32, 4], 8), (&[u64::MAX], 8), (&[3], 8), (&[1], 8)]
    {
        let message = error(onnx(&[onnx_tensor("a", shape, &vec![0; bytes])]));
        assert!(message.contains("`a`"), "{shape:?}: {message}");
    }
    let tensor = onnx_tensor("a", &[2], &[0; 8]);
    assert!(error(onnx(&[tensor.clone(), tensor])).contains("`a` is there twice"));
    let elsewhere =
        message(&[Field::Number(1, 2), Field::Number(2, 1), Field::Bytes(8, b"a"), Field::Number(14, 1)]);
    assert!(error(onnx(&[elsewhere])).contains("in another file"));
    let dims = onnx_tensor("a", &[1; 100], &[0; 4]);
    error(onnx(&[dims]));
    // More bytes than there are, in a field of the graph, of the model, and in a number without end.
    for tail in [&b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f"[..], b"\x3a\x05a", &[0xff; 20]] {
        error([&b"\x08\x08\x12\x01x"[..], tail].concat());
    }
}

/// Messages in messages cost nothing: only those that are known are entered.
#[test]
fn deep_messages_do_not_recurse() {
    let mut nested = Vec::new();
    for _ in 0..2000 {
        nested = message(&[Field::Bytes(7, &nested)]);
    }
    let message = error(message(&[Field::Number(1, 8), Field::Bytes(2, b"x"), Field::Bytes(7, &nested)]));
    assert!(message.contains("input"), "{message}");
}

fn pair_error(program: &[u8], values: &[u8]) -> String {
    let size = program.len() + values.len();
    let (result, peak) = measured(|| pair(program, values).map(drop).map_err(|e| e.to_string()));
    assert!(peak < LITTLE + 100 * size, "{peak} bytes for a pair of {size}");
    result.expect_err("is refused")
}

#[test]
fn paddle_pairs_are_checked() {
    let read = |name: &str| std::fs::read(goldens("graphs").join(name)).unwrap();
    let (json, values) = (read("new.json"), read("new.pdiparams"));
    // Values without a variable, and variables without values.
    assert!(pair_error(&json, &[&values[..], &[0]].concat()).contains("after the last"));
    assert!(pair_error(&json, b"").contains("variables"));
    // A shape that no file has room for: the first description is `{type, dims...}` behind 20 bytes.
    let length = u32::from_le_bytes(*values[16..].first_chunk().unwrap()) as usize;
    let shape = message(&[Field::Number(1, 5), Field::Number(2, 1 << 40), Field::Number(2, 1 << 40)]);
    let huge = [&values[..16], &(shape.len() as u32).to_le_bytes(), &shape, &values[20 + length..]].concat();
    assert!(pair_error(&json, &huge).contains("larger than the file"));
    // Programs that are none.
    for program in [&b"{"[..], b"{}", b"{\"program\": 1}", b"\x0a\x00", b"\x0a\xff\xff\xff\xff\x7f", b""] {
        pair_error(program, &values);
    }
    let nested = [b"{\"a\":".repeat(50_000), b"1".to_vec()].concat();
    assert!(pair_error(&nested, &values).contains("recursion"));
    let lists = [b"{\"a\":".to_vec(), b"[".repeat(50_000)].concat();
    assert!(pair_error(&lists, &values).contains("recursion"));
}

/// What a pool's attributes say is read, or refused.
#[test]
fn pools_are_as_their_attributes_say() {
    let read = |name: &str| std::fs::read(goldens("graphs").join(name)).unwrap();
    let (json, values) = (String::from_utf8(read("new.json")).unwrap(), read("new.pdiparams"));
    let (before, pool) = json.split_at(json.find("pool2d").unwrap());
    for (was, changed) in [("\"EXPLICIT\"", "\"SAME\""), ("\"NCHW\"", "\"NHWC\"")] {
        let changed = [before, &pool.replacen(was, changed, 1)].concat();
        let message = pair_error(changed.as_bytes(), &values);
        assert!(
            message.contains("pool2d") && message.contains("pads by itself or has channels last"),
            "{message}"
        );
    }
    let mut onnx = read("torchscript.onnx");
    let dilations = |checkpoint: &Checkpoint| -> Vec<[usize; 2]> {
        let pool = |op: &Op<Parameter>| match op {
            Op::Pool(pool) if pool.kind == PoolKind::Max => Some(pool.window.dilation),
            _ => None,
        };
        checkpoint.graph().unwrap().nodes.iter().filter_map(|node| pool(&node.op)).collect()
    };
    assert_eq!(dilations(&Checkpoint::from_bytes("onnx", onnx.clone()).unwrap()), [[1; 2]]);
    let pool = onnx.windows(7).position(|word| word == b"MaxPool").unwrap();
    let of_pool = onnx[pool..].windows(11).position(|word| word == b"dilations@\x01").unwrap();
    (onnx[pool + of_pool + 10], onnx[pool + of_pool + 12]) = (2, 2);
    assert_eq!(dilations(&Checkpoint::from_bytes("onnx", onnx).unwrap()), [[2; 2]]);
}

/// A `.bpk` of a description in CBOR, and of so many bytes of tensors.
fn bpk_of(description: &[u8], data: usize) -> Vec<u8> {
    let mut bytes = bpk()[..burn_pack::HEADER_SIZE].to_vec();
    let at = bytes.len() - 4;
    bytes[at..].copy_from_slice(&(description.len() as u32).to_le_bytes());
    bytes.extend(description);
    bytes.resize(burn_pack::aligned_data_section_start(description.len()) + data, 0);
    bytes
}

#[test]
fn burnpack_descriptions_are_checked() {
    use ciborium::value::Value;
    let tensors = |list: &[(&str, &[u64], (u64, u64))]| {
        let tensor = |&(name, shape, (start, end)): &(&str, &[u64], (u64, u64))| {
            let shape = shape.iter().map(|&d| d.into()).collect();
            let fields = [
                ("dtype", Value::from("F32")),
                ("shape", Value::Array(shape)),
                ("data_offsets", Value::Array(vec![start.into(), end.into()])),
            ];
            (Value::from(name), Value::Map(fields.map(|(k, v)| (k.into(), v)).into()))
        };
        let all = Value::Map(vec![("tensors".into(), Value::Map(list.iter().map(tensor).collect()))]);
        let mut bytes = Vec::new();
        ciborium::into_writer(&all, &mut bytes).unwrap();
        bytes
    };
    {
        let good = tensors(&[("a", &[2], (0, 8)), ("b", &[1], (8, 12))]);
        assert_eq!(read(bpk_of(&good, 12)).0, Ok(()));
    }
    for (list, reason) in [
        (&[("a", &[2][..], (0, 8)), ("b", &[2][..], (4, 12))][..], "share bytes"),
        (&[("a", &[4], (0, 8))], "`a`"),
        (&[("a", &[2], (8, 0))], "`a`"),
        (&[("a", &[2], (8, 16))], "`a`"),
        (&[("a", &[1 << 32, 1 << 32], (0, 8))], "`a`"),
        (&[("a", &[1 << 40], (0, 1 << 42))], "`a`"),
        (&[("a", &[1], (u64::MAX - 3, u64::MAX))], "`a`"),
    ] {
        let message = error(bpk_of(&tensors(list), 12));
        assert!(message.contains(reason), "{list:?}: {message}");
    }
    // A list in a list, a map of a billion entries, and text of as many bytes.
    for description in
        [vec![0x81; 10_000], b"\xba\x3b\x9a\xca\x00".to_vec(), b"\x7a\x3b\x9a\xca\x00".to_vec()]
    {
        assert!(error(bpk_of(&description, 0)).contains("description"));
    }
}

/// A tensor by `pickle.dump`, whose storage is bytes that PyTorch would unpickle once more: named for what it
/// is.
#[test]
fn pickles_within_pickles_are_named() {
    let storage = b"ctorch.storage\n_load_from_bytes\n(C\x01xtR";
    let tensor =
        [b"ctorch._utils\n_rebuild_tensor_v2\n(", &storage[..], b"K\x00K\x01\x85K\x01\x85tR"].concat();
    let bytes = [b"\x80\x03}X\x06\x00\x00\x00weight", &tensor[..], b"s."].concat();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inception.pkl");
    std::fs::write(&path, bytes).unwrap();
    let error = Checkpoint::open(&path).unwrap_err().to_string();
    assert!(error.contains("pickle.dump") && error.contains("torch.save"), "{error}");
}

/// The stride of a dimension of one can be anything: PyTorch ignores it, too.
#[test]
fn the_stride_of_a_dimension_of_one_means_nothing() {
    let values = |path: PathBuf| {
        let checkpoint = Checkpoint::open(path).unwrap();
        let entry = checkpoint.entries.iter().find(|entry| entry.key == "conv.weight").unwrap();
        (entry.shape.clone(), checkpoint.values(entry).unwrap())
    };
    let (shape, whole) = values(goldens("files/exported.pt2"));
    assert_eq!(shape, [4, 3, 3, 3]);
    // The same storage as 27x1x4, of strides 1, 2^64 - 1 and 27 (`fuzz/seeds.py`).
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/exported");
    let (shape, transposed) = values(corpus.join("stride-of-one"));
    assert_eq!(shape, [27, 1, 4]);
    for (i, value) in transposed.iter().enumerate() {
        assert_eq!(*value, whole[i % 4 * 27 + i / 4], "{i}");
    }
}
