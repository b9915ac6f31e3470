//! The program by which a command was called: what its messages say of it.

use std::io::{self, Write};
use std::process::ExitCode;

use inception::data::DatasetProblem;
use inception::{Error, MODELS, MergeProblem, data, engine, weights};

use crate::pretrained::NoDownload;

/// The program by which a command was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Program {
    /// `inception`
    Inception,
    /// `cargo xtask`
    Xtask,
}

impl Program {
    /// What the user types.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inception => "inception",
            Self::Xtask => "cargo xtask",
        }
    }

    /// The command that makes a build with `feature`.
    pub fn with_feature(self, feature: &str) -> String {
        match self {
            Self::Inception => format!("cargo install --path crates/inception-cli --features {feature}"),
            Self::Xtask => format!("cargo run --release --package xtask --features {feature} -- ..."),
        }
    }

    /// The end of `--help`.
    pub fn help(self) -> String {
        let names: Vec<_> = MODELS.iter().map(|spec| spec.name).collect();
        format!(
            "Models: {}\n\nA first try:\n  {} predict --model GoogLeNet --random-weights --image \
             tests/images/ILSVRC2012_val_00000010.jpeg",
            names.join(" "),
            self.name()
        )
    }

    /// Writes an error to standard error, with what to do about it, and gives the exit status.
    pub fn exit_code(self, result: anyhow::Result<()>) -> ExitCode {
        let Err(error) = result else { return ExitCode::SUCCESS };
        let io_errors = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
        // The reader of our output has seen enough: `inception models | head -1` is no failure.
        if io_errors.map(io::Error::kind).any(|kind| kind == io::ErrorKind::BrokenPipe) {
            return ExitCode::SUCCESS;
        }
        let hint = error.chain().find_map(|cause| self.hint(cause));
        let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
        // Nothing is left to do if standard error is closed, too.
        let _ = writeln!(io::stderr(), "error: {}{hint}", message(&error));
        ExitCode::FAILURE
    }

    /// What to do about an error: the flags and the builds, of which the libraries know nothing.
    fn hint(self, error: &(dyn std::error::Error + 'static)) -> Option<String> {
        let build = |feature| Some(format!("a build with it: `{}`", self.with_feature(feature)));
        if error.is::<NoDownload>() {
            return build("download");
        }
        #[cfg(not(all(feature = "fid", feature = "serve")))]
        if let Some(crate::absent::Absent { feature, .. }) = error.downcast_ref() {
            return build(feature);
        }
        #[cfg(not(feature = "parquet"))]
        if error.is::<crate::features::NoParquet>() {
            return build("parquet");
        }
        if let Some(data::Error::Dataset { problem, .. }) = error.downcast_ref() {
            return match **problem {
                DatasetProblem::NeedsFeature { feature, .. } => build(feature),
                DatasetProblem::OneBased { .. } => Some("--label-base 1 counts from 1".to_owned()),
                DatasetProblem::UnknownFolder { ref name, .. } if SPLITS.contains(&name.as_str()) => {
                    Some(format!("if that is a part of the data set, give the folder {name} itself by --data"))
                }
                DatasetProblem::UnknownFolder { .. } | DatasetProblem::WordNetFolder { .. } => {
                    Some("--labels FILE names the classes in their order, one folder's name a line".to_owned())
                }
                DatasetProblem::SameName { .. } => {
                    Some("--labels FILE with a name for each class that no other has tells them apart".to_owned())
                }
                DatasetProblem::AllMissing { .. } => {
                    Some("--image-root says where they are: a folder or an archive".to_owned())
                }
                DatasetProblem::NoClasses { stats } if stats.loose_pictures > 0 => Some(
                    "each class has a folder with its pictures; or their classes come from a list: give it by --data and \
                     the pictures by --image-root, or put ImageNet's ILSVRC2012_validation_ground_truth.txt or \
                     LOC_val_solution.csv beside them"
                        .to_owned(),
                ),
                _ => None,
            };
        }
        #[cfg(feature = "train")]
        match error.downcast_ref::<inception_train::Error>() {
            Some(inception_train::Error::Inception(cause)) => return self.hint(cause),
            Some(error) => return training_hint(error).map(str::to_owned),
            None => {}
        }
        if let Some(weights::Error::NotPublished { .. }) = error.downcast_ref() {
            return Some("give a checkpoint by --weights".to_owned());
        }
        if let Some(weights::Error::NoStateDict { known, .. }) = error.downcast_ref() {
            return Some(match known.iter().all(String::is_empty) {
                true => "leave --state-dict out".to_owned(),
                false => "--state-dict names one of them".to_owned(),
            });
        }
        match error.downcast_ref()? {
            Error::Engine(engine::Error::Uncalibrated) => {
                Some(format!("`{} quantize` writes a file that has them", self.name()))
            }
            Error::NoDevice { device } => build(device.name()),
            Error::NoAdapter { .. } => Some(format!(
                "`{} devices` lists what is there; Debian's mesa-vulkan-drivers is a driver in software",
                self.name()
            )),
            Error::TooManySkipped { .. } => Some("--max-skipped allows more".to_owned()),
            Error::Merge { problem: MergeProblem::Unfinished { .. } } => {
                Some("run it again with --resume".to_owned())
            }
            _ => None,
        }
    }
}

/// How the parts of a data set are named.
const SPLITS: &[&str] = &["train", "val", "valid", "validation", "test"];

/// What to do about a picture, where a flag does something about it.
pub(crate) fn picture_hint(error: &anyhow::Error) -> &'static str {
    // The cause in a box is a box to `downcast_ref`.
    let causes = error.chain().filter_map(|cause| {
        cause.downcast_ref().or_else(|| cause.downcast_ref::<Box<data::Error>>().map(|cause| &**cause))
    });
    let is_cut =
        |cause: &data::Error| matches!(cause, data::Error::Truncated { format: data::ImageFormat::Jpeg, .. });
    match causes.into_iter().any(is_cut) {
        true => "; --accept-truncated fills what is missing",
        false => "",
    }
}

/// What to do about an error of training.
#[cfg(feature = "train")]
fn training_hint(error: &inception_train::Error) -> Option<&'static str> {
    use inception_train::{Error, FolderProblem};
    match error {
        Error::Diverged { .. } => Some("a lower --lr, or --warmup, keeps it from that"),
        Error::Interrupted { .. } => Some("the same command goes on"),
        Error::NoRecipe { .. } => Some("without --recipe there are defaults"),
        Error::Folder { problem: FolderProblem::Exists, .. } => {
            Some("--resume goes on with it; another --to begins anew")
        }
        Error::Folder { problem: FolderProblem::Other { .. }, .. } => Some("choose another --to"),
        _ => None,
    }
}

/// An error and its causes, each said once: some errors have their cause in their own text.
pub(crate) fn message(error: &anyhow::Error) -> String {
    error.chain().skip(1).fold(error.to_string(), |message, cause| {
        let cause = cause.to_string();
        if message.contains(&cause) { message } else { format!("{message}: {cause}") }
    })
}
