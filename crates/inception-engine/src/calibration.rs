//! Calibration: scales and zero points from what a network makes of pictures, and how far integers are from
//! it.

use std::collections::BTreeMap;

use crate::compiled::fuse;
use crate::dtype::DType;
use crate::graph::integers::integer_weights;
use crate::graph::{Conv, Graph, NodeId, Op};
use crate::plan::dtypes;
use crate::quantization::{can_equalize, equalize, keys, unique};
use crate::{Compiled, Error, Options, Precision, QuantParams, Quantization};

/// How the range of a tensor is chosen, which 256 equal steps then cover. Values outside it saturate.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum RangeMethod {
    /// From the smallest to the largest value that was seen.
    MinMax,
    /// So that this share of all values, from 0 to 1, lies inside, with equal shares outside at both ends.
    Percentile(f64),
    /// The range with the least mean squared error: of rounding inside it, of saturation outside.
    #[default]
    LeastSquares,
}

/// Bins on either side of zero.
const BINS: usize = 2048;

/// Ends of ranges that least squares tries, on either side of zero.
const ENDS: usize = 96;

/// Numbers counted by size. The bins have one width; a number beyond them doubles it.
#[derive(Clone, Debug)]
struct Histogram {
    /// Where the last bin ends.
    end: f64,
    /// From `-end` to `end`.
    counts: Vec<u64>,
    /// Numbers that are zero, which every range holds without error.
    zeros: u64,
    least: f64,
    greatest: f64,
}

impl Histogram {
    fn new() -> Self {
        Histogram { end: 0.0, counts: vec![0; 2 * BINS], zeros: 0, least: 0.0, greatest: 0.0 }
    }

    /// Makes room for numbers of such a size.
    fn grow(&mut self, size: f64) {
        if self.end == 0.0 {
            self.end = size * 1.001;
        }
        while self.end <= size {
            let mut merged = vec![0; 2 * BINS];
            for (i, count) in self.counts.iter().enumerate() {
                merged[BINS / 2 + i / 2] += count;
            }
            (self.counts, self.end) = (merged, self.end * 2.0);
        }
    }

    fn add(&mut self, numbers: &[f64]) {
        let (least, greatest) =
            numbers.iter().fold((0.0f64, 0.0f64), |(least, greatest), &x| (least.min(x), greatest.max(x)));
        (self.least, self.greatest) = (self.least.min(least), self.greatest.max(greatest));
        let size = greatest.max(-least);
        // An infinity would double for ever.
        if size == 0.0 || !size.is_finite() {
            self.zeros += numbers.len() as u64;
            return;
        }
        self.grow(size);
        let scale = BINS as f64 / self.end;
        for &x in numbers {
            // What is no number has no place.
            match x == 0.0 || x.is_nan() {
                true => self.zeros += 1,
                false => self.counts[((x * scale + BINS as f64) as usize).min(2 * BINS - 1)] += 1,
            }
        }
    }

    /// Counts what another one counted, too.
    fn merge(&mut self, other: &Histogram) {
        (self.least, self.greatest) = (self.least.min(other.least), self.greatest.max(other.greatest));
        self.zeros += other.zeros;
        if other.end == 0.0 {
            return;
        }
        // The ends differ by any factor, so that bins are counted at their middles.
        self.grow(other.end * (1.0 - 1e-9));
        let scale = BINS as f64 / self.end;
        for (i, &count) in other.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            self.counts[((other.middle(i) * scale + BINS as f64) as usize).min(2 * BINS - 1)] += count;
        }
    }

    /// The middle of a bin.
    fn middle(&self, bin: usize) -> f64 {
        (bin as f64 + 0.5 - BINS as f64) * self.end / BINS as f64
    }

    /// The range by `method`.
    fn range(&self, method: RangeMethod) -> [f64; 2] {
        let extremes = [self.least, self.greatest];
        let [low, high] = match method {
            _ if self.end == 0.0 => extremes,
            RangeMethod::MinMax => extremes,
            RangeMethod::Percentile(share) => self.percentile(share),
            RangeMethod::LeastSquares => self.least_squares(),
        };
        [low.clamp(self.least, 0.0), high.clamp(0.0, self.greatest)]
    }

    fn percentile(&self, share: f64) -> [f64; 2] {
        let all = self.zeros + self.counts.iter().sum::<u64>();
        let outside = ((1.0 - share) / 2.0 * all as f64) as u64;
        let passed = |mut bins: &mut dyn Iterator<Item = usize>| {
            let mut count = 0;
            Iterator::find(&mut bins, |&bin| {
                count += self.counts[bin];
                count > outside
            })
        };
        let width = self.end / BINS as f64;
        let low = passed(&mut (0..2 * BINS)).map_or(0.0, |bin| self.middle(bin) - width / 2.0);
        let high = passed(&mut (0..2 * BINS).rev()).map_or(0.0, |bin| self.middle(bin) + width / 2.0);
        [low, high]
    }

    fn least_squares(&self) -> [f64; 2] {
        // The squared error of all that lies beyond an end, for each end; and how many those are.
        let beyond = |sign: f64| -> Vec<(f64, f64, f64)> {
            let extreme = if sign > 0.0 { self.greatest } else { -self.least };
            let ends = (0..=ENDS).map(|i| extreme * i as f64 / ENDS as f64);
            ends.map(|end| {
                let mut sums = (end, 0.0, 0.0);
                for (bin, &count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                    let distance = self.middle(bin) * sign - end;
                    if self.middle(bin) * sign > 0.0 && distance > 0.0 {
                        sums.1 += distance * distance * count as f64;
                        sums.2 += count as f64;
                    }
                }
                sums
            })
            .collect()
        };
        let (low, high) = (beyond(-1.0), beyond(1.0));
        let all = self.counts.iter().sum::<u64>() as f64;
        let mut best = (f64::INFINITY, [self.least, self.greatest]);
        for &(below, below_error, below_count) in &low {
            for &(above, above_error, above_count) in &high {
                let step = (below + above) / 255.0;
                let inside = all - below_count - above_count;
                let error = below_error + above_error + inside * step * step / 12.0;
                if step > 0.0 && error < best.0 {
                    best = (error, [-below, above]);
                }
            }
        }
        best.1
    }
}

/// What was seen of a tensor.
#[derive(Clone, Debug)]
struct Seen {
    histogram: Histogram,
    /// The sum of each channel, and that of its numbers above zero.
    sums: Vec<[f64; 2]>,
    /// The range of each channel, which holds zero.
    ranges: Vec<[f64; 2]>,
    /// Pixels that were summed.
    pixels: u64,
}

/// Watches a network at work on pictures, to choose scales and zero points.
#[derive(Debug)]
pub struct Calibrator {
    model: Compiled,
    fused: Graph,
    seen: Vec<Seen>,
    images: usize,
}

impl Calibrator {
    /// Compiles `graph` in `f32` so that every tensor can be seen.
    ///
    /// # Errors
    /// As [`Compiled::from_graph`].
    pub fn new(graph: &Graph, options: &Options) -> Result<Self, Error> {
        // As the network is written: no space to depth, so that nodes are those that integers will have.
        let options =
            Options { precision: Precision::F32, exact: true, quantization: None, ..options.clone() };
        let model = Compiled::compile(graph.clone(), &options, &options.rule(), true)?;
        let mut fused = graph.clone();
        fuse(&mut fused, false)?;
        let seen = |channels: usize| {
            let zeros = vec![[0.0; 2]; channels];
            Seen { histogram: Histogram::new(), sums: zeros.clone(), ranges: zeros, pixels: 0 }
        };
        let seen = fused.nodes.iter().map(|node| seen(node.shape.channels)).collect();
        Ok(Calibrator { model, fused, seen, images: 0 })
    }

    /// Images that were seen.
    pub fn images(&self) -> usize {
        self.images
    }

    /// Runs an image, `[channels][height][width]`, and counts what its tensors hold.
    ///
    /// # Errors
    /// [`Error::Length`] for an image of another size.
    pub fn add(&mut self, image: &[f32]) -> Result<(), Error> {
        let seen = &mut self.seen;
        watch(&self.model, image, |node, numbers| {
            let Seen { histogram, sums, ranges, pixels } = &mut seen[node];
            histogram.add(numbers);
            for pixel in numbers.chunks_exact(sums.len()) {
                for ((sum, [low, high]), &x) in sums.iter_mut().zip(ranges.iter_mut()).zip(pixel) {
                    sum[0] += x;
                    sum[1] += x.max(0.0);
                    (*low, *high) = (low.min(x), high.max(x));
                }
            }
            *pixels += (numbers.len() / sums.len()) as u64;
        })?;
        self.images += 1;
        Ok(())
    }

    /// Scales and zero points for all tensors, equalised channels before depthwise convolutions where that
    /// leaves less noise behind those, and what the rounding of weights does to the means of convolutions'
    /// outputs.
    pub fn finish(mut self, method: RangeMethod) -> Quantization {
        for (id, node) in self.fused.nodes.iter().enumerate() {
            // A concatenation is no step of its own: what it holds are its inputs.
            if matches!(node.op, Op::Concat) {
                let parts: Vec<Seen> = node.inputs.iter().map(|&input| self.seen[input].clone()).collect();
                let seen = &mut self.seen[id];
                parts.iter().for_each(|part| seen.histogram.merge(&part.histogram));
                seen.sums = parts.iter().flat_map(|part| part.sums.iter().copied()).collect();
                seen.pixels = parts.iter().map(|part| part.pixels).max().unwrap_or(0);
            }
        }
        let mut quantization = Quantization::default();
        let (dtypes, keys) = (dtypes(&self.fused, DType::U8), keys(&self.fused));
        let mut ranges: Vec<[f64; 2]> = self.seen.iter().map(|seen| seen.histogram.range(method)).collect();
        let consumers = self.fused.consumers();
        for (id, key) in keys.iter().enumerate() {
            if let Some((factors, range)) = self.equalized(&consumers, id, ranges[id]) {
                equalize(&mut self.fused, &consumers, id, &factors);
                let scaled = self.seen[id].sums.iter_mut().zip(&factors);
                scaled.for_each(|(sums, factor)| *sums = sums.map(|sum| sum * f64::from(*factor)));
                ranges[id] = range;
                quantization.equalization.insert(key.clone(), factors);
            }
        }
        for (id, (node, key)) in self.fused.nodes.iter().zip(keys).enumerate() {
            let [low, high] = ranges[id];
            if let Op::Conv(conv) = &node.op
                && dtypes[node.inputs[0]] == DType::U8
            {
                quantization.biases.insert(key.clone(), self.correction(conv, node.inputs[0]));
            }
            quantization.tensors.insert(key, QuantParams::of_range(low as f32, high as f32));
        }
        quantization
    }

    /// Factors with which each channel of a node has the range of the widest, and the range of all then;
    /// `None` where that is not possible, or no better than one scale for `range`.
    fn equalized(
        &self,
        consumers: &[Vec<NodeId>],
        id: NodeId,
        range: [f64; 2],
    ) -> Option<(Vec<f32>, [f64; 2])> {
        if !can_equalize(&self.fused, consumers, id) {
            return None;
        }
        let ranges = &self.seen[id].ranges;
        let size = |[low, high]: [f64; 2]| high.max(-low);
        let widest = ranges.iter().copied().map(size).fold(0.0, f64::max);
        // A channel that holds nothing stays as it is, and so does one without a finite size.
        let factor = |range: &[f64; 2]| match (widest / size(*range)) as f32 {
            factor if factor.is_finite() && factor > 0.0 => factor,
            _ => 1.0,
        };
        let factors: Vec<f32> = ranges.iter().map(factor).collect();
        let scaled = ranges.iter().zip(&factors).map(|(range, factor)| range.map(|x| x * f64::from(*factor)));
        let joined = |[low, high]: [f64; 2], range: [f64; 2]| [low.min(range[0]), high.max(range[1])];
        let all = scaled.fold([0.0; 2], joined);
        // What the rounding of each channel puts into the outputs of the depthwise convolutions.
        let energy = |channel: usize| -> f64 {
            let of = |&reader: &NodeId| match &self.fused.nodes[reader].op {
                Op::Conv(conv) => {
                    let weights = conv.weight.chunks_exact(conv.taps().max(1)).nth(channel).unwrap_or(&[]);
                    weights.iter().map(|w| f64::from(*w).powi(2)).sum()
                }
                _ => 0.0,
            };
            consumers[id].iter().map(of).sum()
        };
        let step = |[low, high]: [f64; 2]| high - low;
        let (mut one, mut each) = (0.0, 0.0);
        for (channel, factor) in factors.iter().enumerate() {
            let energy = energy(channel);
            one += energy * step(range).powi(2);
            each += energy * (step(all) / f64::from(*factor)).powi(2);
        }
        (each < one).then_some((factors, all))
    }

    /// What the rounding of a convolution's weights takes from the mean of each output channel: the
    /// difference of weights times the mean of what they multiply. (At the edges, where padding is
    /// multiplied, it is less.)
    fn correction(&self, conv: &Conv, input: NodeId) -> Vec<f32> {
        let Seen { sums, pixels, .. } = &self.seen[input];
        let (taps, group_in) = (conv.taps(), conv.in_channels() / conv.groups);
        let group_out = conv.out_channels / conv.groups;
        let mean = |c: usize| sums[c][usize::from(conv.input_relu)] / (*pixels).max(1) as f64;
        let of = |(o, channel): (usize, &[f32])| {
            let (integers, scale) = integer_weights(channel, taps);
            let first = o / group_out * group_in;
            let lost =
                channel.iter().zip(integers).map(|(&w, q)| f64::from(w) - f64::from(q) * f64::from(scale));
            lost.enumerate().map(|(i, lost)| lost * mean(first + i / taps)).sum::<f64>() as f32
        };
        conv.weight.chunks_exact(group_in * taps).enumerate().map(of).collect()
    }
}

/// Runs an image and shows the tensor of each node that a step computes.
fn watch(model: &Compiled, image: &[f32], mut show: impl FnMut(NodeId, &[f64])) -> Result<(), Error> {
    model.watch(image, |steps, stored| {
        for &node in steps.iter().flat_map(|&step| &model.plan().steps[step].nodes) {
            if let Some(numbers) = stored(node) {
                show(node, &numbers);
            }
        }
    })
}

/// How far a layer's tensor in `int8` is from that in `f32`, with all that came before it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LayerSqnr {
    /// The node.
    pub node: String,
    /// Its operation.
    pub op: &'static str,
    /// What it computes in: a convolution in [`Precision::Int8`] multiplies integers.
    pub precision: Precision,
    /// Signal to quantisation noise (SQNR) in decibels: ten times the logarithm of the sum of squares over
    /// that of the differences'; infinite where they are equal.
    pub sqnr_db: f64,
}

/// Runs `images`, each `[channels][height][width]`, in `f32` and in `int8` with the quantisation in
/// `options`, and compares what each layer makes of them.
///
/// # Errors
/// As [`Compiled::from_graph`] and [`Compiled::run`].
pub fn layer_sqnr<'a>(
    graph: &Graph,
    options: &Options,
    images: impl IntoIterator<Item = &'a [f32]>,
) -> Result<Vec<LayerSqnr>, Error> {
    let compile = |precision| {
        let options = Options { precision, exact: true, ..options.clone() };
        Compiled::compile(graph.clone(), &options, &options.rule(), true)
    };
    let as_written = options.quantization.as_ref().is_some_and(|quantization| quantization.as_written);
    let (exact, rounded) = (compile(Precision::F32)?, compile(Precision::Int8)?);
    let mut fused = graph.clone();
    fuse(&mut fused, as_written)?;
    // A plan of integers has conversions between the nodes.
    let keys = keys(&fused);
    let index: BTreeMap<&String, NodeId> = keys.iter().zip(0..).collect();
    let nodes = unique(rounded.plan().rows.iter().map(|row| &row.node));
    let equalization = options.quantization.as_ref().map(|quantization| &quantization.equalization);
    let mut sums = vec![[0.0; 2]; fused.nodes.len()];
    for image in images {
        let mut wanted = BTreeMap::new();
        watch(&exact, image, |node, numbers| {
            wanted.insert(node, numbers.to_vec());
        })?;
        watch(&rounded, image, |node, numbers| {
            let Some(&node) = index.get(&nodes[node]) else { return };
            let factors = equalization.and_then(|factors| factors.get(&keys[node]));
            let factor = |i: usize| factors.map_or(1.0, |factors| f64::from(factors[i % factors.len()]));
            for (i, (wanted, found)) in wanted.remove(&node).iter().flatten().zip(numbers).enumerate() {
                sums[node][0] += wanted * wanted;
                sums[node][1] += (wanted - found / factor(i)).powi(2);
            }
        })?;
    }
    let floats = options.quantization.as_ref().map(|quantization| &quantization.floats);
    let is_float = |id: NodeId| floats.is_some_and(|floats| floats.contains(&keys[id]));
    let dtypes = dtypes(&fused, DType::U8);
    // A convolution multiplies what it reads.
    let computed = |id: NodeId| match (&fused.nodes[id].op, &fused.nodes[id].inputs[..]) {
        (Op::Conv(_), _) if is_float(id) => DType::F32,
        (Op::Conv(_), &[input, ..]) => dtypes[input],
        _ => dtypes[id],
    };
    let noise = |(node, [signal, noise]): (NodeId, [f64; 2])| LayerSqnr {
        node: fused.nodes[node].name.clone(),
        op: fused.nodes[node].op.name(),
        precision: Precision::of(computed(node)),
        sqnr_db: 10.0 * (signal / noise).log10(),
    };
    let seen = |(node, _): &(NodeId, [f64; 2])| !matches!(fused.nodes[*node].op, Op::Concat);
    Ok(sums.into_iter().enumerate().filter(seen).map(noise).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test fails by panicking.
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::graph::{Pool, PoolKind, Shape, Window};
    use crate::noise;

    #[test]
    fn histograms_grow_and_merge_without_losing_numbers() {
        let mut histogram = Histogram::new();
        histogram.add(&[0.0, 0.5, -0.25]);
        histogram.add(&[3.0, 100.0, 0.0]);
        let mut other = Histogram::new();
        other.add(&[-1000.0]);
        other.merge(&histogram);
        for (histogram, numbers) in [(&histogram, 4), (&other, 5)] {
            assert_eq!(histogram.counts.iter().sum::<u64>(), numbers);
            assert_eq!(histogram.zeros, 2);
            assert!(histogram.end > histogram.greatest.max(-histogram.least));
        }
        assert_eq!(other.range(RangeMethod::MinMax), [-1000.0, 100.0]);
        // What is no number is not the most negative one.
        let [all, half] = [RangeMethod::MinMax, RangeMethod::Percentile(0.5)].map(|method| {
            let mut histogram = Histogram::new();
            histogram.add(&[-1.0, f64::NAN, f64::NAN, f64::NAN, 0.25, 0.5, 1.0]);
            assert_eq!((histogram.counts[0], histogram.zeros), (0, 3));
            histogram.range(method)
        });
        assert!(all == [-1.0, 1.0] && half[0] == 0.0, "{all:?} {half:?}");
    }

    /// One number in ten million lies far out: least squares and percentiles leave it there, as it would take
    /// most of the steps from the others. Where numbers fill their range, nothing is cut off.
    #[test]
    fn ranges_leave_out_what_costs_more_than_it_is_worth() {
        let even: Vec<f64> = (0..10_000).map(|i| f64::from(i) / 10_000.0).collect();
        let mut histogram = Histogram::new();
        (0..1000).for_each(|_| histogram.add(&even));
        let [low, high] = histogram.range(RangeMethod::LeastSquares);
        assert!(low == 0.0 && high > 0.95, "{low} {high}");
        histogram.add(&[8.0]);
        for method in [RangeMethod::LeastSquares, RangeMethod::Percentile(0.999)] {
            let [low, high] = histogram.range(method);
            assert!(low == 0.0 && (0.9..2.0).contains(&high), "{method:?}: {low} {high}");
        }
        assert_eq!(histogram.range(RangeMethod::MinMax), [0.0, 8.0]);
    }

    /// A padded convolution, a depthwise one, a residual, a concatenation, a mean and a classifier.
    fn graph() -> Graph {
        let mut graph = Graph::new(Shape::new(16, 16, 3));
        let mut seed = 0;
        let mut conv = |channels: usize, out_channels: usize, groups: usize, kernel: usize, relu: bool| {
            let len = out_channels * channels / groups * kernel * kernel;
            // Another part of the noise for each layer.
            seed += 100;
            let weight: Vec<f32> = noise(len + seed).split_off(seed);
            let weight = weight.into_iter().map(|w| w / ((len / out_channels) as f32).sqrt()).collect();
            let (bias, window) = (Some(vec![0.05; out_channels]), Window::square(kernel, 1, kernel / 2));
            Op::Conv(Box::new(Conv { weight, bias, out_channels, groups, window, input_relu: false, relu }))
        };
        let a = graph.add("a", conv(3, 24, 1, 3, true), &[0]).unwrap();
        let b = graph.add("b", conv(24, 24, 24, 3, false), &[a]).unwrap();
        let c = graph.add("c", conv(24, 24, 1, 1, false), &[b]).unwrap();
        let d = graph.add("d", Op::Add { relu: true }, &[a, c]).unwrap();
        let e = graph.add("e", conv(24, 8, 1, 1, true), &[d]).unwrap();
        let f = graph.add("f", Op::Concat, &[d, e]).unwrap();
        let g = graph.add("g", Op::GlobalAveragePool, &[f]).unwrap();
        graph.add("h", conv(32, 10, 1, 1, false), &[g]).unwrap();
        graph
    }

    #[test]
    fn a_calibrated_network_is_near_its_floats() {
        let graph = graph();
        let images: Vec<Vec<f32>> = (0..6).map(|i| noise(3 * 256 + i * 50)[i * 50..].to_vec()).collect();
        let options = Options { threads: 2, ..Options::default() };
        let exact = Compiled::from_graph(graph.clone(), &options).unwrap();
        for method in [RangeMethod::MinMax, RangeMethod::Percentile(0.9999), RangeMethod::LeastSquares] {
            let mut calibrator = Calibrator::new(&graph, &options).unwrap();
            images[..4].iter().for_each(|image| calibrator.add(image).unwrap());
            assert_eq!(calibrator.images(), 4);
            let quantization = calibrator.finish(method);
            assert_eq!(quantization.tensors.len(), 8, "{quantization:?}");
            let options = Options {
                precision: Precision::Int8,
                quantization: Some(Arc::new(quantization)),
                ..options.clone()
            };
            let model = Compiled::from_graph(graph.clone(), &options).unwrap();
            // The last two were not seen.
            for image in &images {
                let (wanted, found) = (exact.run(image, 1).unwrap(), model.run(image, 1).unwrap());
                let largest = wanted.iter().fold(0.0f32, |m, x| m.max(x.abs()));
                let off = wanted.iter().zip(&found).map(|(w, f)| (w - f).abs()).fold(0.0, f32::max) / largest;
                // The rounding of 256 pixels averages out, that of their mean, a hundredth of these, does
                // not.
                assert!(off < 0.03, "{method:?}: {off}");
            }
            let layers = layer_sqnr(&graph, &options, images.iter().map(|image| &image[..])).unwrap();
            assert!(layers.len() >= 6 && layers.iter().all(|layer| layer.sqnr_db > 25.0), "{layers:?}");
        }
    }

    /// An average pool before a convolution that is smaller than what it reads: where nodes stay as they are
    /// written, the noise is that of the pool and the convolution in this order.
    #[test]
    fn layers_are_compared_in_the_order_of_the_integers() {
        let mut graph = Graph::new(Shape::new(8, 8, 16));
        let window = Window::square(3, 1, 1);
        let pool = Pool { kind: PoolKind::AverageWithPadding, window, bias: None, relu: false };
        graph.add("pool", Op::Pool(Box::new(pool)), &[0]).unwrap();
        let weight = noise(64).into_iter().map(|w| w / 8.0).collect();
        let conv = Conv { out_channels: 4, ..Conv::new(weight, Window::square(1, 1, 0)) };
        graph.add("conv", Op::Conv(Box::new(conv)), &[1]).unwrap();
        graph.add("relu", Op::Relu, &[2]).unwrap();
        let image = noise(16 * 64);
        let of_range = |low: f32, high: f32| {
            let QuantParams { scale, zero_point } = QuantParams::of_range(low, high);
            (vec![scale], zero_point)
        };
        let tensors = [(0, of_range(-2.0, 2.0)), (1, of_range(-2.0, 2.0)), (3, of_range(0.0, 1.5))];
        let tensors = BTreeMap::from(tensors);
        let quantization = Some(Arc::new(crate::quantization_of_nodes(graph.clone(), &tensors).unwrap()));
        let options = Options { threads: 1, quantization, ..Options::default() };
        let layers = layer_sqnr(&graph, &options, [&image[..]]).unwrap();
        assert_eq!(layers.iter().map(|layer| &layer.node).collect::<Vec<_>>(), ["input", "pool", "conv"]);
        assert!(layers.iter().all(|layer| layer.sqnr_db > 25.0), "{layers:?}");
    }

    /// All weights are a third of a step above an integer: the sum of what rounding takes from them is given
    /// back.
    #[test]
    fn biases_make_up_for_rounded_weights() {
        let mut graph = Graph::new(Shape::new(8, 8, 64));
        let mut weight = vec![(10.0 + 1.0 / 3.0) / 127.0; 64];
        // Of the other sign: two weights of one sign would have to fit as a pair.
        weight[0] = -1.0;
        let conv = Conv::new(weight, Window::square(1, 1, 0));
        graph.add("a", Op::Conv(Box::new(conv)), &[0]).unwrap();
        graph.add("b", Op::Relu, &[1]).unwrap();
        let mut calibrator = Calibrator::new(&graph, &Options::default()).unwrap();
        calibrator.add(&vec![0.5; 8 * 8 * 64]).unwrap();
        let quantization = calibrator.finish(RangeMethod::MinMax);
        let lost = 63.0 * 0.5 / 3.0 / 127.0;
        let correction = quantization.biases["a"][0];
        assert!((correction - lost).abs() < 1e-4, "{correction} {lost}");
    }

    /// Each channel before a depthwise convolution has twice the range of the one before it: they are stored
    /// with one range, and what the depthwise convolution makes of them is as near as where all are alike.
    #[test]
    fn channels_before_depthwise_convolutions_are_equalised() {
        let mut graph = Graph::new(Shape::new(8, 8, 8));
        let size = |channel: usize| f32::exp2(channel as f32);
        let weight = noise(64).into_iter().enumerate().map(|(i, w)| w * size(i / 8)).collect();
        let a = Conv { out_channels: 8, ..Conv::new(weight, Window::square(1, 1, 0)) };
        let a = graph.add("a", Op::Conv(Box::new(a)), &[0]).unwrap();
        let weight = noise(172)[100..].iter().enumerate().map(|(i, w)| w / size(i / 9)).collect();
        let b = Conv { out_channels: 8, groups: 8, ..Conv::new(weight, Window::square(3, 1, 1)) };
        graph.add("b", Op::Conv(Box::new(b)), &[a]).unwrap();
        let images: Vec<Vec<f32>> = (0..4).map(|i| noise(8 * 64 + i * 50)[i * 50..].to_vec()).collect();
        let mut calibrator = Calibrator::new(&graph, &Options::default()).unwrap();
        images.iter().for_each(|image| calibrator.add(image).unwrap());
        let quantization = calibrator.finish(RangeMethod::LeastSquares);
        let factors = &quantization.equalization["a"];
        assert!(factors[0] > 32.0 && factors[7] == 1.0, "{factors:?}");
        assert_eq!(quantization.equalization.len(), 1);
        let quantization = Some(Arc::new(quantization));
        let options = Options { precision: Precision::Int8, quantization, ..Options::default() };
        for layer in layer_sqnr(&graph, &options, images.iter().map(|image| &image[..])).unwrap() {
            assert!(layer.sqnr_db > 35.0, "{layer:?}");
        }
    }
}
