//! Random numbers of a run: each use has a generator of its own, by the run's seed and the place in the run,
//! so that a run that goes on draws what it would have drawn.

use inception::data::MersenneTwister;

/// What random numbers are for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Use {
    /// Which pictures are for validation.
    Split,
    /// The order of the pictures in an epoch.
    Order,
    /// What is blended in a batch.
    Mixup,
    /// How a picture is changed in an epoch.
    Augment,
    /// What is dropped out in a batch.
    Dropout,
    /// How a picture is changed in one of its views that are kept.
    View,
}

/// The generator for a use at a place, for instance of an epoch and a batch.
pub(crate) fn generator(seed: u64, purpose: Use, place: [u64; 2]) -> MersenneTwister {
    let mixed = [purpose as u64 + 1, place[0], place[1]].into_iter().fold(seed, |state, part| {
        // splitmix64 of the state and the part.
        let mut z = state.wrapping_add(part.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    });
    MersenneTwister::python(mixed)
}
