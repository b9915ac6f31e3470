//! Names from a table.

/// A name that is not in the table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no {what} is named `{name}`; there are {}", known.join(", "))]
#[non_exhaustive]
pub struct UnknownName {
    /// What was to be named.
    pub what: &'static str,
    /// The name.
    pub name: String,
    /// The names that there are.
    pub known: Vec<&'static str>,
}

/// The value of `name` in `table`, whatever the case.
pub(crate) fn parse<T, const N: usize>(
    what: &'static str,
    name: &str,
    table: [(&'static str, T); N],
) -> Result<T, UnknownName> {
    let known = table.iter().map(|(known, _)| *known).collect();
    let found = table.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value).ok_or_else(|| UnknownName { what, name: name.to_owned(), known })
}
