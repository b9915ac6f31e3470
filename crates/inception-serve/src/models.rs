//! The models of a server: what is there now, and how it is loaded again.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use inception::Classifier;

use crate::error::{BoxError, Error};

/// Loads a model, with what is to be known of it.
type Load = dyn Fn() -> Result<(Classifier, Vec<String>), BoxError> + Send + Sync;

/// A model to serve.
pub struct ModelSource {
    name: String,
    load: Box<Load>,
}

impl fmt::Debug for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelSource").field("name", &self.name).finish_non_exhaustive()
    }
}

impl ModelSource {
    /// A model that clients ask for by `name`. `load` is called before it is served, and whenever it is to be
    /// loaded again; its classifier comes with the warnings that its answers carry. Models share the engine's
    /// threads if their [`RunOptions`](inception::RunOptions) have one [`Pool`](inception::Pool).
    pub fn new(
        name: impl Into<String>,
        load: impl Fn() -> Result<(Classifier, Vec<String>), BoxError> + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), load: Box::new(load) }
    }
}

/// A model as it is now.
pub(crate) struct Loaded {
    pub classifier: Classifier,
    pub warnings: Vec<String>,
}

impl Loaded {
    /// How many threads can each compute a picture of their own, on the engine; 0 where another device
    /// computes.
    pub fn threads(&self) -> usize {
        self.classifier.runner().compiled().map_or(0, |compiled| compiled.threads().count())
    }

    /// Channels, rows and columns of an image, `[3, height, width]`.
    pub fn image_shape(&self) -> [usize; 3] {
        let side = self.classifier.preprocessing().crop as usize;
        [3, side, side]
    }
}

/// A model and its place among all.
pub(crate) struct Slot {
    source: ModelSource,
    current: RwLock<Option<Arc<Loaded>>>,
    /// Held while it is being loaded.
    loading: Mutex<()>,
}

impl Slot {
    /// One for each source.
    pub fn all(sources: Vec<ModelSource>) -> Result<Vec<Self>, Error> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let mut slots: Vec<Self> = Vec::new();
        for source in sources {
            let name = &source.name;
            // `.` and `..` would be read as steps of a path.
            if !(1..=100).contains(&name.len()) || !name.chars().all(allowed) || name.starts_with('.') {
                return Err(Error::Name { name: name.clone() });
            }
            if slots.iter().any(|slot| slot.name().eq_ignore_ascii_case(name)) {
                return Err(Error::Twice { name: name.clone() });
            }
            slots.push(Self { source, current: RwLock::new(None), loading: Mutex::new(()) });
        }
        if slots.is_empty() { Err(Error::Nothing { missing: "a model" }) } else { Ok(slots) }
    }

    pub fn name(&self) -> &str {
        &self.source.name
    }

    /// The model as it is now, where it is there.
    pub fn current(&self) -> Option<Arc<Loaded>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it is there, in Triton's words, and why not.
    pub fn state(&self) -> (&'static str, &'static str) {
        if self.current().is_some() { ("READY", "") } else { ("UNAVAILABLE", "loading") }
    }

    /// Loads it; `try_out` has to accept it before it replaces what was there.
    pub fn load(&self, try_out: impl FnOnce(&Arc<Loaded>) -> Result<(), BoxError>) -> Result<(), BoxError> {
        let _one_at_a_time = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        let (classifier, warnings) = (self.source.load)()?;
        let loaded = Arc::new(Loaded { classifier, warnings });
        try_out(&loaded)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(loaded);
        Ok(())
    }
}
