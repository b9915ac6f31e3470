//! The file of misclassified pictures of `eval`.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use inception::Wrong;

/// A file under way: written beside its place, and put there when it is whole.
pub struct Misclassified {
    path: PathBuf,
    part: PathBuf,
    file: BufWriter<File>,
}

impl Misclassified {
    /// Starts the file.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        ensure!(!path.is_dir(), "{} is a folder", path.display());
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let part = path.with_file_name(name);
        let file = File::create(&part).with_context(|| format!("writing {}", part.display()))?;
        Ok(Self { path: path.to_owned(), part, file: BufWriter::new(file) })
    }

    /// Writes a line for each picture, in the order of the dataset.
    pub fn finish(mut self, pictures: &[Wrong]) -> anyhow::Result<()> {
        let written = (|| {
            self.file.write_all(b"image,label,label_name,guess,guess_name,probability\n")?;
            for Wrong { picture, label_name, guess_name } in pictures {
                let name = |name: &Option<String>| field(name.as_deref().unwrap_or_default());
                let (image, label, guess) = (field(&picture.image), name(label_name), name(guess_name));
                let probability = picture.probability.map(|value| format!("{value:.6}")).unwrap_or_default();
                let (class, taken) = (picture.label, picture.guess);
                writeln!(self.file, "{image},{class},{label},{taken},{guess},{probability}")?;
            }
            self.file.flush()?;
            fs::rename(&self.part, &self.path)
        })();
        written.with_context(|| format!("writing {}", self.path.display()))
    }
}

impl Drop for Misclassified {
    /// Nothing half-written stays; a finished file has its name by then.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.part);
    }
}

/// A field of CSV (RFC 4180): within quotation marks where it has to be.
fn field(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}
