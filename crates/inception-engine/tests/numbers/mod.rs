//! Random values and convolutions for graphs, and the instruction sets to run them on.

use inception_engine::Isa;
use inception_engine::graph::{Conv, Window};

/// The tiers of this CPU, or only the one that `INCEPTION_ISA` names; says which ones the CPU lacks, since
/// those are not tested.
pub fn tiers() -> Vec<Isa> {
    if std::env::var("INCEPTION_ISA").is_ok_and(|name| !name.is_empty()) {
        return vec![Isa::chosen().unwrap()];
    }
    let (run, lack): (Vec<Isa>, Vec<Isa>) = Isa::ALL.into_iter().partition(|isa| isa.available());
    lack.iter().for_each(|isa| eprintln!("SKIPPED: this CPU lacks {isa}"));
    run
}

/// A generator of numbers that are the same on every machine.
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Numbers(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x1234_5678_9ABC_DEF1)
    }

    fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// Evenly from -1 to 1.
    pub fn float(&mut self) -> f32 {
        (self.bits() as f64 / f64::from(u32::MAX) * 2.0 - 1.0) as f32
    }

    pub fn floats(&mut self, n: usize, scale: f32) -> Vec<f32> {
        (0..n).map(|_| self.float() * scale).collect()
    }
}

/// A convolution with weights that keep activations near one.
pub fn conv(numbers: &mut Numbers, cin: usize, cout: usize, groups: usize, window: Window) -> Conv {
    let fan_in = cin / groups * window.kernel[0] * window.kernel[1];
    let weight = numbers.floats(cout * fan_in, (3.0 / fan_in as f32).sqrt());
    let bias = numbers.floats(cout, 0.2);
    Conv { weight, bias: Some(bias), out_channels: cout, groups, window, input_relu: false, relu: false }
}
