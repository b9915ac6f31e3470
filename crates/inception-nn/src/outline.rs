//! What a network computes, as a list of operations: for matching it with the graph of a file, and for writing one.

use std::collections::HashMap;

use crate::cost::{rounded_up, window_output};
use crate::{Error, Network, tensors};

/// An operation of a network at inference.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum OutlineOp {
    /// Normalised images, `[batch, 3, height, width]`.
    Input,
    /// A convolution without bias; `layer` is the path of its module, so that `layer.weight` is a tensor's name.
    Conv {
        layer: String,
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
        dilation: [usize; 2],
        groups: usize,
    },
    /// A batch norm with its running statistics.
    Norm { layer: String, epsilon: f64 },
    /// The larger of a value and zero.
    Relu,
    /// The maximum of a window; `ceil` lets the last window hang over the edge.
    MaxPool { kernel: [usize; 2], stride: [usize; 2], padding: [usize; 2], ceil: bool },
    /// The average of a window.
    AveragePool { kernel: [usize; 2], stride: [usize; 2], padding: [usize; 2], count_padding: bool },
    /// Inputs side by side over channels.
    Concat,
    /// The sum of two inputs.
    Add,
    /// The average of each map: `[batch, channels, 1, 1]`.
    GlobalPool,
    /// Every value times a constant.
    Scale(f64),
    /// A fully connected layer of `[batch, inputs]`.
    Linear { layer: String },
}

/// One operation and the indices of what it reads.
#[derive(Clone, Debug, PartialEq)]
pub struct OutlineNode {
    /// What is computed.
    pub op: OutlineOp,
    /// From which nodes, in order.
    pub inputs: Vec<usize>,
}

/// Collects nodes; each method of a layer returns the index of its output.
#[derive(Debug, Default)]
pub(crate) struct Outline(Vec<OutlineNode>);

impl Outline {
    pub fn add(&mut self, op: OutlineOp, inputs: &[usize]) -> usize {
        self.0.push(OutlineNode { op, inputs: inputs.to_vec() });
        self.0.len() - 1
    }
}

impl Network {
    /// The operations of [`forward`](Self::forward), each after what it reads, the last one the logits.
    pub fn outline(&self) -> Vec<OutlineNode> {
        let mut outline = Outline::default();
        let input = outline.add(OutlineOp::Input, &[]);
        let features = match self {
            Self::GoogLeNet(network) => network.outline(input, &mut outline),
            Self::Inception(network) => network.outline(input, &mut outline),
            Self::Xception(network) => network.outline(input, &mut outline),
        };
        self.head().outline("head", features, &mut outline);
        outline.0
    }

    /// The floats of the largest set of maps that must be there at once for an image of `[height, width]`, where operations
    /// are computed one after the other as [`outline`](Self::outline) lists them: a map is there until its last reader is
    /// done, and what changes values one by one may overwrite what it alone reads. What a device adds for itself, such as
    /// copies in another layout, is not in it.
    ///
    /// # Errors
    ///
    /// As [`check_input`](Self::check_input).
    pub fn peak_activations(&self, input: [usize; 2]) -> Result<u64, Error> {
        self.check_input(input)?;
        let shapes: HashMap<_, _> = tensors(self).into_iter().map(|info| (info.name, info.shape)).collect();
        let channels =
            |layer: &String, axis: usize| shapes.get(&format!("{layer}.weight")).map(|shape| shape[axis]);
        let outline = self.outline();
        let mut readers = vec![0; outline.len()];
        outline.iter().flat_map(|node| &node.inputs).for_each(|&i| readers[i] += 1);
        // `[channels, height, width]` of each map.
        let mut maps: Vec<[usize; 3]> = Vec::with_capacity(outline.len());
        let floats = |[channels, height, width]: [usize; 3]| (channels * height * width) as u64;
        let (mut live, mut peak) = (0, 0);
        for node in &outline {
            let first = node.inputs.first().map_or([3, input[0], input[1]], |&i| maps[i]);
            let [depth, size @ ..] = first;
            let window = |channels: usize, [height, width]: [usize; 2]| [channels, height, width];
            let map = match &node.op {
                OutlineOp::Conv { layer, kernel, stride, padding, dilation, .. } => {
                    let output = window_output(size, *kernel, *stride, *padding, *dilation);
                    channels(layer, 0).zip(output).map(|(channels, output)| window(channels, output))
                }
                OutlineOp::MaxPool { kernel, stride, padding, ceil } => {
                    window_output(size, *kernel, *stride, *padding, [1, 1]).map(|output| {
                        window(depth, if *ceil { rounded_up(size, output, *kernel, *stride) } else { output })
                    })
                }
                OutlineOp::AveragePool { kernel, stride, padding, .. } => {
                    window_output(size, *kernel, *stride, *padding, [1, 1])
                        .map(|output| window(depth, output))
                }
                OutlineOp::Concat => Some(window(node.inputs.iter().map(|&i| maps[i][0]).sum(), size)),
                OutlineOp::GlobalPool => Some([depth, 1, 1]),
                OutlineOp::Linear { layer } => channels(layer, 1).map(|classes| [classes, 1, 1]),
                OutlineOp::Input
                | OutlineOp::Norm { .. }
                | OutlineOp::Relu
                | OutlineOp::Scale(_)
                | OutlineOp::Add => Some(first),
            };
            let map = map.expect("`check_input` has found that every window fits, and layers have weights");
            let in_place = matches!(
                node.op,
                OutlineOp::Norm { .. } | OutlineOp::Relu | OutlineOp::Scale(_) | OutlineOp::Add
            ) && node.inputs.iter().any(|&i| readers[i] == 1);
            live += if in_place { 0 } else { floats(map) };
            peak = peak.max(live);
            maps.push(map);
            let mut overwritten = in_place;
            for &i in &node.inputs {
                readers[i] -= 1;
                // The one that was overwritten goes on as the result.
                if readers[i] == 0 && !std::mem::take(&mut overwritten) {
                    live -= floats(maps[i]);
                }
            }
        }
        Ok(peak)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::{MODELS, model};

    /// Counted by hand: what goes into one layer of the stem, and what comes out.
    #[test]
    fn peaks_by_hand() -> Result<(), Error> {
        let cases = [
            // 64 maps of 112x112 and what the first pooling makes of them.
            ("GoogLeNet", 64 * (112 * 112 + 55 * 55)),
            // 32 and 64 maps of 147x147 around the stem's third convolution.
            ("InceptionV3", 96 * 147 * 147),
        ];
        for (name, wanted) in cases {
            let network = model(name)?.config().init(&Device::flex())?;
            let size = model(name)?.input_size;
            assert_eq!(network.peak_activations([size; 2])?, wanted, "{name}");
        }
        Ok(())
    }

    /// No network needs less than its first convolution, and twice the side is about four times the maps.
    #[test]
    fn peaks_grow_with_the_image() -> Result<(), Error> {
        for spec in MODELS {
            let network = spec.config().with_num_classes(2).init(&Device::flex())?;
            let peak = |side: usize| network.peak_activations([side; 2]);
            let ratio = peak(2 * spec.input_size)? as f64 / peak(spec.input_size)? as f64;
            assert!((3.8..4.2).contains(&ratio), "{}: {ratio}", spec.name);
            assert!(peak(0).is_err(), "{}", spec.name);
        }
        Ok(())
    }
}
