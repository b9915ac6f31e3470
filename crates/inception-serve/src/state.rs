//! What all parts of a server share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use inception::Prediction;
use tokio::sync::oneshot;

use crate::body::{Budget, Lease};
use crate::error::BoxError;
use crate::metrics::Metrics;
use crate::models::{Loaded, Slot};
use crate::options::ServeOptions;
use crate::queue::{Input, Outcome, Queue, Rules};
use crate::refusal::Refusal;

/// The one version of each model.
pub(crate) const VERSION: &str = "1";

/// What all parts of a server share.
pub(crate) struct State {
    pub options: ServeOptions,
    pub slots: Vec<Slot>,
    pub queue: Queue,
    pub metrics: Metrics,
    pub budget: Arc<Budget>,
    /// Every model has answered once, and the server has not been told to stop.
    ready: AtomicBool,
    /// It has been told to stop.
    leaving: AtomicBool,
}

/// The answer that a picture waits for.
pub(crate) struct Waiting(Vec<oneshot::Receiver<Outcome>>);

impl Waiting {
    /// Of each picture, in order.
    pub async fn outcomes(self) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(self.0.len());
        for receiver in self.0 {
            // A ticket that was dropped without an answer is a bug, and still an answer.
            outcomes.push(receiver.await.unwrap_or(Err(Refusal::Internal)));
        }
        outcomes
    }

    /// As [`outcomes`](Self::outcomes), for a thread.
    pub fn blocking_outcomes(self) -> Vec<Outcome> {
        let wait = |receiver: oneshot::Receiver<Outcome>| receiver.blocking_recv();
        self.0.into_iter().map(|receiver| wait(receiver).unwrap_or(Err(Refusal::Internal))).collect()
    }
}

impl State {
    pub fn new(options: ServeOptions, slots: Vec<Slot>) -> Result<Self, BoxError> {
        let rules = Rules {
            limit: options.queue.max(options.limits.pictures),
            max_batch: options.max_batch.max(1),
            max_delay: options.max_delay,
            threads: options.threads.max(1),
        };
        Ok(Self {
            queue: Queue::new(slots.len(), rules),
            metrics: Metrics::new()?,
            budget: Budget::new(options.limits.all_body_bytes),
            ready: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            options,
            slots,
        })
    }

    /// The model that a client asks for, and its place.
    ///
    /// # Errors
    ///
    /// [`Refusal::NoModel`], [`Refusal::Loading`].
    pub fn model(&self, name: &str, version: Option<&str>) -> Result<(usize, Arc<Loaded>), Refusal> {
        let slot = self.slots.iter().position(|slot| slot.name().eq_ignore_ascii_case(name));
        let known = version.is_none_or(|version| version.is_empty() || version == VERSION);
        let slot = slot.filter(|_| known).ok_or(Refusal::NoModel)?;
        Ok((slot, self.slots[slot].current().ok_or(Refusal::Loading)?))
    }

    /// Puts pictures in the queue.
    ///
    /// # Errors
    ///
    /// [`Refusal::Busy`], [`Refusal::TooLarge`].
    pub fn submit(
        &self,
        slot: usize,
        model: &Arc<Loaded>,
        inputs: Vec<Input>,
        lease: Option<&Arc<Lease>>,
    ) -> Result<Waiting, Refusal> {
        let limit = self.options.limits.pictures;
        if inputs.len() > limit {
            return Err(Refusal::TooLarge { limit, what: "pictures" });
        }
        let (name, count) = (self.slots[slot].name(), inputs.len());
        let waiting = self.queue.admit(slot, model, inputs, lease);
        if waiting.is_err() {
            self.metrics.pictures(name, "refused", count);
        }
        self.metrics.waiting(name, self.queue.waiting(slot));
        waiting.map(Waiting)
    }

    /// Loads the model at `slot` and has it answer once, before it is there for clients.
    pub fn load(&self, slot: usize) -> Result<(), BoxError> {
        self.slots[slot].load(|loaded| {
            let image = vec![0.0; loaded.classifier.runner().image_len()];
            let waiting = self.submit(slot, loaded, vec![Input::Pixels(image)], None)?;
            let first: Result<Vec<Prediction>, Refusal> = waiting.blocking_outcomes().into_iter().collect();
            first.map(drop).map_err(Into::into)
        })
    }

    /// Loads the model at `slot` again. The one before it stays if the new one cannot be used.
    pub fn reload(&self, slot: usize) -> Result<(), BoxError> {
        let (start, name) = (Instant::now(), self.slots[slot].name());
        let result = self.load(slot);
        self.metrics.reload(name, if result.is_ok() { "loaded" } else { "failed" });
        match &result {
            Ok(()) => tracing::info!(
                model = name,
                seconds = start.elapsed().as_secs_f64(),
                "a model was loaded again"
            ),
            Err(error) => {
                tracing::error!(model = name, error, "a model was not loaded again; the one before it stays")
            }
        }
        result
    }

    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
        self.metrics.ready(true);
    }

    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
        self.ready.store(false, Ordering::Relaxed);
        self.metrics.ready(false);
    }

    /// Whether every model has answered, and the server is to stay.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// Whether the server has been told to stop.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }
}
