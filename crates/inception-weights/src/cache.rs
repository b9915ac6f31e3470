//! Published weights by name: downloaded once, cached, and verified at each use.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use inception_nn::{ModelSpec, Origin};
use sha2::{Digest, Sha256};

use crate::Error;
use crate::folder::{cache_folder, var};

/// Where an origin publishes its weights: PaddleClas's `MODEL_URLS` in `ppcls/arch/backbone`, pytorch-fid's
/// `FID_WEIGHTS_URL`.
const fn official(origin: Origin) -> Option<&'static str> {
    match origin {
        Origin::PaddleClas => Some("https://paddle-imagenet-models-name.bj.bcebos.com"),
        Origin::PytorchFid => Some("https://github.com/mseitzer/pytorch-fid"),
        _ => None,
    }
}

/// Attempts of a transfer in a call. The bytes that have arrived are kept for the next call.
const ATTEMPTS: usize = 3;

/// How far a download is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Arrived so far.
    pub done: u64,
    /// In all, where the server says it.
    pub total: Option<u64>,
}

/// A folder of downloaded weights.
#[derive(Clone, Debug)]
pub struct Cache {
    /// The folder; made when needed.
    pub folder: PathBuf,
    /// The address below which the official paths are looked for, in place of that of their origin.
    pub mirror: Option<String>,
    /// Whether nothing may be downloaded.
    pub offline: bool,
}

impl Cache {
    /// The cache of the environment: `INCEPTION_CACHE` is the folder (see
    /// [`cache_folder`](crate::cache_folder)), `INCEPTION_MIRROR` replaces the official addresses,
    /// `INCEPTION_OFFLINE` (not empty, not 0) forbids downloads.
    pub fn from_env() -> Self {
        Self {
            folder: cache_folder(),
            mirror: var("INCEPTION_MIRROR").map(|mirror| mirror.to_string_lossy().into_owned()),
            offline: var("INCEPTION_OFFLINE").is_some_and(|value| value != "0"),
        }
    }

    /// The published weights of `spec`: from the folder, after its checksum has been verified, or downloaded
    /// to it.
    ///
    /// A broken download is resumed, in this or a later call. The file gets its name only when it is complete
    /// and a checkpoint. Processes that fetch the same file wait for each other.
    ///
    /// # Errors
    ///
    /// [`Error::NotPublished`], [`Error::Offline`], [`Error::Download`], [`Error::Changed`] if the file is
    /// not the one that was downloaded, [`Error::Io`], and those of
    /// [`Checkpoint::open`](crate::Checkpoint::open).
    pub fn fetch(&self, spec: &ModelSpec, progress: &mut dyn FnMut(Progress)) -> Result<PathBuf, Error> {
        let address = self.mirror.as_deref().or(official(spec.origin));
        let (Some(remote), Some(address)) = (spec.download, address) else {
            return Err(Error::NotPublished { model: spec.name });
        };
        let url = format!("{}/{remote}", address.trim_end_matches('/'));
        let extension = Path::new(remote).extension().unwrap_or_default().to_string_lossy();
        let path = self.folder.join(format!("{}.{extension}", spec.name));
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { path, source }
        };
        fs::create_dir_all(&self.folder).map_err(io(&self.folder))?;
        let lock = path.with_extension("lock");
        let lock_file =
            OpenOptions::new().create(true).truncate(false).write(true).open(&lock).map_err(io(&lock))?;
        lock_file.lock().map_err(io(&lock))?; // Until it is closed.
        let record = path.with_extension(format!("{extension}.sha256"));
        if path.exists() {
            let found = digest(&path).map_err(io(&path))?;
            match fs::read_to_string(&record) {
                Ok(expected) if expected.trim() == found => {}
                Ok(expected) => {
                    return Err(Error::Changed { path, expected: expected.trim().to_owned(), found });
                }
                // Put there by hand: from now on it is this one.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => write_record(&record, &found)?,
                Err(source) => return Err(Error::Io { path: record, source }),
            }
            return Ok(path);
        }
        if self.offline {
            return Err(Error::Offline { path, url });
        }
        let part = path.with_extension(format!("{extension}.part"));
        let mut attempt = 1;
        while let Err(error) = transfer(&url, &part, progress) {
            if attempt == ATTEMPTS || !matches!(error, Error::Download { retry: true, .. }) {
                return Err(error);
            }
            attempt += 1;
        }
        // Finds a login page or an error document that was served as the file.
        if let Err(error) = crate::Checkpoint::open(&part) {
            fs::remove_file(&part).map_err(io(&part))?;
            return Err(error);
        }
        let found = digest(&part).map_err(io(&part))?;
        if let Some(expected) = spec.sha256.filter(|expected| !found.starts_with(expected)) {
            fs::remove_file(&part).map_err(io(&part))?;
            let reason =
                format!("what came has the SHA-256 {found}, and the published file's begins with {expected}");
            return Err(Error::Download { url, reason, retry: false });
        }
        write_record(&record, &found)?;
        fs::rename(&part, &path).map_err(io(&path))?;
        // Nothing is lost if it cannot be removed.
        let _ = fs::remove_file(tag_path(&part));
        Ok(path)
    }
}

fn write_record(path: &Path, digest: &str) -> Result<(), Error> {
    crate::save::replace_file(path, |file| writeln!(file, "{digest}"))
}

/// The SHA-256 of a file, in hexadecimal.
fn digest(path: &Path) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    let mut file = File::open(path)?;
    let mut block = vec![0; 1 << 16];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            count => hash.update(&block[..count]),
        }
    }
}

/// The file with the `ETag` of the remote file that `part` is the beginning of.
fn tag_path(part: &Path) -> PathBuf {
    part.with_extension("etag")
}

/// Downloads the missing rest of `url` to the end of `part`.
fn transfer(url: &str, part: &Path, progress: &mut dyn FnMut(Progress)) -> Result<(), Error> {
    let failed = |reason: String, retry| Error::Download { url: url.to_owned(), reason, retry };
    let io = |source| Error::Io { path: part.to_owned(), source };
    let mut done = fs::metadata(part).map_or(0, |m| m.len());
    let tag = fs::read_to_string(tag_path(part)).ok().filter(|tag| !tag.is_empty());
    let agent = ureq::Agent::new_with_config(
        ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .build(),
    );
    let mut request = agent.get(url);
    // Without a tag the rest may be that of another file.
    match &tag {
        Some(tag) if done > 0 => {
            request = request.header("Range", format!("bytes={done}-")).header("If-Range", tag.as_str());
        }
        _ => done = 0,
    }
    let response = request.call().map_err(|e| failed(e.to_string(), true))?;
    let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let continues = header("content-range").is_some_and(|range| range.starts_with(&format!("bytes {done}-")));
    match response.status().as_u16() {
        206 if continues => {}
        200 => done = 0,
        // `part` is no beginning of the file; the next attempt starts from nothing.
        206 | 416 => {
            fs::remove_file(part).map_err(io)?;
            return Err(failed(format!("the server has no bytes from {done} on"), true));
        }
        status => return Err(failed(format!("the server answers {status}"), status >= 500)),
    }
    let total = header("content-length").and_then(|l| l.parse::<u64>().ok()).map(|left| done + left);
    if done == 0 {
        fs::write(tag_path(part), header("etag").unwrap_or_default()).map_err(io)?;
    }
    let file = if done > 0 { OpenOptions::new().append(true).open(part) } else { File::create(part) };
    let mut file = file.map_err(io)?;
    let mut body = response.into_body().into_reader();
    let mut block = vec![0; 1 << 16];
    progress(Progress { done, total });
    loop {
        match body.read(&mut block) {
            Ok(0) => break,
            Ok(count) => {
                file.write_all(&block[..count]).map_err(io)?;
                done += count as u64;
                progress(Progress { done, total });
            }
            Err(error) => return Err(failed(format!("after {done} bytes: {error}"), true)),
        }
    }
    file.sync_all().map_err(io)?;
    match total {
        Some(total) if total != done => Err(failed(format!("{done} bytes of {total} came"), true)),
        _ => Ok(()),
    }
}
