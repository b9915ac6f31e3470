//! The members of a zip archive.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use flate2::read::DeflateDecoder;
use rawzip::{CompressionMethod, FileReader, RECOMMENDED_BUFFER_SIZE, ZipArchive, ZipArchiveEntryWayfinder};

use super::files::is_hidden;
use super::item::Item;
use crate::scan_stats::ScanStats;

/// An archive and where its members are in it.
pub(super) struct ZipMembers {
    archive: ZipArchive<FileReader>,
    members: Vec<Member>,
}

/// Where a member is, and how it is packed.
struct Member {
    place: ZipArchiveEntryWayfinder,
    /// `None` for one that is encrypted.
    method: Option<CompressionMethod>,
}

impl std::fmt::Debug for ZipMembers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ZipMembers").field("members", &self.members.len()).finish_non_exhaustive()
    }
}

/// The crate's errors are kept as they are, except that the system's stay the system's.
fn failed(error: rawzip::Error) -> io::Error {
    match error.into_kind() {
        rawzip::ErrorKind::IO(error) => error,
        kind => io::Error::new(io::ErrorKind::InvalidData, kind.to_string()),
    }
}

impl ZipMembers {
    /// Opens the archive; also its members, whatever they are, with their numbers and unpacked sizes as
    /// spans.
    pub fn open(file: File, stats: &mut ScanStats) -> io::Result<(Self, Vec<Item>)> {
        let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
        let archive = ZipArchive::from_file(file, &mut buffer).map_err(failed)?;
        let (mut members, mut items) = (Vec::new(), Vec::new());
        let mut entries = archive.entries(&mut buffer);
        while let Some(entry) = entries.next_entry().map_err(failed)? {
            if entry.is_dir() {
                continue;
            }
            // Without `..` and the root; names of other encodings as far as they can be read.
            let name = match entry.file_path().try_normalize() {
                Ok(name) => name.as_str().to_owned(),
                Err(_) => String::from_utf8_lossy(entry.file_path().as_bytes()).into_owned(),
            };
            let path = PathBuf::from(name);
            if path.iter().any(is_hidden) {
                stats.hidden += 1;
            } else if entry.mode().is_symlink() {
                stats.other_files += 1;
            } else {
                let method = (!entry.flags().is_encrypted()).then(|| entry.compression_method());
                let span = Some((members.len() as u64, entry.uncompressed_size_hint()));
                members.push(Member { place: entry.wayfinder(), method });
                items.push(Item { span, ..Item::new(path, 0) });
            }
        }
        Ok((Self { archive, members }, items))
    }

    /// Appends the bytes of member `number`, of which there are `len`; the checksum is compared.
    pub fn read(&self, (number, len): (u64, u64), bytes: &mut Vec<u8>) -> io::Result<()> {
        let member = usize::try_from(number).ok().and_then(|number| self.members.get(number));
        let member = member.ok_or(io::ErrorKind::NotFound)?;
        let entry = self.archive.get_entry(member.place).map_err(failed)?;
        // One byte more than there should be, to notice it.
        let read = match member.method {
            Some(CompressionMethod::STORE) => {
                entry.verifying_reader(entry.reader()).take(len + 1).read_to_end(bytes)
            }
            Some(CompressionMethod::DEFLATE) => {
                entry.verifying_reader(DeflateDecoder::new(entry.reader())).take(len + 1).read_to_end(bytes)
            }
            Some(method) => Err(io::Error::other(match method.name() {
                Some(name) => format!("it is packed by {name}, which is not supported"),
                None => "it is packed by an unknown method".to_owned(),
            })),
            None => Err(io::Error::other("it is encrypted")),
        }?;
        match read as u64 == len {
            true => Ok(()),
            false => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "it is of another size than the archive says"))
            }
        }
    }
}
