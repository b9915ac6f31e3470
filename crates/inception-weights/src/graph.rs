//! Collects the operations of a file that has some: ONNX, Paddle's inference pair.

use std::collections::{BTreeMap, HashMap};

use inception_graph::{Conv, Graph, Linear, NodeId, Op, Parameter, Pool, PoolKind, Shape, Window};

use crate::entry::Entry;

/// Scales of a tensor, one or one for each channel, and its zero point.
pub(crate) type TensorScales = (Vec<f32>, u8);

/// A graph, and scales and zero point of its nodes' tensors.
pub(crate) type QuantizedGraph = (Graph<Parameter>, BTreeMap<NodeId, TensorScales>);

/// Collects a file's operations, which name what they read. Weights are named by the keys of the file, with
/// its shapes; nothing is inferred or checked of how they fit.
pub(crate) struct Builder<'a> {
    graph: Graph<Parameter>,
    /// The node that makes a value; values that are only passed on have their source's.
    values: HashMap<String, NodeId>,
    shapes: HashMap<&'a str, &'a [usize]>,
    /// Scales and zero point of the tensors that the file quantises.
    quants: BTreeMap<NodeId, TensorScales>,
}

/// Numbers of a file; those that no memory could hold are all the same to us.
fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// A window; `pads` are top, left, bottom, right.
pub(crate) fn window(
    kernel: [u64; 2],
    stride: [u64; 2],
    pads: [u64; 4],
    dilation: [u64; 2],
    ceil: bool,
) -> Window {
    let [top, left, bottom, right] = pads.map(size);
    Window {
        kernel: kernel.map(size),
        stride: stride.map(size),
        pad: [top, left],
        pad_end: [bottom, right],
        dilation: dilation.map(size),
        ceil,
        same: false,
    }
}

pub(crate) fn pool(kind: PoolKind, window: Window) -> Op<Parameter> {
    Op::Pool(Box::new(Pool { kind, window, bias: None, relu: false }))
}

pub(crate) fn scale(scale: f64) -> Op<Parameter> {
    Op::Scale { scale, shift: 0.0 }
}

impl<'a> Builder<'a> {
    pub fn new(entries: &'a [Entry]) -> Self {
        let shapes = entries.iter().map(|entry| (entry.key.as_str(), entry.shape.as_slice())).collect();
        Self { graph: Graph::new(Shape::default()), values: HashMap::new(), shapes, quants: BTreeMap::new() }
    }

    /// The image.
    pub fn input(&mut self, name: &str) -> Result<(), String> {
        if let Some((first, _)) = self.values.iter().find(|(_, node)| **node == 0) {
            return Err(format!("`{first}` and `{name}` are two inputs"));
        }
        name.clone_into(&mut self.graph.nodes[0].name);
        self.values.insert(name.to_owned(), 0);
        Ok(())
    }

    /// That `name` is the image, too: in a form that its preprocessing stands for.
    pub fn input_too(&mut self, name: &str) -> Result<(), String> {
        self.values.insert(name.to_owned(), 0);
        Ok(())
    }

    /// Whether a value is that of an operation before a ReLU, which may be negative.
    pub fn is_unclamped(&self, name: &str) -> bool {
        let node = self.values.get(name).and_then(|&node| self.graph.nodes.get(node));
        let may_be = |op: &Op<Parameter>| matches!(op, Op::Conv(_) | Op::BatchNorm(_) | Op::Add { .. });
        node.is_some_and(|node| match &node.op {
            // The ReLU of the whole may have been left out, too.
            Op::Concat => node.inputs.iter().any(|&input| may_be(&self.graph.nodes[input].op)),
            op => may_be(op),
        })
    }

    pub fn node(&mut self, name: &str, op: Op<Parameter>, inputs: &[&str]) -> Result<(), String> {
        let inputs = inputs.iter().map(|&i| self.get(i)).collect::<Result<Vec<_>, _>>()?;
        let node = inception_graph::Node { name: name.to_owned(), op, inputs, shape: Shape::default() };
        self.graph.nodes.push(node);
        self.values.insert(name.to_owned(), self.graph.nodes.len() - 1);
        Ok(())
    }

    /// The node behind a value.
    pub fn get(&self, name: &str) -> Result<NodeId, String> {
        self.values.get(name).copied().ok_or_else(|| format!("`{name}` is read before anything makes it"))
    }

    /// That `name` is what `input` is.
    pub fn pass(&mut self, name: &str, input: &str) -> Result<(), String> {
        let node = self.get(input)?;
        self.values.insert(name.to_owned(), node);
        Ok(())
    }

    pub fn weight(&self, key: String) -> Parameter {
        let shape = self.shapes.get(key.as_str()).map_or(Vec::new(), |shape| shape.to_vec());
        Parameter { name: key, shape }
    }

    /// A convolution; its kernel and channels are those of the weight, and the kernel of `window` is not
    /// used.
    pub fn conv(&self, weight: String, bias: Option<String>, window: Window, groups: u64) -> Op<Parameter> {
        let weight = self.weight(weight);
        let (out_channels, kernel) = match weight.shape[..] {
            [out, _, height, width] => (out, [height, width]),
            _ => (0, [0; 2]),
        };
        Op::Conv(Box::new(Conv {
            bias: bias.map(|bias| self.weight(bias)),
            out_channels,
            groups: size(groups),
            ..Conv::new(weight, Window { kernel, ..window })
        }))
    }

    /// A fully connected layer; `transposed`: the weight is `[outputs, inputs]`.
    pub fn linear(&self, weight: String, bias: Option<String>, transposed: bool) -> Op<Parameter> {
        let (weight, bias) = (self.weight(weight), bias.map(|bias| self.weight(bias)));
        let out_features = weight.shape.get(usize::from(!transposed)).copied().unwrap_or(0);
        Op::Linear(Box::new(Linear { weight, bias, out_features, transposed }))
    }

    /// Gives the fully connected layer that makes `value` the bias `key`; whether it is one without bias.
    pub fn add_bias(&mut self, value: &str, key: &str) -> Result<bool, String> {
        let layer = self.get(value)?;
        let bias = self.weight(key.to_owned());
        match &mut self.graph.nodes[layer].op {
            Op::Linear(linear) if linear.bias.is_none() => {
                linear.bias = Some(bias);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// That the tensor behind `value` is quantised so. Of several ways the first counts.
    pub fn quantized(&mut self, value: &str, quant: TensorScales) {
        if let Some(&node) = self.values.get(value) {
            self.quants.entry(node).or_insert(quant);
        }
    }

    /// The graph; scale and zero point of the tensors that the file quantises, those of a ReLU for what only the ReLU
    /// reads.
    pub fn finish_quantized(mut self, output: &str) -> Result<QuantizedGraph, String> {
        self.graph.output = self.get(output)?;
        let consumers = self.graph.consumers();
        for (id, readers) in consumers.iter().enumerate() {
            if let [reader] = readers[..]
                && matches!(self.graph.nodes[reader].op, Op::Relu)
                && let Some(quant) = self.quants.get(&reader).cloned()
            {
                self.quants.entry(id).or_insert(quant);
            }
        }
        Ok((self.graph, self.quants))
    }

    /// The graph.
    pub fn finish(self, output: &str) -> Result<Graph<Parameter>, String> {
        Ok(self.finish_quantized(output)?.0)
    }
}
