//! `fid` in a build without it.

use clap::Args;

/// The build has no eigenvalues.
#[derive(Debug, thiserror::Error)]
#[error("this build cannot compute Fréchet distances: it lacks the feature `fid`")]
pub struct NoFid;

#[derive(Args)]
pub struct Fid {
    /// Not in this build
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    rest: Vec<String>,
}

impl Fid {
    pub fn run(&self) -> anyhow::Result<()> {
        Err(NoFid.into())
    }
}
