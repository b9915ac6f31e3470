//! Finding tensors by the operations of a file.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use burn::tensor::Device;
use inception_graph::{
    Binding, Graph, Matching, Node, NodeId, Op, Parameter, match_graphs, with_storage_device,
};
use inception_nn::{HiddenLayer, ModelSpec, Network};

use super::found::{Found, ValueSource, misfit};
use crate::checkpoint::Checkpoint;
use crate::entry::{Entry, Source as EntrySource};
use crate::error::{Error, Problem};
use crate::key_scheme::{KeyScheme, shape_in_file};

/// Finds tensors by the operations of the file that use them.
pub(super) fn by_graph<'a>(
    spec: &ModelSpec,
    checkpoint: &'a Checkpoint,
    graph: &'a Graph<Parameter>,
    device: &Device,
) -> Result<Found<'a>, Error> {
    let path = || checkpoint.path.clone();
    let Built { network, classes, hidden } = built(spec, graph, device)?;
    let Matching { weights: bindings, biases, .. } = matched(spec, checkpoint, graph, &network)?;
    let entries: HashMap<&str, &Entry> = checkpoint.entries.iter().map(|e| (e.key.as_str(), e)).collect();
    let (mut sources, mut problems, mut used) = (Vec::new(), Vec::new(), HashSet::new());
    for info in inception_nn::tensors(&network) {
        sources.push(match bindings.get(&info.name) {
            None => ValueSource::Nowhere,
            Some(Binding::Constant(value)) => ValueSource::Constant(*value),
            Some(Binding::Weight { parameter: Parameter { name: key, .. }, transposed }) => {
                let shape = shape_in_file(&info, *transposed);
                used.insert(key.as_str());
                let Some(&entry) = entries.get(key.as_str()) else {
                    problems.push(Problem::Missing { key: key.clone(), shape, nearest: None });
                    continue;
                };
                problems.extend(misfit(entry, shape));
                ValueSource::Entry { entry, transposed: *transposed }
            }
        });
    }
    if !problems.is_empty() {
        return Err(Error::Mismatch { path: path(), model: spec.name, problems, likely: Vec::new() });
    }
    let unused = checkpoint.entries.iter().filter(|e| !used.contains(e.key.as_str())).map(|e| e.key.clone());
    let ours = checkpoint.metadata.model().is_some();
    let key_scheme = if ours { KeyScheme::Native } else { KeyScheme::Graph };
    let unused = unused.collect();
    let mut notes = checkpoint.surroundings.notes.clone();
    if !biases.is_empty() {
        notes.push(format!("{} corrections of rounded weights are for int8 alone", biases.len()));
    }
    // Operations are those of inference.
    let auxiliary = false;
    Ok(Found { key_scheme, classes, hidden, auxiliary, sources, unused, unexpected: Vec::new(), notes })
}

/// The network of a file's classes.
struct Built {
    network: Network,
    classes: usize,
    hidden: Vec<HiddenLayer>,
}

fn built(spec: &ModelSpec, graph: &Graph<Parameter>, device: &Device) -> Result<Built, Error> {
    let mut hidden = classifier(graph);
    let classes = hidden.pop().map(|last| last.outputs).filter(|&classes| classes > 0);
    let classes = classes.unwrap_or(spec.num_classes);
    let network = spec.config().with_num_classes(classes).with_hidden(&hidden).init(device)?;
    Ok(Built { network, classes, hidden })
}

fn matched<'a>(
    spec: &ModelSpec,
    checkpoint: &Checkpoint,
    graph: &'a Graph<Parameter>,
    network: &Network,
) -> Result<Matching<'a>, Error> {
    let other = |difference| Error::Graph { path: checkpoint.path.clone(), model: spec.name, difference };
    let matching = match_graphs(&network.graph([spec.input_size; 2])?, graph).map_err(other)?;
    match matching.biases.first() {
        Some(bias) if checkpoint.quants.is_empty() => Err(other(bias.difference.clone())),
        _ => Ok(matching),
    }
}

/// What a file quantises of a network.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ActivationScales {
    /// Scales (one, or one for each channel) and zero point of tensors, by the numbers of the nodes of
    /// [`Network::graph`].
    pub tensors: BTreeMap<NodeId, (Vec<f32>, u8)>,
    /// The layers whose weights are floating-point numbers.
    pub floats: BTreeSet<String>,
    /// What is added to the outputs of layers that the network is written without a bias for.
    pub biases: BTreeMap<String, Vec<f32>>,
}

/// What a file quantises of `spec`'s network; `None` where it quantises no tensor.
///
/// # Errors
///
/// [`Error::Graph`] for a file whose operations are others.
pub fn activation_scales(
    spec: &ModelSpec,
    checkpoint: &Checkpoint,
) -> Result<Option<ActivationScales>, Error> {
    let Some(graph) = checkpoint.graph.as_ref().filter(|_| !checkpoint.quants.is_empty()) else {
        return Ok(None);
    };
    with_storage_device(|device| {
        let network = built(spec, graph, device)?.network;
        let Matching { weights, nodes, biases, .. } = matched(spec, checkpoint, graph, &network)?;
        let mut corrections = BTreeMap::new();
        for bias in biases {
            if let Some(entry) = checkpoint.entries.iter().find(|entry| entry.key == bias.parameter.name) {
                corrections.insert(bias.layer, checkpoint.values(entry)?);
            }
        }
        let is_quantized = |entry: &&Entry| matches!(entry.source, EntrySource::Quantized { .. });
        let quantized: HashSet<&str> =
            checkpoint.entries.iter().filter(is_quantized).map(|entry| entry.key.as_str()).collect();
        let float = |(name, binding): (String, Binding)| match binding {
            Binding::Weight { parameter, .. } if !quantized.contains(parameter.name.as_str()) => {
                name.strip_suffix(".weight").map(str::to_owned)
            }
            _ => None,
        };
        let floats = weights.into_iter().filter_map(float).collect();
        let quant = |(our, their): (NodeId, NodeId)| Some((our, checkpoint.quants.get(&their)?.clone()));
        let tensors = nodes.into_iter().filter_map(quant).collect();
        Ok(Some(ActivationScales { tensors, floats, biases: corrections }))
    })
}

/// The fully connected layers at the end of a graph, in order.
fn classifier(graph: &Graph<Parameter>) -> Vec<HiddenLayer> {
    let (mut layers, mut relu, mut at) = (Vec::new(), false, graph.output);
    while let Some(Node { op, inputs, .. }) = graph.nodes.get(at) {
        match op {
            // More of them are no classifier.
            Op::Linear(linear) if layers.len() < 8 => {
                layers.push(HiddenLayer { outputs: linear.out_features, relu });
                relu = false;
            }
            Op::Relu => relu = true,
            Op::Flatten | Op::Scale { scale: 1.0, shift: 0.0 } => {}
            _ => break,
        }
        match inputs.first() {
            Some(&input) if input < at => at = input,
            _ => break,
        }
    }
    layers.reverse();
    layers
}
