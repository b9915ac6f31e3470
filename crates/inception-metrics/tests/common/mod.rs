//! The integer formula of `tests/goldens/fid/generate.py`, and generators that repeat those of the tools.

#![allow(dead_code, clippy::unwrap_used, missing_docs)]

use inception_metrics::{Draw, Features, Sums};

/// Numbers of 16 bits.
pub fn integers(seed: u64) -> impl Iterator<Item = i64> {
    (seed..).map(|n| ((n.wrapping_mul(2_654_435_761) & 0xffff_ffff) >> 16) as i64)
}

/// Rows with a factor in common, none below 0; exact in f32.
pub fn features(seed: u64, pictures: usize, dimensions: usize, shift: i64) -> Features {
    let mut own = integers(seed);
    let mut values = Vec::new();
    for common in integers(seed + 77).take(pictures) {
        for column in 0..dimensions {
            let value =
                own.next().unwrap() - 20000 + (common * (1 + column as i64 % 5)).div_euclid(4) + shift;
            values.push((value.max(0) as f64 / 65536.0) as f32);
        }
    }
    Features::new(dimensions, values).unwrap()
}

pub fn sums(features: &Features) -> Sums {
    let mut sums = Sums::new(features.dimensions()).unwrap();
    sums.add(features.values()).unwrap();
    sums
}

/// splitmix64, for shuffles.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Draw for Random {
    fn permutation(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for at in (1..count).rev() {
            order.swap(at, self.below(at + 1));
        }
        order
    }

    fn below(&mut self, count: usize) -> usize {
        (self.next() % count as u64) as usize
    }
}
