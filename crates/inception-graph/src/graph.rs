//! A list of nodes in topological order, each with one output tensor.
//!
//! Shapes are those of one image; the batch is a property of a run, not of the graph. Activations are pixels
//! by channels (NHWC), weights of convolutions `[out][in / groups][height][width]` (OIHW).

use std::ops::RangeInclusive;

use crate::{Conv, Error, Op, Weight, Window};

/// Extent of one image's tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

    /// `[height, width]`
    pub fn size(self) -> [usize; 2] {
        [self.height, self.width]
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

/// One operation and its output tensor.
#[derive(Clone, Debug)]
pub struct Node<W = Vec<f32>> {
    /// The path of the module that owns the weights, what a file calls the output, or the operation and a
    /// number.
    pub name: String,
    /// What it computes.
    pub op: Op<W>,
    /// The nodes whose outputs it reads.
    pub inputs: Vec<NodeId>,
    /// Its output; of no extent until it is [inferred](Graph::infer_shapes).
    pub shape: Shape,
}

impl<W: Weight> Node<W> {
    pub(crate) fn error(&self, reason: impl Into<String>) -> Error {
        Error::Graph { node: self.name.clone(), op: self.op.name(), reason: reason.into() }
    }

    /// Multiply-adds for one image: those of convolutions and fully connected layers, as is published.
    pub fn macs(&self) -> u64 {
        match &self.op {
            Op::Conv(c) => (self.shape.pixels() * c.weight.len()) as u64,
            Op::Linear(l) => l.weight.len() as u64,
            _ => 0,
        }
    }
}

/// A network with one input and one output.
#[derive(Clone, Debug)]
pub struct Graph<W = Vec<f32>> {
    /// In topological order: a node reads only nodes before it. The first is the input.
    pub nodes: Vec<Node<W>>,
    /// The node whose output is the network's.
    pub output: NodeId,
}

impl<W: Weight> Graph<W> {
    /// A graph that returns its input, an image of `shape`.
    pub fn new(shape: Shape) -> Self {
        let op = Op::Input { pad: [0; 2], pad_end: [0; 2], block: 1 };
        Graph { nodes: vec![Node { name: "input".into(), op, inputs: vec![], shape }], output: 0 }
    }

    /// Appends a node, infers its shape, and makes it the output.
    ///
    /// # Errors
    ///
    /// [`Error::Graph`] if the inputs do not fit the operation.
    pub fn add(&mut self, name: impl Into<String>, op: Op<W>, inputs: &[NodeId]) -> Result<NodeId, Error> {
        let mut node = Node { name: name.into(), op, inputs: inputs.to_vec(), shape: Shape::default() };
        node.shape = self.infer(&node, self.nodes.len())?;
        self.nodes.push(node);
        self.output = self.nodes.len() - 1;
        Ok(self.output)
    }

    /// The shape that `node` would have as node number `id`.
    fn infer(&self, node: &Node<W>, id: NodeId) -> Result<Shape, Error> {
        if let Some(bad) = node.inputs.iter().find(|&&input| input >= id) {
            return Err(node.error(format!("reads node {bad}, which does not come before it")));
        }
        let shapes: Vec<Shape> = node.inputs.iter().map(|&i| self.nodes[i].shape).collect();
        check_inputs(node, &shapes)?;
        check_channels(node, &shapes)?;
        let shape = self.output_shape(node, &shapes)?;
        let Shape { height, width, channels } = shape;
        let len = height.checked_mul(width).and_then(|pixels| pixels.checked_mul(channels));
        match len.is_some_and(|len| len <= LARGEST) {
            true => Ok(shape),
            false => Err(node.error(format!("has an output of {shape}, which no memory holds"))),
        }
    }

    /// The shape of a node whose inputs are of `shapes`.
    fn output_shape(&self, node: &Node<W>, shapes: &[Shape]) -> Result<Shape, Error> {
        match &node.op {
            Op::Input { .. } => Ok(node.shape),
            Op::Conv(c) => conv_shape(node, c, shapes),
            Op::Linear(l) => {
                let inputs = shapes[0];
                let weights = inputs.channels.checked_mul(l.out_features);
                if inputs.pixels() != 1 || weights != Some(l.weight.len()) {
                    let (len, out) = (l.weight.len(), l.out_features);
                    return Err(node.error(format!("{len} weights do not fit {inputs} in, {out} out")));
                }
                Ok(Shape::new(1, 1, l.out_features))
            }
            Op::Pool(p) if p.window.dilation != [1; 2] => Err(node.error("dilated pools are not supported")),
            Op::Pool(p) if p.window.lies_in_padding() => Err(node.error("a window lies in the padding")),
            Op::Pool(p) => slide(node, &p.window, shapes[0], shapes[0].channels),
            Op::GlobalAveragePool => Ok(Shape::new(1, 1, shapes[0].channels)),
            Op::Concat => {
                let first = shapes[0];
                match shapes.iter().find(|s| s.size() != first.size()) {
                    Some(other) => Err(node.error(format!("concatenates {first} and {other}"))),
                    None => {
                        let channels = shapes.iter().fold(0, |sum: usize, s| sum.saturating_add(s.channels));
                        Ok(Shape { channels, ..first })
                    }
                }
            }
            Op::Add { .. } if shapes[0] != shapes[1] => {
                Err(node.error(format!("adds {} and {}", shapes[0], shapes[1])))
            }
            Op::Flatten => Ok(Shape::new(1, 1, shapes[0].len())),
            Op::Add { .. }
            | Op::Relu
            | Op::Scale { .. }
            | Op::BatchNorm(_)
            | Op::Bias(_)
            | Op::Affine { .. } => Ok(shapes[0]),
        }
    }

    /// Sets every shape anew, for images of `[height, width]` with as many channels as now.
    ///
    /// # Errors
    ///
    /// [`Error::Graph`] naming the first node that the size does not fit.
    pub fn infer_shapes(&mut self, [height, width]: [usize; 2]) -> Result<(), Error> {
        let input = self.nodes.first_mut().ok_or_else(no_nodes)?;
        (input.shape.height, input.shape.width) = (height, width);
        for id in 0..self.nodes.len() {
            let before = self.nodes[id].inputs.first().and_then(|&input| self.nodes.get(input));
            let size = before.map(|node| node.shape.size());
            if let (Op::Pool(pool), Some(size)) = (&mut self.nodes[id].op, size)
                && pool.window.same
            {
                pool.window.set_same(size);
            }
            let shape = self.infer(&self.nodes[id], id)?;
            if shape.is_empty() {
                return Err(self.nodes[id].error("has an empty output"));
            }
            self.nodes[id].shape = shape;
        }
        Ok(())
    }

    /// Checks the whole graph: order, shapes, one input at the front.
    ///
    /// # Errors
    ///
    /// [`Error::Graph`] naming the first node that breaks a rule.
    pub fn verify(&self) -> Result<(), Error> {
        let first = self.nodes.first().ok_or_else(no_nodes)?;
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
            None => Err(first.error(format!("the output, node {}, does not exist", self.output))),
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
        for input in self.nodes.iter_mut().flat_map(|node| &mut node.inputs) {
            if *input == old {
                *input = new;
            }
        }
        if self.output == old {
            self.output = new;
        }
    }

    /// The operation of a node that nothing reads any more, to be used elsewhere.
    pub(crate) fn take(&mut self, id: NodeId) -> Op<W> {
        std::mem::replace(&mut self.nodes[id].op, Op::Relu)
    }

    /// Removes the nodes that the output does not depend on (the input stays) and renumbers the rest; returns
    /// the numbers that those had.
    pub fn prune(&mut self) -> Vec<NodeId> {
        let mut live = vec![false; self.nodes.len()];
        live[0] = true;
        live[self.output] = true;
        for id in (0..self.nodes.len()).rev() {
            if live[id] {
                self.nodes[id].inputs.iter().for_each(|&input| live[input] = true);
            }
        }
        let mut renumbered = vec![usize::MAX; self.nodes.len()];
        let mut kept = Vec::with_capacity(self.nodes.len());
        for (id, mut node) in std::mem::take(&mut self.nodes).into_iter().enumerate() {
            if live[id] {
                renumbered[id] = kept.len();
                node.inputs.iter_mut().for_each(|input| *input = renumbered[*input]);
                kept.push(node);
            }
        }
        self.nodes = kept;
        self.output = renumbered[self.output];
        (0..live.len()).filter(|&id| live[id]).collect()
    }

    /// The same graph with other weights: their values for their names, for example.
    ///
    /// # Errors
    ///
    /// The first error of `map`.
    pub fn map_weights<V: Weight, E>(self, mut map: impl FnMut(W) -> Result<V, E>) -> Result<Graph<V>, E> {
        let nodes = self.nodes.into_iter().map(|Node { name, op, inputs, shape }| {
            Ok(Node { name, op: op.map_weights(&mut map)?, inputs, shape })
        });
        Ok(Graph { nodes: nodes.collect::<Result<_, E>>()?, output: self.output })
    }
}

/// The error of a graph without nodes.
fn no_nodes() -> Error {
    Error::Graph { node: "input".into(), op: "input", reason: "does not exist: there are no nodes".into() }
}

/// The most floats of a tensor, and the most taps of a window: more than any memory holds, and so few that
/// their products with what a runtime multiplies them by fit a `usize`.
const LARGEST: usize = usize::MAX >> if usize::BITS > 32 { 24 } else { 4 };

/// That a node reads as many tensors as its operation does.
fn check_inputs<W: Weight>(node: &Node<W>, inputs: &[Shape]) -> Result<(), Error> {
    let wanted: RangeInclusive<usize> = match &node.op {
        Op::Input { .. } => 0..=0,
        Op::Conv(_) => 1..=2,
        Op::Add { .. } => 2..=2,
        Op::Concat if inputs.is_empty() => return Err(node.error("concatenates nothing")),
        Op::Concat => 1..=usize::MAX,
        _ => 1..=1,
    };
    match wanted.contains(&inputs.len()) {
        true => Ok(()),
        false => Err(node.error(format!("has {} inputs, wants {wanted:?}", inputs.len()))),
    }
}

/// That there is one value for each channel wherever there has to be.
fn check_channels<W: Weight>(node: &Node<W>, inputs: &[Shape]) -> Result<(), Error> {
    let channels = inputs.first().map_or(0, |shape| shape.channels);
    let check = |what: &str, len: usize, channels: usize| match len == channels {
        true => Ok(()),
        false => Err(node.error(format!("{len} {what} for {channels} channels"))),
    };
    let bias = |bias: &Option<W>, channels| match bias {
        Some(bias) => check("biases", bias.len(), channels),
        None => Ok(()),
    };
    match &node.op {
        Op::Conv(c) => bias(&c.bias, c.out_channels),
        Op::Linear(l) => bias(&l.bias, l.out_features),
        Op::Pool(p) => bias(&p.bias, channels),
        Op::Bias(b) => check("biases", b.len(), channels),
        Op::BatchNorm(n) => {
            let mut values = [&n.gamma, &n.beta, &n.mean, &n.variance].into_iter();
            values.try_for_each(|values| check("scales", values.len(), channels))
        }
        Op::Affine { scale, shift } => {
            check("scales", scale.len(), channels).and_then(|()| check("shifts", shift.len(), channels))
        }
        _ => Ok(()),
    }
}

/// Where a window slides over `input`.
fn slide<W: Weight>(node: &Node<W>, window: &Window, input: Shape, channels: usize) -> Result<Shape, Error> {
    let taps = window.kernel[0].checked_mul(window.kernel[1]).filter(|&taps| taps <= LARGEST);
    match taps.and_then(|_| window.output(input.size())) {
        Some([height, width]) => Ok(Shape::new(height, width, channels)),
        None => Err(node.error(format!("window {:?} does not fit an input of {input}", window.kernel))),
    }
}

fn conv_shape<W: Weight>(node: &Node<W>, c: &Conv<W>, inputs: &[Shape]) -> Result<Shape, Error> {
    let (channels, weights, out) = (inputs[0].channels, c.weight.len(), c.out_channels);
    let divides = |n: usize| c.groups > 0 && n > 0 && n.is_multiple_of(c.groups);
    let [height, width] = c.window.kernel;
    let wanted = |group: usize| out.checked_mul(group)?.checked_mul(height)?.checked_mul(width);
    if !divides(channels) || !divides(out) || wanted(channels / c.groups) != Some(weights) {
        return Err(node.error(format!(
            "{weights} weights do not fit {channels} channels in, {out} out, {} groups, kernel {:?}",
            c.groups, c.window.kernel
        )));
    }
    let shape = slide(node, &c.window, inputs[0], out)?;
    match inputs.get(1) {
        Some(&residual) if residual != shape => {
            Err(node.error(format!("adds a residual of {residual} to an output of {shape}")))
        }
        _ => Ok(shape),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test fails by panicking.
mod tests {
    use super::*;
    use crate::{Linear, Pool, PoolKind};

    fn pool(window: Window) -> Op {
        Op::Pool(Box::new(Pool { kind: PoolKind::AverageWithPadding, window, bias: None, relu: false }))
    }

    #[test]
    fn what_wraps_is_an_error() {
        let mut graph: Graph = Graph::new(Shape::new(3, 1, 16));
        let refused = |graph: &mut Graph, op: Op| graph.add("node", op, &[0]).unwrap_err().to_string();
        let half = 1 << (usize::BITS / 2);
        let conv = Conv { out_channels: half, ..Conv::new(vec![], Window::new([1, half], [1; 2], [0; 2])) };
        assert!(
            refused(&mut graph, Op::Conv(Box::new(conv))).contains("0 weights do not fit 16 channels in")
        );
        let window = Window { pad: [half - 2, half - 1], ..Window::new([half; 2], [1; 2], [0; 2]) };
        assert!(refused(&mut graph, pool(window)).contains("does not fit an input of 3x1x16"));
        let mut graph: Graph = Graph::new(Shape::new(1, 1, 16));
        let linear =
            Linear { weight: vec![], bias: None, out_features: usize::MAX / 16 + 1, transposed: false };
        assert!(refused(&mut graph, Op::Linear(Box::new(linear))).contains("0 weights do not fit"));
        graph.nodes[0].shape = Shape::new(half, half, 1);
        assert!(graph.verify().unwrap_err().to_string().contains("which no memory holds"));
    }

    #[test]
    fn windows_within_the_padding_are_errors() {
        let mut graph: Graph = Graph::new(Shape::new(4, 4, 1));
        for (pad, pad_end, fits) in [([0, 2], [0; 2], false), ([1; 2], [1, 2], false), ([1; 2], [1; 2], true)]
        {
            let window = Window { pad, pad_end, ..Window::square(2, 1, 0) };
            assert_eq!(graph.add("pool", pool(window), &[0]).is_ok(), fits, "{window:?}");
        }
        graph.add("pool", pool(Window::square(1, 1, 0)), &[0]).unwrap();
    }

    #[test]
    fn a_graph_without_nodes_is_an_error() {
        let mut graph: Graph = Graph { nodes: vec![], output: 0 };
        let error = graph.verify().unwrap_err().to_string();
        assert_eq!(error, "node input (input): does not exist: there are no nodes");
        assert_eq!(graph.infer_shapes([8, 8]).unwrap_err().to_string(), error);
    }
}
