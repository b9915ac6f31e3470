//! The parts of an ONNX graph: nodes, inputs, outputs.

use super::node::{Node, node};
use super::tensors::{MAX_ITEMS, Tensors};
use crate::format::proto::{Message, Wire};
use crate::input::{Fault, Input, Range, unsupported};

/// A graph as the file has it.
#[derive(Default)]
pub(super) struct Parts {
    pub nodes: Vec<Node>,
    /// Names and, where they are fixed, rows and columns.
    pub inputs: Vec<(String, Option<[usize; 2]>)>,
    pub outputs: Vec<String>,
}

pub(super) fn parts(tensors: &mut Tensors, input: &Input, range: Range) -> Result<Parts, Fault> {
    let mut graph = Message::at(input, range);
    let mut parts = Parts::default();
    while let Some((field, wire)) = graph.next()? {
        match field {
            1 if parts.nodes.len() == MAX_ITEMS => {
                return unsupported(format!("more than {MAX_ITEMS} operations"));
            }
            1 => parts.nodes.push(node(graph.message(wire)?)?),
            5 => tensors.add(graph.message(wire)?)?,
            11 => parts.inputs.push(value_info(graph.message(wire)?)?),
            12 => parts.outputs.push(value_info(graph.message(wire)?)?.0),
            _ => {}
        }
    }
    Ok(parts)
}

/// The name of an input or output, and its last two dimensions, where it has four that are fixed.
fn value_info(mut value: Message) -> Result<(String, Option<[usize; 2]>), Fault> {
    let (mut name, mut sizes) = (String::new(), Vec::new());
    while let Some((field, wire)) = value.next()? {
        match field {
            1 => name = value.text(wire)?,
            2 => {
                let mut kind = value.message(wire)?;
                while let Some((field, wire)) = kind.next()? {
                    if field == 1 {
                        sizes = dimensions(kind.message(wire)?)?;
                    }
                }
            }
            _ => {}
        }
    }
    let size = match sizes[..] {
        [_, _, height, width] if height > 0 && width > 0 => Some([height, width]),
        _ => None,
    };
    Ok((name, size))
}

/// The dimensions of a tensor's type; zero for those that are left open.
fn dimensions(mut tensor: Message) -> Result<Vec<usize>, Fault> {
    let mut sizes = Vec::new();
    while let Some((field, wire)) = tensor.next()? {
        let (2, Wire::Bytes(_)) = (field, wire) else { continue };
        let mut shape = tensor.message(wire)?;
        while let Some((field, wire)) = shape.next()? {
            let (1, Wire::Bytes(_)) = (field, wire) else { continue };
            let mut dimension = shape.message(wire)?;
            let mut size = 0;
            while let Some((field, wire)) = dimension.next()? {
                if let (1, Wire::Number(value)) = (field, wire) {
                    size = usize::try_from(value).unwrap_or(0);
                }
            }
            if sizes.len() < 8 {
                sizes.push(size);
            }
        }
    }
    Ok(sizes)
}
