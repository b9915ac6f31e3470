//! Random values and convolutions for graphs, and the instruction sets to run them on.

use inception_engine::Isa;
use inception_engine::graph::{Conv, Graph, NodeId, Op, Pool, PoolKind, Window};

/// The tiers of this CPU, or only the one that `INCEPTION_ISA` names; says which ones the CPU lacks, since
/// those are not tested.
pub fn tiers() -> Vec<Isa> {
    if std::env::var("INCEPTION_ISA").is_ok_and(|name| !name.is_empty()) {
        return vec![Isa::chosen().unwrap()];
    }
    let (run, lack): (Vec<Isa>, Vec<Isa>) = Isa::ALL.into_iter().partition(|isa| isa.available());
    lack.iter().for_each(|isa| eprintln!("SKIPPED: this CPU lacks {isa}"));
    run
}

/// A generator of numbers that are the same on every machine.
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Numbers(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x1234_5678_9ABC_DEF1)
    }

    fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// Evenly from -1 to 1.
    pub fn float(&mut self) -> f32 {
        (self.bits() as f64 / f64::from(u32::MAX) * 2.0 - 1.0) as f32
    }

    pub fn floats(&mut self, n: usize, scale: f32) -> Vec<f32> {
        (0..n).map(|_| self.float() * scale).collect()
    }
}

/// A convolution with weights that keep activations near one.
pub fn conv(numbers: &mut Numbers, cin: usize, cout: usize, groups: usize, window: Window) -> Conv {
    let fan_in = cin / groups * window.kernel[0] * window.kernel[1];
    let weight = numbers.floats(cout * fan_in, (3.0 / fan_in as f32).sqrt());
    let bias = numbers.floats(cout, 0.2);
    Conv { weight, bias: Some(bias), out_channels: cout, groups, window, input_relu: false, relu: false }
}

/// Appends one random operation to `graph`, reading recent nodes.
pub fn grow(graph: &mut Graph, numbers: &mut Numbers) {
    let from = |graph: &Graph, numbers: &mut Numbers| {
        graph.nodes.len() - 1 - numbers.below(graph.nodes.len().min(4))
    };
    let x = from(graph, numbers);
    let shape = graph.nodes[x].shape;
    let name = format!("n{}", graph.nodes.len());
    let add = |graph: &mut Graph, op: Op, inputs: &[NodeId]| {
        // What does not fit is not added: the generator need not know the rules of shapes.
        let _ = graph.add(name.clone(), op, inputs);
    };
    let cout = numbers.pick(&[1, 8, 16, 24, 33, 48]);
    match numbers.below(12) {
        0..=2 => {
            let window = Window::square(1, numbers.pick(&[1, 1, 1, 2]), 0);
            add(graph, Op::Conv(Box::new(conv(numbers, shape.channels, cout, 1, window))), &[x]);
        }
        3 | 4 => {
            let (kernel, pad) = numbers.pick(&[
                ([3, 3], [1, 1]),
                ([5, 5], [2, 2]),
                ([1, 7], [0, 3]),
                ([7, 1], [3, 0]),
                ([3, 3], [0, 0]),
            ]);
            let window = Window::new(kernel, [numbers.pick(&[1, 1, 2]); 2], pad);
            add(graph, Op::Conv(Box::new(conv(numbers, shape.channels, cout, 1, window))), &[x]);
        }
        5 | 6 => {
            let (stride, dilation) = numbers.pick(&[(1, 1), (1, 1), (2, 1), (1, 2)]);
            let window = Window { dilation: [dilation; 2], ..Window::square(3, stride, dilation) };
            add(
                graph,
                Op::Conv(Box::new(conv(numbers, shape.channels, shape.channels, shape.channels, window))),
                &[x],
            );
        }
        7 => {
            let kind = numbers.pick(&[PoolKind::Max, PoolKind::Average, PoolKind::AverageWithPadding]);
            let window =
                Window { ceil: numbers.chance(50), ..Window::square(3, numbers.pick(&[1, 1, 2]), 1) };
            add(graph, Op::Pool(Box::new(Pool { kind, window, bias: None, relu: false })), &[x]);
        }
        8 => {
            let scale = numbers.floats(shape.channels, 1.5).iter().map(|&s| f64::from(s)).collect();
            let shift = numbers.floats(shape.channels, 0.5).iter().map(|&s| f64::from(s)).collect();
            add(graph, Op::Affine { scale, shift }, &[x]);
        }
        9 => add(graph, Op::Relu, &[x]),
        10 => {
            let y = (0..graph.nodes.len()).rev().find(|&y| y != x && graph.nodes[y].shape == shape);
            if let Some(y) = y {
                add(graph, Op::Add { relu: false }, &[x, y]);
            }
        }
        _ => {
            let fits = |&y: &NodeId| {
                (graph.nodes[y].shape.height, graph.nodes[y].shape.width) == (shape.height, shape.width)
            };
            let parts: Vec<NodeId> =
                (0..graph.nodes.len()).rev().filter(fits).take(1 + numbers.below(4)).collect();
            if parts.iter().map(|&p| graph.nodes[p].shape.channels).sum::<usize>() < 200 {
                add(graph, Op::Concat, &parts);
            }
        }
    }
}
