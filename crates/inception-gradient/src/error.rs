use inception_graph as graph;
use inception_graph::{Node, Parameter};

/// Why a graph cannot be trained.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The graph breaks a rule.
    #[error(transparent)]
    Graph(#[from] graph::Error),
    /// `INCEPTION_ISA` names an instruction set that cannot be used.
    #[error("{reason}")]
    Isa {
        /// What the engine says of it.
        reason: String,
    },
    /// It has an operation whose gradient is not known.
    #[error("node {node} ({op}) cannot be trained: {reason}")]
    Unsupported {
        /// The node's name.
        node: String,
        /// Its operation.
        op: &'static str,
        /// What about it is unsupported.
        reason: &'static str,
    },
    /// A map is too large for 32-bit distances.
    #[error("node {node}: a map of {shape} is too large")]
    TooLarge {
        /// The node's name.
        node: String,
        /// Its extent.
        shape: graph::Shape,
    },
}

impl Error {
    /// That `node` cannot be trained.
    pub(crate) fn unsupported(node: &Node<Parameter>, reason: &'static str) -> Self {
        Error::Unsupported { node: node.name.clone(), op: node.op.name(), reason }
    }
}
