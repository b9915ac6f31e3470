//! Collections of text: objects of any length that attributes refer to by number.

use crate::input::le;
use std::collections::HashMap;
use std::ops::Range;

/// The objects of a collection.
pub(super) struct Collection {
    bytes: Vec<u8>,
    objects: HashMap<u64, Range<usize>>,
}

impl Collection {
    /// The collection that has `bytes` behind its head.
    pub fn new(bytes: Vec<u8>) -> Self {
        let mut objects = HashMap::new();
        let mut rest = &bytes[..];
        while let Some((head, tail)) = rest.split_at_checked(16) {
            let (index, size) = (le(&head[..2]), le(&head[8..]));
            let start = bytes.len() - tail.len();
            let padded = size.checked_next_multiple_of(8).and_then(|size| usize::try_from(size).ok());
            let next = padded.and_then(|size| tail.get(size..));
            // Number 0 is what is free, up to the end.
            let Some(next) = next.filter(|_| index != 0) else { break };
            objects.insert(index, start..start + size as usize);
            rest = next;
        }
        Self { bytes, objects }
    }

    /// The bytes of an object.
    pub fn object(&self, index: u64) -> Option<&[u8]> {
        self.objects.get(&index).map(|place| &self.bytes[place.clone()])
    }
}
