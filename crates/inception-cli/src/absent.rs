//! Commands that this build does not have.

/// The build lacks what a command needs.
#[derive(Debug, thiserror::Error)]
#[error("this build cannot {what}: it lacks the feature `{feature}`")]
pub struct Absent {
    /// The feature of a build that has it.
    pub feature: &'static str,
    what: &'static str,
}

/// The module of a command without its feature, which accepts any arguments and refuses to run.
macro_rules! absent {
    ($feature:literal, $module:ident::$command:ident, $what:literal) => {
        #[cfg(not(feature = $feature))]
        pub mod $module {
            #[derive(clap::Args)]
            pub struct $command {
                /// Not in this build
                #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
                rest: Vec<String>,
            }

            impl $command {
                pub fn run(&self) -> anyhow::Result<()> {
                    Err(crate::absent::Absent { feature: $feature, what: $what }.into())
                }
            }
        }
    };
}

absent!("fid", fid::Fid, "compute Fréchet distances");
absent!("serve", serve::Serve, "answer over the network");
absent!("train", train::Train, "train");
