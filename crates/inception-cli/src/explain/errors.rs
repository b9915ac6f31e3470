//! `--errors`: the rounding errors of layers and logits, and what `--exact` costs.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Instant;

use inception::engine::{Algorithm, LayerError, noise};
use inception::{ModelSpec, RunOptions, Runner};
use inception_bench::{layer_errors, median};

/// Layers and logits of `network` with the weights of its seed, on noise.
pub fn print(
    out: &mut impl Write,
    spec: &ModelSpec,
    options: &RunOptions,
    repeats: usize,
    summary: bool,
) -> anyhow::Result<()> {
    let (name, precision, size, config) = (spec.name, options.precision, [spec.input_size; 2], spec.config());
    let image = noise(3 * spec.input_size.pow(2));
    let found = layer_errors(&config, size, options, &image)?;
    if !summary {
        writeln!(out, "{name}, {precision}, exact {}: errors over the layer's largest value", options.exact)?;
        print_layers(out, &found.layers)?;
    }
    let [mut default, mut exact] = [options.clone(), options.clone()];
    (default.exact, exact.exact) = (false, true);
    let other = if options.exact { &default } else { &exact };
    let other = layer_errors(&config, size, other, &image)?.output;
    let [default_error, exact_error] =
        if options.exact { [other, found.output] } else { [found.output, other] };
    let runner = |options| Runner::build(|device| Ok(config.init(device)?), size, options);
    let runners = [runner(&default)?, runner(&exact)?];
    let [fast, slow] = alternate(&runners, &image, repeats)?;
    let cost = slow / fast;
    if summary {
        let [direct, winograd, strassen] = worst_by_algorithm(&found.layers);
        writeln!(
            out,
            "| {name} | {precision} | {direct} | {winograd} | {strassen} | {default_error:.1e} | {exact_error:.1e} | \
             {fast:.1} | {slow:.1} | {cost:.2} |"
        )?;
    } else {
        writeln!(
            out,
            "  logits: {default_error:.1e} of the largest, {exact_error:.1e} with --exact (promised 1e-4 in f32)"
        )?;
        writeln!(out, "  time: {fast:.1} ms, {slow:.1} ms with --exact, {cost:.2} times as long")?;
    }
    Ok(())
}

/// Each layer, then each kernel's worst.
fn print_layers(out: &mut impl Write, layers: &[LayerError]) -> io::Result<()> {
    let mut kernels: BTreeMap<String, Vec<&LayerError>> = BTreeMap::new();
    writeln!(out, "  {:<44} {:<40} {:>8} {:>8}", "layer", "kernel", "own", "total")?;
    for layer in layers {
        let LayerError { nodes, kernel, own, total } = layer;
        let nodes: String = nodes.join(" ").chars().take(44).collect();
        writeln!(out, "  {nodes:<44} {kernel:<40} {own:8.1e} {total:8.1e}")?;
        kernels.entry(kernel.to_string()).or_default().push(layer);
    }
    for (kernel, layers) in kernels {
        let worst = layers.iter().map(|layer| layer.own).fold(0.0, f64::max);
        writeln!(out, "  {kernel}: {} layers, the worst own error {worst:.1e}", layers.len())?;
    }
    Ok(())
}

/// The median times of runs in turn, in milliseconds, so that neither has the better moments.
fn alternate(runners: &[Runner; 2], image: &[f32], repeats: usize) -> Result<[f64; 2], inception::Error> {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..repeats {
        for (runner, times) in runners.iter().zip(&mut times) {
            let start = Instant::now();
            runner.run(image, 1)?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    Ok(times.map(|times| median(times).unwrap_or(0.0)))
}

/// The worst own error of the layers by the direct method, by Winograd's algorithm and by Strassen's.
fn worst_by_algorithm(layers: &[LayerError]) -> [String; 3] {
    [Algorithm::Direct, Algorithm::Winograd, Algorithm::Strassen].map(|algorithm| {
        let own = layers.iter().filter(|layer| layer.kernel.algorithm() == algorithm).map(|layer| layer.own);
        let worst = own.fold(0.0, f64::max);
        if worst > 0.0 { format!("{worst:.1e}") } else { "-".to_owned() }
    })
}
