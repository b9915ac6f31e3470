//! The names of kernels: the one place where they are printed and parsed.

use std::fmt;
use std::str::FromStr;

use crate::Precision;
use crate::kernels::{TRANSFORMS, Transform};

/// The kernel of a step. Its text, as `explain` prints it and `--tune` keeps it, is
/// [`Display`](fmt::Display)'s, and [`FromStr`] reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KernelName {
    /// Reorders the image from channel planes (NCHW) to pixels (NHWC).
    ToNhwc,
    /// Reorders the result from pixels to channel planes.
    ToNchw,
    /// A convolution of any window, term by term.
    Direct(Fused),
    /// A convolution of 1x1, a matrix product.
    Pointwise(Fused),
    /// A matrix product by seven products of half the size.
    Strassen(Fused),
    /// A convolution by Winograd's algorithm.
    Winograd(Transform),
    /// A depthwise convolution.
    Depthwise,
    /// A pool.
    Pool,
    /// A pool of a depthwise convolution that is not stored.
    DepthwisePool,
    /// A sum of two tensors.
    Add,
    /// A ReLU.
    Relu,
    /// A batch norm.
    Affine,
    /// A copy into a concatenation.
    Copy,
    /// From bytes to floats or back, between layers of different types.
    Convert,
}

/// What a step of direct or pointwise convolutions fuses, and the type that it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fused {
    /// What makes the input.
    pub prologue: PrologueName,
    /// Convolutions that read this input, computed together: horizontally fused outputs.
    pub outputs: usize,
    /// The type of the input.
    pub dtype: Precision,
}

/// What a convolution does to its input on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PrologueName {
    /// Nothing.
    None,
    /// Clamps it at zero.
    Relu,
    /// Computes it, by a depthwise convolution.
    Depthwise,
}

/// How a convolution multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// As the network is written.
    Direct,
    /// Winograd's.
    Winograd,
    /// Strassen's.
    Strassen,
}

impl KernelName {
    /// The kernels without parameters.
    const PLAIN: [(KernelName, &str); 10] = [
        (KernelName::ToNhwc, "reorder to NHWC"),
        (KernelName::ToNchw, "reorder to NCHW"),
        (KernelName::Depthwise, "depthwise"),
        (KernelName::Pool, "pool"),
        (KernelName::DepthwisePool, "pool of depthwise"),
        (KernelName::Add, "add"),
        (KernelName::Relu, "relu"),
        (KernelName::Affine, "affine"),
        (KernelName::Copy, "copy"),
        (KernelName::Convert, "convert"),
    ];

    /// The kernels that fuse.
    const FUSING: [fn(Fused) -> KernelName; 3] =
        [KernelName::Direct, KernelName::Pointwise, KernelName::Strassen];

    /// The algorithm; all that is no convolution is computed as it is written.
    pub fn algorithm(self) -> Algorithm {
        match self {
            KernelName::Winograd(_) => Algorithm::Winograd,
            KernelName::Strassen(_) => Algorithm::Strassen,
            _ => Algorithm::Direct,
        }
    }

    fn text(self) -> String {
        match self {
            KernelName::Direct(fused) => fused.text("direct", ""),
            KernelName::Pointwise(fused) => fused.text("pointwise", ""),
            KernelName::Strassen(fused) => fused.text("pointwise", ", strassen"),
            KernelName::Winograd(transform) => {
                let spec = TRANSFORMS.iter().find(|spec| spec.transform == transform);
                spec.map_or("winograd", |spec| spec.name).to_owned()
            }
            plain => {
                let row = KernelName::PLAIN.iter().find(|(kernel, _)| *kernel == plain);
                row.map_or("", |(_, name)| name).to_owned()
            }
        }
    }
}

impl PrologueName {
    const ALL: [PrologueName; 3] = [PrologueName::None, PrologueName::Relu, PrologueName::Depthwise];
}

impl Fused {
    fn text(self, kind: &str, algorithm: &str) -> String {
        let prologue = match self.prologue {
            PrologueName::None => "",
            PrologueName::Relu => " of ReLU",
            PrologueName::Depthwise => " of depthwise",
        };
        let outputs = if self.outputs > 1 { format!(", {} outputs", self.outputs) } else { String::new() };
        let dtype = if self.dtype == Precision::F32 { String::new() } else { format!(", {}", self.dtype) };
        format!("{kind}{prologue}{outputs}{algorithm}{dtype}")
    }
}

impl fmt::Display for KernelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text())
    }
}

/// A text that names no kernel of this version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no kernel of this version")]
pub struct UnknownKernel(pub String);

impl FromStr for KernelName {
    type Err = UnknownKernel;

    fn from_str(text: &str) -> Result<KernelName, UnknownKernel> {
        let winograd = TRANSFORMS.iter().map(|spec| KernelName::Winograd(spec.transform));
        // The number is the only part of a name that is not in a list.
        let number = text.split(", ").find_map(|word| word.strip_suffix(" outputs")?.parse().ok());
        let outputs = number.unwrap_or(1);
        let fusing = KernelName::FUSING.into_iter().flat_map(|name| {
            PrologueName::ALL.into_iter().flat_map(move |prologue| {
                Precision::ALL.into_iter().map(move |dtype| name(Fused { prologue, outputs, dtype }))
            })
        });
        let mut known = KernelName::PLAIN.into_iter().map(|(kernel, _)| kernel).chain(winograd).chain(fusing);
        known.find(|kernel| kernel.text() == text).ok_or_else(|| UnknownKernel(text.to_owned()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test fails by panicking.
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_printed() {
        for text in [
            "reorder to NHWC",
            "direct",
            "direct of ReLU, bf16",
            "pointwise",
            "pointwise, 3 outputs",
            "pointwise of ReLU, 2 outputs, bf16",
            "pointwise of depthwise",
            "pointwise of depthwise, strassen",
            "pool of depthwise",
            "winograd F(4x4,3x3)",
            "winograd F(3x3,3x3) by 2",
            "winograd F(4,7) along columns",
        ] {
            assert_eq!(text.parse::<KernelName>().unwrap().to_string(), text);
        }
        for spec in TRANSFORMS {
            assert_eq!(spec.name.parse(), Ok(KernelName::Winograd(spec.transform)));
        }
        for text in ["", "winograd of old", "pointwise, 1 outputs", "direct, strassen", "pool, bf16"] {
            assert_eq!(text.parse::<KernelName>(), Err(UnknownKernel(text.to_owned())));
        }
    }
}
