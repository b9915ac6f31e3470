//! Finding the tensors of a network in a file of any kind.

use burn::tensor::Device;
use inception_nn::ModelSpec;

use super::by_graph::by_graph;
use super::by_key::by_key;
use super::found::Found;
use super::options::LoadOptions;
use crate::checkpoint::Checkpoint;
use crate::error::Error;

/// By the operations of the file, where it has some, otherwise by keys.
pub(super) fn find<'a>(
    spec: &ModelSpec,
    checkpoint: &'a Checkpoint,
    device: &Device,
    options: &LoadOptions,
) -> Result<Found<'a>, Error> {
    match &checkpoint.graph {
        Some(graph) => by_graph(spec, checkpoint, graph, device),
        None => by_key(spec, checkpoint, device, options),
    }
}
