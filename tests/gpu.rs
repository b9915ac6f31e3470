//! A network of each family on wgpu against PaddleClas, at full size; `.ci/run` runs it on Mesa's software Vulkan. With
//! `INCEPTION_GPU_NETWORKS=all` every network, in single and half precision: ten minutes in software.

#![allow(clippy::unwrap_used, missing_docs)]

use inception::{DeviceKind, Error, Precision, RunOptions, Runner, adapters};
use inception_tests::golden::{read, top, worst_difference};
use inception_tests::{formula, formula_network, photograph_input};

/// Relative to the largest logit, as the project promises. f32 sums in other orders differ by no more than on a CPU (2e-6);
/// the rest is for drivers that contract, reassociate or approximate where WGSL lets them.
const TOLERANCE: f32 = 1e-3;

/// The bound of a photograph in `parity.rs`, from the time when two JPEG decoders differed.
const PHOTOGRAPH_TOLERANCE: f32 = 2e-3;

/// Half precision keeps eleven bits of each activation.
const F16_TOLERANCE: f32 = 2e-2;

fn on_wgpu(precision: Precision) -> RunOptions {
    RunOptions::on(DeviceKind::Wgpu).with_precision(precision)
}

/// Logits of the formula's first image and of a photograph, in the form for a GPU, as every command computes them.
fn check(name: &str, precision: Precision) {
    let golden = read(name);
    let spec = inception_nn::model(name).unwrap();
    let options = on_wgpu(precision);
    let network = formula_network(spec, &spec.config(), &options.open().unwrap());
    let runner = Runner::new(network, [golden.size; 2], &options).unwrap();
    let image = formula::images(0..1, golden.size).try_into_vec::<f32>().unwrap();
    let images = [image, photograph_input(spec)].concat();
    let logits = runner.run(&images, 2).unwrap();
    let references = [("the formula's image", &golden.logits[0]), ("a photograph", &golden.photograph)];
    let tolerances = match precision {
        Precision::F32 => [TOLERANCE, PHOTOGRAPH_TOLERANCE],
        _ => [F16_TOLERANCE; 2],
    };
    let rows = logits.chunks(golden.photograph.len()).zip(references).zip(tolerances);
    for ((logits, (image, reference)), tolerance) in rows {
        let what = format!("{name} on wgpu in {precision}, {image}");
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
fn googlenet() {
    check("GoogLeNet", Precision::F32);
}

#[test]
fn inception_v3() {
    check("InceptionV3", Precision::F32);
}

#[test]
fn xception41() {
    check("Xception41", Precision::F32);
}

/// In half precision where the adapter has it; refused by name where it has not.
#[test]
fn googlenet_in_f16() {
    let offered = adapters(DeviceKind::Wgpu).unwrap()[0].precisions.contains(&"f16");
    match offered {
        true => check("GoogLeNet", Precision::F16),
        false => assert!(matches!(on_wgpu(Precision::F16).open(), Err(Error::Precision { .. }))),
    }
}

#[test]
fn every_network() {
    if std::env::var("INCEPTION_GPU_NETWORKS").as_deref() != Ok("all") {
        return eprintln!("SKIPPED: the other networks; INCEPTION_GPU_NETWORKS=all runs them");
    }
    let half = adapters(DeviceKind::Wgpu).unwrap()[0].precisions.contains(&"f16");
    let precisions = if half { &[Precision::F32, Precision::F16][..] } else { &[Precision::F32] };
    for spec in inception_nn::MODELS.iter().filter(|spec| spec.origin == inception_nn::Origin::PaddleClas) {
        precisions.iter().for_each(|&precision| check(spec.name, precision));
    }
}

#[test]
fn an_adapter_that_is_not_there_is_an_error() {
    let mut options = on_wgpu(Precision::F32);
    options.adapter = Some(99);
    let error = options.open().unwrap_err().to_string();
    assert!(error.contains("no adapter 99"), "{error}");
}
