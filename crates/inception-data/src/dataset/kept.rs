//! The last pictures that were read, where several threads ask for neighbours of a sequence out of order.

use std::collections::VecDeque;

/// Pictures that are read on the way to one that is wanted; a wanted one further ahead is jumped to.
pub(super) const AHEAD: usize = 32;
/// Pictures that stay in memory.
const KEPT: usize = 2 * AHEAD;
/// Bytes of pictures from which on fewer stay in memory.
const KEPT_BYTES: usize = 64 << 20;

/// Pictures by their numbers.
#[derive(Debug)]
pub(super) struct Kept<T> {
    pictures: VecDeque<(usize, T, usize)>,
    bytes: usize,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { pictures: VecDeque::new(), bytes: 0 }
    }
}

impl<T> Kept<T> {
    /// Picture `index`, if it is kept.
    pub fn get(&self, index: usize) -> Option<&T> {
        self.pictures.iter().find(|(kept, ..)| *kept == index).map(|(_, picture, _)| picture)
    }

    /// Keeps picture `index`, which has `len` bytes, in place of the oldest ones.
    pub fn push(&mut self, index: usize, picture: T, len: usize) {
        self.bytes += len;
        self.pictures.push_back((index, picture, len));
        while self.pictures.len() > KEPT || (self.pictures.len() > 1 && self.bytes > KEPT_BYTES) {
            self.bytes -= self.pictures.pop_front().map_or(0, |(.., len)| len);
        }
    }
}
