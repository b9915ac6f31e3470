//! Finding tensors by their keys.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use burn::tensor::Device;
use inception_nn::{HiddenLayer, ModelSpec, TensorInfo};

use super::found::{Found, ValueSource, misfit};
use super::head::{BIAS, HEAD, Head, WEIGHT, field};
use super::keys::{Keys, MAX_KEY, prefixes};
use super::options::LoadOptions;
use crate::checkpoint::Checkpoint;
use crate::entry::Entry;
use crate::error::{Error, Problem};
use crate::format::Rank;
use crate::key_scheme::{AUXILIARY, KeyRow, KeyScheme, key_tables, shape_in_file};

/// The number of classes, the classifier's layers before its last, and whether there is an auxiliary classifier.
type Classifiers = (usize, Vec<HiddenLayer>, bool);

/// A network as published, and its keys in each scheme.
struct Wanted<'s> {
    spec: &'s ModelSpec,
    device: &'s Device,
    tables: Vec<(KeyScheme, Vec<KeyRow>)>,
    /// The tensors of networks with other classifiers: files of several dictionaries have mostly one of them.
    tensors: RefCell<HashMap<Classifiers, Rc<[TensorInfo]>>>,
    /// Whether the auxiliary classifier is wanted, where a file has it.
    auxiliary: bool,
}

/// The tensors below a prefix of a dictionary, taken for the network's.
struct Attempt<'a> {
    /// Where they are in the file.
    name: String,
    /// Whether the name says that these are the ones to take.
    rank: Rank,
    found: Found<'a>,
    problems: Vec<Problem>,
}

/// Finds tensors under the keys of our key schemes, in whichever of the file's dictionaries has them all.
///
/// # Errors
///
/// [`Error::NoStateDict`]; [`Error::Mismatch`] with what is nearest to fitting.
pub(super) fn by_key<'a>(
    spec: &ModelSpec,
    checkpoint: &'a Checkpoint,
    device: &Device,
    options: &LoadOptions,
) -> Result<Found<'a>, Error> {
    let chosen = options.state_dict.as_deref();
    let auxiliary = options.auxiliary && spec.auxiliary;
    let published = spec.config().with_auxiliary(auxiliary).init(device)?;
    let tables = key_tables(&published, spec);
    let own = ((spec.num_classes, Vec::new(), auxiliary), inception_nn::tensors(&published).into());
    let tensors = RefCell::new(HashMap::from([own]));
    let wanted = Wanted { spec, device, tables, tensors, auxiliary };
    let mut attempts = wanted.attempts(checkpoint)?;
    if let Some(chosen) = chosen {
        let known: Vec<String> = attempts.iter().map(|attempt| attempt.name.clone()).collect();
        let is_chosen = |name: &str| {
            let mut last = name.rsplit('.');
            name == chosen || last.next() == Some(chosen) || name.ends_with(&format!(".{chosen}"))
        };
        attempts.retain(|attempt| is_chosen(&attempt.name));
        if attempts.is_empty() {
            let (path, name) = (checkpoint.path.clone(), chosen.to_owned());
            return Err(Error::NoStateDict { path, name, known });
        }
    }
    let fitting = attempts.iter().filter(|attempt| attempt.problems.is_empty());
    let others: Vec<String> = fitting.map(|attempt| format!("`{}`", attempt.name)).collect();
    // The first of the best.
    let best =
        attempts.into_iter().min_by_key(|attempt| (attempt.problems.len(), std::cmp::Reverse(attempt.rank)));
    let Attempt { name, mut found, problems, .. } = best.expect("at least one, of which some are left");
    if problems.is_empty() {
        let others: Vec<_> = others.into_iter().filter(|other| *other != format!("`{name}`")).collect();
        if chosen.is_none() && !others.is_empty() {
            let others = others.join(", ");
            found.notes.insert(0, format!("the tensors of `{name}` are taken; {others} would fit, too"));
        }
        return Ok(found);
    }
    let (path, model) = (checkpoint.path.clone(), spec.name);
    let is_head = |key: &str| {
        let mut rows = wanted.tables.iter().flat_map(|(_, table)| table);
        rows.any(|row| row.key == key && [WEIGHT, BIAS].contains(&&*row.tensor.name))
    };
    let lacks_head = |problem: &Problem| matches!(problem, Problem::Missing { key, .. } if is_head(key));
    match problems.len() == 2 && problems.iter().all(lacks_head) {
        true => Err(Error::NoClassifier { path, model }),
        false => Err(Error::Mismatch { path, model, problems, likely: Vec::new() }),
    }
}

fn unexpected(entry: &Entry) -> Problem {
    Problem::Unexpected { key: entry.key.clone(), shape: entry.shape.clone() }
}

impl Wanted<'_> {
    /// All ways to read the file as this network.
    fn attempts<'a>(&self, checkpoint: &'a Checkpoint) -> Result<Vec<Attempt<'a>>, Error> {
        let first = (checkpoint.state_dict.as_str(), &checkpoint.entries[..]);
        let others = checkpoint.others.iter().map(|dict| (dict.name.as_str(), &dict.entries[..]));
        let mut attempts = Vec::new();
        for (dict, all) in [first].into_iter().chain(others) {
            for (scheme, table) in &self.tables {
                let keys = table.iter().map(|row| row.key.as_str()).collect();
                for prefix in prefixes(all, &keys) {
                    let name = format!("{dict}.{prefix}").trim_matches('.').to_owned();
                    let keys = Keys::below(prefix, all);
                    let (found, problems) = self.attempt(checkpoint, *scheme, table, &keys)?;
                    attempts.push(Attempt { rank: Rank::of(&name), name, found, problems });
                }
            }
        }
        // A file without a single one of the keys is compared with them all the same.
        if attempts.is_empty() {
            let (scheme, table) = &self.tables[1];
            let keys = Keys::below(String::new(), &checkpoint.entries);
            let (found, problems) = self.attempt(checkpoint, *scheme, table, &keys)?;
            let name = checkpoint.state_dict.clone();
            attempts.push(Attempt { rank: Rank::of(&name), name, found, problems });
        }
        Ok(attempts)
    }

    /// The tensors of the network with this classifier, and perhaps the auxiliary one.
    fn tensors(
        &self,
        classes: usize,
        hidden: &[HiddenLayer],
        auxiliary: bool,
    ) -> Result<Rc<[TensorInfo]>, Error> {
        let key = (classes, hidden.to_vec(), auxiliary);
        if let Some(known) = self.tensors.borrow().get(&key) {
            return Ok(known.clone());
        }
        let config =
            self.spec.config().with_num_classes(classes).with_hidden(hidden).with_auxiliary(auxiliary);
        let tensors: Rc<[TensorInfo]> = inception_nn::tensors(&config.init(self.device)?).into();
        self.tensors.borrow_mut().insert(key, tensors.clone());
        Ok(tensors)
    }

    fn attempt<'a>(
        &self,
        checkpoint: &'a Checkpoint,
        scheme: KeyScheme,
        table: &[KeyRow],
        keys: &Keys<'a>,
    ) -> Result<(Found<'a>, Vec<Problem>), Error> {
        let spare = |key: &str| scheme.is_unused(self.spec.architecture, key);
        let head = Head::find(scheme, table, keys, &checkpoint.metadata, spare);
        let classes = head.as_ref().map(Head::classes).filter(|&classes| classes > 0);
        let classes = classes.unwrap_or(self.spec.num_classes);
        let hidden = head.as_ref().map(Head::hidden).unwrap_or_default();
        let rows: HashMap<&str, &KeyRow> = table.iter().map(|row| (row.tensor.name.as_str(), row)).collect();
        // The auxiliary classifier of other classes, or a part of it, is passed over as without this wish.
        let fits = |info: &TensorInfo| {
            let row = rows.get(info.name.as_str());
            let entry = row.and_then(|row| Some((keys.get(&row.key)?, row.transposed)));
            entry.is_some_and(|(entry, transposed)| misfit(entry, shape_in_file(info, transposed)).is_none())
        };
        let mut tensors = self.tensors(classes, &hidden, self.auxiliary)?;
        let auxiliary =
            self.auxiliary && tensors.iter().filter(|info| info.name.starts_with(AUXILIARY)).all(fits);
        if auxiliary != self.auxiliary {
            tensors = self.tensors(classes, &hidden, auxiliary)?;
        }
        let (mut sources, mut problems, mut used) = (Vec::new(), Vec::new(), HashSet::new());
        problems.extend(keys.twice.iter().map(|&key| Problem::Duplicate { key: key.to_owned() }));
        let mut missing = Vec::new();
        for info in tensors.iter() {
            let (key, entry, transposed) = match (&head, rows.get(info.name.as_str())) {
                (Some(head), row) if info.name.starts_with(HEAD) => {
                    let layer = head.of(&info.name);
                    let entry = layer.and_then(|layer| field(layer, info.role));
                    let is_bias = info.role != inception_nn::TensorRole::LinearWeight;
                    if let Some(&layer) = layer.filter(|layer| !layer.is_plain()) {
                        let transposed = head.transposed;
                        let wanted = |entry| (entry, shape_in_file(info, transposed && !is_bias));
                        problems.extend(entry.map(wanted).and_then(|(entry, shape)| misfit(entry, shape)));
                        used.extend(
                            entry.into_iter().chain(layer.norm_entries()).map(|entry| entry.key.as_str()),
                        );
                        sources.push(ValueSource::Normed { layer, transposed, bias: is_bias });
                        continue;
                    }
                    if entry.is_none() && is_bias {
                        sources.push(ValueSource::Constant(0.0));
                        continue;
                    }
                    (row.map_or("", |row| &*row.key), entry, head.transposed && !is_bias)
                }
                (_, Some(row)) => (&*row.key, keys.get(&row.key), row.transposed),
                (_, None) => continue, // Hidden layers only come with a head.
            };
            let shape = shape_in_file(info, transposed);
            let constant = rows.get(info.name.as_str()).and_then(|row| row.constant);
            match (entry, constant) {
                (None, Some(value)) => sources.push(ValueSource::Constant(value)),
                (None, None) => missing.push((key.to_owned(), shape)),
                (Some(entry), _) => {
                    used.insert(entry.key.as_str());
                    problems.extend(misfit(entry, shape));
                    sources.push(ValueSource::Entry { entry, transposed });
                }
            }
        }
        let unexpected = Unexpected::of(keys, &used, &spare);
        // Layers of Keras are told by their places, which a further one would shift.
        let strict = !problems.is_empty() || !missing.is_empty() || scheme == KeyScheme::Keras;
        let missing = missing.into_iter();
        problems.extend(missing.map(|(key, shape)| Problem::Missing { key, shape, nearest: None }));
        let differences = unexpected.differences(table, classes, head.as_ref(), !strict);
        problems.extend(differences.into_iter().map(self::unexpected));
        let mut notes = head.map(|head| head.notes).unwrap_or_default();
        notes.extend(
            keys.notable_prefix().map(|prefix| format!("the prefix `{prefix}` of its keys is left out")),
        );
        let unexpected_keys =
            unexpected.inside.iter().chain(&unexpected.outside).map(|entry| entry.key.clone());
        let found = Found {
            key_scheme: scheme,
            classes,
            hidden,
            auxiliary,
            sources,
            unused: unexpected.unused.iter().map(|entry| entry.key.clone()).collect(),
            unexpected: unexpected_keys.collect(),
            notes,
        };
        Ok((found, problems))
    }
}

/// The entries that the network does not ask for.
struct Unexpected<'a> {
    /// Below the prefix.
    inside: Vec<&'a Entry>,
    /// Elsewhere in the dictionary.
    outside: Vec<&'a Entry>,
    /// Those that the scheme has for training only.
    unused: Vec<&'a Entry>,
    prefix: usize,
}

/// The fields of layers that compute something at inference, in the last part of a key.
const FIELDS: &[&str] = &[
    "weight",
    "bias",
    "running_mean",
    "running_var",
    "_mean",
    "_variance",
    "gamma",
    "beta",
    "weight_g",
    "weight_v",
    "weight_mask",
    "weight_orig",
];

impl<'a> Unexpected<'a> {
    fn of(keys: &Keys<'a>, used: &HashSet<&str>, is_spare: &impl Fn(&str) -> bool) -> Self {
        let mut inside: Vec<(&str, &'a Entry)> =
            keys.entries.iter().map(|(key, entry)| (*key, *entry)).collect();
        inside.retain(|(_, entry)| !used.contains(entry.key.as_str()));
        inside.sort_unstable_by_key(|(_, entry)| entry.key.as_str());
        let (unused, inside): (Vec<_>, Vec<_>) = inside.into_iter().partition(|(key, _)| is_spare(key));
        let entries = |list: Vec<(&str, &'a Entry)>| list.into_iter().map(|(_, entry)| entry).collect();
        let prefix = keys.prefix.len();
        Self { inside: entries(inside), unused: entries(unused), outside: keys.outside.clone(), prefix }
    }

    /// Those of `inside` without which the network would not be the file's. Where all else `fits`, these are
    /// what layers in the network's own parts, or behind its classifier, compute with; the rest does not
    /// count.
    fn differences(
        &self,
        table: &[KeyRow],
        classes: usize,
        head: Option<&Head>,
        fits: bool,
    ) -> Vec<&'a Entry> {
        if !fits {
            return self.inside.clone();
        }
        let first = |key: &str| key.split('.').next().unwrap_or_default().to_owned();
        let mut parts: HashSet<String> = table.iter().map(|row| first(&row.key)).collect();
        for layer in head.iter().flat_map(|head| &head.layers) {
            parts.insert(first(layer.path));
        }
        let counts = |entry: &&&Entry| {
            let key = &entry.key[self.prefix..];
            let is_field = FIELDS.contains(&key.rsplit('.').next().unwrap_or_default());
            let follows = entry.shape.len() == 2 && entry.shape.contains(&classes);
            is_field && (parts.contains(&first(key)) || entry.shape.len() == 4 || follows)
        };
        let wanted: HashSet<&str> = table.iter().map(|row| row.key.as_str()).collect();
        let behind = |entry: &&&Entry| {
            let is_weight =
                entry.key.ends_with(".weight") && entry.key.len() <= MAX_KEY && entry.shape.len() == 2;
            let mut tails = entry.key.match_indices('.').map(|(dot, _)| &entry.key[dot + 1..]);
            // A layer that a wrapper has put behind the network: what is between the two is not known. (A
            // second network, as a distillation's teacher, has a layer of the same name.)
            is_weight && entry.shape.contains(&classes) && !tails.any(|tail| wanted.contains(tail))
        };
        let inside = self.inside.iter().filter(counts);
        inside.chain(self.outside.iter().filter(behind)).copied().collect()
    }
}

/// How many of the network's tensors a file has that are named and shaped as its are, of those; the better of
/// its schemes.
pub(super) fn share(spec: &ModelSpec, tables: &[(KeyScheme, Vec<KeyRow>)], all: &[Entry]) -> usize {
    let score = tables.iter().map(|(scheme, table)| {
        let wanted: HashSet<&str> = table.iter().map(|row| row.key.as_str()).collect();
        let scores = prefixes(all, &wanted).into_iter().map(|prefix| {
            let keys = Keys::below(prefix, all);
            let fits = |row: &&KeyRow| {
                let shape = keys.get(&row.key).map(|entry| &entry.shape);
                let is_head = [WEIGHT, BIAS].contains(&&*row.tensor.name);
                shape.is_some_and(|shape| *shape == row.shape()) || is_head
            };
            let table: Vec<_> =
                table.iter().filter(|row| row.constant.is_none() || keys.get(&row.key).is_some()).collect();
            let found = table.iter().filter(|row| fits(row)).count();
            let unexpected_keys = keys
                .entries
                .keys()
                .filter(|key| !wanted.contains(**key) && !scheme.is_unused(spec.architecture, key));
            (found * 1000).saturating_sub(unexpected_keys.count() * 500) / table.len()
        });
        scores.max().unwrap_or(0)
    });
    score.max().unwrap_or(0)
}
