//! Pictures of a stream that is read from the front on.

use std::io::{self, Read, Seek};

use super::item::Item;
use super::kept::{AHEAD, Kept};
use super::tar::read_span;
use crate::files::check_len;

/// The pictures of a stream, by their places in it.
#[derive(Debug)]
pub(super) struct Sequence<R> {
    stream: R,
    /// Places and lengths, in order.
    spans: Vec<(u64, u64)>,
    /// The picture at which the stream is.
    next: usize,
    kept: Kept<Vec<u8>>,
}

impl<R: Read + Seek> Sequence<R> {
    /// Of the members of `stream`, in the order of their places.
    pub fn new(stream: R, members: &[Item]) -> Self {
        let spans = members.iter().filter_map(|item| item.span).collect();
        Self { stream, spans, next: 0, kept: Kept::default() }
    }

    /// Appends the bytes at `span`, and keeps those of the pictures on the way to it, which another thread
    /// asks for.
    pub fn read(&mut self, span: (u64, u64), bytes: &mut Vec<u8>) -> io::Result<()> {
        let Ok(index) = self.spans.binary_search(&span) else { return Err(io::ErrorKind::NotFound.into()) };
        if let Some(picture) = self.kept.get(index) {
            bytes.extend_from_slice(picture);
            return Ok(());
        }
        if !(self.next..self.next + AHEAD).contains(&index) {
            self.next = index;
        }
        while self.next < index {
            let at = self.next;
            self.next += 1;
            if check_len(self.spans[at].1).is_ok() {
                let mut picture = Vec::new();
                read_span(&mut self.stream, self.spans[at], &mut picture)?;
                let len = picture.len();
                self.kept.push(at, picture, len);
            }
        }
        self.next = index + 1;
        let before = bytes.len();
        read_span(&mut self.stream, span, bytes)?;
        self.kept.push(index, bytes[before..].to_vec(), bytes.len() - before);
        Ok(())
    }
}
