//! Compiled graphs against the reference in f64, over instruction sets, thread counts and batches.
#![allow(missing_docs, clippy::unwrap_used)] // A test fails by panicking.

mod numbers;

use inception_engine::graph::reference::evaluate;
use inception_engine::graph::{Conv, Graph, Op, Pool, PoolKind, Shape, Window};
use inception_engine::{Compiled, Isa, KernelName, Options, Precision};
use numbers::{Numbers, conv, grow, tiers};

/// Largest difference, relative to the largest output.
fn error(found: &[f32], wanted: &[f64]) -> f64 {
    assert_eq!(found.len(), wanted.len());
    // `f64::max` would pass over a NaN.
    assert!(
        found.iter().all(|x| x.is_finite()) || wanted.iter().any(|x| !x.is_finite()),
        "not a finite result"
    );
    let largest = wanted.iter().fold(1e-3f64, |m, x| m.max(x.abs()));
    found.iter().zip(wanted).map(|(f, w)| (f64::from(*f) - w).abs()).fold(0.0, f64::max) / largest
}

/// Rounding of f32 over some hundred terms; a wrong tap, channel or border is off by a thousand times as
/// much.
const TOLERANCE: f64 = 2e-5;

/// Compiles for some thread counts, and compares with what the reference computed, within `tolerance`.
fn compare(
    what: &str,
    graph: &Graph,
    (images, wanted): (&[f32], &[f64]),
    batch: usize,
    options: &Options,
    tolerance: f64,
) {
    let mut first: Option<Vec<f32>> = None;
    for threads in [1, 3] {
        let model = Compiled::from_graph(graph.clone(), &Options { threads, ..options.clone() }).unwrap();
        let found = model.run(images, batch).unwrap();
        let error = error(&found, wanted);
        assert!(
            error < tolerance,
            "{what}, exact {}, {threads} threads: error {error:.1e}\n{:#?}",
            options.exact,
            model.explain()
        );
        // The order of additions does not depend on how many threads share the work.
        let first = first.get_or_insert_with(|| found.clone());
        assert_eq!(*first, found, "{what}: {threads} threads give other bits");
    }
}

/// Compares with the reference on each tier, with and without Winograd.
fn check(what: &str, graph: &Graph, batch: usize, numbers: &mut Numbers) {
    let images = numbers.floats(batch * graph.nodes[0].shape.len(), 1.0);
    let wanted = evaluate(graph, &images);
    for isa in tiers() {
        for exact in [true, false] {
            let options = Options { exact, isa: Some(isa), ..Options::default() };
            compare(&format!("{what}, {isa}"), graph, (&images, &wanted), batch, &options, TOLERANCE);
        }
    }
}

fn single(shape: Shape, op: Op) -> Graph {
    let mut graph = Graph::new(shape);
    graph.add("node", op, &[0]).unwrap();
    graph
}

/// The tiers that compute in bf16; says so if there is none, since bf16 is not tested then.
fn bf16_tiers() -> Vec<Isa> {
    let mut tiers = tiers();
    let missing = tiers.iter().find_map(|&isa| Precision::Bf16.missing(isa));
    tiers.retain(|&isa| Precision::Bf16.missing(isa).is_none());
    if tiers.is_empty() {
        missing.iter().for_each(|reason| eprintln!("SKIPPED: bf16 {reason}"));
    }
    tiers
}

/// Half a unit in the last place of bf16, 2^-9, for an output and for a sum on the way. All else is exact in
/// `check_bf16` up to the rounding of f32.
const BF16_ROUNDING: f64 = 4e-3;

/// Some ten layers of such rounding, of weights too.
const BF16_TOLERANCE: f64 = 5e-2;

/// As `check`, in bf16: one operation on numbers that bf16 has, between pools that copy, since both ends of a
/// network are f32.
fn check_bf16(what: &str, shape: Shape, op: Op, numbers: &mut Numbers) {
    check_chain_bf16(what, shape, vec![op], numbers);
}

/// As [`check_bf16`], of operations one after the other of which the first alone has weights.
fn check_chain_bf16(what: &str, shape: Shape, mut ops: Vec<Op>, numbers: &mut Numbers) {
    let tiers = bf16_tiers();
    if tiers.is_empty() {
        return;
    }
    let round = |values: &mut [f32]| {
        values.iter_mut().for_each(|x| *x = f32::from_bits(x.to_bits() & 0xffff_0000));
    };
    if let Op::Conv(conv) = &mut ops[0] {
        round(&mut conv.weight);
    }
    let copy = || {
        Op::Pool(Box::new(Pool {
            kind: PoolKind::Max,
            window: Window::square(1, 1, 0),
            bias: None,
            relu: false,
        }))
    };
    let mut graph = Graph::new(shape);
    let mut last = graph.add("before", copy(), &[0]).unwrap();
    for op in ops {
        last = graph.add("node", op, &[last]).unwrap();
    }
    graph.add("after", copy(), &[last]).unwrap();
    let batch = 2;
    let mut images = numbers.floats(batch * shape.len(), 1.0);
    round(&mut images);
    let wanted = evaluate(&graph, &images);
    for isa in tiers {
        for exact in [true, false] {
            let options = Options { exact, precision: Precision::Bf16, isa: Some(isa), ..Options::default() };
            let what = format!("{what} in bf16, {isa}");
            compare(&what, &graph, (&images, &wanted), batch, &options, BF16_ROUNDING);
        }
    }
}

#[test]
fn convolutions_of_all_shapes() {
    let mut numbers = Numbers::new(1);
    // Kernel, stride, padding, dilation; channels around the panel widths; sizes around the row tiles.
    let windows = [
        ([1, 1], [1, 1], [0, 0], 1),
        ([1, 1], [2, 2], [0, 0], 1),
        ([3, 3], [1, 1], [1, 1], 1),
        ([3, 3], [1, 1], [0, 0], 1),
        ([3, 3], [2, 2], [0, 0], 1),
        ([3, 3], [1, 1], [2, 2], 2),
        ([5, 5], [1, 1], [2, 2], 1),
        ([7, 7], [2, 2], [3, 3], 1),
        ([1, 7], [1, 1], [0, 3], 1),
        ([7, 1], [1, 1], [3, 0], 1),
        ([1, 3], [1, 1], [0, 1], 1),
        ([3, 1], [1, 1], [1, 0], 1),
    ];
    for (kernel, stride, pad, dilation) in windows {
        for (cin, cout) in [(3, 32), (16, 33), (17, 16), (40, 47), (1, 1), (33, 64)] {
            let mut window = Window::new(kernel, stride, pad);
            window.dilation = [dilation; 2];
            let (height, width) = (8 + numbers.below(8), 8 + numbers.below(8));
            let shape = Shape::new(height, width, cin);
            let op = Op::Conv(Box::new(conv(&mut numbers, cin, cout, 1, window)));
            let what =
                format!("conv {kernel:?} {stride:?} {pad:?} {dilation} {cin}->{cout} on {height}x{width}");
            check(&what, &single(shape, op.clone()), 2, &mut numbers);
            check_bf16(&what, shape, op, &mut numbers);
        }
    }
}

#[test]
fn convolutions_of_stride_2_by_winograd() {
    let mut numbers = Numbers::new(13);
    for (kernel, pad, [cin, cout], [height, width], name) in [
        (3, 0, [128, 128], [61, 62], "winograd F(3x3,3x3) by 2"),
        (3, 1, [120, 129], [71, 72], "winograd F(3x3,3x3) by 2"),
        (7, 3, [3, 64], [45, 62], "winograd F(5x5,4x4)"),
        (7, 0, [4, 64], [64, 47], "winograd F(5x5,4x4)"),
    ] {
        let (shape, window) = (Shape::new(height, width, cin), Window::square(kernel, 2, pad));
        let op = Op::Conv(Box::new(conv(&mut numbers, cin, cout, 1, window)));
        let what = format!("conv {kernel} {pad} {cin}->{cout} on {height}x{width}");
        let graph = single(shape, op.clone());
        for isa in tiers() {
            let options = Options { isa: Some(isa), ..Options::default() };
            let model = Compiled::from_graph(graph.clone(), &options).unwrap();
            assert_eq!(model.explain()[1].lowering, name, "{what}, {isa}");
            assert_eq!(model.explain()[1].macs, graph.nodes[1].macs(), "{what}, {isa}");
        }
        check(&what, &graph, 2, &mut numbers);
        check_bf16(&what, shape, op, &mut numbers);
    }
}

#[test]
fn row_tiles_at_their_edges() {
    let mut numbers = Numbers::new(2);
    for pixels in [1, 2, 5, 6, 7, 12, 13, 14, 15, 27, 28, 29, 56, 57] {
        let shape = Shape::new(1, pixels, 20);
        let op = Op::Conv(Box::new(conv(&mut numbers, 20, 70, 1, Window::square(1, 1, 0))));
        check(&format!("{pixels} pixels"), &single(shape, op.clone()), 1, &mut numbers);
        check_bf16(&format!("{pixels} pixels"), shape, op, &mut numbers);
    }
}

#[test]
fn grouped_and_depthwise_convolutions() {
    let mut numbers = Numbers::new(3);
    for channels in [2, 15, 16, 17, 40, 65] {
        for (kernel, stride, pad, dilation) in
            [(3, 1, 1, 1), (3, 2, 1, 1), (3, 1, 2, 2), (3, 1, 0, 1), (5, 1, 2, 1), (3, 2, 2, 2), (1, 1, 0, 1)]
        {
            let mut window = Window::square(kernel, stride, pad);
            window.dilation = [dilation; 2];
            let op = Op::Conv(Box::new(conv(&mut numbers, channels, channels, channels, window)));
            let shape = Shape::new(9, 13, channels);
            let what = format!("depthwise {kernel} {stride} {pad} {dilation} of {channels}");
            check(&what, &single(shape, op.clone()), 2, &mut numbers);
            check_bf16(&what, shape, op, &mut numbers);
        }
    }
    let grouped = conv(&mut numbers, 12, 18, 3, Window::square(3, 1, 1));
    check("three groups", &single(Shape::new(6, 7, 12), Op::Conv(Box::new(grouped))), 1, &mut numbers);
}

#[test]
fn maximum_pools_of_depthwise_convolutions() {
    let mut numbers = Numbers::new(12);
    for (kernel, stride, pad, ceil) in
        [(3, 2, 1, false), (3, 1, 1, false), (3, 2, 0, true), (2, 2, 0, true), (5, 3, 2, true)]
    {
        for (channels, height) in [(3, 4), (16, 9), (45, 30)] {
            let shape = Shape::new(height, 11, channels);
            let mut depthwise = conv(&mut numbers, channels, channels, channels, Window::square(3, 1, 1));
            depthwise.input_relu = true;
            let window = Window { ceil, ..Window::square(kernel, stride, pad) };
            let pool = Pool { kind: PoolKind::Max, window, bias: None, relu: false };
            let ops = vec![Op::Conv(Box::new(depthwise)), Op::Pool(Box::new(pool))];
            let what = format!("pool {kernel} {stride} {pad} {ceil} of depthwise of {channels}");
            let mut graph = Graph::new(shape);
            for (id, op) in ops.iter().enumerate() {
                graph.add("node", op.clone(), &[id]).unwrap();
            }
            let model = Compiled::from_graph(graph.clone(), &Options::default()).unwrap();
            assert!(model.explain().iter().any(|row| row.kernel == Some(KernelName::DepthwisePool)));
            check(&what, &graph, 3, &mut numbers);
            check_chain_bf16(&what, shape, ops, &mut numbers);
        }
    }
}

/// A depthwise convolution that several read is computed on the way into one of them only where that one
/// waits for nothing else: here it waits for three pools, and the ReLU would read what has not been written
/// yet.
#[test]
fn depthwise_convolutions_with_several_readers() {
    let mut numbers = Numbers::new(14);
    let mut graph = Graph::new(Shape::new(9, 9, 16));
    let depthwise = conv(&mut numbers, 16, 16, 16, Window::square(3, 1, 1));
    let depthwise = graph.add("depthwise", Op::Conv(Box::new(depthwise)), &[0]).unwrap();
    let relu = graph.add("relu", Op::Relu, &[depthwise]).unwrap();
    let mut pooled = 0;
    for name in ["a", "b", "c"] {
        let pool = Pool { kind: PoolKind::Max, window: Window::square(3, 1, 1), bias: None, relu: false };
        pooled = graph.add(name, Op::Pool(Box::new(pool)), &[pooled]).unwrap();
    }
    let pointwise = conv(&mut numbers, 16, 16, 1, Window::square(1, 1, 0));
    let pointwise = graph.add("pointwise", Op::Conv(Box::new(pointwise)), &[depthwise]).unwrap();
    let sum = graph.add("sum", Op::Add { relu: false }, &[pointwise, pooled]).unwrap();
    graph.add("concat", Op::Concat, &[relu, sum]).unwrap();
    check("with a residual", &graph, 2, &mut numbers);
    // Without it the depthwise convolution is stored on the way.
    graph.nodes.truncate(sum);
    graph.add("concat", Op::Concat, &[relu, pointwise]).unwrap();
    let model = Compiled::from_graph(graph.clone(), &Options::default()).unwrap();
    assert!(model.explain().iter().any(|row| row.lowering == "on the way into pointwise"));
    check("without", &graph, 2, &mut numbers);
}

#[test]
fn pools_of_all_kinds() {
    let mut numbers = Numbers::new(4);
    for kind in [PoolKind::Max, PoolKind::Average, PoolKind::AverageWithPadding] {
        for (kernel, stride, pad, ceil) in [
            (3, 1, 1, false),
            (3, 2, 1, false),
            (3, 2, 0, true),
            (2, 2, 0, true),
            (7, 1, 0, false),
            (5, 3, 2, true),
        ] {
            for channels in [3, 16, 21] {
                let window = Window { ceil, ..Window::square(kernel, stride, pad) };
                let pool = Pool { kind, window, bias: None, relu: false };
                let (shape, op) = (Shape::new(8, 11, channels), Op::Pool(Box::new(pool)));
                let what = format!("{kind:?} {kernel} {stride} {pad} {ceil} of {channels}");
                check(&what, &single(shape, op.clone()), 2, &mut numbers);
                check_bf16(&what, shape, op, &mut numbers);
            }
        }
    }
}

#[test]
fn random_graphs_equal_the_reference() {
    let bf16_tiers = bf16_tiers();
    // Fewer where each takes long, as in an emulator.
    let graphs = std::env::var("RANDOM_GRAPHS").map_or(300, |graphs| graphs.parse().unwrap());
    for seed in 0..graphs {
        let mut numbers = Numbers::new(1000 + seed);
        let shape = Shape::new(5 + numbers.below(12), 5 + numbers.below(12), numbers.pick(&[1, 3, 16, 20]));
        let mut graph = Graph::new(shape);
        for _ in 0..3 + numbers.below(14) {
            grow(&mut graph, &mut numbers);
        }
        if numbers.chance(50) {
            let map = graph.nodes[graph.output].shape;
            if map.len() < 4000 {
                let flat = graph.add("flatten", Op::Flatten, &[graph.output]).unwrap();
                if numbers.chance(80) {
                    let linear = conv(&mut numbers, map.len(), 10, 1, Window::square(1, 1, 0));
                    graph.add("linear", Op::Conv(Box::new(linear)), &[flat]).unwrap();
                }
            }
        }
        let batch = 1 + numbers.below(3);
        check(&format!("graph {seed}"), &graph, batch, &mut numbers);
        for &isa in &bf16_tiers {
            let images = numbers.floats(batch * shape.len(), 1.0);
            let wanted = evaluate(&graph, &images);
            let options = Options { precision: Precision::Bf16, isa: Some(isa), ..Options::default() };
            let what = format!("graph {seed} in bf16, {isa}");
            compare(&what, &graph, (&images, &wanted), batch, &options, BF16_TOLERANCE);
        }
    }
}

#[test]
fn batches_larger_than_a_slice_equal_single_images() {
    let mut numbers = Numbers::new(5);
    let mut graph = Graph::new(Shape::new(9, 9, 3));
    let a = graph
        .add("a", Op::Conv(Box::new(conv(&mut numbers, 3, 20, 1, Window::square(3, 1, 1)))), &[0])
        .unwrap();
    graph.add("b", Op::Conv(Box::new(conv(&mut numbers, 20, 20, 1, Window::square(3, 1, 1)))), &[a]).unwrap();
    let images = numbers.floats(8 * 9 * 9 * 3, 1.0);
    for isa in tiers() {
        let options = Options { threads: 2, slice: 3, isa: Some(isa), ..Options::default() };
        let model = Compiled::from_graph(graph.clone(), &options).unwrap();
        let together = model.run(&images, 8).unwrap();
        let alone: Vec<f32> =
            images.chunks(9 * 9 * 3).flat_map(|image| model.run(image, 1).unwrap()).collect();
        assert_eq!(together, alone, "{isa}");
    }
}

#[test]
fn models_share_threads_and_run_from_several_at_once() {
    let mut numbers = Numbers::new(6);
    let mut graph = Graph::new(Shape::new(12, 12, 3));
    graph.add("a", Op::Conv(Box::new(conv(&mut numbers, 3, 40, 1, Window::square(3, 1, 1)))), &[0]).unwrap();
    let images = numbers.floats(12 * 12 * 3, 1.0);
    for isa in tiers() {
        let options = Options { threads: 2, isa: Some(isa), ..Options::default() };
        let first = Compiled::from_graph(graph.clone(), &options).unwrap();
        let options = Options { pool: Some(first.threads().clone()), ..options };
        let second = Compiled::from_graph(graph.clone(), &options).unwrap();
        let wanted = first.run(&images, 1).unwrap();
        std::thread::scope(|scope| {
            for model in [&first, &second, &first, &second] {
                scope.spawn(|| (0..50).for_each(|_| assert_eq!(model.run(&images, 1).unwrap(), wanted)));
            }
        });
    }
}

#[test]
fn bad_input_is_an_error_that_says_what_is_wrong() {
    let graph = Graph::new(Shape::new(2, 2, 1));
    let model =
        Compiled::from_graph(graph, &Options { threads: 1, max_batch: 2, ..Options::default() }).unwrap();
    let message = |result: Result<Vec<f32>, inception_engine::Error>| result.unwrap_err().to_string();
    assert_eq!(message(model.run(&[0.0; 3], 1)), "the input holds 3 floats; a batch of 1 needs 4");
    assert_eq!(message(model.run(&[], 0)), "a batch of 0 images; this model was compiled for 1 to 2");
    assert_eq!(message(model.run(&[0.0; 12], 3)), "a batch of 3 images; this model was compiled for 1 to 2");
    assert_eq!(model.run(&[1.0, 2.0, 3.0, 4.0], 1).unwrap(), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(message(model.run_here(&[0.0; 8])), "the input holds 8 floats; a batch of 1 needs 4");

    let mut graph: Graph = Graph::new(Shape::new(4, 4, 2));
    let bad = graph.add(
        "pool",
        Op::Pool(Box::new(Pool {
            kind: PoolKind::Max,
            window: Window::square(5, 1, 0),
            bias: None,
            relu: false,
        })),
        &[0],
    );
    assert_eq!(
        bad.unwrap_err().to_string(),
        "node pool (max_pool): window [5, 5] does not fit an input of 4x4x2"
    );
}

/// Kernels rely on these without a check.
#[test]
fn graphs_that_no_kernel_computes_are_errors() {
    let refused = |graph: Graph| Compiled::from_graph(graph, &Options::default()).unwrap_err().to_string();
    let mut graph = Graph::new(Shape::new(5, 5, 4));
    let mut clamping = conv(&mut Numbers::new(15), 4, 4, 1, Window::square(3, 1, 1));
    clamping.input_relu = true;
    graph.add("clamping", Op::Conv(Box::new(clamping.clone())), &[0]).unwrap();
    assert_eq!(refused(graph), "node clamping (conv): clamps the input of a window");
    // A row of so many pixels that their number, 2^64 + 1 in three, would wrap.
    let window = Window { pad_end: [0, 0xAAAA_AAAA_AAAA_AAAA], ..Window::square(1, 1, 0) };
    let mut graph: Graph = Graph::new(Shape::new(3, 1, 16));
    clamping.input_relu = false;
    let wide = Conv { window, weight: vec![0.0; 64], ..clamping };
    let error = graph.add("wide", Op::Conv(Box::new(wide)), &[0]).unwrap_err().to_string();
    assert_eq!(error, "node wide (conv): has an output of 3x12297829382473034411x4, which no memory holds");
    // A step whose square would wrap to zero.
    let mut graph = Graph::new(Shape::new(3, 3, 16));
    let steps = conv(&mut Numbers::new(16), 16, 8, 1, Window::new([1; 2], [1 << 32; 2], [0; 2]));
    graph.add("steps", Op::Conv(Box::new(steps)), &[0]).unwrap();
    check("wide steps", &graph, 1, &mut Numbers::new(17));
}

#[test]
fn large_pointwise_convolutions_by_strassen() {
    let mut numbers = Numbers::new(7);
    for (height, width, channels, out_channels, relu) in [(10, 11, 512, 514, false), (13, 9, 530, 512, true)]
    {
        let mut graph = Graph::new(Shape::new(height, width, channels));
        let x = if relu { graph.add("relu", Op::Relu, &[0]).unwrap() } else { 0 };
        let large = conv(&mut numbers, channels, out_channels, 1, Window::square(1, 1, 0));
        let large = graph.add("large", Op::Conv(Box::new(large)), &[x]).unwrap();
        if relu {
            let small = conv(&mut numbers, channels, out_channels, 1, Window::square(1, 1, 0));
            let small = graph.add("other", Op::Conv(Box::new(small)), &[0]).unwrap();
            graph.add("sum", Op::Add { relu: false }, &[small, large]).unwrap();
        }
        graph.add("after", Op::Relu, &[graph.output]).unwrap();
        let images = numbers.floats(2 * graph.nodes[0].shape.len(), 1.0);
        let wanted = evaluate(&graph, &images);
        for isa in tiers() {
            for threads in [1, 2, 3] {
                let options = Options { threads, isa: Some(isa), ..Options::default() };
                let model = Compiled::from_graph(graph.clone(), &options).unwrap();
                assert!(
                    model.explain().iter().any(|row| matches!(row.kernel, Some(KernelName::Strassen(_))))
                );
                let found = model.run(&images, 2).unwrap();
                let error = error(&found, &wanted);
                assert!(error < TOLERANCE, "{isa}, {threads} threads: error {error:.1e}");
                assert_eq!(found, model.run(&images, 2).unwrap(), "another run, other bits");

                let options = Options { batch_invariant: true, ..options };
                let model = Compiled::from_graph(graph.clone(), &options).unwrap();
                let alone = images.chunks(images.len() / 2).map(|image| model.run(image, 1).unwrap());
                let alone: Vec<Vec<f32>> = alone.collect();
                // On threads of the caller's, several at a time.
                std::thread::scope(|scope| {
                    let model = &model;
                    let run = |image| scope.spawn(move || model.run_here(image).unwrap());
                    let here: Vec<_> = images.chunks(images.len() / 2).map(run).collect();
                    let here = here.into_iter().map(|thread| thread.join().unwrap());
                    assert_eq!(here.collect::<Vec<_>>(), alone, "{isa}, {threads} threads");
                });
                // As many as are computed an image a thread, with some left over.
                for order in [&[0, 1][..], &[1, 0, 1], &[0, 1, 1, 0, 1]] {
                    let batch = order.iter().flat_map(|&i| images.chunks(images.len() / 2).nth(i).unwrap());
                    let batch: Vec<f32> = batch.copied().collect();
                    let wanted: Vec<f32> = order.iter().flat_map(|&i| alone[i].clone()).collect();
                    let found = model.run(&batch, order.len()).unwrap();
                    assert_eq!(found, wanted, "{isa}, {threads} threads, the batch {order:?}");
                }
            }
        }
    }
}
