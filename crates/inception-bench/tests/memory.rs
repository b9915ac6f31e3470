//! What a batch is said to need beside what it takes. Alone in its process, because the peak is the
//! process's.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

use inception::{DeviceKind, RunOptions, Runner};
use inception_bench::{peak_memory_mb, reset_peak_memory};

/// On flex 1.0 to 1.6 times as much is taken as must be there (ndarray: up to 1.5), for copies in its own
/// layout. The larger network comes last, so that nothing that the first one left is used again.
#[test]
fn what_a_batch_needs_is_what_it_takes() {
    const BATCH: usize = 8;
    let device = DeviceKind::Flex;
    for (name, said_mb) in [("GoogLeNet", 37.0), ("Xception41", 239.0)] {
        let spec = inception::model(name).unwrap();
        let network = spec.config().init(&device.open().unwrap()).unwrap();
        let options = RunOptions::on(device);
        let runner = Runner::new(network, [spec.input_size; 2], &options).unwrap();
        let images = vec![0.5; BATCH * runner.image_len()];
        // Weights take their values, and threads their stacks.
        runner.run(&images[..runner.image_len()], 1).unwrap();
        reset_peak_memory();
        let images_mb = (images.len() * size_of::<f32>()) as f64 / 1e6;
        let before = peak_memory_mb().unwrap() - images_mb;
        runner.run(&images, BATCH).unwrap();
        let taken = peak_memory_mb().unwrap() - before;
        let said = runner.memory(BATCH).unwrap() as f64 / 1e6;
        assert!((said - said_mb).abs() < 1.0, "{name}: {said:.1} MB said");
        let ratio = taken / said;
        assert!((0.9..2.0).contains(&ratio), "{name}: {said:.0} MB said, {taken:.0} MB taken");
    }
}
