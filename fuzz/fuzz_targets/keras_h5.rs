#![no_main]

use inception_weights::Format;
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|bytes: &[u8]| -> Corpus {
    if inception_fuzz::read("keras_h5", Format::KerasH5, bytes) { Corpus::Keep } else { Corpus::Reject }
});
