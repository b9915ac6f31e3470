//! What the fuzz targets of checkpoints do with their inputs; `crates/inception-weights/tests/hostile.rs`
//! does the same with the corpus.

use inception_graph::match_graphs;
use inception_weights::{Checkpoint, Dtype, Error, Format};

/// The targets, and the format that each reads.
pub const TARGETS: &[(&str, Format)] = &[
    ("pdparams", Format::Pdparams),
    ("pth", Format::PyTorch),
    ("legacy_pth", Format::PyTorchLegacy),
    ("safetensors", Format::Safetensors),
    ("bpk", Format::Burnpack),
    ("onnx", Format::Onnx),
    ("paddle_pair", Format::PaddleInference),
    ("keras_h5", Format::KerasH5),
    ("onnx_data", Format::Onnx),
    ("sharded", Format::ShardedIndex),
    ("keras", Format::Keras),
    ("torchscript", Format::PyTorch),
    ("exported", Format::PyTorch),
    ("matching", Format::Onnx),
];

/// Names of the file beside another one: what the small files of `tests/goldens/weights` ask for.
const BESIDE: &[&str] = &["transformed.onnx.data", "model-00001-of-00002.safetensors", "input.pdiparams"];

/// The small network of `tests/goldens/weights/graphs`, with which the graphs of `matching` are compared.
const NETWORK: &[u8] = include_bytes!("../../tests/goldens/weights/graphs/torchscript.onnx");

/// Opens `bytes` and reads all their values. Whether they were taken for `format` at all: others teach
/// nothing.
///
/// A Paddle pair is one input: the length of the program in two bytes, little-endian, the program, the
/// values. A model with a file beside it is the same; `target` says which.
pub fn read(target: &str, format: Format, bytes: &[u8]) -> bool {
    let opened = if ["paddle_pair", "onnx_data", "sharded"].contains(&target) {
        let Some((length, rest)) = bytes.split_first_chunk() else { return false };
        let length = usize::from(u16::from_le_bytes(*length));
        let Some((first, second)) = rest.split_at_checked(length) else { return false };
        let files: Vec<_> = BESIDE.iter().map(|name| (*name, second)).collect();
        Checkpoint::from_files("input", first.to_vec(), &files)
    } else {
        Checkpoint::from_bytes("input", bytes.to_vec())
    };
    match opened {
        Ok(checkpoint) if target == "matching" => matched(&checkpoint).unwrap_or(false),
        Ok(checkpoint) => {
            for entry in checkpoint.entries.iter().filter(|e| !matches!(e.dtype, Dtype::Other(_))) {
                // An error is as good as values.
                let _ = checkpoint.values(entry);
            }
            checkpoint.format == format
        }
        Err(Error::Damaged { format: found, .. } | Error::Unsupported { format: found, .. }) => {
            found == format.name()
        }
        Err(_) => false,
    }
}

/// Whether a model's graph is that of [`NETWORK`], or that is the model's; `None` if it has none.
fn matched(checkpoint: &Checkpoint) -> Option<bool> {
    let network = Checkpoint::from_bytes("network", NETWORK.to_vec()).ok()?;
    let (ours, theirs) = (network.graph()?, checkpoint.graph()?);
    // As in loading, a bias that only one has is a difference.
    let matches = |a, b| match_graphs(a, b).is_ok_and(|matching| matching.biases.is_empty());
    let there = matches(ours, theirs);
    Some(matches(theirs, ours) || there)
}
