//! ONNX: of a model what a convolutional classifier can have, in the forms that paddle2onnx and both of PyTorch's
//! exporters write; the weights stay in the file. (`onnx-ir` at Burn 0.22 copies every weight and builds a graph for code
//! generation; its users pay several minutes of compilation.)

use std::collections::HashMap;

use inception_graph::{BatchNorm, Graph, Op, Parameter, PoolKind};

use super::contents::Contents;
use crate::entry::{Dtype, Entry, Source};

use super::proto::{Message, Wire};
use crate::graph::{Builder, pool, scale, window};
use crate::input::{Fault, Input, Range, damaged};
use crate::metadata::Metadata;

/// Far above the operations of any network of the family.
const MAX_NODES: usize = 100_000;

pub(crate) fn open(input: &Input) -> Result<Contents, Fault> {
    let mut model = Message::whole(input);
    let mut graph = None;
    let mut metadata = Metadata::default();
    while let Some((field, wire)) = model.next()? {
        match (field, wire) {
            (7, Wire::Bytes(range)) => graph = Some(range),
            (14, wire) => {
                let mut pair = model.message(wire)?;
                let [mut key, mut value] = [String::new(), String::new()];
                while let Some((field, wire)) = pair.next()? {
                    match field {
                        1 => key = pair.text(wire)?,
                        // The names of a thousand classes.
                        2 => value = pair.text_within(wire, 1 << 20)?,
                        _ => {}
                    }
                }
                metadata = metadata.with(key, value);
            }
            _ => {}
        }
    }
    let Some(graph) = graph else { return damaged("a model without a graph") };
    let mut reader =
        Reader { input, initializers: HashMap::new(), small: HashMap::new(), entries: Vec::new() };
    let (nodes, inputs, outputs) = reader.graph(graph)?;
    let entries = std::mem::take(&mut reader.entries);
    let graph = reader.operations(&entries, nodes, &inputs, &outputs).map_err(Fault::Damaged)?;
    Ok(Contents { entries, metadata, graph: Some(graph) })
}

/// A node as the file has it.
#[derive(Default)]
struct Raw {
    op: String,
    inputs: Vec<String>,
    outputs: Vec<String>,
    ints: HashMap<String, Vec<u64>>,
    float: HashMap<String, f32>,
    text: HashMap<String, String>,
    tensor: Option<Range>,
}

struct Reader<'a> {
    input: &'a Input,
    /// Names that stand for a tensor of the file, and its key.
    initializers: HashMap<String, String>,
    /// Tensors of a few values, which are arguments rather than weights.
    small: HashMap<String, Vec<f64>>,
    entries: Vec<Entry>,
}

type Parts = (Vec<Raw>, Vec<String>, Vec<String>);

impl Reader<'_> {
    fn graph(&mut self, range: Range) -> Result<Parts, Fault> {
        let mut graph = Message::at(self.input, range);
        let (mut nodes, mut inputs, mut outputs) = Parts::default();
        while let Some((field, wire)) = graph.next()? {
            match field {
                1 if nodes.len() == MAX_NODES => return damaged(format!("more than {MAX_NODES} operations")),
                1 => nodes.push(node(graph.message(wire)?)?),
                5 => {
                    if self.entries.len() == MAX_NODES {
                        return damaged(format!("more than {MAX_NODES} tensors"));
                    }
                    let (name, entry, small) = self.tensor(graph.message(wire)?)?;
                    if let Some(values) = small {
                        self.small.insert(name.clone(), values);
                    }
                    if self.initializers.insert(name.clone(), name).is_some() {
                        return damaged(format!("`{}` is there twice", entry.key));
                    }
                    self.entries.push(entry);
                }
                11 | 12 => {
                    let mut value = graph.message(wire)?;
                    let list = if field == 11 { &mut inputs } else { &mut outputs };
                    while let Some((field, wire)) = value.next()? {
                        if field == 1 {
                            list.push(value.text(wire)?);
                        }
                    }
                }
                _ => {}
            }
        }
        Ok((nodes, inputs, outputs))
    }

    fn tensor(&self, mut tensor: Message) -> Result<(String, Entry, Option<Vec<f64>>), Fault> {
        let (mut shape, mut kind, mut name, mut external) = (Vec::new(), 0, String::new(), false);
        let (mut data, mut numbers) = (None, Vec::new());
        while let Some((field, wire)) = tensor.next()? {
            match (field, wire) {
                (1, wire) => tensor.numbers(wire, &mut shape)?,
                (2, Wire::Number(value)) => kind = value,
                // Packed, these are as raw as raw data.
                (4 | 10, Wire::Bytes(range)) => data = Some(range),
                (4 | 10, Wire::Float(_)) => return damaged("a tensor whose values are not packed"),
                (7, wire) => tensor.numbers(wire, &mut numbers)?,
                (8, wire) => name = tensor.text(wire)?,
                (9, Wire::Bytes(range)) => data = Some(range),
                (14, Wire::Number(1)) | (13, _) => external = true,
                _ => {}
            }
        }
        if external {
            return damaged(format!("`{name}` is in another file; export it with its weights inside"));
        }
        let dtype = match kind {
            1 => Dtype::F32,
            10 => Dtype::F16,
            11 => Dtype::F64,
            16 => Dtype::Bf16,
            7 => Dtype::Other("i64".to_owned()),
            kind => Dtype::Other(format!("ONNX's kind {kind}")),
        };
        let data = data.unwrap_or(Range { offset: 0, len: 0 });
        let entry = Entry::checked(self.input, name.clone(), &shape, dtype, Source::At(data.offset))?;
        let wanted = entry.dtype.size().map(|size| size * entry.len() as u64);
        if wanted.is_some_and(|wanted| wanted != data.len) {
            return damaged(format!("`{name}` {shape:?} of {} has {} bytes", entry.dtype, data.len));
        }
        let small = match (&entry.dtype, data.len) {
            (Dtype::F32, 4) => {
                let mut bytes = [0; 4];
                self.input.read_at(data.offset, &mut bytes)?;
                Some(vec![f32::from_le_bytes(bytes).into()])
            }
            (Dtype::Other(kind), 1..=64) if kind == "i64" => {
                let bytes = self.input.read(data.offset, data.len)?;
                let (values, _) = bytes.as_chunks::<8>();
                Some(values.iter().map(|&v| i64::from_le_bytes(v) as f64).collect())
            }
            (Dtype::Other(kind), 0) if kind == "i64" => {
                Some(numbers.iter().map(|&v| v as i64 as f64).collect())
            }
            _ => None,
        };
        Ok((name, entry, small))
    }

    /// The nodes as operations that a network of the family has.
    fn operations(
        &mut self,
        entries: &[Entry],
        nodes: Vec<Raw>,
        inputs: &[String],
        outputs: &[String],
    ) -> Result<Graph<Parameter>, String> {
        let mut builder = Builder::new(entries);
        // Old files list their weights among the inputs.
        let images = inputs.iter().filter(|name| !self.initializers.contains_key(*name));
        let [image] = &images.collect::<Vec<_>>()[..] else { return Err("not one input".to_owned()) };
        builder.input(image)?;
        for node in &nodes {
            self.operation(&mut builder, node)?;
        }
        let output = outputs.first().ok_or("no output")?;
        builder.finish(output)
    }

    fn operation(&mut self, builder: &mut Builder, node: &Raw) -> Result<(), String> {
        let [output, ..] = &node.outputs[..] else { return Ok(()) };
        let what = || format!("{} `{output}`", node.op);
        let first =
            || node.inputs.first().map(String::as_str).ok_or_else(|| format!("{} reads nothing", what()));
        let weight = |i: usize| -> Result<String, String> {
            let name = node.inputs.get(i).ok_or_else(|| format!("{} has too few inputs", what()))?;
            self.initializers.get(name).cloned().ok_or_else(|| format!("{}: `{name}` is no weight", what()))
        };
        let bias =
            |i: usize| node.inputs.get(i).filter(|name| !name.is_empty()).map(|_| weight(i)).transpose();
        if node.text.get("auto_pad").is_some_and(|pad| pad != "NOTSET" && pad != "VALID") {
            return Err(format!("{} pads by itself", what()));
        }
        let pair = |field: &str| list(node, field, [1; 2]);
        let pads = || list(node, "pads", [0; 4]);
        let number = |field: &str| node.ints.get(field).and_then(|v| v.first().copied());
        match node.op.as_str() {
            "Conv" => {
                let window = window([1; 2], pair("strides")?, pads()?, pair("dilations")?, false);
                let op = builder.conv(weight(1)?, bias(2)?, window, number("group").unwrap_or(1));
                builder.node(output, op, &[first()?])
            }
            "BatchNormalization" => {
                let norm = BatchNorm {
                    gamma: builder.weight(weight(1)?),
                    beta: builder.weight(weight(2)?),
                    mean: builder.weight(weight(3)?),
                    variance: builder.weight(weight(4)?),
                    epsilon: node.float.get("epsilon").copied().unwrap_or(1e-5).into(),
                };
                builder.node(output, Op::BatchNorm(Box::new(norm)), &[first()?])
            }
            "Relu" => builder.node(output, Op::Relu, &[first()?]),
            "MaxPool" | "AveragePool" => {
                let ceil = number("ceil_mode") == Some(1);
                let window = window(pair("kernel_shape")?, pair("strides")?, pads()?, [1; 2], ceil);
                let kind = match (&*node.op, number("count_include_pad")) {
                    ("MaxPool", _) => PoolKind::Max,
                    (_, Some(1)) => PoolKind::AverageWithPadding,
                    _ => PoolKind::Average,
                };
                builder.node(output, pool(kind, window), &[first()?])
            }
            "Concat" if number("axis") == Some(1) => {
                let inputs: Vec<_> = node.inputs.iter().map(String::as_str).collect();
                builder.node(output, Op::Concat, &inputs)
            }
            "GlobalAveragePool" => builder.node(output, Op::GlobalAveragePool, &[first()?]),
            "ReduceMean" => {
                self.global_mean(node)?;
                builder.node(output, Op::GlobalAveragePool, &[first()?])
            }
            "Mul" | "Add" => self.arithmetic(builder, node, output),
            "MatMul" => {
                let op = builder.linear(weight(1)?, None, false);
                builder.node(output, op, &[first()?])
            }
            "Gemm" => {
                let plain = ["alpha", "beta"].iter().all(|f| node.float.get(*f).is_none_or(|&v| v == 1.0));
                if !plain || number("transA").unwrap_or(0) != 0 {
                    return Err(format!("{} is no fully connected layer", what()));
                }
                let op = builder.linear(weight(1)?, bias(2)?, number("transB") == Some(1));
                builder.node(output, op, &[first()?])
            }
            "Identity" if self.initializers.contains_key(first()?) => {
                let key = self.initializers[first()?].clone();
                self.initializers.insert(output.clone(), key);
                Ok(())
            }
            "Identity" | "Dropout" | "Flatten" | "Reshape" | "Squeeze" => builder.pass(output, first()?),
            "Constant" => {
                if let Some(range) = node.tensor {
                    let (_, _, small) = self
                        .tensor(Message::at(self.input, range))
                        .map_err(|_| format!("{} is damaged", what()))?;
                    self.small.extend(small.map(|values| (output.clone(), values)));
                }
                Ok(())
            }
            // What works out the shape that a reshape is given.
            "Shape" | "Slice" | "Concat" | "Gather" | "Unsqueeze" | "Cast" => Ok(()),
            _ => Err(format!("{}: no network of the family has such an operation", what())),
        }
    }

    /// Whether a mean is one over height and width; otherwise what it is over.
    fn global_mean(&self, node: &Raw) -> Result<(), String> {
        let axes = node.ints.get("axes").map(|axes| axes.iter().map(|&a| a as i64 as f64).collect());
        let axes = axes.or_else(|| self.small.get(node.inputs.get(1)?).cloned()).unwrap_or_default();
        match &axes[..] {
            [2.0, 3.0] | [-1.0, -2.0] | [-2.0, -1.0] | [3.0, 2.0] => Ok(()),
            axes => Err(format!("{} `{}` over {axes:?}", node.op, node.outputs[0])),
        }
    }

    /// A product with a number, a sum, or the bias of a fully connected layer.
    fn arithmetic(&self, builder: &mut Builder, node: &Raw, output: &str) -> Result<(), String> {
        let what = || format!("{} `{output}`", node.op);
        let [a, b] = &node.inputs[..] else { return Err(format!("{} has not two inputs", what())) };
        let (value, other) = if builder.get(a).is_ok() { (a, b) } else { (b, a) };
        if node.op == "Mul" {
            return match self.small.get(other).map(Vec::as_slice) {
                Some(&[factor]) => builder.node(output, scale(factor), &[value]),
                _ => Err(format!("{} by something else than a number", what())),
            };
        }
        let Some(key) = self.initializers.get(other) else {
            return builder.node(output, Op::Add { relu: false }, &[a, b]);
        };
        match builder.add_bias(value, key)? {
            true => builder.pass(output, value),
            false => Err(format!("{} adds `{key}` to no fully connected layer", what())),
        }
    }
}

fn list<const N: usize>(node: &Raw, field: &str, default: [u64; N]) -> Result<[u64; N], String> {
    let Some(values) = node.ints.get(field) else { return Ok(default) };
    <[u64; N]>::try_from(&values[..])
        .map_err(|_| format!("{} `{}`: {field} {values:?}", node.op, node.outputs[0]))
}

fn node(mut message: Message) -> Result<Raw, Fault> {
    let mut node = Raw::default();
    while let Some((field, wire)) = message.next()? {
        match field {
            1 => node.inputs.push(message.text(wire)?),
            2 => node.outputs.push(message.text(wire)?),
            4 => node.op = message.text(wire)?,
            5 => {
                let mut attribute = message.message(wire)?;
                let (mut name, mut ints, mut float, mut text, mut tensor) =
                    (String::new(), Vec::new(), None, None, None);
                while let Some((field, wire)) = attribute.next()? {
                    match (field, wire) {
                        (1, wire) => name = attribute.text(wire)?,
                        (2, Wire::Float(value)) => float = Some(value),
                        (3, Wire::Number(value)) => ints.push(value),
                        (4, wire) => text = Some(attribute.text(wire)?),
                        (5, Wire::Bytes(range)) => tensor = Some(range),
                        (8, wire) => attribute.numbers(wire, &mut ints)?,
                        _ => {}
                    }
                }
                node.float.extend(float.map(|float| (name.clone(), float)));
                node.text.extend(text.map(|text| (name.clone(), text)));
                node.tensor = tensor.or(node.tensor);
                if !ints.is_empty() {
                    node.ints.insert(name, ints);
                }
            }
            _ => {}
        }
    }
    Ok(node)
}
