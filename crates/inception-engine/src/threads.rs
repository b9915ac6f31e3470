//! A thread pool whose dispatch costs microseconds: workers spin for a while before they sleep.
//!
//! One inference is one job: all threads run the same closure, with a barrier after each level of the plan.
//! That is an order of magnitude cheaper than handing each layer to the pool.
#![allow(unsafe_code)] // A job is borrowed while `run` blocks, which the type system cannot express.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Turns of the wait loop before a worker gives up its core (about 50 microseconds), and before a thread at a
/// barrier starts to yield.
const SPINS: usize = 20_000;

type Job = dyn Fn(&Worker<'_>) + Sync;

/// A job's address, sent to the workers.
#[derive(Clone, Copy)]
struct JobPointer(*const Job);

// SAFETY: the closure behind the pointer is `Sync`, and `Threads::run` keeps it alive until every worker is
// done with it.
unsafe impl Send for JobPointer {}

#[derive(Default)]
struct Shared {
    /// Number of jobs handed out so far; a worker starts when it changes.
    epoch: AtomicUsize,
    /// The job of the current epoch.
    job: Mutex<Option<JobPointer>>,
    /// Threads of the pool, the caller included.
    threads: AtomicUsize,
    /// Workers still inside the current job.
    busy: AtomicUsize,
    /// Workers asleep on `wake`.
    asleep: AtomicUsize,
    wake: Condvar,
    stop: AtomicBool,
    /// A thread panicked in the current job: nobody waits for it at a barrier.
    panicked: AtomicBool,
    barrier_arrived: AtomicUsize,
    barrier_generation: AtomicUsize,
}

/// A thread's place in a job.
pub(crate) struct Worker<'a> {
    /// 0 is the thread that called `run`.
    pub index: usize,
    threads: usize,
    shared: &'a Shared,
}

impl Worker<'_> {
    /// Waits until every thread of the job has come here. What they wrote before is visible afterwards.
    pub fn barrier(&self) {
        if self.threads == 1 {
            return;
        }
        let shared = self.shared;
        let generation = shared.barrier_generation.load(Ordering::Acquire);
        if shared.barrier_arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.threads {
            shared.barrier_arrived.store(0, Ordering::Relaxed);
            shared.barrier_generation.store(generation.wrapping_add(1), Ordering::Release);
            return;
        }
        let mut turns = 0;
        while shared.barrier_generation.load(Ordering::Acquire) == generation {
            assert!(!shared.panicked.load(Ordering::Relaxed), "another thread of the job panicked");
            pause(&mut turns);
        }
    }
}

/// One turn of a wait loop: spin at first, then let others have the core.
fn pause(turns: &mut usize) {
    *turns += 1;
    if *turns < SPINS {
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The data behind our locks is valid at every moment, so a panic elsewhere does not spoil it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A set of threads that any number of compiled models can share. Jobs run one after the other.
pub struct Threads {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    turn: Mutex<()>,
}

impl std::fmt::Debug for Threads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Threads").field("count", &self.count()).finish_non_exhaustive()
    }
}

impl Threads {
    /// Starts a pool of `count` threads, the caller of a run counted as one; 0 means one for each core.
    ///
    /// If the system refuses a thread, the pool has those that it got.
    pub fn new(count: usize) -> Arc<Threads> {
        Threads::starting(count, |_| {})
    }

    /// As [`Threads::new`], with a call of `start` by each worker before anything else, for example to pin
    /// itself to a core. `start` gets the worker's number, from 1; 0 is the caller, which does not call it.
    pub fn starting(count: usize, start: impl Fn(usize) + Clone + Send + 'static) -> Arc<Threads> {
        let cores = || std::thread::available_parallelism().map_or(1, |n| n.get());
        let count = if count == 0 { cores() } else { count };
        let shared = Arc::new(Shared::default());
        let mut workers = Vec::new();
        for index in 1..count {
            let (shared, start) = (shared.clone(), start.clone());
            let builder = std::thread::Builder::new().name(format!("inception-{index}"));
            // A worker learns the number of threads from each job, so a refused one just shrinks the pool.
            match builder.spawn(move || {
                start(index);
                work(index, &shared);
            }) {
                Ok(handle) => workers.push(handle),
                Err(_) => break,
            }
        }
        Arc::new(Threads { shared, workers, turn: Mutex::new(()) })
    }

    /// Number of threads, the caller included.
    pub fn count(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `job` on every thread and returns when all are done. Panics if one of them does.
    pub(crate) fn run(&self, job: &(dyn Fn(&Worker<'_>) + Sync)) {
        let _turn = lock(&self.turn);
        let shared = &*self.shared;
        let threads = self.count();
        let me = Worker { index: 0, threads, shared };
        if threads == 1 {
            return job(&me);
        }
        // The lifetime is erased here. The pointer is dead after this function, which does not return (or
        // unwind) before `busy` is zero, that is, before every worker has left the job. SAFETY: a fat pointer
        // to a fat pointer; only the lifetime bound of the trait object changes.
        let pointer = JobPointer(unsafe {
            std::mem::transmute::<*const (dyn Fn(&Worker<'_>) + Sync + '_), *const Job>(job)
        });
        *lock(&shared.job) = Some(pointer);
        shared.panicked.store(false, Ordering::Relaxed);
        shared.barrier_arrived.store(0, Ordering::Relaxed);
        shared.threads.store(threads, Ordering::Relaxed);
        shared.busy.store(threads - 1, Ordering::Relaxed);
        shared.epoch.fetch_add(1, Ordering::SeqCst);
        if shared.asleep.load(Ordering::SeqCst) > 0 {
            // Taking the lock closes the gap between a worker's last look at the epoch and its sleep.
            drop(lock(&shared.job));
            shared.wake.notify_all();
        }
        let result = catch_unwind(AssertUnwindSafe(|| job(&me)));
        if result.is_err() {
            shared.panicked.store(true, Ordering::Relaxed);
        }
        let mut turns = 0;
        while shared.busy.load(Ordering::Acquire) > 0 {
            pause(&mut turns);
        }
        if let Err(panic) = result {
            resume_unwind(panic);
        }
        assert!(!shared.panicked.load(Ordering::Relaxed), "a worker thread panicked");
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.epoch.fetch_add(1, Ordering::SeqCst);
        drop(lock(&self.shared.job));
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches its job's panics, so there is nothing to learn from the result.
            let _ = worker.join();
        }
    }
}

/// A worker's life.
fn work(index: usize, shared: &Shared) {
    let mut seen = 0;
    loop {
        let mut turns = 0;
        while shared.epoch.load(Ordering::Acquire) == seen && turns < SPINS {
            turns += 1;
            std::hint::spin_loop();
        }
        let mut job = lock(&shared.job);
        shared.asleep.fetch_add(1, Ordering::SeqCst);
        while shared.epoch.load(Ordering::SeqCst) == seen {
            job = shared.wake.wait(job).unwrap_or_else(PoisonError::into_inner);
        }
        shared.asleep.fetch_sub(1, Ordering::SeqCst);
        let pointer = *job;
        drop(job);
        seen = shared.epoch.load(Ordering::SeqCst);
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        let Some(JobPointer(pointer)) = pointer else {
            continue;
        };
        let threads = shared.threads.load(Ordering::Relaxed);
        let worker = Worker { index, threads, shared };
        // SAFETY: `run` keeps the job alive until this worker has decremented `busy`.
        let job = unsafe { &*pointer };
        if catch_unwind(AssertUnwindSafe(|| job(&worker))).is_err() {
            shared.panicked.store(true, Ordering::Relaxed);
        }
        shared.busy.fetch_sub(1, Ordering::Release);
    }
}
