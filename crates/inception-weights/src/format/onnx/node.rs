//! A node of an ONNX graph.

use std::collections::HashMap;

use crate::format::proto::{Message, Wire};
use crate::input::{Fault, Range};

/// A node as the file has it.
#[derive(Default)]
pub(super) struct Node {
    pub op: String,
    /// Whose operation it is; empty for ONNX's own.
    pub domain: String,
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    pub ints: HashMap<String, Vec<u64>>,
    pub float: HashMap<String, f32>,
    pub text: HashMap<String, String>,
    pub tensor: Option<Range>,
}

impl Node {
    /// As messages call it.
    pub fn what(&self) -> String {
        format!("{} `{}`", self.op, self.outputs.first().map_or("", String::as_str))
    }

    pub fn first(&self) -> Result<&str, String> {
        let first = self.inputs.first().map(String::as_str);
        first.ok_or_else(|| format!("{} reads nothing", self.what()))
    }

    pub fn number(&self, field: &str) -> Option<u64> {
        self.ints.get(field).and_then(|values| values.first().copied())
    }

    pub fn list<const N: usize>(&self, field: &str, default: [u64; N]) -> Result<[u64; N], String> {
        let Some(values) = self.ints.get(field) else { return Ok(default) };
        <[u64; N]>::try_from(&values[..]).map_err(|_| format!("{}: {field} {values:?}", self.what()))
    }
}

pub(super) fn node(mut message: Message) -> Result<Node, Fault> {
    let mut node = Node::default();
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
            7 => node.domain = message.text(wire)?,
            _ => {}
        }
    }
    Ok(node)
}
