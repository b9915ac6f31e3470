//! PyTorch's checkpoints: a pickle of tensors that refer to storages, which lie beside it in a zip archive
//! (since 1.6) or behind it in the same file (before). TorchScript's archives and those of `torch.export`
//! are zip archives, too.
//!
//! `burn-store` reads these too, through `pytorch-reader`. This reader shares the pickle machine with
//! Paddle's, keeps to one list of known names for both, gives byte ranges of the file, and says where a
//! file is wrong.

use std::collections::HashMap;

use super::contents::Contents;
use super::pickle::{Pickle, Storage, Tensor, Value, unpickle};
use super::state_dict::{Candidate, contents};
use super::zip::Members;
use crate::entry::{Dtype, Entry, Source};
use crate::input::{Fault, Input, Stream, damaged, unsupported};
use crate::strides::is_permutation;

/// Where a storage is in the file.
type Storages = HashMap<Box<str>, (u64, u64)>;

pub(crate) fn open_zip(input: &Input) -> Result<Contents, Fault> {
    let members = Members::of(input)?;
    if let Some(name) = members.ending(WEIGHTS_OF_EXPORT).next() {
        let folder = name.trim_end_matches("model_weights_config.json").to_owned();
        return open_exported(input, &members, &folder);
    }
    // One folder, named as the file was when it was written.
    let mut pickles = members.ending("/data.pkl");
    let name = match (pickles.next(), pickles.next()) {
        (Some(name), None) => name,
        (None, _) => return unsupported(no_checkpoint(&members)),
        _ => return unsupported("a zip archive with several `data.pkl`"),
    };
    let folder = name.trim_end_matches("data.pkl");
    if let Some(order) = members.get(&format!("{folder}byteorder"))?
        && input.read(order.offset, order.len.min(8))? != b"little"
    {
        return unsupported("the numbers are big-endian");
    }
    let Some(member) = members.get(name)? else { return damaged("a zip archive without a `data.pkl`") };
    let pickle = unpickle(&mut Stream::new(input, member.offset, member.offset + member.len))?;
    let mut storages = Storages::new();
    for storage in pickle.storages() {
        if let Some(member) = members.get(&format!("{folder}data/{}", storage.key))? {
            storages.insert(storage.key.clone(), (member.offset, member.len));
        }
    }
    let contents = all_entries(input, &pickle, &storages)?;
    match contents.entries.is_empty() && members.get(&format!("{folder}constants/0"))?.is_some() {
        true => unsupported(
            "a frozen TorchScript archive, whose weights have no names; save it before it is frozen",
        ),
        false => Ok(contents),
    }
}

/// What a zip archive is that PyTorch has not written.
fn no_checkpoint(members: &Members) -> String {
    let mut names: Vec<&str> = members.ending("").collect();
    names.sort_unstable();
    names.truncate(3);
    match names[..] {
        [] => "an empty zip archive".to_owned(),
        _ => format!(
            "a zip archive without a `data.pkl` (of `{}`): no PyTorch checkpoint; unpack it first",
            names.join("`, `")
        ),
    }
}

/// Where the archives of `torch.export` list their weights.
const WEIGHTS_OF_EXPORT: &str = "/data/weights/model_weights_config.json";

/// Longest such list that is read.
const MAX_LIST: u64 = 16 << 20;

/// `torch.export`'s archive: each weight is a member of its own, which a list describes.
fn open_exported(input: &Input, members: &Members, folder: &str) -> Result<Contents, Fault> {
    let list =
        members.get(&format!("{folder}model_weights_config.json"))?.filter(|list| list.len <= MAX_LIST);
    let Some(list) = list else { return damaged("a list of weights that is too long") };
    let list = input.read(list.offset, list.len)?;
    let list: serde_json::Value =
        serde_json::from_slice(&list).map_err(|e| Fault::Damaged(format!("the list of weights: {e}")))?;
    let mut entries = Vec::new();
    for (key, row) in list["config"].as_object().into_iter().flatten() {
        let bad = || Fault::Damaged(format!("the list of weights: `{key}`"));
        let meta = &row["tensor_meta"];
        let numbers = |name: &str| {
            let items = meta[name].as_array().filter(|items| items.len() <= 8)?;
            items.iter().map(|item| item["as_int"].as_u64()).collect::<Option<Vec<u64>>>()
        };
        if row["use_pickle"].as_bool() == Some(true) {
            return unsupported(format!("`{key}` is pickled; save the state dict alone"));
        }
        let (shape, strides) = (numbers("sizes").ok_or_else(bad)?, numbers("strides").ok_or_else(bad)?);
        let offset = meta["storage_offset"]["as_int"].as_u64().unwrap_or(0);
        let tensor = Tensor::new(0, offset, shape, strides).ok_or_else(bad)?;
        // `ScalarType` of `torch/_export/serde/schema.py`.
        let dtype = match meta["dtype"].as_u64() {
            Some(6) => "f16",
            Some(7) => "f32",
            Some(8) => "f64",
            Some(13) => "bf16",
            Some(5) => "i64",
            Some(4) => "i32",
            Some(3) => "i16",
            Some(1) => "u8",
            Some(2) => "i8",
            Some(12) => "bool",
            _ => return unsupported(format!("`{key}` is of an unknown element type")),
        };
        let file = row["path_name"].as_str().ok_or_else(bad)?;
        let member = members.get(&format!("{folder}{file}"))?;
        let Some(member) = member else { return damaged(format!("`{key}` lacks its member `{file}`")) };
        let elements = member.len / element_size(dtype);
        let storage = Storage { dtype, key: file.into(), elements };
        let storages = Storages::from([(file.into(), (member.offset, member.len))]);
        entries.push(entry(input, key, &tensor, &storage, &storages)?);
    }
    Ok(Contents { entries, ..Contents::default() })
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
        return unsupported("the numbers are big-endian");
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
    all_entries(input, &pickle, &storages)
}

fn element_size(dtype: &str) -> u64 {
    match dtype {
        "f64" | "i64" => 8,
        "f32" | "i32" => 4,
        "f16" | "bf16" | "i16" => 2,
        _ => 1,
    }
}

fn all_entries(input: &Input, pickle: &Pickle, storages: &Storages) -> Result<Contents, Fault> {
    let entries = |dict: &Candidate| {
        let tensors = dict.tensors.iter().filter_map(|(key, value)| Some((key, pickle.tensor(*value)?)));
        tensors.map(|(key, (tensor, storage))| entry(input, key, tensor, storage, storages)).collect()
    };
    contents(pickle, |value| pickle.tensor(value).is_some(), entries)
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
    // A dimension of one can have any stride: zero, so that a step along it cannot overflow.
    let stride = |(&stride, &d)| if d == 1 { 0 } else { usize::try_from(stride).unwrap_or(usize::MAX) };
    let strides: Vec<usize> = strides.iter().zip(shape).map(stride).collect();
    if entry.is_empty() {
        return Ok(entry);
    }
    if !is_permutation(&entry.shape, &strides) {
        return unsupported(format!(
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
