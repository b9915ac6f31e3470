//! The safetensors format.

use safetensors::tensor::{Dtype as Kind, Metadata as Header};

use super::contents::Contents;
use crate::entry::{Dtype, Entry, Source};
use crate::input::{Fault, Input, damaged};
use crate::metadata::Metadata;

/// The `safetensors` crate's own bound on the JSON at the start of a file.
const MAX_HEADER: u64 = 100_000_000;

pub(crate) fn open(input: &Input) -> Result<Contents, Fault> {
    let size = input.len();
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
    let entries = header.offset_keys().into_iter().map(|key| {
        let info = header.info(&key).expect("its own key");
        let dtype = match info.dtype {
            Kind::F32 => Dtype::F32,
            Kind::F16 => Dtype::F16,
            Kind::BF16 => Dtype::Bf16,
            Kind::F64 => Dtype::F64,
            other => Dtype::Other(format!("{other:?}").to_lowercase()),
        };
        let shape: Vec<u64> = info.shape.iter().map(|&d| d as u64).collect();
        Entry::checked(input, key, &shape, dtype, Source::At(data + info.data_offsets.0 as u64))
    });
    let entries = entries.collect::<Result<_, _>>()?;
    let metadata = header.metadata().clone().unwrap_or_default();
    Ok(Contents { entries, metadata: Metadata(metadata.into_iter().collect()), graph: None })
}
