//! What the state files of an evaluation and of an extraction of features have in common: a lock, lines of
//! hashed JSON, and records that are whole or not there.

use std::fmt::Display;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use inception_nn::fnv1a;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::StateProblem;

/// Opens the file at `path`, or makes it, and locks it against a second process.
pub(crate) fn open_locked(path: &Path) -> Result<File, StateProblem> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let file = file.map_err(|source| StateProblem::Io { source })?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(StateProblem::InUse),
        // A file system without locks is used without.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}

/// The first setting in which `other` differs from `settings`, by name, with both values.
pub(crate) fn difference<T: Serialize>(settings: &T, other: &T) -> Option<(String, String, String)> {
    let fields = |settings: &T| match serde_json::to_value(settings) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let other = fields(other);
    let differs = |(name, value): (String, Value)| {
        let theirs = other.get(&name).unwrap_or(&Value::Null);
        (value != *theirs).then(|| (name, shown(&value), shown(theirs)))
    };
    // What follows from others says least.
    let follows = |name: &str| ["dataset", "dimensions"].contains(&name);
    fields(settings).into_iter().filter_map(differs).min_by_key(|(name, ..)| follows(name))
}

/// Refuses the state of something else: with other settings, or of another part.
pub(crate) fn check_same<T: PartialEq + Display>(
    difference: Option<(String, String, String)>,
    [found, wanted]: [T; 2],
) -> Result<(), StateProblem> {
    let shard = || (found != wanted).then(|| ("shard".to_owned(), found.to_string(), wanted.to_string()));
    match difference.or_else(shard) {
        Some((what, theirs, ours)) => Err(StateProblem::Other { what, theirs, ours }),
        None => Ok(()),
    }
}

/// A line: a hash of the JSON, a space and the JSON.
pub(crate) fn line(json: &str) -> Vec<u8> {
    format!("{:016x} {json}\n", fnv1a(json.as_bytes())).into_bytes()
}

/// The JSON of a whole [`line`] without its end, if it is one.
pub(crate) fn json(line: &[u8]) -> Option<&str> {
    let (hash, json) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    (u64::from_str_radix(hash, 16) == Ok(fnv1a(json.as_bytes()))).then_some(json)
}

/// Writes a whole record after the first `len` bytes, and counts it; what a failure leaves of it is cut off
/// again.
pub(crate) fn append(file: &mut File, len: &mut u64, record: &[u8]) -> Result<(), StateProblem> {
    let result = file.seek(SeekFrom::Start(*len)).and_then(|_| file.write_all(record));
    if let Err(source) = result {
        // If this fails, too, the next run does it.
        let _ = cut(file, *len);
        return Err(StateProblem::Write { kept: *len, source });
    }
    *len += record.len() as u64;
    Ok(())
}

/// Cuts off what is after the first `len` bytes; whether there was something.
pub(crate) fn cut(file: &File, len: u64) -> io::Result<bool> {
    let torn = file.metadata()?.len() > len;
    if torn {
        file.set_len(len)?;
    }
    Ok(torn)
}
