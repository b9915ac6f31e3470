//! What a network computes, as a list of operations: for matching it with the graph of a file, and for writing one.

use crate::Network;

/// An operation of a network at inference.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum OutlineOp {
    /// Normalised images, `[batch, 3, height, width]`.
    Input,
    /// A convolution without bias; `layer` is the path of its module, so that `layer.weight` is a tensor's name.
    Conv {
        layer: String,
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
        dilation: [usize; 2],
        groups: usize,
    },
    /// A batch norm with its running statistics.
    Norm { layer: String, epsilon: f64 },
    /// The larger of a value and zero.
    Relu,
    /// The maximum of a window; `ceil` lets the last window hang over the edge.
    MaxPool { kernel: [usize; 2], stride: [usize; 2], padding: [usize; 2], ceil: bool },
    /// The average of a window.
    AveragePool { kernel: [usize; 2], stride: [usize; 2], padding: [usize; 2], count_padding: bool },
    /// Inputs side by side over channels.
    Concat,
    /// The sum of two inputs.
    Add,
    /// The average of each map: `[batch, channels, 1, 1]`.
    GlobalPool,
    /// Every value times a constant.
    Scale(f64),
    /// A fully connected layer of `[batch, inputs]`.
    Linear { layer: String },
}

/// One operation and the indices of what it reads.
#[derive(Clone, Debug, PartialEq)]
pub struct OutlineNode {
    /// What is computed.
    pub op: OutlineOp,
    /// From which nodes, in order.
    pub inputs: Vec<usize>,
}

/// Collects nodes; each method of a layer returns the index of its output.
#[derive(Debug, Default)]
pub(crate) struct Outline(Vec<OutlineNode>);

impl Outline {
    pub fn add(&mut self, op: OutlineOp, inputs: &[usize]) -> usize {
        self.0.push(OutlineNode { op, inputs: inputs.to_vec() });
        self.0.len() - 1
    }
}

impl Network {
    /// The operations of [`forward`](Self::forward), each after what it reads, the last one the logits.
    pub fn outline(&self) -> Vec<OutlineNode> {
        let mut outline = Outline::default();
        let input = outline.add(OutlineOp::Input, &[]);
        let features = match self {
            Self::GoogLeNet(network) => network.outline(input, &mut outline),
            Self::Inception(network) => network.outline(input, &mut outline),
            Self::Xception(network) => network.outline(input, &mut outline),
        };
        self.head().outline("head", features, &mut outline);
        outline.0
    }
}
