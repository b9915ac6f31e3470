//! What exporters and quantisers put around a network and into it, in small files that they have written
//! (`tests/goldens/weights/generate.py`).

#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};

use inception_weights::{Activation, Checkpoint, Dtype, Error, Format};

fn goldens(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/goldens/weights").join(name)
}

fn graph(name: &str) -> Checkpoint {
    Checkpoint::open(goldens("graphs").join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Shapes and values of everything that is a number, in an order that does not depend on names.
fn weights(checkpoint: &Checkpoint) -> Vec<(Vec<usize>, Vec<f32>)> {
    let numbers = checkpoint.entries.iter().filter(|e| !matches!(e.dtype, Dtype::Other(_)) && e.len() > 1);
    let mut weights: Vec<_> = numbers.map(|e| (e.shape.clone(), checkpoint.values(e).unwrap())).collect();
    weights.sort_by(|a, b| a.0.cmp(&b.0).then(a.1[0].total_cmp(&b.1[0])));
    weights
}

/// torchvision's `transform_input`, by both exporters: for each channel `std / 0.5` and `(mean - 0.5) / 0.5`.
#[test]
fn transformed_images_are_understood() {
    for name in ["transformed.onnx", "transformed_torchscript.onnx"] {
        let checkpoint = graph(name);
        let found = checkpoint.surroundings.input.unwrap_or_else(|| panic!("{name}"));
        for (found, (mean, std)) in found.iter().zip([(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)]) {
            let wanted = [std / 0.5, (mean - 0.5) / 0.5];
            assert!(
                found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6),
                "{name}: {found:?}, {wanted:?}"
            );
        }
        assert_eq!(checkpoint.surroundings.activation, Activation::Softmax);
        assert_eq!(
            checkpoint.surroundings.notes,
            ["the file ends in a softmax; the logits before it are taken"]
        );
        assert_eq!(checkpoint.surroundings.size, Some([16, 16]));
    }
    let checkpoint = graph("normalised.onnx");
    let found = checkpoint.surroundings.input.unwrap();
    for (found, (mean, std)) in found.iter().zip([(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)]) {
        let wanted = [1.0 / 255.0 / std, -mean / std];
        assert!(found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}, {wanted:?}");
    }
    assert!(checkpoint.surroundings.notes[0].contains("choice of the best class"));
    // Without any of it.
    let checkpoint = graph("torchscript.onnx");
    assert_eq!((checkpoint.surroundings.input, checkpoint.surroundings.notes.len()), (None, 0));
}

/// Softmax and sigmoid behind the logits, as PaddleClas exports them and as paddle2onnx writes that.
#[test]
fn probabilities_are_told_from_logits() {
    for (name, output, notes) in [
        ("new_softmax.json", Activation::Softmax, 1),
        ("old_softmax.pdmodel", Activation::Softmax, 1),
        ("paddle2onnx_softmax.onnx", Activation::Softmax, 1),
        ("new_sigmoid.json", Activation::Sigmoid, 1),
        ("old_sigmoid.pdmodel", Activation::Sigmoid, 1),
        ("multilabel.onnx", Activation::Sigmoid, 1),
        ("new.json", Activation::Softmax, 0),
    ] {
        let checkpoint = graph(name);
        assert_eq!(checkpoint.activation(), output, "{name}");
        assert_eq!(checkpoint.surroundings.notes.len(), notes, "{name}: {:?}", checkpoint.surroundings.notes);
    }
}

/// Weights in a file beside the model are those of the model that has them inside.
#[test]
fn values_beside_the_model_are_read() {
    let outside = graph("transformed.onnx");
    assert!(goldens("graphs/transformed.onnx.data").exists());
    let inside = graph("transformed_torchscript.onnx");
    let of = |checkpoint: &Checkpoint| {
        let mut weights = weights(checkpoint);
        weights.retain(|(shape, _)| shape.len() == 4);
        weights
    };
    let (a, b) = (of(&outside), of(&inside));
    assert_eq!(a.len(), b.len());
    for ((shape, a), (_, b)) in a.iter().zip(&b) {
        // Each exporter folds the norm by itself.
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6), "{shape:?}");
    }
    // The model alone says what it lacks.
    let bytes = std::fs::read(goldens("graphs/transformed.onnx")).unwrap();
    let error = Checkpoint::from_bytes("memory", bytes).unwrap_err().to_string();
    assert!(error.contains("`transformed.onnx.data`, which is not beside it"), "{error}");
    // A file that is cut, and names that lead out of the folder.
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("transformed.onnx");
    std::fs::copy(goldens("graphs/transformed.onnx"), &model).unwrap();
    let data = std::fs::read(goldens("graphs/transformed.onnx.data")).unwrap();
    for cut in 0..data.len() {
        std::fs::write(folder.path().join("transformed.onnx.data"), &data[..cut]).unwrap();
        let error = Checkpoint::open(&model).expect_err("is cut").to_string();
        assert!(error.contains("ends beyond that file's") || error.contains("bytes"), "{error}");
    }
    let bytes = std::fs::read(&model).unwrap();
    for name in ["../ransformed.onnx.dat", "/etc/../etc/passwd//////"] {
        let name = &name.as_bytes()[..21.min(name.len())];
        let at = bytes.windows(21).position(|window| window == b"transformed.onnx.data").unwrap();
        let mut bytes = bytes.clone();
        bytes[at..at + name.len()].copy_from_slice(name);
        std::fs::write(&model, bytes).unwrap();
        let error = Checkpoint::open(&model).unwrap_err().to_string();
        assert!(error.contains("which is not in its folder"), "{error}");
    }
}

/// Half precision with casts at its ends, and what ONNX Runtime makes of a network.
#[test]
fn other_forms_of_a_model_are_read_or_named() {
    let half = graph("half.onnx");
    assert!(half.entries.iter().any(|e| e.dtype == Dtype::F16));
    let plain = graph("optimised_extended.onnx");
    let [a, b] = [&half, &plain].map(|checkpoint| {
        let mut weights = weights(checkpoint);
        weights.retain(|(shape, _)| shape.len() == 4);
        weights
    });
    assert_eq!(a.len(), 4);
    for ((shape, a), (_, b)) in a.iter().zip(&b) {
        // Half precision has eleven bits.
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() <= b.abs() / 1024.0 + 1e-7), "{shape:?}");
    }
    let error = Checkpoint::open(goldens("graphs/optimised_all.onnx")).unwrap_err().to_string();
    assert!(error.contains("optimised for one runtime; export it again"), "{error}");
    for name in ["quantised_dynamic", "quantised_operators"] {
        let error = Checkpoint::open(goldens(&format!("graphs/{name}.onnx"))).unwrap_err().to_string();
        assert!(error.contains("computes with integers; quantise in the form QDQ"), "{name}: {error}");
    }
}

/// Quantised weights are within half a step of what they were.
#[test]
fn quantized_weights_are_taken_by_their_values() {
    let quantized = graph("quantised.onnx");
    let notes = quantized.surroundings.notes.concat();
    assert!(notes.contains("quantised tensors are taken by their values"), "{notes}");
    let plain = graph("optimised_extended.onnx");
    let of = |checkpoint: &Checkpoint| {
        let mut weights = weights(checkpoint);
        weights.retain(|(shape, _)| shape.len() == 4);
        weights
    };
    let (a, b) = (of(&quantized), of(&plain));
    assert_eq!((a.len(), b.len()), (4, 4));
    for (shape, exact) in &b {
        let (_, found) = a
            .iter()
            .filter(|(other, _)| other == shape)
            .min_by(|(_, x), (_, y)| {
                let error = |found: &[f32]| found.iter().zip(exact).map(|(a, b)| (a - b).abs()).sum::<f32>();
                error(x).total_cmp(&error(y))
            })
            .unwrap();
        let filter = exact.len() / shape[0];
        for (exact, found) in exact.chunks(filter).zip(found.chunks(filter)) {
            let largest = exact.iter().fold(0f32, |a, b| a.max(b.abs()));
            // 127 steps to the largest of a filter, and half of one off at most.
            let worst = exact.iter().zip(found).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
            assert!(worst <= largest / 127.0 * 0.51, "{shape:?}: {worst} of {largest}");
        }
    }
}

/// A list of files, with the values of both.
#[test]
fn sharded_checkpoints_are_one() {
    let whole = Checkpoint::open(goldens("files/plain.safetensors")).unwrap();
    for name in ["model.safetensors.index.json", "pytorch_model.bin.index.json"] {
        let sharded = Checkpoint::open(goldens("sharded").join(name)).unwrap();
        assert_eq!(sharded.format, Format::ShardedIndex);
        assert_eq!(sharded.entries.len(), 5);
        for entry in &whole.entries {
            let found = sharded.entries.iter().find(|e| e.key == entry.key).unwrap();
            assert_eq!(sharded.values(found).unwrap(), whole.values(entry).unwrap(), "{name}: {}", entry.key);
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let index = folder.path().join("model.safetensors.index.json");
    let first = "model-00001-of-00002.safetensors";
    std::fs::copy(goldens("sharded/model.safetensors.index.json"), &index).unwrap();
    let error = Checkpoint::open(&index).unwrap_err().to_string();
    assert!(error.contains(&format!("`{first}` is not beside it")), "{error}");
    for name in std::fs::read_dir(goldens("sharded")).unwrap().map(|f| f.unwrap().path()) {
        std::fs::copy(&name, folder.path().join(name.file_name().unwrap())).unwrap();
    }
    assert!(Checkpoint::open(&index).is_ok());
    let data = std::fs::read(folder.path().join(first)).unwrap();
    for cut in 0..data.len() {
        std::fs::write(folder.path().join(first), &data[..cut]).unwrap();
        let error = Checkpoint::open(&index).expect_err("is cut").to_string();
        assert!(error.contains(first), "{error}");
    }
    let text = std::fs::read_to_string(&index).unwrap();
    for (from, to, reason) in [
        (first, "../model.safetensors", "not in its folder"),
        ("conv.weight", "conv.other", "`conv.other` is not in"),
        ("{", "{{", "key must be a string"),
    ] {
        std::fs::write(folder.path().join(first), &data).unwrap();
        std::fs::write(&index, text.replacen(from, to, 1)).unwrap();
        let error = Checkpoint::open(&index).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

/// What is no checkpoint is called what it is.
#[test]
fn other_files_are_called_what_they_are() {
    let frozen = Checkpoint::open(goldens("frozen.pt")).unwrap_err().to_string();
    assert!(
        frozen.contains(": cannot use this PyTorch checkpoint: ") && frozen.contains("it is frozen"),
        "{frozen}"
    );
    let tar = [&[b'a'; 257][..], b"ustar", &[0; 300]].concat();
    for (bytes, reason) in [
        (&b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"[..], "a gzip archive; unpack it first"),
        (&tar, "a tar archive; unpack it first"),
        (b"\x28\xb5\x2f\xfd\x00", "a Zstandard archive"),
        (
            b"{\"architectures\": [\"x\"], \"hidden\": {\"program\": 1}}",
            "JSON that is no Paddle program: it has `architectures`, `hidden`",
        ),
        (b"{}", "it has no keys"),
        (b"[{\"a\": 1}]", "a list in JSON"),
    ] {
        match Checkpoint::from_bytes("memory", bytes.to_vec()) {
            Err(error @ Error::UnknownFormat { .. }) => {
                assert!(error.to_string().contains(reason), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A message names the dictionaries of a file; the one at the top has no name.
#[test]
fn dictionaries_without_a_name_are_at_the_top() {
    let of = |known: &[&str]| {
        let known = known.iter().map(|&name| name.to_owned()).collect();
        Error::NoStateDict { path: "a.pth".into(), name: "ema".to_owned(), known }.to_string()
    };
    assert!(of(&[""]).ends_with("at `ema`; they are at the top of the file"), "{}", of(&[""]));
    assert!(of(&["a", "b.c"]).ends_with("they are at `a`, `b.c`"), "{}", of(&["a", "b.c"]));
}
