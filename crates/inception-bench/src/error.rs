/// What can go wrong while measuring.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The network cannot be built or run.
    #[error(transparent)]
    Run(#[from] inception::Error),
    /// A batch does not fit.
    #[error(
        "a batch of {batch} needs at least {needed_mb} MB, and {free_mb} MB are free; take a smaller one"
    )]
    Memory {
        /// Images a run.
        batch: usize,
        /// What the activations take, in units of 10^6 bytes.
        needed_mb: u64,
        /// What the system has left, in units of 10^6 bytes.
        free_mb: u64,
    },
}
