//! What tables of rows share.

use crate::environment::Environment;

/// Rows by `key`, in the order in which keys first come.
pub(crate) fn grouped_by<'a, T, K: PartialEq>(
    rows: impl IntoIterator<Item = &'a T>,
    key: impl Fn(&'a T) -> K,
) -> Vec<(K, Vec<&'a T>)> {
    let mut groups: Vec<(K, Vec<&T>)> = Vec::new();
    for row in rows {
        let key = key(row);
        match groups.iter_mut().find(|(of, _)| *of == key) {
            Some((_, group)) => group.push(row),
            None => groups.push((key, vec![row])),
        }
    }
    groups
}

/// The environments of rows, each once.
pub(crate) fn environments<'a>(of: impl IntoIterator<Item = &'a Environment>) -> Vec<String> {
    grouped_by(of, |environment| environment)
        .into_iter()
        .map(|(environment, _)| environment.to_string())
        .collect()
}

/// A number of threads in words.
pub(crate) fn threads_text(threads: usize) -> String {
    format!("{threads} thread{}", if threads == 1 { "" } else { "s" })
}
