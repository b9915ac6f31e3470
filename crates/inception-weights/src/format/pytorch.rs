//! PyTorch's checkpoints: a pickle of tensors that refer to storages, which lie beside it in a zip archive
//! (since 1.6) or behind it in the same file (before).
//!
//! `burn-store` reads these too, through `pytorch-reader`. This reader shares the pickle machine with
//! Paddle's, keeps to one list of allowed names for both, gives byte ranges of the file, and says where a
//! file is wrong.

use std::collections::HashMap;

use super::contents::Contents;
use super::pickle::{Pickle, Storage, Tensor, Value, unpickle};
use super::state_dict::state_dict;
use super::zip;
use crate::entry::{Dtype, Entry, Source};
use crate::input::{Fault, Input, Stream, damaged};
use crate::strides::is_permutation;

/// Where a storage is in the file.
type Storages = HashMap<Box<str>, (u64, u64)>;

pub(crate) fn open_zip(input: &Input) -> Result<Contents, Fault> {
    let members = zip::members(input)?;
    // One folder, named as the file was when it was written.
    let mut pickles = members.iter().filter(|(name, _)| name.ends_with("/data.pkl"));
    let (Some((name, member)), None) = (pickles.next(), pickles.next()) else {
        let reason = match members.keys().any(|name| name.ends_with("constants.pkl")) {
            true => "a zip archive with several `data.pkl`",
            false => "a zip archive without a `data.pkl`: no PyTorch checkpoint",
        };
        return damaged(reason);
    };
    let folder = name.trim_end_matches("data.pkl");
    if members.contains_key(&format!("{folder}constants.pkl")) {
        return damaged("a TorchScript archive, whose tensors belong to code; save the state dict alone");
    }
    if let Some(order) = members.get(&format!("{folder}byteorder"))
        && input.read(order.offset, order.len.min(8))? != b"little"
    {
        return damaged("the numbers are big-endian");
    }
    let pickle = unpickle(&mut Stream::new(input, member.offset, member.offset + member.len))?;
    let storages = pickle.storages().iter().filter_map(|storage| {
        let member = members.get(&format!("{folder}data/{}", storage.key))?;
        Some((storage.key.clone(), (member.offset, member.len)))
    });
    entries(input, &pickle, &storages.collect())
}

/// Four pickles (magic number, version, facts about the system, the object), one of the storages' keys in the
/// order of the storages that follow, each as its number of elements and its bytes.
pub(crate) fn open_legacy(input: &Input) -> Result<Contents, Fault> {
    let mut stream = Stream::new(input, 0, input.len());
    if !unpickle(&mut stream)?.has_magic {
        return damaged("no magic number at its start");
    }
    unpickle(&mut stream)?;
    let system = unpickle(&mut stream)?;
    if system.get(system.root(), "little_endian") == Some(Value::Bool(false)) {
        return damaged("the numbers are big-endian");
    }
    let pickle = unpickle(&mut stream)?;
    let keys = unpickle(&mut stream)?;
    let kinds: HashMap<&str, &Storage> = pickle.storages().iter().map(|s| (&*s.key, s)).collect();
    let mut storages = Storages::new();
    for key in keys.items(keys.root()).unwrap_or_default() {
        let Some(key) = keys.text(*key) else { return damaged("a storage's key that is no string") };
        let Some(storage) = kinds.get(key) else { return damaged(format!("nothing uses the storage {key}")) };
        let elements = u64::from_le_bytes(stream.array()?);
        let bytes = element_size(storage.dtype).checked_mul(elements);
        let bytes =
            bytes.ok_or_else(|| Fault::at(stream.pos, format!("storage {key} of {elements} elements")))?;
        let offset = stream.pos;
        stream.skip(bytes, &format!("storage {key}"))?;
        storages.insert(key.into(), (offset, bytes));
    }
    entries(input, &pickle, &storages)
}

fn element_size(dtype: &str) -> u64 {
    match dtype {
        "f64" | "i64" => 8,
        "f32" | "i32" => 4,
        "f16" | "bf16" | "i16" => 2,
        _ => 1,
    }
}

fn entries(input: &Input, pickle: &Pickle, storages: &Storages) -> Result<Contents, Fault> {
    let dict = state_dict(pickle, |value| pickle.tensor(value).is_some())?;
    let pairs = pickle.dict(dict).unwrap_or_default().iter();
    let tensors = pairs.filter_map(|(key, value)| Some((pickle.text(*key)?, pickle.tensor(*value)?)));
    let entries = tensors.map(|(key, (tensor, storage))| entry(input, key, tensor, storage, storages));
    Ok(Contents { entries: entries.collect::<Result<_, _>>()?, ..Contents::default() })
}

fn entry(
    input: &Input,
    key: &str,
    tensor: &Tensor,
    storage: &Storage,
    storages: &Storages,
) -> Result<Entry, Fault> {
    let Some(&(offset, len)) = storages.get(&storage.key) else {
        return damaged(format!("`{key}` refers to storage {}, which is not in the file", storage.key));
    };
    let size = element_size(storage.dtype);
    let dtype = match storage.dtype {
        "f32" => Dtype::F32,
        "f16" => Dtype::F16,
        "bf16" => Dtype::Bf16,
        "f64" => Dtype::F64,
        other => Dtype::Other(other.to_owned()),
    };
    let Tensor { shape, strides, offset: first, .. } = tensor;
    let bytes = shape.iter().try_fold(size, |n, &d| n.checked_mul(d));
    let start = first.checked_mul(size);
    let end = bytes.zip(start).and_then(|(bytes, start)| bytes.checked_add(start));
    let (Some(start), Some(_)) = (start, end.filter(|&end| end <= len)) else {
        return damaged(format!(
            "`{key}` {shape:?} from element {first} on is larger than its storage of {len} bytes"
        ));
    };
    if storage.elements.checked_mul(size).is_none_or(|bytes| bytes > len) {
        return damaged(format!("storage {} of {} elements has {len} bytes", storage.key, storage.elements));
    }
    let mut entry = Entry::checked(input, key.to_owned(), shape, dtype, Source::At(offset + start))?;
    let strides: Vec<usize> = strides.iter().map(|&s| usize::try_from(s).unwrap_or(usize::MAX)).collect();
    if entry.is_empty() {
        return Ok(entry);
    }
    if !is_permutation(&entry.shape, &strides) {
        return damaged(format!(
            "`{key}` {shape:?} is a view with strides {strides:?}; save its contiguous form"
        ));
    }
    let mut next = 1;
    let contiguous = entry.shape.iter().zip(&strides).rev().all(|(&d, &stride)| {
        let expected = next;
        next *= d;
        d == 1 || stride == expected
    });
    if !contiguous {
        entry.strides = Some(strides);
    }
    Ok(entry)
}
