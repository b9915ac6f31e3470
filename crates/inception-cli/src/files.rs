//! Files that commands write.

use std::path::Path;

use anyhow::Context;
use inception::weights::PartFile;

/// Starts the file at `path`, before the work whose result it will hold, so that a bad name is no loss.
pub fn create(path: &Path) -> anyhow::Result<PartFile> {
    PartFile::create(path).with_context(|| format!("writing {}", path.display()))
}
