//! Which weight of a file's graph is which of a network's, where names do not say it.
//!
//! Both graphs are walked from the output back to the image. A concatenation has its inputs in order and a
//! convolution only one, so there is a choice only at a sum, whose two sides are told apart by what they are
//! made of.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::{Discriminant, discriminant};

use crate::{Graph, Node, NodeId, Op, Parameter, Pool, PoolKind};

/// Where the values of one of a network's weights are.
#[derive(Clone, Debug, PartialEq)]
pub enum Binding<'a> {
    /// In this weight of the file; `transposed`: with rows and columns exchanged.
    Weight {
        /// The file's weight.
        parameter: &'a Parameter,
        /// Rows and columns are exchanged.
        transposed: bool,
    },
    /// Nowhere: the file has folded the norm into its convolution, which leaves this value, or has no bias.
    Constant(f32),
}

/// What of two graphs is the same.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Matching<'a> {
    /// For each of our weights, by its name, where it is in the file.
    pub weights: HashMap<String, Binding<'a>>,
    /// For our nodes, those of the file that make the same tensor.
    pub nodes: HashMap<NodeId, NodeId>,
    /// The biases of convolutions that the network is written without. Quantisers add some, to correct what
    /// the rounding of weights does; other files with them are of other networks.
    pub biases: Vec<ExtraBias<'a>>,
}

/// A bias that only the file has.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExtraBias<'a> {
    /// Our layer.
    pub layer: String,
    /// The bias.
    pub parameter: &'a Parameter,
    /// What the difference is, as a sentence.
    pub difference: String,
}

/// For each of the weights and nodes of `ours`, where it is in `theirs`; or the first difference, from the
/// output back, as a sentence about "the network" (`ours`) and "the file" (`theirs`).
///
/// Batch norms may be folded into convolutions in `theirs`, a ReLU of a ReLU may be one, nested
/// concatenations may be as one, a factor of 1 may be missing, and the ReLU of a concatenation may be one of
/// each tensor in it.
///
/// # Errors
///
/// The difference.
pub fn match_graphs<'a>(
    ours: &Graph<Parameter>,
    theirs: &'a Graph<Parameter>,
) -> Result<Matching<'a>, String> {
    let mut walk = Walk {
        ours: &ours.nodes,
        theirs: &theirs.nodes,
        our_hashes: hashes(ours),
        their_hashes: hashes(theirs),
        bindings: HashMap::new(),
        seen: HashMap::new(),
        biases: Vec::new(),
    };
    let mut todo = vec![Pair { our: ours.output, their: theirs.output, folded: false }];
    while let Some(pair) = todo.pop() {
        todo.extend(walk.pair(pair)?);
    }
    Ok(Matching { weights: walk.bindings, nodes: walk.seen, biases: walk.biases })
}

/// Two nodes that have to be the same operation. `folded`: the bias of the file's convolution has been taken
/// for our norm.
#[derive(Clone, Copy)]
struct Pair {
    our: NodeId,
    their: NodeId,
    folded: bool,
}

struct Walk<'o, 't> {
    ours: &'o [Node<Parameter>],
    theirs: &'t [Node<Parameter>],
    our_hashes: Vec<u64>,
    their_hashes: Vec<u64>,
    bindings: HashMap<String, Binding<'t>>,
    seen: HashMap<NodeId, NodeId>,
    biases: Vec<ExtraBias<'t>>,
}

impl<'t> Walk<'_, 't> {
    /// Compares two nodes and binds their weights; gives the pairs that have to be compared next.
    fn pair(&mut self, Pair { our, their, folded }: Pair) -> Result<Vec<Pair>, String> {
        let their = skip_identities(self.theirs, their);
        let our = skip_identities(self.ours, our);
        let (Some(a), Some(b)) = (self.ours.get(our), self.theirs.get(their)) else {
            return Err("an operation reads what does not exist".to_owned());
        };
        if !folded {
            match self.seen.insert(our, their) {
                Some(other) if other == their => return Ok(Vec::new()),
                Some(other) => {
                    let (one, another) = (&b.name, &self.theirs[other].name);
                    let op = describe(&a.op);
                    return Err(format!("{op} reads one value where the file has `{one}` and `{another}`"));
                }
                None => {}
            }
        }
        let is_relu = |nodes: &[Node<Parameter>], i: Option<&NodeId>| {
            i.and_then(|&i| nodes.get(i)).is_some_and(|node| matches!(node.op, Op::Relu))
        };
        match (&a.op, &b.op) {
            // A ReLU of a ReLU, which an optimiser has left out.
            (Op::Relu, Op::Relu)
                if is_relu(self.ours, a.inputs.first()) && !is_relu(self.theirs, b.inputs.first()) =>
            {
                return Ok(vec![Pair { our: a.inputs[0], their, folded: false }]);
            }
            // The ReLU of a concatenation, which the file has of each tensor in it.
            (Op::Relu, Op::Concat) if let Some(pairs) = self.clamped_inputs(a, b) => {
                self.seen.insert(skip_identities(self.ours, a.inputs[0]), their);
                return Ok(pairs);
            }
            // The norm is in the convolution's weights and bias.
            (Op::BatchNorm(norm), Op::Conv(conv)) => {
                let constants =
                    [(&norm.gamma, 1.0), (&norm.mean, 0.0), (&norm.variance, (1.0 - norm.epsilon) as f32)];
                for (weight, value) in constants {
                    self.bindings.insert(weight.name.clone(), Binding::Constant(value));
                }
                match &conv.bias {
                    Some(bias) => self.bind(&norm.beta, bias, false),
                    // One of zeros is left out.
                    None => drop(self.bindings.insert(norm.beta.name.clone(), Binding::Constant(0.0))),
                }
                return Ok(vec![Pair { our: a.inputs[0], their, folded: true }]);
            }
            (ours, theirs) => {
                if let Some(why) = difference(ours, theirs, folded) {
                    return Err(differ(a, b, &why));
                }
                if let (Op::Conv(conv), Op::Conv(other)) = (ours, theirs)
                    && let (None, Some(parameter), false) = (&conv.bias, &other.bias, folded)
                {
                    let difference = differ(a, b, "only the file's has a bias");
                    self.biases.push(ExtraBias {
                        layer: layer(&conv.weight).to_owned(),
                        parameter,
                        difference,
                    });
                }
                self.bind_all(ours, theirs);
            }
        }
        let mut inputs = match b.op {
            Op::Concat => flat(self.theirs, b),
            _ => b.inputs.clone(),
        };
        if inputs.len() != a.inputs.len() {
            return Err(differ(a, b, &format!("{} inputs and {}", a.inputs.len(), inputs.len())));
        }
        let hash = |hashes: &[u64], i: Option<&NodeId>| i.and_then(|&i| hashes.get(i)).copied();
        let is_sum = matches!(a.op, Op::Add { .. });
        if is_sum && hash(&self.our_hashes, a.inputs.first()) != hash(&self.their_hashes, inputs.first()) {
            inputs.reverse();
        }
        Ok(a.inputs.iter().zip(inputs).map(|(&our, their)| Pair { our, their, folded: false }).collect())
    }

    /// Where `relu` is that of a concatenation and the inputs of `concat` have ReLUs of their own: the inputs
    /// of the one, and what the ReLUs of the other read.
    fn clamped_inputs(&self, relu: &Node<Parameter>, concat: &Node<Parameter>) -> Option<Vec<Pair>> {
        let ours = self.ours.get(skip_identities(self.ours, *relu.inputs.first()?))?;
        let theirs = flat(self.theirs, concat);
        if !matches!(ours.op, Op::Concat) || ours.inputs.len() != theirs.len() {
            return None;
        }
        let pair = |(&our, their): (&NodeId, NodeId)| match self.theirs.get(their)? {
            Node { op: Op::Relu, inputs, .. } => Some(Pair { our, their: *inputs.first()?, folded: false }),
            _ => None,
        };
        ours.inputs.iter().zip(theirs).map(pair).collect()
    }

    fn bind(&mut self, ours: &Parameter, parameter: &'t Parameter, transposed: bool) {
        self.bindings.insert(ours.name.clone(), Binding::Weight { parameter, transposed });
    }

    /// Binds the weights of two operations that do not differ.
    fn bind_all(&mut self, ours: &Op<Parameter>, theirs: &'t Op<Parameter>) {
        match (ours, theirs) {
            // The bias of theirs, if there is one, has been bound to the norm.
            (Op::Conv(a), Op::Conv(b)) if a.bias.is_none() => self.bind(&a.weight, &b.weight, false),
            (Op::Linear(a), Op::Linear(b)) => {
                self.bind(&a.weight, &b.weight, a.transposed != b.transposed);
                match (&a.bias, &b.bias) {
                    (Some(a), Some(b)) => self.bind(a, b, false),
                    (Some(a), None) => drop(self.bindings.insert(a.name.clone(), Binding::Constant(0.0))),
                    _ => {}
                }
            }
            _ => {
                for (a, b) in ours.weights().into_iter().zip(theirs.weights()) {
                    self.bind(a, b, false);
                }
            }
        }
    }
}

/// Why two operations are not the same; empty if that needs no more words than the two descriptions.
fn difference(ours: &Op<Parameter>, theirs: &Op<Parameter>, folded: bool) -> Option<String> {
    let unless = |same: bool| if same { None } else { Some(String::new()) };
    match (ours, theirs) {
        (Op::BatchNorm(a), Op::BatchNorm(b)) if (a.epsilon - b.epsilon).abs() > 1e-3 * a.epsilon => {
            Some(format!("epsilon {} and {}", a.epsilon, b.epsilon))
        }
        (Op::Conv(a), Op::Conv(b)) => match (a.bias.is_some(), b.bias.is_some() && !folded) {
            (true, false) => Some("only the network's has a bias".to_owned()),
            _ => {
                let same_window = (a.window.stride, a.window.dilation)
                    == (b.window.stride, b.window.dilation)
                    && (a.window.pad, a.window.pad_end) == (b.window.pad, b.window.pad_end);
                unless(same_window && a.groups == b.groups)
            }
        },
        (Op::Linear(a), Op::Linear(b)) => unless(a.bias.is_some() || b.bias.is_none()),
        (Op::Pool(a), Op::Pool(b)) => {
            // With stride 1 no window hangs over, and how to round does not matter.
            let rounds_alike = a.window.ceil == b.window.ceil || a.window.stride == [1; 2];
            let window = |pool: &Pool<Parameter>| crate::Window { ceil: false, same: false, ..pool.window };
            unless(a.kind == b.kind && window(a) == window(b) && rounds_alike)
        }
        (Op::Scale { scale: a, shift: s }, Op::Scale { scale: b, shift: t }) => {
            unless((a - b).abs() < 1e-6 && (s - t).abs() < 1e-6)
        }
        // By the passes, which leave no names of weights in it.
        (Op::Affine { .. }, _) => Some(String::new()),
        (a, b) => unless(discriminant(a) == discriminant(b)),
    }
}

fn differ(ours: &Node<Parameter>, theirs: &Node<Parameter>, why: &str) -> String {
    let colon = if why.is_empty() { "" } else { ": " };
    let (a, b, name) = (describe(&ours.op), describe(&theirs.op), &theirs.name);
    format!("the network has {a} where the file has {b} (`{name}`){colon}{why}")
}

/// Whether an operation changes no value. An optimiser leaves out a factor of 1.
fn is_identity(op: &Op<Parameter>) -> bool {
    matches!(op, Op::Flatten | Op::Scale { scale: 1.0, shift: 0.0 })
}

/// The node behind any that change no value.
fn skip_identities(nodes: &[Node<Parameter>], mut id: NodeId) -> NodeId {
    while let Some(Node { op, inputs, .. }) = nodes.get(id)
        && is_identity(op)
        && let [input] = inputs[..]
        && input < id
    {
        id = input;
    }
    id
}

/// What an operation is, without its weights: enough to tell the two sides of a sum apart.
fn kind(op: &Op<Parameter>) -> (Discriminant<Op<Parameter>>, usize) {
    let detail = match op {
        Op::Conv(c) => 2 * c.window.stride[0].min(16) + usize::from(c.groups > 1),
        Op::Pool(p) => usize::from(p.kind == PoolKind::Max),
        _ => 0,
    };
    (discriminant(op), detail)
}

/// A hash of everything below each node. Norms, a ReLU of a ReLU and what changes no value do not count, as
/// they may have been left out.
fn hashes(graph: &Graph<Parameter>) -> Vec<u64> {
    let mut hashes: Vec<u64> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let below = node.inputs.iter().map(|&i| hashes.get(i).copied().unwrap_or(0));
        let mut below: Vec<u64> = below.collect();
        let is_relu = |&i: &NodeId| graph.nodes.get(i).is_some_and(|n| matches!(n.op, Op::Relu));
        let vanishes = match &node.op {
            Op::BatchNorm(_) => true,
            Op::Relu => node.inputs.first().is_some_and(is_relu),
            op => is_identity(op),
        };
        if let ([only], true) = (&below[..], vanishes) {
            hashes.push(*only);
            continue;
        }
        if matches!(node.op, Op::Add { .. }) {
            below.sort_unstable();
        }
        let mut hasher = DefaultHasher::new();
        (kind(&node.op), below).hash(&mut hasher);
        hashes.push(hasher.finish());
    }
    hashes
}

/// The inputs of a concatenation, with those of any that it concatenates in their place: some exporters keep
/// the two steps of Inception's forked branches, which our graph has as one.
fn flat(nodes: &[Node<Parameter>], concat: &Node<Parameter>) -> Vec<NodeId> {
    let mut inputs = Vec::new();
    let mut todo: Vec<NodeId> = concat.inputs.iter().rev().copied().collect();
    while let Some(i) = todo.pop() {
        match nodes.get(i) {
            // No network of the family concatenates more; a hostile file could double the number with each
            // node.
            Some(Node { op: Op::Concat, inputs: nested, .. }) if todo.len() + inputs.len() < 64 => {
                todo.extend(nested.iter().rev());
            }
            _ => inputs.push(i),
        }
    }
    inputs
}

/// The layer of a weight: its name without the last part.
fn layer(parameter: &Parameter) -> &str {
    parameter.name.rsplit_once('.').map_or(&*parameter.name, |(layer, _)| layer)
}

fn describe(op: &Op<Parameter>) -> String {
    match op {
        Op::Input { .. } => "the image".to_owned(),
        Op::Conv(c) => {
            let crate::Window { kernel, stride, pad, dilation, .. } = c.window;
            let (groups, layer) = (c.groups, layer(&c.weight));
            format!(
                "a convolution {kernel:?}, stride {stride:?}, padding {pad:?}, dilation {dilation:?}, \
                 {groups} groups (`{layer}`)"
            )
        }
        Op::BatchNorm(n) => format!("a batch norm (`{}`)", layer(&n.gamma)),
        Op::Relu => "a ReLU".to_owned(),
        Op::Pool(p) => {
            let crate::Window { kernel, stride, pad, ceil, .. } = p.window;
            match p.kind {
                PoolKind::Max => {
                    format!("a max pool {kernel:?}, stride {stride:?}, padding {pad:?}, ceil {ceil}")
                }
                kind => {
                    let counted = kind == PoolKind::AverageWithPadding;
                    format!("an average pool {kernel:?}, padding {pad:?}, counted {counted}")
                }
            }
        }
        Op::Concat => "a concatenation".to_owned(),
        Op::Add { .. } => "a sum".to_owned(),
        Op::GlobalAveragePool => "a global average".to_owned(),
        Op::Scale { scale, shift: 0.0 } => format!("a factor {scale}"),
        Op::Scale { scale, shift } => format!("a factor {scale} and a summand {shift}"),
        Op::Linear(l) => format!("a fully connected layer (`{}`)", layer(&l.weight)),
        Op::Bias(bias) => format!("a bias (`{}`)", bias.name),
        Op::Affine { .. } => "a scale and a shift for each channel".to_owned(),
        Op::Flatten => "a flattening".to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test fails by panicking.
mod tests {
    use super::*;
    use crate::{Conv, Shape, Window};

    /// `relu(image) + factor * conv(relu(image))`, the sum's inputs in either order; no factor if it is
    /// `None`.
    fn residual(prefix: &str, factor: Option<f64>, shortcut_first: bool) -> Graph<Parameter> {
        let weight =
            |name: &str, shape: &[usize]| Parameter { name: format!("{prefix}.{name}"), shape: shape.into() };
        let bias = Some(weight("bias", &[4]));
        let conv = Conv::new(weight("weight", &[4, 4, 1, 1]), Window::square(1, 1, 0));
        let mut graph = Graph::new(Shape::new(5, 5, 4));
        let shortcut = graph.add("relu", Op::Relu, &[0]).unwrap();
        let conv = Op::Conv(Box::new(Conv { bias, out_channels: 4, ..conv }));
        let mut branch = graph.add("conv", conv, &[shortcut]).unwrap();
        if let Some(scale) = factor {
            branch = graph.add("factor", Op::Scale { scale, shift: 0.0 }, &[branch]).unwrap();
        }
        let inputs = if shortcut_first { [shortcut, branch] } else { [branch, shortcut] };
        graph.add("sum", Op::Add { relu: false }, &inputs).unwrap();
        graph
    }

    #[test]
    fn a_convolutions_own_bias_is_found_beyond_a_factor() {
        let ours = residual("ours", Some(0.5), true);
        let theirs = residual("theirs", Some(0.5), false);
        let bindings = match_graphs(&ours, &theirs).unwrap().weights;
        for field in ["weight", "bias"] {
            match &bindings[&format!("ours.{field}")] {
                Binding::Weight { parameter, transposed: false } => {
                    assert_eq!(parameter.name, format!("theirs.{field}"));
                }
                other => panic!("{other:?}"),
            }
        }
        let error = match_graphs(&ours, &residual("theirs", Some(0.25), false)).unwrap_err();
        assert!(error.contains("a factor 0.5") && error.contains("a factor 0.25"), "{error}");
    }

    #[test]
    fn a_factor_of_one_may_be_missing() {
        let factors = [Some(1.0), None];
        for (ours, theirs) in factors.into_iter().flat_map(|a| factors.map(|b| (a, b))) {
            let (ours, theirs) = (residual("ours", ours, true), residual("theirs", theirs, false));
            assert_eq!(match_graphs(&ours, &theirs).unwrap().weights.len(), 2);
        }
        let (ours, theirs) = (residual("ours", Some(0.5), true), residual("theirs", None, true));
        assert!(match_graphs(&ours, &theirs).is_err());
    }

    /// `relu(concat(conv, conv))` is `concat(relu(conv), relu(conv))`.
    #[test]
    fn the_relu_of_a_concatenation_may_be_of_its_parts() {
        let build = |prefix: &str, outside: bool| {
            let mut graph = Graph::new(Shape::new(5, 5, 4));
            let mut parts = Vec::new();
            for part in ["a", "b"] {
                let weight = Parameter { name: format!("{prefix}.{part}"), shape: vec![4, 4, 1, 1] };
                let conv = Conv { out_channels: 4, ..Conv::new(weight, Window::square(1, 1, 0)) };
                let conv = graph.add(part, Op::Conv(Box::new(conv)), &[0]).unwrap();
                parts.push(if outside { conv } else { graph.add("relu", Op::Relu, &[conv]).unwrap() });
            }
            let concat = graph.add("concat", Op::Concat, &parts).unwrap();
            if outside {
                graph.add("relu", Op::Relu, &[concat]).unwrap();
            }
            graph
        };
        let (ours, theirs) = (build("ours", true), build("theirs", false));
        let found = match_graphs(&ours, &theirs).unwrap();
        for part in ["a", "b"] {
            let Some(Binding::Weight { parameter, .. }) = found.weights.get(&format!("ours.{part}")) else {
                panic!("{found:?}")
            };
            assert_eq!(parameter.name, format!("theirs.{part}"));
        }
        // Ours are the image, two convolutions, their concatenation and its ReLU.
        let nodes = [(0, 0), (1, 1), (2, 3), (3, 5), (4, 5)];
        assert_eq!(found.nodes, nodes.into_iter().collect());
        assert!(match_graphs(&theirs, &ours).is_err(), "the network has what the file has not");
    }
}
