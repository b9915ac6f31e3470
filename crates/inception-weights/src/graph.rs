//! The operations of a file that has some: ONNX, Paddle's inference pair.

use std::collections::HashMap;

/// An operation of a file, with the keys of its tensors.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Op {
    Input,
    Conv {
        weight: String,
        bias: Option<String>,
        stride: [u64; 2],
        pads: [u64; 4],
        dilation: [u64; 2],
        groups: u64,
    },
    /// Scale, shift, mean, variance.
    Norm {
        keys: [String; 4],
        epsilon: f64,
    },
    Relu,
    MaxPool {
        kernel: [u64; 2],
        stride: [u64; 2],
        pads: [u64; 4],
        ceil: bool,
    },
    AveragePool {
        kernel: [u64; 2],
        stride: [u64; 2],
        pads: [u64; 4],
        count_padding: bool,
    },
    Concat,
    Add,
    GlobalPool,
    Scale(f64),
    /// `transposed`: the weight is `[outputs, inputs]`.
    Linear {
        weight: String,
        bias: Option<String>,
        transposed: bool,
    },
}

/// A node of a file's graph.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// What the file calls its output.
    pub name: String,
    pub op: Op,
    pub inputs: Vec<usize>,
}

/// The operations of a file, each after what it reads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Graph {
    pub nodes: Vec<Node>,
    pub output: usize,
}

/// Collects a file's operations, which name what they read.
#[derive(Default)]
pub(crate) struct Builder {
    graph: Graph,
    /// The node that makes a value; values that are only passed on have their source's.
    values: HashMap<String, usize>,
}

impl Builder {
    pub fn node(&mut self, name: &str, op: Op, inputs: &[&str]) -> Result<(), String> {
        let inputs = inputs.iter().map(|&i| self.get(i)).collect::<Result<Vec<_>, _>>()?;
        self.graph.nodes.push(Node { name: name.to_owned(), op, inputs });
        self.values.insert(name.to_owned(), self.graph.nodes.len() - 1);
        Ok(())
    }

    /// The node behind a value.
    pub fn get(&self, name: &str) -> Result<usize, String> {
        self.values.get(name).copied().ok_or_else(|| format!("`{name}` is read before anything makes it"))
    }

    /// That `name` is what `input` is.
    pub fn pass(&mut self, name: &str, input: &str) -> Result<(), String> {
        let node = self.get(input)?;
        self.values.insert(name.to_owned(), node);
        Ok(())
    }

    pub fn op(&mut self, node: usize) -> &mut Op {
        &mut self.graph.nodes[node].op
    }

    pub fn finish(mut self, output: &str) -> Result<Graph, String> {
        self.graph.output = self.get(output)?;
        Ok(self.graph)
    }
}
