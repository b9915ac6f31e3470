//! From a checkpoint to a network, all of it.

use std::collections::{HashMap, HashSet};

use burn::tensor::{Device, TensorData};
use inception_graph::{Binding, Graph, Parameter, match_weights};
use inception_nn::{MODELS, ModelSpec, Network, TensorInfo, load_tensors};

use crate::checkpoint::{Checkpoint, Dtype, Entry};
use crate::dialect::{Dialect, NameRow, name_table};
use crate::error::{Error, Problem};

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

impl Loaded {
    /// What whoever uses the network should know, with the first few names.
    pub fn warnings(&self) -> Vec<String> {
        const NAMED: usize = 5;
        let named = |names: &[String]| {
            let first: Vec<_> = names.iter().take(NAMED).map(|name| format!("`{name}`")).collect();
            let more = names.len().saturating_sub(NAMED);
            first.join(", ") + &if more > 0 { format!(" and {more} more") } else { String::new() }
        };
        let mut warnings = Vec::new();
        if !self.not_finite.is_empty() {
            warnings.push(format!("infinities or NaN in {}", named(&self.not_finite)));
        }
        if self.background_dropped {
            let classes = self.num_classes;
            warnings
                .push(format!("of {} classes the first, TensorFlow's background, is left out", classes + 1));
        }
        if !self.not_in_file.is_empty() {
            let tensors = named(&self.not_in_file);
            warnings.push(format!("not in the file, and needed for training only: {tensors}"));
        }
        warnings
    }
}

/// The classifier's bias, by our name.
const CLASSIFIER_BIAS: &str = "head.fc.bias";

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
/// [`Error::Graph`] for a file whose operations are others; [`Error::Io`] and [`Error::Damaged`] while reading the values.
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
    let Found { dialect, classes, sources, unused } = match &checkpoint.graph {
        Some(graph) => by_graph(spec, checkpoint, graph, device)?,
        None => by_name(spec, checkpoint, device)?,
    };
    let background_dropped =
        dialect != Dialect::Native && classes == spec.num_classes + 1 && !options.keep_background;
    let num_classes = if background_dropped { spec.num_classes } else { classes };
    let network = spec.config().with_num_classes(num_classes).init(device)?;
    let (mut not_finite, mut not_in_file) = (Vec::new(), Vec::new());
    let mut sources = sources.into_iter();
    let network = load_tensors(network, |info: &TensorInfo| {
        let values = match sources.next().expect("a source for each tensor, whatever the classes") {
            Source::Entry { entry, transposed } => {
                let values = checkpoint.values(entry)?;
                match (transposed, &entry.shape[..]) {
                    (true, &[rows, columns]) => {
                        without_background(transpose(&values, rows, columns), &[columns, rows], &info.shape)
                    }
                    _ => without_background(values, &entry.shape, &info.shape),
                }
            }
            Source::Constant(value) => vec![value; info.shape.iter().product()],
            Source::Nowhere => {
                not_in_file.push(info.name.clone());
                return Ok(None);
            }
        };
        if values.iter().any(|v| !v.is_finite()) {
            not_finite.push(info.name.clone());
        }
        Ok::<_, Error>(Some(TensorData::new(values, info.shape.clone())))
    })?;
    Ok(Loaded { network, num_classes, dialect, not_finite, background_dropped, unused, not_in_file })
}

/// Where the values of one of our tensors come from.
enum Source<'a> {
    Entry { entry: &'a Entry, transposed: bool },
    Constant(f32),
    Nowhere,
}

/// A network's tensors in a file: all there, with the network's shapes but for the number of classes.
struct Found<'a> {
    dialect: Dialect,
    /// Classes that the file's classifier has.
    classes: usize,
    /// One for each of our tensors, in their order.
    sources: Vec<Source<'a>>,
    unused: Vec<String>,
}

/// The number of classes that a classifier has, from its bias; the published one if that says nothing, so that the
/// difference comes to light.
fn classes(spec: &ModelSpec, bias: Option<&Entry>) -> usize {
    let classes = bias.and_then(|entry| entry.shape.first().copied());
    classes.filter(|&classes| classes > 0).unwrap_or(spec.num_classes)
}

/// What keeps `entry` from being a tensor of the shape `wanted`.
fn misfit(entry: &Entry, wanted: Vec<usize>) -> Option<Problem> {
    let key = entry.key.clone();
    match &entry.dtype {
        _ if entry.shape != wanted => Some(Problem::Shape { key, wanted, found: entry.shape.clone() }),
        Dtype::Other(dtype) => Some(Problem::Dtype { key, dtype: dtype.clone() }),
        _ => None,
    }
}

/// Finds tensors under the names that our dialects have for them.
fn by_name<'a>(spec: &ModelSpec, checkpoint: &'a Checkpoint, device: &Device) -> Result<Found<'a>, Error> {
    let keys = Keys::new(checkpoint);
    let published = spec.config().init(device)?;
    let tables = Dialect::of(spec.architecture)
        .map(|dialect| (dialect, name_table(&published, spec.architecture, dialect)));
    let known = |table: &[NameRow]| table.iter().filter(|row| keys.get(&row.key).is_some()).count();
    let [native, foreign] = tables;
    let (dialect, table) = if known(&foreign.1) > known(&native.1) { foreign } else { native };
    let bias = table.iter().find(|row| row.tensor.name == CLASSIFIER_BIAS);
    let classes = classes(spec, bias.and_then(|row| keys.get(&row.key)));
    let table = match classes == spec.num_classes {
        true => table,
        false => {
            let network = spec.config().with_num_classes(classes).init(device)?;
            name_table(&network, spec.architecture, dialect)
        }
    };
    let mut unused = Vec::new();
    let problems = differences(spec, dialect, &table, &keys, &mut unused);
    if !problems.is_empty() {
        let likely = likely_models(checkpoint, device).into_iter().map(|spec| spec.name);
        let likely = likely.filter(|&name| name != spec.name).collect();
        return Err(Error::Mismatch { path: checkpoint.path.clone(), model: spec.name, problems, likely });
    }
    let source = |row: &NameRow| match keys.get(&row.key) {
        Some(entry) => Source::Entry { entry, transposed: row.transposed },
        None => Source::Nowhere, // There is none such: no difference was found.
    };
    Ok(Found { dialect, classes, sources: table.iter().map(source).collect(), unused })
}

/// Finds tensors by what the file's operations do with them.
fn by_graph<'a>(
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
    let dialect = if ours { Dialect::Native } else { Dialect::Graph };
    Ok(Found { dialect, classes, sources, unused: unused.collect() })
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

fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
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
            Some(entry) => problems.extend(misfit(entry, shape)),
        }
    }
    let of_file =
        unknown.into_iter().map(|e| Problem::Unknown { key: e.key.clone(), shape: e.shape.clone() });
    problems.extend(of_file);
    problems
}
