//! A checkpoint: a list of tensors whose values stay in the file.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use half::{bf16, f16};

use inception_graph::{Graph, NodeId, Parameter};

use crate::entry::{Dtype, Entry};
use crate::error::Error;
use crate::format::{self, Contents, Format, StateDict};
use crate::graph::TensorScales;
use crate::input::{Beside, Fault, Input, damaged, unsupported};
use crate::metadata::Metadata;
use crate::strides::row_major;
use crate::surroundings::{Activation, Surroundings};

/// An opened checkpoint: its tensors are known, their values still in the file.
#[derive(Debug)]
#[non_exhaustive]
pub struct Checkpoint {
    pub(crate) path: PathBuf,
    pub(crate) input: Input,
    /// The format, told by content.
    pub format: Format,
    /// The file's metadata.
    pub metadata: Metadata,
    /// The tensors, in the file's order: of the dictionary with the most weights, where there are several.
    pub entries: Vec<Entry>,
    /// Where `entries` are in a file of nested dictionaries: their keys, joined by dots.
    pub state_dict: String,
    /// The file's further dictionaries of tensors.
    pub(crate) others: Vec<StateDict>,
    /// The operations of the file that are not the network's: what they do before and after it.
    pub surroundings: Surroundings,
    /// The operations that use the tensors, for formats that have them.
    pub(crate) graph: Option<Graph<Parameter>>,
    /// Scale and zero point of the tensors of the graph that the file quantises.
    pub(crate) quants: BTreeMap<NodeId, TensorScales>,
}

impl Checkpoint {
    /// Recognises the format of a file and lists its tensors.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::UnknownFormat`], [`Error::Damaged`] and [`Error::Unsupported`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref().to_path_buf();
        let io = |source| Error::Io { path: path.clone(), source };
        // Opening a pipe would wait, and a device may have no end.
        let kind = std::fs::metadata(&path).map_err(io)?;
        if !kind.is_file() {
            let found = if kind.is_dir() { "a folder" } else { "a pipe or a device" };
            return Err(Error::UnknownFormat { path, found: found.into() });
        }
        let input = File::open(&path).and_then(Input::file).map_err(io)?;
        let folder = path.clone();
        Self::of_input(path, input, &|name| Input::beside(&folder, name))
    }

    /// As [`open`](Self::open), of a file that is already in memory; `name` is what messages call it.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn from_bytes(name: impl Into<PathBuf>, bytes: Vec<u8>) -> Result<Self, Error> {
        Self::of_input(name.into(), Input::memory(bytes), &|_| Ok(None))
    }

    /// As [`from_bytes`](Self::from_bytes), with the files beside it, by their names: ONNX's external data,
    /// the files of a sharded checkpoint, the values of a Paddle program (as `name`, but for their
    /// extension).
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn from_files(
        name: impl Into<PathBuf>,
        bytes: Vec<u8>,
        files: &[(&str, &[u8])],
    ) -> Result<Self, Error> {
        let beside = |wanted: &Path| {
            let file = files.iter().find(|(name, _)| Path::new(name) == wanted);
            Ok(file.map(|(_, bytes)| Input::memory(bytes.to_vec())))
        };
        Self::of_input(name.into(), Input::memory(bytes), &beside)
    }

    fn of_input(path: PathBuf, input: Input, beside: Beside) -> Result<Self, Error> {
        let format = match format::detect(&input) {
            Ok(Ok(format)) => format,
            Ok(Err(found)) => return Err(Error::UnknownFormat { path, found }),
            Err(source) => return Err(Error::Io { path, source }),
        };
        match format::open(format, &path, input, beside) {
            Ok((input, Contents { entries, state_dict, others, metadata, graph, quants, surroundings })) => {
                Ok(Self {
                    path,
                    input,
                    format,
                    metadata,
                    entries,
                    state_dict,
                    others,
                    graph,
                    quants,
                    surroundings,
                })
            }
            Err(fault) => Err(fault_of(&path, format, fault)),
        }
    }

    /// The operations that use the tensors, of formats that have them; [`inception_graph::match_graphs`]
    /// compares them with a network's.
    pub fn graph(&self) -> Option<&Graph<Parameter>> {
        self.graph.as_ref()
    }

    /// What the logits stand for: as the metadata has it, otherwise as the file's own operations.
    pub fn activation(&self) -> Activation {
        let said = self.metadata.get(Metadata::OUTPUT);
        let said = said.and_then(|name| serde_json::from_value(name.into()).ok());
        said.unwrap_or(self.surroundings.activation)
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The values of a tensor as 32-bit floating point, row-major, read now.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], and [`Error::Unsupported`] for a dtype that is not floating point.
    pub fn values(&self, entry: &Entry) -> Result<Vec<f32>, Error> {
        self.read_values(entry).map_err(|fault| fault_of(&self.path, self.format, fault))
    }

    fn read_values(&self, entry: &Entry) -> Result<Vec<f32>, Fault> {
        let Some(size) = entry.dtype.size() else {
            return unsupported(format!("`{}` holds {}", entry.key, entry.dtype));
        };
        let count = entry.len(); // The reader has checked that the file can have so many.
        let values = match (&entry.source, &entry.dtype) {
            // Straight into place: no second copy of the largest tensors. Integers become floats as they
            // are read.
            (source, Dtype::F32 | Dtype::I8) => {
                let mut values = vec![0f32; count];
                source.fill(&self.input, bytemuck::cast_slice_mut(&mut values))?;
                if cfg!(target_endian = "big") {
                    values.iter_mut().for_each(|v| *v = f32::from_bits(v.to_bits().swap_bytes()));
                }
                values
            }
            (source, dtype) => {
                let mut bytes = vec![0; count * size as usize];
                source.fill(&self.input, &mut bytes)?;
                match dtype {
                    Dtype::F16 => decode(&bytes, |b| f16::from_le_bytes(b).to_f32()),
                    Dtype::Bf16 => decode(&bytes, |b| bf16::from_le_bytes(b).to_f32()),
                    Dtype::F64 => decode(&bytes, |b| f64::from_le_bytes(b) as f32),
                    Dtype::F32 | Dtype::I8 | Dtype::Other(_) => return damaged("no such numbers"),
                }
            }
        };
        Ok(match &entry.strides {
            Some(strides) => row_major(&values, &entry.shape, strides),
            None => values,
        })
    }
}

fn fault_of(path: &Path, format: Format, fault: Fault) -> Error {
    let path = path.to_owned();
    match fault {
        Fault::Io(source) => Error::Io { path, source },
        Fault::Damaged(reason) => Error::Damaged { path, format: format.name(), reason },
        Fault::Unsupported(reason) => Error::Unsupported { path, format: format.name(), reason },
    }
}

fn decode<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    let (chunks, _) = bytes.as_chunks::<N>();
    chunks.iter().map(|&chunk| value(chunk)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test fails by panicking.
mod tests {
    use super::*;

    /// NNCF gives each channel between a pointwise and a depthwise convolution a scale of its own.
    #[test]
    fn scales_of_tensors_and_of_their_channels_are_read() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/goldens/weights/graphs/quantised_channels.onnx"
        );
        let checkpoint = Checkpoint::open(path).unwrap();
        let graph = checkpoint.graph.as_ref().unwrap();
        let of = |node: &NodeId| (graph.nodes[*node].op.name(), &checkpoint.quants[node]);
        let found: Vec<(&str, &TensorScales)> = checkpoint.quants.keys().map(of).collect();
        let [(_, input), (_, channels), ("depthwise", relu), ("relu", of_relu), (_, mean)] = &found[..]
        else {
            panic!("{found:?}")
        };
        // Signed bytes: zero is in their middle.
        assert_eq!(*input, &(vec![0.014724329], 128));
        assert_eq!((channels.0.len(), channels.1), (20, 128));
        assert_eq!((channels.0[0], channels.0[19]), (0.0037951367, 0.008193825));
        assert_eq!((*relu, *of_relu), (&(vec![0.0049909414], 0), &(vec![0.0049909414], 0)));
        assert_eq!(*mean, &(vec![0.0043446617], 0));
    }
}
