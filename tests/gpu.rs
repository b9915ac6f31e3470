//! A network of each family on a GPU against PaddleClas, at full size; `.ci/run` runs it on Mesa's software
//! Vulkan. With `INCEPTION_GPU_NETWORKS=all` every network, in single and half precision: ten minutes in
//! software; with names, and commas between, these. `INCEPTION_GPU_DEVICE` is the device, `wgpu` unless it
//! says otherwise. `INCEPTION_GPU_PRECISIONS` names one of both, `INCEPTION_GPU_BATCH` a batch, in which the
//! images are repeated. `bench/gpu.sh` runs the program of this test where there is neither Rust nor the place
//! that it was compiled in: `INCEPTION_GOLDENS` says where the goldens are.

#![allow(clippy::unwrap_used, missing_docs)]

use inception::{DeviceKind, Error, Precision, RunOptions, Runner, adapters};
use inception_nn::{MODELS, ModelSpec, Origin};
use inception_tests::golden::{of_other_origin, read, top, worst_difference};
use inception_tests::{formula, formula_network, photograph_input};

/// Relative to the largest logit, as the project promises. f32 sums in other orders differ by no more than on a CPU (2e-6);
/// the rest is for drivers that contract, reassociate or approximate where WGSL lets them.
const TOLERANCE: f32 = 1e-3;

/// The bound of a photograph in `parity.rs`, from the time when two JPEG decoders differed.
const PHOTOGRAPH_TOLERANCE: f32 = 2e-3;

/// Half precision keeps eleven bits of each activation.
const F16_TOLERANCE: f32 = 2e-2;

fn device() -> DeviceKind {
    std::env::var("INCEPTION_GPU_DEVICE").map_or(DeviceKind::Wgpu, |name| name.parse().unwrap())
}

fn on_gpu(precision: Precision) -> RunOptions {
    RunOptions::on(device()).with_precision(precision)
}

/// The images with the origin's logits of each, and how far off single precision may be.
fn references(spec: &ModelSpec) -> Vec<(&'static str, Vec<f32>, Vec<f32>, f32)> {
    let image = formula::images(0..1, spec.input_size).try_into_vec::<f32>().unwrap();
    let (what, tolerance) = ("the formula's image", TOLERANCE);
    if spec.origin != Origin::PaddleClas {
        return vec![(what, image, of_other_origin(spec.name), tolerance)];
    }
    let mut golden = read(spec.name);
    let first = (what, image, golden.logits.swap_remove(0), tolerance);
    vec![first, ("a photograph", photograph_input(spec), golden.photograph, PHOTOGRAPH_TOLERANCE)]
}

/// Logits of the formula's first image and of a photograph, in the form for a GPU, as every command computes them.
fn check(name: &str, precision: Precision) {
    let spec = inception_nn::model(name).unwrap();
    let options = on_gpu(precision);
    let network = formula_network(spec, &spec.config(), &options.open().unwrap());
    let runner = Runner::new(network, [spec.input_size; 2], &options).unwrap();
    let references = references(spec);
    let batch = std::env::var("INCEPTION_GPU_BATCH").map_or(references.len(), |batch| batch.parse().unwrap());
    let images: Vec<f32> =
        references.iter().cycle().take(batch).flat_map(|(_, image, ..)| image).copied().collect();
    let logits = runner.run(&images, batch).unwrap();
    for (logits, (image, _, reference, tolerance)) in
        logits.chunks(spec.num_classes).zip(references.iter().cycle())
    {
        let tolerance = if precision == Precision::F32 { *tolerance } else { F16_TOLERANCE };
        let what = format!("{name} on {} in {precision}, {image}", device());
        let off = worst_difference(logits, reference);
        let shared = top(logits, 5).iter().filter(|class| top(reference, 5).contains(class)).count();
        println!("{what}: {off:.1e} of the largest logit off, {shared} of the first five classes");
        assert!(off <= tolerance, "{what}: {off:.1e} of the largest logit off");
        assert_eq!(top(logits, 1), top(reference, 1), "{what}: the first class");
        if precision == Precision::F32 {
            assert_eq!(top(logits, 5), top(reference, 5), "{what}: the first five classes");
        }
    }
}

#[test]
fn wgpu_googlenet() {
    check("GoogLeNet", Precision::F32);
}

#[test]
fn wgpu_inception_v3() {
    check("InceptionV3", Precision::F32);
}

#[test]
fn wgpu_xception41() {
    check("Xception41", Precision::F32);
}

/// In half precision where the adapter has it; refused by name where it has not.
#[test]
fn wgpu_googlenet_in_f16() {
    let offered = adapters(device()).unwrap()[0].precisions.contains(&"f16");
    match offered {
        true => check("GoogLeNet", Precision::F16),
        false => assert!(matches!(on_gpu(Precision::F16).open(), Err(Error::Precision { .. }))),
    }
}

#[test]
fn chosen_networks() {
    let Ok(chosen) = std::env::var("INCEPTION_GPU_NETWORKS") else {
        return eprintln!("SKIPPED: the other networks; INCEPTION_GPU_NETWORKS=all runs them");
    };
    let names: Vec<&str> = match chosen.as_str() {
        "all" => MODELS.iter().map(|spec| spec.name).collect(),
        names => names.split(',').collect(),
    };
    let precisions: Vec<Precision> = match std::env::var("INCEPTION_GPU_PRECISIONS") {
        Ok(chosen) => chosen.split(',').map(|name| name.parse().unwrap()).collect(),
        Err(_) if adapters(device()).unwrap()[0].precisions.contains(&"f16") => {
            vec![Precision::F32, Precision::F16]
        }
        Err(_) => vec![Precision::F32],
    };
    for name in names {
        precisions.iter().for_each(|&precision| check(name, precision));
    }
}

/// From the second run of a batch size on, a GPU replays what it has recorded, with other images in its buffer.
#[test]
fn a_replayed_run_answers_as_a_plain_one() {
    let options = on_gpu(Precision::F32);
    let spec = inception_nn::model("GoogLeNet").unwrap();
    let config = spec.config().with_num_classes(10);
    let runner = || {
        let network = formula_network(spec, &config, &options.open().unwrap());
        Runner::new(network, [64; 2], &options).unwrap()
    };
    // The first run is a plain one.
    let plain = |images: &[f32]| runner().run(images, 2).unwrap();
    let images = |seed: usize| -> Vec<f32> {
        (0..2 * 3 * 64 * 64).map(|i| ((i * seed) % 251) as f32 / 251.0).collect()
    };
    let runner = runner();
    for (run, seed) in [7, 11, 13].into_iter().enumerate() {
        let images = images(seed);
        assert_eq!(runner.replays(2), run == 2);
        let (logits, expected) = (runner.run(&images, 2).unwrap(), plain(&images));
        assert!(worst_difference(&logits, &expected) < 1e-5, "seed {seed}: {logits:?} {expected:?}");
    }
    // Two runs at once: the second does not overwrite the first one's logits.
    let (first, second) = (images(17), images(19));
    let pending = runner.start(&first, 2).unwrap();
    let after = runner.start(&second, 2).unwrap();
    assert!(worst_difference(&runner.finish(pending).unwrap(), &plain(&first)) < 1e-5);
    assert!(worst_difference(&runner.finish(after).unwrap(), &plain(&second)) < 1e-5);
}

#[test]
fn an_adapter_that_is_not_there_is_an_error() {
    let mut options = on_gpu(Precision::F32);
    options.adapter = Some(99);
    let error = options.open().unwrap_err().to_string();
    assert!(error.contains("no adapter 99"), "{error}");
}
