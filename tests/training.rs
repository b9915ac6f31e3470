//! Steps of training are PaddleClas's, for networks of timm and torchvision PyTorch's: loss, the gradient of
//! every parameter, and all values after a step of SGD with momentum, running statistics included, from the
//! formula's weights on small images. Ten steps' losses.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use burn::tensor::{Device, TensorData};
use inception::{RunOptions, Runner};
use inception_nn::{MODELS, Output, tensors};
use inception_tests::values::uniform;
use inception_tests::{formula, formula_network, storage};
use inception_train::{Freeze, OptimizerKind, Recipe, TrainingNetwork, targets};
use inception_weights::{KeyScheme, key_table};
use serde::Deserialize;

/// A file of `tests/goldens/training`; `generate.py` there says what its fields are.
#[derive(Deserialize)]
struct Golden {
    size: usize,
    labels: Vec<u32>,
    lr: f64,
    momentum: f64,
    weight_decay: f64,
    label_smoothing: f64,
    losses: Vec<f64>,
    losses_spread: f64,
    spread: f64,
    tensors: Vec<(String, Option<Summary>, Summary)>,
}

/// The 2-norm, the product with the probe, and the first values.
type Summary = (f64, f64, Vec<f64>);

fn summary(key: &str, values: &[f32]) -> Summary {
    let values = values.iter().map(|&value| f64::from(value));
    let norm = values.clone().map(|value| value * value).sum::<f64>().sqrt();
    let probe =
        values.clone().zip(uniform(&format!("probe {key}"))).map(|(value, probe)| value * probe).sum();
    (norm, probe, values.take(3).collect())
}

/// The largest difference of two summaries, relative to the norm of the tensor. A probe is a sum over all
/// values, each times a number whose mean square is a third; so it differs by as much as the tensor does.
fn difference(ours: &Summary, theirs: &Summary, floor: f64) -> f64 {
    let pairs = [(ours.0, theirs.0), (ours.1, theirs.1)].into_iter();
    let all = pairs.chain(ours.2.iter().copied().zip(theirs.2.iter().copied()));
    let worst = all
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |m: f64, d| if d.is_nan() { f64::INFINITY } else { m.max(d) });
    worst / theirs.0.max(floor)
}

/// Burn's flex in double precision, for training.
#[cfg(feature = "flex")]
fn flex() -> Device {
    use burn::tensor::{DeviceConfig, FloatDType};
    use inception::DeviceKind;
    static DEVICE: std::sync::OnceLock<Device> = std::sync::OnceLock::new();
    let new = || {
        let mut device = RunOptions::on(DeviceKind::Flex).open().unwrap().autodiff();
        device.configure(DeviceConfig::default().float_dtype(FloatDType::F64)).unwrap();
        device
    };
    DEVICE.get_or_init(new).clone()
}

/// What makes the steps, both in double precision. In single precision a gradient is hardly defined: the goldens'
/// `spread32` says by how much the reference's own gradients move when the images change in their last bit, 2e-3 to
/// more than 1, because ReLUs and maxima then choose otherwise. In double precision that is below 1e-7 (`spread`).
#[derive(Clone, Copy, Debug, PartialEq)]
enum Computation {
    /// `inception-gradient`.
    Cpu,
    #[cfg(feature = "flex")]
    Flex,
}

fn steps_are_the_origins(name: &str, computation: Computation) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens/training").join(format!("{name}.json"));
    let golden: Golden = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let spec = inception_nn::model(name).unwrap();
    let storage = storage();
    let config = spec.training_config();
    let network = formula_network(spec, &config, &storage).without_dropout();
    let scheme = KeyScheme::of_origin(spec);
    let keys: BTreeMap<String, String> = key_table(&network, spec.architecture, scheme)
        .into_iter()
        .map(|row| (row.tensor.name, row.key))
        .collect();
    assert_eq!(keys.len(), golden.tensors.len());
    assert_eq!(keys.len(), tensors(&network).len());
    let theirs: BTreeMap<&str, _> = golden.tensors.iter().map(|(key, g, s)| (key.as_str(), (g, s))).collect();
    let recipe = Recipe {
        optimizer: OptimizerKind::Sgd,
        momentum: golden.momentum,
        weight_decay: golden.weight_decay,
        ..Recipe::head()
    };
    let mut training = match computation {
        Computation::Cpu => TrainingNetwork::compiled::<f64>(&network, [golden.size; 2], &recipe).unwrap(),
        #[cfg(feature = "flex")]
        Computation::Flex => {
            let device = flex();
            let network = formula_network(spec, &config, &device).without_dropout();
            TrainingNetwork::new(network, device, &recipe)
        }
    };
    let batch = golden.labels.len();
    let images = formula::images(0..batch, golden.size);
    let rows = targets(&golden.labels, 1000, golden.label_smoothing, None).unwrap();

    let norms = golden.tensors.iter().filter_map(|(_, gradient, _)| Some(gradient.as_ref()?.0));
    // Some gradients are zero but for rounding: that of a shift before another norm, for instance.
    let floor = 1e-9 * norms.fold(0.0, f64::max);
    let (mut losses, mut worst) = (Vec::new(), (0.0, String::new()));
    let mut gradients = 0;
    for step in 0..golden.losses.len() {
        let done = training
            .step(images.clone(), &rows, None, golden.lr, |name, gradient| {
                if step == 0 {
                    let key = &keys[name];
                    let expected = theirs[key.as_str()].0.as_ref().unwrap();
                    let found = difference(&summary(key, gradient), expected, floor);
                    gradients += 1;
                    if found > worst.0 {
                        worst = (found, format!("the gradient of {key}"));
                    }
                }
            })
            .unwrap();
        losses.push(done.loss / batch as f64);
        if step == 0 {
            for value in training.values() {
                let key = &keys[&value.name];
                let found = difference(&summary(key, &value.values), theirs[key.as_str()].1, floor);
                if found > worst.0 {
                    worst = (found, format!("{key} after a step"));
                }
            }
        }
    }
    let with_gradient = golden.tensors.iter().filter(|(_, gradient, _)| gradient.is_some()).count();
    assert_eq!(gradients, with_gradient, "gradients of all parameters");
    println!(
        "{name}: {} {}, {:.1e} by the reference's own rounding, {:.1e} of losses; losses {losses:?}",
        worst.0, worst.1, golden.spread, golden.losses_spread
    );
    assert!(worst.0 < TOLERANCE, "{name}: {} differs by {:.2e}", worst.1, worst.0);
    let first = (losses[0] - golden.losses[0]).abs() / golden.losses[0];
    assert!(first < TOLERANCE, "{name}: the first loss differs by {first:.2e}");
    for (ours, theirs) in losses.iter().zip(&golden.losses) {
        assert!((ours - theirs).abs() < LOSS_TOLERANCE * theirs, "{name}: {losses:?} {:?}", golden.losses);
    }
    let fall = |losses: &[f64]| losses[0] - losses[losses.len() - 1];
    let (ours, theirs) = (fall(&losses), fall(&golden.losses));
    assert!(
        (ours - theirs).abs() < FALL_TOLERANCE * theirs,
        "{name}: the loss falls by {ours}, not {theirs}"
    );
}

/// What the host holds between the steps, values and gradients, is in single precision: 6e-8. A wrong term is above
/// 1e-2.
const TOLERANCE: f64 = 1e-5;

/// Of the losses of all steps, which fall by at least 7e-2. The reference's own move when its values are rounded to
/// single precision after each step (`losses_spread`), InceptionV4's by 8e-4, those of the others by at most 4e-4.
const LOSS_TOLERANCE: f64 = 1e-3;

/// Of the fall of the loss over all steps: at a low rate a loss that does not fall is near, too.
const FALL_TOLERANCE: f64 = 0.1;

/// The operations of every model have gradients.
#[test]
fn all_models_can_be_trained_on_the_cpu() {
    let storage = storage();
    for spec in MODELS {
        let config = spec.training_config().with_num_classes(2);
        let network = config.init(&storage).unwrap();
        let training = TrainingNetwork::compiled::<f32>(&network, [299; 2], &Recipe::head());
        training.unwrap_or_else(|error| panic!("{}: {error}", spec.name));
    }
}

/// With its auxiliary classifier, which takes pictures of 299 pixels or more: too many for a step on flex in a test.
#[test]
fn steps_are_pytorchs() {
    steps_are_the_origins("torchvision-inception_v3", Computation::Cpu);
}

/// Frozen up to a stage, GoogLeNet, which has no norms, is what all of it is: from the maps that the engine makes, the
/// same loss, and the same gradients of what is left, which alone changes. The auxiliary classifiers are those that read
/// such a map or a later one.
#[test]
fn the_rest_of_a_frozen_network_is_that_of_the_whole() {
    let spec = inception_nn::model("GoogLeNet").unwrap();
    let (storage, size, batch) = (storage(), 224, 2);
    let bare = |device: &Device| formula_network(spec, &spec.config(), device).without_dropout();
    let network = bare(&storage);
    let images = formula::images(0..batch, size);
    let rows = targets(&[3, 250], 1000, 0.0, None).unwrap();
    let step = |freeze: Freeze, images: TensorData| {
        let recipe = Recipe { freeze, optimizer: OptimizerKind::Sgd, ..Recipe::head() };
        let mut training = TrainingNetwork::compiled::<f64>(&network, [size; 2], &recipe).unwrap();
        let before = training.values();
        let mut gradients = BTreeMap::new();
        let observe = |name: &str, gradient: &[f32]| {
            gradients.insert(name.to_owned(), gradient.to_vec());
        };
        let step = training.step(images, &rows, None, 1e-5, observe).unwrap();
        let pairs = training.values().into_iter().zip(before);
        let changed: BTreeSet<String> =
            pairs.filter(|(now, before)| now != before).map(|(now, _)| now.name).collect();
        assert!(changed.iter().eq(gradients.keys()), "{changed:?}");
        (step, gradients)
    };
    let (whole, all) = step(Freeze::None, images.clone());
    let pixels = images.try_into_vec::<f32>().unwrap();
    let largest = whole.logits.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    for (stage, auxiliary) in [("3b", 2), ("4A", 2), ("4b", 1), ("5b", 0)] {
        let mut options = RunOptions::default();
        options.exact = true;
        let output = Output::Map(stage.to_owned());
        let prefix = Runner::build_output(|device| Ok(bare(device)), [size; 2], output, &options).unwrap();
        let maps = TensorData::new(prefix.run(&pixels, batch).unwrap(), [batch, prefix.output_len(), 1, 1]);
        let (rest, gradients) = step(Freeze::Stage(stage.to_owned()), maps);
        let heads = gradients.keys().filter(|name| name.ends_with("fc2.weight")).count();
        assert_eq!(heads, auxiliary, "{stage}: {:?}", gradients.keys());
        // Maps are in single precision.
        let off = (rest.loss - whole.loss) / whole.loss;
        assert!(if auxiliary == 2 { off.abs() < 1e-4 } else { off < 0.0 }, "{stage}: {off:.1e}");
        for (a, b) in rest.logits.iter().zip(&whole.logits) {
            assert!((a - b).abs() < 1e-4 * largest, "{stage}: {a} {b}");
        }
        for (name, gradient) in &gradients {
            let norm = |of: &[f32]| of.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            let difference: Vec<f32> = gradient.iter().zip(&all[name]).map(|(a, b)| a - b).collect();
            let (difference, own) = (norm(&difference), norm(&all[name]));
            assert!(difference < 1e-3 * own, "{stage}: {name}: {difference:.1e} of {own:.1e}");
        }
    }
}

/// Every network can be trained after any part of it; norms of what is frozen have no part in it.
#[test]
fn all_models_can_be_trained_after_a_stage() {
    let storage = storage();
    for spec in MODELS {
        let config = spec.training_config().with_num_classes(2);
        let network = config.init(&storage).unwrap();
        let stages = network.stages();
        let mut left = usize::MAX;
        for stage in [0, stages.len() / 2, stages.len() - 1] {
            let recipe = Recipe::of(Freeze::Stage(stages[stage].clone()));
            let training = TrainingNetwork::compiled::<f32>(&network, [spec.input_size; 2], &recipe);
            let training = training.unwrap_or_else(|error| panic!("{} after {stage}: {error}", spec.name));
            let state = training.optimizer().tensors();
            assert!(state < left, "{} after {stage}: {state} tensors", spec.name);
            left = state;
        }
        assert_eq!(left, 2, "{}: after the last stage there is the classifier", spec.name);
        let unknown = Recipe::of(Freeze::Stage("zero".to_owned()));
        let error = TrainingNetwork::compiled::<f32>(&network, [spec.input_size; 2], &unknown).unwrap_err();
        assert!(error.to_string().contains(&stages.join(", ")), "{error}");
    }
}

macro_rules! networks {
    ($($test:ident: $name:literal,)*) => {
        mod cpu {
            $(#[test]
            fn $test() {
                super::steps_are_the_origins($name, super::Computation::Cpu);
            })*
        }
        #[cfg(feature = "flex")]
        mod flex {
            $(#[test]
            fn $test() {
                super::steps_are_the_origins($name, super::Computation::Flex);
            })*
        }
    };
}

networks! {
    googlenet: "GoogLeNet",
    inception_v3: "InceptionV3",
    inception_v4: "InceptionV4",
    xception41: "Xception41",
    xception65: "Xception65",
    xception71: "Xception71",
    xception41_deeplab: "Xception41_deeplab",
    xception65_deeplab: "Xception65_deeplab",
    timm_xception41: "timm-xception41",
    torchvision_googlenet: "torchvision-googlenet",
}
