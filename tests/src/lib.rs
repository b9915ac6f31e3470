//! What the whole-system tests share: the formula behind the goldens, and the goldens themselves.

#![allow(clippy::unwrap_used)] // A test may panic.

pub mod formula;
pub mod golden;
pub mod skeleton;

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use inception_nn::{ModelSpec, Network, NetworkConfig, load_tensors};
use inception_weights::{KeyScheme, key_table};

/// The first photograph of `tests/images`, 500 x 375.
pub fn photograph() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("images/ILSVRC2012_val_00000010.jpeg")
}

/// The photograph as a network of `spec` takes it, `[3, height, width]`.
pub fn photograph_input(spec: &ModelSpec) -> Vec<f32> {
    let picture = inception_data::read(photograph()).unwrap();
    let preprocessing = inception::preprocessing(spec);
    let mut input = vec![0.0; preprocessing.output_len()];
    preprocessing.apply(&picture, &mut input).unwrap();
    input
}

/// The network of `config` with the formula's weights under the names of the library that it is from.
pub fn formula_network(spec: &ModelSpec, config: &NetworkConfig, device: &Device) -> Network {
    let network = config.init(device).unwrap();
    let [_, scheme] = KeyScheme::of(spec);
    let mut rows = key_table(&network, spec.architecture, scheme).into_iter();
    load_tensors(network, |info| {
        let row = rows.next().unwrap();
        assert_eq!(row.tensor, *info);
        Ok::<_, std::convert::Infallible>(Some(formula::tensor(&row.key, info)))
    })
    .unwrap()
}
