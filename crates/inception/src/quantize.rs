//! From pictures to a quantised file.

use std::collections::BTreeSet;
use std::path::Path;

use inception_data::{Dataset, LoaderOptions, Preprocessing, load};
use inception_engine::graph::Graph;
use inception_engine::{
    Calibrator, Compiled, LayerSqnr, Options, Precision as EnginePrecision, QuantizedGraph, RangeMethod,
    layer_sqnr, quantized_graph,
};
use inception_nn::{ModelSpec, with_storage_device};
use inception_weights::{
    Checkpoint, Metadata, PartFile, QuantizedNetwork, save_quantized, save_quantized_onnx,
};

use crate::calibration::Calibration;
use crate::classifier::{Ends, Opened, Weights};
use crate::error::Error;
use crate::eval::tally::{Differences, Skipped, likeliest};
use crate::layers::{LayerInFloat, Mixed, fewest};
use crate::options::RunOptions;

/// Pictures over which the noise of layers is measured.
const LISTENED: usize = 16;

/// How to quantise.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct QuantizeOptions {
    /// How the ranges of tensors are chosen.
    pub method: RangeMethod,
    /// The largest share of the pictures that may have another first class than in `f32`: the fewest layers that this
    /// needs stay in `f32`. `None` leaves all in `int8`.
    pub max_drop: Option<f64>,
    /// The engine's threads; 0 is one for each core.
    pub threads: usize,
    /// Threads that read pictures.
    pub workers: usize,
}

impl Default for QuantizeOptions {
    fn default() -> Self {
        Self { method: RangeMethod::default(), max_drop: None, threads: 0, workers: 1 }
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
    pub layers: Vec<LayerSqnr>,
    /// The layers that stay in `f32`, that first which would do most harm in `int8`.
    pub floats: Vec<LayerInFloat>,
    /// The share of the pictures for which the quantised network has the first class of `f32`.
    pub agreement: f64,
    /// The largest difference of a logit from that in `f32`, over the largest logit.
    pub error: f64,
    /// Bytes of the file.
    pub bytes: u64,
    /// What a user should know of the weights.
    pub warnings: Vec<String>,
}

/// How far a quantisation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QuantizeProgress {
    /// What it is at.
    pub stage: QuantizeStage,
    /// Pictures that the network has seen in this stage.
    pub done: usize,
    /// Pictures that it will have seen.
    pub total: usize,
}

/// What a quantisation is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum QuantizeStage {
    /// It counts the values of tensors.
    Calibrate,
    /// With a largest drop: it orders layers by what their rounding does, once `int8` alone is not enough.
    Order,
    /// With a largest drop: it compares first classes with a set of layers in `f32`, the set of this number. The first
    /// is all of them, the second none.
    Try(usize),
    /// It compares the result with `f32`.
    Compare,
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

/// Calibrates the network of `spec` on the pictures of `dataset` and writes it to `to`. A `.safetensors` file has
/// weights of layers in `i8`, all else in `f32`, scales and zero points in the metadata; an `.onnx` file is
/// what [`save_quantized_onnx`] makes of it. `change` makes the preprocessing of what the weights ask for.
/// `progress` is told how far it is, after each picture.
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
    mut progress: impl FnMut(QuantizeProgress),
) -> Result<Quantized, Error> {
    // A place that cannot be written is found before anything is computed.
    let unwritable = |source| inception_weights::Error::Io { path: to.to_owned(), source };
    drop(PartFile::create(to).map_err(unwritable)?);
    let mut opened = Opened::new(spec, weights)?;
    opened.check_unquantized()?;
    let own = opened.recipe(spec)?;
    let preprocessing = change(&own.preprocessing);
    preprocessing.check()?;
    let side = preprocessing.crop as usize;
    let (graph, _) = opened.graph(spec, side)?;
    let engine = RunOptions { threads: options.threads, ..RunOptions::default() }.engine()?;
    let pictures = Pictures { dataset, preprocessing, workers: options.workers };

    let mut calibrator = Calibrator::new(&graph, &engine)?;
    let mut first = Vec::new();
    let skipped = pictures.each(|image| {
        calibrator.add(&image)?;
        let done = calibrator.images();
        progress(QuantizeProgress { stage: QuantizeStage::Calibrate, done, total: dataset.len() });
        if first.len() < LISTENED {
            first.push(image);
        }
        Ok(())
    })?;
    let images = calibrator.images();
    if images == 0 {
        return Err(Error::NoPictures);
    }
    let mut quantization = calibrator.finish(options.method);
    let listen = |engine: &Options| layer_sqnr(&graph, engine, first.iter().map(|image| &image[..]));
    let mixed = Mixed { graph: &graph, engine: &engine, quantization: &quantization };
    let mut layers = listen(&mixed.options(&BTreeSet::new()))?;
    let floats = match options.max_drop {
        Some(drop) => in_float(&mixed, &layers, &first, (&pictures, images), 1.0 - drop, &mut progress)?,
        None => Vec::new(),
    };
    quantization.floats = floats.iter().map(|layer| layer.layer.clone()).collect();
    let kept = quantization.floats.clone();
    let calibration = Calibration::new(quantization);
    let engine = Options { quantization: Some(calibration.quantization()), ..engine };
    if !floats.is_empty() {
        layers = listen(&engine)?;
    }
    let (agreement, error) = compare(graph, &engine, &pictures, |done| {
        progress(QuantizeProgress { stage: QuantizeStage::Compare, done, total: images });
    })?;

    let metadata = opened.metadata().cloned().unwrap_or_else(|| Metadata::of(spec));
    let recipe = serde_json::to_string(&preprocessing)
        .map_err(|source| Error::Metadata { key: Metadata::PREPROCESSING, source })?;
    let metadata =
        metadata.with(Metadata::PREPROCESSING, recipe).with(Metadata::QUANTIZATION, calibration.to_json()?);
    if is_onnx(to) {
        let (graph, ends) = opened.graph(spec, side)?;
        write_onnx(spec, graph, &ends, &calibration, &metadata, to)?;
    } else {
        with_storage_device(|device| {
            let (network, ..) = opened.network(spec, device)?;
            let metadata = metadata.clone().with_head(&network);
            Ok::<_, Error>(save_quantized(&network, &metadata, &kept, to)?)
        })?;
    }
    let bytes = std::fs::metadata(to).map(|file| file.len()).unwrap_or_default();
    let mut warnings = opened.warnings;
    warnings.extend(own.notes);
    warnings.dedup();
    Ok(Quantized { images, skipped, layers, floats, agreement, error, bytes, warnings })
}

/// Whether a file's name is that of an ONNX model.
fn is_onnx(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"))
}

fn write_onnx(
    spec: &ModelSpec,
    graph: Graph,
    ends: &Ends,
    calibration: &Calibration,
    metadata: &Metadata,
    to: &Path,
) -> Result<(), Error> {
    let QuantizedGraph { graph, tensors, weights, .. } = quantized_graph(graph, &calibration.quantization())?;
    let pair = |quant: &Option<inception_engine::QuantParams>| quant.map(|q| (q.scale, q.zero_point));
    let tensors: Vec<_> = tensors.iter().map(pair).collect();
    let network = QuantizedNetwork {
        name: spec.name,
        graph: &graph,
        tensors: &tensors,
        weights: &weights,
        classifier_scale: ends.classifier_scale,
    };
    let metadata = ends.metadata.iter().fold(metadata.clone(), |all, (key, value)| all.with(key, value));
    Ok(save_quantized_onnx(&network, &metadata, to)?)
}

/// Writes the network of `spec` with the weights and the scales of a quantised file to `to`, an ONNX model in the form
/// QDQ; see [`save_quantized_onnx`]. The file's metadata is kept; that of `metadata` replaces it key by key. Returns
/// the number of tensors that were written, and what a user should know of the weights.
///
/// # Errors
///
/// Those of reading and of fitting the weights; [`Error::Engine`] for a file that is not quantised; those of writing.
pub fn quantized_to_onnx(
    spec: &'static ModelSpec,
    weights: &Weights,
    to: &Path,
    metadata: &Metadata,
) -> Result<(usize, Vec<String>), Error> {
    let mut opened = Opened::new(spec, weights)?;
    let options = RunOptions { precision: crate::Precision::Int8, ..RunOptions::default() };
    let Some(calibration) = opened.calibrated(spec, &options)?.calibration else {
        return Err(inception_engine::Error::Uncalibrated.into());
    };
    let own = opened.recipe(spec)?;
    let (graph, ends) = opened.graph(spec, own.preprocessing.crop as usize)?;
    let kept = opened.metadata().cloned().unwrap_or_default();
    let metadata = metadata.iter().fold(kept, |all, (key, value)| all.with(key, value));
    write_onnx(spec, graph, &ends, &calibration, &metadata, to)?;
    Ok((Checkpoint::open(to)?.entries.len(), opened.warnings))
}

/// The layers that have to stay in `f32` for the share `wanted` of the pictures to have the same first class as in
/// `f32`.
fn in_float(
    mixed: &Mixed<'_>,
    layers: &[LayerSqnr],
    first: &[Vec<f32>],
    (pictures, images): (&Pictures<'_>, usize),
    wanted: f64,
    progress: &mut dyn FnMut(QuantizeProgress),
) -> Result<Vec<LayerInFloat>, Error> {
    let classes = |engine: &Options, set: usize, progress: &mut dyn FnMut(QuantizeProgress)| {
        let model = Compiled::from_graph(mixed.graph.clone(), engine)?;
        let mut classes = Vec::new();
        pictures.each(|image| {
            classes.push(likeliest(&model.run(&image, 1)?));
            let done = classes.len();
            progress(QuantizeProgress { stage: QuantizeStage::Try(set), done, total: images });
            Ok(())
        })?;
        Ok::<_, Error>(classes)
    };
    let exact = classes(mixed.engine, 1, progress)?;
    let mut sets = 1;
    let mut agreement = |layers: &BTreeSet<String>, progress: &mut dyn FnMut(QuantizeProgress)| {
        sets += 1;
        let found = classes(&mixed.options(layers), sets, progress)?;
        let same = exact.iter().zip(&found).filter(|(wanted, found)| wanted == found).count();
        Ok::<_, Error>(same as f64 / exact.len().max(1) as f64)
    };
    if agreement(&BTreeSet::new(), progress)? >= wanted {
        return Ok(Vec::new());
    }
    let ordered = mixed.by_error(layers, first, |done, total| {
        progress(QuantizeProgress { stage: QuantizeStage::Order, done, total });
    })?;
    fewest(&ordered, wanted, |layers| agreement(layers, progress))
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
    let (mut differences, mut images) = (Differences::default(), 0);
    pictures.each(|image| {
        differences.add(&rounded.run(&image, 1)?, &exact.run(&image, 1)?);
        images += 1;
        done(images);
        Ok(())
    })?;
    Ok((differences.agreement(), differences.error()))
}
