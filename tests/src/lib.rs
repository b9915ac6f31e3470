//! What the whole-system tests share: the formula behind the goldens, and the goldens themselves.

#![allow(clippy::unwrap_used)] // A test may panic.

pub mod formula;
pub mod golden;
pub mod skeleton;
pub mod values;

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use burn::tensor::{Device, TensorData};
use inception::{RunOptions, Runner};
use inception_nn::{ModelSpec, Network, NetworkConfig, load_tensors, with_storage_device};
use inception_weights::{KeyScheme, key_table};

/// The first photograph of `tests/images`, 500 x 375.
pub fn photograph() -> PathBuf {
    golden::folder().join("../images/ILSVRC2012_val_00000010.jpeg")
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
    let scheme = KeyScheme::of_origin(spec);
    let mut rows = key_table(&network, spec.architecture, scheme).into_iter();
    load_tensors(network, |info| {
        let row = rows.next().unwrap();
        assert_eq!(row.tensor, *info);
        let values = match row.constant {
            Some(value) => TensorData::full(info.shape.clone(), value),
            None => formula::tensor(&row.key, info),
        };
        Ok::<_, std::convert::Infallible>(Some(values))
    })
    .unwrap()
}

/// A device of Burn that holds values and computes nothing, as long as this lives; what is on it can be read
/// afterwards, too.
pub struct Storage {
    device: Device,
    _end: Sender<()>,
}

impl Deref for Storage {
    type Target = Device;

    fn deref(&self) -> &Device {
        &self.device
    }
}

/// [`with_storage_device`]'s device, without a closure around the test.
pub fn storage() -> Storage {
    let (started, device) = channel();
    let (_end, ended) = channel::<()>();
    thread::spawn(move || {
        with_storage_device(|device| {
            started.send(device.clone()).unwrap();
            // An error once the other end is dropped.
            let _ = ended.recv();
        });
    });
    Storage { device: device.recv().unwrap(), _end }
}

/// The logits of `images`, `[batch, 3, height, width]`, on the engine.
pub fn engine_logits(network: &Network, images: TensorData) -> Vec<f32> {
    let [batch, _, height, width] = images.shape().dims();
    let runner = Runner::new(network.clone(), [height, width], &RunOptions::default()).unwrap();
    runner.run(&images.try_into_vec::<f32>().unwrap(), batch).unwrap()
}
