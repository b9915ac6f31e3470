//! Layers in `f32` in a network of integers: what is stored as what, and where it is converted.

use std::collections::BTreeSet;

use crate::dtype::DType;
use crate::graph::{Graph, Node, NodeId, Op};
use crate::plan::dtypes;
use crate::quantization::keys;
use crate::{Error, QuantParams, Quantization};

/// What the tensors of a graph are stored as, by node.
pub(crate) struct StoredAs {
    /// The types.
    pub dtypes: Vec<DType>,
    /// What bytes stand for.
    pub quants: Vec<QuantParams>,
}

/// Applies `quantization` to `graph`, which has been through the passes: makes its convolutions in `f32` read
/// that, and puts a conversion wherever one type is stored and another is read.
///
/// A convolution in `f32` stores bytes if nothing in `f32` reads it, and a depthwise one always `f32`. The
/// image, pools and convolutions of bytes are `f32` if all that read them are, but for depthwise convolutions
/// and those with a residual, which have no such kernels. A residual is of the type of what it is added to.
/// Conversions are scales by one, of which the passes leave none.
///
/// # Errors
/// As [`Quantization::apply`].
pub(crate) fn mix(graph: &mut Graph, quantization: &Quantization) -> Result<StoredAs, Error> {
    let ends = dtypes(graph, DType::U8);
    let quants = quantization.apply(graph, &ends)?;
    let is_float: Vec<bool> = graph
        .nodes
        .iter()
        .zip(keys(graph))
        .map(|(node, key)| {
            matches!(node.op, Op::Conv(_))
                && ends[node.inputs[0]] == DType::U8
                && quantization.floats.contains(&key)
        })
        .collect();
    if !is_float.contains(&true) {
        return Ok(StoredAs { dtypes: ends, quants });
    }
    let consumers = graph.consumers();
    let multiplied_as_float =
        |id: NodeId, reader: NodeId| is_float[reader] && graph.nodes[reader].inputs[0] == id;
    let stored: Vec<DType> = (0..graph.nodes.len())
        .map(|id| {
            let mut readers = consumers[id].iter().map(|&reader| multiplied_as_float(id, reader));
            let float = match &graph.nodes[id].op {
                _ if ends[id] == DType::F32 => true,
                Op::Conv(conv) if is_float[id] => conv.is_depthwise() || readers.any(|float| float),
                Op::Conv(conv) if conv.is_depthwise() || graph.nodes[id].inputs.len() > 1 => false,
                Op::Input { .. } | Op::Pool(_) | Op::Conv(_) => {
                    !consumers[id].is_empty() && readers.all(|float| float)
                }
                _ => false,
            };
            if float { DType::F32 } else { DType::U8 }
        })
        .collect();
    // The type in which node `id` reads its input number `at`.
    let read = |id: NodeId, at: usize| match &graph.nodes[id].op {
        _ if ends[graph.nodes[id].inputs[at]] == DType::F32 => DType::F32,
        Op::Conv(_) if at == 1 => stored[id],
        _ if is_float[id] => DType::F32,
        _ => DType::U8,
    };
    let converted: BTreeSet<NodeId> = (0..graph.nodes.len())
        .flat_map(|id| graph.nodes[id].inputs.iter().enumerate().map(move |(at, &input)| (id, at, input)))
        .filter(|&(id, at, input)| read(id, at) != stored[input])
        .map(|(_, _, input)| input)
        .collect();
    let inputs: Vec<Vec<(NodeId, bool)>> = (0..graph.nodes.len())
        .map(|id| {
            let inputs = graph.nodes[id].inputs.iter().enumerate();
            inputs.map(|(at, &input)| (input, read(id, at) != stored[input])).collect()
        })
        .collect();
    let (mut nodes, mut result) = (Vec::new(), StoredAs { dtypes: Vec::new(), quants: Vec::new() });
    // Where each node is now, and its conversion.
    let mut places: Vec<[NodeId; 2]> = Vec::new();
    for (id, mut node) in std::mem::take(&mut graph.nodes).into_iter().enumerate() {
        node.inputs = inputs[id].iter().map(|&(input, other)| places[input][usize::from(other)]).collect();
        let place = nodes.len();
        let conversion = converted.contains(&id).then(|| {
            let other = if stored[id] == DType::F32 { (DType::U8, "int8") } else { (DType::F32, "f32") };
            let name = format!("{} as {}", node.name, other.1);
            let op = Op::Scale { scale: 1.0, shift: 0.0 };
            (Node { name, op, inputs: vec![place], shape: node.shape }, other.0)
        });
        nodes.push(node);
        result.dtypes.push(stored[id]);
        result.quants.push(quants[id]);
        if let Some((node, dtype)) = conversion {
            nodes.push(node);
            result.dtypes.push(dtype);
            result.quants.push(quants[id]);
        }
        places.push([place, nodes.len() - 1]);
    }
    graph.nodes = nodes;
    graph.output = places[graph.output][0];
    Ok(result)
}
