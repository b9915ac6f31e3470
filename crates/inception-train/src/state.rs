//! What a run keeps on disk, from which it goes on: one safetensors file, replaced as a whole.

use std::path::Path;

use inception::weights::{Checkpoint, Metadata, NamedTensor, save_tensors};
use serde::{Deserialize, Serialize};

use crate::error::FolderProblem;
use crate::optimizer::Optimizer;
use crate::validation::{Best, Bits};

/// A tensor of what is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Its name.
    pub name: String,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Its values, row-major.
    pub values: Vec<f32>,
}

/// Where a run is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Progress {
    /// Epochs that are finished.
    pub epoch: u32,
    /// Batches of the next one that are done.
    pub batch: usize,
    /// The sum of the losses of their pictures.
    pub loss: Bits,
    /// Their pictures that were right.
    pub correct: u64,
    /// Their pictures.
    pub seen: u64,
    /// The mean loss of the epoch before.
    pub before: Option<Bits>,
    /// The best epoch.
    pub best: Option<Best>,
    /// Bytes of the file of metrics that belong to finished epochs.
    pub metrics: u64,
}

/// Changes with the format.
const VERSION: u32 = 1;
/// The key of the state in the file's metadata.
const KEY: &str = "inception-train";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    version: u32,
    settings: Vec<(String, String)>,
    steps: u64,
    progress: Progress,
}

/// A state that was read.
#[derive(Debug)]
pub(crate) struct Stored {
    pub settings: Vec<(String, String)>,
    pub progress: Progress,
    steps: u64,
    file: Checkpoint,
}

/// Writes the state of a run to `path`.
pub(crate) fn write(
    path: &Path,
    settings: &[(String, String)],
    progress: &Progress,
    values: &[Value],
    best: &[Value],
    optimizer: &Optimizer,
) -> Result<(), inception::weights::Error> {
    let header = Header {
        version: VERSION,
        settings: settings.to_vec(),
        steps: optimizer.steps(),
        progress: progress.clone(),
    };
    let json = serde_json::to_string(&header).expect("a map of texts and numbers");
    let mut tensors: Vec<(String, Vec<usize>, &[f32])> = Vec::new();
    for (part, values) in [("model", values), ("best", best)] {
        tensors.extend(
            values
                .iter()
                .map(|value| (format!("{part}.{}", value.name), value.shape.clone(), &value.values[..])),
        );
    }
    tensors.extend(
        optimizer.state().map(|(name, values)| (format!("optimizer.{name}"), vec![values.len()], values)),
    );
    let named: Vec<NamedTensor<'_>> =
        tensors.iter().map(|(name, shape, values)| NamedTensor { name, shape, values }).collect();
    save_tensors(&named, &Metadata::default().with(KEY, json), path)
}

/// Reads the state in `path`.
pub(crate) fn read(path: &Path) -> Result<Stored, FolderProblem> {
    let damaged = |reason: String| FolderProblem::Damaged { reason };
    let file = Checkpoint::open(path).map_err(|error| damaged(error.to_string()))?;
    let json = file.metadata.get(KEY).ok_or_else(|| damaged("it is no state of a run".to_owned()))?;
    let Header { version, settings, steps, progress } =
        serde_json::from_str(json).map_err(|error| damaged(error.to_string()))?;
    if version != VERSION {
        return Err(damaged(format!("it has version {version}, and {VERSION} is read")));
    }
    Ok(Stored { settings, progress, steps, file })
}

impl Stored {
    fn values(&self, key: &str) -> Option<(Vec<usize>, Vec<f32>)> {
        let entry = self.file.entries.iter().find(|entry| entry.key == key)?;
        Some((entry.shape.clone(), self.file.values(entry).ok()?))
    }

    /// The values of a part, those that `like` has.
    fn part(&self, part: &str, like: &[Value]) -> Option<Vec<Value>> {
        let value = |value: &Value| {
            let (shape, values) = self.values(&format!("{part}.{}", value.name))?;
            (shape == value.shape).then(|| Value { name: value.name.clone(), shape, values })
        };
        like.iter().map(value).collect()
    }

    /// The values of the model and of the best epoch, of the names and shapes of `like`; the optimiser's go
    /// into `optimizer`.
    pub fn restore(
        &self,
        like: &[Value],
        optimizer: &mut Optimizer,
    ) -> Result<(Vec<Value>, Vec<Value>), FolderProblem> {
        let kept = |name: &str| self.values(&format!("optimizer.{name}")).map(|(_, values)| values);
        let values = self.part("model", like);
        let best = match self.progress.best {
            Some(_) => self.part("best", like),
            None => Some(Vec::new()),
        };
        match (values, best, optimizer.restore(self.steps, kept)) {
            (Some(values), Some(best), Some(())) => Ok((values, best)),
            _ => Err(FolderProblem::Damaged { reason: "it lacks tensors of this run".to_owned() }),
        }
    }
}
