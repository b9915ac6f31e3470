//! The file from which an extraction continues after it was killed.
//!
//! A line says what is extracted: a hash of its JSON, a space and the JSON. Then comes a record for each
//! finished batch, in order: lengths, a JSON of the pictures, the features as `f32`, and a hash of all of
//! these. A process that is killed leaves at most one record that is not whole, and that batch is computed
//! again.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use inception_nn::fnv1a;
use serde::{Deserialize, Serialize};

use super::batches::FeatureBatch;
use super::extractor::Preparation;
use crate::error::{Error, StateProblem};
use crate::eval::settings::Shard;
use crate::eval::tally::Skipped;
use crate::state::{append, check_same, cut, difference, json, line, open_locked};

/// Changes with the format.
const VERSION: u32 = 1;
/// The largest header that is read.
const MAX_HEADER: u64 = 1 << 16;
/// The largest JSON of a record: 256 pictures with long names.
const MAX_JSON: usize = 1 << 24;

/// Everything that features depend on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureSettings {
    /// The model's name.
    pub model: String,
    /// What identifies the weights.
    pub weights: String,
    /// Where and how the network runs.
    pub device: String,
    /// What is taken of the network.
    pub layer: String,
    /// What is done to a picture.
    #[serde(rename = "preprocessing", alias = "recipe")]
    pub recipe: Preparation,
    /// Hash of the pictures' names, in order.
    pub dataset: String,
    /// Pictures of the whole dataset.
    pub pictures: usize,
    /// Features of a picture.
    pub dimensions: usize,
    /// Pictures in a batch.
    pub batch: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    inception_features: u32,
    shard: Shard,
    settings: FeatureSettings,
}

/// What a record says beside the features.
#[derive(Serialize, Deserialize)]
struct Entry {
    batch: usize,
    pictures: Vec<usize>,
    skipped: Vec<(usize, Skipped)>,
}

/// An extraction's state on disk, locked against a second process.
#[derive(Debug)]
pub struct FeatureState {
    path: PathBuf,
    file: BufReader<File>,
    settings: FeatureSettings,
    /// Bytes that are whole records.
    len: u64,
    /// Whether all records have been read.
    replayed: bool,
    torn: bool,
}

impl FeatureState {
    /// Opens the state at `path` for this part of this extraction, or starts it.
    ///
    /// # Errors
    ///
    /// [`Error::State`] if it cannot be read or written, is used by another process, is no such file, or belongs
    /// to another extraction.
    pub fn open(path: &Path, settings: &FeatureSettings, shard: Shard) -> Result<Self, Error> {
        let fail = |problem| Error::State { path: path.to_owned(), problem };
        let io = |source| fail(StateProblem::Io { source });
        let file = open_locked(path).map_err(fail)?;
        let header = Header { inception_features: VERSION, shard, settings: settings.clone() };
        let wanted = line(&serde_json::to_string(&header).map_err(|source| io(source.into()))?);
        let mut file = BufReader::new(file);
        let mut first = Vec::new();
        file.by_ref().take(MAX_HEADER).read_until(b'\n', &mut first).map_err(io)?;
        let mut state = Self {
            path: path.to_owned(),
            file,
            settings: settings.clone(),
            len: first.len() as u64,
            replayed: false,
            torn: false,
        };
        match parse(&first) {
            Some(found) => {
                check_same(difference(&found.settings, settings), [found.shard, shard]).map_err(fail)?;
            }
            // Killed while it wrote the header; anything else is somebody's file and is not touched.
            None if wanted.starts_with(&first) => {
                (state.len, state.replayed) = (0, true);
                state.write(&wanted)?;
            }
            None => return Err(fail(StateProblem::Foreign)),
        }
        Ok(state)
    }

    /// Whether the end of the file was not whole, so that a batch is computed again; known after the last
    /// [`replay`](Self::replay).
    pub fn torn(&self) -> bool {
        self.torn
    }

    /// The next finished batch; `None` after the last, and the file then ends there.
    ///
    /// # Errors
    ///
    /// [`Error::State`] if the file cannot be read.
    pub fn replay(&mut self) -> Result<Option<FeatureBatch>, Error> {
        if self.replayed {
            return Ok(None);
        }
        match self.record() {
            Ok(Some((batch, bytes))) => {
                self.len += bytes;
                Ok(Some(batch))
            }
            // What a crash of the machine may leave after the last whole record is of no use, nor is what
            // follows.
            Ok(None) => {
                self.replayed = true;
                let torn = cut(self.file.get_ref(), self.len);
                self.torn = torn.map_err(|source| self.failed(StateProblem::Io { source }))?;
                Ok(None)
            }
            Err(source) => Err(self.failed(StateProblem::Io { source })),
        }
    }

    /// Keeps a finished batch.
    ///
    /// # Errors
    ///
    /// [`Error::State`] if the file cannot be written.
    pub fn append(&mut self, batch: &FeatureBatch) -> Result<(), Error> {
        let entry =
            Entry { batch: batch.number, pictures: batch.pictures.clone(), skipped: batch.skipped.clone() };
        let json = serde_json::to_vec(&entry)
            .map_err(|source| self.failed(StateProblem::Io { source: source.into() }))?;
        let mut record = (json.len() as u32).to_le_bytes().to_vec();
        record.extend(((batch.features.len() * size_of::<f32>()) as u32).to_le_bytes());
        record.extend(json);
        batch.features.iter().for_each(|value| record.extend(value.to_le_bytes()));
        record.extend(fnv1a(&record).to_le_bytes());
        self.write(&record)
    }

    fn failed(&self, problem: StateProblem) -> Error {
        Error::State { path: self.path.clone(), problem }
    }

    /// The record at the place where the file is, and its length; `None` if none that is whole is there.
    fn record(&mut self) -> io::Result<Option<(FeatureBatch, u64)>> {
        let mut record = Vec::new();
        self.file.by_ref().take(8).read_to_end(&mut record)?;
        let (Some(json), Some(values)) = (record.first_chunk::<4>(), record.last_chunk::<4>()) else {
            return Ok(None);
        };
        let [json, values] = [json, values].map(|bytes| u32::from_le_bytes(*bytes) as usize);
        let most = self.settings.batch * self.settings.dimensions * size_of::<f32>();
        if record.len() < 8 || json > MAX_JSON || values > most {
            return Ok(None);
        }
        self.file.by_ref().take((json + values) as u64).read_to_end(&mut record)?;
        let mut hash = Vec::new();
        self.file.by_ref().take(8).read_to_end(&mut hash)?;
        if record.len() < 8 + json + values || hash != fnv1a(&record).to_le_bytes() {
            return Ok(None);
        }
        let (json, values) = record[8..].split_at(json);
        let Ok(Entry { batch, pictures, skipped }) = serde_json::from_slice(json) else { return Ok(None) };
        let features: Vec<f32> =
            values.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        let in_dataset = pictures.iter().chain(skipped.iter().map(|(index, _)| index));
        let fits = features.len() == pictures.len() * self.settings.dimensions
            && in_dataset.clone().all(|&index| index / self.settings.batch.max(1) == batch)
            && in_dataset.count() <= self.settings.batch;
        let len = (record.len() + hash.len()) as u64;
        Ok(fits.then_some((FeatureBatch { number: batch, pictures, features, skipped }, len)))
    }

    /// Appends a whole record; what a failure leaves of it is cut off again.
    fn write(&mut self, record: &[u8]) -> Result<(), Error> {
        let appended = append(self.file.get_mut(), &mut self.len, record);
        appended.map_err(|problem| self.failed(problem))
    }
}

/// The header of a state, if it is one.
fn parse(line: &[u8]) -> Option<Header> {
    let header: Header = serde_json::from_str(json(line.strip_suffix(b"\n")?)?).ok()?;
    (header.inception_features == VERSION).then_some(header)
}
