//! Numbers off the front of bytes.

use crate::input::{Fault, damaged, le};

/// Takes `count` bytes off the front of `bytes`.
pub(super) fn take<'b>(bytes: &mut &'b [u8], count: usize) -> Result<&'b [u8], Fault> {
    let Some((head, tail)) = bytes.split_at_checked(count) else {
        return damaged(format!("a structure of {} bytes lacks {count} more", bytes.len()));
    };
    *bytes = tail;
    Ok(head)
}

/// Takes a number of `size` bytes off the front of `bytes`.
pub(super) fn number(bytes: &mut &[u8], size: usize) -> Result<u64, Fault> {
    take(bytes, size).map(le)
}
