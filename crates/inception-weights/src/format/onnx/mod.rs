//! ONNX: of a model what a convolutional classifier can have, in the forms that paddle2onnx and both of
//! PyTorch's exporters write, with what they put around it; the weights stay in the file, or in the files
//! beside it. (`onnx-ir` at Burn 0.22 copies every weight and builds a graph for code generation; its users
//! pay several minutes of compilation.)

mod node;
mod operations;
mod parts;
mod tensors;

use super::contents::Contents;
use super::proto::{Message, Wire};
use crate::input::{Beside, Fault, Input, damaged};
use crate::metadata::Metadata;
use operations::Operations;
use parts::parts;
use tensors::Tensors;

/// Lists the tensors of a model; with them the input that has their values: the model and the files that it
/// names, which `beside` opens.
pub(crate) fn open(input: Input, beside: Beside) -> Result<(Input, Contents), Fault> {
    let mut model = Message::whole(&input);
    let mut graph = None;
    let mut metadata = Metadata::default();
    while let Some((field, wire)) = model.next()? {
        match (field, wire) {
            (7, Wire::Bytes(range)) => graph = Some(range),
            (14, wire) => {
                let mut pair = model.message(wire)?;
                let [mut key, mut value] = [String::new(), String::new()];
                while let Some((field, wire)) = pair.next()? {
                    match field {
                        1 => key = pair.text(wire)?,
                        // The names of a thousand classes.
                        2 => value = pair.text_within(wire, 1 << 20)?,
                        _ => {}
                    }
                }
                metadata = metadata.with(key, value);
            }
            _ => {}
        }
    }
    let Some(range) = graph else { return damaged("a model without a graph") };
    let mut tensors = Tensors::new(&input, beside);
    let graph = parts(&mut tensors, &input, range)?;
    for node in graph.nodes.iter().filter(|node| node.op == "Constant") {
        if let [output, ..] = &node.outputs[..] {
            if let Some(range) = node.tensor {
                tensors.constant(output, range)?;
            } else if let Some(&value) = node.float.get("value_float") {
                tensors.small.insert(output.clone(), vec![value.into()]);
            }
        }
    }
    let dequantized = tensors.dequantize(&graph.nodes)?;
    tensors.read_scales(&graph.nodes)?;
    let entries = std::mem::take(&mut tensors.entries);
    let operations = Operations::new(&entries, &tensors);
    let ((graph, quants), mut surroundings) = operations.graph(&graph).map_err(Fault::Unsupported)?;
    if dequantized > 0 {
        let note = format!(
            "{dequantized} quantised tensors are taken by their values; nothing else is rounded in f32"
        );
        surroundings.notes.push(note);
    }
    let files = tensors.into_files();
    let contents =
        Contents { entries, metadata, graph: Some(graph), quants, surroundings, ..Contents::default() };
    let input = match files.is_empty() {
        true => input,
        false => Input::joined([input].into_iter().chain(files).collect()),
    };
    Ok((input, contents))
}
