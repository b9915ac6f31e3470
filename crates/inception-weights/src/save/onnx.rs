//! ONNX, from a network's own graph, under our names, with the batch left open.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use inception_graph::{Op, Parameter, PoolKind, Window};
use inception_nn::{ModelSpec, Network, TensorInfo, read_tensors, tensors};

use crate::error::Error;
use crate::metadata::Metadata;

const OPSET: u64 = 17;

/// Writes `network` as an ONNX model of `spec`'s input size with an open batch: first beside `path`, then
/// renamed to it.
///
/// The norms stay operations of their own, and tensors keep our names, so that reading it back gives the same
/// bits. GoogLeNet's auxiliary heads, which are no part of inference, are left out.
///
/// # Errors
///
/// [`Error::Io`]; [`Error::Network`] for an input size that the network does not take.
pub fn save(network: &Network, spec: &ModelSpec, metadata: &Metadata, path: &Path) -> Result<(), Error> {
    let structure = network.graph([spec.input_size; 2])?;
    let nodes = &structure.nodes;
    let value = |i: usize| match i {
        0 => "images".to_owned(),
        i if i == structure.output => "logits".to_owned(),
        i => format!("value{i}"),
    };
    let mut graph = Writer::default().bytes(2, spec.name.as_bytes());
    let mut constants = Vec::new();
    let mut used = std::collections::HashSet::new();
    for (i, node) in nodes.iter().enumerate().skip(1) {
        let mut inputs: Vec<String> = node.inputs.iter().map(|&i| value(i)).collect();
        let mut op_weights = |op: &Op<Parameter>| -> Vec<String> {
            let names = op.weights().into_iter().map(|weight| weight.name.clone());
            names.inspect(|name| _ = used.insert(name.clone())).collect()
        };
        let ints = |name: &str, values: &[usize]| {
            let attribute = Writer::default().bytes(1, name.as_bytes());
            values.iter().fold(attribute, |a, &v| a.number(8, v as u64)).number(20, 7).0
        };
        let int = |name: &str, value: usize| {
            Writer::default().bytes(1, name.as_bytes()).number(3, value as u64).number(20, 2).0
        };
        let strides = |window: &Window| ints("strides", &window.stride);
        let pads = |window: &Window| ints("pads", &[window.pad, window.pad_end].concat());
        let (op, attributes) = match &node.op {
            Op::Input { .. } => continue,
            Op::Conv(conv) => {
                inputs.extend(op_weights(&node.op));
                let kernel = ints("kernel_shape", &conv.window.kernel);
                let attributes = vec![kernel, strides(&conv.window), pads(&conv.window)];
                let rest = [ints("dilations", &conv.window.dilation), int("group", conv.groups)];
                ("Conv", [attributes, rest.into()].concat())
            }
            Op::BatchNorm(norm) => {
                inputs.extend(op_weights(&node.op));
                let epsilon =
                    Writer::default().bytes(1, b"epsilon").float(2, norm.epsilon as f32).number(20, 1).0;
                ("BatchNormalization", vec![epsilon])
            }
            Op::Relu => ("Relu", vec![]),
            Op::Pool(pool) => {
                let kernel = ints("kernel_shape", &pool.window.kernel);
                let (op, last) = match pool.kind {
                    PoolKind::Max => ("MaxPool", int("ceil_mode", pool.window.ceil.into())),
                    kind => {
                        let counted = kind == PoolKind::AverageWithPadding;
                        ("AveragePool", int("count_include_pad", counted.into()))
                    }
                };
                (op, vec![kernel, strides(&pool.window), pads(&pool.window), last])
            }
            Op::Concat => ("Concat", vec![int("axis", 1)]),
            Op::Add { .. } => ("Add", vec![]),
            Op::GlobalAveragePool => ("GlobalAveragePool", vec![]),
            Op::Scale { scale, .. } => {
                let name = format!("scale{i}");
                let bytes = (*scale as f32).to_le_bytes();
                constants.push(Writer::default().number(2, 1).bytes(8, name.as_bytes()).bytes(9, &bytes).0);
                inputs.push(name);
                ("Mul", vec![])
            }
            Op::Linear(_) => {
                let flat = format!("flat{i}");
                let flatten = Writer::default().bytes(1, inputs[0].as_bytes()).bytes(2, flat.as_bytes());
                let flatten =
                    flatten.bytes(3, flat.as_bytes()).bytes(4, b"Flatten").bytes(5, &int("axis", 1));
                graph = graph.bytes(1, &flatten.0);
                inputs = [vec![flat], op_weights(&node.op)].concat();
                ("Gemm", vec![])
            }
            Op::Bias(_) | Op::Affine { .. } | Op::Flatten => {
                unreachable!("no network of the family has a `{}`; a test writes each", node.op.name())
            }
        };
        let output = value(i);
        let node = inputs.iter().fold(Writer::default(), |node, input| node.bytes(1, input.as_bytes()));
        let node = node.bytes(2, output.as_bytes()).bytes(3, output.as_bytes()).bytes(4, op.as_bytes());
        let node = attributes.iter().fold(node, |node, attribute| node.bytes(5, attribute));
        graph = graph.bytes(1, &node.0);
    }
    let graph = constants.iter().fold(graph, |graph, constant| graph.bytes(5, constant));
    let infos: Vec<_> = tensors(network).into_iter().filter(|info| used.contains(&info.name)).collect();
    let classes = infos.last().map_or(0, |info| info.shape[0]);
    let size = spec.input_size;
    let graph =
        graph.bytes(11, &value_info("images", &[3, size, size])).bytes(12, &value_info("logits", &[classes]));
    write(network, &infos, &graph.0, metadata, path)
}

/// Writes a graph with the values of the tensors `infos`, one tensor in memory at a time.
fn write(
    network: &Network,
    infos: &[TensorInfo],
    graph: &[u8],
    metadata: &Metadata,
    path: &Path,
) -> Result<(), Error> {
    // A tensor's message up to its values, whose lengths are known beforehand.
    let head = |info: &TensorInfo| {
        let head = info.shape.iter().fold(Writer::default(), |w, &d| w.number(1, d as u64));
        let head = head.number(2, 1).bytes(8, info.name.as_bytes());
        let bytes = 4 * info.shape.iter().product::<usize>();
        let (start, prefix) = (head.0, prefix(9, bytes));
        let whole = start.len() + prefix.len() + bytes;
        let message = [self::prefix(5, whole), start, prefix].concat();
        (message, bytes)
    };
    let weights: usize = infos.iter().map(head).map(|(message, bytes)| message.len() + bytes).sum();
    let opset = Writer::default().bytes(1, b"").number(2, OPSET);
    let model = Writer::default().number(1, 8).bytes(2, b"inception").bytes(8, &opset.0);
    let model = metadata.iter().fold(model, |model, (key, value)| {
        model.bytes(14, &Writer::default().bytes(1, key.as_bytes()).bytes(2, value.as_bytes()).0)
    });
    super::replace_file(path, |file: &mut BufWriter<File>| {
        file.write_all(&model.0)?;
        file.write_all(&prefix(7, graph.len() + weights))?;
        file.write_all(graph)?;
        read_tensors(network, |info, data| {
            if infos.contains(info) {
                file.write_all(&head(info).0)?;
                file.write_all(data.convert::<f32>().as_bytes())?;
            }
            Ok(())
        })
    })
}

/// The tag and length in front of `len` bytes.
fn prefix(field: u64, len: usize) -> Vec<u8> {
    let mut prefix = Writer::default().number(field, len as u64).0;
    prefix[0] |= 2; // Fields below 16 have a tag of one byte; kind 0 becomes kind 2.
    prefix
}

/// A batch of single-precision arrays.
fn value_info(name: &str, dims: &[usize]) -> Vec<u8> {
    let batch = Writer::default().bytes(2, b"batch").0;
    let shape = Writer::default().bytes(1, &batch);
    let shape = dims.iter().fold(shape, |shape, &d| shape.bytes(1, &Writer::default().number(1, d as u64).0));
    let tensor = Writer::default().number(1, 1).bytes(2, &shape.0).0;
    let kind = Writer::default().bytes(1, &tensor).0;
    Writer::default().bytes(1, name.as_bytes()).bytes(2, &kind).0
}

/// Appends fields to a message that is written.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn number(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    fn float(mut self, field: u64, value: f32) -> Self {
        self.varint(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }
}
