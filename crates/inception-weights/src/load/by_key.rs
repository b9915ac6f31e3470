//! Finding tensors by their keys.

use std::collections::HashSet;

use burn::tensor::Device;
use inception_nn::{ModelSpec, nearest};

use super::found::{CLASSIFIER, CLASSIFIER_BIAS, Found, Source, classes, misfit};
use super::keys::Keys;
use super::likely::likely_models;
use crate::checkpoint::Checkpoint;
use crate::entry::Entry;
use crate::error::{Error, Problem};
use crate::key_scheme::{KeyRow, KeyScheme, key_table};

/// Finds tensors under the keys of our key schemes.
pub(super) fn by_key<'a>(
    spec: &ModelSpec,
    checkpoint: &'a Checkpoint,
    device: &Device,
) -> Result<Found<'a>, Error> {
    let keys = Keys::new(checkpoint);
    let published = spec.config().init(device)?;
    let tables = KeyScheme::of(spec).map(|scheme| (scheme, key_table(&published, spec.architecture, scheme)));
    let known = |table: &[KeyRow]| table.iter().filter(|row| keys.get(&row.key).is_some()).count();
    let [native, foreign] = tables;
    let (key_scheme, table) = if known(&foreign.1) > known(&native.1) { foreign } else { native };
    let bias = table.iter().find(|row| row.tensor.name == CLASSIFIER_BIAS);
    let classes = classes(spec, bias.and_then(|row| keys.get(&row.key)));
    let table = match classes == spec.num_classes {
        true => table,
        false => {
            let network = spec.config().with_num_classes(classes).init(device)?;
            key_table(&network, spec.architecture, key_scheme)
        }
    };
    let mut unused = Vec::new();
    let problems = differences(spec, key_scheme, &table, &keys, &mut unused);
    let classifier = table.iter().filter(|row| row.tensor.name.starts_with(CLASSIFIER));
    let lacks = |row: &KeyRow| {
        problems.iter().any(|problem| matches!(problem, Problem::Missing { key, .. } if *key == row.key))
    };
    if problems.len() == classifier.clone().count() && classifier.into_iter().all(lacks) {
        return Err(Error::NoClassifier { path: checkpoint.path.clone(), model: spec.name });
    }
    if !problems.is_empty() {
        let likely = likely_models(checkpoint).into_iter().map(|spec| spec.name);
        let likely = likely.filter(|&name| name != spec.name).collect();
        return Err(Error::Mismatch { path: checkpoint.path.clone(), model: spec.name, problems, likely });
    }
    let source = |row: &KeyRow| match keys.get(&row.key) {
        Some(entry) => Source::Entry { entry, transposed: row.transposed },
        None => row.constant.map_or(Source::Nowhere, Source::Constant), // No difference was found.
    };
    Ok(Found { key_scheme, classes, sources: table.iter().map(source).collect(), unused })
}

/// All differences between the file and the network.
fn differences(
    spec: &ModelSpec,
    key_scheme: KeyScheme,
    table: &[KeyRow],
    keys: &Keys,
    unused: &mut Vec<String>,
) -> Vec<Problem> {
    let wanted: HashSet<&str> = table.iter().map(|row| row.key.as_str()).collect();
    let mut unknown: Vec<&Entry> = Vec::new();
    for entry in keys.all {
        let key = keys.short(&entry.key);
        match wanted.contains(key) {
            true => {}
            false if key_scheme.is_unused(spec.architecture, key) => unused.push(entry.key.clone()),
            false => unknown.push(entry),
        }
    }
    // The search takes time, and in a file of another network only the first few keys are shown.
    let mut nearest_left = 20;
    let mut problems: Vec<Problem> =
        keys.twice.iter().map(|&key| Problem::Duplicate { key: key.to_owned() }).collect();
    for row in table {
        let shape = row.shape();
        match keys.get(&row.key) {
            None if row.constant.is_some() => {}
            None => {
                let candidates = unknown.iter().take_while(|_| nearest_left > 0);
                let nearest = nearest(&row.key, candidates, |e| keys.short(&e.key), 1).pop();
                let nearest = nearest.map(|entry| entry.key.clone());
                nearest_left -= usize::from(nearest.is_some());
                problems.push(Problem::Missing { key: row.key.clone(), shape, nearest });
            }
            Some(entry) => problems.extend(misfit(entry, shape)),
        }
    }
    let of_file =
        unknown.into_iter().map(|e| Problem::Unknown { key: e.key.clone(), shape: e.shape.clone() });
    problems.extend(of_file);
    problems
}
