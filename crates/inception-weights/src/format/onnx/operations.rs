//! From the nodes of an ONNX graph to the operations that networks of the family have.

use std::collections::{HashMap, HashSet};

use inception_graph::{BatchNorm, Op, PoolKind};

use super::node::Node;
use super::parts::Parts;
use super::tensors::Tensors;
use crate::entry::{Dtype, Entry};
use crate::format::pixels::{Ending, Pixels};
use crate::graph::{Builder, QuantizedGraph, pool, scale, window};
use crate::surroundings::{Activation, Surroundings};

pub(super) struct Operations<'a> {
    builder: Builder<'a>,
    /// Names that stand for a tensor of the file, and its key.
    initializers: HashMap<String, String>,
    /// Tensors of a few values, which are arguments rather than weights.
    small: HashMap<String, Vec<f64>>,
    /// The types of tensors, where they are no floating-point numbers.
    kinds: HashMap<String, String>,
    /// Zero points that clamp at zero.
    least: HashSet<String>,
    pixels: Pixels,
    ending: Ending,
    activation: Activation,
}

impl<'a> Operations<'a> {
    pub fn new(entries: &'a [Entry], tensors: &Tensors) -> Self {
        Self {
            builder: Builder::new(entries),
            initializers: tensors.initializers.clone(),
            small: tensors.small.clone(),
            kinds: entries
                .iter()
                .filter_map(|entry| match &entry.dtype {
                    Dtype::Other(kind) => Some((entry.key.clone(), kind.clone())),
                    _ => None,
                })
                .collect(),
            least: tensors.least.clone(),
            pixels: Pixels::default(),
            ending: Ending::default(),
            activation: Activation::default(),
        }
    }

    /// The graph of the network, and what is around it.
    pub fn graph(mut self, parts: &Parts) -> Result<(QuantizedGraph, Surroundings), String> {
        // Old files list their weights among the inputs.
        let images = parts.inputs.iter().filter(|(name, _)| !self.initializers.contains_key(name));
        let [(image, size)] = &images.collect::<Vec<_>>()[..] else { return Err("not one input".to_owned()) };
        self.builder.input(image)?;
        self.pixels.image(image);
        for node in sorted(&parts.nodes) {
            self.node(node)?;
        }
        let output = parts.outputs.first().ok_or("no output")?;
        let surroundings = Surroundings {
            input: self.pixels.transform(),
            activation: self.activation,
            notes: self.ending.notes(),
            size: *size,
        };
        Ok((self.builder.finish_quantized(output)?, surroundings))
    }

    fn node(&mut self, node: &Node) -> Result<(), String> {
        let [output, ..] = &node.outputs[..] else { return Ok(()) };
        let of_onnx = node.domain.is_empty() || node.domain == "ai.onnx";
        let is_fused = node.domain == "com.microsoft" && node.op == "FusedConv";
        let is_quantized = matches!(&*node.op, "QuantizeLinear" | "DequantizeLinear");
        // Some of ONNX's own domain, some of ONNX Runtime's.
        if node.op.contains("Integer") || node.op.contains("QLinear") || node.op == "DynamicQuantizeLinear" {
            return Err(format!(
                "{} computes with integers; quantise in the form QDQ (QuantizeLinear and DequantizeLinear around \
                 operations of f32), or export the network as it was before",
                node.what()
            ));
        }
        if !of_onnx && !is_fused && !is_quantized {
            return Err(format!(
                "{} is an operation of {}: the file was optimised for one runtime; export it again without",
                node.what(),
                node.domain
            ));
        }
        if self.before(node, output)? || self.after(node)? {
            return Ok(());
        }
        // A shape is no value.
        for input in node.inputs.iter().filter(|_| node.op != "Shape") {
            self.pixels.read(input)?;
            self.ending.check(input)?;
        }
        match &*node.op {
            "Conv" | "FusedConv" | "BatchNormalization" | "Relu" | "MaxPool" | "AveragePool" => {
                self.map(node, output)
            }
            "Concat" if node.number("axis") == Some(1) && self.builder.get(node.first()?).is_ok() => {
                let inputs: Vec<_> = node.inputs.iter().map(String::as_str).collect();
                self.builder.node(output, Op::Concat, &inputs)
            }
            "GlobalAveragePool" => self.builder.node(output, Op::GlobalAveragePool, &[node.first()?]),
            "ReduceMean" => {
                self.global_mean(node)?;
                self.builder.node(output, Op::GlobalAveragePool, &[node.first()?])
            }
            "Mul" | "Add" => self.arithmetic(node, output),
            "MatMul" | "Gemm" => self.linear(node, output),
            _ => self.rest(node, output),
        }
    }

    /// Operations on the channels of the image, before the network; whether this is one.
    fn before(&mut self, node: &Node, output: &str) -> Result<bool, String> {
        let numbers = |i: usize| node.inputs.get(i).and_then(|name| self.small.get(name)).cloned();
        let ints = |i: usize| numbers(i).map(|list| list.iter().map(|&v| v as i64).collect::<Vec<_>>());
        let is_pixels = |i: usize| node.inputs.get(i).is_some_and(|name| self.pixels.has(name));
        let number = |field: &str| node.number(field).map(|v| v as i64);
        let first = || node.inputs.first().map_or("", String::as_str);
        let understood = match &*node.op {
            op @ ("Add" | "Sub" | "Mul" | "Div") if is_pixels(0) || is_pixels(1) => {
                let reversed = !is_pixels(0);
                let (value, other) = if reversed { (1, 0) } else { (0, 1) };
                match numbers(other) {
                    Some(numbers) => {
                        self.pixels.arithmetic(output, op, &node.inputs[value], &numbers, reversed)
                    }
                    None => return Ok(false),
                }
            }
            "Gather" if is_pixels(0) && number("axis") == Some(1) => {
                let indices = ints(1).unwrap_or_default();
                self.pixels.select(output, first(), &indices)
            }
            "Slice" if is_pixels(0) && ints(3).is_some_and(|axes| axes == [1]) => {
                let (start, end) = (ints(1).unwrap_or_default(), ints(2).unwrap_or_default());
                match (&start[..], &end[..], ints(4).is_none_or(|steps| steps == [1])) {
                    (&[start], &[end], true) if (0..4).contains(&start) && (0..=4).contains(&end) => {
                        let indices: Vec<i64> = (start..end).collect();
                        self.pixels.select(output, first(), &indices)
                    }
                    _ => false,
                }
            }
            "Concat" if is_pixels(0) && number("axis") == Some(1) => self.pixels.concat(output, &node.inputs),
            "Unsqueeze" | "Squeeze" | "Identity" | "Cast" if is_pixels(0) => {
                self.pixels.pass(output, first());
                true
            }
            _ => return Ok(false),
        };
        match understood {
            // All of them are the image to the graph.
            true => self.builder.input_too(output).map(|()| true),
            false => {
                Err(format!("{}: it changes the image in a way that no preprocessing does", node.what()))
            }
        }
    }

    /// Operations on the logits, behind the network; whether this is one.
    fn after(&mut self, node: &Node) -> Result<bool, String> {
        let input = node.inputs.first().map_or("", String::as_str);
        let outputs = node.outputs.iter().map(String::as_str);
        match &*node.op {
            "Softmax" | "LogSoftmax" => self.ending.add(outputs, "softmax"),
            "Sigmoid" => {
                self.activation = Activation::Sigmoid;
                self.ending.add(outputs, "sigmoid");
            }
            "ArgMax" | "TopK" => self.ending.add(outputs, "choice of the best class"),
            "Identity" | "Cast" | "Squeeze" | "Unsqueeze" | "Reshape" | "Flatten" | "QuantizeLinear"
            | "DequantizeLinear"
                if self.ending.has(input) =>
            {
                self.ending.pass(outputs, input);
            }
            _ => return Ok(false),
        }
        for output in &node.outputs {
            self.builder.pass(output, input)?;
        }
        Ok(true)
    }

    fn weight(&self, node: &Node, i: usize) -> Result<String, String> {
        let name = node.inputs.get(i).ok_or_else(|| format!("{} has too few inputs", node.what()))?;
        let key = self.initializers.get(name).cloned();
        key.ok_or_else(|| format!("{}: `{name}` is no weight", node.what()))
    }

    fn bias(&self, node: &Node, i: usize) -> Result<Option<String>, String> {
        let name = node.inputs.get(i).filter(|name| !name.is_empty());
        name.map(|_| self.weight(node, i)).transpose()
    }

    /// Operations from maps to maps.
    fn map(&mut self, node: &Node, output: &str) -> Result<(), String> {
        if node.text.get("auto_pad").is_some_and(|pad| pad != "NOTSET" && pad != "VALID") {
            return Err(format!("{} pads by itself", node.what()));
        }
        let pair = |field: &str| node.list(field, [1; 2]);
        let pads = || node.list("pads", [0; 4]);
        let first = node.first()?;
        match &*node.op {
            "Conv" | "FusedConv" => {
                let window = window([1; 2], pair("strides")?, pads()?, pair("dilations")?, false);
                let (weight, bias) = (self.weight(node, 1)?, self.bias(node, 2)?);
                let op = self.builder.conv(weight, bias, window, node.number("group").unwrap_or(1));
                let relu = node.text.get("activation").map(String::as_str);
                match (relu, node.inputs.len()) {
                    (None, 0..=3) => self.builder.node(output, op, &[first]),
                    // ONNX Runtime's: what it has fused.
                    (Some("Relu"), 0..=3) => {
                        let inner = format!("{output}/conv");
                        self.builder.node(&inner, op, &[first])?;
                        self.builder.node(output, Op::Relu, &[&inner])
                    }
                    _ => Err(format!(
                        "{} is fused with more than a ReLU: the file was optimised for one runtime; export it again \
                         without",
                        node.what()
                    )),
                }
            }
            "BatchNormalization" => {
                let weight = |i: usize| Ok::<_, String>(self.builder.weight(self.weight(node, i)?));
                let norm = BatchNorm {
                    gamma: weight(1)?,
                    beta: weight(2)?,
                    mean: weight(3)?,
                    variance: weight(4)?,
                    epsilon: node.float.get("epsilon").copied().unwrap_or(1e-5).into(),
                };
                self.builder.node(output, Op::BatchNorm(Box::new(norm)), &[first])
            }
            "Relu" => self.builder.node(output, Op::Relu, &[first]),
            _ => {
                let ceil = node.number("ceil_mode") == Some(1);
                let window =
                    window(pair("kernel_shape")?, pair("strides")?, pads()?, pair("dilations")?, ceil);
                let kind = match (&*node.op, node.number("count_include_pad")) {
                    ("MaxPool", _) => PoolKind::Max,
                    (_, Some(1)) => PoolKind::AverageWithPadding,
                    _ => PoolKind::Average,
                };
                self.builder.node(output, pool(kind, window), &[first])
            }
        }
    }

    fn linear(&mut self, node: &Node, output: &str) -> Result<(), String> {
        if node.op == "MatMul" {
            let op = self.builder.linear(self.weight(node, 1)?, None, false);
            return self.builder.node(output, op, &[node.first()?]);
        }
        let plain = ["alpha", "beta"].iter().all(|f| node.float.get(*f).is_none_or(|&v| v == 1.0));
        if !plain || node.number("transA").unwrap_or(0) != 0 {
            return Err(format!("{} is no fully connected layer", node.what()));
        }
        let (weight, bias) = (self.weight(node, 1)?, self.bias(node, 2)?);
        let op = self.builder.linear(weight, bias, node.number("transB") == Some(1));
        self.builder.node(output, op, &[node.first()?])
    }

    /// Keeps by what `node` quantises, if that is one scale, or one for each channel, and one byte.
    fn quantized(&mut self, node: &Node, output: &str) {
        let numbers = |i: usize| node.inputs.get(i).and_then(|name| self.small.get(name));
        // One value, or several that are the same.
        let number = |i: usize| match numbers(i).map(Vec::as_slice) {
            Some([first, rest @ ..]) if rest.iter().all(|value| value == first) => Some(*first),
            _ => None,
        };
        let kind = node.inputs.get(2).and_then(|name| self.kinds.get(name)).map(String::as_str);
        let zero = match (kind, number(2), node.inputs.len()) {
            (_, None, 2) => 0.0,
            (Some("u8"), Some(zero), _) => zero,
            // Signed bytes are the same ones from another zero.
            (Some("i8"), Some(zero), _) => zero + 128.0,
            _ => return,
        };
        let scales = match (number(1), numbers(1)) {
            (Some(scale), _) => vec![scale],
            // Along the channels, which is the default.
            (None, Some(scales)) if matches!(node.number("axis"), None | Some(1)) => scales.clone(),
            _ => return,
        };
        if scales.iter().all(|scale| *scale > 0.0 && scale.is_finite()) && (0.0..=255.0).contains(&zero) {
            let scales = scales.into_iter().map(|scale| scale as f32).collect();
            self.builder.quantized(output, (scales, zero as u8));
        }
    }

    /// What computes nothing that counts.
    fn rest(&mut self, node: &Node, output: &str) -> Result<(), String> {
        match &*node.op {
            "Identity" if self.initializers.contains_key(node.first()?) => {
                let key = self.initializers[node.first()?].clone();
                self.initializers.insert(output.to_owned(), key);
                Ok(())
            }
            // Quantised weights are among the tensors already; activations stay what they are.
            "DequantizeLinear" if self.initializers.contains_key(output) => Ok(()),
            // Quantising clamps, so that quantisers leave a ReLU out before it.
            "QuantizeLinear"
                if node.inputs.get(2).is_none_or(|zero| self.least.contains(zero))
                    && self.builder.is_unclamped(node.first()?) =>
            {
                self.builder.node(output, Op::Relu, &[node.first()?])?;
                self.quantized(node, output);
                Ok(())
            }
            "QuantizeLinear" => {
                self.builder.pass(output, node.first()?)?;
                self.quantized(node, output);
                Ok(())
            }
            "Identity" | "Dropout" | "Flatten" | "Reshape" | "Squeeze" | "DequantizeLinear" => {
                self.builder.pass(output, node.first()?)
            }
            // The ends of a network in half precision.
            "Cast" if self.builder.get(node.first()?).is_ok() => self.builder.pass(output, node.first()?),
            // What works out the shape that a reshape is given.
            "Constant" | "Shape" | "Slice" | "Concat" | "Gather" | "Unsqueeze" | "Cast" => Ok(()),
            _ => Err(format!("{}: no network of the family has such an operation", node.what())),
        }
    }

    /// Whether a mean is one over height and width; otherwise what it is over.
    fn global_mean(&self, node: &Node) -> Result<(), String> {
        let axes = node.ints.get("axes").map(|axes| axes.iter().map(|&a| a as i64 as f64).collect());
        let axes = axes.or_else(|| self.small.get(node.inputs.get(1)?).cloned()).unwrap_or_default();
        match &axes[..] {
            [2.0, 3.0] | [-1.0, -2.0] | [-2.0, -1.0] | [3.0, 2.0] => Ok(()),
            axes => Err(format!("{} over {axes:?}", node.what())),
        }
    }

    /// A product with a number, a sum, or the bias of a fully connected layer.
    fn arithmetic(&mut self, node: &Node, output: &str) -> Result<(), String> {
        let what = || node.what();
        let [a, b] = &node.inputs[..] else { return Err(format!("{} has not two inputs", what())) };
        let (value, other) = if self.builder.get(a).is_ok() { (a, b) } else { (b, a) };
        if node.op == "Mul" {
            return match self.small.get(other).map(Vec::as_slice) {
                Some(&[factor]) => self.builder.node(output, scale(factor), &[value]),
                _ => Err(format!("{} by something else than a number", what())),
            };
        }
        let Some(key) = self.initializers.get(other) else {
            return self.builder.node(output, Op::Add { relu: false }, &[a, b]);
        };
        match self.builder.add_bias(value, key)? {
            true => self.builder.pass(output, value),
            false => Err(format!("{} adds `{key}` to no fully connected layer", what())),
        }
    }
}

/// Nodes after those that they read: some tools append theirs at the end. Those of a cycle are in the order
/// of the file.
fn sorted(nodes: &[Node]) -> Vec<&Node> {
    let outputs =
        nodes.iter().enumerate().flat_map(|(i, node)| node.outputs.iter().map(move |name| (name, i)));
    let makers: HashMap<&String, usize> = outputs.collect();
    let mut order = Vec::with_capacity(nodes.len());
    let mut begun = vec![false; nodes.len()];
    for start in 0..nodes.len() {
        // A node, and which of its inputs is next.
        let mut todo = vec![(start, 0)];
        while let Some((i, input)) = todo.pop() {
            if input == 0 && std::mem::replace(&mut begun[i], true) {
                continue;
            }
            match nodes[i].inputs.get(input) {
                Some(name) => {
                    todo.push((i, input + 1));
                    todo.extend(makers.get(name).filter(|&&maker| !begun[maker]).map(|&maker| (maker, 0)));
                }
                None => order.push(&nodes[i]),
            }
        }
    }
    order
}
