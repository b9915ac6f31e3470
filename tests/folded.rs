//! Networks with their norms folded into convolutions, against the same networks as they are written.

#![allow(clippy::unwrap_used, missing_docs)]

use burn::tensor::{Device, Tensor};
use inception_nn::{TensorRole, load_tensors, model, read_tensors, tensors};
use inception_tests::golden::worst_difference;
use inception_tests::{formula, formula_network};

/// Of the largest logit: one rounding of each weight, which 40 to 70 layers do not let grow (2e-6 at most was seen).
const TOLERANCE: f32 = 1e-5;

/// A reduced input, to be quick; the weights and their layers are all there.
const SIZE: usize = 139;

/// The logits of a formula's network with and without its norms, and the folded network's tensors.
fn check(name: &str) {
    let spec = model(name).unwrap();
    let device = Device::flex();
    let network = formula_network(spec, &spec.config(), &device);
    let images = Tensor::<4>::from_data(formula::images(0..1, SIZE), &device);
    let logits = |network: &inception_nn::Network| {
        network.forward(images.clone()).into_data().try_into_vec::<f32>().unwrap()
    };
    let written = logits(&network);
    let norms = tensors(&network).iter().filter(|t| t.role == TensorRole::NormScale).count();
    let convolutions = tensors(&network).iter().filter(|t| t.role == TensorRole::ConvWeight).count();
    let folded = network.folded();
    let off = worst_difference(&logits(&folded), &written);
    println!("{name}: {norms} norms folded into {convolutions} convolutions, {off:.1e} off");
    assert!(off <= TOLERANCE, "{name}: {off:.1e} of the largest logit off");

    let left = tensors(&folded);
    let biases = left.iter().filter(|t| t.name.ends_with("conv.bias")).count();
    assert_eq!(biases, norms, "{name}: a bias for each norm");
    let of_norms = [TensorRole::NormScale, TensorRole::NormShift, TensorRole::RunningMean];
    assert!(left.iter().all(|t| !of_norms.contains(&t.role)), "{name}: norms are left");

    // What is listed can be read, and be put into another network of the same form.
    let mut values = Vec::new();
    let read = read_tensors(&folded, |_, data| {
        values.push(data);
        Ok::<_, std::convert::Infallible>(())
    });
    read.unwrap();
    let other = spec.config().with_seed(1).init(&device).unwrap().folded();
    let mut values = values.into_iter();
    let loaded = load_tensors(other, |_| Ok::<_, std::convert::Infallible>(values.next())).unwrap();
    assert_eq!(logits(&loaded), logits(&folded), "{name}: loaded");
}

macro_rules! folded {
    ($($test:ident: $name:literal),* $(,)?) => { $(#[test] fn $test() { check($name) })* };
}

folded! {
    xception41: "Xception41",
    xception41_deeplab: "Xception41_deeplab",
    xception71: "Xception71",
    inception_v3: "InceptionV3",
    inception_v4: "InceptionV4",
}
