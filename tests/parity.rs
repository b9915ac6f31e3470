//! The networks against PaddleClas: full size, every network, on the engine and on the eager CPU devices.

#![allow(clippy::unwrap_used, missing_docs)]

use burn::tensor::Device;
use inception::{DeviceKind, Precision, RunOptions, Runner};
use inception_nn::{MODELS, ModelSpec, NetworkConfig, Origin, OutputStride};
use inception_tests::golden::{Golden, check_logits, read, top, worst_difference};
use inception_tests::{formula, formula_network, photograph_input, storage};
use inception_weights::{KeyScheme, key_table};

fn check_all(values: &[f32], reference: &[Vec<f32>], what: &str) -> f32 {
    let classes = reference[0].len();
    assert_eq!(values.len(), reference.len() * classes, "{what}");
    let mut worst = 0f32;
    for (row, reference) in values.chunks(classes).zip(reference) {
        worst = worst.max(check_logits(row, reference, what));
    }
    worst
}

/// A golden, its model, and how that is built.
fn setting(name: &str) -> (Golden, &'static ModelSpec, NetworkConfig) {
    let golden = read(name);
    let spec = inception_nn::model(&golden.model).unwrap();
    let stride = match golden.output_stride {
        8 => OutputStride::S8,
        16 => OutputStride::S16,
        _ => OutputStride::S32,
    };
    let config = spec.config().with_output_stride(stride);
    (golden, spec, config)
}

/// The compiled network, with every reassociating algorithm on and with none. Winograd's transforms lose a
/// digit where they are used most; a tenth of what is promised is still room for it.
fn check(name: &str) {
    let (golden, spec, config) = setting(name);
    for exact in [false, true] {
        let mut options = RunOptions::default();
        options.exact = exact;
        let network = |device: &Device| Ok(formula_network(spec, &config, device));
        let runner = Runner::build(network, [golden.size; 2], &options).unwrap();
        for batch in [1, 3] {
            let images = formula::images(0..batch, golden.size).try_into_vec::<f32>().unwrap();
            let logits = runner.run(&images, batch).unwrap();
            let what = format!("{name} on engine, exact {exact}, batch {batch}");
            let worst = check_all(&logits, &golden.logits[..batch], &what);
            println!("{what}: worst {worst:.1e}");
        }
        check_photograph(&runner.run(&photograph_input(spec), 1).unwrap(), &golden, name);
    }
}

/// What is promised of half precision, of the largest logit. Rounding activations to 8 bits in 40 to 70
/// layers adds up to some thousandths of it on these weights; f16 rounds to 11.
const HALF_TOLERANCE: f32 = 2e-2;

/// A network in half precision, on the formula's images and on a photograph.
fn check_half(name: &str, device: DeviceKind, precision: Precision) {
    let (golden, spec, config) = setting(name);
    let network = |device: &Device| Ok(formula_network(spec, &config, device));
    let options = RunOptions::on(device).with_precision(precision);
    let runner = Runner::build(network, [golden.size; 2], &options).unwrap();
    let images = formula::images(0..3, golden.size).try_into_vec::<f32>().unwrap();
    let batch = runner.run(&images, 3).unwrap();
    let photograph = runner.run(&photograph_input(spec), 1).unwrap();
    let classes = golden.photograph.len();
    let rows = batch.chunks(classes).zip(&golden.logits).chain([(&photograph[..], &golden.photograph)]);
    for (i, (row, reference)) in rows.enumerate() {
        let off = worst_difference(row, reference);
        let what = format!("{name} on {device} in {precision}, image {i}");
        println!("{what}: {off:.1e} of the largest logit off");
        assert!(off <= HALF_TOLERANCE, "{what}: {off:.1e} of the largest logit off");
        assert_eq!(top(row, 1), top(reference, 1), "{what}: the first class");
    }
}

/// A photograph's logits through our own decoder and preprocessing, whose pixels are those of PaddleClas's
/// operators on cv2.
fn check_photograph(logits: &[f32], golden: &Golden, what: &str) {
    check_logits(logits, &golden.photograph, &format!("{what}, a photograph"));
}

macro_rules! parity {
    ($($test:ident: $name:literal),* $(,)?) => {
        const CHECKED: &[&str] = &[$($name),*];
        $(#[test] fn $test() { check($name) })*

        /// The same as Burn runs it, one operation after the other, in builds that have its CPU backends.
        #[cfg(feature = "flex")]
        mod flex {
            $(#[test] fn $test() { super::eager::check($name, super::DeviceKind::Flex) })*
        }

        #[cfg(feature = "ndarray")]
        mod ndarray {
            $(#[test] fn $test() { super::eager::check($name, super::DeviceKind::Ndarray) })*
        }
    };
}

parity! {
    googlenet: "GoogLeNet",
    xception41: "Xception41",
    xception41_deeplab: "Xception41_deeplab",
    xception41_deeplab_output_stride_16: "Xception41_deeplab@16",
    xception65: "Xception65",
    xception65_deeplab: "Xception65_deeplab",
    xception71: "Xception71",
    inception_v3: "InceptionV3",
    inception_v4: "InceptionV4",
}

#[test]
fn engine_in_bf16() {
    match Precision::Bf16.missing(DeviceKind::Engine) {
        None => CHECKED.iter().for_each(|name| check_half(name, DeviceKind::Engine, Precision::Bf16)),
        Some(reason) => eprintln!("SKIPPED: bf16 {reason}"),
    }
}

/// The others' goldens are in `weights.rs`.
fn of_paddle() -> impl Iterator<Item = &'static ModelSpec> {
    MODELS.iter().filter(|spec| spec.origin == Origin::PaddleClas)
}

#[test]
fn every_model_has_a_golden() {
    for spec in of_paddle() {
        assert!(CHECKED.contains(&spec.name), "{} is not checked", spec.name);
    }
}

/// The table of names is total both ways, against the keys that PaddleClas's own state dict has.
#[test]
fn paddle_names_are_total() {
    for spec in of_paddle() {
        let golden = read(spec.name);
        let network = spec.config().init(&storage()).unwrap();
        let mut ours: Vec<_> = key_table(&network, spec.architecture, KeyScheme::PaddleClas)
            .into_iter()
            .map(|row| (row.key, row.tensor.shape))
            .collect();
        let mut theirs = golden.keys;
        ours.sort();
        theirs.sort();
        assert_eq!(ours, theirs, "{}", spec.name);
        assert_eq!(inception_nn::tensors(&network).len(), ours.len(), "{}", spec.name);
    }
}

/// Networks as Burn's CPU backends run them.
#[cfg(any(feature = "flex", feature = "ndarray"))]
mod eager {
    use burn::tensor::{Tensor, TensorData, s};
    use inception_nn::Network;
    use inception_tests::golden::StageGolden;

    use super::*;

    /// Relative to a stage's norm, for the same reason; the mean may be near zero and is compared against the
    /// norm too.
    const STAGE_TOLERANCE: f64 = 1e-5;

    fn values(tensor: Tensor<2>) -> Vec<f32> {
        tensor.into_data().try_into_vec().unwrap()
    }

    /// Runs one image and compares every stage on the way, so that the first that is off names itself.
    fn check_stages(network: &Network, golden: &Golden, device: &Device, what: &str) -> Vec<f32> {
        let images = Tensor::<4>::from_data(formula::images(0..1, golden.size), device);
        let mut expected = golden.stages.iter();
        let logits = network.forward_observed(images, &mut |name, map| {
            let stage: &StageGolden = expected.next().expect("as many stages as the golden has");
            assert_eq!(name, stage.name, "{what}");
            assert_eq!(map.dims()[1..], stage.shape, "{what}: shape after {name}");
            let values = map.to_data().try_into_vec::<f32>().unwrap();
            let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len() as f64;
            let norm = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
            let rms = stage.norm / (values.len() as f64).sqrt();
            let off = ((norm - stage.norm) / stage.norm).abs().max((mean - stage.mean).abs() / rms);
            assert!(off <= STAGE_TOLERANCE, "{what}: {off:.2e} off after stage {name}");
        });
        assert_eq!(expected.count(), 0, "{what}: stages left in the golden");
        values(logits)
    }

    /// A network as Burn runs it, one operation after the other.
    pub fn check(name: &str, kind: DeviceKind) {
        let (golden, spec, config) = setting(name);
        let device = kind.open().unwrap();
        let what = format!("{name} on {kind}");
        let network = formula_network(spec, &config, &device);
        let single = check_stages(&network, &golden, &device, &what);
        let worst_single = check_all(&single, &golden.logits[..1], &what);
        let images = Tensor::<4>::from_data(formula::images(0..3, golden.size), &device);
        let batch = values(network.forward(images));
        let worst_batch = check_all(&batch, &golden.logits, &format!("{what}, batch 3"));
        println!("{what}: worst {worst_single:.1e} at batch 1, {worst_batch:.1e} at batch 3");
        let input = TensorData::new(photograph_input(spec), [1, 3, golden.size, golden.size]);
        check_photograph(&values(network.forward(Tensor::from_data(input, &device))), &golden, &what);
        if !golden.auxiliary.is_empty() {
            check_googlenet(&network, &golden, &device, &what);
        }
    }

    /// Both auxiliary heads in training form, and the main path at a size that they do not fit.
    fn check_googlenet(network: &Network, golden: &Golden, device: &Device, what: &str) {
        let images = |count, size| Tensor::<4>::from_data(formula::images(0..count, size), device);
        let heads = network.forward_training(images(3, 224)).unwrap();
        assert_eq!(heads.len(), 3, "{what}");
        for (i, (head, reference)) in
            heads.into_iter().zip([&golden.logits].into_iter().chain(&golden.auxiliary)).enumerate()
        {
            check_all(&values(head.logits), reference, &format!("{what}, head {i} in training form"));
        }
        check_all(&values(network.forward(images(1, 299))), &golden.logits_299, &format!("{what} at 299"));
        network.forward_training(images(1, 299)).expect_err("the auxiliary heads do not fit 299");
    }

    #[test]
    #[cfg(feature = "flex")]
    fn flex_in_half_precision() {
        for precision in [Precision::F16, Precision::Bf16] {
            check_half("GoogLeNet", DeviceKind::Flex, precision);
        }
    }

    /// An output stride only samples more densely: at 8, every other pixel is the map at 16.
    #[test]
    #[cfg(feature = "flex")]
    fn output_stride_8_refines_16() {
        let spec = inception_nn::model("Xception41_deeplab").unwrap();
        let device = DeviceKind::Flex.open().unwrap();
        let features = |stride, size| {
            let network = formula_network(spec, &spec.config().with_output_stride(stride), &device);
            let images = Tensor::<4>::from_data(formula::images(0..1, size), &device);
            network.forward_features(images)
        };
        let coarse = features(OutputStride::S16, 129);
        let fine = features(OutputStride::S8, 129);
        assert_eq!(coarse.dims(), [1, 2048, 9, 9]);
        assert_eq!(fine.dims(), [1, 2048, 17, 17]);
        let sampled = fine.slice(s![.., .., 0..17;2, 0..17;2]);
        let norm = |t: Tensor<4>| t.powf_scalar(2.0).sum().into_scalar::<f32>().sqrt();
        let off = norm(sampled - coarse.clone()) / norm(coarse);
        assert!(off < 1e-5, "{off:.2e} off");
    }
}
