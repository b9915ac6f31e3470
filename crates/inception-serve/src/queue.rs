//! What waits to be decoded, and what waits for the engine.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use inception::Prediction;
use tokio::sync::oneshot;

use crate::body::Lease;
use crate::models::Loaded;
use crate::refusal::Refusal;

/// What the network is asked about.
pub(crate) enum Input {
    /// An encoded picture.
    Picture(Bytes),
    /// A normalised image, `[3, height, width]`.
    Pixels(Vec<f32>),
}

/// What a picture comes to.
pub(crate) type Outcome = Result<Prediction, Refusal>;

/// Who waits for a picture, and for which network.
pub(crate) struct Ticket {
    /// The model's place among all.
    pub slot: usize,
    /// The network that it was admitted for.
    pub model: Arc<Loaded>,
    /// When it came to where it is.
    pub since: Instant,
    reply: oneshot::Sender<Outcome>,
    /// The memory of its bytes.
    _lease: Option<Arc<Lease>>,
}

impl Ticket {
    /// Answers; nothing happens where nobody waits any more.
    pub fn answer(self, outcome: Outcome) {
        let _ = self.reply.send(outcome);
    }
}

/// A picture that is ready for the network.
pub(crate) struct Ready {
    pub ticket: Ticket,
    pub pixels: Vec<f32>,
}

/// What is there of one model.
#[derive(Default)]
struct Lane {
    ready: VecDeque<Ready>,
    /// Pictures that wait to be decoded, or are being decoded.
    coming: usize,
    /// Seconds of the engine for a picture, lately.
    seconds: f64,
}

impl Lane {
    fn waiting(&self) -> usize {
        self.ready.len() + self.coming
    }
}

#[derive(Default)]
struct State {
    pictures: VecDeque<(Ticket, Bytes)>,
    lanes: Vec<Lane>,
    stopped: bool,
}

impl State {
    /// Pictures that the engine can take.
    fn ready(&self) -> usize {
        self.lanes.iter().map(|lane| lane.ready.len()).sum()
    }
}

/// How a queue works.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Pictures of a model that may wait.
    pub limit: usize,
    /// Pictures of a batch.
    pub max_batch: usize,
    /// How long a picture waits for others that are coming.
    pub max_delay: Duration,
}

/// The queue of all models.
pub(crate) struct Queue {
    state: Mutex<State>,
    rules: Rules,
    to_decode: Condvar,
    to_compute: Condvar,
}

impl Queue {
    /// A queue for `models` models.
    pub fn new(models: usize, rules: Rules) -> Self {
        let lanes = (0..models).map(|_| Lane::default()).collect();
        let state = Mutex::new(State { lanes, ..State::default() });
        Self { state, rules, to_decode: Condvar::new(), to_compute: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pictures that wait, of the model at `slot`.
    pub fn waiting(&self, slot: usize) -> usize {
        self.lock().lanes[slot].waiting()
    }

    /// Admits all of `inputs`, or none.
    ///
    /// # Errors
    ///
    /// [`Refusal::Busy`].
    pub fn admit(
        &self,
        slot: usize,
        model: &Arc<Loaded>,
        inputs: Vec<Input>,
        lease: Option<&Arc<Lease>>,
    ) -> Result<Vec<oneshot::Receiver<Outcome>>, Refusal> {
        let mut state = self.lock();
        let lane = &state.lanes[slot];
        if state.stopped || lane.waiting() + inputs.len() > self.rules.limit {
            let seconds = (lane.waiting() as f64 * lane.seconds).ceil().clamp(1.0, 60.0) as u64;
            return Err(Refusal::Busy { seconds });
        }
        let since = Instant::now();
        let mut receivers = Vec::with_capacity(inputs.len());
        for input in inputs {
            let (reply, receiver) = oneshot::channel();
            let ticket = Ticket { slot, model: model.clone(), since, reply, _lease: lease.cloned() };
            receivers.push(receiver);
            match input {
                Input::Picture(bytes) => {
                    state.lanes[slot].coming += 1;
                    state.pictures.push_back((ticket, bytes));
                    self.to_decode.notify_one();
                }
                Input::Pixels(pixels) => {
                    state.lanes[slot].ready.push_back(Ready { ticket, pixels });
                    self.to_compute.notify_one();
                }
            }
        }
        Ok(receivers)
    }

    /// Waits for a picture to decode; `None` when the queue has stopped. Decoders are ahead of the engine by
    /// two batches at most, so that what waits is small: encoded.
    pub fn next_picture(&self) -> Option<(Ticket, Bytes)> {
        let mut state = self.lock();
        loop {
            if state.ready() < 2 * self.rules.max_batch {
                match state.pictures.pop_front() {
                    // Its client has left.
                    Some((ticket, _)) if ticket.reply.is_closed() => {
                        state.lanes[ticket.slot].coming -= 1;
                        continue;
                    }
                    Some(picture) => return Some(picture),
                    None if state.stopped => return None,
                    None => {}
                }
            }
            state = self.to_decode.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What became of a picture of [`next_picture`](Self::next_picture).
    pub fn decoded(&self, mut ticket: Ticket, pixels: Result<Vec<f32>, Refusal>) {
        let mut state = self.lock();
        let lane = &mut state.lanes[ticket.slot];
        lane.coming -= 1;
        match pixels {
            Ok(pixels) => {
                ticket.since = Instant::now();
                lane.ready.push_back(Ready { ticket, pixels });
            }
            Err(refusal) => ticket.answer(Err(refusal)),
        }
        // Also where there is none: others may have waited for this one.
        self.to_compute.notify_one();
    }

    /// Waits for a batch, all of one network; `None` when the queue has stopped and is empty.
    pub fn next_batch(&self) -> Option<Vec<Ready>> {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            let stopped = state.stopped;
            let due = |lane: &Lane| {
                let first = &lane.ready.front()?.ticket;
                let alone = lane.coming == 0 || stopped || lane.ready.len() >= self.rules.max_batch;
                let due = if alone { first.since } else { first.since + self.rules.max_delay };
                Some((due, first.since))
            };
            let lanes = state.lanes.iter().enumerate();
            let mut lanes: Vec<_> = lanes.filter_map(|(slot, lane)| Some((slot, due(lane)?))).collect();
            // The oldest of those that wait for nobody.
            lanes.sort_by_key(|(_, (due, since))| (*due > now, *since));
            match lanes.first() {
                Some(&(slot, (due, _))) if due <= now => {
                    if let Some(batch) = self.take(&mut state.lanes[slot]) {
                        self.to_decode.notify_all();
                        return Some(batch);
                    }
                }
                Some(_) => {
                    let first = lanes.iter().map(|(_, (due, _))| *due).min().unwrap_or(now);
                    let wait = first.saturating_duration_since(now);
                    state =
                        self.to_compute.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
                }
                None if stopped && state.lanes.iter().all(|lane| lane.coming == 0) => return None,
                None => state = self.to_compute.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// The next pictures of a lane that are for the same network, without those whose clients have left.
    fn take(&self, lane: &mut Lane) -> Option<Vec<Ready>> {
        lane.ready.retain(|ready| !ready.ticket.reply.is_closed());
        let model = lane.ready.front()?.ticket.model.clone();
        let same = lane.ready.iter().take_while(|ready| Arc::ptr_eq(&ready.ticket.model, &model));
        let count = same.take(self.rules.max_batch).count();
        // The engine computes as many pictures as it has threads at once, and what is left over after them.
        // So that is better left for the next batch.
        let threads = model.classifier.runner().compiled().map_or(1, |compiled| compiled.threads().count());
        let whole = count - count % threads;
        Some(lane.ready.drain(..if whole > 0 { whole } else { count }).collect())
    }

    /// The engine computed `pictures` of the model at `slot` in `time`.
    pub fn computed(&self, slot: usize, pictures: usize, time: Duration) {
        let seconds = time.as_secs_f64() / pictures.max(1) as f64;
        let lane = &mut self.lock().lanes[slot];
        lane.seconds = if lane.seconds == 0.0 { seconds } else { 0.9 * lane.seconds + 0.1 * seconds };
    }

    /// Admits nothing any more. What was admitted is computed.
    pub fn stop(&self) {
        self.lock().stopped = true;
        self.to_decode.notify_all();
        self.to_compute.notify_all();
    }
}
