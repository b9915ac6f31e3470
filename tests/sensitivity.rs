//! The goldens can fail: whichever tensor is wrong, the logits move past parity's tolerance.

#![allow(clippy::unwrap_used, missing_docs)]

use std::convert::Infallible;

use burn::tensor::{Device, Tensor, TensorData};
use inception_nn::{MODELS, Network, Origin, TensorInfo, load_tensors, read_tensors};
use inception_tests::golden::{TOLERANCE, worst_difference};
use inception_tests::{formula, formula_network};

/// A wrong that is done to a tensor's values.
type Wrong = fn(&mut Vec<f32>);

/// All of them: the same values in another order, as a permuted axis or the neighbour's
/// weights would be, and a shift of all values by a fifth of their size.
const WRONGS: [(&str, Wrong); 2] = [
    ("reversed", |values| values.reverse()),
    ("nudged", |values| {
        let rms = (values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32).sqrt();
        values.iter_mut().for_each(|v| *v += rms / 5.0);
    }),
];

fn replace(network: Network, name: &str, values: &TensorData) -> Network {
    let source = |info: &TensorInfo| Ok::<_, Infallible>((info.name == name).then(|| values.clone()));
    let Ok(network) = load_tensors(network, source);
    network
}

/// All logits that the network can give, auxiliary ones included where `auxiliary` is asked for.
fn logits(network: &Network, images: &Tensor<4>, auxiliary: bool) -> Vec<f32> {
    let values = |t: Tensor<2>| t.into_data().try_into_vec::<f32>().unwrap();
    match network {
        Network::GoogLeNet(_) if auxiliary => {
            let heads = network.forward_training(images.clone()).unwrap();
            heads.into_iter().skip(1).flat_map(|head| values(head.logits)).collect()
        }
        _ => values(network.forward(images.clone())),
    }
}

fn check(name: &str) {
    let spec = inception_nn::model(name).unwrap();
    let device = Device::flex();
    let mut network = formula_network(spec, &spec.config(), &device);
    let image = |size| Tensor::<4>::from_data(formula::images(0..1, size), &device);
    // At 65 the last map of the Xceptions is 3x3, in which even a dilated 3x3 kernel shows all its taps.
    let small = image(network.minimum_input().max(65));
    let standard = image(spec.input_size);
    let mut originals = Vec::new();
    let Ok(()) = read_tensors(&network, |info, data| {
        originals.push((info.clone(), data.try_into_vec::<f32>().unwrap()));
        Ok::<_, Infallible>(())
    });
    let right = [logits(&network, &small, false), logits(&network, &standard, true)];
    let mut least = f32::INFINITY;
    for (info, values) in originals {
        let auxiliary = info.name.starts_with("auxiliary");
        let images = if auxiliary { &standard } else { &small };
        let data = |values| TensorData::new(values, info.shape.clone());
        for (wrong, apply) in WRONGS {
            let mut changed = values.clone();
            apply(&mut changed);
            network = replace(network, &info.name, &data(changed));
            let moved =
                worst_difference(&logits(&network, images, auxiliary), &right[usize::from(auxiliary)]);
            assert!(moved > TOLERANCE, "{name}: {} {wrong} moves the logits by {moved:.1e} only", info.name);
            least = least.min(moved);
        }
        network = replace(network, &info.name, &data(values));
    }
    println!("{name}: the least that any tensor moved the logits: {least:.1e}");
}

macro_rules! sensitivity {
    ($($test:ident: $name:literal),* $(,)?) => {
        const CHECKED: &[&str] = &[$($name),*];
        $(#[test] fn $test() { check($name) })*
    };
}

sensitivity! {
    googlenet: "GoogLeNet",
    xception41: "Xception41",
    xception41_deeplab: "Xception41_deeplab",
    xception65: "Xception65",
    xception65_deeplab: "Xception65_deeplab",
    xception71: "Xception71",
    inception_v3: "InceptionV3",
    inception_v4: "InceptionV4",
}

#[test]
fn every_model_is_checked() {
    assert!(
        MODELS
            .iter()
            .filter(|spec| spec.origin == Origin::PaddleClas)
            .all(|spec| CHECKED.contains(&spec.name))
    );
}
