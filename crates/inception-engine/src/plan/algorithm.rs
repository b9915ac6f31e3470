//! The choice of algorithms: by which one each convolution is computed.

use std::collections::BTreeMap;

use super::cost;
use crate::dtype::DType;
use crate::graph::passes;
use crate::graph::{Conv, Graph, Window};
use crate::kernel_name::{Algorithm, KernelName};
use crate::kernels::{CostModel, Kernels, TRANSFORMS, TransformSpec};
use crate::steps::winograd_fits;

/// Kernels by the names of nodes.
pub type Picks = BTreeMap<String, KernelName>;

/// By what a convolution gets its algorithm, where several can compute it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// The cheapest by the cost model.
    Cheapest,
    /// The kernel that is picked, and the cheapest where none is.
    Picked(Picks),
    /// The direct one, which does not reassociate.
    Direct,
    /// Winograd's, by the cheapest transform (0) or by one of the others.
    Winograd(usize),
    /// Strassen's.
    Strassen,
}

impl Rule {
    fn picked(&self, node: &str) -> Option<KernelName> {
        if let Rule::Picked(picks) = self { picks.get(node).copied() } else { None }
    }

    /// The Winograd transform by which `conv`, with an `output` of so many rows and columns, is computed for
    /// `node`, and its cost; `None` for another algorithm. It reads and writes tensors of `dtype`, and
    /// `direct` is the cost of the direct algorithm.
    pub(super) fn transform(
        &self,
        kernels: &Kernels,
        node: &str,
        conv: &Conv,
        output: [usize; 2],
        (dtype, direct): (DType, f64),
    ) -> Option<(TransformSpec, f64)> {
        let transforms = transforms(kernels, conv, output, dtype);
        let picked = self.picked(node);
        let found = transforms.iter().find(|(spec, _)| picked == Some(KernelName::Winograd(spec.transform)));
        match (self, picked.map(KernelName::algorithm)) {
            (Rule::Direct | Rule::Strassen, _) => None,
            (Rule::Winograd(n), _) => transforms.get(*n).copied(),
            (_, Some(Algorithm::Direct | Algorithm::Strassen)) => None,
            (_, Some(Algorithm::Winograd)) if found.is_some() => found.copied(),
            _ => transforms.first().filter(|(_, cost)| *cost < direct).copied(),
        }
    }

    /// Whether `node`, a convolution of an input stored as `dtype` with an output of so many `pixels`, is
    /// multiplied by Strassen's algorithm.
    pub(super) fn strassen(
        &self,
        costs: &CostModel,
        node: &str,
        conv: &Conv,
        pixels: usize,
        dtype: DType,
    ) -> bool {
        let asked = match (self, self.picked(node).map(KernelName::algorithm)) {
            (Rule::Direct | Rule::Winograd(_), _) => false,
            (Rule::Strassen, _) => true,
            (_, Some(algorithm)) => algorithm == Algorithm::Strassen,
            _ => conv.in_channels().min(conv.out_channels) >= costs.strassen_channels,
        };
        asked && strassen_fits(costs, conv, pixels, dtype)
    }
}

/// Stores the image in blocks of 2x2 pixels where its convolution of stride 2 then becomes cheaper, by
/// Winograd's algorithm: never as bytes, for which there is none.
pub(crate) fn space_to_depth(graph: &mut Graph, rule: &Rule, kernels: &Kernels, dtype: DType) {
    if dtype == DType::U8 {
        return;
    }
    passes::space_to_depth(graph, |name, conv, over_blocks, output| {
        let direct = cost::direct(kernels, conv, output, dtype);
        rule.transform(kernels, name, over_blocks, output, (dtype, direct)).is_some()
    });
}

/// The Winograd transforms that can compute a convolution with an `output` of so many rows and columns, with
/// their costs, cheapest first. Bytes have their own, which are exact.
fn transforms(kernels: &Kernels, conv: &Conv, output: [usize; 2], dtype: DType) -> Vec<(TransformSpec, f64)> {
    let Window { kernel, stride, dilation, .. } = conv.window;
    let plain = dilation == [1; 2] && conv.groups == 1 && !conv.input_relu;
    let specs = TRANSFORMS.iter().filter(|spec| {
        plain
            && [spec.kernel, spec.stride] == [kernel, stride]
            && winograd_fits(kernels, spec, conv.in_channels())
    });
    let channels = conv.in_channels();
    let of_bytes = |spec: &TransformSpec| {
        let kernels = kernels.integer_winograd().iter().find(|kernels| kernels.transform == spec.transform);
        kernels.is_some_and(|kernels| channels.is_multiple_of(8) && channels <= kernels.most_channels)
    };
    let bytes = dtype == DType::U8;
    let cost = if bytes { cost::integer_winograd } else { cost::winograd };
    let specs = specs.filter(|spec| if bytes { of_bytes(spec) } else { spec.floats });
    let mut transforms: Vec<_> =
        specs.map(|spec| (*spec, cost(&kernels.costs, conv, output, spec))).collect();
    transforms.sort_by(|a, b| a.1.total_cmp(&b.1));
    transforms
}

/// Whether Strassen's algorithm can multiply: halves of pixels and channels exist, and the input is `f32`.
/// (Sums of activations would have to be rounded to be multiplied as another type.)
fn strassen_fits(costs: &CostModel, conv: &Conv, pixels: usize, dtype: DType) -> bool {
    let even = conv.in_channels().is_multiple_of(2) && conv.out_channels.is_multiple_of(2);
    let pointwise = conv.window.is_pointwise() && conv.groups == 1;
    dtype == DType::F32 && pointwise && even && pixels >= costs.strassen_pixels
}
