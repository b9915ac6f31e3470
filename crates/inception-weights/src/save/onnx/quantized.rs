//! A network of integers as ONNX in the form QDQ: operations of `f32` between `QuantizeLinear` and
//! `DequantizeLinear`, which runtimes replace by operations of integers.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::path::Path;

use inception_graph::integers::integer_weight;
use inception_graph::{Conv, Graph, Node, NodeId, Op, Pool, PoolKind};

use super::message::{self, Writer, int, prefix, value_info};
use crate::error::Error;
use crate::metadata::Metadata;

/// Scale and zero point of a tensor of bytes.
type Quant = (f32, u8);

/// A network whose tensors stand for bytes.
#[derive(Clone, Copy, Debug)]
pub struct QuantizedNetwork<'a> {
    /// The name of the network.
    pub name: &'a str,
    /// Its nodes, with what [`PASSES`](inception_graph::passes::PASSES) have fused into them.
    pub graph: &'a Graph,
    /// For each node, scale and zero point of its tensor; `None` for a tensor of `f32`.
    pub tensors: &'a [Option<(f32, u8)>],
    /// For each convolution of integers, the scale of each output channel's weights; `None` for other nodes.
    pub weights: &'a [Option<Vec<f32>>],
    /// By what pooled features are multiplied before the classifier. The passes have it in the classifier's weights.
    pub classifier_scale: f32,
}

/// Writes `network` as an ONNX model with an open batch: first beside `path`, then renamed to it. Weights are signed
/// bytes with a scale for each output channel, biases 32-bit integers in the unit of the sums, activations unsigned
/// bytes with a zero point. Operations are those that the network is written with, batch norms in the convolutions.
///
/// # Errors
///
/// [`Error::Io`].
pub fn save(network: &QuantizedNetwork<'_>, metadata: &Metadata, path: &Path) -> Result<(), Error> {
    let graph = network.graph;
    let mut emitter = Emitter {
        network,
        nodes: Writer::default().bytes(2, network.name.as_bytes()),
        constants: Vec::new(),
        names: HashSet::new(),
        relus: HashMap::new(),
        moved: moved_convolutions(graph),
        factor: (network.classifier_scale != 1.0
            && !graph.nodes.iter().any(|node| matches!(node.op, Op::Affine { .. })))
        .then_some(network.classifier_scale),
    };
    for (id, node) in graph.nodes.iter().enumerate() {
        if !emitter.moved.contains_key(&id) {
            emitter.node(id, node);
        }
    }
    let Emitter { nodes, constants, .. } = emitter;
    let (image, output) = (graph.nodes[0].shape, graph.nodes[graph.output].shape);
    let size = match graph.nodes[0].op {
        // The image is stored with its padding.
        Op::Input { pad, pad_end, .. } => {
            [image.height - pad[0] - pad_end[0], image.width - pad[1] - pad_end[1]]
        }
        _ => image.size(),
    };
    let nodes = constants.iter().fold(nodes, |nodes, constant| nodes.bytes(5, constant));
    let nodes = nodes.bytes(11, &value_info("images", &[image.channels, size[0], size[1]]));
    let nodes = nodes.bytes(12, &value_info("logits", &[output.channels]));
    let metadata = metadata.clone().without_quantization();
    crate::save::replace_file(path, |file| {
        file.write_all(&message::model(&metadata).0)?;
        file.write_all(&prefix(7, nodes.0.len()))?;
        file.write_all(&nodes.0)
    })
}

/// The convolutions that a pass has moved in front of their average pools, and those pools. In the file they are behind
/// them, as the network is written: the pool's tensor has the scale of what it reads.
fn moved_convolutions(graph: &Graph) -> HashMap<NodeId, NodeId> {
    let consumers = graph.consumers();
    let pool_of = |(id, node): (NodeId, &Node)| {
        let (Op::Conv(conv), [reader]) = (&node.op, &consumers[id][..]) else { return None };
        let Op::Pool(pool) = &graph.nodes[*reader].op else { return None };
        let plain = conv.window.is_pointwise() && conv.groups == 1 && !conv.relu;
        (plain && pool.kind != PoolKind::Max && pool.bias.is_some()).then_some((id, *reader))
    };
    graph.nodes.iter().enumerate().filter_map(pool_of).collect()
}

/// Writes node after node.
struct Emitter<'a> {
    network: &'a QuantizedNetwork<'a>,
    nodes: Writer,
    constants: Vec<Vec<u8>>,
    /// Of constants, which are there once.
    names: HashSet<String>,
    /// What is read of a node through a ReLU.
    relus: HashMap<NodeId, String>,
    /// See [`moved_convolutions`].
    moved: HashMap<NodeId, NodeId>,
    /// The factor before the classifier, until it is written.
    factor: Option<f32>,
}

impl Emitter<'_> {
    /// The value of a node, as it is before it is quantised.
    fn value(&self, id: NodeId) -> String {
        match id {
            0 => "images".to_owned(),
            id if id == self.network.graph.output => "logits".to_owned(),
            id => format!("value{id}"),
        }
    }

    /// The value of a node as others read it.
    fn read(&self, id: NodeId) -> String {
        match self.network.tensors[id] {
            Some(_) => dequantized(&self.value(id)),
            None => self.value(id),
        }
    }

    fn emit(&mut self, op: &str, inputs: &[String], output: &str, attributes: &[Vec<u8>]) {
        let node = message::node(op, inputs, output, attributes);
        self.nodes = std::mem::take(&mut self.nodes).bytes(1, &node);
    }

    /// A tensor of the file, of ONNX's type number `kind`.
    fn constant(&mut self, name: &str, kind: u64, dims: &[usize], bytes: &[u8]) -> String {
        let mut unique = name.to_owned();
        while !self.names.insert(unique.clone()) {
            unique.push('\'');
        }
        let tensor = dims.iter().fold(Writer::default(), |w, &d| w.number(1, d as u64));
        let tensor = tensor.number(2, kind).bytes(8, unique.as_bytes()).bytes(9, bytes);
        self.constants.push(tensor.0);
        unique
    }

    fn floats(&mut self, name: &str, dims: &[usize], values: &[f32]) -> String {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(name, 1, dims, &bytes)
    }

    /// Quantises `value` and makes a number of it again.
    fn round(&mut self, value: &str, (scale, zero): Quant) {
        let scale = self.floats(&format!("{value}/scale"), &[], &[scale]);
        let zero = self.constant(&format!("{value}/zero_point"), 2, &[], &[zero]);
        let quantized = format!("{value}/quantized");
        self.emit("QuantizeLinear", &[value.to_owned(), scale.clone(), zero.clone()], &quantized, &[]);
        self.emit("DequantizeLinear", &[quantized, scale, zero], &dequantized(value), &[]);
    }

    /// An operation on `inputs`, whose result `value` is quantised if `quant` says how; the name by which others read it.
    fn computed(
        &mut self,
        op: &str,
        inputs: &[String],
        value: &str,
        attributes: &[Vec<u8>],
        quant: Option<Quant>,
    ) -> String {
        self.emit(op, inputs, value, attributes);
        match quant {
            Some(quant) => {
                self.round(value, quant);
                dequantized(value)
            }
            None => value.to_owned(),
        }
    }

    /// What is computed as `value` of node `id`: quantised where its tensor is.
    fn store(&mut self, id: NodeId) {
        if let Some(quant) = self.network.tensors[id] {
            self.round(&self.value(id), quant);
        }
    }

    /// The name under which a part of node `id` is computed: `value`'s own if it is the last part.
    fn part(&self, id: NodeId, part: &str, last: bool) -> String {
        if last { self.value(id) } else { format!("{}/{part}", self.value(id)) }
    }

    /// Node `id` through a ReLU.
    fn clamped(&mut self, id: NodeId) -> String {
        if let Some(name) = self.relus.get(&id) {
            return name.clone();
        }
        let (input, output) = (self.read(id), format!("{}/relu", self.value(id)));
        let name = self.computed("Relu", &[input], &output, &[], self.network.tensors[id]);
        self.relus.insert(id, name.clone());
        name
    }

    /// The rest of node `id` behind its own operation, whose value is `value`: a sum, a ReLU.
    fn rest(&mut self, id: NodeId, mut value: String, residual: Option<NodeId>, relu: bool) {
        if let Some(residual) = residual {
            let sum = self.part(id, "sum", !relu);
            let other = self.read(residual);
            self.emit("Add", &[value, other], &sum, &[]);
            value = sum;
        }
        if relu {
            self.emit("Relu", &[value], &self.value(id), &[]);
        }
        self.store(id);
    }

    fn node(&mut self, id: NodeId, node: &Node) {
        let first = node.inputs.first().copied();
        match &node.op {
            Op::Input { .. } => self.store(id),
            Op::Conv(conv) => {
                let source = node.inputs[0];
                let input = if conv.input_relu { self.clamped(source) } else { self.read(source) };
                let residual = node.inputs.get(1).copied();
                let value = self.part(id, "product", residual.is_none() && !conv.relu);
                let quant = self.network.tensors[source];
                self.conv(id, conv, &conv.bias, (source, input, quant), &value);
                self.rest(id, value, residual, conv.relu);
            }
            Op::Pool(pool) => self.pool(id, node, pool),
            Op::Concat => {
                let inputs: Vec<String> = node.inputs.iter().map(|&input| self.read(input)).collect();
                self.emit("Concat", &inputs, &self.value(id), &[int("axis", 1)]);
                self.store(id);
            }
            Op::Add { relu } => {
                let (value, input) = (self.part(id, "sum", !relu), self.read(node.inputs[0]));
                let other = self.read(node.inputs[1]);
                self.emit("Add", &[input, other], &value, &[]);
                self.rest(id, value, None, *relu);
            }
            Op::Relu => {
                let input = self.read(node.inputs[0]);
                self.emit("Relu", &[input], &self.value(id), &[]);
                self.store(id);
            }
            Op::Affine { scale, shift } => {
                let input = self.read(node.inputs[0]);
                self.affine(id, input, scale, shift);
                self.store(id);
            }
            Op::Linear(_)
            | Op::BatchNorm(_)
            | Op::Bias(_)
            | Op::Scale { .. }
            | Op::GlobalAveragePool
            | Op::Flatten => unreachable!("the passes leave no `{}` (node {first:?})", node.op.name()),
        }
    }

    /// A factor and a summand for each channel; one number where there is only one factor.
    fn affine(&mut self, id: NodeId, input: String, scale: &[f64], shift: &[f64]) {
        let single = |v: &f64| *v as f32;
        let (factors, summands): (Vec<f32>, Vec<f32>) =
            (scale.iter().map(single).collect(), shift.iter().map(single).collect());
        let plain = summands.iter().all(|v| *v == 0.0);
        let same = factors.windows(2).all(|pair| pair[0] == pair[1]);
        let value = self.part(id, "product", plain);
        let (dims, factors) = match same {
            true => (vec![], &factors[..1]),
            false => (vec![1, factors.len(), 1, 1], &factors[..]),
        };
        let factor = self.floats(&format!("{}/factor", self.value(id)), &dims, factors);
        self.emit("Mul", &[input, factor], &value, &[]);
        if !plain {
            let name = format!("{}/summand", self.value(id));
            let summand = self.floats(&name, &[1, summands.len(), 1, 1], &summands);
            self.emit("Add", &[value, summand], &self.value(id), &[]);
        }
    }

    fn pool(&mut self, id: NodeId, node: &Node, pool: &Pool) {
        let graph = self.network.graph;
        let source = node.inputs[0];
        let moved = (self.moved.get(&source) == Some(&id)).then(|| &graph.nodes[source]);
        let (op, attributes) = message::pool(pool);
        if let Some(Node { op: Op::Conv(conv), inputs, .. }) = moved {
            let (before, between) = (inputs[0], format!("value{source}"));
            let input = if conv.input_relu { self.clamped(before) } else { self.read(before) };
            let quant = self.network.tensors[before];
            let input = self.computed(op, &[input], &between, &attributes, quant);
            let value = self.part(id, "product", !pool.relu);
            // What rounded weights take from the mean is added before the pool, which keeps it.
            let mut bias = pool.bias.clone();
            if let (Some(bias), Some(own)) = (&mut bias, &conv.bias) {
                bias.iter_mut().zip(own).for_each(|(bias, own)| *bias += own);
            }
            self.conv(source, conv, &bias, (before, input, quant), &value);
            return self.rest(id, value, None, pool.relu);
        }
        let whole = pool.window.kernel == graph.nodes[source].shape.size() && pool.window.pad == [0; 2];
        let input = self.read(source);
        let value = self.part(id, "pooled", pool.bias.is_none() && !pool.relu);
        match whole && pool.kind == PoolKind::Average {
            true => self.emit("GlobalAveragePool", &[input], &value, &[]),
            false => self.emit(op, &[input], &value, &attributes),
        }
        let mut value = value;
        if let Some(bias) = &pool.bias {
            let name = format!("{}/bias", self.value(id));
            let (bias, sum) =
                (self.floats(&name, &[1, bias.len(), 1, 1], bias), self.part(id, "sum", !pool.relu));
            self.emit("Add", &[value, bias], &sum, &[]);
            value = sum;
        }
        self.rest(id, value, None, pool.relu);
    }

    /// The convolution `conv` of node `id` with `bias`, from `source`, which it reads as `input`, to `value`.
    fn conv(
        &mut self,
        id: NodeId,
        conv: &Conv,
        bias: &Option<Vec<f32>>,
        (source, mut input, mut quant): (NodeId, String, Option<Quant>),
        value: &str,
    ) {
        let graph = self.network.graph;
        let name = &graph.nodes[id].name;
        let outs = conv.out_channels;
        let (mut weight, mut scales) = (conv.weight.clone(), self.network.weights[id].clone());
        let classifies = graph.nodes[source].shape.pixels() == 1
            && conv.window.is_pointwise()
            && graph.nodes[id..].iter().all(|node| matches!(node.op, Op::Conv(_)));
        if classifies {
            if let Some(factor) = self.factor.take() {
                weight.iter_mut().chain(scales.iter_mut().flatten()).for_each(|w| *w /= factor);
                quant = quant.map(|(scale, zero)| (scale * factor, zero));
                let constant = self.floats(&format!("{value}/factor"), &[], &[factor]);
                input = self.computed("Mul", &[input, constant], &format!("{value}/scaled"), &[], quant);
            }
            input = self.computed("Flatten", &[input], &format!("{value}/flat"), &[int("axis", 1)], quant);
        }
        let [height, width] = conv.window.kernel;
        let dims = [outs, weight.len() / (outs * height * width), height, width];
        let dims = if classifies { &dims[..2] } else { &dims };
        let (weight, bias) = match (quant, scales) {
            (Some((unit, _)), Some(scales)) => {
                let weight = self.integers(&format!("{name}.weight"), dims, &weight, &scales);
                let sums: Vec<f32> = scales.iter().map(|scale| scale * unit).collect();
                (weight, bias.as_ref().map(|bias| self.bias(&format!("{name}.bias"), bias, &sums)))
            }
            _ => {
                let weight = self.floats(&format!("{name}.weight"), dims, &weight);
                (weight, bias.as_ref().map(|bias| self.floats(&format!("{name}.bias"), &[outs], bias)))
            }
        };
        let mut window = conv.window;
        if let (0, Op::Input { pad, pad_end, .. }) = (source, &graph.nodes[0].op) {
            for axis in 0..2 {
                window.pad[axis] += pad[axis];
                window.pad_end[axis] += pad_end[axis];
            }
        }
        let shape = Conv { weight: conv.weight.clone(), bias: None, window, ..*conv };
        let inputs: Vec<String> = [input, weight].into_iter().chain(bias).collect();
        match classifies {
            true => self.emit("Gemm", &inputs, value, &[int("transB", 1)]),
            false => self.emit("Conv", &inputs, value, &message::conv(&shape)),
        }
    }

    /// Weights as bytes with the scales of their output channels, made into numbers again.
    fn integers(&mut self, name: &str, dims: &[usize], weight: &[f32], scales: &[f32]) -> String {
        let rows = weight.chunks_exact(weight.len() / scales.len()).zip(scales);
        let bytes: Vec<u8> = rows
            .flat_map(|(row, &scale)| row.iter().map(move |&w| integer_weight(w, scale).cast_unsigned()))
            .collect();
        let values = self.constant(&format!("{name}/quantized"), 3, dims, &bytes);
        self.dequantize(name, values, scales, 3, 1)
    }

    /// Biases as 32-bit integers in the unit of each channel's sums; as they are where one of them is too large.
    fn bias(&mut self, name: &str, bias: &[f32], sums: &[f32]) -> String {
        let rounded: Vec<f64> = bias
            .iter()
            .zip(sums)
            .map(|(b, unit)| (f64::from(*b) / f64::from(*unit)).round_ties_even())
            .collect();
        // ONNX Runtime adds them to sums of 32 bits.
        if rounded.iter().any(|q| q.is_nan() || q.abs() > f64::from(1 << 30)) {
            return self.floats(name, &[bias.len()], bias);
        }
        let bytes: Vec<u8> = rounded.iter().flat_map(|q| (*q as i32).to_le_bytes()).collect();
        let values = self.constant(&format!("{name}/quantized"), 6, &[bias.len()], &bytes);
        self.dequantize(name, values, sums, 6, 4)
    }

    /// `values`, of ONNX's type number `kind` in so many bytes each, times the scale of their channels.
    fn dequantize(&mut self, name: &str, values: String, scales: &[f32], kind: u64, bytes: usize) -> String {
        let scale = self.floats(&format!("{name}/scale"), &[scales.len()], scales);
        let zeros = vec![0; scales.len() * bytes];
        let zero = self.constant(&format!("{name}/zero_point"), kind, &[scales.len()], &zeros);
        let output = dequantized(name);
        self.emit("DequantizeLinear", &[values, scale, zero], &output, &[int("axis", 0)]);
        output
    }
}

/// The name of a value that was quantised and is a number again.
fn dequantized(value: &str) -> String {
    format!("{value}/dequantized")
}
