//! Whole networks, captured from Burn, against Burn's own eager backend.
#![allow(missing_docs, clippy::unwrap_used)] // A test fails by panicking.

use burn::tensor::{Device, Distribution, Tensor};
use inception_engine::{Compiled, Options};

/// Largest difference from `flex`, relative to the largest logit.
fn difference(name: &str, size: usize, options: &Options) -> f32 {
    let device = Device::flex();
    let spec = inception_nn::model(name).unwrap();
    let network = spec.config().with_seed(7).init(&device).unwrap();
    let images = Tensor::<4>::random([2, 3, size, size], Distribution::Normal(0.0, 1.0), &device);
    let wanted = network.forward(images.clone());
    let model = Compiled::new(&network, |network, x| network.forward(x), [3, size, size], options).unwrap();
    let found: Tensor<2> = model.run_tensor(images).unwrap();
    let largest: f32 = wanted.clone().abs().max().into_scalar();
    let apart: f32 = (found - wanted).abs().max().into_scalar();
    apart / largest
}

#[test]
fn every_network_equals_burns_eager_backend() {
    for spec in inception_nn::MODELS {
        for exact in [true, false] {
            let apart =
                difference(spec.name, spec.input_size, &Options { threads: 2, exact, ..Options::default() });
            println!("{} exact {exact}: {apart:.1e}", spec.name);
            assert!(apart < 1e-4, "{} exact {exact}: {apart:.1e}", spec.name);
        }
    }
}
