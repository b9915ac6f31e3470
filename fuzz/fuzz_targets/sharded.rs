#![no_main]

use inception_weights::Format;
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|bytes: &[u8]| -> Corpus {
    if inception_fuzz::read("sharded", Format::ShardedIndex, bytes) { Corpus::Keep } else { Corpus::Reject }
});
