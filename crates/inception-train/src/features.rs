//! The features of labelled pictures, computed once and kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use inception::data::Dataset;
use inception::nn::fnv1a;
use inception::{
    ExtractOptions, ExtractProgress, FeatureBatch, FeatureExtractor, FeatureSettings, FeatureState, Skipped,
    dataset_version, extract,
};

use crate::error::Error;
use crate::labels::Labels;

/// The features of the pictures of a dataset that could be used, in its order.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct LabelledFeatures {
    /// Features of a picture.
    pub dimensions: usize,
    /// The features, `[pictures, dimensions]` row-major.
    pub values: Vec<f32>,
    /// The class of each picture, or its classes.
    pub labels: Labels,
    /// The number of each picture in the dataset.
    pub items: Vec<usize>,
    /// Pictures that could not be used.
    pub skipped: Vec<Skipped>,
    /// Pictures whose features were computed now, and not found.
    pub computed: u64,
}

impl LabelledFeatures {
    /// Of these features and classes, of pictures that are numbered from 0.
    pub fn new(dimensions: usize, values: Vec<f32>, labels: impl Into<Labels>) -> Self {
        let labels = labels.into();
        let items = (0..labels.len()).collect();
        Self { dimensions, values, labels, items, ..Self::default() }
    }

    /// The features of a picture.
    pub fn row(&self, picture: usize) -> &[f32] {
        &self.values[picture * self.dimensions..][..self.dimensions]
    }
}

/// How features are computed and kept.
#[derive(Clone, Copy, Debug)]
pub struct FeatureOptions<'a> {
    /// What identifies the weights, as [`inception::Weights::identity`] has it.
    pub weights: &'a str,
    /// Where and how the network runs, as [`inception::RunOptions::description`] has it.
    pub device: &'a str,
    /// How pictures are read.
    pub extract: ExtractOptions,
    /// The folder in which features are kept, each file under a name that follows from all that they depend
    /// on.
    pub cache: &'a Path,
    /// Set by someone to end the extraction.
    pub stop: &'a AtomicBool,
}

/// Bytes of memory that the features of `pictures` take.
pub fn feature_bytes(pictures: usize, dimensions: usize) -> u64 {
    pictures as u64 * dimensions as u64 * size_of::<f32>() as u64
}

/// The features of `dataset`: those that the cache has, and the others, which are kept there batch by batch.
/// An extraction that was killed goes on.
///
/// What is kept is found by the network, its weights and device, what is done to a picture, and the names,
/// classes, lengths and times of change of the files of the dataset.
///
/// # Errors
///
/// [`Error::Interrupted`]; [`Error::Inception`] for too many pictures that cannot be used, a cache that
/// cannot be read or written or that another process is filling, and what the network gives.
pub fn extract_features(
    extractor: &FeatureExtractor,
    dataset: &Arc<Dataset>,
    options: &FeatureOptions<'_>,
    progress: impl FnMut(ExtractProgress<'_>),
) -> Result<(LabelledFeatures, PathBuf), Error> {
    let settings = FeatureSettings {
        model: extractor.spec().name.to_owned(),
        weights: options.weights.to_owned(),
        device: options.device.to_owned(),
        layer: "pooled".to_owned(),
        recipe: *extractor.recipe(),
        dataset: dataset_version(dataset),
        pictures: dataset.len(),
        dimensions: extractor.dimensions(),
        batch: options.extract.loader.batch,
    };
    let path = options.cache.join(file_name(&settings));
    fs::create_dir_all(options.cache).map_err(|source| inception::Error::State {
        path: options.cache.to_owned(),
        problem: inception::StateProblem::Io { source },
    })?;
    let mut state = FeatureState::open(&path, &settings, options.extract.shard)?;
    let dimensions = settings.dimensions;
    let mut found = LabelledFeatures { dimensions, ..LabelledFeatures::default() };
    found.values.reserve_exact(dataset.len() * dimensions);
    // One process after another fills the file from its start, so that its batches are in order.
    let mut order = Vec::new();
    let consume = |batch: &FeatureBatch| {
        order.extend_from_slice(&batch.pictures);
        found.values.extend_from_slice(&batch.features);
        match options.stop.load(Ordering::Relaxed) {
            true => Err(Error::Interrupted { pictures: order.len() as u64, cache: path.clone() }),
            false => Ok(()),
        }
    };
    let extraction = extract(extractor, dataset, &options.extract, Some(&mut state), consume, progress)?;
    found.labels = Labels::of(dataset, order.iter().copied());
    (found.items, found.skipped, found.computed) = (order, extraction.skipped, extraction.computed);
    Ok((found, path))
}

/// The name of the file that holds the features of these settings: two hashes of all of them.
fn file_name(settings: &FeatureSettings) -> String {
    let json = serde_json::to_vec(settings).expect("texts and numbers");
    let twice = [&json[..], b" again"].concat();
    format!("{}-{:016x}{:016x}.features", settings.model, fnv1a(&json), fnv1a(&twice))
}
