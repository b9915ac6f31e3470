//! Latin-1 text as UTF-8: the form in which Python 3 pickles bytes under protocol 2.

/// Decodes UTF-8 text of the characters 0 to 255 into one byte for each.
pub(crate) struct Latin1<'a> {
    bytes: &'a mut [u8],
    done: usize,
    /// The last byte of the text.
    last: u8,
    wrong: bool,
}

impl<'a> Latin1<'a> {
    /// Bytes of text to decode at a time: little enough to stay in the processor's cache.
    pub const BLOCK: usize = 1 << 15;

    /// A decoder that fills `bytes`.
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, done: 0, last: 0, wrong: false }
    }

    /// Decodes the next part of the text. Half of a weight's bytes are above 127, at random, so a branch on
    /// them would be mispredicted. Instead each byte of text is written, and the second of two overwrites the
    /// first.
    pub fn text(&mut self, text: &[u8]) {
        let Self { bytes, done, last, wrong } = self;
        let (mut at, mut before, mut bad) = (*done, *last, false);
        for &byte in text {
            let is_first = byte >= 0xc0;
            let is_second = byte & 0xc0 == 0x80;
            bad |= (is_second != (before >= 0xc0)) | (is_first & !matches!(byte, 0xc2 | 0xc3));
            // The lowest bit of the first is the second-highest of what both stand for.
            let value = if is_second { byte | (before & 1) << 6 } else { byte };
            match bytes.get_mut(at) {
                Some(slot) => *slot = value,
                None => bad = true,
            }
            at += usize::from(!is_first);
            before = byte;
        }
        (*done, *last, *wrong) = (at, before, *wrong | bad);
    }

    /// Whether the text stood for exactly as many bytes as there is room for.
    pub fn is_whole(&self) -> bool {
        !self.wrong && self.done == self.bytes.len() && self.last < 0xc0
    }
}

#[cfg(test)]
mod tests {
    use super::Latin1;

    fn decode(text: &[u8], len: usize, block: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; len];
        let mut decoder = Latin1::new(&mut bytes);
        text.chunks(block).for_each(|block| decoder.text(block));
        decoder.is_whole().then_some(bytes)
    }

    /// Whatever the cuts between blocks, and only text that stands for just so many bytes.
    #[test]
    fn latin1_is_what_the_standard_library_makes_of_it() {
        let bytes: Vec<u8> = (0..=255).chain((0..=255).rev()).chain([0xc3, 0x80, 0x7f]).collect();
        let text: String = bytes.iter().map(|&byte| char::from(byte)).collect();
        for block in [1, 2, 3, 100, 1000] {
            assert_eq!(decode(text.as_bytes(), bytes.len(), block).as_deref(), Some(&bytes[..]));
            assert_eq!(decode(text.as_bytes(), bytes.len() - 1, block), None);
            assert_eq!(decode(text.as_bytes(), bytes.len() + 1, block), None);
        }
        // All texts of three bytes of these, against the standard library.
        let some = [0x00, 0x41, 0x7f, 0x80, 0xbf, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xdf, 0xe0, 0xf0, 0xff];
        for text in some.iter().flat_map(|&a| some.iter().flat_map(move |&b| some.map(|c| [a, b, c]))) {
            let chars = std::str::from_utf8(&text).ok().map(str::chars);
            let exact =
                chars.and_then(|chars| chars.map(|c| u8::try_from(c).ok()).collect::<Option<Vec<_>>>());
            for len in 0..=4 {
                let wanted = exact.clone().filter(|bytes| bytes.len() == len);
                assert_eq!(decode(&text, len, 2), wanted, "{text:x?} as {len} bytes");
            }
        }
    }
}
