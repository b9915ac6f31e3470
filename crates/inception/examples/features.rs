//! What a network makes of a picture before its classifier, averaged over places: a vector that similar
//! pictures share. `cargo run --release --workspace --example features MODEL WEIGHTS PICTURE...`

use inception::nn::Output;
use inception::{FeatureExtractor, Preparation, RunOptions, Weights};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, weights, pictures @ ..] = &arguments[..] else {
        return Err("MODEL WEIGHTS PICTURE...".into());
    };
    let (spec, weights) = (inception::model(model)?, Weights::File(weights.into()));
    let options = RunOptions::default();
    // Of a picture what the weights ask for, of the network what its classifier reads.
    let extractor = FeatureExtractor::new(spec, &weights, Output::Pooled, &options, Preparation::Classifier)?;
    for picture in pictures {
        let features = extractor.features(&inception::data::read(picture)?)?;
        println!("{picture}: {features:?}");
    }
    Ok(())
}
