//! Batches of network input, prefetched by worker threads.

use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::dataset::Dataset;
use crate::error::Error;
use crate::prepare::Prepare;

/// How [`load`] works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoaderOptions {
    /// Images in a batch; the last one may have fewer.
    pub batch: usize,
    /// Threads that read, decode and resize.
    pub workers: usize,
    /// Finished batches that may wait for the network. Memory is `prefetch + 2` batches (one is being filled,
    /// one is at the network), and one decoded image for each worker.
    pub prefetch: usize,
}

/// One batch.
#[derive(Debug)]
#[non_exhaustive]
pub struct Batch {
    /// Number of the batch: its first image is number `number * batch` of the dataset.
    pub number: usize,
    /// The images of the dataset that it holds.
    pub items: Range<usize>,
    /// `[items.len(), 3, crop, crop]`. The part of an image that could not be used is all zeros.
    pub input: Vec<f32>,
    /// Images that could not be used, and why.
    pub skipped: Vec<(usize, Error)>,
}

/// Runs `consume` with the batches `numbers` of `dataset`, in this order, while the next ones are read,
/// decoded and resized by other threads straight into their buffers.
///
/// What a batch holds depends on its number alone, whatever the number of workers. `consume` may give a
/// batch's buffer back through the second argument, so that it is used again; it stops the loading by
/// returning an error.
///
/// # Errors
/// That of `consume`. An image that cannot be used is no error, but in [`Batch::skipped`].
pub fn load<E>(
    dataset: &Dataset,
    preprocessing: &dyn Prepare,
    options: &LoaderOptions,
    numbers: impl IntoIterator<Item = usize> + Send,
    mut consume: impl FnMut(Batch, &mut dyn FnMut(Vec<f32>)) -> Result<(), E>,
) -> Result<(), E> {
    let (filled, batches) = sync_channel(options.prefetch.max(1));
    let (emptied, buffers) = sync_channel(options.prefetch.max(1) + 2);
    thread::scope(|scope| {
        scope.spawn(move || fill_all(dataset, preprocessing, options, numbers, &filled, &buffers));
        // Leaving early closes both channels, which ends the thread.
        for batch in batches {
            consume(batch, &mut |buffer| drop(emptied.try_send(buffer)))?;
        }
        Ok(())
    })
}

fn fill_all(
    dataset: &Dataset,
    preprocessing: &dyn Prepare,
    options: &LoaderOptions,
    numbers: impl IntoIterator<Item = usize>,
    filled: &SyncSender<Batch>,
    buffers: &Receiver<Vec<f32>>,
) {
    for number in numbers {
        let first = number.saturating_mul(options.batch).min(dataset.len());
        let items = first..first.saturating_add(options.batch).min(dataset.len());
        if items.is_empty() {
            continue;
        }
        let mut input = buffers.try_recv().unwrap_or_default();
        input.resize(items.len() * preprocessing.output_len(), 0.0);
        let skipped = fill(dataset, preprocessing, options.workers, items.clone(), &mut input);
        if filled.send(Batch { number, items, input, skipped }).is_err() {
            return;
        }
    }
}

/// Fills one batch, each worker taking the next image that nobody has.
fn fill(
    dataset: &Dataset,
    preprocessing: &dyn Prepare,
    workers: usize,
    items: Range<usize>,
    input: &mut [f32],
) -> Vec<(usize, Error)> {
    let len = preprocessing.output_len();
    let workers = workers.clamp(1, items.len());
    // Without pixels there are no parts to hand out; `apply` says what is wrong.
    let jobs = Mutex::new(items.zip(input.chunks_exact_mut(len.max(1))));
    let skipped = Mutex::new(Vec::new());
    let work = || {
        let mut bytes = Vec::new();
        loop {
            // Nothing in here panics while it holds a lock.
            let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((index, out)) = job else { return };
            let result = dataset.read_bytes(index, &mut bytes).and_then(|()| preprocessing.decode(&bytes));
            if let Err(error) = result.and_then(|image| preprocessing.apply(&image, out)) {
                out.fill(0.0);
                skipped.lock().unwrap_or_else(PoisonError::into_inner).push((index, error));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..workers {
            scope.spawn(work);
        }
        work();
    });
    let mut skipped = skipped.into_inner().unwrap_or_else(PoisonError::into_inner);
    skipped.sort_by_key(|(index, _)| *index);
    skipped
}
