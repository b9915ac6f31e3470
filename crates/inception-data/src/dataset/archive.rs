//! An archive of pictures: tar, tar in gzip, or zip. Nothing is unpacked to the disk.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::gzip::GzipStream;
use super::item::Item;
use super::sequence::Sequence;
use super::tar::{self, read_span};
use super::zip::ZipMembers;
use crate::error::{DatasetProblem, Error};
use crate::files::{check_len, is_image};
use crate::scan_stats::ScanStats;

/// The formats of archives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ArchiveFormat {
    /// A plain tar archive.
    Tar,
    /// A tar archive in gzip.
    TarGzip,
    /// A zip archive.
    Zip,
}

/// Where the bytes of an archive's members are found.
#[derive(Debug)]
pub(super) enum Archive {
    /// At their places in the file.
    Tar(Mutex<File>),
    /// At their places in what the file is unpacked to, which is read from the front on.
    Gzip(Box<Mutex<Sequence<GzipStream>>>),
    /// By their numbers in the directory of the file.
    Zip(ZipMembers),
}

impl Archive {
    /// Opens an archive; also its members, whatever they are, with a label of 0.
    pub fn open(
        path: &Path,
        format: ArchiveFormat,
        stats: &mut ScanStats,
    ) -> Result<(Self, Vec<Item>), Error> {
        let damaged = |source| Error::dataset(path, DatasetProblem::Archive { source });
        let file = File::open(path).map_err(Error::reading(path))?;
        Ok(match format {
            ArchiveFormat::Tar => {
                let len = file.metadata().map_err(Error::reading(path))?.len();
                let members = tar::members(&mut &file, Some(len), stats).map_err(damaged)?;
                (Self::Tar(Mutex::new(file)), members)
            }
            ArchiveFormat::TarGzip => {
                let mut stream = GzipStream::new(file).map_err(damaged)?;
                let mut members = tar::members(&mut stream, None, stats).map_err(damaged)?;
                // Any other order would unpack the file again for each picture.
                members.sort_by_key(|item| item.span);
                (Self::Gzip(Box::new(Mutex::new(Sequence::new(stream, &members)))), members)
            }
            ArchiveFormat::Zip => {
                let (archive, members) = ZipMembers::open(file, stats).map_err(damaged)?;
                (Self::Zip(archive), members)
            }
        })
    }

    /// As [`open`](Self::open), with the images among its members.
    pub fn open_images(
        path: &Path,
        format: ArchiveFormat,
        stats: &mut ScanStats,
    ) -> Result<(Self, Vec<Item>), Error> {
        let (archive, mut members) = Self::open(path, format, stats)?;
        let all = members.len();
        members.retain(|item| is_image(&item.path));
        stats.other_files += all - members.len();
        Ok((archive, members))
    }

    /// Whether the members are to be read in their order.
    pub fn is_sequential(&self) -> bool {
        matches!(self, Self::Gzip(_))
    }

    /// Appends the bytes of the member at `span`.
    pub fn read(&self, span: (u64, u64), bytes: &mut Vec<u8>) -> io::Result<()> {
        check_len(span.1)?;
        // A thread that panicked while it held one of these has left nothing half-done: each read seeks
        // first.
        match self {
            Self::Tar(file) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                read_span(&mut *file, span, bytes)
            }
            Self::Gzip(sequence) => sequence.lock().unwrap_or_else(PoisonError::into_inner).read(span, bytes),
            Self::Zip(members) => members.read(span, bytes),
        }
    }
}

/// The spans of an archive's members by their paths, for a list of them.
pub(super) fn spans(members: Vec<Item>) -> HashMap<PathBuf, (u64, u64)> {
    members.into_iter().filter_map(|item| Some((item.path, item.span?))).collect()
}
