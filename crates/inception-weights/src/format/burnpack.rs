//! Burn's own `.bpk`: a header, CBOR that describes the tensors, and their bytes.
//!
//! The reader of `burn-pack` hands out tensors, not where they are; the description is small enough to read
//! here.

use std::collections::BTreeMap;

use burn_pack::{DType, HEADER_SIZE, MAX_CBOR_RECURSION_DEPTH, MAX_TENSOR_COUNT, aligned_data_section_start};
use serde::Deserialize;

use super::contents::Contents;
use crate::entry::{Dtype, Entry, Source};
use crate::input::{Fault, Input, damaged, unsupported};
use crate::metadata::Metadata;

#[derive(Deserialize)]
struct Description {
    tensors: BTreeMap<String, Descriptor>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Descriptor {
    dtype: DType,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

pub(crate) fn open(input: &Input) -> Result<Contents, Fault> {
    let mut header = [0; HEADER_SIZE];
    input.read_at(0, &mut header)?;
    let header = burn_pack::Header::from_bytes(&header).map_err(|e| Fault::Damaged(e.to_string()))?;
    if header.version != burn_pack::FORMAT_VERSION {
        return unsupported(format!("version {}; {} is known", header.version, burn_pack::FORMAT_VERSION));
    }
    let size = header.metadata_size;
    if u64::from(size) > input.len() || size > burn_pack::MAX_METADATA_SIZE {
        return damaged(format!("a description of {size} bytes in a file of {}", input.len()));
    }
    let description = input.read(HEADER_SIZE as u64, size.into())?;
    let description: Description =
        ciborium::de::from_reader_with_recursion_limit(&description[..], MAX_CBOR_RECURSION_DEPTH)
            .map_err(|e| Fault::Damaged(format!("its description: {e}")))?;
    if description.tensors.len() > MAX_TENSOR_COUNT {
        return damaged(format!("{} tensors", description.tensors.len()));
    }
    let data = aligned_data_section_start(size as usize) as u64;
    let mut ranges = Vec::new();
    let mut entries = Vec::new();
    for (key, Descriptor { dtype, shape, data_offsets: (start, end) }) in description.tensors {
        let dtype = match dtype {
            DType::F32 => Dtype::F32,
            DType::F16 => Dtype::F16,
            DType::BF16 => Dtype::Bf16,
            DType::F64 => Dtype::F64,
            other => Dtype::Other(format!("{other:?}").to_lowercase()),
        };
        let Some(offset) = data.checked_add(start) else {
            return damaged(format!("`{key}` starts at {start}"));
        };
        let wanted = shape.iter().try_fold(dtype.size().unwrap_or(0), |n, &d| n.checked_mul(d));
        if dtype.size().is_some() && wanted != end.checked_sub(start) {
            return damaged(format!("`{key}` {shape:?} of {dtype} at bytes {start}..{end}"));
        }
        ranges.push((start, end));
        entries.push(Entry::checked(input, key, &shape, dtype, Source::At(offset))?);
    }
    ranges.sort_unstable();
    if ranges.array_windows().any(|[a, b]| b.0 < a.1) {
        return damaged("two tensors share bytes");
    }
    Ok(Contents { entries, metadata: Metadata(description.metadata), ..Contents::default() })
}
