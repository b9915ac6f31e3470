//! The file of misclassified pictures of `eval`.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use inception::Wrong;
use inception::weights::PartFile;

use crate::files::create;

/// A file under way.
pub struct Misclassified {
    path: PathBuf,
    file: PartFile,
}

impl Misclassified {
    /// Starts the file.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        Ok(Self { path: path.to_owned(), file: create(path)? })
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
            self.file.finish()
        })();
        written.with_context(|| format!("writing {}", self.path.display()))
    }
}

/// A field of CSV (RFC 4180): within quotation marks where it has to be.
fn field(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}
