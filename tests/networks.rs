//! Whole networks, captured from Burn, against Burn's own eager backend, on each instruction set.
#![allow(missing_docs, clippy::unwrap_used)] // A test fails by panicking.

#[allow(dead_code)] // Only the tiers.
#[path = "../crates/inception-engine/tests/numbers/mod.rs"]
mod numbers;

use burn::tensor::{Device, Distribution, Tensor};
use inception_engine::{Compiled, Options, capture};
use numbers::tiers;

#[test]
fn every_network_equals_burns_eager_backend() {
    let (device, tiers) = (Device::flex(), tiers());
    for spec in inception_nn::MODELS {
        let size = spec.input_size;
        let network = spec.config().with_seed(7).init(&device).unwrap();
        let images = Tensor::<4>::random([2, 3, size, size], Distribution::Normal(0.0, 1.0), &device);
        let wanted = network.forward(images.clone());
        let largest: f32 = wanted.clone().abs().max().into_scalar();
        let graph = capture(network, |network, x| network.forward(x), [3, size, size]).unwrap();
        // The oracle tests have every algorithm on every tier; here the exact ones of the best tier suffice.
        let exact = tiers.last().map(|&best| (best, true));
        for (isa, exact) in tiers.iter().map(|&isa| (isa, false)).chain(exact) {
            let options = Options { threads: 2, exact, isa: Some(isa), ..Options::default() };
            let model = Compiled::from_graph(graph.clone(), &options).unwrap();
            let found: Tensor<2> = model.run_tensor(images.clone()).unwrap();
            let difference: f32 = (found - wanted.clone()).abs().max().into_scalar();
            let what = format!("{}, {isa}, exact {exact}", spec.name);
            println!("{what}: {:.1e}", difference / largest);
            assert!(difference / largest < 1e-4, "{what}: {:.1e}", difference / largest);
        }
    }
}
