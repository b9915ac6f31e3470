//! From a checkpoint to a network, all of it.

use std::collections::{HashMap, HashSet};

use burn::tensor::{Device, TensorData};
use inception_nn::{MODELS, ModelSpec, Network, TensorInfo, load_tensors};

use crate::checkpoint::{Checkpoint, Dtype, Entry};
use crate::dialect::{Dialect, NameRow, name_table};
use crate::error::{Error, Problem};
use crate::graph::{Binding, Graph, bind};

/// A network with a checkpoint's weights.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The network.
    pub network: Network,
    /// Number of classes, found from the classifier's shape.
    pub num_classes: usize,
    /// Whose names the file used.
    pub dialect: Dialect,
    /// Our names of tensors in which a value is infinite or not a number.
    pub not_finite: Vec<String>,
    /// Whether the classifier had one class more than published, TensorFlow's "background" before all others, which
    /// has been left out.
    pub background_dropped: bool,
    /// Keys of the file that no part of the network needs, as the dialect allows them: counters of batches and heads
    /// for training only.
    pub unused: Vec<String>,
    /// Our names of tensors that inference does not need and that the file, a graph for inference, does not have: they
    /// keep their initial values.
    pub not_in_file: Vec<String>,
}

/// How to load a checkpoint.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoadOptions {
    /// Keep the first of 1001 classes; otherwise a foreign file's classifier with one class more than published is
    /// taken for TensorFlow's, whose first class is the background, and loses it.
    pub keep_background: bool,
}

/// Builds the network of `spec` with as many classes as `checkpoint` has, on `device`, and fills all of it.
///
/// # Errors
///
/// [`Error::Mismatch`] with every tensor that is missing, unknown, misshapen, of the wrong kind or there twice;
/// [`Error::Io`] and [`Error::Damaged`] while reading the values.
pub fn load(spec: &ModelSpec, checkpoint: &Checkpoint, device: &Device) -> Result<Loaded, Error> {
    load_with(spec, checkpoint, device, LoadOptions::default())
}

/// As [`load`], with options.
///
/// # Errors
///
/// As [`load`].
pub fn load_with(
    spec: &ModelSpec,
    checkpoint: &Checkpoint,
    device: &Device,
    options: LoadOptions,
) -> Result<Loaded, Error> {
    if let Some(graph) = &checkpoint.graph {
        return load_graph(spec, checkpoint, graph, device, options);
    }
    let keys = Keys::new(checkpoint);
    let published = spec.config().init(device)?;
    let tables = Dialect::of(spec.architecture)
        .map(|dialect| (dialect, name_table(&published, spec.architecture, dialect)));
    let known = |table: &[NameRow]| table.iter().filter(|row| keys.get(&row.key).is_some()).count();
    let [native, foreign] = tables;
    let (dialect, table) = if known(&foreign.1) > known(&native.1) { foreign } else { native };

    let in_file = table
        .iter()
        .find(|row| row.tensor.name == "head.fc.bias")
        .and_then(|row| keys.get(&row.key))
        .and_then(|entry| entry.shape.first().copied())
        .filter(|&classes| classes > 0)
        .unwrap_or(spec.num_classes);
    let background_dropped =
        dialect != Dialect::Native && in_file == spec.num_classes + 1 && !options.keep_background;
    let num_classes = if background_dropped { spec.num_classes } else { in_file };
    let network = spec.config().with_num_classes(num_classes).init(device)?;
    // The file's shapes are those of a network with the file's classes.
    let table = match in_file == spec.num_classes {
        true => table,
        false => {
            let wide = spec.config().with_num_classes(in_file).init(device)?;
            name_table(&wide, spec.architecture, dialect)
        }
    };
    let mut unused = Vec::new();
    let problems = differences(spec, dialect, &table, &keys, &mut unused);
    if !problems.is_empty() {
        let likely = likely_models(checkpoint, device).into_iter().map(|spec| spec.name);
        let likely = likely.filter(|&name| name != spec.name).collect();
        return Err(Error::Mismatch { path: checkpoint.path.clone(), model: spec.name, problems, likely });
    }

    let mut rows = table.iter();
    let mut not_finite = Vec::new();
    let network = load_tensors(network, |info: &TensorInfo| {
        let row = rows.next().expect("a row for each tensor");
        let entry = keys.get(&row.key).expect("no difference was found");
        let mut values = checkpoint.values(entry)?;
        if values.iter().any(|v| !v.is_finite()) {
            not_finite.push(info.name.clone());
        }
        if let ([rows, columns], true) = (&entry.shape[..], row.transposed) {
            values = transposed(&values, *rows, *columns);
        }
        let values = without_background(values, &row.tensor.shape, &info.shape);
        Ok::<_, Error>(Some(TensorData::new(values, info.shape.clone())))
    })?;
    Ok(Loaded {
        network,
        num_classes,
        dialect,
        not_finite,
        background_dropped,
        unused,
        not_in_file: Vec::new(),
    })
}

/// Fills `spec`'s network from a file whose operations say which tensor is which.
fn load_graph(
    spec: &ModelSpec,
    checkpoint: &Checkpoint,
    graph: &Graph,
    device: &Device,
    options: LoadOptions,
) -> Result<Loaded, Error> {
    let path = || checkpoint.path.clone();
    let outline = spec.config().init(device)?.outline();
    let bindings = bind(&outline, graph).map_err(|difference| Error::Graph {
        path: path(),
        model: spec.name,
        difference,
    })?;
    let entries: HashMap<&str, &Entry> = checkpoint.entries.iter().map(|e| (e.key.as_str(), e)).collect();
    let entry_of = |name: &str| match bindings.get(name) {
        Some(Binding::Key { key, transposed }) => {
            entries.get(key.as_str()).map(|entry| (*entry, *transposed))
        }
        _ => None,
    };
    let in_file = entry_of("head.fc.bias").and_then(|(entry, _)| entry.shape.first().copied());
    let in_file = in_file.filter(|&classes| classes > 0).unwrap_or(spec.num_classes);
    let ours = checkpoint.metadata.model().is_some();
    let background_dropped = in_file == spec.num_classes + 1 && !options.keep_background && !ours;
    let num_classes = if background_dropped { spec.num_classes } else { in_file };
    let wide = inception_nn::tensors(&spec.config().with_num_classes(in_file).init(device)?);
    let mut problems = Vec::new();
    for info in &wide {
        let Some(Binding::Key { key, transposed }) = bindings.get(&info.name) else { continue };
        let mut wanted = info.shape.clone();
        if *transposed {
            wanted.reverse();
        }
        match entries.get(key.as_str()) {
            None => problems.push(Problem::Missing { key: key.clone(), shape: wanted, nearest: None }),
            Some(entry) if entry.shape != wanted => {
                problems.push(Problem::Shape { key: key.clone(), wanted, found: entry.shape.clone() });
            }
            Some(Entry { dtype: Dtype::Other(dtype), .. }) => {
                problems.push(Problem::Dtype { key: key.clone(), dtype: dtype.clone() });
            }
            Some(_) => {}
        }
    }
    if !problems.is_empty() {
        return Err(Error::Mismatch { path: path(), model: spec.name, problems, likely: Vec::new() });
    }
    let network = spec.config().with_num_classes(num_classes).init(device)?;
    let mut wide = wide.iter();
    let (mut not_finite, mut not_in_file) = (Vec::new(), Vec::new());
    let network = load_tensors(network, |info: &TensorInfo| {
        let wide = wide.next().expect("the same tensors whatever the classes");
        let count = info.shape.iter().product();
        let values = match bindings.get(&info.name) {
            None => {
                not_in_file.push(info.name.clone());
                return Ok(None);
            }
            Some(Binding::Constant(value)) => vec![*value; count],
            Some(Binding::Key { .. }) => {
                let (entry, is_transposed) = entry_of(&info.name).expect("was there a moment ago");
                let mut values = checkpoint.values(entry)?;
                if let ([rows, columns], true) = (&entry.shape[..], is_transposed) {
                    values = transposed(&values, *rows, *columns);
                }
                values
            }
        };
        if values.iter().any(|v| !v.is_finite()) {
            not_finite.push(info.name.clone());
        }
        let values = without_background(values, &wide.shape, &info.shape);
        Ok::<_, Error>(Some(TensorData::new(values, info.shape.clone())))
    })?;
    let used: HashSet<&str> = bindings
        .values()
        .filter_map(|binding| if let Binding::Key { key, .. } = binding { Some(key.as_str()) } else { None })
        .collect();
    let unused = checkpoint.entries.iter().filter(|e| !used.contains(e.key.as_str())).map(|e| e.key.clone());
    let dialect = if ours { Dialect::Native } else { Dialect::Graph };
    Ok(Loaded {
        network,
        num_classes,
        dialect,
        not_finite,
        background_dropped,
        unused: unused.collect(),
        not_in_file,
    })
}

/// Leaves out the first class where the file has one more than we want.
fn without_background(values: Vec<f32>, in_file: &[usize], wanted: &[usize]) -> Vec<f32> {
    match in_file.last() {
        // The classes are the last dimension.
        Some(&last) if in_file != wanted => {
            values.chunks(last).flat_map(|classes| &classes[1..]).copied().collect()
        }
        _ => values,
    }
}

fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut result = Vec::with_capacity(values.len());
    for column in 0..columns {
        result.extend((0..rows).map(|row| values[row * columns + column]));
    }
    result
}

/// The networks whose tensors the file has, with their shapes, whatever the number of classes; the best first, those
/// that have less than half of theirs there left out. `device` is one to build them on; no value is made.
pub fn likely_models(checkpoint: &Checkpoint, device: &Device) -> Vec<&'static ModelSpec> {
    if let Some(graph) = &checkpoint.graph {
        let fits = |spec: &&ModelSpec| {
            spec.config().init(device).is_ok_and(|network| bind(&network.outline(), graph).is_ok())
        };
        return MODELS.iter().filter(fits).collect();
    }
    let keys = Keys::new(checkpoint);
    let mut scored = Vec::new();
    for spec in MODELS {
        let Ok(network) = spec.config().init(device) else { continue };
        let score = Dialect::of(spec.architecture).map(|dialect| {
            let table = name_table(&network, spec.architecture, dialect);
            let fits = |row: &&NameRow| {
                let shape = keys.get(&row.key).map(|entry| &entry.shape);
                shape.is_some_and(|shape| *shape == row.shape() || row.tensor.name.starts_with("head.fc"))
            };
            let wanted: HashSet<&str> = table.iter().map(|row| row.key.as_str()).collect();
            let found = table.iter().filter(fits).count();
            let strange = checkpoint.entries.iter().filter(|e| {
                let key = keys.short(&e.key);
                !wanted.contains(key) && !dialect.is_unused(spec.architecture, key)
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

/// Wrappers whose name is in front of every key: `DataParallel`, `torch.compile`, those of training loops, and the
/// variants of [`Network`], which Burn's own files have there.
const PREFIXES: &[&str] = &["module.", "_orig_mod.", "model.", "GoogLeNet.", "Inception.", "Xception."];

/// A checkpoint's entries by their keys without what wrappers have put in front of all.
struct Keys<'a> {
    entries: HashMap<&'a str, &'a Entry>,
    twice: Vec<&'a str>,
    all: &'a [Entry],
    prefix: usize,
}

impl<'a> Keys<'a> {
    fn new(checkpoint: &'a Checkpoint) -> Self {
        let all = &checkpoint.entries[..];
        let mut prefix = 0;
        while !all.is_empty()
            && let Some(wrapper) = PREFIXES
                .iter()
                .find(|p| all.iter().all(|e| e.key.get(prefix..).is_some_and(|k| k.starts_with(**p))))
        {
            prefix += wrapper.len();
        }
        let mut entries = HashMap::new();
        let twice = all.iter().filter(|e| entries.insert(&e.key[prefix..], *e).is_some());
        let twice = twice.map(|e| e.key.as_str()).collect();
        Self { twice, entries, all, prefix }
    }

    fn get(&self, key: &str) -> Option<&'a Entry> {
        self.entries.get(key).copied()
    }

    fn short<'k>(&self, key: &'k str) -> &'k str {
        &key[self.prefix..]
    }
}

/// Everything in which the file and the network differ.
fn differences(
    spec: &ModelSpec,
    dialect: Dialect,
    table: &[NameRow],
    keys: &Keys,
    unused: &mut Vec<String>,
) -> Vec<Problem> {
    let wanted: HashSet<&str> = table.iter().map(|row| row.key.as_str()).collect();
    let mut unknown: Vec<&Entry> = Vec::new();
    for entry in keys.all {
        let key = keys.short(&entry.key);
        match wanted.contains(key) {
            true => {}
            false if dialect.is_unused(spec.architecture, key) => unused.push(entry.key.clone()),
            false => unknown.push(entry),
        }
    }
    // Looking for the nearest key takes a while: in a wholly different file it helps with the first few only.
    let mut nearest_left = 20;
    let mut problems: Vec<Problem> =
        keys.twice.iter().map(|&key| Problem::Duplicate { key: key.to_owned() }).collect();
    for row in table {
        let shape = row.shape();
        match keys.get(&row.key) {
            None => {
                let nearest = unknown.iter().take_while(|_| nearest_left > 0);
                let nearest = nearest.map(|e| (strsim::jaro_winkler(keys.short(&e.key), &row.key), &e.key));
                let nearest = nearest.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, nearest)| nearest.clone());
                nearest_left -= usize::from(nearest.is_some());
                problems.push(Problem::Missing { key: row.key.clone(), shape, nearest });
            }
            Some(entry) if entry.shape != shape => problems.push(Problem::Shape {
                key: entry.key.clone(),
                wanted: shape,
                found: entry.shape.clone(),
            }),
            Some(Entry { key, dtype: Dtype::Other(dtype), .. }) => {
                problems.push(Problem::Dtype { key: key.clone(), dtype: dtype.clone() });
            }
            Some(_) => {}
        }
    }
    let of_file =
        unknown.into_iter().map(|e| Problem::Unknown { key: e.key.clone(), shape: e.shape.clone() });
    problems.extend(of_file);
    problems
}
