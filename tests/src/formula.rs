//! Weights and images from a written integer formula of (key, index), the twin of the one in `goldens/generate.py`.

use burn::tensor::TensorData;
use inception_nn::{TensorInfo, TensorRole, fnv1a};

/// Values in (-1, 1) for a key: 24 bits of splitmix64, exact.
pub fn uniform(key: &str) -> impl Iterator<Item = f64> + use<> {
    let seed = fnv1a(key.as_bytes());
    (1u64..).map(move |index| {
        let mut z = seed.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (2.0 * (z >> 40) as f64 + 1.0) / f64::from(1 << 24) - 1.0
    })
}

/// The values of the tensor that PaddleClas calls `key`.
pub fn tensor(key: &str, info: &TensorInfo) -> TensorData {
    let shape = &info.shape;
    let fan_in = |dims: &[usize]| dims.iter().product::<usize>() as f64;
    let (offset, scale) = match info.role {
        TensorRole::ConvWeight => {
            let variance = if shape[1] == 1 { 3.0 } else { 6.0 };
            (0.0, (variance / fan_in(&shape[1..])).sqrt())
        }
        TensorRole::LinearWeight => (0.0, (3.0 / fan_in(&shape[..1])).sqrt()),
        TensorRole::RunningVariance => (1.0, 0.5),
        TensorRole::Bias | TensorRole::NormShift | TensorRole::RunningMean => (0.0, 0.15),
        TensorRole::NormScale => (0.9, 0.2),
    };
    let count = shape.iter().product();
    let values: Vec<f32> = uniform(key).take(count).map(|u| (offset + u * scale) as f32).collect();
    TensorData::new(values, shape.clone())
}

/// Images `start..end` of the formula, `[end - start, 3, size, size]`: noise over a pattern of 32-pixel squares.
pub fn images(range: std::ops::Range<usize>, size: usize) -> TensorData {
    let count = range.len();
    let side = size.div_ceil(32);
    let mut values = Vec::with_capacity(count * 3 * size * size);
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
    TensorData::new(values, [count, 3, size, size])
}
