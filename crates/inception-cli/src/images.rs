//! The pictures that a command is given: files, folders, standard input, a list.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, stdin};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Args;
use inception::data::{
    DecodeOptions, MAX_FILE_BYTES, Preprocessing, RgbImage, decode_with, is_image, read_with,
};

/// Which pictures.
#[derive(Args)]
pub struct ImageArgs {
    /// Pictures, or folders of them; `-` is standard input
    #[arg(long = "image", value_name = "FILE", required_unless_present = "image_list", num_args = 1..)]
    images: Vec<PathBuf>,
    /// A file with the path of a picture on each line; `-` is standard input
    #[arg(long, value_name = "FILE")]
    image_list: Option<PathBuf>,
    /// Folders inside folders, too
    #[arg(long)]
    recursive: bool,
    /// Read JPEG files that end early, what is missing filled in grey
    #[arg(long)]
    accept_truncated: bool,
}

/// Pictures to be read one by one.
pub struct Images {
    /// Files, and `-` for standard input.
    pub paths: Vec<PathBuf>,
    /// What was on standard input, if it is one of them.
    standard_input: Option<Vec<u8>>,
    accept_truncated: bool,
}

impl ImageArgs {
    /// All pictures that were asked for, in the order of the flags, those of a folder by name.
    pub fn list(&self) -> anyhow::Result<Images> {
        let mut paths = Vec::new();
        for path in &self.images {
            self.expand(path, &mut paths)?;
        }
        if let Some(list) = &self.image_list {
            let text = match is_standard_input(list) {
                true => read_standard_input()?,
                false => fs::read(list).with_context(|| format!("reading {}", list.display()))?,
            };
            ensure!(!text.contains(&0), "{} is no list of paths: it is not text", list.display());
            let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&text);
            let lines = text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
            for line in lines.filter(|line| !line.is_empty()) {
                self.expand(&path_of(line), &mut paths)?;
            }
        }
        ensure!(!paths.is_empty(), "there is no picture to classify");
        let standard_input = match paths.iter().any(|path| is_standard_input(path)) {
            true => Some(read_standard_input()?),
            false => None,
        };
        Ok(Images { paths, standard_input, accept_truncated: self.accept_truncated })
    }

    fn expand(&self, path: &Path, paths: &mut Vec<PathBuf>) -> anyhow::Result<()> {
        let shown = path.to_string_lossy();
        if !is_standard_input(path) && !path.exists() {
            if shown.contains("://") {
                bail!(
                    "{shown} is an address; download it first, and give the file, or pipe it to `--image -`"
                );
            }
            if shown.contains(['*', '?', '[']) {
                bail!("{shown}: no such file, and the shell found none that fits the pattern");
            }
        }
        match path.is_dir() {
            true => self.expand_folder(path, paths),
            false => {
                paths.push(path.to_owned());
                Ok(())
            }
        }
    }

    fn expand_folder(&self, root: &Path, paths: &mut Vec<PathBuf>) -> anyhow::Result<()> {
        let before = paths.len();
        let (mut folders, mut inner) = (vec![root.to_owned()], 0);
        while let Some(folder) = folders.pop() {
            let entries = fs::read_dir(&folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            let mut entries = entries.with_context(|| format!("reading {}", folder.display()))?;
            entries.sort_by_key(fs::DirEntry::file_name);
            let mut below = Vec::new();
            for entry in entries {
                let kind = entry.file_type().with_context(|| format!("reading {}", folder.display()))?;
                if kind.is_dir() {
                    inner += 1;
                    below.push(entry.path());
                } else if is_image(&entry.path()) {
                    paths.push(entry.path());
                }
            }
            if self.recursive {
                folders.extend(below.into_iter().rev());
            }
        }
        let left_out = if self.recursive { 0 } else { inner };
        match paths.len() == before {
            true if left_out > 0 => {
                bail!(
                    "there is no picture in {}, but {left_out} folders; --recursive looks into them",
                    root.display()
                )
            }
            true => bail!("there is no picture in {}", root.display()),
            false => Ok(()),
        }
    }
}

impl Images {
    /// The pixels of a picture of [`paths`](Self::paths), as the weights' origin reads them.
    pub fn read(&self, path: &Path, preprocessing: &Preprocessing) -> anyhow::Result<RgbImage> {
        let mut options = DecodeOptions::from(preprocessing);
        options.accept_truncated = self.accept_truncated;
        match &self.standard_input {
            Some(bytes) if is_standard_input(path) => {
                decode_with(bytes, &options).context("cannot use standard input as a picture")
            }
            _ => Ok(read_with(path, &options)?),
        }
    }
}

/// A path as JSON can say it, and whether that loses something.
pub fn lossy(path: &Path) -> (Cow<'_, str>, bool) {
    (path.to_string_lossy(), path.to_str().is_none())
}

fn read_standard_input() -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stdin().take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).context("reading standard input")?;
    ensure!(bytes.len() as u64 <= MAX_FILE_BYTES, "standard input has more than 2^29 bytes");
    Ok(bytes)
}

fn is_standard_input(path: &Path) -> bool {
    path.as_os_str() == OsStr::new("-")
}

/// The path that a line of a list is; names need not be UTF-8.
#[cfg(unix)]
fn path_of(line: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    OsStr::from_bytes(line).into()
}

/// The path that a line of a list is.
#[cfg(not(unix))]
fn path_of(line: &[u8]) -> PathBuf {
    String::from_utf8_lossy(line).into_owned().into()
}
