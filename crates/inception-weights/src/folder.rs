//! Where what took time to get is kept.

use std::ffi::OsString;
use std::path::PathBuf;

/// An environment variable that is not empty.
pub(crate) fn var(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The folder that the environment variable `INCEPTION_CACHE` names, otherwise `inception` in the user's cache folder. It need
/// not exist.
pub fn cache_folder() -> PathBuf {
    let caches = || {
        let home = || Some(PathBuf::from(var("HOME").or_else(|| var("USERPROFILE"))?).join(".cache"));
        var("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)
    };
    let folder = var("INCEPTION_CACHE").map(PathBuf::from);
    folder.unwrap_or_else(|| caches().unwrap_or_else(std::env::temp_dir).join("inception"))
}
