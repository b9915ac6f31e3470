//! Full-size files that PaddleClas, paddle2onnx, timm, torchvision and PyTorch's exporters have written, put together again
//! from their skeletons and the formula's weights, to the byte: each loads and gives the logits of its own framework.
//!
//! `goldens/weights/skeletons.py` cuts them and says what a skeleton holds.

#![allow(clippy::unwrap_used, missing_docs)]

use std::io::Read;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use inception_tests::formula;
use inception_tests::golden::{top, worst_difference};
use inception_weights::{Checkpoint, Format, load};
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// As in `parity.rs`: ten times under what the project promises.
const TOLERANCE: f32 = 1e-5;

#[derive(Deserialize)]
struct Skeleton {
    model: String,
    source: String,
    files: Vec<File>,
    #[serde(default)]
    logits: Vec<f32>,
}

#[derive(Deserialize)]
struct File {
    name: String,
    size: usize,
    sha256: String,
    holes: Vec<Hole>,
}

/// Offset, key, count, add, scale, rows, form.
#[derive(Deserialize)]
struct Hole(usize, String, usize, String, String, usize, String);

/// The bytes of a hole.
fn weights(Hole(_, key, count, add, scale, rows, form): &Hole) -> Vec<u8> {
    // As text, because their last bit counts.
    let [add, scale] = [add, scale].map(|number| number.parse::<f64>().unwrap());
    let mut values: Vec<f32> = formula::uniform(key).take(*count).map(|u| (add + u * scale) as f32).collect();
    if *rows > 0 {
        let columns = count / rows;
        values = (0..*count).map(|i| values[i % rows * columns + i / rows]).collect();
    }
    let bytes: &[u8] = bytemuck::cast_slice(&values);
    match form.as_str() {
        "latin1" => bytes.iter().map(|&byte| char::from(byte)).collect::<String>().into_bytes(),
        _ => bytes.to_vec(),
    }
}

/// A real file again; `left` is what remains of it and of those after it.
fn restore(file: &File, left: &mut &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(file.size);
    let mut keep = |bytes: &mut Vec<u8>, until: usize| {
        let (kept, rest) = left.split_at(until - bytes.len());
        bytes.extend(kept);
        *left = rest;
    };
    for hole in &file.holes {
        keep(&mut bytes, hole.0);
        bytes.extend(weights(hole));
    }
    keep(&mut bytes, file.size);
    let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, file.sha256, "{}: not the file that was written", file.name);
    bytes
}

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens")
}

/// What the framework computes for image 0 of the formula.
fn reference(skeleton: &Skeleton) -> Vec<f32> {
    #[derive(Deserialize)]
    struct Golden {
        logits: Vec<Vec<f32>>,
    }
    if !skeleton.logits.is_empty() {
        return skeleton.logits.clone();
    }
    let name = format!("{}.json", skeleton.model);
    let paths = [goldens().join("weights").join(&name), goldens().join(&name)];
    let text = paths.iter().find_map(|path| std::fs::read_to_string(path).ok()).unwrap();
    serde_json::from_str::<Golden>(&text).unwrap().logits.swap_remove(0)
}

fn check(name: &str, format: Format) {
    let packed = std::fs::read(goldens().join("weights/skeletons").join(format!("{name}.zz"))).unwrap();
    let mut unpacked = Vec::new();
    flate2::read::ZlibDecoder::new(&packed[..]).read_to_end(&mut unpacked).unwrap();
    let line = unpacked.iter().position(|&byte| byte == b'\n').unwrap();
    let skeleton: Skeleton = serde_json::from_slice(&unpacked[..line]).unwrap();
    let mut left = &unpacked[line + 1..];

    let folder = tempfile::tempdir().unwrap();
    for file in &skeleton.files {
        std::fs::write(folder.path().join(&file.name), restore(file, &mut left)).unwrap();
    }
    assert!(left.is_empty());
    let first = folder.path().join(&skeleton.files[0].name);
    let checkpoint = Checkpoint::open(&first).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(checkpoint.format, format);

    let spec = inception_nn::model(&skeleton.model).unwrap();
    let device = Device::flex();
    let loaded = load(spec, &checkpoint, &device).unwrap_or_else(|e| panic!("{e}"));
    let images = Tensor::<4>::from_data(formula::images(0..1, spec.input_size), &device);
    let logits = loaded.network.forward(images).into_data().try_into_vec::<f32>().unwrap();
    let reference = reference(&skeleton);
    let worst = worst_difference(&logits, &reference);
    println!("{name}: {} by {}: {worst:.1e}", skeleton.model, skeleton.source);
    assert!(worst <= TOLERANCE, "{name}: {worst:.2e} of the largest logit off");
    assert_eq!(top(&logits, 5), top(&reference, 5), "{name}: the first five classes");
}

macro_rules! skeletons {
    ($($test:ident: $name:literal $format:ident),* $(,)?) => {
        const CHECKED: &[&str] = &[$($name),*];
        $(#[test] fn $test() { check($name, Format::$format) })*
    };
}

skeletons! {
    pdparams_of_protocol_4: "protocol4.pdparams" Pdparams,
    pdparams_of_protocol_2: "protocol2.pdparams" Pdparams,
    inference_json: "json" PaddleInference,
    inference_pdmodel: "pdmodel" PaddleInference,
    paddle2onnx: "paddle2onnx.onnx" Onnx,
    torch_onnx_torchscript: "torchscript.onnx" Onnx,
    torch_onnx_dynamo: "dynamo.onnx" Onnx,
    pth: "pth" PyTorch,
    legacy_pth: "legacy.pth" PyTorchLegacy,
    safetensors: "safetensors" Safetensors,
}

#[test]
fn every_skeleton_is_checked() {
    for file in std::fs::read_dir(goldens().join("weights/skeletons")).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        assert!(CHECKED.contains(&name.trim_end_matches(".zz")), "{name} is not checked");
    }
}
