//! PaddlePaddle's `.pdparams`: a pickled dictionary from names to NumPy arrays, as `paddle.save` writes it.

use std::collections::HashMap;

use super::contents::Contents;
use super::pickle::{Array, Pickle, Value, unpickle};
use super::state_dict::{Candidate, contents};
use crate::entry::{Dtype, Entry, Source};
use crate::input::{Fault, Input, Stream, damaged};

/// Under pickle protocols 2 and 3 `paddle.save` cuts arrays of over 1 GB into pieces named `KEY@@.N` and says
/// so here.
const CHUNKED: &str = "UnpackBigParamInfor@@";

pub(crate) fn open(input: &Input) -> Result<Contents, Fault> {
    let pickle = unpickle(&mut Stream::new(input, 0, input.len()))?;
    contents(&pickle, |value| array(&pickle, value).is_some(), |dict| entries(input, &pickle, dict))
}

fn entries(input: &Input, pickle: &Pickle, dict: &Candidate) -> Result<Vec<Entry>, Fault> {
    let mut entries = Vec::new();
    let mut chunks = HashMap::new();
    let info = pickle.get(dict.dict, CHUNKED);
    let chunked = info.map(|info| pieces(pickle, info)).transpose()?.unwrap_or_default();
    for (key, value) in &dict.tensors {
        let Some(array) = array(pickle, *value) else { continue };
        let entry = entry(input, pickle, key, array)?;
        match chunked.iter().any(|c| c.pieces.contains(key)) {
            true => drop(chunks.insert(key.clone(), entry)),
            false => entries.push(entry),
        }
    }
    for Chunked { key, shape, pieces } in chunked {
        let mut dtype = None;
        let mut sources = Vec::new();
        for name in pieces {
            let Some(piece) = chunks.get(&name) else {
                return damaged(format!("`{key}` lacks its piece `{name}`"));
            };
            if *dtype.get_or_insert(piece.dtype.clone()) != piece.dtype || piece.strides.is_some() {
                return damaged(format!("the pieces of `{key}` differ in their dtype"));
            }
            let bytes = piece.len() as u64 * piece.dtype.size().unwrap_or(1);
            sources.push((piece.source.clone(), bytes));
        }
        let Some(dtype) = dtype else { return damaged(format!("`{key}` consists of no pieces")) };
        entries.push(Entry::checked(input, key, &shape, dtype, Source::Pieces(sources))?);
    }
    Ok(entries)
}

struct Chunked {
    key: String,
    shape: Vec<u64>,
    pieces: Vec<String>,
}

/// Reads `{key: {"OriginShape": (..), "slices": [..]}}`.
fn pieces(pickle: &Pickle, info: Value) -> Result<Vec<Chunked>, Fault> {
    let bad = || Fault::Damaged(format!("`{CHUNKED}` is not a table of pieces"));
    let pairs = pickle.dict(info).ok_or_else(bad)?;
    let mut left = MAX_PIECES;
    let tables = pairs.iter().map(|&(key, table)| {
        let key = pickle.text(key).ok_or_else(bad)?.to_owned();
        let shape = pickle.get(table, "OriginShape").and_then(|v| pickle.sizes(v)).ok_or_else(bad)?;
        let slices = pickle.get(table, "slices").and_then(|v| pickle.items(v)).ok_or_else(bad)?;
        left = usize::checked_sub(left, slices.len() + 1).ok_or_else(bad)?;
        let pieces = slices.iter().map(|v| pickle.text(*v).map(str::to_owned).ok_or_else(bad));
        Ok(Chunked { key, shape, pieces: pieces.collect::<Result<_, Fault>>()? })
    });
    tables.collect()
}

/// Pieces of 1 GB.
const MAX_PIECES: usize = 1000;

/// An array, on its own or as Paddle pickles a tensor: beside its name.
fn array(pickle: &Pickle, value: Value) -> Option<&Array> {
    match pickle.items(value) {
        Some([name, array]) => pickle.text(*name).and_then(|_| pickle.array(*array)),
        _ => pickle.array(value),
    }
}

fn entry(input: &Input, pickle: &Pickle, key: &str, array: &Array) -> Result<Entry, Fault> {
    let Array { shape, dtype: Some(dtype), column_major, data: Some(data) } = array else {
        return damaged(format!("`{key}` is an array without content"));
    };
    let big_endian = dtype.order == '>' || (dtype.order == '=' && dtype.name.starts_with('>'));
    let dtype = match dtype.name.trim_start_matches(['<', '=', '|']) {
        _ if big_endian => Dtype::Other(format!("big-endian {}", dtype.name)),
        "f4" => Dtype::F32,
        "f2" => Dtype::F16,
        "f8" => Dtype::F64,
        // NumPy has no bfloat16. Paddle stores it as 16-bit integers, which no weight is otherwise.
        "u2" => Dtype::Bf16,
        other => Dtype::Other(other.to_owned()),
    };
    let Some((range, is_text)) = pickle.payload(*data) else {
        return damaged(format!("`{key}` has {} for its content", data.kind()));
    };
    let source = match is_text {
        true => Source::Latin1 { offset: range.offset, len: range.len },
        false => Source::At(range.offset),
    };
    let mut entry = Entry::checked(input, key.to_owned(), shape, dtype, source)?;
    let wanted = entry.dtype.size().map(|size| size * entry.len() as u64);
    if !is_text && wanted.is_some_and(|wanted| wanted != range.len) {
        return damaged(format!("`{key}` {shape:?} of {} has {} bytes of content", entry.dtype, range.len));
    }
    if *column_major && !entry.is_empty() {
        let mut stride = 1;
        let strides = entry.shape.iter().map(|&d| {
            let this = stride;
            stride *= d;
            this
        });
        entry.strides = Some(strides.collect());
    }
    Ok(entry)
}
