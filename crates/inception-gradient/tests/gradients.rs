//! Outputs are those that `inception-graph` computes by definition, and gradients are slopes.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;

use inception_engine::Isa;
use inception_gradient::{Error, Options, Real, Trainer};
use inception_graph::{
    BatchNorm, Conv, Graph, Linear, NodeId, Op, Parameter, Pool, PoolKind, Shape, Window, reference,
};

fn parameter(name: &str, shape: &[usize]) -> Parameter {
    Parameter { name: name.into(), shape: shape.to_vec() }
}

/// Numbers between -1 and 1 that a name and a place give.
fn number(name: &str, at: usize) -> f32 {
    let mut bits =
        name.bytes().fold(at as u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    bits = (bits ^ bits >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    ((bits >> 40) as f32 / (1 << 23) as f32) - 1.0
}

struct Network(Graph<Parameter>);

impl Network {
    fn new(shape: Shape) -> Self {
        Self(Graph::new(shape))
    }

    fn add(&mut self, op: Op<Parameter>, inputs: &[NodeId]) -> NodeId {
        let name = format!("{}{}", op.name(), self.0.nodes.len());
        self.0.add(name, op, inputs).unwrap()
    }

    fn conv(&mut self, from: NodeId, outputs: usize, window: Window, bias: bool) -> NodeId {
        let inputs = self.0.nodes[from].shape.channels;
        let name = format!("conv{}", self.0.nodes.len());
        let weight =
            parameter(&format!("{name}.weight"), &[outputs, inputs, window.kernel[0], window.kernel[1]]);
        let bias = bias.then(|| parameter(&format!("{name}.bias"), &[outputs]));
        let conv = Conv { bias, out_channels: outputs, ..Conv::new(weight, window) };
        self.add(Op::Conv(Box::new(conv)), &[from])
    }

    fn depthwise(&mut self, from: NodeId, window: Window) -> NodeId {
        let channels = self.0.nodes[from].shape.channels;
        let name = format!("depthwise{}.weight", self.0.nodes.len());
        let weight = parameter(&name, &[channels, 1, window.kernel[0], window.kernel[1]]);
        let conv = Conv { out_channels: channels, groups: channels, ..Conv::new(weight, window) };
        self.add(Op::Conv(Box::new(conv)), &[from])
    }

    fn norm(&mut self, from: NodeId) -> NodeId {
        let channels = [self.0.nodes[from].shape.channels];
        let name = |field: &str| parameter(&format!("norm{}.{field}", self.0.nodes.len()), &channels);
        let norm = BatchNorm {
            gamma: name("gamma"),
            beta: name("beta"),
            mean: name("mean"),
            variance: name("variance"),
            epsilon: 1e-3,
        };
        self.add(Op::BatchNorm(Box::new(norm)), &[from])
    }

    fn pool(&mut self, from: NodeId, kind: PoolKind, window: Window) -> NodeId {
        self.add(Op::Pool(Box::new(Pool { kind, window, bias: None, relu: false })), &[from])
    }

    fn linear(&mut self, from: NodeId, outputs: usize, transposed: bool) -> NodeId {
        let inputs = self.0.nodes[from].shape.channels;
        let name = format!("linear{}", self.0.nodes.len());
        let shape = if transposed { [outputs, inputs] } else { [inputs, outputs] };
        let weight = parameter(&format!("{name}.weight"), &shape);
        let bias = Some(parameter(&format!("{name}.bias"), &[outputs]));
        self.add(Op::Linear(Box::new(Linear { weight, bias, out_features: outputs, transposed })), &[from])
    }
}

/// All that a convolution can be, with and without norms: strides, paddings, dilation, few channels and more
/// than a tile has, branches side by side and added, nodes that several read.
fn network(norms: bool) -> Graph<Parameter> {
    let mut net = Network::new(Shape::new(13, 12, 3));
    let stem = net.conv(0, 20, Window::square(3, 2, 1), true);
    let stem = if norms { net.norm(stem) } else { stem };
    let stem = net.add(Op::Relu, &[stem]);
    after_stem(net, stem, norms)
}

/// The same after its stem, whose map are the images: several nodes read them.
fn rest(norms: bool) -> Graph<Parameter> {
    let mut net = Network::new(Shape::new(7, 6, 20));
    let side = net.conv(0, 20, Window::square(3, 1, 1), false);
    let sum = net.add(Op::Add { relu: false }, &[0, side]);
    let sum = net.add(Op::Relu, &[sum]);
    let joined = net.add(Op::Concat, &[0, sum]);
    let narrow = net.conv(joined, 20, Window::square(1, 1, 0), false);
    after_stem(net, narrow, norms)
}

fn after_stem(mut net: Network, stem: NodeId, norms: bool) -> Graph<Parameter> {
    let relu = Op::Relu;
    // Branches.
    let one = net.conv(stem, 40, Window::square(1, 1, 0), false);
    let one = if norms { net.norm(one) } else { one };
    let one = net.add(relu.clone(), &[one]);
    let wide = Window { dilation: [2; 2], ..Window::square(3, 1, 2) };
    let two = net.conv(stem, 7, wide, false);
    let two = if norms { net.norm(two) } else { two };
    let three = net.pool(stem, PoolKind::AverageWithPadding, Window::square(3, 1, 1));
    let three = net.conv(three, 17, Window::new([1, 3], [1; 2], [0, 1]), true);
    let four = net.pool(stem, PoolKind::Max, Window::square(3, 1, 1));
    let joined = net.add(Op::Concat, &[one, two, three, four]);
    let joined = if norms { joined } else { net.add(relu.clone(), &[joined]) };
    // A residual block, whose input two read.
    let block = net.add(relu.clone(), &[joined]);
    let block = net.depthwise(block, Window::square(3, 2, 1));
    let block = if norms { net.norm(block) } else { block };
    let block = net.conv(block, 33, Window::square(1, 1, 0), false);
    let block = net.add(Op::Scale { scale: 0.5, shift: 0.25 }, &[block]);
    let short = net.conv(joined, 33, Window::square(1, 2, 0), false);
    let sum = net.add(Op::Add { relu: false }, &[block, short]);
    let sum = net.add(relu.clone(), &[sum]);
    let sum = net.conv(sum, 9, Window { pad_end: [0; 2], ..Window::new([2, 3], [2, 1], [1, 1]) }, false);
    // Two classifiers.
    let flat = net.pool(sum, PoolKind::Average, Window::new([2, 1], [1; 2], [0; 2]));
    let flat = net.add(Op::Flatten, &[flat]);
    let flat = net.linear(flat, 5, true);
    let mean = net.add(Op::GlobalAveragePool, &[sum]);
    let mean = net.add(Op::Scale { scale: 0.75, shift: 0.0 }, &[mean]);
    let mean = net.linear(mean, 4, false);
    net.add(Op::Concat, &[mean, flat]);
    net.0
}

/// ReLUs that are concatenated, to which a map is added that others read, too: the sum cannot be where the
/// ReLUs are, whose outputs tell their gradients.
fn sum_of_clamped() -> Graph<Parameter> {
    let mut net = Network::new(Shape::new(5, 5, 4));
    let shortcut = net.conv(0, 12, Window::square(3, 1, 1), true);
    let parts = [5, 7].map(|outputs| {
        let part = net.conv(0, outputs, Window::square(3, 1, 1), true);
        net.add(Op::Relu, &[part])
    });
    let joined = net.add(Op::Concat, &parts);
    let sum = net.add(Op::Add { relu: false }, &[shortcut, joined]);
    let both = net.add(Op::Concat, &[shortcut, sum]);
    let mean = net.add(Op::GlobalAveragePool, &[both]);
    let mean = net.add(Op::Scale { scale: 0.75, shift: 0.0 }, &[mean]);
    net.linear(mean, 3, false);
    net.0
}

/// All of them, and whether they have norms.
fn graphs() -> [(bool, Graph<Parameter>); 5] {
    let [plain, with_norms] = [false, true].map(|norms| [(norms, network(norms)), (norms, rest(norms))]);
    let [[a, b], [c, d]] = [plain, with_norms];
    [a, b, c, d, (false, sum_of_clamped())]
}

const BATCH: usize = 3;

fn images(graph: &Graph<Parameter>) -> Vec<f32> {
    (0..BATCH * graph.nodes[0].shape.len()).map(|at| number("images", at)).collect()
}

fn trainer<T: Real>(graph: &Graph<Parameter>, options: &Options) -> Trainer<T> {
    let mut trainer = Trainer::new(graph, options).unwrap();
    for index in 0..trainer.tensors().count() {
        let name = trainer.tensors().nth(index).unwrap().0.name.clone();
        let values = trainer.values_mut(index);
        for (at, value) in values.iter_mut().enumerate() {
            *value = number(&name, at) * 0.5;
            if name.ends_with("gamma") {
                *value += 1.0;
            }
        }
    }
    trainer
}

/// The output times fixed numbers.
fn loss<T: Real>(trainer: &mut Trainer<T>, images: &[f32]) -> f64 {
    let output = trainer.forward(images, BATCH, 7);
    output.iter().enumerate().map(|(at, x)| x.to_f64() * f64::from(number("loss", at))).sum()
}

fn gradients<T: Real>(trainer: &mut Trainer<T>, images: &[f32]) -> Vec<Vec<f32>> {
    loss(trainer, images);
    let len = BATCH * trainer.output_len();
    trainer.backward(&(0..len).map(|at| T::of(number("loss", at))).collect::<Vec<_>>());
    (0..trainer.tensors().count()).map(|index| trainer.gradient(index).to_vec()).collect()
}

/// The environment variable by which a process is told to write its results to a file.
const RESULTS: &str = "INCEPTION_GRADIENTS";

/// Runs `check` in this process and, as a process has one instruction set, the test of that name in one more
/// for each instruction set of this CPU, unless one is asked for. Returns the numbers that each of the others
/// found.
fn on_all_instruction_sets(test: &str, check: impl FnOnce() -> Vec<f32>) -> Vec<(Isa, Vec<f32>)> {
    let found = check();
    if let Some(file) = std::env::var_os(RESULTS) {
        std::fs::write(file, found.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
        return Vec::new();
    }
    let here = Isa::chosen().unwrap();
    let asked = std::env::var("INCEPTION_ISA").is_ok_and(|name| !name.is_empty());
    let others = Isa::ALL.into_iter().filter(|isa| !asked && isa.available() && *isa != here);
    let run = |isa: Isa| {
        let file = std::env::temp_dir().join(format!("{test}-{isa}-{}", std::process::id()));
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args([test, "--exact"]).env("INCEPTION_ISA", isa.name()).env(RESULTS, &file);
        let output = child.output().unwrap();
        assert!(output.status.success(), "{isa}: {}", String::from_utf8_lossy(&output.stdout));
        let bytes = std::fs::read(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        (isa, bytes.chunks_exact(4).map(|x| f32::from_le_bytes(x.try_into().unwrap())).collect())
    };
    others.map(run).collect()
}

#[test]
fn an_unknown_instruction_set_is_refused() {
    if std::env::var("INCEPTION_ISA").is_ok_and(|name| name == "avx9") {
        let refused = Trainer::<f32>::new(&network(false), &Options::default());
        assert!(matches!(refused, Err(Error::Isa { reason }) if reason.contains("avx9")));
        return;
    }
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["an_unknown_instruction_set_is_refused", "--exact"]).env("INCEPTION_ISA", "avx9");
    let output = child.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn outputs_are_those_by_definition() {
    on_all_instruction_sets("outputs_are_those_by_definition", || {
        for graph in [network(false), rest(false), sum_of_clamped()] {
            outputs_are_defined(&graph);
        }
        Vec::new()
    });
}

fn outputs_are_defined(graph: &Graph<Parameter>) {
    let images = images(graph);
    let mut trainer = trainer::<f64>(graph, &Options::default());
    let found = trainer.forward(&images, BATCH, 0);
    let values: BTreeMap<String, Vec<f32>> = (trainer.tensors().enumerate())
        .map(|(index, (parameter, _))| (parameter.name.clone(), trainer.values(index).to_vec()))
        .collect();
    let known = graph.clone().map_weights(|weight: Parameter| Ok::<_, ()>(values[&weight.name].clone()));
    let known = known.unwrap();
    let outputs = found.len() / BATCH;
    for (image, found) in images.chunks(graph.nodes[0].shape.len()).zip(found.chunks(outputs)) {
        let expected = reference::evaluate(&known, image);
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-12 * (1.0 + expected.abs()), "{found} {expected}");
        }
    }
}

/// A kernel whose row of joined taps is longer than any pixel has channels, and than any list of zeros was.
#[test]
fn wide_kernels_of_few_channels() {
    let mut net = Network::new(Shape::new(1, 405, 3));
    net.conv(0, 1, Window::new([1, 400], [1; 2], [0; 2]), true);
    outputs_are_defined(&net.0);
}

#[test]
#[should_panic(expected = "`forward` comes before `backward`")]
fn gradients_need_outputs() {
    trainer::<f32>(&network(false), &Options::default()).backward(&[]);
}

/// Values that are not dropped keep the mean of inference: Paddle's stay as they are where inference
/// multiplies by the share that is kept, PyTorch's are divided by it where inference does nothing.
#[test]
fn dropout_keeps_the_mean_of_inference() {
    for (scale, kept) in [(0.75, 1.0), (1.0, 4.0 / 3.0)] {
        let mut net = Network::new(Shape { height: 1, width: 1, channels: 1000 });
        let dropped = net.add(Op::Scale { scale, shift: 0.0 }, &[0]);
        let graph = net.0;
        let options = Options { dropout: BTreeMap::from([(dropped, 0.25)]), ..Options::default() };
        let values = Trainer::<f64>::new(&graph, &options).unwrap().forward(&[1.0; 1000], 1, 7);
        let count = values.iter().filter(|&&value| (value - kept).abs() < 1e-12).count();
        assert_eq!(count + values.iter().filter(|&&value| value == 0.0).count(), values.len());
        // Of 1000 draws at 0.75: five standard deviations are 68.
        assert!((682..818).contains(&count), "{count} kept");
    }
}

/// Differences of a step of 2^-14 in double precision; what is left is of the second order. A ReLU or a
/// maximum that turns within a step would show; none does for these numbers.
#[test]
fn gradients_are_slopes() {
    for (norms, graph) in graphs() {
        let images = images(&graph);
        let dropout = graph.nodes.iter().position(|node| matches!(node.op, Op::Scale { scale: 0.75, .. }));
        let dropout = BTreeMap::from([(dropout.unwrap(), 0.25)]);
        let mut trainer = trainer::<f64>(&graph, &Options { dropout, ..Options::default() });
        let found = gradients(&mut trainer, &images);
        let mut checked = 0;
        for (index, gradient) in found.iter().enumerate() {
            let (parameter, trainable) = trainer.tensors().nth(index).unwrap();
            let name = parameter.name.clone();
            assert_eq!(gradient.is_empty(), !trainable, "{name}");
            let largest = gradient.iter().fold(1e-3_f32, |most, x| most.max(x.abs()));
            for at in (0..gradient.len()).step_by(1 + gradient.len() / 12) {
                let step = 1.0 / 16384.0;
                let kept = trainer.values(index)[at];
                let mut moved = |by: f32| {
                    trainer.values_mut(index)[at] = kept + by;
                    (loss(&mut trainer, &images), f64::from(trainer.values(index)[at]))
                };
                let (above, below) = (moved(step), moved(-step));
                trainer.values_mut(index)[at] = kept;
                let slope = (above.0 - below.0) / (above.1 - below.1);
                let off = (slope - f64::from(gradient[at])).abs() / f64::from(largest);
                assert!(off < 1e-5, "{name}[{at}], norms {norms}: {slope} {}", gradient[at]);
                checked += 1;
            }
        }
        assert!(checked > 60, "{checked}");
    }
}

/// All instruction sets agree, in single precision to its rounding; one gives the same bits each time and on
/// any number of threads. Gradients that are zero but for rounding, those before a norm, are compared with
/// the largest of all.
#[test]
fn instruction_sets_and_threads_agree() {
    let graph = network(true);
    let images = images(&graph);
    let exact = gradients(&mut trainer::<f64>(&graph, &Options::default()), &images);
    let most = exact.iter().flatten().fold(0.0_f32, |most, x| most.max(x.abs()));
    let compare = |what: &str, mut found: &[f32], tolerance: f32| {
        for exact in &exact {
            let largest = exact.iter().fold(0.01 * most, |most, x| most.max(x.abs()));
            for (found, exact) in found.split_off(..exact.len()).unwrap().iter().zip(exact) {
                assert!((found - exact).abs() <= tolerance * largest, "{what}: {found} {exact}");
            }
        }
        assert!(found.is_empty());
    };
    let others = on_all_instruction_sets("instruction_sets_and_threads_agree", || {
        let single = gradients(&mut trainer::<f32>(&graph, &Options::default()), &images);
        compare("in single precision", &single.concat(), 1e-4);
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let again = pool.install(|| gradients(&mut trainer::<f32>(&graph, &Options::default()), &images));
            assert!(again == single, "{threads} threads");
        }
        exact.concat()
    });
    others.iter().for_each(|(isa, found)| compare(isa.name(), found, 1e-6));
}

/// A batch of other size, smaller or larger, is computed as by itself.
#[test]
fn batches_of_any_size() {
    let graph = network(true);
    let images = images(&graph);
    let one = graph.nodes[0].shape.len();
    let mut used = trainer::<f32>(&graph, &Options::default());
    for count in [2, 3, 1] {
        let output = used.forward(&images[..count * one], count, 0);
        let mut new = trainer::<f32>(&graph, &Options::default());
        assert!(output == new.forward(&images[..count * one], count, 0), "{count}");
    }
}

#[test]
fn running_statistics_are_of_the_batch() {
    let mut net = Network::new(Shape::new(1, 2, 1));
    net.norm(0);
    let mut trainer =
        Trainer::<f32>::new(&net.0, &Options { norm_momentum: 0.25, ..Options::default() }).unwrap();
    trainer.values_mut(0)[0] = 2.0;
    trainer.values_mut(3)[0] = 1.0;
    let output = trainer.forward(&[1.0, 3.0, 5.0, 7.0], 2, 0);
    // Mean 4, variance 5.
    assert_eq!((trainer.values(2), trainer.values(3)), (&[1.0][..], &[2.0][..]));
    assert!((output[0] + 2.0 * 3.0 / 5.001_f32.sqrt()).abs() < 1e-6, "{output:?}");
    // PyTorch's: 20 / 3. What is normalised by is the same; a single value has the variance 0.
    let options = Options { norm_momentum: 0.25, norm_unbiased: true, ..Options::default() };
    let mut trainer = Trainer::<f32>::new(&net.0, &options).unwrap();
    trainer.values_mut(0)[0] = 2.0;
    trainer.values_mut(3)[0] = 1.0;
    assert_eq!(trainer.forward(&[1.0, 3.0, 5.0, 7.0], 2, 0), output);
    assert_eq!(trainer.values(3), [(0.75 + 0.25 * 20.0 / 3.0) as f32]);
    let mut single = Network::new(Shape::new(1, 1, 1));
    single.norm(0);
    let mut trainer = Trainer::<f32>::new(&single.0, &options).unwrap();
    trainer.forward(&[5.0], 1, 0);
    assert_eq!(trainer.values(3), [0.0]);
}
