//! ONNX, from a network's own graph, under our names, with the batch left open.

mod message;
pub(crate) mod quantized;

use std::io::Write;
use std::path::Path;

use inception_graph::{Op, Parameter};
use inception_nn::{ModelSpec, Network, TensorInfo, read_tensors, tensors};

use crate::error::Error;
use crate::metadata::Metadata;
use crate::save::PartFile;
use message::{Writer, int, prefix, value_info};

/// Writes `network` as an ONNX model of `spec`'s input size with an open batch: first beside `path`, then
/// renamed to it.
///
/// The norms stay operations of their own, and tensors keep our names, so that reading it back gives the same
/// bits. GoogLeNet's auxiliary heads, which are no part of inference, are left out.
///
/// # Errors
///
/// [`Error::Io`]; [`Error::Network`] for an input size that the network does not take.
pub fn save(network: &Network, spec: &ModelSpec, metadata: &Metadata, path: &Path) -> Result<(), Error> {
    let structure = network.graph([spec.input_size; 2])?;
    let nodes = &structure.nodes;
    let value = |i: usize| match i {
        0 => "images".to_owned(),
        i if i == structure.output => "logits".to_owned(),
        i => format!("value{i}"),
    };
    let mut graph = Writer::default().bytes(2, spec.name.as_bytes());
    let mut constants = Vec::new();
    let mut used = std::collections::HashSet::new();
    for (i, node) in nodes.iter().enumerate().skip(1) {
        let mut inputs: Vec<String> = node.inputs.iter().map(|&i| value(i)).collect();
        let mut op_weights = |op: &Op<Parameter>| -> Vec<String> {
            let names = op.weights().into_iter().map(|weight| weight.name.clone());
            names.inspect(|name| _ = used.insert(name.clone())).collect()
        };
        let (op, attributes) = match &node.op {
            Op::Input { .. } => continue,
            Op::Conv(conv) => {
                inputs.extend(op_weights(&node.op));
                ("Conv", message::conv(conv))
            }
            Op::BatchNorm(norm) => {
                inputs.extend(op_weights(&node.op));
                let epsilon =
                    Writer::default().bytes(1, b"epsilon").float(2, norm.epsilon as f32).number(20, 1).0;
                ("BatchNormalization", vec![epsilon])
            }
            Op::Relu => ("Relu", vec![]),
            Op::Pool(pool) => message::pool(pool),
            Op::Concat => ("Concat", vec![int("axis", 1)]),
            Op::Add { .. } => ("Add", vec![]),
            Op::GlobalAveragePool => ("GlobalAveragePool", vec![]),
            Op::Scale { scale, .. } => {
                let name = format!("scale{i}");
                let bytes = (*scale as f32).to_le_bytes();
                constants.push(Writer::default().number(2, 1).bytes(8, name.as_bytes()).bytes(9, &bytes).0);
                inputs.push(name);
                ("Mul", vec![])
            }
            Op::Linear(_) => {
                let flat = format!("flat{i}");
                let flatten = message::node("Flatten", &inputs, &flat, &[int("axis", 1)]);
                graph = graph.bytes(1, &flatten);
                inputs = [vec![flat], op_weights(&node.op)].concat();
                ("Gemm", vec![])
            }
            Op::Bias(_) | Op::Affine { .. } | Op::Flatten => {
                unreachable!("no network of the family has a `{}`; a test writes each", node.op.name())
            }
        };
        let output = value(i);
        graph = graph.bytes(1, &message::node(op, &inputs, &output, &attributes));
    }
    let graph = constants.iter().fold(graph, |graph, constant| graph.bytes(5, constant));
    let infos: Vec<_> = tensors(network).into_iter().filter(|info| used.contains(&info.name)).collect();
    let classes = infos.last().map_or(0, |info| info.shape[0]);
    let size = spec.input_size;
    let graph =
        graph.bytes(11, &value_info("images", &[3, size, size])).bytes(12, &value_info("logits", &[classes]));
    write(network, &infos, &graph.0, metadata, path)
}

/// Writes a graph with the values of the tensors `infos`, one tensor in memory at a time.
fn write(
    network: &Network,
    infos: &[TensorInfo],
    graph: &[u8],
    metadata: &Metadata,
    path: &Path,
) -> Result<(), Error> {
    // A tensor's message up to its values, whose lengths are known beforehand.
    let head = |info: &TensorInfo| {
        let head = info.shape.iter().fold(Writer::default(), |w, &d| w.number(1, d as u64));
        let head = head.number(2, 1).bytes(8, info.name.as_bytes());
        let bytes = 4 * info.shape.iter().product::<usize>();
        let (start, prefix) = (head.0, prefix(9, bytes));
        let whole = start.len() + prefix.len() + bytes;
        let message = [self::prefix(5, whole), start, prefix].concat();
        (message, bytes)
    };
    let weights: usize = infos.iter().map(head).map(|(message, bytes)| message.len() + bytes).sum();
    let model = message::model(metadata);
    super::replace_file(path, |file: &mut PartFile| {
        file.write_all(&model.0)?;
        file.write_all(&prefix(7, graph.len() + weights))?;
        file.write_all(graph)?;
        read_tensors(network, |info, data| {
            if infos.contains(info) {
                file.write_all(&head(info).0)?;
                file.write_all(data.convert::<f32>().as_bytes())?;
            }
            Ok(())
        })
    })
}
