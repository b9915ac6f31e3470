//! A classifier of one's own pictures on a network with weights, in one's own program. `cargo run --release
//! --workspace --example head MODEL WEIGHTS PICTURES FOLDER`, PICTURES with a folder for each class.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use inception::data::{Dataset, DatasetOptions, LoaderOptions};
use inception::nn::Output;
use inception::{ExtractOptions, FeatureExtractor, Preparation, Shard, Weights, cores};
use inception_train::{
    FeatureOptions, HeadLearner, Learner, Linear, Recipe, RunFolder, RunOptions, TrainedFile,
    extract_features, train,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, weights, pictures, folder] = &arguments[..] else {
        return Err("MODEL WEIGHTS PICTURES FOLDER".into());
    };
    let (spec, weights) = (inception::model(model)?, Weights::File(weights.into()));
    let device = inception::RunOptions::default();
    let (stop, folder) = (AtomicBool::new(false), Path::new(folder));

    // The engine computes the features of each picture once, and they are kept.
    let (dataset, classes) = Dataset::open_with_own_classes(pictures, &DatasetOptions::new(0))?;
    let dataset = Arc::new(dataset);
    let extractor = FeatureExtractor::new(spec, &weights, Output::Pooled, &device, Preparation::Classifier)?;
    let loader = LoaderOptions { batch: 32, workers: cores(), prefetch: 2 };
    let options = FeatureOptions {
        weights: &weights.identity()?,
        device: &device.description(),
        extract: ExtractOptions { shard: Shard::WHOLE, loader, max_skipped: 0.1 },
        cache: &folder.join("features"),
        stop: &stop,
    };
    let (features, _) = extract_features(&extractor, &dataset, &options, |_| {})?;

    // The classifier learns from them.
    let recipe = Recipe { epochs: 20, ..Recipe::head() };
    let parts = features.labels.split(classes.count, 0.1, recipe.seed);
    let start = Linear::initial(spec, classes.count, recipe.seed)?;
    let scale = extractor.classifier_scale();
    let validation = Some((&features, parts.validation));
    let mut learner = HeadLearner::new((&features, parts.training), validation, start, scale, &recipe)?;
    let settings = vec![("recipe".to_owned(), format!("{recipe:?}"))];
    let mut run = RunFolder::open(folder, settings, true)?;
    let options = RunOptions { stop: &stop, save_every: Duration::from_secs(10) };
    let outcome = train(&mut learner, &recipe, &mut run, options, &mut |_| {})?;
    println!("best: {:?}", outcome.best);

    // A file for `predict`, `eval` and `convert`.
    let Preparation::Classifier(preprocessing) = extractor.recipe() else { unreachable!("as asked for") };
    let file = TrainedFile {
        spec,
        weights: &weights,
        seed: recipe.seed,
        preprocessing,
        labels: classes.names.as_deref(),
        activation: features.labels.loss(recipe.one_logit, classes.count)?.activation(),
        training: "{}",
    };
    Ok(learner.write(&file, &folder.join("last.safetensors"))?)
}
