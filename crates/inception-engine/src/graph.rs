//! The graph that the passes work on: a list of nodes in topological order, each with one output tensor.
//!
//! Shapes are those of one image; the batch is a property of a run, not of the graph. Activations are pixels by channels
//! (NHWC), weights are `[out][in / groups][height][width]` (OIHW) until they are packed.

use crate::Error;

/// Extent of one image's tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Channels.
    pub channels: usize,
}

impl Shape {
    /// A tensor of `height` by `width` pixels of `channels` floats.
    pub fn new(height: usize, width: usize, channels: usize) -> Self {
        Shape { height, width, channels }
    }

    /// Pixels of one image.
    pub fn pixels(self) -> usize {
        self.height * self.width
    }

    /// Floats of one image.
    pub fn len(self) -> usize {
        self.pixels() * self.channels
    }

    /// Whether there are no elements.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}x{}", self.height, self.width, self.channels)
    }
}

/// The place of a node in [`Graph::nodes`].
pub type NodeId = usize;

/// A sliding window: what convolutions and pools have in common. Each pair is vertical, horizontal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Kernel size.
    pub kernel: [usize; 2],
    /// Step from one output pixel to the next.
    pub stride: [usize; 2],
    /// Padding before (top, left).
    pub pad: [usize; 2],
    /// Padding after (bottom, right).
    pub pad_end: [usize; 2],
    /// Step from one tap to the next.
    pub dilation: [usize; 2],
    /// Round the output size up instead of down (pools).
    pub ceil: bool,
}

impl Window {
    /// A square window without dilation, the same padding on all sides, sizes rounded down.
    pub fn square(kernel: usize, stride: usize, pad: usize) -> Self {
        Window::new([kernel; 2], [stride; 2], [pad; 2])
    }

    /// A window without dilation, symmetric padding, sizes rounded down.
    pub fn new(kernel: [usize; 2], stride: [usize; 2], pad: [usize; 2]) -> Self {
        Window { kernel, stride, pad, pad_end: pad, dilation: [1; 2], ceil: false }
    }

    /// Whether the window is one pixel at a time, unpadded, with step one.
    pub fn is_pointwise(&self) -> bool {
        self.kernel == [1; 2] && self.stride == [1; 2] && self.pad == [0; 2] && self.pad_end == [0; 2]
    }

    /// Output extent along `axis` for an input of `size`, or `None` if the window does not fit.
    fn output(&self, axis: usize, size: usize) -> Option<usize> {
        let reach = self.dilation[axis] * self.kernel[axis].checked_sub(1)? + 1;
        let free = (size + self.pad[axis] + self.pad_end[axis]).checked_sub(reach)?;
        let stride = self.stride[axis];
        if stride == 0 || self.dilation[axis] == 0 {
            return None;
        }
        if !self.ceil {
            return Some(free / stride + 1);
        }
        let out = free.div_ceil(stride) + 1;
        // As in PyTorch: the last window has to start inside the input or the padding before it.
        Some(if (out - 1) * stride >= size + self.pad[axis] { out - 1 } else { out })
    }
}

/// A convolution with everything that has been fused into it:
/// `y = relu?(conv(relu?(x)) + bias [+ residual])`, the residual being the node's second input.
#[derive(Clone, Debug)]
pub struct Conv {
    /// `[out][in / groups][height][width]`
    pub weight: Vec<f32>,
    /// One per output channel.
    pub bias: Vec<f32>,
    /// Output channels.
    pub out_channels: usize,
    /// Groups; equal to the channels in and out for a depthwise convolution.
    pub groups: usize,
    /// Kernel, stride, padding, dilation.
    pub window: Window,
    /// Clamp the input at zero.
    pub input_relu: bool,
    /// Clamp the output at zero.
    pub relu: bool,
}

impl Conv {
    /// Whether each output channel reads just the input channel of the same number.
    pub fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.out_channels && self.weight.len() == self.groups * self.taps()
    }

    /// Kernel taps.
    pub fn taps(&self) -> usize {
        self.window.kernel[0] * self.window.kernel[1]
    }

    /// Input channels.
    pub fn in_channels(&self) -> usize {
        self.weight.len() * self.groups / (self.out_channels * self.taps()).max(1)
    }
}

/// How a pool combines a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    /// Maximum; padding does not take part.
    Max,
    /// Mean of the pixels inside the input.
    Average,
    /// Mean of the window with the padding counted as zeros.
    AverageWithPadding,
}

/// A pool with what has been fused into it: `y = relu?(pool(x) + bias)`.
#[derive(Clone, Debug)]
pub struct Pool {
    /// Maximum or mean.
    pub kind: PoolKind,
    /// Kernel, stride, padding.
    pub window: Window,
    /// One per channel, or empty.
    pub bias: Vec<f32>,
    /// Clamp the output at zero.
    pub relu: bool,
}

/// What a node computes.
#[derive(Clone, Debug)]
pub enum Op {
    /// The image, stored with `pad` zeros before and `pad_end` after, vertically and horizontally.
    Input {
        /// Top, left.
        pad: [usize; 2],
        /// Bottom, right.
        pad_end: [usize; 2],
        /// So many rows, and columns, become one: their pixels' channels lie side by side.
        phases: usize,
    },
    /// A convolution; a fully connected layer is one over a whole map. Inputs: x and, optionally, the residual.
    Conv(Box<Conv>),
    /// A pool. A global average pool is one whose window is the map.
    Pool(Box<Pool>),
    /// Channels side by side.
    Concat,
    /// Elementwise sum of two tensors, then ReLU if asked.
    Add {
        /// Clamp the sum at zero.
        relu: bool,
    },
    /// Clamp at zero.
    Relu,
    /// `x * scale + shift` for each channel: batch norm at inference, in f64 until it is folded.
    Affine {
        /// One per channel.
        scale: Vec<f64>,
        /// One per channel.
        shift: Vec<f64>,
    },
    /// The image's floats in channel, row, column order as the channels of one pixel.
    Flatten,
}

impl Op {
    /// Name for `explain` and errors.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Input { .. } => "input",
            Op::Conv(c) if c.is_depthwise() => "depthwise",
            Op::Conv(_) => "conv",
            Op::Pool(p) if p.kind == PoolKind::Max => "max_pool",
            Op::Pool(_) => "average_pool",
            Op::Concat => "concat",
            Op::Add { .. } => "add",
            Op::Relu => "relu",
            Op::Affine { .. } => "affine",
            Op::Flatten => "flatten",
        }
    }
}

/// One operation and its output tensor.
#[derive(Clone, Debug)]
pub struct Node {
    /// For people: the module path or a number.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// The nodes whose outputs it reads.
    pub inputs: Vec<NodeId>,
    /// Its output.
    pub shape: Shape,
}

impl Node {
    fn error(&self, reason: impl Into<String>) -> Error {
        Error::Graph { node: self.name.clone(), op: self.op.name(), reason: reason.into() }
    }

    /// Multiply-adds for one image.
    pub fn macs(&self) -> u64 {
        match &self.op {
            Op::Conv(c) => (self.shape.pixels() * c.weight.len()) as u64,
            _ => 0,
        }
    }
}

/// A network with one input and one output.
#[derive(Clone, Debug)]
pub struct Graph {
    /// In topological order: a node reads only nodes before it. The first is the input.
    pub nodes: Vec<Node>,
    /// The node whose output is the network's.
    pub output: NodeId,
}

impl Graph {
    /// A graph that returns its input, an image of `shape`.
    pub fn new(shape: Shape) -> Self {
        let op = Op::Input { pad: [0; 2], pad_end: [0; 2], phases: 1 };
        Graph { nodes: vec![Node { name: "input".into(), op, inputs: vec![], shape }], output: 0 }
    }

    /// Appends a node, infers its shape, and makes it the output.
    ///
    /// # Errors
    /// [`Error::Graph`] if the inputs do not fit the operation.
    pub fn add(&mut self, name: impl Into<String>, op: Op, inputs: &[NodeId]) -> Result<NodeId, Error> {
        let shape = Shape::new(0, 0, 0);
        let mut node = Node { name: name.into(), op, inputs: inputs.to_vec(), shape };
        node.shape = self.infer(&node, self.nodes.len())?;
        self.nodes.push(node);
        self.output = self.nodes.len() - 1;
        Ok(self.output)
    }

    /// The shape that `node` would have as node number `id`.
    fn infer(&self, node: &Node, id: NodeId) -> Result<Shape, Error> {
        if let Some(bad) = node.inputs.iter().find(|&&input| input >= id) {
            return Err(node.error(format!("reads node {bad}, which does not come before it")));
        }
        let shapes: Vec<Shape> = node.inputs.iter().map(|&i| self.nodes[i].shape).collect();
        let count = |wanted: std::ops::RangeInclusive<usize>| {
            if wanted.contains(&shapes.len()) {
                Ok(())
            } else {
                Err(node.error(format!("has {} inputs, wants {wanted:?}", shapes.len())))
            }
        };
        let slide = |window: &Window, channels: usize| {
            let extent = |axis, size| {
                window.output(axis, size).ok_or_else(|| {
                    node.error(format!("window {:?} does not fit an input of {}", window.kernel, shapes[0]))
                })
            };
            Ok(Shape::new(extent(0, shapes[0].height)?, extent(1, shapes[0].width)?, channels))
        };
        match &node.op {
            Op::Input { .. } => {
                count(0..=0)?;
                Ok(node.shape)
            }
            Op::Conv(c) => {
                count(1..=2)?;
                let channels = shapes[0].channels;
                let fits = c.groups > 0
                    && channels.is_multiple_of(c.groups)
                    && c.out_channels > 0
                    && c.out_channels.is_multiple_of(c.groups)
                    && c.weight.len() == c.out_channels * (channels / c.groups) * c.taps();
                if !fits {
                    return Err(node.error(format!(
                        "{} weights do not fit {channels} channels in, {} out, {} groups, kernel {:?}",
                        c.weight.len(),
                        c.out_channels,
                        c.groups,
                        c.window.kernel
                    )));
                }
                if c.bias.len() != c.out_channels {
                    return Err(node.error(format!(
                        "{} biases for {} channels",
                        c.bias.len(),
                        c.out_channels
                    )));
                }
                let shape = slide(&c.window, c.out_channels)?;
                match shapes.get(1) {
                    Some(&residual) if residual != shape => {
                        Err(node.error(format!("adds a residual of {residual} to an output of {shape}")))
                    }
                    _ => Ok(shape),
                }
            }
            Op::Pool(p) => {
                count(1..=1)?;
                if !p.bias.is_empty() && p.bias.len() != shapes[0].channels {
                    return Err(node.error(format!(
                        "{} biases for {} channels",
                        p.bias.len(),
                        shapes[0].channels
                    )));
                }
                if p.window.dilation != [1; 2] {
                    return Err(node.error("dilated pools are not supported"));
                }
                slide(&p.window, shapes[0].channels)
            }
            Op::Concat => {
                let Some(first) = shapes.first() else {
                    return Err(node.error("concatenates nothing"));
                };
                if let Some(other) =
                    shapes.iter().find(|s| (s.height, s.width) != (first.height, first.width))
                {
                    return Err(node.error(format!("concatenates {first} and {other}")));
                }
                Ok(Shape { channels: shapes.iter().map(|s| s.channels).sum(), ..*first })
            }
            Op::Add { .. } => {
                count(2..=2)?;
                if shapes[0] != shapes[1] {
                    return Err(node.error(format!("adds {} and {}", shapes[0], shapes[1])));
                }
                Ok(shapes[0])
            }
            Op::Relu => {
                count(1..=1)?;
                Ok(shapes[0])
            }
            Op::Affine { scale, shift } => {
                count(1..=1)?;
                if scale.len() != shapes[0].channels || shift.len() != shapes[0].channels {
                    return Err(node.error(format!(
                        "{} scales for {} channels",
                        scale.len(),
                        shapes[0].channels
                    )));
                }
                Ok(shapes[0])
            }
            Op::Flatten => {
                count(1..=1)?;
                Ok(Shape::new(1, 1, shapes[0].len()))
            }
        }
    }

    /// Checks the whole graph: order, shapes, one input at the front.
    ///
    /// # Errors
    /// [`Error::Graph`] naming the first node that breaks a rule.
    pub fn verify(&self) -> Result<(), Error> {
        for (id, node) in self.nodes.iter().enumerate() {
            if matches!(node.op, Op::Input { .. }) != (id == 0) {
                return Err(node.error("the first node, and no other, is the input"));
            }
            let shape = self.infer(node, id)?;
            if shape != node.shape {
                return Err(node.error(format!("is recorded as {}, computes {shape}", node.shape)));
            }
            if shape.is_empty() {
                return Err(node.error("has an empty output"));
            }
        }
        match self.nodes.get(self.output) {
            Some(_) => Ok(()),
            None => Err(self.nodes[0].error(format!("the output, node {}, does not exist", self.output))),
        }
    }

    /// The nodes that read each node.
    pub fn consumers(&self) -> Vec<Vec<NodeId>> {
        let mut consumers = vec![Vec::new(); self.nodes.len()];
        for (id, node) in self.nodes.iter().enumerate() {
            for &input in &node.inputs {
                consumers[input].push(id);
            }
        }
        consumers
    }

    /// Makes every reader of `old` read `new`.
    pub fn redirect(&mut self, old: NodeId, new: NodeId) {
        for node in &mut self.nodes {
            for input in &mut node.inputs {
                if *input == old {
                    *input = new;
                }
            }
        }
        if self.output == old {
            self.output = new;
        }
    }

    /// Removes the nodes that the output does not depend on (the input stays) and renumbers the rest.
    pub fn prune(&mut self) {
        let mut live = vec![false; self.nodes.len()];
        live[0] = true;
        live[self.output] = true;
        for id in (0..self.nodes.len()).rev() {
            if live[id] {
                for &input in &self.nodes[id].inputs {
                    live[input] = true;
                }
            }
        }
        let mut renumbered = vec![usize::MAX; self.nodes.len()];
        let mut kept = Vec::with_capacity(self.nodes.len());
        for (id, mut node) in std::mem::take(&mut self.nodes).into_iter().enumerate() {
            if live[id] {
                renumbered[id] = kept.len();
                for input in &mut node.inputs {
                    *input = renumbered[*input];
                }
                kept.push(node);
            }
        }
        self.nodes = kept;
        self.output = renumbered[self.output];
    }
}
