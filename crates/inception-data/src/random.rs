//! The random numbers of Python and NumPy: training draws what PaddleClas draws from the same seed.

/// The Mersenne Twister MT19937, seeded and read as Python's `random` or NumPy's legacy `np.random` do.
#[derive(Clone)]
pub struct MersenneTwister {
    state: [u32; SIZE],
    next: usize,
}

const SIZE: usize = 624;

impl MersenneTwister {
    /// As after `random.seed(seed)` in Python.
    pub fn python(seed: u64) -> Self {
        let words = [seed as u32, (seed >> 32) as u32];
        let key = if words[1] == 0 { &words[..1] } else { &words[..] };
        let Self { mut state, .. } = Self::numpy(19_650_218);
        let mut i = 1;
        let mut step = |state: &mut [u32; SIZE], factor: u32, change: &dyn Fn(u32, usize) -> u32| {
            let previous = state[i - 1];
            let mixed = state[i] ^ (previous ^ (previous >> 30)).wrapping_mul(factor);
            state[i] = change(mixed, i);
            i += 1;
            if i == SIZE {
                state[0] = state[SIZE - 1];
                i = 1;
            }
        };
        for turn in 0..SIZE {
            let at = turn % key.len();
            step(&mut state, 1_664_525, &|mixed, _| mixed.wrapping_add(key[at]).wrapping_add(at as u32));
        }
        for _ in 1..SIZE {
            step(&mut state, 1_566_083_941, &|mixed, i| mixed.wrapping_sub(i as u32));
        }
        state[0] = 1 << 31;
        Self { state, next: SIZE }
    }

    /// As after `np.random.seed(seed)`.
    pub fn numpy(seed: u32) -> Self {
        let mut state = [seed; SIZE];
        for i in 1..SIZE {
            let previous = state[i - 1];
            state[i] = (previous ^ (previous >> 30)).wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        Self { state, next: SIZE }
    }

    /// 32 random bits.
    pub fn bits(&mut self) -> u32 {
        if self.next == SIZE {
            for i in 0..SIZE {
                let y = (self.state[i] & (1 << 31)) | (self.state[(i + 1) % SIZE] & !(1 << 31));
                let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[i] = self.state[(i + 397) % SIZE] ^ (y >> 1) ^ odd;
            }
            self.next = 0;
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// Python's `random.random()`, NumPy's `np.random.random()`: in 0..1, 53 bits.
    pub fn unit(&mut self) -> f64 {
        let (high, low) = (self.bits() >> 5, self.bits() >> 6);
        (f64::from(high) * f64::from(1 << 26) + f64::from(low)) / (1_u64 << 53) as f64
    }

    /// Python's `random.uniform(low, high)`.
    pub fn uniform(&mut self, [low, high]: [f64; 2]) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Python's `random.randint(0, last)`; `last` is included.
    pub fn integer(&mut self, last: u32) -> u32 {
        let count = u64::from(last) + 1;
        let bits = u64::BITS - count.leading_zeros();
        loop {
            // 33 bits are taken as two words, the low one first.
            let drawn = match bits.checked_sub(32) {
                Some(more @ 1..) => u64::from(self.bits()) | u64::from(self.bits() >> (32 - more)) << 32,
                _ => u64::from(self.bits() >> (32 - bits)),
            };
            if drawn < count {
                return drawn as u32;
            }
        }
    }

    /// NumPy's `np.random.permutation(count)`.
    pub fn permutation(&mut self, count: u32) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count as usize).collect();
        for i in (1..count).rev() {
            let mask = u32::MAX >> i.leading_zeros();
            let j = loop {
                let drawn = self.bits() & mask;
                if drawn <= i {
                    break drawn;
                }
            };
            order.swap(i as usize, j as usize);
        }
        order
    }

    /// NumPy's `np.random.beta(alpha, alpha)` for an `alpha` in 0..=1, by Jöhnk's method.
    pub(crate) fn symmetric_beta(&mut self, alpha: f64) -> f64 {
        loop {
            let (u, v) = (self.unit(), self.unit());
            let (x, y) = (u.powf(1.0 / alpha), v.powf(1.0 / alpha));
            if x + y > 1.0 {
                continue;
            }
            if x + y > 0.0 {
                return x / (x + y);
            }
            // Both powers are too small for a number.
            let (x, y) = (u.ln() / alpha, v.ln() / alpha);
            let largest = x.max(y);
            let (x, y) = (x - largest, y - largest);
            return (x - (x.exp() + y.exp()).ln()).exp();
        }
    }
}

impl std::fmt::Debug for MersenneTwister {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MersenneTwister").finish_non_exhaustive()
    }
}
