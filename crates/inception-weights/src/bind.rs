//! The graph of a file beside a network's own: which of the file's tensors is which of ours where names do not say it.
//!
//! Both are walked from the logits back to the image. A concatenation has its inputs in order and a convolution only
//! one, so that there is never a choice but at a sum, whose two sides are told apart by what they are made of.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use inception_nn::{OutlineNode, OutlineOp};

use crate::graph::{Graph, Node, Op};

/// Where one of our tensors is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Binding {
    /// Under this key; perhaps with rows and columns exchanged.
    Key { key: String, transposed: bool },
    /// Nowhere: the file has folded the norm into its convolution, which leaves this value.
    Constant(f32),
}

/// What an operation is, without its tensors: enough to tell the two sides of a sum apart.
fn kind_of_file(op: &Op) -> u64 {
    match op {
        Op::Input => 0,
        Op::Conv { groups, stride, .. } => 1 + 16 * u64::from(*groups > 1) + 32 * stride[0].min(16),
        Op::Norm { .. } => 2,
        Op::Relu => 3,
        Op::MaxPool { .. } => 4,
        Op::AveragePool { .. } => 5,
        Op::Concat => 6,
        Op::Add => 7,
        Op::GlobalPool => 8,
        Op::Scale(_) => 9,
        Op::Linear { .. } => 10,
    }
}

fn kind_of_ours(op: &OutlineOp) -> u64 {
    match op {
        OutlineOp::Input => 0,
        OutlineOp::Conv { groups, stride, .. } => 1 + 16 * u64::from(*groups > 1) + 32 * stride[0] as u64,
        OutlineOp::Norm { .. } => 2,
        OutlineOp::Relu => 3,
        OutlineOp::MaxPool { .. } => 4,
        OutlineOp::AveragePool { .. } => 5,
        OutlineOp::Concat => 6,
        OutlineOp::Add => 7,
        OutlineOp::GlobalPool => 8,
        OutlineOp::Scale(_) => 9,
        OutlineOp::Linear { .. } => 10,
    }
}

/// A hash of everything below each node; norms do not count, as they may have been folded away.
fn shapes(kinds: impl Iterator<Item = (u64, Vec<usize>)>) -> Vec<u64> {
    let mut hashes: Vec<u64> = Vec::new();
    let mut relus = Vec::new();
    for (kind, inputs) in kinds {
        // Nor does a ReLU of a ReLU.
        let again = kind == 3 && inputs.first().is_some_and(|&i| relus.get(i) == Some(&true));
        relus.push(kind == 3);
        if let ([only], true) = (&inputs[..], again) {
            hashes.push(hashes[*only]);
            continue;
        }
        let mut below: Vec<u64> = inputs.iter().map(|&i| hashes.get(i).copied().unwrap_or(0)).collect();
        if let (2, [only]) = (kind, &below[..]) {
            hashes.push(*only);
            continue;
        }
        if kind == 7 {
            below.sort_unstable();
        }
        let mut hasher = DefaultHasher::new();
        (kind, below).hash(&mut hasher);
        hashes.push(hasher.finish());
    }
    hashes
}

/// For each of our tensors that inference needs, where it is; or the first difference, from the logits back.
pub(crate) fn bind(ours: &[OutlineNode], theirs: &Graph) -> Result<HashMap<String, Binding>, String> {
    let our_shapes = shapes(ours.iter().map(|node| (kind_of_ours(&node.op), node.inputs.clone())));
    let their_shapes = shapes(theirs.nodes.iter().map(|node| (kind_of_file(&node.op), node.inputs.clone())));
    let mut bindings = HashMap::new();
    let mut seen: HashMap<usize, usize> = HashMap::new();
    // Our node, the file's, and whether the file's bias has been taken for our norm already.
    let mut todo = vec![(ours.len() - 1, theirs.output, false)];
    while let Some((our, their, folded)) = todo.pop() {
        let (Some(a), Some(b)) = (ours.get(our), theirs.nodes.get(their)) else {
            return Err("an operation reads what does not exist".to_owned());
        };
        if !folded {
            match seen.insert(our, their) {
                Some(other) if other == their => continue,
                Some(other) => {
                    return Err(format!(
                        "{} reads one value where the file has `{}` and `{}`",
                        describe(&a.op),
                        b.name,
                        theirs.nodes[other].name
                    ));
                }
                None => {}
            }
        }
        let differ = |why: &str| {
            let mut why = why.to_owned();
            if !why.is_empty() {
                why.insert_str(0, ": ");
            }
            Err(format!(
                "the network has {} where the file has {} (`{}`){why}",
                describe(&a.op),
                b.op.describe(),
                b.name
            ))
        };
        let mut set = |name: String, key: &str, transposed: bool| {
            bindings.insert(name, Binding::Key { key: key.to_owned(), transposed });
        };
        match (&a.op, &b.op) {
            // A ReLU of a ReLU, which an optimiser has left out.
            (OutlineOp::Relu, Op::Relu)
                if ours[a.inputs[0]].op == OutlineOp::Relu
                    && theirs.nodes.get(b.inputs[0]).is_some_and(|node| node.op != Op::Relu) =>
            {
                todo.push((a.inputs[0], their, false));
                continue;
            }
            (OutlineOp::Norm { layer, epsilon }, Op::Norm { keys, epsilon: other }) => {
                if (epsilon - other).abs() > 1e-3 * epsilon {
                    return differ(&format!("epsilon {epsilon} and {other}"));
                }
                for (field, key) in ["gamma", "beta", "running_mean", "running_var"].into_iter().zip(keys) {
                    set(format!("{layer}.{field}"), key, false);
                }
            }
            // The norm is in the convolution's weights and bias.
            (OutlineOp::Norm { layer, epsilon }, Op::Conv { bias: Some(bias), .. }) => {
                set(format!("{layer}.beta"), bias, false);
                bindings.insert(format!("{layer}.gamma"), Binding::Constant(1.0));
                bindings.insert(format!("{layer}.running_mean"), Binding::Constant(0.0));
                bindings.insert(format!("{layer}.running_var"), Binding::Constant((1.0 - epsilon) as f32));
                let [input] = a.inputs[..] else { return differ("") };
                todo.push((input, their, true));
                continue;
            }
            (
                OutlineOp::Conv { layer, stride, padding, dilation, groups, .. },
                Op::Conv { weight, bias, stride: s, pads, dilation: d, groups: g },
            ) => {
                if bias.is_some() && !folded {
                    return differ("only the file's has a bias");
                }
                let pad = [padding[0], padding[1], padding[0], padding[1]];
                if !same(stride, s) || !same(dilation, d) || !same(&pad, pads) || *groups as u64 != *g {
                    return differ("");
                }
                set(format!("{layer}.weight"), weight, false);
            }
            (OutlineOp::Linear { layer }, Op::Linear { weight, bias: Some(bias), transposed }) => {
                set(format!("{layer}.weight"), weight, *transposed);
                set(format!("{layer}.bias"), bias, false);
            }
            (
                OutlineOp::MaxPool { kernel, stride, padding, ceil },
                Op::MaxPool { kernel: k, stride: s, pads, ceil: c },
            ) => {
                let pad = [padding[0], padding[1], padding[0], padding[1]];
                // With stride 1 no window hangs over, and how to round does not matter.
                if !same(kernel, k) || !same(stride, s) || !same(&pad, pads) || (ceil != c && stride[0] != 1)
                {
                    return differ("");
                }
            }
            (
                OutlineOp::AveragePool { kernel, stride, padding, count_padding },
                Op::AveragePool { kernel: k, stride: s, pads, count_padding: c },
            ) => {
                let pad = [padding[0], padding[1], padding[0], padding[1]];
                if !same(kernel, k) || !same(stride, s) || !same(&pad, pads) || count_padding != c {
                    return differ("");
                }
            }
            (OutlineOp::Scale(ours), Op::Scale(theirs)) if (ours - theirs).abs() < 1e-6 => {}
            (OutlineOp::Input, Op::Input)
            | (OutlineOp::Relu, Op::Relu)
            | (OutlineOp::Concat, Op::Concat)
            | (OutlineOp::Add, Op::Add)
            | (OutlineOp::GlobalPool, Op::GlobalPool) => {}
            _ => return differ(""),
        }
        let mut inputs = match b.op {
            Op::Concat => flat(theirs, b),
            _ => b.inputs.clone(),
        };
        if inputs.len() != a.inputs.len() {
            return differ(&format!("{} inputs and {}", a.inputs.len(), inputs.len()));
        }
        let shape = |hashes: &[u64], i: usize| hashes.get(i).copied();
        if a.op == OutlineOp::Add && shape(&our_shapes, a.inputs[0]) != shape(&their_shapes, inputs[0]) {
            inputs.reverse();
        }
        todo.extend(a.inputs.iter().zip(inputs).map(|(&our, their)| (our, their, false)));
    }
    Ok(bindings)
}

/// The inputs of a concatenation, with those of any that it concatenates in their place: some exporters keep the two
/// steps of Inception's forked branches, which our outline has as one.
fn flat(graph: &Graph, concat: &Node) -> Vec<usize> {
    let mut inputs = Vec::new();
    let mut todo: Vec<usize> = concat.inputs.iter().rev().copied().collect();
    while let Some(i) = todo.pop() {
        match graph.nodes.get(i) {
            // No network of the family concatenates more; a hostile file could double the number with each node.
            Some(Node { op: Op::Concat, inputs: nested, .. }) if todo.len() + inputs.len() < 64 => {
                todo.extend(nested.iter().rev());
            }
            _ => inputs.push(i),
        }
    }
    inputs
}

fn same<const N: usize>(ours: &[usize; N], theirs: &[u64; N]) -> bool {
    ours.iter().zip(theirs).all(|(&a, &b)| a as u64 == b)
}

fn describe(op: &OutlineOp) -> String {
    match op {
        OutlineOp::Input => "the image".to_owned(),
        OutlineOp::Conv { layer, kernel, stride, padding, dilation, groups } => format!(
            "a convolution {kernel:?}, stride {stride:?}, padding {padding:?}, dilation {dilation:?}, {groups} groups (`{layer}`)"
        ),
        OutlineOp::Norm { layer, .. } => format!("a batch norm (`{layer}`)"),
        OutlineOp::Relu => "a ReLU".to_owned(),
        OutlineOp::MaxPool { kernel, stride, padding, ceil } => {
            format!("a max pool {kernel:?}, stride {stride:?}, padding {padding:?}, ceil {ceil}")
        }
        OutlineOp::AveragePool { kernel, padding, count_padding, .. } => {
            format!("an average pool {kernel:?}, padding {padding:?}, counted {count_padding}")
        }
        OutlineOp::Concat => "a concatenation".to_owned(),
        OutlineOp::Add => "a sum".to_owned(),
        OutlineOp::GlobalPool => "a global average".to_owned(),
        OutlineOp::Scale(scale) => format!("a factor {scale}"),
        OutlineOp::Linear { layer } => format!("a fully connected layer (`{layer}`)"),
    }
}

impl Op {
    fn describe(&self) -> String {
        match self {
            Self::Input => "the image".to_owned(),
            Self::Conv { weight, stride, pads, dilation, groups, .. } => format!(
                "a convolution, stride {stride:?}, padding {pads:?}, dilation {dilation:?}, {groups} groups (`{weight}`)"
            ),
            Self::Norm { keys, .. } => format!("a batch norm (`{}`)", keys[0]),
            Self::Relu => "a ReLU".to_owned(),
            Self::MaxPool { kernel, stride, pads, ceil } => {
                format!("a max pool {kernel:?}, stride {stride:?}, padding {pads:?}, ceil {ceil}")
            }
            Self::AveragePool { kernel, pads, count_padding, .. } => {
                format!("an average pool {kernel:?}, padding {pads:?}, counted {count_padding}")
            }
            Self::Concat => "a concatenation".to_owned(),
            Self::Add => "a sum".to_owned(),
            Self::GlobalPool => "a global average".to_owned(),
            Self::Scale(scale) => format!("a factor {scale}"),
            Self::Linear { weight, .. } => format!("a fully connected layer (`{weight}`)"),
        }
    }
}
