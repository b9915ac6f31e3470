//! The features of labelled pictures, computed once and kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use inception::data::Dataset;
use inception::nn::fnv1a;
use inception::{
    ExtractOptions, ExtractProgress, FeatureBatch, FeatureExtractor, FeatureSettings, FeatureState,
    Preparation, Skipped, dataset_version, extract,
};

use crate::error::Error;
use crate::labels::Labels;
use crate::pictures::{Form, Pictures, Reader};
use crate::recipe::Recipe;
use crate::views::{ViewSettings, ViewStore};

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

/// How features of changed pictures are computed and kept.
#[derive(Clone, Copy, Debug)]
pub struct ViewOptions<'a> {
    /// What identifies the weights, as [`inception::Weights::identity`] has it.
    pub weights: &'a str,
    /// Where and how the network runs, as [`inception::RunOptions::description`] has it.
    pub device: &'a str,
    /// How pictures are changed, how many views of each there are, and the seed of all that is drawn.
    pub recipe: &'a Recipe,
    /// Threads that read, decode and resize.
    pub workers: usize,
    /// Pictures that are computed together.
    pub batch: usize,
    /// The folder in which features are kept.
    pub cache: &'a Path,
    /// Set by someone to end the extraction.
    pub stop: &'a AtomicBool,
}

/// Of each of the recipe's views the features of the pictures `items` of `dataset`, in their order: those that the
/// cache has, and the others, which are kept there. `progress` is told how many were computed now, how many are done,
/// and how many there are.
///
/// # Errors
///
/// [`Error::Interrupted`]; [`Error::Inception`] for a picture that cannot be used any more, a cache that cannot be
/// read or written, and what the network gives.
pub fn extract_views(
    extractor: &FeatureExtractor,
    dataset: &Dataset,
    items: &[usize],
    options: &ViewOptions<'_>,
    mut progress: impl FnMut(u64, u64, u64),
) -> Result<(Vec<LabelledFeatures>, PathBuf), Error> {
    let &ViewOptions { recipe, batch, .. } = options;
    let Preparation::Classifier(preprocessing) = *extractor.recipe() else {
        let wanted = "the pictures of FID are not changed";
        return Err(Error::Recipe { field: "views", value: recipe.views.to_string(), wanted });
    };
    let settings = ViewSettings {
        model: extractor.spec().name,
        weights: options.weights,
        device: options.device,
        // Bits of a picture may depend on the pictures beside it.
        layer: &format!("pooled, {batch} together of {:016x}", hash_of(items)),
        preprocessing,
        augment: recipe.augment,
        seed: recipe.seed,
        dataset: dataset_version(dataset),
        pictures: dataset.len(),
    };
    let dimensions = extractor.dimensions();
    let store = ViewStore::of(options.cache, &settings, dimensions)?;
    let augmentation = recipe.augment.of(&preprocessing);
    let reader = Reader { preprocessing, augmentation, workers: options.workers };
    let (mut computed, mut done) = (0, 0);
    let total = u64::from(recipe.views) * items.len() as u64;
    let mut views = Vec::new();
    for view in 0..recipe.views {
        let mut values = Vec::with_capacity(items.len() * dimensions);
        for chunk in items.chunks(batch) {
            let kept: Option<Vec<_>> =
                chunk.iter().map(|&item| store.read(view, item)).collect::<Result<_, _>>()?;
            match kept {
                Some(kept) => values.extend(kept.concat()),
                None => {
                    let form = Form::View { seed: recipe.seed, view };
                    let Pictures { input, failed, .. } = reader.read(dataset, chunk, form);
                    if let Some((_, error)) = failed.into_iter().next() {
                        return Err(error.into());
                    }
                    let found = extractor.runner().run(&input, chunk.len())?;
                    for (&item, row) in chunk.iter().zip(found.chunks_exact(dimensions)) {
                        store.write(view, item, row)?;
                    }
                    values.extend(found);
                    computed += chunk.len() as u64;
                }
            }
            done += chunk.len() as u64;
            progress(computed, done, total);
            if options.stop.load(Ordering::Relaxed) {
                return Err(Error::Interrupted { pictures: done, cache: store.path().to_owned() });
            }
        }
        let labels = Labels::of(dataset, items.iter().copied());
        views.push(LabelledFeatures {
            items: items.to_vec(),
            ..LabelledFeatures::new(dimensions, values, labels)
        });
    }
    Ok((views, store.path().to_owned()))
}

fn hash_of(items: &[usize]) -> u64 {
    fnv1a(&items.iter().flat_map(|item| (*item as u64).to_le_bytes()).collect::<Vec<_>>())
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
