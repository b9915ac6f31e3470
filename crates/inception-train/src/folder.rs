//! The folder of a run: its state, its metrics, and the trained files.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, FolderProblem};
use crate::metrics::EpochMetrics;
use crate::state::{self, Stored};

/// The folder of a run, locked against a second process.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    metrics: File,
    settings: Vec<(String, String)>,
    stored: Option<Stored>,
}

impl RunFolder {
    /// Opens the folder at `path`, or makes it, for a run with these settings: names and values of all that
    /// its result depends on. A run that is there already goes on if `resume` says so.
    ///
    /// # Errors
    ///
    /// [`Error::Folder`] if it cannot be read or written, another process has it, or the run in it was not
    /// asked to go on or has other settings.
    pub fn open(path: &Path, settings: Vec<(String, String)>, resume: bool) -> Result<Self, Error> {
        let fail = |problem| Error::Folder { path: path.to_owned(), problem };
        let io = |source| fail(FolderProblem::Io { source });
        fs::create_dir_all(path).map_err(io)?;
        let metrics = path.join(METRICS);
        let metrics = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(metrics);
        let metrics = metrics.map_err(io)?;
        match metrics.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(fail(FolderProblem::InUse)),
            // A file system without locks is used without.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        let state = path.join(STATE);
        let stored = match (state.exists(), resume) {
            (false, _) => None,
            (true, false) => return Err(fail(FolderProblem::Exists)),
            (true, true) => Some(state::read(&state).map_err(fail)?),
        };
        if let Some(stored) = &stored {
            let other = stored.settings.iter().zip(&settings).find(|(theirs, ours)| theirs != ours);
            if let Some(((what, theirs), (_, ours))) = other {
                let (what, theirs, ours) = (what.clone(), theirs.clone(), ours.clone());
                return Err(fail(FolderProblem::Other { what, theirs, ours }));
            }
            if stored.settings.len() != settings.len() {
                let reason = "it has other settings than this version".to_owned();
                return Err(fail(FolderProblem::Damaged { reason }));
            }
        }
        remove_unfinished(path).map_err(io)?;
        let mut folder = Self { path: path.to_owned(), metrics, settings, stored };
        let kept = folder.stored.as_ref().map_or(0, |stored| stored.progress.metrics);
        folder.cut_metrics(kept)?;
        Ok(folder)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it has the state of a run that goes on.
    pub fn resumes(&self) -> bool {
        self.stored.is_some()
    }

    /// The figures of the epochs so far.
    ///
    /// # Errors
    ///
    /// [`Error::Folder`] if they cannot be read.
    pub fn metrics(&self) -> Result<Vec<EpochMetrics>, Error> {
        let io = |source| self.failed(FolderProblem::Io { source });
        let text = fs::read_to_string(self.path.join(METRICS)).map_err(io)?;
        let epochs = text.lines().map(serde_json::from_str).collect::<Result<_, _>>();
        epochs.map_err(|error| io(error.into()))
    }

    pub(crate) fn take_stored(&mut self) -> Option<Stored> {
        self.stored.take()
    }

    pub(crate) fn settings(&self) -> &[(String, String)] {
        &self.settings
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path.join(STATE)
    }

    pub(crate) fn failed(&self, problem: FolderProblem) -> Error {
        Error::Folder { path: self.path.clone(), problem }
    }

    /// Cuts off the metrics after the first `len` bytes.
    fn cut_metrics(&mut self, len: u64) -> Result<(), Error> {
        let cut = self.metrics.set_len(len).and_then(|()| self.metrics.seek(SeekFrom::Start(len)));
        cut.map(drop).map_err(|source| self.failed(FolderProblem::Io { source }))
    }

    /// Appends a line of metrics, and gives the length of the file then.
    pub(crate) fn append_metrics(&mut self, json: &str) -> Result<u64, Error> {
        let written = self.metrics.write_all(format!("{json}\n").as_bytes());
        let length = written.and_then(|()| self.metrics.stream_position());
        length.map_err(|source| self.failed(FolderProblem::Io { source }))
    }
}

/// The file of the state.
const STATE: &str = "state.safetensors";
const METRICS: &str = "metrics.jsonl";

/// Removes what a process that was killed left of a file that it was writing.
fn remove_unfinished(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b".tmp") && entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
