//! Recognising the network of a checkpoint.

use inception_graph::with_storage_device;
use inception_nn::{MODELS, ModelSpec};

use super::by_key::share;
use super::find::find;
use super::options::LoadOptions;
use crate::checkpoint::Checkpoint;
use crate::key_scheme::key_tables;

/// The networks that load from `checkpoint`, the one that it names first. No value is read.
pub fn fitting_models(checkpoint: &Checkpoint) -> Vec<&'static ModelSpec> {
    let mut fitting: Vec<&ModelSpec> = with_storage_device(|device| {
        MODELS.iter().filter(|spec| find(spec, checkpoint, device, &LoadOptions::default()).is_ok()).collect()
    });
    fitting.sort_by_key(|spec| checkpoint.metadata.model() != Some(spec.name));
    fitting
}

/// The networks most of whose tensors the file has, with their shapes, whatever the number of classes; the
/// best first, those that have less than half of theirs there left out.
pub fn likely_models(checkpoint: &Checkpoint) -> Vec<&'static ModelSpec> {
    if checkpoint.graph.is_some() {
        return fitting_models(checkpoint);
    }
    let mut scored = Vec::new();
    for spec in MODELS {
        let tables = with_storage_device(|device| {
            let network = spec.config().init(device).ok()?;
            Some(key_tables(&network, spec))
        });
        let Some(tables) = tables else { continue };
        let others = checkpoint.others.iter().map(|dict| &dict.entries[..]);
        let dicts = [&checkpoint.entries[..]].into_iter().chain(others);
        let score = dicts.map(|entries| share(spec, &tables, entries)).max().unwrap_or(0);
        let says = checkpoint.metadata.model() == Some(spec.name);
        scored.push((says, score, spec));
    }
    scored.retain(|(_, score, _)| *score >= 500);
    let best = scored.iter().map(|(_, score, _)| *score).max().unwrap_or(0);
    if best == 1000 {
        scored.retain(|(_, score, _)| *score == 1000);
    }
    scored.sort_by_key(|&(says, score, _)| std::cmp::Reverse((says, score)));
    scored.into_iter().map(|(_, _, spec)| spec).collect()
}
