//! The reference: every operation by its definition, one element at a time, in f64. No code is shared with the engine.

use inception_engine::graph::{Conv, Graph, Node, Op, Pool, PoolKind, Shape, Window};

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
    Conv { weight, bias, out_channels: cout, groups, window, input_relu: false, relu: false }
}

/// One image, `[channel][row][column]`.
struct Tensor {
    shape: Shape,
    data: Vec<f64>,
}

impl Tensor {
    fn zeros(shape: Shape) -> Self {
        Tensor { shape, data: vec![0.0; shape.len()] }
    }

    fn index(&self, c: usize, y: usize, x: usize) -> usize {
        (c * self.shape.height + y) * self.shape.width + x
    }

    /// The element, or `None` outside; coordinates count from the padded corner.
    fn get(&self, c: usize, y: usize, x: usize, pad: [usize; 2]) -> Option<f64> {
        let (y, x) = (y.checked_sub(pad[0])?, x.checked_sub(pad[1])?);
        (y < self.shape.height && x < self.shape.width).then(|| self.data[self.index(c, y, x)])
    }
}

/// Runs an unoptimised graph on images `[n][channel][row][column]`; returns the outputs in the same layout.
pub fn run(graph: &Graph, images: &[f32]) -> Vec<f64> {
    let shape = graph.nodes[0].shape;
    images.chunks_exact(shape.len()).flat_map(|image| run_one(graph, image)).collect()
}

fn run_one(graph: &Graph, image: &[f32]) -> Vec<f64> {
    let mut tensors: Vec<Tensor> = Vec::new();
    for node in &graph.nodes {
        let data = image.iter().map(|&x| f64::from(x)).collect();
        let tensor = match &node.op {
            Op::Input { .. } => Tensor { shape: node.shape, data },
            _ => apply(node, &node.inputs.iter().map(|&i| &tensors[i]).collect::<Vec<_>>()),
        };
        tensors.push(tensor);
    }
    tensors.swap_remove(graph.output).data
}

fn apply(node: &Node, inputs: &[&Tensor]) -> Tensor {
    let mut out = Tensor::zeros(node.shape);
    let first = inputs[0];
    match &node.op {
        Op::Conv(conv) => {
            assert!(!conv.relu && !conv.input_relu && inputs.len() == 1, "the oracle runs unfused graphs");
            convolve(conv, first, &mut out);
        }
        Op::Pool(p) => pool(p, first, &mut out),
        Op::Concat => out.data = inputs.iter().flat_map(|t| t.data.iter().copied()).collect(),
        Op::Add { .. } => out.data = first.data.iter().zip(&inputs[1].data).map(|(a, b)| a + b).collect(),
        Op::Relu => out.data = first.data.iter().map(|x| x.max(0.0)).collect(),
        Op::Flatten => out.data.clone_from(&first.data),
        Op::Affine { scale, shift } => {
            let pixels = node.shape.pixels();
            for (i, (o, x)) in out.data.iter_mut().zip(&first.data).enumerate() {
                *o = x * scale[i / pixels] + shift[i / pixels];
            }
        }
        other => panic!("the oracle does not know {}", other.name()),
    }
    out
}

fn convolve(conv: &Conv, input: &Tensor, out: &mut Tensor) {
    let w = &conv.window;
    let per_group = input.shape.channels / conv.groups;
    let out_per_group = conv.out_channels / conv.groups;
    for o in 0..conv.out_channels {
        for y in 0..out.shape.height {
            for x in 0..out.shape.width {
                let mut sum = f64::from(conv.bias[o]);
                for i in 0..per_group {
                    let channel = o / out_per_group * per_group + i;
                    for ky in 0..w.kernel[0] {
                        for kx in 0..w.kernel[1] {
                            let (iy, ix) =
                                (y * w.stride[0] + ky * w.dilation[0], x * w.stride[1] + kx * w.dilation[1]);
                            let weight =
                                conv.weight[((o * per_group + i) * w.kernel[0] + ky) * w.kernel[1] + kx];
                            sum += input.get(channel, iy, ix, w.pad).unwrap_or(0.0) * f64::from(weight);
                        }
                    }
                }
                let index = out.index(o, y, x);
                out.data[index] = sum;
            }
        }
    }
}

fn pool(p: &Pool, input: &Tensor, out: &mut Tensor) {
    let w = &p.window;
    for c in 0..out.shape.channels {
        for y in 0..out.shape.height {
            for x in 0..out.shape.width {
                let mut inside = Vec::new();
                let mut padded = 0;
                for iy in y * w.stride[0]..y * w.stride[0] + w.kernel[0] {
                    for ix in x * w.stride[1]..x * w.stride[1] + w.kernel[1] {
                        inside.extend(input.get(c, iy, ix, w.pad));
                        let bounds = [
                            input.shape.height + w.pad[0] + w.pad_end[0],
                            input.shape.width + w.pad[1] + w.pad_end[1],
                        ];
                        padded += usize::from(iy < bounds[0] && ix < bounds[1]);
                    }
                }
                let sum: f64 = inside.iter().sum();
                let index = out.index(c, y, x);
                out.data[index] = match p.kind {
                    PoolKind::Max => inside.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                    PoolKind::Average => sum / inside.len() as f64,
                    PoolKind::AverageWithPadding => sum / padded as f64,
                };
            }
        }
    }
}
