//! `bench profile MODEL THREADS BATCH`: where the time of a whole network with random weights goes, against the measured
//! multiply-add peak.
//!
//! Options are environment variables: `PRECISION` (`f32` or `bf16`), `EXACT`, `SLICE`.
#![allow(clippy::unwrap_used)] // A tool for developers: a failure should stop it.

use std::collections::HashMap;
use std::time::Instant;

use burn::tensor::Device;
use inception_engine::graph::{Conv, Graph, Op, Pool, PoolKind, Window};
use inception_engine::{Compiled, Options, Precision, Shape, noise};

/// What `PRECISION` names.
fn precision() -> Precision {
    let name = std::env::var("PRECISION").unwrap_or("f32".into());
    Precision::ALL.into_iter().find(|precision| precision.name() == name).unwrap()
}

fn compile(name: &str, threads: usize) -> Compiled {
    let spec = inception_nn::model(name).unwrap();
    let network = spec.config().with_seed(7).init(&Device::flex()).unwrap();
    let exact = std::env::var_os("EXACT").is_some();
    let slice = std::env::var("SLICE").map_or(0, |slice| slice.parse().unwrap());
    let options = Options { threads, exact, slice, precision: precision(), ..Options::default() };
    let start = Instant::now();
    let size = spec.input_size;
    let model = Compiled::new(&network, |network, x| network.forward(x), [3, size, size], &options).unwrap();
    let compiled = start.elapsed();
    model.run(&images(&model, 1), 1).unwrap();
    eprintln!(
        "{name}: {}, {} on {threads} threads, compiled in {:.0} ms, first answer after {:.0} ms, {} waves, arena {:.1} MB, slices of {}",
        model.isa(),
        model.precision(),
        compiled.as_secs_f64() * 1e3,
        start.elapsed().as_secs_f64() * 1e3,
        model.waves(),
        model.arena_bytes() as f64 / 1e6,
        model.slice(),
    );
    model
}

fn images(model: &Compiled, batch: usize) -> Vec<f32> {
    noise(batch * model.input_shape().len())
}

/// Milliseconds of each of `runs` runs.
fn time(model: &Compiled, batch: usize, runs: usize) -> Vec<f64> {
    let images = images(model, batch);
    let mut output = vec![0.0; batch * model.output_shape().len()];
    (0..runs)
        .map(|_| {
            let start = Instant::now();
            model.run_into(&images, batch, &mut output).unwrap();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect()
}

/// Multiply-adds a second of the micro-kernel at its best: operands in the first two levels of cache.
fn peak(threads: usize) -> f64 {
    let (channels, pixels) = (512, 14 * 8 * threads);
    let mut graph = Graph::new(Shape::new(1, pixels, channels));
    let weight = vec![0.01; channels * 32];
    let conv = Conv {
        weight,
        bias: vec![0.0; 32],
        out_channels: 32,
        groups: 1,
        window: Window::square(1, 1, 0),
        input_relu: false,
        relu: false,
    };
    let copy = || {
        let window = Window::square(1, 1, 0);
        Op::Pool(Box::new(Pool { kind: PoolKind::Max, window, bias: vec![], relu: false }))
    };
    // A pool after it: both ends of a network are f32.
    for (name, input) in [("before", 0), ("peak", 1), ("after", 2)] {
        let op = if name == "peak" { Op::Conv(Box::new(conv.clone())) } else { copy() };
        graph.add(name, op, &[input]).unwrap();
    }
    let options = Options { threads, precision: precision(), ..Options::default() };
    let model = Compiled::from_graph(graph, &options).unwrap();
    let input = vec![0.5; pixels * channels];
    let layers = model.profile(&input, 1, 200).unwrap();
    let layer = layers.iter().find(|layer| layer.macs > 0).unwrap();
    layer.macs as f64 / layer.time.as_secs_f64()
}

fn profile(name: &str, threads: usize, batch: usize) {
    let model = compile(name, threads);
    let layers = model.profile(&images(&model, batch), batch, 15).unwrap();
    let peak = peak(threads);
    let total: f64 = layers.iter().map(|layer| layer.time.as_secs_f64()).sum();
    let mut kinds: HashMap<&str, (f64, u64)> = HashMap::new();
    println!("{:<48} {:<34} {:>8} {:>9} {:>7}", "nodes", "kernel", "us", "GFLOP/s", "of peak");
    for layer in &layers {
        let seconds = layer.time.as_secs_f64();
        let nodes: String = layer.nodes.join(" ").chars().take(48).collect();
        println!(
            "{nodes:<48} {:<34} {:>8.0} {:>9.1} {:>6.0}%",
            layer.kernel,
            seconds * 1e6,
            2.0 * layer.macs as f64 / seconds / 1e9,
            100.0 * layer.macs as f64 / seconds / peak,
        );
        let kind = kinds.entry(&layer.kernel).or_default();
        *kind = (kind.0 + seconds, kind.1 + layer.macs);
    }
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    kinds.sort_by(|a, b| b.1.0.total_cmp(&a.1.0));
    println!(
        "\n{:<34} {:>8} {:>6} {:>9} {:>7}   (peak {:.1} GFLOP/s)",
        "kernel",
        "us",
        "share",
        "GFLOP/s",
        "of peak",
        2.0 * peak / 1e9
    );
    for (kernel, (seconds, macs)) in kinds {
        let rate = macs as f64 / seconds;
        println!(
            "{kernel:<34} {:>8.0} {:>5.1}% {:>9.1} {:>6.0}%",
            seconds * 1e6,
            100.0 * seconds / total,
            2.0 * rate / 1e9,
            100.0 * rate / peak
        );
    }
    let mut whole = time(&model, batch, 11);
    whole.sort_unstable_by(f64::total_cmp);
    println!("sum of steps {:.2} ms, a run {:.2} ms", total * 1e3, whole[5]);
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["profile", name, threads, batch] => profile(name, threads.parse().unwrap(), batch.parse().unwrap()),
        _ => eprintln!("usage: bench profile MODEL THREADS BATCH"),
    }
}
