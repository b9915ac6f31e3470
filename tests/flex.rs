//! Random small networks, written as Burn tensor functions, captured and compiled, against the same functions
//! on Burn's eager backend: over instruction sets, 1 to 4 threads, with and without the algorithms that
//! reassociate.
#![allow(missing_docs, clippy::unwrap_used)] // A test fails by panicking.

#[allow(dead_code)] // Its convolutions are the engine's own.
#[path = "../crates/inception-engine/tests/numbers/mod.rs"]
mod numbers;

use burn::module::{Module, Param};
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{AvgPool2d, AvgPool2dConfig, MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};
use inception_engine::{Compiled, Options};
use numbers::{Numbers, tiers};

/// One layer; tensors are numbered in the order in which they are made, from the image, 0.
#[derive(Module, Debug)]
enum Layer {
    Conv(Conv2d),
    Norm(BatchNorm),
    Max(MaxPool2d),
    Average(AvgPool2d),
    Relu(Relu),
    Add(Add),
    Concat(Concat),
}

#[derive(Module, Debug)]
struct Relu {}
#[derive(Module, Debug)]
struct Add {
    #[module(skip)]
    other: usize,
}
#[derive(Module, Debug)]
struct Concat {
    #[module(skip)]
    others: Vec<usize>,
}

/// Layers, each with the tensor that it reads; then, perhaps, a classifier on the last one, flattened.
#[derive(Module, Debug)]
struct Net {
    layers: Vec<Layer>,
    #[module(skip)]
    reads: Vec<usize>,
    classifier: Option<Linear>,
}

impl Net {
    fn forward(&self, images: Tensor<4>) -> Tensor<4> {
        let mut made = vec![images];
        for (layer, &read) in self.layers.iter().zip(&self.reads) {
            let x = made[read].clone();
            made.push(match layer {
                Layer::Conv(conv) => conv.forward(x),
                Layer::Norm(norm) => norm.forward(x),
                Layer::Max(pool) => pool.forward(x),
                Layer::Average(pool) => pool.forward(x),
                Layer::Relu(_) => relu(x),
                Layer::Add(add) => x + made[add.other].clone(),
                Layer::Concat(concat) => {
                    let others = concat.others.iter().map(|&other| made[other].clone());
                    Tensor::cat(std::iter::once(x).chain(others).collect(), 1)
                }
            });
        }
        let last = made.pop().unwrap();
        let Some(classifier) = &self.classifier else { return last };
        let logits = classifier.forward(last.flatten::<2>(1, 3));
        let [batch, classes] = logits.dims();
        logits.reshape([batch, classes, 1, 1])
    }
}

/// A parameter of random values around `centre`.
fn parameter<const D: usize>(
    numbers: &mut Numbers,
    like: &Tensor<D>,
    [centre, spread]: [f32; 2],
) -> Tensor<D> {
    let dims = like.dims();
    let values = numbers.floats(dims.iter().product(), spread).iter().map(|x| x + centre).collect();
    Tensor::from_data(TensorData::new(values, dims), &like.device())
}

/// Extent of the output along one axis, if the window fits.
fn extent(size: usize, [kernel, stride, pad, dilation]: [usize; 4]) -> Option<usize> {
    let reach = dilation * (kernel - 1) + 1;
    Some((size + 2 * pad).checked_sub(reach)? / stride + 1)
}

fn convolution(
    numbers: &mut Numbers,
    [channels, out_channels, groups]: [usize; 3],
    [kernel, stride, pad, dilation]: [[usize; 2]; 4],
    device: &Device,
) -> Layer {
    let config = Conv2dConfig::new([channels, out_channels], kernel)
        .with_stride(stride)
        .with_dilation(dilation)
        .with_groups(groups)
        .with_bias(numbers.chance(50))
        .with_padding(PaddingConfig2d::Explicit(pad[0], pad[1], pad[0], pad[1]));
    let mut conv = config.init(device);
    let spread = (3.0 / (channels / groups * kernel[0] * kernel[1]) as f32).sqrt();
    conv.weight = Param::from_tensor(parameter(numbers, &conv.weight.val(), [0.0, spread]));
    conv.bias = conv.bias.map(|bias| Param::from_tensor(parameter(numbers, &bias.val(), [0.0, 0.2])));
    Layer::Conv(conv)
}

/// A random layer that reads a tensor of `shape` (`[channels, height, width]`), number `read` of `shapes`,
/// and the shape that it makes; `None` where it does not fit.
fn layer(
    numbers: &mut Numbers,
    shapes: &[[usize; 3]],
    read: usize,
    device: &Device,
) -> Option<(Layer, [usize; 3])> {
    let [channels, height, width] = shapes[read];
    let out_channels = numbers.pick(&[1, 8, 16, 24, 33, 48]);
    let conv = |numbers: &mut Numbers, channels_out: usize, groups: usize, window: [[usize; 2]; 4]| {
        let at = |axis: usize| window.map(|pair: [usize; 2]| pair[axis]);
        let shape = [channels_out, extent(height, at(0))?, extent(width, at(1))?];
        Some((convolution(numbers, [channels, channels_out, groups], window, device), shape))
    };
    match numbers.below(12) {
        0..=2 => {
            let stride = numbers.pick(&[1, 1, 1, 2]);
            conv(numbers, out_channels, 1, [[1; 2], [stride; 2], [0; 2], [1; 2]])
        }
        3 | 4 => {
            let (kernel, pad) = numbers.pick(&[
                ([3, 3], [1, 1]),
                ([5, 5], [2, 2]),
                ([1, 7], [0, 3]),
                ([7, 1], [3, 0]),
                ([1, 3], [0, 1]),
                ([3, 3], [0, 0]),
            ]);
            let stride = numbers.pick(&[1, 1, 2]);
            conv(numbers, out_channels, 1, [kernel, [stride; 2], pad, [1; 2]])
        }
        5 | 6 => {
            let (stride, dilation) = numbers.pick(&[(1, 1), (1, 1), (2, 1), (1, 2)]);
            conv(numbers, channels, channels, [[3; 2], [stride; 2], [dilation; 2], [dilation; 2]])
        }
        7 => {
            let (stride, pad) = (numbers.pick(&[1, 1, 2]), numbers.below(2));
            let at = [3, stride, pad, 1];
            let shape = [channels, extent(height, at)?, extent(width, at)?];
            let padding = PaddingConfig2d::Explicit(pad, pad, pad, pad);
            let layer = if numbers.chance(50) {
                Layer::Max(
                    MaxPool2dConfig::new([3; 2]).with_strides([stride; 2]).with_padding(padding).init(),
                )
            } else {
                let config = AvgPool2dConfig::new([3; 2]).with_strides([stride; 2]).with_padding(padding);
                Layer::Average(config.with_count_include_pad(numbers.chance(50)).init())
            };
            Some((layer, shape))
        }
        8 => {
            let mut norm = BatchNormConfig::new(channels).init(device);
            norm.gamma = Param::from_tensor(parameter(numbers, &norm.gamma.val(), [1.0, 0.5]));
            norm.beta = Param::from_tensor(parameter(numbers, &norm.beta.val(), [0.0, 0.5]));
            Some((Layer::Norm(norm), shapes[read]))
        }
        9 => Some((Layer::Relu(Relu {}), shapes[read])),
        10 => {
            let other = (0..shapes.len()).rev().find(|&y| y != read && shapes[y] == shapes[read])?;
            Some((Layer::Add(Add { other }), shapes[read]))
        }
        _ => {
            let fits = |&y: &usize| shapes[y][1..] == [height, width];
            let others: Vec<usize> =
                (0..shapes.len()).rev().filter(fits).take(1 + numbers.below(3)).collect();
            let channels = channels + others.iter().map(|&other| shapes[other][0]).sum::<usize>();
            (channels < 200).then_some((Layer::Concat(Concat { others }), [channels, height, width]))
        }
    }
}

/// A random network for images of the shape that comes with it.
fn network(numbers: &mut Numbers, device: &Device) -> (Net, [usize; 3]) {
    let image = [numbers.pick(&[1, 3, 16, 20]), 5 + numbers.below(12), 5 + numbers.below(12)];
    let (mut shapes, mut layers, mut reads) = (vec![image], Vec::new(), Vec::new());
    for _ in 0..3 + numbers.below(14) {
        let read = shapes.len() - 1 - numbers.below(shapes.len().min(4));
        if let Some((layer, shape)) = layer(numbers, &shapes, read, device) {
            layers.push(layer);
            reads.push(read);
            shapes.push(shape);
        }
    }
    let features: usize = shapes[shapes.len() - 1].iter().product();
    let classifier = (numbers.chance(50) && features < 4000).then(|| {
        let mut linear = LinearConfig::new(features, 10).init(device);
        let spread = (3.0 / features as f32).sqrt();
        linear.weight = Param::from_tensor(parameter(numbers, &linear.weight.val(), [0.0, spread]));
        linear
    });
    (Net { layers, reads, classifier }, image)
}

/// Rounding of f32 on both sides; a wrong tap, channel or border is off by a thousand times as much.
const TOLERANCE: f32 = 5e-5;

#[test]
fn random_networks_equal_burns_eager_backend() {
    let device = Device::flex();
    let (mut networks, mut layers) = (0, 0);
    for seed in 0..150 {
        let mut numbers = Numbers::new(seed);
        let (net, image) = network(&mut numbers, &device);
        let batch = 1 + numbers.below(3);
        let images = numbers.floats(batch * image.iter().product::<usize>(), 1.0);
        let [channels, height, width] = image;
        let graph = inception_engine::capture(net.clone(), |net, x| net.forward(x), image);
        let graph = graph.unwrap_or_else(|error| panic!("seed {seed}: {error}\n{net}"));
        // After the capture, which must leave the network as it was.
        let tensor = TensorData::new(images.clone(), [batch, channels, height, width]);
        let wanted = net.forward(Tensor::from_data(tensor, &device));
        let wanted: Vec<f32> = wanted.into_data().try_into_vec().unwrap();
        let largest = wanted.iter().fold(1e-3f32, |m, x| m.max(x.abs()));
        (networks, layers) = (networks + 1, layers + net.layers.len());
        for isa in tiers() {
            for exact in [true, false] {
                let mut first: Option<Vec<f32>> = None;
                for threads in 1..=4 {
                    let what = format!("seed {seed}, {isa}, exact {exact}, {threads} threads");
                    let options = Options { threads, exact, isa: Some(isa), ..Options::default() };
                    let model = Compiled::from_graph(graph.clone(), &options).unwrap();
                    let found = model.run(&images, batch).unwrap();
                    assert_eq!(found, model.run(&images, batch).unwrap(), "{what}: another run, other bits");
                    // No layer here is large enough for Strassen's algorithm, which pairs rows by thread.
                    let first = first.get_or_insert_with(|| found.clone());
                    assert_eq!(*first, found, "{what}: other bits than with one thread");
                    assert_eq!(found.len(), wanted.len(), "{what}");
                    let worst = found.iter().zip(&wanted).map(|(f, w)| (f - w).abs() / largest);
                    // A NaN is no small error.
                    let worst =
                        worst.fold(0.0, |m: f32, e| if e.is_nan() { f32::INFINITY } else { m.max(e) });
                    assert!(worst < TOLERANCE, "{what}: error {worst:.1e}\n{net}\n{:#?}", model.explain());
                }
            }
        }
    }
    assert!(layers > 4 * networks, "{layers} layers in {networks} networks are too few to say much");
}
