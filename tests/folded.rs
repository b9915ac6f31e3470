//! Networks with their norms folded into convolutions, against the same networks as they are written.

#![allow(clippy::unwrap_used, missing_docs)]

use burn::tensor::{Device, Tensor};
use inception_nn::{Network, TensorRole, load_tensors, model, read_tensors, tensors};
use inception_tests::golden::{TOLERANCE, worst_difference};
use inception_tests::{formula, formula_network};

/// Reduced inputs, to be quick; the weights and their layers are all there.
const SIZES: [usize; 2] = [139, 96];

fn written(name: &str) -> Network {
    let spec = model(name).unwrap();
    formula_network(spec, &spec.config(), &Device::flex())
}

fn logits(network: &Network) -> Vec<f32> {
    logits_at(network, SIZES[0])
}

fn logits_at(network: &Network, size: usize) -> Vec<f32> {
    let images = Tensor::<4>::from_data(formula::images(0..1, size), &Device::flex());
    network.forward(images).into_data().try_into_vec().unwrap()
}

/// The logits of a formula's network with and without its norms, and the folded network's tensors.
/// `absorbed`: how many depthwise convolutions' biases the pointwise ones after them take.
fn check(name: &str, absorbed: usize) {
    let network = written(name);
    let before = logits(&network);
    let norms = tensors(&network).iter().filter(|t| t.role == TensorRole::NormScale).count();
    let biases =
        |network: &Network| tensors(network).iter().filter(|t| t.name.ends_with("conv.bias")).count();
    // Those of convolutions without a norm, in residual stages.
    let own = biases(&network);
    let convolutions = tensors(&network).iter().filter(|t| t.role == TensorRole::ConvWeight).count();
    let folded = network.folded();
    let off = worst_difference(&logits(&folded), &before);
    println!("{name}: {norms} norms folded into {convolutions} convolutions, {off:.1e} off");
    assert!(off <= TOLERANCE, "{name}: {off:.1e} of the largest logit off");

    let left = tensors(&folded);
    assert_eq!(biases(&folded) + absorbed, norms + own, "{name}: a bias for each norm");
    let of_norms = [TensorRole::NormScale, TensorRole::NormShift, TensorRole::RunningMean];
    assert!(left.iter().all(|t| !of_norms.contains(&t.role)), "{name}: norms are left");

    // What is listed can be read, and be put into another network of the same form.
    let mut values = Vec::new();
    let read = read_tensors(&folded, |_, data| {
        values.push(data);
        Ok::<_, std::convert::Infallible>(())
    });
    read.unwrap();
    let other = model(name).unwrap().config().with_seed(1).init(&Device::flex()).unwrap().folded();
    let mut values = values.into_iter();
    let loaded = load_tensors(other, |_| Ok::<_, std::convert::Infallible>(values.next())).unwrap();
    assert_eq!(logits(&loaded), logits(&folded), "{name}: loaded");
}

/// The form for a GPU, which runs on any device: the same logits for images of any size, from the same weights
/// in `convolutions` convolutions. `biased` have a bias, which costs a kernel.
fn check_for_gpu(name: &str, convolutions: usize, biased: usize) {
    let network = written(name);
    let before = SIZES.map(|size| logits_at(&network, size));
    let weights = |network: &Network| -> Vec<_> {
        let weights = tensors(network).into_iter().filter(|t| t.role == TensorRole::ConvWeight);
        weights.map(|t| (t.name, t.shape)).collect()
    };
    // 1x1 convolutions may be joined; the others keep their shapes.
    let windows = |weights: &[(String, Vec<usize>)]| -> Vec<_> {
        weights.iter().map(|(_, shape)| shape.clone()).filter(|shape| shape[2..] != [1, 1]).collect()
    };
    let values = |weights: &[(String, Vec<usize>)]| -> usize {
        weights.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    };
    let weights_before = weights(&network);
    let ready = network.for_gpu();
    let after = SIZES.map(|size| logits_at(&ready, size));
    for ((size, after), before) in SIZES.iter().zip(&after).zip(&before) {
        let off = worst_difference(after, before);
        println!("{name}: {size} pixels: {off:.1e} off");
        assert!(off <= TOLERANCE, "{name}: {size} pixels: {off:.1e} of the largest logit off");
    }
    let weights_after = weights(&ready);
    assert_eq!(weights_after.len(), convolutions, "{name}: convolutions");
    assert_eq!(values(&weights_after), values(&weights_before), "{name}: values of weights");
    assert_eq!(windows(&weights_after), windows(&weights_before), "{name}: weights keep their shapes");
    if weights_after.len() == weights_before.len() {
        assert_eq!(weights_after, weights_before, "{name}: weights keep their shapes");
    }
    let biases = tensors(&ready).into_iter().filter(|t| t.name.ends_with("conv.bias"));
    let biases: Vec<_> = biases.map(|t| t.name).collect();
    assert_eq!(biases.len(), biased, "{name}: {biases:?}");
    let only_before_depthwise = biases.iter().all(|name| name.contains(".pointwise."));
    assert!(only_before_depthwise, "{name}: biases that cost a kernel: {biases:?}");
    let again = ready.clone().for_gpu();
    assert_eq!(logits(&again), logits(&ready), "{name}: twice is once");
}

macro_rules! folded {
    ($($test:ident: $name:literal, $absorbed:literal, $for_gpu:expr),* $(,)?) => { $(
        mod $test {
            #[test]
            fn folded() { super::check($name, $absorbed) }

            #[test]
            fn for_gpu() {
                let [convolutions, biased] = $for_gpu;
                super::check_for_gpu($name, convolutions, biased)
            }
        }
    )* };
}

// A pooling follows the last separable convolution of the blocks whose bias stays.
folded! {
    xception41: "Xception41", 0, [74, 4],
    // Of 39 separable convolutions the last three have a ReLU inside.
    xception41_deeplab: "Xception41_deeplab", 36, [84, 0],
    xception71: "Xception71", 0, [132, 6],
    // Of 94 and 149 convolutions, those of 1x1 that read one map are one.
    inception_v3: "InceptionV3", 0, [75, 0],
    inception_v4: "InceptionV4", 0, [119, 0],
    inception_resnet_v2: "timm-inception_resnet_v2", 0, [190, 0],
    legacy_xception: "timm-legacy_xception", 0, [74, 0],
}

#[test]
fn googlenet_for_gpu() {
    // Of 59, two of them of the auxiliary classifiers.
    check_for_gpu("GoogLeNet", 41, 0);
}
