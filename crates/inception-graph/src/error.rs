/// What is wrong with a graph, or with the module that it was to be captured from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The captured module uses an operation that a graph does not have.
    #[error("operation {op} (number {index} of the captured graph) is not supported: {reason}")]
    Unsupported {
        /// The operation's name in Burn's intermediate representation.
        op: String,
        /// Its place in the captured graph, from zero.
        index: usize,
        /// What about it is unsupported.
        reason: String,
    },
    /// A graph breaks a rule: a shape does not fit, an input is missing, an order is wrong.
    #[error("node {node} ({op}): {reason}")]
    Graph {
        /// The node's name.
        node: String,
        /// Its operation.
        op: &'static str,
        /// The rule that it breaks.
        reason: String,
    },
    /// Burn could not capture the module.
    #[error("the module could not be captured: {0}")]
    Capture(String),
}
