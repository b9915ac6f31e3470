//! What [`Subject::memory`] promises: an estimate of the activations of a batch at their peak, which depends
//! on the network and the batch alone. Alone in its process, because the peak is the process's.

#![allow(clippy::unwrap_used, missing_docs)]

use inception::{DeviceKind, RunOptions, Runner};
use inception_bench::{peak_memory_mb, reset_peak_memory};

/// Networks with the floats of an image and of its maps at their peak, computed by hand.
const PEAKS: [(&str, u64, u64); 2] = [
    // The first convolution's 64 maps, and the pool's.
    ("GoogLeNet", 3 * 224 * 224, 64 * 112 * 112 + 64 * 55 * 55),
    // In the first block: its input, kept for the shortcut, and 128 maps before and after a separable
    // convolution.
    ("Xception41", 3 * 299 * 299, (64 + 128 + 128) * 150 * 150),
];

fn runner(name: &str, device: DeviceKind) -> Runner {
    let spec = inception::model(name).unwrap();
    let mut options = RunOptions::default();
    (options.device, options.threads) = (device, 1);
    Runner::build(|device| Ok(spec.config().init(device)?), [spec.input_size; 2], &options).unwrap()
}

/// Allocators keep and reuse memory in their own ways, and flex copies into its own layouts: the estimate
/// bounds what is taken to within a factor, not from below.
#[test]
fn a_batch_takes_what_was_estimated_to_within_a_factor() {
    const BATCH: usize = 8;
    const FACTOR: f64 = 4.0;
    let kinds = [DeviceKind::Engine, DeviceKind::Flex].into_iter().filter(|kind| kind.is_compiled_in());
    for ((name, image, maps), kind) in
        PEAKS.into_iter().flat_map(|row| kinds.clone().map(move |kind| (row, kind)))
    {
        let runner = runner(name, kind);
        let activations = |batch| match runner.compiled() {
            // One thread of the engine computes one image at a time, whatever the batch.
            Some(compiled) => compiled.arena_bytes() as u64,
            None => 4 * maps * batch as u64,
        };
        for batch in [1, 2, BATCH, 64] {
            let estimate = 4 * image * batch as u64 + activations(batch);
            assert_eq!(runner.memory(batch), Some(estimate), "{name} on {kind}, batch {batch}");
        }
        let images = vec![0.5; BATCH * runner.image_len()];
        // Weights take their values, and threads their stacks.
        runner.run(&images[..runner.image_len()], 1).unwrap();
        reset_peak_memory();
        let before = peak_memory_mb();
        runner.run(&images, BATCH).unwrap();
        // Only Linux says what a process takes.
        if let (Some(before), Some(after)) = (before, peak_memory_mb()) {
            let (taken, estimate) = (after - before, runner.memory(BATCH).unwrap() as f64 / 1e6);
            assert!(
                taken < FACTOR * estimate,
                "{name} on {kind}: {taken:.0} MB taken, {estimate:.0} MB estimated"
            );
        }
    }
}
