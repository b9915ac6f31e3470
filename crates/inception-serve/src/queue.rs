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

/// What a thread is to compute.
pub(crate) enum Work {
    /// A picture, by the thread that takes it, while others compute theirs. With how many it does.
    Alone(Ready, usize),
    /// Pictures of one network, by all threads of the engine, or by another device.
    Together(Vec<Ready>),
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

/// What is being computed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Running {
    /// So many pictures, each by a thread of its own.
    Alone(usize),
    /// Pictures together.
    Together,
}

struct State {
    pictures: VecDeque<(Ticket, Bytes)>,
    lanes: Vec<Lane>,
    running: Running,
    stopped: bool,
}

impl State {
    /// Pictures that can be computed.
    fn ready(&self) -> usize {
        self.lanes.iter().map(|lane| lane.ready.len()).sum()
    }

    /// Whether nothing will come any more.
    fn is_over(&self) -> bool {
        self.stopped && self.lanes.iter().all(|lane| lane.waiting() == 0)
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
    /// Threads that take work.
    pub threads: usize,
}

/// When a lane's first picture can be computed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    /// Now.
    Alone,
    /// Now.
    Together,
    /// At this time, if nothing else happens before it.
    At(Instant),
    /// After something else has ended.
    Later,
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
        let state = State { pictures: VecDeque::new(), lanes, running: Running::Alone(0), stopped: false };
        Self { state: Mutex::new(state), rules, to_decode: Condvar::new(), to_compute: Condvar::new() }
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
                        // Others may have waited for this one.
                        self.to_compute.notify_one();
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

    /// Waits for something to compute; `None` when the queue has stopped and is empty. Whoever has taken work
    /// says when it is [`done`](Self::done).
    pub fn next_work(&self) -> Option<Work> {
        let mut state = self.lock();
        loop {
            for lane in &mut state.lanes {
                // Their clients have left.
                lane.ready.retain(|ready| !ready.ticket.reply.is_closed());
            }
            if state.is_over() {
                self.to_compute.notify_all();
                return None;
            }
            let now = Instant::now();
            let lanes = (0..state.lanes.len()).filter_map(|slot| {
                let first = state.lanes[slot].ready.front()?;
                Some((self.next_of(&state, slot, first, now), first.ticket.since, slot))
            });
            // The oldest of those that need not wait.
            let next = lanes.min_by_key(|&(next, since, _)| match next {
                Next::Alone | Next::Together => (Next::Alone, since),
                waits => (waits, since),
            });
            state = match next {
                Some((Next::Alone, _, slot)) => match self.take_one(&mut state, slot) {
                    None => state,
                    work => return work,
                },
                Some((Next::Together, _, slot)) => return Some(self.take_batch(&mut state, slot)),
                Some((Next::At(time), ..)) => {
                    let wait = time.saturating_duration_since(now);
                    self.to_compute.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0
                }
                Some((Next::Later, ..)) | None => {
                    self.to_compute.wait(state).unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
    }

    /// When the first picture of a lane can be computed, and how. Where there are as many pictures as the
    /// engine has threads, each thread computes one of its own, and none waits for another. Fewer go through
    /// all threads together, those that are ready within the delay, and nothing else is computed meanwhile.
    fn next_of(&self, state: &State, slot: usize, first: &Ready, now: Instant) -> Next {
        let threads = first.ticket.model.threads().min(self.rules.threads);
        let running = match state.running {
            Running::Together => return Next::Later,
            Running::Alone(running) => running,
        };
        let waiting: usize = state.lanes.iter().map(Lane::waiting).sum();
        if threads > 0 && waiting + running >= threads {
            return if running < threads { Next::Alone } else { Next::Later };
        }
        if running > 0 {
            return Next::Later;
        }
        let lane = &state.lanes[slot];
        let waits = lane.coming > 0 && !state.stopped && lane.ready.len() < self.rules.max_batch;
        let due = first.ticket.since + if waits { self.rules.max_delay } else { Duration::ZERO };
        if due <= now { Next::Together } else { Next::At(due) }
    }

    /// The first picture of a lane.
    fn take_one(&self, state: &mut State, slot: usize) -> Option<Work> {
        let ready = state.lanes[slot].ready.pop_front()?;
        let beside = if let Running::Alone(running) = state.running { running } else { 0 };
        state.running = Running::Alone(beside + 1);
        if state.ready() > 0 {
            // Another thread may take the next one.
            self.to_compute.notify_one();
        }
        self.to_decode.notify_one();
        Some(Work::Alone(ready, beside + 1))
    }

    /// The first pictures of a lane that are for the same network.
    fn take_batch(&self, state: &mut State, slot: usize) -> Work {
        state.running = Running::Together;
        let ready = &mut state.lanes[slot].ready;
        let model = ready.front().map(|ready| ready.ticket.model.clone());
        let is_same =
            |ready: &&Ready| model.as_ref().is_some_and(|model| Arc::ptr_eq(&ready.ticket.model, model));
        let count = ready.iter().take_while(is_same).take(self.rules.max_batch).count();
        let batch = ready.drain(..count).collect();
        self.to_decode.notify_all();
        Work::Together(batch)
    }

    /// A thread has computed `pictures` pictures of the model at `slot`, one of which took the engine so
    /// long.
    pub fn done(&self, slot: usize, each: Duration) {
        let mut state = self.lock();
        state.running = match state.running {
            Running::Alone(running) => Running::Alone(running.saturating_sub(1)),
            Running::Together => Running::Alone(0),
        };
        let (lane, seconds) = (&mut state.lanes[slot], each.as_secs_f64());
        lane.seconds = if lane.seconds == 0.0 { seconds } else { 0.9 * lane.seconds + 0.1 * seconds };
        // Who calls this asks for work next, and wakes another thread if there is more.
    }

    /// Admits nothing any more. What was admitted is computed.
    pub fn stop(&self) {
        self.lock().stopped = true;
        self.to_decode.notify_all();
        self.to_compute.notify_all();
    }
}
