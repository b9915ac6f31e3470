//! How the tools that compute FID differ.

use inception_data::{FloatResampler, MersenneTwister, Scaling, Stretch};
use inception_metrics::{Chunks, Draw, Spread};

/// What a tool does with pictures, and how it draws and cuts.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct FidProtocol {
    /// The tool.
    pub name: &'static str,
    /// The model that it computes features with.
    pub model: &'static str,
    /// What it does to a picture.
    pub stretch: Stretch,
    /// Whose random numbers choose its subsets.
    pub generator: fn(u64) -> Generator,
    /// Whether the subsets of a kernel distance are drawn from the real pictures first.
    pub real_first: bool,
    /// How pictures are cut into the splits of an Inception Score.
    pub chunks: Chunks,
    /// Which standard deviation its Inception Score has.
    pub spread: Spread,
}

const fn stretch(resampler: FloatResampler, scaling: Scaling) -> Stretch {
    Stretch { resampler, side: 299, scaling }
}

/// pytorch-fid, which computes nothing but FID; the rest is torch-fidelity's.
const PYTORCH_FID: FidProtocol = FidProtocol {
    name: "pytorch-fid",
    model: "fid-inception_v3",
    stretch: stretch(FloatResampler::TorchBilinear, Scaling::Unit),
    generator: Generator::numpy,
    real_first: false,
    chunks: Chunks::Even,
    spread: Spread::Population,
};

/// The tools: pytorch-fid 0.3, clean-fid 0.1.35, torch-fidelity 0.4, torchmetrics 1.9.
pub static PROTOCOLS: &[FidProtocol] = &[
    PYTORCH_FID,
    FidProtocol {
        name: "clean-fid",
        stretch: stretch(FloatResampler::PilBicubic, Scaling::Byte),
        real_first: true,
        ..PYTORCH_FID
    },
    FidProtocol {
        name: "torch-fidelity",
        stretch: stretch(FloatResampler::TensorFlowBilinear, Scaling::Byte),
        ..PYTORCH_FID
    },
    FidProtocol {
        name: "torchmetrics",
        stretch: stretch(FloatResampler::TorchAntialiased, Scaling::Byte),
        generator: Generator::torch,
        real_first: true,
        chunks: Chunks::RoundedUp,
        spread: Spread::Sample,
        ..PYTORCH_FID
    },
];

/// A library's random numbers.
#[derive(Clone, Debug)]
pub struct Generator {
    twister: MersenneTwister,
    permutation: fn(&mut MersenneTwister, u32) -> Vec<usize>,
}

impl Generator {
    /// NumPy's `RandomState(seed)`; of the seed 32 bits count.
    pub fn numpy(seed: u64) -> Self {
        Self { twister: MersenneTwister::numpy(seed as u32), permutation: MersenneTwister::permutation }
    }

    /// PyTorch's, on a CPU, after `torch.manual_seed(seed)`; of the seed 32 bits count.
    pub fn torch(seed: u64) -> Self {
        let permutation = |twister: &mut MersenneTwister, count: u32| {
            let mut order: Vec<usize> = (0..count as usize).collect();
            for at in 0..count.saturating_sub(1) {
                order.swap(at as usize, (at + twister.bits() % (count - at)) as usize);
            }
            order
        };
        Self { twister: MersenneTwister::numpy(seed as u32), permutation }
    }
}

impl Draw for Generator {
    fn permutation(&mut self, count: usize) -> Vec<usize> {
        // Features of 2^32 pictures fit into no memory.
        (self.permutation)(&mut self.twister, u32::try_from(count).unwrap_or(u32::MAX))
    }

    fn below(&mut self, count: usize) -> usize {
        self.twister.integer(u32::try_from(count - 1).unwrap_or(u32::MAX)) as usize
    }
}
