//! Values of a written integer formula of (key, index), the twin of the one in `goldens/generate.py`. Nothing
//! here needs Burn: the engine's tests, which do without, include this file.

/// What a tensor is for, which decides how its values are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Of a convolution, `[out][in / groups][height][width]`.
    ConvWeight,
    /// Of a fully connected layer, `[in][out]`.
    LinearWeight,
    /// A variance.
    Variance,
    /// What is added to a channel.
    Shift,
    /// What a channel is multiplied by.
    Scale,
}

/// FNV-1a of the key.
fn seed(key: &str) -> u64 {
    key.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Values in (-1, 1) for a key: 24 bits of splitmix64, exact.
pub fn uniform(key: &str) -> impl Iterator<Item = f64> + use<> {
    let seed = seed(key);
    (1u64..).map(move |index| {
        let mut z = seed.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (2.0 * (z >> 40) as f64 + 1.0) / f64::from(1 << 24) - 1.0
    })
}

/// The values of the tensor that PaddleClas calls `key`.
pub fn tensor(key: &str, shape: &[usize], spread: Spread) -> Vec<f32> {
    let fan_in = |dims: &[usize]| dims.iter().product::<usize>() as f64;
    let (offset, scale) = match spread {
        Spread::ConvWeight => {
            let variance = if shape[1] == 1 { 3.0 } else { 6.0 };
            (0.0, (variance / fan_in(&shape[1..])).sqrt())
        }
        Spread::LinearWeight => (0.0, (3.0 / fan_in(&shape[..1])).sqrt()),
        Spread::Variance => (1.0, 0.5),
        Spread::Shift => (0.0, 0.15),
        Spread::Scale => (0.9, 0.2),
    };
    uniform(key).take(shape.iter().product()).map(|u| (offset + u * scale) as f32).collect()
}

/// Images `start..end`, `[end - start, 3, size, size]`: noise over a pattern of 32-pixel squares.
pub fn images(range: std::ops::Range<usize>, size: usize) -> Vec<f32> {
    let side = size.div_ceil(32);
    let mut values = Vec::with_capacity(range.len() * 3 * size * size);
    for image in range {
        let squares: Vec<f64> = uniform(&format!("squares{image}")).take(3 * side * side).collect();
        let mut noise = uniform(&format!("image{image}"));
        for channel in 0..3 {
            for y in 0..size {
                for x in 0..size {
                    let square = squares[(channel * side + y / 32) * side + x / 32];
                    values.push((square * 1.5 + noise.next().unwrap() * 0.5) as f32);
                }
            }
        }
    }
    values
}
