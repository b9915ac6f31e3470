//! Recognising the network of a checkpoint.

use std::collections::HashSet;

use burn::tensor::Device;
use inception_graph::{match_weights, with_storage_device};
use inception_nn::{MODELS, ModelSpec};

use super::found::CLASSIFIER;
use super::keys::Keys;
use crate::checkpoint::Checkpoint;
use crate::key_scheme::{KeyRow, KeyScheme, key_table};

/// The networks whose tensors the file has, with their shapes, whatever the number of classes; the best
/// first, those that have less than half of theirs there left out.
pub fn likely_models(checkpoint: &Checkpoint) -> Vec<&'static ModelSpec> {
    with_storage_device(|device| fitting(checkpoint, device))
}

fn fitting(checkpoint: &Checkpoint, device: &Device) -> Vec<&'static ModelSpec> {
    if let Some(graph) = &checkpoint.graph {
        let fits = |spec: &&ModelSpec| {
            let structure =
                spec.config().init(device).and_then(|network| network.graph([spec.input_size; 2]));
            structure.is_ok_and(|structure| match_weights(&structure, graph).is_ok())
        };
        return MODELS.iter().filter(fits).collect();
    }
    let keys = Keys::new(checkpoint);
    let mut scored = Vec::new();
    for spec in MODELS {
        let Ok(network) = spec.config().init(device) else { continue };
        let score = KeyScheme::of(spec).map(|scheme| {
            let mut table = key_table(&network, spec.architecture, scheme);
            table.retain(|row| row.constant.is_none() || keys.get(&row.key).is_some());
            let fits = |row: &&KeyRow| {
                let shape = keys.get(&row.key).map(|entry| &entry.shape);
                shape.is_some_and(|shape| *shape == row.shape() || row.tensor.name.starts_with(CLASSIFIER))
            };
            let wanted: HashSet<&str> = table.iter().map(|row| row.key.as_str()).collect();
            let found = table.iter().filter(fits).count();
            let strange = checkpoint.entries.iter().filter(|e| {
                let key = keys.short(&e.key);
                !wanted.contains(key) && !scheme.is_unused(spec.architecture, key)
            });
            (found * 1000).saturating_sub(strange.count() * 500) / table.len()
        });
        let says = checkpoint.metadata.model() == Some(spec.name);
        scored.push((says, score[0].max(score[1]), spec));
    }
    scored.retain(|(_, score, _)| *score >= 500);
    let best = scored.iter().map(|(_, score, _)| *score).max().unwrap_or(0);
    if best == 1000 {
        scored.retain(|(_, score, _)| *score == 1000);
    }
    scored.sort_by_key(|&(says, score, _)| std::cmp::Reverse((says, score)));
    scored.into_iter().map(|(_, _, spec)| spec).collect()
}
