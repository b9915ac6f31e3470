//! The rows of [`Compiled::explain`](crate::Compiled::explain).

use super::fusion::Lowering;
use super::lowering::PlannedStep;
use crate::KernelName;
use crate::graph::{Graph, Node, NodeId, Op};

/// A node of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedNode {
    /// The node's name.
    pub node: String,
    /// Its operation with what was fused into it.
    pub op: String,
    /// The kernel of its step; `None` where it is computed with another node.
    pub kernel: Option<KernelName>,
    /// How it is computed: the kernel, or with which other node.
    pub lowering: String,
    /// Rows, columns and channels of the output.
    pub shape: [usize; 3],
    /// Multiply-adds for one image, by the direct method.
    pub macs: u64,
}

/// A row for each node of a graph that has yet to be lowered, with its name, operation and multiply-adds.
pub(super) fn describe(graph: &Graph) -> Vec<PlannedNode> {
    let row = |node: &Node| PlannedNode {
        node: node.name.clone(),
        op: operation(node),
        kernel: None,
        lowering: String::new(),
        shape: [0; 3],
        macs: node.macs(),
    };
    graph.nodes.iter().map(row).collect()
}

/// Completes the rows with what became of the nodes.
pub(super) fn complete(
    rows: &mut [PlannedNode],
    graph: &Graph,
    lowerings: &[Lowering],
    steps: &[PlannedStep],
) {
    let kernel =
        |id: NodeId| steps.iter().find(|step| step.nodes.contains(&id)).map(|step| step.step.kernel());
    let name = |id: NodeId| &graph.nodes[id].name;
    for (id, row) in rows.iter_mut().enumerate() {
        let shape = graph.nodes[id].shape;
        row.shape = [shape.height, shape.width, shape.channels];
        row.lowering = match lowerings[id] {
            Lowering::InPlace => "in place".into(),
            Lowering::Prologue(reader) => format!("on the way into {}", name(reader)),
            Lowering::FusedOutput(leader) => format!("with {}", name(leader)),
            Lowering::Step => {
                row.kernel = kernel(id);
                row.kernel.map(|kernel| kernel.to_string()).unwrap_or_default()
            }
        };
    }
}

/// A node's operation with what was fused into it.
fn operation(node: &Node) -> String {
    let mut op = String::new();
    if let Op::Conv(conv) = &node.op
        && conv.input_relu
    {
        op += "relu+";
    }
    // The passes leave no other scales by one number.
    op += if matches!(node.op, Op::Scale { .. }) { "convert" } else { node.op.name() };
    if let Op::Conv(conv) = &node.op {
        op += &format!(" {}x{}", conv.window.kernel[0], conv.window.kernel[1]);
    }
    if matches!(node.op, Op::Conv(_)) && node.inputs.len() > 1 {
        op += "+add";
    }
    let relu = match &node.op {
        Op::Conv(conv) => conv.relu,
        Op::Pool(pool) => pool.relu,
        Op::Add { relu } => *relu,
        _ => false,
    };
    if relu {
        op += "+relu";
    }
    op
}
