//! Panics of other crates over damaged data.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// `work`, where a panic is the error that `panicked` gives.
pub(crate) fn catch_panic<T, E>(
    work: impl FnOnce() -> Result<T, E>,
    panicked: impl FnOnce() -> E,
) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(panicked()))
}
