//! Full-size files that PaddleClas, paddle2onnx, timm, torchvision, Keras, PyTorch's exporters and
//! TorchScript have written, put together again from their skeletons and the formula's weights, to the byte:
//! each loads and gives the logits of its own framework.
//!
//! `goldens/weights/skeletons.py` cuts them and says what a skeleton holds.

#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};

use inception_nn::{ModelSpec, Origin};
use inception_tests::golden;
use inception_tests::skeleton::Skeleton;
use inception_tests::{engine_logits, formula, storage};
use inception_weights::{Checkpoint, Format, load};

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens")
}

/// What the framework computes for image 0 of the formula.
fn reference(skeleton: &Skeleton, spec: &ModelSpec) -> Vec<f32> {
    match spec.origin {
        _ if !skeleton.logits.is_empty() => skeleton.logits.clone(),
        Origin::PaddleClas => golden::read(&skeleton.model).logits.swap_remove(0),
        _ => golden::of_other_origin(&skeleton.model),
    }
}

fn check(name: &str, format: Format) {
    let folder = tempfile::tempdir().unwrap();
    let skeleton = Skeleton::restore(name, folder.path());
    let first = folder.path().join(&skeleton.files[0].name);
    let checkpoint = Checkpoint::open(&first).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(checkpoint.format, format);

    let spec = inception_nn::model(&skeleton.model).unwrap();
    let device = storage();
    let loaded = load(spec, &checkpoint, &device).unwrap_or_else(|e| panic!("{e}"));
    let logits = engine_logits(&loaded.network, formula::images(0..1, spec.input_size));
    let what = format!("{name}: {} by {}", skeleton.model, skeleton.source);
    golden::check_logits(&logits, &reference(&skeleton, spec), &what);
}

macro_rules! skeletons {
    ($($test:ident: $name:literal $format:ident),* $(,)?) => {
        const CHECKED: &[&str] = &[$($name),*];
        $(#[test] fn $test() { check($name, Format::$format) })*
    };
}

skeletons! {
    pdparams_of_protocol_4: "protocol4.pdparams" Pdparams,
    pdparams_of_googlenet: "googlenet.pdparams" Pdparams,
    pdparams_of_deeplab: "deeplab.pdparams" Pdparams,
    pdparams_of_inception_v3: "v3.pdparams" Pdparams,
    pdparams_of_inception_v4: "v4.pdparams" Pdparams,
    pdparams_of_protocol_2: "protocol2.pdparams" Pdparams,
    inference_json: "json" PaddleInference,
    inference_pdmodel: "pdmodel" PaddleInference,
    paddle2onnx: "paddle2onnx.onnx" Onnx,
    torch_onnx_torchscript: "torchscript.onnx" Onnx,
    torch_onnx_dynamo: "dynamo.onnx" Onnx,
    pth: "pth" PyTorch,
    legacy_pth: "legacy.pth" PyTorchLegacy,
    safetensors: "safetensors" Safetensors,
    keras_whole: "keras.h5" KerasH5,
    keras_weights_alone: "keras_weights.h5" KerasH5,
    keras_weights_h5: "weights.h5" KerasH5,
    keras_archive: "keras" Keras,
    torchscript_with_nvidias_names: "nvidia.pt" PyTorch,
}

#[test]
fn every_skeleton_is_checked() {
    for file in std::fs::read_dir(goldens().join("weights/skeletons")).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        assert!(CHECKED.contains(&name.trim_end_matches(".zz")), "{name} is not checked");
    }
}
