//! Networks of integers against a scalar evaluation of the same integers: equal to the bit on every
//! instruction set and thread count.
#![allow(missing_docs, clippy::unwrap_used)] // A test fails by panicking.

mod numbers;

use std::sync::Arc;

use inception_engine::graph::integers::integer_weights;
use inception_engine::graph::reference::{evaluate, tensors};
use inception_engine::graph::{Conv, Graph, NodeId, Op, Pool, PoolKind, Shape, Window, passes};
use inception_engine::{
    Compiled, Error, Isa, KernelName, Options, Picks, Precision, QuantParams, Quantization,
};
use numbers::{Numbers, conv, grow, tiers};

/// A tensor as it is stored.
enum Stored {
    Bytes(Vec<u8>),
    Floats(Vec<f32>),
}

/// Where a layer's results go, and by which factors.
struct Target {
    /// `None` for floats.
    quant: Option<QuantParams>,
    relu: bool,
}

impl Target {
    fn unit(&self) -> f64 {
        self.quant.map_or(1.0, |quant| f64::from(quant.scale))
    }

    fn zero(&self) -> f64 {
        self.quant.map_or(0.0, |quant| f64::from(quant.zero_point))
    }

    fn store(&self, values: Vec<f32>) -> Stored {
        match self.quant {
            None => {
                let least = if self.relu { 0.0 } else { f32::NEG_INFINITY };
                Stored::Floats(values.into_iter().map(|v| v.max(least)).collect())
            }
            Some(quant) => {
                let least = if self.relu { f32::from(quant.zero_point) } else { 0.0 };
                let byte = |v: f32| v.max(least).clamp(0.0, 255.0).round_ties_even() as u8;
                Stored::Bytes(values.into_iter().map(byte).collect())
            }
        }
    }
}

/// Calls `tap` for each output pixel and each pixel of the input under its window, `None` where that is
/// padding.
fn windows(window: &Window, input: Shape, output: Shape, mut tap: impl FnMut(usize, usize, Option<usize>)) {
    for p in 0..output.pixels() {
        for t in 0..window.kernel[0] * window.kernel[1] {
            let at = |axis: usize, out: usize, tap: usize, size: usize| {
                let at = out * window.stride[axis] + tap * window.dilation[axis];
                at.checked_sub(window.pad[axis]).filter(|&at| at < size)
            };
            let y = at(0, p / output.width, t / window.kernel[1], input.height);
            let x = at(1, p % output.width, t % window.kernel[1], input.width);
            tap(p, t, y.zip(x).map(|(y, x)| y * input.width + x));
        }
    }
}

/// A convolution of bytes.
fn convolve(
    conv: &Conv,
    (x, input, quant): (&[u8], Shape, QuantParams),
    output: Shape,
    target: &Target,
    residual: Option<(&[u8], QuantParams)>,
) -> Vec<f32> {
    let (outs, taps) = (conv.out_channels, conv.taps());
    let (group_in, group_out) = (input.channels / conv.groups, outs / conv.groups);
    let zero = i64::from(quant.zero_point);
    let residual_scale = residual.map_or(1.0, |(_, r)| (f64::from(r.scale) / target.unit()) as f32);
    let added = residual.map_or(0.0, |(_, r)| f64::from(r.zero_point) * f64::from(residual_scale));
    let mut values = vec![0.0; output.len()];
    for o in 0..outs {
        let (weights, scale) =
            integer_weights(&conv.weight[o * group_in * taps..(o + 1) * group_in * taps], taps);
        let weights: Vec<i64> = weights.into_iter().map(i64::from).collect();
        let mut sums = vec![0i64; output.pixels()];
        windows(&conv.window, input, output, |p, t, at| {
            for c in 0..group_in {
                let byte =
                    at.map_or(zero, |at| i64::from(x[at * input.channels + o / group_out * group_in + c]));
                let byte = if conv.input_relu { byte.max(zero) } else { byte };
                sums[p] += (if conv.is_depthwise() { byte - zero } else { byte }) * weights[c * taps + t];
            }
        });
        let factor = (f64::from(quant.scale) * f64::from(scale) / target.unit()) as f32;
        let shift = if conv.is_depthwise() { 0 } else { zero * weights.iter().sum::<i64>() };
        let own = conv.bias.as_ref().map_or(0.0, |bias| f64::from(bias[o]) / target.unit());
        let bias = (own + target.zero() - shift as f64 * f64::from(factor) - added) as f32;
        for (p, sum) in sums.into_iter().enumerate() {
            let mut v = sum as f32 * factor + bias;
            if let Some((residual, _)) = residual {
                v += f32::from(residual[p * outs + o]) * residual_scale;
            }
            values[p * outs + o] = v;
        }
    }
    values
}

/// A pool of bytes.
fn pool(
    p: &Pool,
    (x, input, quant): (&[u8], Shape, QuantParams),
    output: Shape,
    target: &Target,
) -> Vec<f32> {
    let channels = input.channels;
    let factor = quant.scale / target.unit() as f32;
    let zero = f32::from(quant.zero_point);
    let max = p.kind == PoolKind::Max;
    let shift = target.zero() as f32 - if max { zero * factor } else { 0.0 };
    let mut sums = vec![if max { f32::NEG_INFINITY } else { 0.0 }; output.len()];
    let mut inside = vec![0; output.pixels()];
    windows(&p.window, input, output, |pixel, _, at| {
        let Some(at) = at else { return };
        inside[pixel] += 1;
        for c in 0..channels {
            let (sum, byte) = (&mut sums[pixel * channels + c], f32::from(x[at * channels + c]));
            *sum = if max { sum.max(byte) } else { *sum + (byte - zero) };
        }
    });
    let area = |pixel: usize| match p.kind {
        PoolKind::Max => 1,
        PoolKind::Average => inside[pixel],
        PoolKind::AverageWithPadding => {
            let extent = |axis: usize, out: usize, size: usize| {
                let end = size + p.window.pad[axis] + p.window.pad_end[axis];
                p.window.kernel[axis].min(end - out * p.window.stride[axis])
            };
            extent(0, pixel / output.width, input.height) * extent(1, pixel % output.width, input.width)
        }
    };
    let value = |(i, sum): (usize, &f32)| {
        let bias = p.bias.as_ref().map_or(0.0, |bias| bias[i % channels] / target.unit() as f32) + shift;
        sum * (factor / area(i / channels) as f32) + bias
    };
    sums.iter().enumerate().map(value).collect()
}

/// `a * scale + shift + b` in the unit of the target.
fn elementwise(
    (a, quant): (&[u8], QuantParams),
    b: Option<(&[u8], QuantParams)>,
    affine: impl Fn(usize) -> (f64, f64),
    channels: usize,
    target: &Target,
) -> Vec<f32> {
    let b_scale = b.map_or(1.0, |(_, b)| (f64::from(b.scale) / target.unit()) as f32);
    let added = b.map_or(0.0, |(_, b)| f64::from(b.zero_point) * f64::from(b_scale));
    let value = |(i, byte): (usize, &u8)| {
        let (scale, shift) = affine(i % channels);
        let scale = (scale * f64::from(quant.scale) / target.unit()) as f32;
        let zero = f64::from(quant.zero_point) * f64::from(scale);
        let shift = (shift / target.unit() + target.zero() - zero - added) as f32;
        let v = f32::from(*byte) * scale + shift;
        b.map_or(v, |(b, _)| v + f32::from(b[i]) * b_scale)
    };
    a.iter().enumerate().map(value).collect()
}

/// For each node, the one whose scale it has: its own, or the concatenation's in whose buffer it lies.
fn owners(graph: &Graph) -> Vec<NodeId> {
    let mut owners: Vec<Option<NodeId>> = vec![None; graph.nodes.len()];
    for id in (0..graph.nodes.len()).rev() {
        let owner = *owners[id].get_or_insert(id);
        if matches!(graph.nodes[id].op, Op::Concat) {
            for &input in graph.nodes[id].inputs.iter().filter(|&&input| input != 0) {
                owners[input].get_or_insert(owner);
            }
        }
    }
    owners.into_iter().flatten().collect()
}

/// Whether a node is the end of a network, and has kernels that store floats.
fn is_end(graph: &Graph, id: NodeId) -> bool {
    let node = &graph.nodes[id];
    let written = match &node.op {
        Op::Pool(_) => true,
        Op::Conv(conv) => !conv.is_depthwise() && node.inputs.len() == 1,
        _ => false,
    };
    written && id == graph.output
}

/// What a graph that has been through the passes computes of one image, `[channels][height][width]`.
fn oracle(graph: &Graph, quants: &[QuantParams], image: &[f32]) -> Vec<f32> {
    let owners = owners(graph);
    let quant = |id: NodeId| quants[owners[id]];
    let mut stored: Vec<Stored> = Vec::new();
    for (id, node) in graph.nodes.iter().enumerate() {
        let relu = match &node.op {
            Op::Conv(conv) => conv.relu,
            Op::Pool(pool) => pool.relu,
            Op::Add { relu } => *relu,
            Op::Relu => true,
            _ => false,
        };
        let target = Target { quant: (!is_end(graph, id)).then(|| quant(id)), relu };
        let bytes = |i: usize| {
            let input = node.inputs[i];
            match &stored[input] {
                Stored::Bytes(bytes) => (&bytes[..], quant(input)),
                Stored::Floats(_) => panic!("{} reads floats", node.name),
            }
        };
        let shape = |i: usize| graph.nodes[node.inputs[i]].shape;
        let with_shape = |i: usize| (bytes(i).0, shape(i), bytes(i).1);
        let second = || (node.inputs.len() > 1).then(|| bytes(1));
        let channels = node.shape.channels;
        let values = match &node.op {
            Op::Input { pad, .. } => {
                let quant = quant(id);
                let (height, width) = (node.shape.height, node.shape.width);
                let mut bytes = vec![quant.zero_point; node.shape.len()];
                let (rows, columns) = inner(graph);
                for (i, x) in image.iter().enumerate() {
                    let (c, y, x_at) =
                        (i / (rows * columns), i / columns % rows + pad[0], i % columns + pad[1]);
                    assert!(y < height && x_at < width);
                    let byte = (x * (1.0 / quant.scale) + f32::from(quant.zero_point)).clamp(0.0, 255.0);
                    bytes[(y * width + x_at) * channels + c] = byte.round_ties_even() as u8;
                }
                stored.push(Stored::Bytes(bytes));
                continue;
            }
            Op::Conv(conv) => convolve(conv, with_shape(0), node.shape, &target, second()),
            Op::Pool(p) => pool(p, with_shape(0), node.shape, &target),
            Op::Add { .. } => elementwise(bytes(0), second(), |_| (1.0, 0.0), channels, &target),
            Op::Relu => elementwise(bytes(0), None, |_| (1.0, 0.0), channels, &target),
            Op::Affine { scale, shift } => {
                elementwise(bytes(0), None, |c| (scale[c], shift[c]), channels, &target)
            }
            Op::Concat => {
                let parts: Vec<(Vec<f32>, usize)> = (0..node.inputs.len())
                    .map(|i| {
                        let channels = shape(i).channels;
                        (elementwise(bytes(i), None, |_| (1.0, 0.0), channels, &target), channels)
                    })
                    .collect();
                let pixel = |p: usize| parts.iter().flat_map(move |(x, n)| x[p * n..(p + 1) * n].to_vec());
                (0..node.shape.pixels()).flat_map(pixel).collect()
            }
            other => panic!("{} is left by the passes", other.name()),
        };
        stored.push(target.store(values));
    }
    let values: Vec<f32> = match &stored[graph.output] {
        Stored::Bytes(bytes) => bytes.iter().map(|byte| quant(graph.output).dequantize(*byte)).collect(),
        Stored::Floats(values) => values.clone(),
    };
    let shape = graph.nodes[graph.output].shape;
    let planes = |i: usize| values[i % shape.pixels() * shape.channels + i / shape.pixels()];
    (0..shape.len()).map(planes).collect()
}

/// Rows and columns of the image, without the zeros around it.
fn inner(graph: &Graph) -> (usize, usize) {
    let Op::Input { pad, pad_end, .. } = graph.nodes[0].op else { panic!("no input") };
    let shape = graph.nodes[0].shape;
    (shape.height - pad[0] - pad_end[0], shape.width - pad[1] - pad_end[1])
}

/// The graph after the passes, and scales and zero points of what it makes of `image`.
fn prepare(graph: &Graph, image: &[f32]) -> (Graph, Vec<QuantParams>, Arc<Quantization>) {
    let mut fused = graph.clone();
    while matches!(fused.nodes[fused.output].op, Op::Flatten) {
        fused.output = fused.nodes[fused.output].inputs[0];
    }
    passes::run(passes::PASSES, &mut fused).unwrap();
    let range = |tensor: &Vec<f64>| {
        let [low, high] = [f64::min, f64::max].map(|f| tensor.iter().copied().fold(0.0, f) as f32);
        QuantParams::of_range(low, high)
    };
    let quants: Vec<QuantParams> = tensors(&fused, image).iter().map(range).collect();
    let mut quantization = Quantization::default();
    let mut seen = std::collections::BTreeMap::new();
    for (node, quant) in fused.nodes.iter().zip(&quants) {
        let count = seen.entry(&node.name).and_modify(|n| *n += 1).or_insert(1);
        let key = if *count == 1 { node.name.clone() } else { format!("{}#{count}", node.name) };
        quantization.tensors.insert(key, *quant);
    }
    (fused, quants, Arc::new(quantization))
}

/// `graph` in `int8` on `isa`; `None`, which is said, where that cannot compute it.
fn compiled(graph: &Graph, quantization: &Quantization, isa: Isa, threads: usize) -> Option<Compiled> {
    compiled_with(graph, quantization, isa, threads, Picks::new())
}

/// As [`compiled`], with kernels that are not what the cost model picks.
fn compiled_with(
    graph: &Graph,
    quantization: &Quantization,
    isa: Isa,
    threads: usize,
    picks: Picks,
) -> Option<Compiled> {
    let options = Options {
        threads,
        picks,
        precision: Precision::Int8,
        quantization: Some(Arc::new(quantization.clone())),
        isa: Some(isa),
        ..Options::default()
    };
    match Compiled::from_graph(graph.clone(), &options) {
        Err(Error::Precision { reason, .. }) => {
            eprintln!("SKIPPED: int8 on {isa} {reason}");
            None
        }
        other => Some(other.unwrap()),
    }
}

/// The largest difference over the largest value.
fn error(found: &[f32], wanted: &[f32]) -> f32 {
    let largest = wanted.iter().fold(1e-3f32, |m, x| m.max(x.abs()));
    found.iter().zip(wanted).map(|(f, w)| (f - w).abs()).fold(0.0, f32::max) / largest
}

/// Compares with the oracle on each tier and for some thread counts, and with the graph in `f64` within
/// `tolerance`.
fn check(what: &str, graph: &Graph, numbers: &mut Numbers, tolerance: f32) {
    let batch = 2;
    let images = numbers.floats(batch * graph.nodes[0].shape.len(), 1.0);
    let one = graph.nodes[0].shape.len();
    let (fused, quants, quantization) = prepare(graph, &images[..one]);
    let wanted: Vec<f32> = images.chunks(one).flat_map(|image| oracle(&fused, &quants, image)).collect();
    for isa in tiers() {
        for threads in [1, 3] {
            let Some(model) = compiled(graph, &quantization, isa, threads) else { continue };
            let found = model.run(&images, batch).unwrap();
            assert!(
                found == wanted,
                "{what}, {isa}, {threads} threads: {:.1e} from the oracle\n{:#?}",
                error(&found, &wanted),
                model.explain()
            );
        }
    }
    let true_values: Vec<f32> = evaluate(graph, &images[..one]).iter().map(|&x| x as f32).collect();
    let off = error(&wanted[..true_values.len()], &true_values);
    assert!(off < tolerance, "{what}: the oracle is {off:.1e} from f64");
}

/// An eight-bit result is half of a 255th off, its input and weights as much; a wrong zero point or tap is
/// off by more than this.
const ONE_LAYER: f32 = 0.04;

/// The operations one after the other, then a pool that copies, since the end is floats.
fn chain(shape: Shape, ops: Vec<Op>) -> Graph {
    let mut graph = Graph::new(shape);
    let pool = Pool { kind: PoolKind::Max, window: Window::square(1, 1, 0), bias: None, relu: false };
    for op in ops.into_iter().chain([Op::Pool(Box::new(pool))]) {
        graph.add("node", op, &[graph.output]).unwrap();
    }
    graph
}

#[test]
fn convolutions_of_all_shapes() {
    let mut numbers = Numbers::new(21);
    let windows = [
        ([1, 1], [1, 1], [0, 0], 1),
        ([1, 1], [2, 2], [0, 0], 1),
        ([3, 3], [1, 1], [1, 1], 1),
        ([3, 3], [2, 2], [0, 0], 1),
        ([3, 3], [1, 1], [2, 2], 2),
        ([5, 5], [1, 1], [2, 2], 1),
        ([7, 7], [2, 2], [3, 3], 1),
        ([1, 7], [1, 1], [0, 3], 1),
        ([7, 1], [1, 1], [3, 0], 1),
    ];
    for (kernel, stride, pad, dilation) in windows {
        for (cin, cout) in [(3, 32), (16, 33), (17, 16), (42, 47), (1, 1), (35, 64)] {
            let window = Window { dilation: [dilation; 2], ..Window::new(kernel, stride, pad) };
            let (height, width) = (8 + numbers.below(8), 8 + numbers.below(8));
            let mut conv = conv(&mut numbers, cin, cout, 1, window);
            conv.relu = numbers.chance(50);
            // Integers of a file, whose pairs may have sums of more than 16 bits.
            let whole = numbers.chance(50);
            if whole {
                conv.weight.iter_mut().for_each(|w| *w = (*w * 50.0).round_ties_even() / 50.0);
            }
            let what =
                format!("conv {kernel:?} {stride:?} {pad:?} {dilation} {cin}->{cout} on {height}x{width}");
            let op = Op::Conv(Box::new(conv));
            let shape = Shape::new(height, width, cin);
            check(&what, &chain(shape, vec![op.clone()]), &mut numbers, ONE_LAYER);
            let mut alone = Graph::new(shape);
            alone.add("node", op, &[0]).unwrap();
            check(&format!("{what}, to floats"), &alone, &mut numbers, ONE_LAYER);
        }
    }
    let grouped = conv(&mut numbers, 12, 18, 3, Window::square(3, 1, 1));
    let graph = chain(Shape::new(6, 7, 12), vec![Op::Conv(Box::new(grouped))]);
    check("three groups", &graph, &mut numbers, ONE_LAYER);
}

/// The weight of channels `o` and `c`: sums of two products are as large as 16 bits hold or, `beyond`, twice
/// that.
fn extreme_weight(o: usize, c: usize, beyond: bool) -> f32 {
    let pair = match (o % 5, beyond) {
        (0, false) => [64, 64],
        (1, false) => [-64, -64],
        (2, false) => [127, 1],
        (3, false) => [-1, -127],
        (4, _) => [127, -127],
        (o, true) if o < 2 => [127, 127],
        _ => [-127, -127],
    };
    // Each channel of the output has a 127, so that the oracle finds the same integers.
    let pair = if c < 2 { [127, -127] } else { pair };
    pair[c % 2] as f32 / 127.0
}

/// AVX2 has a kernel for panels whose pairs of products fit 16 bits, and another one for the others. Pixels
/// are 0 and 255, weights are at the limit and beyond, and one convolution has panels of both kinds.
#[test]
fn pairs_of_products_at_the_limits_of_16_bits() {
    let mut numbers = Numbers::new(27);
    for (window, cin) in [
        (Window::square(1, 1, 0), 38),
        (Window::square(3, 1, 1), 8),
        // Pairs across the columns of the kernel.
        (Window::square(3, 2, 0), 3),
    ] {
        let (outs, taps) = (16 + 16 + 32 + 9, window.kernel[0] * window.kernel[1]);
        let weight = (0..outs * cin * taps).map(|i| {
            let (o, c) = (i / (cin * taps), i / taps % cin);
            extreme_weight(o, c, (16..32).contains(&o))
        });
        let conv = Conv { out_channels: outs, ..Conv::new(weight.collect(), window) };
        let shape = Shape::new(9, 8, cin);
        let graph = chain(shape, vec![Op::Conv(Box::new(conv))]);
        for share in [0, 50, 97, 100] {
            let image: Vec<f32> =
                (0..shape.len()).map(|_| if numbers.chance(share) { 1.0 } else { -1.0 }).collect();
            let (fused, mut quants, quantization) = prepare(&graph, &image);
            let mut quantization = Quantization::clone(&quantization);
            quants[0] = QuantParams::of_range(-1.0, 1.0);
            quantization.tensors.insert("input".into(), quants[0]);
            let wanted = oracle(&fused, &quants, &image);
            for isa in tiers() {
                for threads in [1, 3] {
                    let Some(model) = compiled(&graph, &quantization, isa, threads) else { continue };
                    let found = model.run(&image, 1).unwrap();
                    assert!(found == wanted, "{cin} channels, {share} % of 255, {isa}, {threads} threads");
                }
            }
        }
    }
}

/// Winograd's algorithm in integers, where a CPU has it, on maps that its tiles do not fill, and on bytes and
/// weights at their limits, with as many channels as there may be.
#[test]
fn winograd_in_integers() {
    let mut numbers = Numbers::new(28);
    let transforms = ["winograd F(2x2,3x3)", "winograd F(3x3,3x3)"];
    let mut used = [false; 2];
    for (cin, cout, [height, width], pad, extreme) in [
        (8, 33, [7, 9], 1, false),
        (24, 16, [6, 4], 0, false),
        (40, 70, [13, 3], 2, false),
        (64, 130, [17, 15], 1, false),
        (16, 5, [3, 3], 1, true),
        // As many channels as there may be for either, and more: by the direct algorithm then.
        (200, 20, [8, 7], 1, true),
        (208, 20, [8, 7], 1, true),
        (1840, 9, [5, 6], 1, true),
        (1848, 8, [4, 4], 1, true),
    ] {
        let mut layer = conv(&mut numbers, cin, cout, 1, Window::square(3, 1, pad));
        layer.relu = numbers.chance(50);
        let shape = Shape::new(height, width, cin);
        let mut image = numbers.floats(shape.len(), 1.0);
        if extreme {
            let sign = |x: &mut f32| *x = if *x < 0.0 { -1.0 } else { 1.0 };
            layer.weight.iter_mut().for_each(sign);
            layer.weight[..9 * cin].fill(1.0);
            image.iter_mut().for_each(sign);
            image[..shape.len() / 2].fill(1.0);
        }
        let graph = chain(shape, vec![Op::Conv(Box::new(layer))]);
        let (fused, quants, quantization) = prepare(&graph, &image);
        let wanted = oracle(&fused, &quants, &image);
        for isa in tiers() {
            for (transform, used) in transforms.iter().zip(&mut used) {
                for threads in [1, 3] {
                    let kernel: KernelName = transform.parse().unwrap();
                    let picks = Picks::from([("node".to_owned(), kernel)]);
                    let model = compiled_with(&graph, &quantization, isa, threads, picks);
                    let Some(model) = model else { continue };
                    let found = model.run(&image, 1).unwrap();
                    let what = format!("{transform}, {cin}->{cout} on {height}x{width}");
                    assert!(found == wanted, "{what}, {isa}, {threads} threads");
                    let kernels = model.explain();
                    let is_used = kernels.iter().any(|layer| layer.kernel == Some(kernel));
                    let most = if transform.contains("3x3,") { 204 } else { 1842 };
                    assert!(cin <= most || !is_used, "{what}: {kernels:#?}");
                    *used |= is_used;
                }
            }
        }
    }
    #[cfg(target_arch = "x86_64")]
    if tiers().contains(&Isa::Avx2) {
        assert_eq!(used, [!is_x86_feature_detected!("avxvnni"); 2]);
    }
    if used == [false; 2] {
        eprintln!("SKIPPED: no instruction set here has it");
    }
}

#[test]
fn row_tiles_at_their_edges() {
    let mut numbers = Numbers::new(22);
    for pixels in [1, 2, 5, 6, 7, 13, 14, 15, 28, 29, 57] {
        let op = Op::Conv(Box::new(conv(&mut numbers, 20, 70, 1, Window::square(1, 1, 0))));
        check(
            &format!("{pixels} pixels"),
            &chain(Shape::new(1, pixels, 20), vec![op]),
            &mut numbers,
            ONE_LAYER,
        );
    }
}

#[test]
fn depthwise_convolutions_alone_and_before_others() {
    let mut numbers = Numbers::new(23);
    for channels in [2, 15, 40, 64, 65, 130, 300] {
        for (kernel, stride, pad, dilation) in
            [(3, 1, 1, 1), (3, 2, 1, 1), (3, 1, 2, 2), (3, 1, 0, 1), (5, 1, 2, 1), (3, 2, 2, 2)]
        {
            let window = Window { dilation: [dilation; 2], ..Window::square(kernel, stride, pad) };
            let shape = Shape::new(9, 13, channels);
            let depthwise = |numbers: &mut Numbers, relu: bool| {
                let mut conv = conv(numbers, channels, channels, channels, window);
                conv.input_relu = relu;
                Op::Conv(Box::new(conv))
            };
            let what = format!("depthwise {kernel} {stride} {pad} {dilation} of {channels}");
            let plain = depthwise(&mut numbers, false);
            check(&what, &chain(shape, vec![plain.clone()]), &mut numbers, ONE_LAYER);
            let clamping = depthwise(&mut numbers, true);
            check(&format!("{what} of ReLU"), &chain(shape, vec![clamping]), &mut numbers, ONE_LAYER);
            let pointwise = Op::Conv(Box::new(conv(&mut numbers, channels, 33, 1, Window::square(1, 1, 0))));
            let graph = chain(shape, vec![plain.clone(), pointwise.clone()]);
            check(&format!("{what}, pointwise"), &graph, &mut numbers, ONE_LAYER);
            let graph = chain(shape, vec![plain.clone(), Op::Relu, pointwise]);
            check(&format!("{what}, ReLU, pointwise"), &graph, &mut numbers, ONE_LAYER);
            let pool = Pool { kind: PoolKind::Max, window: Window::square(3, 2, 1), bias: None, relu: false };
            let graph = chain(shape, vec![plain, Op::Pool(Box::new(pool))]);
            check(&format!("{what}, pool"), &graph, &mut numbers, ONE_LAYER);
        }
    }
}

#[test]
fn pools_of_all_kinds() {
    let mut numbers = Numbers::new(24);
    for kind in [PoolKind::Max, PoolKind::Average, PoolKind::AverageWithPadding] {
        for (kernel, stride, pad, ceil) in
            [(3, 1, 1, false), (3, 2, 1, false), (3, 2, 0, true), (2, 2, 0, true), (5, 3, 2, true)]
        {
            for channels in [3, 16, 70] {
                let window = Window { ceil, ..Window::square(kernel, stride, pad) };
                let relu = numbers.chance(30);
                let bias = numbers.chance(30).then(|| numbers.floats(channels, 0.3));
                let pool = Pool { kind, window, bias, relu };
                let what = format!("{kind:?} {kernel} {stride} {pad} {ceil} of {channels}");
                let graph = chain(Shape::new(8, 11, channels), vec![Op::Pool(Box::new(pool))]);
                check(&what, &graph, &mut numbers, ONE_LAYER);
            }
        }
    }
}

/// Residuals, concatenations, pools and all that the passes make of them; ten layers of rounding add up.
#[test]
fn random_graphs_equal_the_oracle() {
    // Fewer where each takes long, as in an emulator.
    let graphs = std::env::var("RANDOM_GRAPHS").map_or(300, |graphs| graphs.parse().unwrap());
    for seed in 0..graphs {
        let mut numbers = Numbers::new(3000 + seed);
        let shape = Shape::new(5 + numbers.below(12), 5 + numbers.below(12), numbers.pick(&[1, 3, 16, 20]));
        let mut graph = Graph::new(shape);
        for _ in 0..3 + numbers.below(14) {
            grow(&mut graph, &mut numbers);
        }
        if numbers.chance(40) {
            graph.add("mean", Op::GlobalAveragePool, &[graph.output]).unwrap();
            let channels = graph.nodes[graph.output].shape.channels;
            let linear = conv(&mut numbers, channels, 10, 1, Window::square(1, 1, 0));
            graph.add("linear", Op::Conv(Box::new(linear)), &[graph.output]).unwrap();
        }
        check(&format!("graph {seed}"), &graph, &mut numbers, f32::INFINITY);
    }
}

#[test]
fn what_is_missing_is_named() {
    let mut numbers = Numbers::new(25);
    let conv = conv(&mut numbers, 8, 8, 1, Window::square(1, 1, 0));
    let graph = chain(Shape::new(4, 4, 8), vec![Op::Conv(Box::new(conv))]);
    let compile = |quantization: Option<Quantization>| {
        let quantization = quantization.map(Arc::new);
        let options = Options { precision: Precision::Int8, quantization, ..Options::default() };
        Compiled::from_graph(graph.clone(), &options).unwrap_err()
    };
    assert!(matches!(compile(None), Error::Uncalibrated));
    let (_, _, whole) = prepare(&graph, &numbers.floats(4 * 4 * 8, 1.0));
    let mut other = Quantization::clone(&whole);
    other.tensors.remove("node");
    assert_eq!(compile(Some(other)).to_string(), "node node cannot be quantised: it has no scale");
    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let mut other = Quantization::clone(&whole);
        other.tensors.insert("node".into(), QuantParams { scale, zero_point: 0 });
        let message = compile(Some(other)).to_string();
        assert_eq!(message, "node node cannot be quantised: it has a scale that is no positive number");
    }
    let mut other = Quantization::clone(&whole);
    other.biases.insert("node".into(), vec![0.0; 7]);
    let message = compile(Some(other)).to_string();
    assert_eq!(message, "node node cannot be quantised: it corrects another number of channels");
}

/// A layer in `f32` between bytes is off by the rounding of its result alone: its input is of numbers that
/// bytes hold, and its weights are none that integers hold. Also two of them after each other, with floats
/// between them, and one with a residual, whose input is read as floats and as bytes.
#[test]
fn layers_in_floats_round_their_results_alone() {
    let mut numbers = Numbers::new(26);
    let shape = Shape::new(9, 8, 16);
    let image: Vec<f32> = (0..shape.len()).map(|_| numbers.below(256) as f32 / 128.0 - 1.0).collect();
    let mut layer = |outs: usize, groups: usize, kernel: usize, input_relu: bool| {
        let conv = conv(&mut numbers, 16, outs, groups, Window::square(kernel, 1, kernel / 2));
        Op::Conv(Box::new(Conv { input_relu, ..conv }))
    };
    let mut residual = Graph::new(shape);
    let a = residual.add("node", layer(16, 1, 1, false), &[0]).unwrap();
    residual.add("sum", Op::Add { relu: true }, &[a, 0]).unwrap();
    let pool = Pool { kind: PoolKind::Max, window: Window::square(1, 1, 0), bias: None, relu: false };
    residual.add("pool", Op::Pool(Box::new(pool)), &[residual.output]).unwrap();
    let graphs = [
        ("pointwise", chain(shape, vec![layer(24, 1, 1, false)])),
        ("clamped", chain(shape, vec![layer(24, 1, 1, true)])),
        ("3x3", chain(shape, vec![layer(24, 1, 3, false)])),
        ("depthwise", chain(shape, vec![layer(16, 16, 3, true)])),
        ("depthwise, pointwise", chain(shape, vec![layer(16, 16, 3, false), layer(40, 1, 1, false)])),
        ("3x3, pointwise", chain(shape, vec![layer(16, 1, 3, false), layer(24, 1, 1, true)])),
        ("residual", residual),
    ];
    for (what, graph) in graphs {
        let (fused, _, quantization) = prepare(&graph, &image);
        let mut quantization = Quantization::clone(&quantization);
        quantization.tensors.insert("input".into(), QuantParams { scale: 1.0 / 128.0, zero_point: 128 });
        let wanted = evaluate(&graph, &image);
        // A wrong correction would show: there is nothing to correct.
        quantization.biases.insert("node".into(), vec![3.0; 16]);
        let whole = quantization.clone();
        quantization.floats = ["node", "node#2"].map(str::to_owned).into();
        let step = whole.tensors[&fused.nodes[fused.output - 1].name.clone()].scale;
        let step =
            whole.tensors.get("node#2").filter(|_| fused.nodes.len() == 4).map_or(step, |quant| quant.scale);
        for isa in tiers() {
            for threads in [1, 3] {
                let Some(model) = compiled(&graph, &quantization, isa, threads) else { continue };
                let found = model.run(&image, 1).unwrap();
                let off = wanted.iter().zip(&found).map(|(w, f)| (*w as f32 - f).abs()).fold(0.0, f32::max);
                // Half a step, and the rounding of sums in f32 (by Winograd's algorithm of about 1e-6).
                assert!(
                    off > 0.0 && off <= 0.5 * step * (1.0 + 1e-4) + 1e-5,
                    "{what}, {isa}, {threads} threads: {off} of steps of {step}\n{:#?}",
                    model.explain()
                );
            }
        }
    }
}

/// Any convolutions of random graphs in floats: the plan has a kernel or a conversion for each pair of types,
/// and results stay within what bytes lose.
#[test]
fn any_layers_of_random_graphs_may_be_in_floats() {
    for seed in 0..24 {
        let mut numbers = Numbers::new(700 + seed);
        let mut graph = Graph::new(Shape::new(11, 9, 8));
        while graph.nodes.len() < 14 {
            grow(&mut graph, &mut numbers);
        }
        let image = numbers.floats(graph.nodes[0].shape.len(), 1.0);
        let (fused, _, quantization) = prepare(&graph, &image);
        let mut quantization = Quantization::clone(&quantization);
        for node in &fused.nodes {
            if matches!(node.op, Op::Conv(_)) && numbers.chance(50) {
                quantization.floats.insert(node.name.clone());
            }
        }
        let wanted: Vec<f32> = evaluate(&graph, &image).iter().map(|&x| x as f32).collect();
        let mut first: Option<Vec<f32>> = None;
        for isa in tiers() {
            let threads = Options::default().threads;
            let Some(model) = compiled(&graph, &quantization, isa, threads) else { continue };
            let found = model.run(&image, 1).unwrap();
            let off = error(&found, &wanted);
            // As deep as the random graphs of integers above.
            assert!(off < 0.3, "seed {seed}, {isa}: {off}\n{:#?}", model.explain());
            // Sums of floats differ in their last bits, which moves a byte here and there.
            let same = first.get_or_insert_with(|| found.clone());
            assert!(error(&found, same) < 0.05, "seed {seed}, {isa}: tiers differ");
        }
    }
}
