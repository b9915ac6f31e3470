//! The one error type of the crate.

use std::io;
use std::path::PathBuf;

/// Why nothing could be trained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Pictures, networks or weights that cannot be used.
    #[error(transparent)]
    Inception(#[from] inception::Error),
    /// A network that cannot be trained on the CPU.
    #[error(transparent)]
    Gradient(#[from] inception_gradient::Error),
    /// A value of a recipe that makes no sense.
    #[error("`{field}` cannot be {value}: {wanted}")]
    Recipe {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it can be.
        wanted: &'static str,
    },
    /// A file that is no recipe.
    #[error("{} is no recipe: {reason}", path.display())]
    RecipeFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A model whose origin has published no recipe.
    #[error("no recipe is published for {model}; there is one for each network of PaddleClas")]
    NoRecipe {
        /// The model.
        model: &'static str,
    },
    /// Too few classes to tell apart.
    #[error("there is nothing to learn from {classes} class{}: at least two are needed", if *classes == 1 { "" } else { "es" })]
    Classes {
        /// Classes with pictures.
        classes: usize,
    },
    /// Pictures that all have the same classes.
    #[error("there is nothing to learn: all pictures have the same classes")]
    EqualLabels,
    /// Not a single picture to train on.
    #[error("no picture is left to train on")]
    NoPictures,
    /// A loss that is no finite number, or that grows without bound.
    #[error(
        "the loss diverges: it is {loss} at step {step} (epoch {epoch}), with a learning rate of {lr:.3e}"
    )]
    Diverged {
        /// The epoch, from 1.
        epoch: u32,
        /// The step, from 1.
        step: u64,
        /// The mean loss of its pictures.
        loss: f64,
        /// The learning rate.
        lr: f64,
    },
    /// The extraction of features was asked to end.
    #[error("interrupted; the features of {pictures} pictures are kept in {}", cache.display())]
    Interrupted {
        /// Pictures that are done.
        pictures: u64,
        /// Where their features are kept.
        cache: PathBuf,
    },
    /// The folder of a run that cannot be used.
    #[error("{}: {problem}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why not.
        problem: FolderProblem,
    },
}

/// Why the folder of a run cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderProblem {
    /// It cannot be read or written.
    #[error("it cannot be read or written: {source}")]
    Io {
        /// What the operating system said.
        source: io::Error,
    },
    /// Another process trains there.
    #[error("another process trains there; each run needs a folder of its own")]
    InUse,
    /// There is a run in it, which was not asked to go on.
    #[error("there is a run in it already")]
    Exists,
    /// The run in it is another one.
    #[error("the run in it is another one: its {what} is {theirs}, not {ours}")]
    Other {
        /// What differs.
        what: String,
        /// What the folder has.
        theirs: String,
        /// What was asked for.
        ours: String,
    },
    /// Its state cannot be understood.
    #[error("its state is damaged: {reason}")]
    Damaged {
        /// What is wrong.
        reason: String,
    },
}

impl From<inception::weights::Error> for Error {
    fn from(error: inception::weights::Error) -> Self {
        Self::Inception(error.into())
    }
}

impl From<inception::data::Error> for Error {
    fn from(error: inception::data::Error) -> Self {
        Self::Inception(error.into())
    }
}

impl From<inception::nn::Error> for Error {
    fn from(error: inception::nn::Error) -> Self {
        Self::Inception(error.into())
    }
}
