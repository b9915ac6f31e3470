//! The messages of an ONNX model.

use inception_graph::{Conv, Pool, PoolKind, Weight, Window};

use crate::metadata::Metadata;

/// The version of the operations.
const OPSET: u64 = 17;

/// The tag and length in front of `len` bytes.
pub(super) fn prefix(field: u64, len: usize) -> Vec<u8> {
    let mut prefix = Writer::default().number(field, len as u64).0;
    prefix[0] |= 2; // Fields below 16 have a tag of one byte; kind 0 becomes kind 2.
    prefix
}

/// A batch of single-precision arrays.
pub(super) fn value_info(name: &str, dims: &[usize]) -> Vec<u8> {
    let batch = Writer::default().bytes(2, b"batch").0;
    let shape = Writer::default().bytes(1, &batch);
    let shape = dims.iter().fold(shape, |shape, &d| shape.bytes(1, &Writer::default().number(1, d as u64).0));
    let tensor = Writer::default().number(1, 1).bytes(2, &shape.0).0;
    let kind = Writer::default().bytes(1, &tensor).0;
    Writer::default().bytes(1, name.as_bytes()).bytes(2, &kind).0
}

/// Appends fields to a message that is written.
#[derive(Default)]
pub(super) struct Writer(pub Vec<u8>);

impl Writer {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    pub fn number(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    pub fn float(mut self, field: u64, value: f32) -> Self {
        self.varint(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    pub fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }
}

/// An attribute of one whole number.
pub(super) fn int(name: &str, value: usize) -> Vec<u8> {
    Writer::default().bytes(1, name.as_bytes()).number(3, value as u64).number(20, 2).0
}

/// An attribute of whole numbers.
pub(super) fn ints(name: &str, values: &[usize]) -> Vec<u8> {
    let attribute = Writer::default().bytes(1, name.as_bytes());
    values.iter().fold(attribute, |a, &v| a.number(8, v as u64)).number(20, 7).0
}

fn strides(window: &Window) -> Vec<u8> {
    ints("strides", &window.stride)
}

fn pads(window: &Window) -> Vec<u8> {
    ints("pads", &[window.pad, window.pad_end].concat())
}

/// The attributes of a convolution.
pub(super) fn conv<W: Weight>(conv: &Conv<W>) -> Vec<Vec<u8>> {
    let Window { kernel, dilation, .. } = &conv.window;
    let (strides, pads) = (strides(&conv.window), pads(&conv.window));
    vec![ints("kernel_shape", kernel), strides, pads, ints("dilations", dilation), int("group", conv.groups)]
}

/// The operation and the attributes of a pool.
pub(super) fn pool<W: Weight>(pool: &Pool<W>) -> (&'static str, Vec<Vec<u8>>) {
    let (op, last) = match pool.kind {
        PoolKind::Max => ("MaxPool", int("ceil_mode", pool.window.ceil.into())),
        kind => {
            let counted = kind == PoolKind::AverageWithPadding;
            ("AveragePool", int("count_include_pad", counted.into()))
        }
    };
    (op, vec![ints("kernel_shape", &pool.window.kernel), strides(&pool.window), pads(&pool.window), last])
}

/// A node, as a graph holds it.
pub(super) fn node(op: &str, inputs: &[String], output: &str, attributes: &[Vec<u8>]) -> Vec<u8> {
    let node = inputs.iter().fold(Writer::default(), |node, input| node.bytes(1, input.as_bytes()));
    let node = node.bytes(2, output.as_bytes()).bytes(3, output.as_bytes()).bytes(4, op.as_bytes());
    attributes.iter().fold(node, |node, attribute| node.bytes(5, attribute)).0
}

/// What a model has before its graph.
pub(super) fn model(metadata: &Metadata) -> Writer {
    let opset = Writer::default().bytes(1, b"").number(2, OPSET);
    let model = Writer::default().number(1, 8).bytes(2, b"inception").bytes(8, &opset.0);
    metadata.iter().fold(model, |model, (key, value)| {
        model.bytes(14, &Writer::default().bytes(1, key.as_bytes()).bytes(2, value.as_bytes()).0)
    })
}
