//! The dictionaries of tensors within a pickled checkpoint, wherever they are: told by what they hold, not by
//! what they are called.

use std::collections::HashSet;

use super::contents::{Contents, StateDict};
use super::pickle::{Pickle, Value};
use crate::entry::Entry;
use crate::input::{Fault, unsupported};

/// Dictionaries, lists and objects within one another.
const MAX_DEPTH: usize = 64;

/// Far above the modules of any network, of which each may be reached by many paths.
const MAX_VISITS: usize = 20_000;

/// Far above the tensors of any checkpoint of the family with its optimiser, by their paths.
const MAX_TENSORS: usize = 1 << 15;

/// Far above the attributes of all modules of any network, of which TorchScript's have dozens each.
const MAX_ATTRIBUTES: usize = 1 << 20;

/// Longest path of a tensor.
const MAX_PATH: usize = 200;

/// Dictionaries that are kept of a file: those with the most weights.
const MAX_KEPT: usize = 16;

/// The last parts of the keys of weights.
const FIELDS: &[&str] = &["weight", "bias", "running_mean", "running_var", "_mean", "_variance"];

/// A dictionary of tensors, or the tensors of a module.
pub(super) struct Candidate {
    /// Where it is: keys and numbers, joined by dots.
    pub name: String,
    /// The dictionary itself, where it is one.
    pub dict: Value,
    pub tensors: Vec<(String, Value)>,
    /// A tensor that only a function that is not known can make: its key and that function.
    unknown: Option<(String, String)>,
}

impl Candidate {
    fn new(name: &str, dict: Value) -> Self {
        Self { name: name.to_owned(), dict, tensors: Vec::new(), unknown: None }
    }

    fn weights(&self) -> usize {
        let is_weight = |key: &str| FIELDS.contains(&key.rsplit('.').next().unwrap_or_default());
        self.tensors.iter().filter(|(key, _)| is_weight(key)).count()
    }
}

/// The tensors of a pickle: of the dictionary that has the most weights, and of the others. `entries` makes
/// them of a dictionary.
pub(super) fn contents(
    pickle: &Pickle,
    is_tensor: impl Fn(Value) -> bool,
    entries: impl Fn(&Candidate) -> Result<Vec<Entry>, Fault>,
) -> Result<Contents, Fault> {
    let root = pickle.root();
    let mut found = candidates(pickle, &is_tensor)?;
    found.sort_by_cached_key(|candidate| {
        let rank = Rank::of(&candidate.name);
        std::cmp::Reverse((candidate.weights(), candidate.tensors.len(), rank))
    });
    found.truncate(MAX_KEPT);
    let mut found = found.into_iter();
    let Some(first) = found.next() else {
        return match pickle.dict(root) {
            Some(_) => Ok(Contents::default()),
            None => {
                let root = pickle.describe(root);
                match root.contains("`__torch__.") {
                    true => unsupported(
                        "TorchScript without tensors of its own, so it is frozen, and they have lost their names; \
                         save it before `freeze`, or its state dict",
                    ),
                    false => unsupported(format!("it holds {root}, not a dictionary of tensors")),
                }
            }
        };
    };
    let entries = |candidate: &Candidate| match &candidate.unknown {
        Some((key, function)) => unsupported(format!(
            "the tensor `{key}` is made by `{function}`, which is not looked up; save it as an ordinary tensor"
        )),
        None => entries(candidate),
    };
    let chosen = entries(&first)?;
    let others = found.filter(|candidate| candidate.weights() > 0).filter_map(|candidate| {
        // What the others lack costs the first nothing.
        Some(StateDict { entries: entries(&candidate).ok()?, name: candidate.name })
    });
    let others = others.collect();
    Ok(Contents { entries: chosen, state_dict: first.name, others, ..Contents::default() })
}

/// What the name of a dictionary says of it. Of two that fit a network, the greater one is taken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    /// A distillation's teacher is not what was trained.
    is_not_teacher: bool,
    /// An average of the weights over the steps of training, which is what is evaluated.
    is_average: bool,
}

impl Rank {
    pub fn of(name: &str) -> Self {
        let name = name.to_lowercase();
        let has = |word: &str| name.split(|c: char| !c.is_alphanumeric()).any(|part| part == word);
        Self { is_not_teacher: !has("teacher"), is_average: has("ema") }
    }
}

/// All dictionaries with a tensor and all modules, in the order of the file.
fn candidates(pickle: &Pickle, is_tensor: &impl Fn(Value) -> bool) -> Result<Vec<Candidate>, Fault> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let mut left = Left { tensors: MAX_TENSORS, attributes: MAX_ATTRIBUTES };
    let mut todo = vec![(String::new(), pickle.root(), 0)];
    while let Some((name, value, depth)) = todo.pop() {
        let id = match value {
            Value::Dict(id) => (0, id),
            Value::Object(id) => (1, id),
            Value::List(id) | Value::Tuple(id) => (2, id),
            _ => continue,
        };
        if !seen.insert(id) || depth > MAX_DEPTH || name.len() > MAX_PATH || seen.len() > MAX_VISITS {
            continue;
        }
        let path = |key: &str| match name.is_empty() {
            true => key.to_owned(),
            false => format!("{name}.{key}"),
        };
        let below = todo.len();
        if let Some(object) = pickle.object(value) {
            let mut module = Candidate::new(&name, value);
            module_tensors(pickle, is_tensor, &mut module, &mut left)?;
            match module.tensors.is_empty() && module.unknown.is_none() {
                true => todo.push((name.clone(), object.state, depth + 1)),
                false => found.push(module),
            }
        }
        if let Some(pairs) = pickle.dict(value) {
            let mut dict = Candidate::new(&name, value);
            for &(key, value) in pairs {
                // The numbered entries of optimisers have no names that a network could ask for.
                let key = pickle.text(key).unwrap_or("?");
                if key.len() >= MAX_PATH {
                    continue;
                }
                if is_tensor(value) {
                    left.take_tensor()?;
                    dict.tensors.push((key.to_owned(), value));
                } else if let Some(function) = pickle.unknown_tensor(value) {
                    dict.unknown.get_or_insert((key.to_owned(), function));
                } else if todo.len() + seen.len() <= MAX_VISITS
                    && matches!(value, Value::Dict(_) | Value::Object(_) | Value::List(_) | Value::Tuple(_))
                {
                    todo.push((path(key), value, depth + 1));
                }
            }
            if !dict.tensors.is_empty() || dict.unknown.is_some() {
                found.push(dict);
            }
        } else if let Some(items) = pickle.items(value) {
            let nested = items.iter().take(MAX_KEPT).enumerate();
            todo.extend(nested.map(|(i, &item)| (path(&i.to_string()), item, depth + 1)));
        }
        // Depth first, in the order of the file.
        todo[below..].reverse();
    }
    Ok(found)
}

/// What may still be found in a file, in which the same object may be at many places.
struct Left {
    tensors: usize,
    attributes: usize,
}

impl Left {
    fn take_tensor(&mut self) -> Result<(), Fault> {
        let exceeded =
            || Fault::Unsupported(format!("more than {MAX_TENSORS} tensors; save the state dict alone"));
        self.tensors = self.tensors.checked_sub(1).ok_or_else(exceeded)?;
        Ok(())
    }

    fn take_attributes(&mut self, count: usize) -> Result<(), Fault> {
        let exceeded = || Fault::Unsupported("more attributes of modules than any network has".to_owned());
        self.attributes = self.attributes.checked_sub(count).ok_or_else(exceeded)?;
        Ok(())
    }
}

/// Adds the parameters and buffers of a module, by their paths: of one of Python's, which has them in
/// dictionaries, or of TorchScript's, which has them as attributes.
fn module_tensors(
    pickle: &Pickle,
    is_tensor: &impl Fn(Value) -> bool,
    into: &mut Candidate,
    left: &mut Left,
) -> Result<(), Fault> {
    let mut todo = vec![(String::new(), into.dict, 0)];
    let mut visits = 0;
    while let Some((prefix, module, depth)) = todo.pop() {
        visits += 1;
        let Some(object) = pickle.object(module) else { continue };
        if depth > MAX_DEPTH || visits > MAX_VISITS || prefix.len() > MAX_PATH {
            continue;
        }
        let state = object.state;
        let part = |name: &str| pickle.get(state, name).and_then(|part| pickle.dict(part));
        let is_python = pickle.get(state, "_modules").is_some();
        let attributes: Vec<(Value, Value)> = match is_python {
            true => ["_parameters", "_buffers", "_modules"]
                .iter()
                .flat_map(|&name| part(name).unwrap_or_default())
                .copied()
                .collect(),
            false => pickle.dict(state).unwrap_or_default().to_vec(),
        };
        left.take_attributes(attributes.len())?;
        let below = todo.len();
        for (key, value) in attributes {
            let Some(key) = pickle.text(key).filter(|key| key.len() < MAX_PATH) else { continue };
            let key = format!("{prefix}{key}");
            if is_tensor(value) {
                left.take_tensor()?;
                into.tensors.push((key, value));
            } else if let Some(function) = pickle.unknown_tensor(value) {
                into.unknown.get_or_insert((key, function));
            } else if todo.len() + visits <= MAX_VISITS && pickle.object(value).is_some() {
                todo.push((format!("{key}."), value, depth + 1));
            }
        }
        todo[below..].reverse();
    }
    Ok(())
}
