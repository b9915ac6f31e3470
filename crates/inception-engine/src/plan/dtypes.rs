//! Data types: what each node's tensor is stored as.

use crate::dtype::DType;
use crate::graph::{Graph, NodeId, Op};

/// The type of each node's tensor: activations are stored as `activations`, and the result as `f32`. Between
/// `bf16` what a pool or a convolution reduces to one pixel is `f32`, too, as long as only convolutions read
/// it, and so is the classifier. (There are kernels from `f32` and to `f32` for convolutions, and to `f32`
/// for pools.)
pub(crate) fn dtypes(graph: &Graph, activations: DType) -> Vec<DType> {
    let consumers = graph.consumers();
    let at_the_end = |id: NodeId| {
        let node = &graph.nodes[id];
        let written = match &node.op {
            Op::Pool(_) => true,
            Op::Conv(conv) => !conv.is_depthwise() && node.inputs.len() == 1,
            _ => false,
        };
        let read = consumers[id].iter().all(|&reader| match &graph.nodes[reader].op {
            Op::Conv(conv) => {
                !conv.is_depthwise() && !conv.input_relu && graph.nodes[reader].inputs.get(1) != Some(&id)
            }
            _ => false,
        });
        written && read && (id == graph.output || activations != DType::U8 && node.shape.pixels() == 1)
    };
    (0..graph.nodes.len()).map(|id| if at_the_end(id) { DType::F32 } else { activations }).collect()
}
