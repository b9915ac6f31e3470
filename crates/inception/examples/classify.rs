//! Says what is in pictures: `cargo run --release --workspace --example classify MODEL WEIGHTS PICTURE...`

use inception::{Classifier, RunOptions, Weights};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, weights, pictures @ ..] = &arguments[..] else {
        return Err("MODEL WEIGHTS PICTURE...".into());
    };
    let spec = inception::model(model)?;
    let classifier = Classifier::new(spec, &Weights::File(weights.into()), &RunOptions::default())?;
    for picture in pictures {
        let prediction = classifier.predict(&inception::data::read(picture)?)?;
        for guess in classifier.top(&prediction, 5) {
            println!("{picture}: {:6.2} %  {}", guess.probability * 100.0, guess.label.unwrap_or_default());
        }
    }
    Ok(())
}
