//! Batches of features, ahead of which pictures are read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use inception_data::{Batch, Dataset, LoaderOptions, load};

use super::extractor::FeatureExtractor;
use crate::error::Error;
use crate::eval::tally::{Skipped, reason};

/// The features of a batch.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct FeatureBatch {
    /// Number of the batch.
    pub number: usize,
    /// The pictures that have features, by their numbers in the dataset.
    pub pictures: Vec<usize>,
    /// Their features, `[pictures, dimensions]` row-major.
    pub features: Vec<f32>,
    /// Pictures that could not be used, with their number in the dataset.
    pub skipped: Vec<(usize, Skipped)>,
}

/// An iterator of [`FeatureBatch`]es, made by [`FeatureExtractor::batches`]. It ends after an error.
#[derive(Debug)]
pub struct FeatureBatches<'a> {
    extractor: &'a FeatureExtractor,
    dataset: Arc<Dataset>,
    batches: Option<Receiver<Batch>>,
    buffers: SyncSender<Vec<f32>>,
}

impl FeatureExtractor {
    /// The features of the batches `numbers` of `dataset`, in this order. Other threads read and decode the
    /// next pictures while a batch is computed; dropping the iterator ends them.
    pub fn batches(
        &self,
        dataset: &Arc<Dataset>,
        options: LoaderOptions,
        numbers: Vec<usize>,
    ) -> FeatureBatches<'_> {
        FeatureBatches::new(self, dataset.clone(), options, numbers)
    }
}

impl<'a> FeatureBatches<'a> {
    fn new(
        extractor: &'a FeatureExtractor,
        dataset: Arc<Dataset>,
        options: LoaderOptions,
        numbers: Vec<usize>,
    ) -> Self {
        // Nothing waits here: the loader itself has batches waiting.
        let (filled, batches) = sync_channel(0);
        let (buffers, emptied) = sync_channel::<Vec<f32>>(options.prefetch.max(1) + 2);
        let (recipe, pictures) = (*extractor.recipe(), dataset.clone());
        thread::spawn(move || {
            // An error is that nobody takes the batches any more.
            load(&pictures, recipe.prepare(), &options, numbers, |batch, reuse| {
                emptied.try_iter().for_each(reuse);
                filled.send(batch)
            })
        });
        Self { extractor, dataset, batches: Some(batches), buffers }
    }

    fn features(&self, batch: Batch) -> Result<FeatureBatch, Error> {
        let Batch { number, items, input, skipped, .. } = batch;
        let (count, dimensions) = (items.len(), self.extractor.dimensions());
        let image = |index: usize| self.dataset.items()[index].path.to_string_lossy().into_owned();
        let mut reasons: BTreeMap<usize, String> =
            skipped.iter().map(|(index, error)| (*index, reason(error))).collect();
        // A batch without a single picture needs no network.
        let all = match skipped.len() < count {
            true => self.extractor.runner().run(&input, count)?,
            false => vec![0.0; count * dimensions],
        };
        let _ = self.buffers.try_send(input);
        let mut batch = FeatureBatch { number, ..FeatureBatch::default() };
        for (index, features) in items.zip(all.chunks_exact(dimensions)) {
            if let Some(reason) = reasons.remove(&index) {
                batch.skipped.push((index, Skipped { image: image(index), reason }));
                continue;
            }
            if let Some(at) = features.iter().position(|value| !value.is_finite()) {
                return Err(Error::Feature { image: image(index), index: at, value: features[at] });
            }
            batch.pictures.push(index);
            batch.features.extend_from_slice(features);
        }
        Ok(batch)
    }
}

impl Iterator for FeatureBatches<'_> {
    type Item = Result<FeatureBatch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.batches.as_ref()?.recv().ok()?;
        let result = self.features(batch);
        if result.is_err() {
            self.batches = None;
        }
        Some(result)
    }
}
