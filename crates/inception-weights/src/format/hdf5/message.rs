//! What the messages of a dataset say: its shape, the type of its elements, and where they are.

use super::bytes::{number, take};
use super::file::{File, UNDEFINED};
use super::header::Object;
use crate::entry::Dtype;
use crate::input::{Fault, le, unsupported};

const DATASPACE: u64 = 0x01;
const DATATYPE: u64 = 0x03;
const LAYOUT: u64 = 0x08;
const FILTERS: u64 = 0x0b;

/// A dataset: where its values are in the input.
pub(crate) struct Dataset {
    pub shape: Vec<u64>,
    pub dtype: Dtype,
    pub offset: u64,
    /// Number of bytes there.
    pub len: u64,
}

impl Object {
    /// The object as a dataset; `what` names it in messages. `None` for a group.
    pub(crate) fn dataset(&self, file: &File, what: &str) -> Result<Option<Dataset>, Fault> {
        let Some(layout) = self.message(LAYOUT) else { return Ok(None) };
        let named = |reason: &str| Fault::Unsupported(format!("`{what}` {reason}"));
        let (Some(space), Some(datatype)) = (self.message(DATASPACE), self.message(DATATYPE)) else {
            return Err(named("has no shape or no type of elements"));
        };
        let shape = extent(&space.data)?;
        let dtype = dtype(&datatype.data)?;
        let data = &mut &layout.data[..];
        let (version, class) = (number(data, 1)?, number(data, 1)?);
        let (offset, len) = match (version, class) {
            _ if self.message(FILTERS).is_some() => {
                return Err(named("is compressed; save it as Keras does, without compression"));
            }
            (3 | 4, 0) => {
                let len = number(data, 2)?;
                (file.offset(layout.address.saturating_add(4), len)?, len)
            }
            (3 | 4, 1) => match (number(data, 8)?, number(data, 8)?) {
                (UNDEFINED, 0) => (0, 0),
                (UNDEFINED, _) => return Err(named("was never written")),
                (address, len) => (file.offset(address, len)?, len),
            },
            (3 | 4, _) => return Err(named("is in chunks; save it as Keras does, in one piece")),
            _ => return Err(named(&format!("has a layout of version {version}"))),
        };
        Ok(Some(Dataset { shape, dtype, offset, len }))
    }
}

/// The dimensions of a dataspace.
pub(super) fn extent(mut data: &[u8]) -> Result<Vec<u64>, Fault> {
    let data = &mut data;
    let (version, rank) = (number(data, 1)?, number(data, 1)?);
    match version {
        1 => take(data, 6)?,
        2 => take(data, 2)?,
        _ => return unsupported(format!("a shape of version {version}")),
    };
    (0..rank).map(|_| number(data, 8)).collect()
}

/// The element type of a datatype.
fn dtype(mut data: &[u8]) -> Result<Dtype, Fault> {
    let data = &mut data;
    let head = take(data, 8)?;
    let (class, bits, size) = (head[0] & 15, head[1], le(&head[4..]));
    let signed = bits & 8 != 0;
    let exponent = data.get(5).copied(); // Its number of bits.
    Ok(match (class, size, exponent) {
        (0 | 1, ..) if bits & 1 != 0 => Dtype::Other("big-endian numbers".to_owned()),
        (1, 4, Some(8)) => Dtype::F32,
        (1, 2, Some(5)) => Dtype::F16,
        (1, 2, Some(8)) => Dtype::Bf16,
        (1, 8, Some(11)) => Dtype::F64,
        (0, 1..=8, _) => Dtype::Other(format!("{}{}", if signed { "i" } else { "u" }, size * 8)),
        _ => Dtype::Other(format!("HDF5's class {class} of {size} bytes")),
    })
}
