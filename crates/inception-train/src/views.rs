//! What a frozen part makes of pictures, kept on disk: maps or features of each picture, in one or several of its
//! forms.
//!
//! A file has a slot for each form of each picture, found by its number: a hash, and the values as `f32`. A slot
//! that nobody has written, or whose writer was killed, has another hash than its values have, and is filled when
//! it is wanted. Two processes that fill one file write the same.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use inception::data::Preprocessing;
use inception::nn::fnv1a;
use serde::Serialize;

use crate::error::Error;
use crate::recipe::Augment;

/// Bytes of a hash.
const HASH: usize = size_of::<u64>();

/// What the values depend on beside the network.
#[derive(Debug, Serialize)]
pub(crate) struct ViewSettings<'a> {
    pub model: &'a str,
    pub weights: &'a str,
    pub device: &'a str,
    /// What of the network is kept.
    pub layer: &'a str,
    pub preprocessing: Preprocessing,
    pub augment: Augment,
    /// What the augmentation draws from.
    pub seed: u64,
    pub dataset: String,
    pub pictures: usize,
}

/// The file of one frozen part and dataset.
#[derive(Debug)]
pub(crate) struct ViewStore {
    path: PathBuf,
    file: Mutex<File>,
    /// Values of a slot.
    len: usize,
    /// Slots of a view: the pictures of the dataset.
    pictures: usize,
    /// What the hashes begin with.
    seed: u64,
}

impl ViewStore {
    /// The file in `folder` for slots of `len` values.
    pub fn of(folder: &Path, settings: &ViewSettings<'_>, len: usize) -> Result<Self, Error> {
        let json = serde_json::to_string(&(settings, len)).expect("texts and numbers");
        Self::open(folder, settings.model, &json, (len, settings.pictures))
    }

    /// The file in `folder` for values that depend on `settings`, under a name that begins with `name`, of slots of
    /// `len` values, `pictures` of them for each view.
    fn open(
        folder: &Path,
        name: &str,
        settings: &str,
        (len, pictures): (usize, usize),
    ) -> Result<Self, Error> {
        let twice = [settings.as_bytes(), b" again"].concat();
        let (seed, other) = (fnv1a(settings.as_bytes()), fnv1a(&twice));
        let path = folder.join(format!("{name}-{seed:016x}{other:016x}.views"));
        let file = fs::create_dir_all(folder).and_then(|()| {
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)
        });
        match file {
            Ok(file) => Ok(Self { file: Mutex::new(file), path, len, pictures, seed }),
            Err(source) => Err(failed(&path, source)),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn slot(&self, view: u32, item: usize) -> usize {
        view as usize * self.pictures + item
    }

    /// The values of a picture in a view, if they are there.
    pub fn read(&self, view: u32, item: usize) -> Result<Option<Vec<f32>>, Error> {
        let slot = self.slot(view, item);
        let mut bytes = Vec::new();
        let size = self.slot_bytes();
        {
            let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            let read = file
                .seek(SeekFrom::Start(self.bytes(slot)))
                .and_then(|_| Read::by_ref(&mut *file).take(size as u64).read_to_end(&mut bytes));
            read.map_err(|source| failed(&self.path, source))?;
        }
        let Some((hash, values)) = bytes.split_first_chunk::<HASH>().filter(|_| bytes.len() == size) else {
            return Ok(None);
        };
        let values: Vec<f32> = values.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        Ok((u64::from_le_bytes(*hash) == self.hash(&values)).then_some(values))
    }

    /// Keeps the values of a picture in a view.
    ///
    /// # Panics
    ///
    /// For another number of values than a slot has.
    pub fn write(&self, view: u32, item: usize, values: &[f32]) -> Result<(), Error> {
        let slot = self.slot(view, item);
        assert_eq!(values.len(), self.len, "the values of a slot");
        let mut bytes = self.hash(values).to_le_bytes().to_vec();
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let written = file.seek(SeekFrom::Start(self.bytes(slot))).and_then(|_| file.write_all(&bytes));
        written.map_err(|source| failed(&self.path, source))
    }

    /// Bytes on disk for so many slots.
    pub fn bytes(&self, slots: usize) -> u64 {
        slots as u64 * self.slot_bytes() as u64
    }

    fn slot_bytes(&self) -> usize {
        HASH + self.len * size_of::<f32>()
    }

    /// FNV-1a, of a value at a time; it is never that of a slot of zeros that nobody has written, whose hash is 0.
    fn hash(&self, values: &[f32]) -> u64 {
        let hash = values.iter().fold(self.seed, |hash, value| {
            (hash ^ u64::from(value.to_bits())).wrapping_mul(0x0100_0000_01b3)
        });
        hash.max(1)
    }
}

fn failed(path: &Path, source: io::Error) -> Error {
    let problem = inception::StateProblem::Io { source };
    inception::Error::State { path: path.to_owned(), problem }.into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test fails by panicking.
mod tests {
    use super::*;

    #[test]
    fn slots_are_kept_and_damage_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let open = |settings: &str| ViewStore::open(folder.path(), "net", settings, (3, 4)).unwrap();
        let store = open("one");
        assert_eq!(store.read(0, 0).unwrap(), None);
        store.write(1, 0, &[1.0, -2.0, f32::MIN_POSITIVE]).unwrap();
        store.write(0, 1, &[0.0; 3]).unwrap();
        // The space between them is zeros, which are nobody's values.
        assert_eq!(
            [0, 2, 3, 5].map(|slot| store.read(slot / 4, slot as usize % 4).unwrap()),
            [const { None }; 4]
        );
        let store = open("one");
        assert_eq!(store.read(1, 0).unwrap().unwrap(), [1.0, -2.0, f32::MIN_POSITIVE]);
        assert_eq!(store.read(0, 1).unwrap().unwrap(), [0.0; 3]);
        assert_eq!(open("two").read(1, 0).unwrap(), None);
        assert_ne!(open("two").path(), store.path());
        // A value that was half written.
        let mut bytes = fs::read(store.path()).unwrap();
        assert_eq!(bytes.len() as u64, store.bytes(5));
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(store.path(), &bytes).unwrap();
        assert_eq!(open("one").read(1, 0).unwrap(), None);
        fs::write(store.path(), &bytes[..bytes.len() - 1]).unwrap();
        let store = open("one");
        assert_eq!((store.read(1, 0).unwrap(), store.read(0, 1).unwrap().is_some()), (None, true));
        store.write(1, 0, &[5.0; 3]).unwrap();
        assert_eq!(store.read(1, 0).unwrap().unwrap(), [5.0; 3]);
    }
}
