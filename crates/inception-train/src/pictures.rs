//! Pictures of a dataset as a network takes them, read by several threads.

use std::sync::{Mutex, PoisonError};
use std::thread;

use inception::data::{
    Augmentation, Dataset, DecodeOptions, Error, MersenneTwister, Preprocessing, decode_with,
};

use crate::draw::{Use, generator};

/// What is done to a picture.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader {
    pub preprocessing: Preprocessing,
    /// What is done instead to a picture for training.
    pub augmentation: Option<Augmentation>,
    /// Threads that read, decode and resize.
    pub workers: usize,
}

/// Which of its forms a picture is wanted in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    /// As for validation.
    Plain,
    /// As it is in an epoch.
    Epoch {
        /// The run's seed.
        seed: u64,
        /// The epoch, from 1.
        epoch: u32,
    },
    /// As it is in a view.
    View {
        /// The run's seed.
        seed: u64,
        /// The view, from 0.
        view: u32,
    },
}

impl Form {
    /// What an augmentation draws from.
    fn random(self, item: usize) -> Option<MersenneTwister> {
        match self {
            Self::Plain => None,
            Self::Epoch { seed, epoch } => Some(generator(seed, Use::Augment, [epoch.into(), item as u64])),
            Self::View { seed, view } => Some(generator(seed, Use::View, [view.into(), item as u64])),
        }
    }
}

/// Pictures that were read.
#[derive(Debug, Default)]
pub(crate) struct Pictures {
    /// Those that can be used, in their order.
    pub items: Vec<usize>,
    /// Their pixels, `[items, 3, crop, crop]`.
    pub input: Vec<f32>,
    /// The others, and why not.
    pub failed: Vec<(usize, Error)>,
}

impl Reader {
    /// The pictures `items` of `dataset`.
    pub fn read(&self, dataset: &Dataset, items: &[usize], form: Form) -> Pictures {
        let len = self.preprocessing.output_len();
        let mut input = vec![0.0; items.len() * len];
        let mut decoding = DecodeOptions::from(&self.preprocessing);
        decoding.accept_truncated = dataset.accepts_truncated();
        let apply = |item: usize, bytes: &[u8], out: &mut [f32]| {
            let image = decode_with(bytes, &decoding)?;
            match (self.augmentation, form.random(item)) {
                (Some(augmentation), Some(mut random)) => augmentation.apply(&image, &mut random, out),
                _ => self.preprocessing.apply(&image, out),
            }
        };
        let jobs = Mutex::new(items.iter().zip(input.chunks_exact_mut(len)));
        let failed = Mutex::new(Vec::new());
        let work = || {
            let mut bytes = Vec::new();
            loop {
                // Nothing in here panics while it holds a lock.
                let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((&item, out)) = job else { return };
                let read = dataset.read_bytes(item, &mut bytes).and_then(|()| apply(item, &bytes, out));
                if let Err(error) = read {
                    failed.lock().unwrap_or_else(PoisonError::into_inner).push((item, error));
                }
            }
        };
        thread::scope(|scope| {
            for _ in 1..self.workers.clamp(1, items.len().max(1)) {
                scope.spawn(work);
            }
            work();
        });
        let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
        if failed.is_empty() {
            return Pictures { items: items.to_vec(), input, failed };
        }
        let is_usable = |item: usize| failed.iter().all(|(failed, _)| *failed != item);
        let usable = items.iter().zip(input.chunks_exact(len)).filter(|(item, _)| is_usable(**item));
        let (items, rows): (Vec<usize>, Vec<&[f32]>) = usable.map(|(&item, row)| (item, row)).unzip();
        let input = rows.concat();
        Pictures { items, input, failed }
    }
}
