//! The threads that decode pictures, and those that compute.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use inception::data::{DecodeOptions, decode_with};
use inception::{Prediction, Runner};

use crate::metrics::Stage;
use crate::models::Loaded;
use crate::queue::{Ready, Ticket, Work};
use crate::refusal::Refusal;
use crate::state::State;

/// The threads of a server that compute.
pub(crate) struct Workers(Vec<JoinHandle<()>>);

impl Workers {
    /// Starts them.
    pub fn start(state: &Arc<State>) -> io::Result<Self> {
        let mut threads = Vec::new();
        let mut spawn = |name: String, work: fn(&State)| {
            let state = state.clone();
            let thread = thread::Builder::new().name(name).spawn(move || work(&state));
            thread.map(|thread| threads.push(thread))
        };
        let started = (0..state.options.decoders.max(1))
            .try_for_each(|number| spawn(format!("decode-{number}"), decode_pictures))
            .and_then(|()| {
                (0..state.options.threads.max(1))
                    .try_for_each(|number| spawn(format!("compute-{number}"), compute_pictures))
            });
        if let Err(error) = started {
            state.queue.stop();
            return Err(error);
        }
        Ok(Self(threads))
    }

    /// Waits for what was admitted to be answered. The queue must have been stopped.
    pub fn join(self) {
        for thread in self.0 {
            // A worker catches the panics of its work.
            let _ = thread.join();
        }
    }
}

/// The life of a decoder.
fn decode_pictures(state: &State) {
    while let Some((ticket, bytes)) = state.queue.next_picture() {
        let name = state.slots[ticket.slot].name();
        state.metrics.stage(name, Stage::Queue, ticket.since.elapsed());
        let start = Instant::now();
        let model = ticket.model.clone();
        let pixels = catch_unwind(AssertUnwindSafe(|| pixels(&model, &bytes, state.options.limits.pixels)));
        let pixels = pixels.unwrap_or_else(|_| {
            tracing::error!(model = name, bytes = bytes.len(), "a decoder panicked");
            Err(Refusal::Internal)
        });
        drop(bytes);
        state.metrics.stage(name, Stage::Decode, start.elapsed());
        if pixels.is_err() {
            state.metrics.pictures(name, "invalid", 1);
        }
        state.queue.decoded(ticket, pixels);
    }
}

/// A picture as the network takes it.
fn pixels(model: &Loaded, bytes: &[u8], max_pixels: u64) -> Result<Vec<f32>, Refusal> {
    let preprocessing = model.classifier.preprocessing();
    let mut options = DecodeOptions::from(preprocessing);
    options.max_pixels = max_pixels;
    let mut pixels = vec![0.0; preprocessing.output_len()];
    let decoded = decode_with(bytes, &options).and_then(|picture| preprocessing.apply(&picture, &mut pixels));
    match decoded {
        Ok(()) => Ok(pixels),
        // Errors of bytes, not of files, so that no path is in them.
        Err(error) => Err(Refusal::invalid(format!("the picture cannot be used: {error}"))),
    }
}

/// The life of a thread that computes.
fn compute_pictures(state: &State) {
    while let Some(work) = state.queue.next_work() {
        match work {
            Work::Alone(ready, at_once) => {
                compute(state, vec![ready], at_once, |runner, pictures| runner.run_here(&pictures[0]));
            }
            Work::Together(batch) => {
                let at_once = batch.len();
                compute(state, batch, at_once, |runner, pictures| match pictures {
                    [one] => runner.run(one, 1),
                    several => runner.run(&several.concat(), several.len()),
                });
            }
        }
    }
}

/// Answers pictures of one network, by `run`, while `at_once` pictures are computed.
fn compute(
    state: &State,
    batch: Vec<Ready>,
    at_once: usize,
    run: impl Fn(&Runner, &[Vec<f32>]) -> Result<Vec<f32>, inception::Error>,
) {
    let Some(first) = batch.first() else { return };
    let (slot, model) = (first.ticket.slot, first.ticket.model.clone());
    let name = state.slots[slot].name();
    let (tickets, pictures): (Vec<Ticket>, Vec<Vec<f32>>) =
        batch.into_iter().map(|ready| (ready.ticket, ready.pixels)).unzip();
    for ticket in &tickets {
        state.metrics.stage(name, Stage::Batch, ticket.since.elapsed());
    }
    let start = Instant::now();
    let logits = catch_unwind(AssertUnwindSafe(|| run(model.classifier.runner(), &pictures)));
    let time = start.elapsed();
    state.queue.done(slot, time / u32::try_from(at_once.max(1)).unwrap_or(u32::MAX));
    state.metrics.stage(name, Stage::Compute, time);
    state.metrics.batch(name, at_once);
    state.metrics.waiting(name, state.queue.waiting(slot));
    match logits {
        Ok(Ok(logits)) => {
            let each = logits.len() / tickets.len();
            for (ticket, logits) in tickets.into_iter().zip(logits.chunks_exact(each)) {
                let outcome = Prediction::new(logits.to_vec());
                let counted = if outcome.is_ok() { "answered" } else { "invalid" };
                state.metrics.pictures(name, counted, 1);
                ticket.answer(outcome.map_err(|error| Refusal::invalid(error.to_string())));
            }
        }
        failed => {
            let reason =
                failed.map_or_else(|_| "the engine panicked".to_owned(), |error| format!("{error:?}"));
            tracing::error!(model = name, batch = tickets.len(), reason, "a batch failed");
            state.metrics.pictures(name, "failed", tickets.len());
            tickets.into_iter().for_each(|ticket| ticket.answer(Err(Refusal::Internal)));
        }
    }
}
