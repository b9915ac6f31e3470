//! The safetensors format.

use std::collections::BTreeMap;

use safetensors::tensor::{Dtype as Kind, Metadata as Header};

use super::contents::Contents;
use super::pytorch;
use crate::entry::{Dtype, Entry, IntegerType, Source};
use crate::input::{Beside, Fault, Input, damaged, unsupported};
use crate::metadata::Metadata;

/// The `safetensors` crate's own bound on the JSON at the start of a file.
const MAX_HEADER: u64 = 100_000_000;

/// Most files of a sharded checkpoint.
const MAX_SHARDS: usize = 1024;

/// The list of a sharded checkpoint: `{"weight_map": {key: file}}`.
#[derive(serde::Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Lists the tensors of a sharded checkpoint; with them the input that has all of its files, which `beside`
/// opens.
pub(crate) fn open_index(index: &Input, beside: Beside) -> Result<(Input, Contents), Fault> {
    if index.len() > MAX_HEADER {
        return damaged(format!("a list of {} bytes", index.len()));
    }
    let text = index.read(0, index.len())?;
    let index: Index = serde_json::from_slice(&text).map_err(|e| Fault::Damaged(e.to_string()))?;
    let mut names: Vec<&String> = index.weight_map.values().collect();
    names.sort_unstable();
    names.dedup();
    if names.len() > MAX_SHARDS {
        return unsupported(format!("more than {MAX_SHARDS} files"));
    }
    let (mut inputs, mut start) = (Vec::new(), 0);
    let (mut entries, mut metadata) = (Vec::new(), Metadata::default());
    for name in names {
        let Some(shard) = beside(name.as_ref())? else {
            return unsupported(format!("its file `{name}` is not beside it"));
        };
        let within = |fault| match fault {
            Fault::Damaged(reason) => Fault::Damaged(format!("`{name}`: {reason}")),
            Fault::Unsupported(reason) => Fault::Unsupported(format!("`{name}`: {reason}")),
            other => other,
        };
        // Older checkpoints have PyTorch's archives as their shards (`pytorch_model.bin.index.json`).
        let is_zip = shard.len() >= 2 && shard.read(0, 2)? == b"PK";
        let contents = if is_zip { pytorch::open_zip(&shard) } else { open(&shard) }.map_err(within)?;
        let own = contents.entries.into_iter().filter(|entry| index.weight_map.get(&entry.key) == Some(name));
        entries.extend(own.map(|entry| entry.moved(start)));
        metadata = contents.metadata.0.into_iter().fold(metadata, |all, (key, value)| all.with(key, value));
        start += shard.len();
        inputs.push(shard);
    }
    let found: std::collections::HashSet<&str> =
        entries.iter().map(|entry: &Entry| entry.key.as_str()).collect();
    if let Some((key, name)) = index.weight_map.iter().find(|(key, _)| !found.contains(key.as_str())) {
        return damaged(format!("`{key}` is not in `{name}`"));
    }
    Ok((Input::joined(inputs), Contents { entries, metadata, ..Contents::default() }))
}

/// What follows the key of a tensor of integers in that of its scales.
pub(crate) const SCALES: &str = ".scale";

/// Whether `key` is a tensor of 8-bit integers beside which there is a single-precision scale for each of its
/// rows.
fn has_scales(header: &Header, key: &str) -> bool {
    let (Some(values), Some(scales)) = (header.info(key), header.info(&format!("{key}{SCALES}"))) else {
        return false;
    };
    let fits = values.shape.len() > 1 && scales.shape[..] == values.shape[..1];
    fits && values.dtype == Kind::I8 && scales.dtype == Kind::F32
}

pub(crate) fn open(input: &Input) -> Result<Contents, Fault> {
    let size = input.len();
    if size < 8 {
        return damaged(format!("{size} bytes"));
    }
    let mut length = [0; 8];
    input.read_at(0, &mut length)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER.min(size - 8) {
        return damaged(format!("a header of {length} bytes in a file of {size}"));
    }
    let header = input.read(8, length)?;
    // Checks shapes against byte ranges, and that these follow one another without gap or overlap.
    let header: Header = serde_json::from_slice(&header).map_err(|e| Fault::Damaged(e.to_string()))?;
    let data = 8 + length;
    let end = data.checked_add(header.data_len() as u64);
    if end != Some(size) {
        return damaged(format!(
            "a header of {length} bytes and {} bytes of tensors in a file of {size}",
            header.data_len()
        ));
    }
    // Scales are part of the tensors that they belong to.
    let scales = |key: &String| key.strip_suffix(SCALES).is_some_and(|tensor| has_scales(&header, tensor));
    let keys = header.offset_keys().into_iter().filter(|key| !scales(key));
    let entries = keys.map(|key| {
        let info = header.info(&key).expect("its own key");
        let dtype = match info.dtype {
            Kind::F32 => Dtype::F32,
            Kind::F16 => Dtype::F16,
            Kind::BF16 => Dtype::Bf16,
            Kind::F64 => Dtype::F64,
            Kind::I8 if has_scales(&header, &key) => Dtype::I8,
            other => Dtype::Other(format!("{other:?}").to_lowercase()),
        };
        let shape: Vec<u64> = info.shape.iter().map(|&d| d as u64).collect();
        let at = |offset: usize| Source::At(data + offset as u64);
        let values = at(info.data_offsets.0);
        if dtype == Dtype::I8 {
            let of_scales = header.info(&format!("{key}{SCALES}")).expect("just found");
            let count = shape[0].max(1);
            let source = Source::Quantized {
                kind: IntegerType::I8,
                values: Box::new(values),
                scales: (Box::new(at(of_scales.data_offsets.0)), count),
                zeros: None,
                inner: (shape.iter().product::<u64>() / count).max(1),
            };
            // The header's ranges are those of the shapes, and within the file.
            return Ok(Entry { key, shape: info.shape.clone(), dtype, source, strides: None });
        }
        Entry::checked(input, key, &shape, dtype, values)
    });
    let entries = entries.collect::<Result<_, _>>()?;
    let metadata = header.metadata().clone().unwrap_or_default();
    Ok(Contents { entries, metadata: Metadata(metadata.into_iter().collect()), ..Contents::default() })
}
