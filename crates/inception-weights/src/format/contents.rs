//! What a reader finds.

use inception_graph::{Graph, Parameter};

use crate::entry::Entry;
use crate::metadata::Metadata;

/// The tensors of a file and what it says about them.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub entries: Vec<Entry>,
    pub metadata: Metadata,
    pub graph: Option<Graph<Parameter>>,
}
