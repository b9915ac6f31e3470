//! `--profile`: where the time goes, beside the machine's limit.

use std::collections::BTreeMap;
use std::io::{self, Write};

use inception::RunOptions;
use inception::engine::LayerTime;
use inception_bench::peak_gflops;

/// Time, multiply-adds as the network is written, and time beyond the limit, at which all time would be
/// multiply-adds. Algorithms with fewer multiply-adds go past it.
#[derive(Clone, Copy, Default)]
struct Figures {
    seconds: f64,
    macs: f64,
    lost: f64,
}

impl Figures {
    fn of(layer: &LayerTime, peak_gflops: f64) -> Self {
        let (seconds, macs) = (layer.time.as_secs_f64(), layer.macs as f64);
        Self { seconds, macs, lost: seconds - 2e-9 * macs / peak_gflops }
    }

    fn add(&mut self, other: Self) {
        self.seconds += other.seconds;
        self.macs += other.macs;
        self.lost += other.lost;
    }

    fn gflops(self) -> f64 {
        2e-9 * self.macs / self.seconds
    }
}

/// Layers and kernels, those that lose most first.
pub fn print(
    out: &mut impl Write,
    name: &str,
    options: &RunOptions,
    batch: usize,
    layers: Vec<LayerTime>,
    summary: bool,
) -> io::Result<()> {
    let peak = peak_gflops(options.threads, options.precision);
    let mut layers: Vec<(LayerTime, Figures)> = layers
        .into_iter()
        .map(|layer| {
            let figures = Figures::of(&layer, peak);
            (layer, figures)
        })
        .collect();
    layers.sort_by(|(_, a), (_, b)| b.lost.total_cmp(&a.lost));
    let (mut total, mut kernels) = (Figures::default(), BTreeMap::<String, Figures>::new());
    for (layer, figures) in &layers {
        total.add(*figures);
        kernels.entry(layer.kernel.to_string()).or_default().add(*figures);
    }
    let mut kernels: Vec<_> = kernels.into_iter().collect();
    kernels.sort_by(|(_, a), (_, b)| b.lost.total_cmp(&a.lost));
    let (taken, limit) = (total.seconds * 1e3, (total.seconds - total.lost) * 1e3);
    if summary {
        let part = |(kernel, figures): (String, Figures)| {
            let (lost, ms, share) =
                (figures.lost * 1e3, figures.seconds * 1e3, 100.0 * figures.gflops() / peak);
            format!("{kernel} {lost:+.1} ms ({ms:.1} ms, {share:.0} %)")
        };
        let parts: Vec<_> =
            kernels.into_iter().filter(|(_, figures)| figures.lost.abs() > 2e-4).map(part).collect();
        let (share, parts) = (100.0 * limit / taken, parts.join("; "));
        return writeln!(out, "| {name} | {taken:.1} | {limit:.1} | {share:.0} % | {parts} |");
    }
    let (precision, threads) = (options.precision, options.threads);
    writeln!(
        out,
        "{name}, {precision}, batch {batch}, {threads} threads: {taken:.2} ms in steps, {limit:.2} ms of multiply-adds \
         at the limit of {peak:.0} GFLOP/s\n  layer or kernel, time, operations of the direct method a second, share of \
         the limit, time lost to it"
    )?;
    let mut row = |what: &str, kernel: &str, figures: Figures| {
        let (us, lost, gflops) = (figures.seconds * 1e6, figures.lost * 1e6, figures.gflops());
        let share = 100.0 * gflops / peak;
        writeln!(
            out,
            "  {what:<44} {kernel:<40} {us:>8.0} us {gflops:>7.1} GFLOP/s {share:>5.0} % {lost:>+8.0} us"
        )
    };
    for (layer, figures) in &layers {
        let nodes: String = layer.nodes.join(" ").chars().take(44).collect();
        row(&nodes, &layer.kernel.to_string(), *figures)?;
    }
    kernels.into_iter().try_for_each(|(kernel, figures)| row("", &kernel, figures))
}
