//! The keys of a dictionary of tensors.

use std::collections::{HashMap, HashSet};

use crate::entry::Entry;

/// Prefixes that wrappers put in front of every key: `DataParallel`, `torch.compile`, training loops, and
/// Burn's own files, which have the variant of `Network` there. Nobody needs to be told of them.
const WRAPPERS: &[&str] = &["module.", "_orig_mod.", "model.", "GoogLeNet.", "Inception.", "Xception."];

/// Longest key in which the network's own are looked for: above that of any, behind any prefix.
pub(super) const MAX_KEY: usize = 512;

/// The entries below a prefix, by the rest of their keys.
pub(super) struct Keys<'a> {
    /// What stands in front of the network's own keys.
    pub prefix: String,
    pub entries: HashMap<&'a str, &'a Entry>,
    /// Keys that the file has twice.
    pub twice: Vec<&'a str>,
    /// Entries without the prefix.
    pub outside: Vec<&'a Entry>,
}

impl<'a> Keys<'a> {
    pub fn below(prefix: String, all: &'a [Entry]) -> Self {
        let mut keys = Self { prefix, entries: HashMap::new(), twice: Vec::new(), outside: Vec::new() };
        for entry in all {
            match entry.key.strip_prefix(&*keys.prefix) {
                Some(key) if keys.entries.insert(key, entry).is_some() => keys.twice.push(&entry.key),
                Some(_) => {}
                None => keys.outside.push(entry),
            }
        }
        keys
    }

    /// The entry of a key without prefix.
    pub fn get(&self, key: &str) -> Option<&'a Entry> {
        self.entries.get(key).copied()
    }

    /// The prefix, unless it is one that says nothing.
    pub fn notable_prefix(&self) -> Option<&str> {
        let mut rest = &*self.prefix;
        while let Some(shorter) = WRAPPERS.iter().find_map(|wrapper| rest.strip_prefix(wrapper)) {
            rest = shorter;
        }
        (!rest.is_empty()).then_some(&*self.prefix)
    }
}

/// The prefixes below which `all` has the most of the keys `wanted`, in the order of the file; none if it has
/// none of them.
pub(super) fn prefixes(all: &[Entry], wanted: &HashSet<&str>) -> Vec<String> {
    let keys = || all.iter().map(|entry| entry.key.as_str()).filter(|key| key.len() <= MAX_KEY);
    let mut votes: HashMap<&str, usize> = HashMap::new();
    for key in keys() {
        // A prefix is nothing, or ends in a dot.
        let starts = std::iter::once(0).chain(key.match_indices('.').map(|(dot, _)| dot + 1));
        for start in starts.filter(|&start| wanted.contains(&key[start..])) {
            *votes.entry(&key[..start]).or_default() += 1;
        }
    }
    let most = votes.values().copied().max().unwrap_or(0);
    let mut prefixes: Vec<&str> = Vec::new();
    // Only a few: a network and its teacher, its average.
    votes.retain(|_, count| *count * 10 >= most * 9);
    for key in keys() {
        let mut starts = key.rmatch_indices('.').map(|(dot, _)| dot + 1).chain([0]);
        let longest = starts.find_map(|start| votes.get_key_value(&key[..start]));
        if let Some((prefix, _)) = longest.filter(|(prefix, _)| !prefixes.contains(*prefix)) {
            prefixes.push(prefix);
        }
        if prefixes.len() == 4 {
            break;
        }
    }
    prefixes.into_iter().map(str::to_owned).collect()
}
