//! The file from which an evaluation continues after it was killed.
//!
//! A header line says what is evaluated, and one line for each finished batch what came out. A line is a hash
//! of its JSON, a space and the JSON; it is appended in one piece. A process that is killed leaves at most
//! one line that is not whole, and that batch is computed again.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, StateProblem};
use crate::eval::settings::{EvalSettings, Shard};
use crate::eval::tally::Record;
use crate::state::{append, check_same, cut, json, line, open_locked};

/// Changes with the format.
const VERSION: u32 = 3;

#[derive(Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Header {
    inception_eval: u32,
    shard: Shard,
    settings: EvalSettings,
}

/// An evaluation's state on disk, locked against a second process.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    file: File,
    records: Vec<Record>,
    /// Bytes that are whole lines.
    len: u64,
    torn: bool,
}

/// Whole lines from the start on: the header, the records, and how many bytes they take.
fn parse(bytes: &[u8]) -> Option<(Header, Vec<Record>, u64)> {
    let mut lines = bytes.split_inclusive(|&byte| byte == b'\n').map_while(|line| line.strip_suffix(b"\n"));
    let first = lines.next()?;
    let header: Header = serde_json::from_str(json(first)?).ok()?;
    if header.inception_eval != VERSION {
        return None;
    }
    let mut len = first.len() as u64 + 1;
    let mut records = Vec::new();
    for line in lines {
        // What a crash of the machine may leave after the last whole line is of no use, nor is what follows.
        let Some(record) = json(line).and_then(|json| serde_json::from_str::<Record>(json).ok()) else {
            break;
        };
        if !fits(&record, &header) {
            break;
        }
        records.push(record);
        len += line.len() as u64 + 1;
    }
    Some((header, records, len))
}

/// Whether a record can be one of what the header announces.
fn fits(record: &Record, header: &Header) -> bool {
    let Header { settings, shard, .. } = header;
    let start = record.batch.saturating_mul(settings.batch);
    let wanted = settings.pictures.saturating_sub(start).min(settings.batch);
    let class = |class: u32| (class as usize) < settings.classes;
    wanted > 0
        && record.batch % shard.count.max(1) == shard.index
        && record.outcomes.len() + record.skipped.len() == wanted
        && record.outcomes.iter().all(|o| class(o.label) && class(o.guess) && class(o.rank))
        && record.skipped.iter().all(|(index, _)| (start..start + wanted).contains(index))
        && record.wrong.len() == record.outcomes.iter().filter(|outcome| outcome.rank > 0).count()
        && record.wrong.iter().all(|wrong| {
            (start..start + wanted).contains(&wrong.index) && class(wrong.label) && class(wrong.guess)
        })
}

impl StateFile {
    /// Opens the state at `path` for this part of this evaluation, or starts it.
    ///
    /// # Errors
    ///
    /// [`Error::State`] if it cannot be read or written, is used by another process, is no such file, or
    /// belongs to another evaluation.
    pub fn open(path: &Path, settings: &EvalSettings, shard: Shard) -> Result<Self, Error> {
        let fail = |problem| Error::State { path: path.to_owned(), problem };
        let io = |source| fail(StateProblem::Io { source });
        let mut file = open_locked(path).map_err(fail)?;
        let header = Header { inception_eval: VERSION, shard, settings: settings.clone() };
        let text = serde_json::to_string(&header).map_err(|source| io(source.into()))?;
        let wanted = line(&text);
        let metadata = file.metadata().map_err(io)?;
        let mut bytes = Vec::new();
        if metadata.is_file() {
            file.read_to_end(&mut bytes).map_err(io)?;
        }
        let mut state = Self { path: path.to_owned(), file, records: Vec::new(), len: 0, torn: false };
        match parse(&bytes) {
            Some((found, records, len)) => {
                check_same(found.settings.difference(settings), [found.shard, shard]).map_err(fail)?;
                state.torn = len < bytes.len() as u64;
                (state.records, state.len) = (records, len);
                cut(&state.file, len).map_err(io)?;
            }
            // Killed while it wrote the header; anything else is somebody's file and is not touched.
            None if wanted.starts_with(&bytes) => state.write(&wanted)?,
            None => return Err(fail(StateProblem::Foreign)),
        }
        Ok(state)
    }

    /// Whether the end of the file was not whole, so that a batch is computed again.
    pub fn torn(&self) -> bool {
        self.torn
    }

    pub(crate) fn records(&self) -> &[Record] {
        &self.records
    }

    pub(crate) fn append(&mut self, record: &Record) -> Result<(), Error> {
        let text = serde_json::to_string(record).map_err(|source| Error::State {
            path: self.path.clone(),
            problem: StateProblem::Io { source: source.into() },
        })?;
        self.write(&line(&text))
    }

    /// Appends a whole line; what a failure leaves of it is cut off again.
    fn write(&mut self, line: &[u8]) -> Result<(), Error> {
        let appended = append(&mut self.file, &mut self.len, line);
        appended.map_err(|problem| Error::State { path: self.path.clone(), problem })
    }
}

/// Reads a state without locking or changing it; `None` if it is none.
pub(crate) fn read(bytes: &[u8]) -> Option<(EvalSettings, Shard, Vec<Record>)> {
    let (header, records, _) = parse(bytes)?;
    Some((header.settings, header.shard, records))
}
