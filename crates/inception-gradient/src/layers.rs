//! Nodes of a graph with what training needs of them.

use std::collections::{BTreeMap, HashSet};

use inception_graph::{BatchNorm, Conv, Graph, Node, NodeId, Op, Parameter, PoolKind, Shape, Window};

use crate::conv::{Convolution, Matrix};
use crate::error::Error;
use crate::memory::View;
use crate::places::{Places, is_fused};
use crate::pool::Pooling;
use crate::window::{Phase, backward, forward};

/// A tensor of a graph.
#[derive(Debug)]
pub(crate) struct Tensor {
    pub parameter: Parameter,
    pub trainable: bool,
    pub values: Vec<f32>,
    pub gradient: Vec<f32>,
}

/// A convolution of one group, or a fully connected layer.
#[derive(Debug)]
pub(crate) struct ConvLayer<T> {
    pub convolution: Convolution,
    pub weight: usize,
    pub bias: Option<usize>,
    /// Packed for the output, and for the gradient of the input.
    pub packed: Vec<T>,
    pub packed_back: Vec<T>,
}

/// A depthwise convolution.
#[derive(Debug)]
pub(crate) struct DepthwiseLayer<T> {
    pub weight: usize,
    pub bias: Option<usize>,
    pub forward: Phase,
    pub backward: Vec<Phase>,
    /// A row of channels for each tap.
    pub packed: Vec<T>,
}

/// A batch norm, with the ReLU after it.
#[derive(Debug)]
pub(crate) struct NormLayer<T> {
    pub gamma: usize,
    pub beta: usize,
    pub mean: usize,
    pub variance: usize,
    pub epsilon: f64,
    pub relu: bool,
    /// Of the batch at hand, for each channel.
    pub batch: BatchStatistics<T>,
}

/// What a norm knows of a batch.
#[derive(Debug, Default)]
pub(crate) struct BatchStatistics<T> {
    pub mean: Vec<f64>,
    /// `1 / sqrt(variance + epsilon)`
    pub inverse: Vec<f64>,
    /// What the input is multiplied by, and what is added then.
    pub scale: Vec<T>,
    pub shift: Vec<T>,
}

/// A node.
#[derive(Debug)]
pub(crate) enum Layer<T> {
    Input,
    Conv(Box<ConvLayer<T>>),
    Depthwise(Box<DepthwiseLayer<T>>),
    Norm(Box<NormLayer<T>>),
    Bias(usize),
    Scale {
        scale: f64,
        shift: f64,
    },
    Dropout {
        probability: f64,
        /// What values are multiplied by that are not dropped.
        factor: f64,
        mask: Vec<T>,
    },
    Pool {
        pooling: Box<Pooling>,
        chosen: Vec<u8>,
    },
    Concat,
    Add,
    Relu,
    /// A ReLU that the norm before it computes.
    Fused,
    Flatten,
}

/// Builds layers.
pub(crate) struct Builder<'a> {
    pub graph: &'a Graph<Parameter>,
    pub consumers: Vec<Vec<NodeId>>,
    pub outputs: &'a Places,
    pub gradients: &'a Places,
    pub dropout: &'a BTreeMap<NodeId, f64>,
    /// Whether the padding of the images is in their buffer.
    pub is_padded: bool,
    /// Those of the layers so far, and their names.
    pub tensors: Vec<Tensor>,
    pub known: HashSet<String>,
}

impl Builder<'_> {
    /// The layer of the node number `id`.
    pub fn layer<T: Default + Clone>(&mut self, id: NodeId) -> Result<Layer<T>, Error> {
        let graph = self.graph;
        let node = &graph.nodes[id];
        let refuse = |reason| Err(Error::unsupported(node, reason));
        let input: Option<View> = node.inputs.first().map(|&input| self.outputs.views[input]);
        let pool = |kind, window: &Window, input: Shape| Layer::Pool {
            pooling: Box::new(Pooling::new(kind, window, input, node.shape)),
            chosen: Vec::new(),
        };
        match (&node.op, input) {
            (Op::Input { .. }, _) => Ok(Layer::Input),
            (_, None) => refuse("it reads nothing"),
            (Op::Conv(conv), Some(view)) => self.convolution(id, conv, view),
            (Op::Linear(linear), Some(view)) => {
                let weight = self.parameter(node, &linear.weight, true)?;
                let bias = linear.bias.as_ref().map(|bias| self.parameter(node, bias, true)).transpose()?;
                let matrix = Matrix {
                    taps: 1,
                    inputs: view.shape.channels,
                    outputs: linear.out_features,
                    outputs_first: linear.transposed,
                };
                Ok(self.conv(id, matrix, &Window::square(1, 1, 0), view, (weight, bias)))
            }
            (Op::BatchNorm(norm), Some(_)) => self.norm(id, norm),
            (Op::Bias(bias), Some(_)) => Ok(Layer::Bias(self.parameter(node, bias, true)?)),
            (&Op::Scale { scale, shift }, Some(_)) => Ok(match self.dropout.get(&id) {
                // Inference multiplies by the mean of what training multiplies by.
                Some(&probability) => {
                    Layer::Dropout { probability, factor: scale / (1.0 - probability), mask: Vec::new() }
                }
                None => Layer::Scale { scale, shift },
            }),
            (Op::Pool(p), Some(view)) => match p {
                _ if p.relu || p.bias.is_some() => refuse("it has been fused with others"),
                _ if p.kind == PoolKind::Max && p.window.kernel.iter().product::<usize>() > 256 => {
                    refuse("its window is too large")
                }
                _ => Ok(pool(p.kind, &p.window, view.shape)),
            },
            (Op::GlobalAveragePool, Some(view)) => {
                let window = Window::new(view.shape.size(), [1; 2], [0; 2]);
                Ok(pool(PoolKind::Average, &window, view.shape))
            }
            (Op::Concat, Some(_)) => Ok(Layer::Concat),
            (Op::Add { relu: false }, Some(_)) => Ok(Layer::Add),
            (Op::Relu, Some(_)) => Ok(match is_fused(graph, &self.consumers, id) {
                true => Layer::Fused,
                false => Layer::Relu,
            }),
            (Op::Flatten, Some(_)) => Ok(Layer::Flatten),
            (Op::Add { relu: true } | Op::Affine { .. }, _) => refuse("it has been fused with others"),
        }
    }

    fn parameter(
        &mut self,
        node: &Node<Parameter>,
        parameter: &Parameter,
        trainable: bool,
    ) -> Result<usize, Error> {
        if !self.known.insert(parameter.name.clone()) {
            return Err(Error::unsupported(node, "another node has the same weights"));
        }
        let len = parameter.shape.iter().product();
        let gradient = if trainable { vec![0.0; len] } else { Vec::new() };
        self.tensors.push(Tensor {
            parameter: parameter.clone(),
            trainable,
            values: vec![0.0; len],
            gradient,
        });
        Ok(self.tensors.len() - 1)
    }

    fn convolution<T>(&mut self, id: NodeId, conv: &Conv<Parameter>, input: View) -> Result<Layer<T>, Error> {
        let node = &self.graph.nodes[id];
        if conv.relu || conv.input_relu || node.inputs.len() > 1 {
            return Err(Error::unsupported(node, "it has been fused with others"));
        }
        let weight = self.parameter(node, &conv.weight, true)?;
        let bias = conv.bias.as_ref().map(|bias| self.parameter(node, bias, true)).transpose()?;
        let window = match node.inputs[0] {
            0 if self.is_padded => Window { pad: [0; 2], pad_end: [0; 2], ..conv.window },
            _ => conv.window,
        };
        if conv.is_depthwise() {
            return Ok(Layer::Depthwise(Box::new(DepthwiseLayer {
                weight,
                bias,
                forward: forward(&window, input.shape, node.shape),
                backward: backward(&window, input.shape, node.shape),
                packed: Vec::new(),
            })));
        }
        if conv.groups != 1 {
            return Err(Error::unsupported(node, "it has groups"));
        }
        let (inputs, outputs) = (conv.in_channels(), conv.out_channels);
        let matrix = Matrix { taps: conv.taps(), inputs, outputs, outputs_first: true };
        Ok(self.conv(id, matrix, &window, input, (weight, bias)))
    }

    fn norm<T: Default>(&mut self, id: NodeId, norm: &BatchNorm<Parameter>) -> Result<Layer<T>, Error> {
        let node = &self.graph.nodes[id];
        let relu = self.consumers[id].first();
        let relu = relu.is_some_and(|&relu| is_fused(self.graph, &self.consumers, relu));
        let gamma = self.parameter(node, &norm.gamma, true)?;
        let beta = self.parameter(node, &norm.beta, true)?;
        let mean = self.parameter(node, &norm.mean, false)?;
        let variance = self.parameter(node, &norm.variance, false)?;
        let (epsilon, batch) = (norm.epsilon, BatchStatistics::default());
        Ok(Layer::Norm(Box::new(NormLayer { gamma, beta, mean, variance, epsilon, relu, batch })))
    }

    fn conv<T>(
        &self,
        id: NodeId,
        matrix: Matrix,
        window: &Window,
        input: View,
        (weight, bias): (usize, Option<usize>),
    ) -> Layer<T> {
        // The gradient of the output lies where the gradients are.
        let output = (self.graph.nodes[id].shape, self.gradients.views[id].stride);
        let convolution = Convolution::new(matrix, window, (input.shape, input.stride), output);
        let (packed, packed_back) = (Vec::new(), Vec::new());
        Layer::Conv(Box::new(ConvLayer { convolution, weight, bias, packed, packed_back }))
    }
}
