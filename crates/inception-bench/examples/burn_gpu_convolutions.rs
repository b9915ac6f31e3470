//! What Burn 0.22 launches for a convolution on a GPU, of Burn alone: the minimal reproductions of what
//! `docs/gpu.md` says of upstream.
//!
//! ```console
//! $ printf '[profiling.logger]\nlevel = "minimal"\nstdout = true\n' > cubecl.toml    # names every kernel launched
//! $ cargo run --release -p inception-bench --features wgpu --example burn_gpu_convolutions
//! ```

use std::time::Instant;

use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::{Device, DeviceKind, Distribution, Tensor};

/// Runs before timing, which try kernels out, and runs timed.
const RUNS: [usize; 2] = [3, 10];

/// A 3x3 convolution of 128 channels with a filter a group.
fn convolution(groups: usize, bias: bool, device: &Device) -> Conv2d {
    let config = Conv2dConfig::new([128, 128], [3, 3]).with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1));
    config.with_groups(groups).with_bias(bias).init(device)
}

fn time(what: &str, device: &Device, run: impl Fn() -> Tensor<4>) -> Result<(), Box<dyn std::error::Error>> {
    let once = || -> Result<f64, Box<dyn std::error::Error>> {
        let start = Instant::now();
        let map = run();
        device.sync().map_err(|e| format!("{e:?}"))?;
        drop(map);
        Ok(start.elapsed().as_secs_f64() * 1e3)
    };
    for _ in 0..RUNS[0] {
        once()?;
    }
    println!("== {what}");
    let mut times = (0..RUNS[1]).map(|_| once()).collect::<Result<Vec<_>, _>>()?;
    times.sort_by(f64::total_cmp);
    println!("== {what}: {:.2} ms, the median of {}", times[RUNS[1] / 2], RUNS[1]);
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::wgpu(DeviceKind::DefaultDevice);
    let map = Tensor::<4>::random([1, 38, 38, 128], Distribution::Default, &device);
    // Channels last, as convolutions leave their outputs.
    let map = map.permute([0, 3, 1, 2]);

    let biased = convolution(128, true, &device);
    time("depthwise with a bias", &device, || biased.forward(map.clone()))?;
    let bare = convolution(128, false, &device);
    time("depthwise", &device, || bare.forward(map.clone()))?;
    let bias = Tensor::<4>::random([1, 128, 1, 1], Distribution::Default, &device);
    time("depthwise, then a bias", &device, || bare.forward(map.clone()) + bias.clone())?;

    let mut dense = convolution(1, false, &device);
    time("3x3", &device, || dense.forward(map.clone()))?;
    let weight = dense.weight.val().permute([0, 2, 3, 1]).into_data();
    let weight = Tensor::<4>::from_data(weight, &device).permute([0, 3, 1, 2]);
    dense.weight = burn::module::Param::from_tensor(weight);
    time("3x3, its weight channels last", &device, || dense.forward(map.clone()))?;
    Ok(())
}
