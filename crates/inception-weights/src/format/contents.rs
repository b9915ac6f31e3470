//! What a reader finds.

use std::collections::BTreeMap;

use inception_graph::{Graph, NodeId, Parameter};

use crate::entry::Entry;
use crate::graph::TensorScales;
use crate::metadata::Metadata;
use crate::surroundings::Surroundings;

/// A dictionary of tensors in a file that has several.
#[derive(Clone, Debug)]
pub(crate) struct StateDict {
    /// Where it is in the file: keys, joined by dots.
    pub name: String,
    pub entries: Vec<Entry>,
}

/// The tensors of a file and what it says about them.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub entries: Vec<Entry>,
    /// Where `entries` were, in a file of nested dictionaries.
    pub state_dict: String,
    /// Further dictionaries of tensors.
    pub others: Vec<StateDict>,
    pub metadata: Metadata,
    pub graph: Option<Graph<Parameter>>,
    /// Scale and zero point of the tensors of the graph that the file quantises.
    pub quants: BTreeMap<NodeId, TensorScales>,
    /// What the operations around the network do.
    pub surroundings: Surroundings,
}
