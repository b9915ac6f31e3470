//! The cache folder.

use std::ffi::OsString;
use std::path::PathBuf;

/// An environment variable that is not empty.
pub(crate) fn var(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The cache folder: that of the environment variable `INCEPTION_CACHE`, otherwise `inception` in the user's
/// cache folder (`~/.cache` on Linux, `~/Library/Caches` on macOS, `AppData\\Local` on Windows). It need not
/// exist.
pub fn cache_folder() -> PathBuf {
    let caches = || directories::BaseDirs::new().map(|folders| folders.cache_dir().to_owned());
    let folder = var("INCEPTION_CACHE").map(PathBuf::from);
    folder.unwrap_or_else(|| caches().unwrap_or_else(std::env::temp_dir).join("inception"))
}
