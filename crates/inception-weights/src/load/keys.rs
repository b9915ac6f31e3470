//! The keys of a checkpoint.

use std::collections::HashMap;

use crate::checkpoint::Checkpoint;
use crate::entry::Entry;

/// Prefixes that wrappers put in front of every key: `DataParallel`, `torch.compile`, training loops, and
/// Burn's own files, which have the variant of `Network` there.
const PREFIXES: &[&str] = &["module.", "_orig_mod.", "model.", "GoogLeNet.", "Inception.", "Xception."];

/// The entries of a checkpoint by their keys, without the prefixes of wrappers.
pub(super) struct Keys<'a> {
    pub entries: HashMap<&'a str, &'a Entry>,
    /// Keys that the file has twice.
    pub twice: Vec<&'a str>,
    pub all: &'a [Entry],
    /// Length of the prefix.
    prefix: usize,
}

impl<'a> Keys<'a> {
    pub fn new(checkpoint: &'a Checkpoint) -> Self {
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

    /// The entry of a key without prefix.
    pub fn get(&self, key: &str) -> Option<&'a Entry> {
        self.entries.get(key).copied()
    }

    /// A key of the file without prefix.
    pub fn short<'k>(&self, key: &'k str) -> &'k str {
        &key[self.prefix..]
    }
}
