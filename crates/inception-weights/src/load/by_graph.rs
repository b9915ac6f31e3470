//! Finding tensors by the operations of a file.

use std::collections::{HashMap, HashSet};

use burn::tensor::Device;
use inception_graph::{Binding, Graph, Parameter, match_weights};
use inception_nn::ModelSpec;

use super::found::{CLASSIFIER_BIAS, Found, Source, classes, misfit};
use crate::checkpoint::Checkpoint;
use crate::entry::Entry;
use crate::error::{Error, Problem};
use crate::key_scheme::KeyScheme;

/// Finds tensors by the operations of the file that use them.
pub(super) fn by_graph<'a>(
    spec: &ModelSpec,
    checkpoint: &'a Checkpoint,
    graph: &'a Graph<Parameter>,
    device: &Device,
) -> Result<Found<'a>, Error> {
    let path = || checkpoint.path.clone();
    let structure = spec.config().init(device)?.graph([spec.input_size; 2])?;
    let bindings = match_weights(&structure, graph).map_err(|difference| Error::Graph {
        path: path(),
        model: spec.name,
        difference,
    })?;
    let entries: HashMap<&str, &Entry> = checkpoint.entries.iter().map(|e| (e.key.as_str(), e)).collect();
    let bias = match bindings.get(CLASSIFIER_BIAS) {
        Some(Binding::Weight { parameter, .. }) => entries.get(&*parameter.name).copied(),
        _ => None,
    };
    let classes = classes(spec, bias);
    let (mut sources, mut problems, mut used) = (Vec::new(), Vec::new(), HashSet::new());
    for info in inception_nn::tensors(&spec.config().with_num_classes(classes).init(device)?) {
        sources.push(match bindings.get(&info.name) {
            None => Source::Nowhere,
            Some(Binding::Constant(value)) => Source::Constant(*value),
            Some(Binding::Weight { parameter: Parameter { name: key, .. }, transposed }) => {
                let mut shape = info.shape;
                if *transposed {
                    shape.reverse();
                }
                used.insert(key.as_str());
                let Some(&entry) = entries.get(key.as_str()) else {
                    problems.push(Problem::Missing { key: key.clone(), shape, nearest: None });
                    continue;
                };
                problems.extend(misfit(entry, shape));
                Source::Entry { entry, transposed: *transposed }
            }
        });
    }
    if !problems.is_empty() {
        return Err(Error::Mismatch { path: path(), model: spec.name, problems, likely: Vec::new() });
    }
    let unused = checkpoint.entries.iter().filter(|e| !used.contains(e.key.as_str())).map(|e| e.key.clone());
    let ours = checkpoint.metadata.model().is_some();
    let key_scheme = if ours { KeyScheme::Native } else { KeyScheme::Graph };
    Ok(Found { key_scheme, classes, sources, unused: unused.collect() })
}
