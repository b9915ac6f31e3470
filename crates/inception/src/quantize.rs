//! From pictures to a quantised file.

use std::path::Path;

use burn::tensor::Device;
use inception_data::{Dataset, LoaderOptions, Preprocessing, load};
use inception_engine::graph::Graph;
use inception_engine::{
    Calibrator, Compiled, LayerNoise, Options, Precision as EnginePrecision, RangeMethod, layer_noise,
};
use inception_nn::{ModelSpec, Output, with_storage_device};
use inception_weights::{Dtype, Metadata, save_as};

use crate::calibration::Calibration;
use crate::classifier::{Opened, Weights};
use crate::error::Error;
use crate::eval::tally::Skipped;
use crate::options::RunOptions;

/// Pictures over which the noise of layers is measured.
const LISTENED: usize = 16;

/// How to quantise.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct QuantizeOptions {
    /// How the ranges of tensors are chosen.
    pub method: RangeMethod,
    /// The engine's threads; 0 is one for each core.
    pub threads: usize,
    /// Threads that read pictures.
    pub workers: usize,
}

impl Default for QuantizeOptions {
    fn default() -> Self {
        Self { method: RangeMethod::default(), threads: 0, workers: 1 }
    }
}

/// What quantisation did to a network.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Quantized {
    /// Pictures that were used.
    pub images: usize,
    /// Pictures that could not be used, with the reason.
    pub skipped: Vec<Skipped>,
    /// Signal to noise of each layer over the first pictures, at most 16.
    pub layers: Vec<LayerNoise>,
    /// The share of the pictures for which the quantised network has the first class of `f32`.
    pub agreement: f64,
    /// The largest difference of a logit from that in `f32`, over the largest logit.
    pub error: f64,
    /// Bytes of the file.
    pub bytes: u64,
    /// What a user should know of the weights.
    pub warnings: Vec<String>,
}

/// The calibration pictures, and how they are read.
struct Pictures<'a> {
    dataset: &'a Dataset,
    preprocessing: Preprocessing,
    workers: usize,
}

impl Pictures<'_> {
    /// Gives each picture that can be used to `take`, `[3, crop, crop]`; returns those that cannot, with the
    /// reason.
    fn each(&self, mut take: impl FnMut(Vec<f32>) -> Result<(), Error>) -> Result<Vec<Skipped>, Error> {
        let mut skipped = Vec::new();
        // One by one: the network is at work on one while the next ones are read.
        let workers = self.workers.max(1);
        let loader = LoaderOptions { batch: 1, workers, prefetch: 2 * workers };
        load(self.dataset, &self.preprocessing, &loader, 0..self.dataset.len(), |batch, _| {
            match batch.skipped.first() {
                Some((index, error)) => {
                    skipped.push(Skipped::new(&self.dataset.items()[*index].path, error));
                    Ok(())
                }
                None => take(batch.input),
            }
        })?;
        Ok(skipped)
    }
}

/// Calibrates the network of `spec` on the pictures of `dataset` and writes it to `to`, a `.safetensors` file:
/// weights of convolutions in `i8`, the others in `f32`, scales and zero points in the metadata. `change` makes
/// the preprocessing of what the weights ask for. `done` is told how many pictures were seen, each of them
/// twice: to calibrate, and to compare with `f32`.
///
/// # Errors
///
/// Those of reading and of fitting the weights; [`Error::Quantized`]; [`Error::NoPictures`] where none can be
/// used; those of writing.
pub fn quantize(
    spec: &'static ModelSpec,
    weights: &Weights,
    dataset: &Dataset,
    to: &Path,
    options: &QuantizeOptions,
    change: impl FnOnce(&Preprocessing) -> Preprocessing,
    mut done: impl FnMut(usize),
) -> Result<Quantized, Error> {
    let mut opened = Opened::new(spec, weights)?;
    opened.check_unquantized()?;
    let own = opened.recipe(spec)?;
    let preprocessing = change(&own.preprocessing);
    let side = preprocessing.crop as usize;
    let init = |device: &Device| Ok::<_, Error>(opened.network(spec, device)?.0);
    let forward = |network: &inception_nn::Network, images| network.forward_output(images, &Output::Logits);
    let graph = inception_engine::capture_init(init, forward, [3, side, side])?;
    let engine = RunOptions { threads: options.threads, ..RunOptions::default() }.engine()?;
    let pictures = Pictures { dataset, preprocessing, workers: options.workers };

    let mut calibrator = Calibrator::new(&graph, &engine)?;
    let mut first = Vec::new();
    let skipped = pictures.each(|image| {
        calibrator.add(&image)?;
        done(calibrator.images());
        if first.len() < LISTENED {
            first.push(image);
        }
        Ok(())
    })?;
    let images = calibrator.images();
    if images == 0 {
        return Err(Error::NoPictures);
    }
    let calibration = Calibration::new(calibrator.finish(options.method));
    let engine = Options { quantization: Some(calibration.quantization()), ..engine };
    let layers = layer_noise(&graph, &engine, first.iter().map(|image| &image[..]))?;
    let (agreement, error) = compare(graph, &engine, &pictures, |seen| done(images + seen))?;

    let metadata = opened.metadata().cloned().unwrap_or_else(|| Metadata::of(spec));
    let recipe = serde_json::to_string(&preprocessing)
        .map_err(|source| Error::Metadata { key: Metadata::PREPROCESSING, source })?;
    let metadata =
        metadata.with(Metadata::PREPROCESSING, recipe).with(Metadata::QUANTIZATION, calibration.to_json()?);
    with_storage_device(|device| {
        let (network, ..) = opened.network(spec, device)?;
        Ok::<_, Error>(save_as(&network, &metadata.clone().with_head(&network), &Dtype::I8, to)?)
    })?;
    let bytes = std::fs::metadata(to).map(|file| file.len()).unwrap_or_default();
    let mut warnings = opened.warnings;
    warnings.extend(own.notes);
    warnings.dedup();
    Ok(Quantized { images, skipped, layers, agreement, error, bytes, warnings })
}

/// The class with the largest logit.
fn first_class(logits: &[f32]) -> Option<usize> {
    logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(class, _)| class)
}

/// The share of pictures with the same first class in `int8` as in `f32`, and the largest difference of logits
/// over the largest logit.
fn compare(
    graph: Graph,
    engine: &Options,
    pictures: &Pictures<'_>,
    mut done: impl FnMut(usize),
) -> Result<(f64, f64), Error> {
    let exact = Compiled::from_graph(graph.clone(), engine)?;
    let rounded =
        Compiled::from_graph(graph, &Options { precision: EnginePrecision::Int8, ..engine.clone() })?;
    let (mut images, mut agreeing, mut difference, mut largest) = (0, 0, 0.0f64, f64::MIN_POSITIVE);
    pictures.each(|image| {
        let [wanted, found] = [exact.run(&image, 1)?, rounded.run(&image, 1)?];
        images += 1;
        agreeing += usize::from(first_class(&wanted) == first_class(&found));
        for (wanted, found) in wanted.iter().zip(&found) {
            difference = difference.max(f64::from((wanted - found).abs()));
            largest = largest.max(f64::from(wanted.abs()));
        }
        done(images);
        Ok(())
    })?;
    Ok((f64::from(agreeing as u32) / f64::from(images.max(1) as u32), difference / largest))
}
