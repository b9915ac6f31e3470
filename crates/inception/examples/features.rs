//! What a network makes of a picture before its classifier, averaged over places: a vector that similar
//! pictures share. `cargo run --release --workspace --example features MODEL WEIGHTS PICTURE...`

use inception::burn::tensor::{Device, Tensor, TensorData};
use inception::weights::{Checkpoint, load};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, weights, pictures @ ..] = &arguments[..] else {
        return Err("MODEL WEIGHTS PICTURE...".into());
    };
    let (spec, device) = (inception::model(model)?, Device::flex());
    let network = load(spec, &Checkpoint::open(weights)?, &device)?.network;
    let preprocessing = inception::preprocessing(spec);
    let side = preprocessing.crop as usize;
    for picture in pictures {
        let mut input = vec![0.0; preprocessing.output_len()];
        preprocessing.apply(&inception::data::read(picture)?, &mut input)?;
        let images = Tensor::<4>::from_data(TensorData::new(input, [1, 3, side, side]), &device);
        // [1, channels, height, width] to [1, channels, 1, 1].
        let features = network.forward_features(images).mean_dim(3).mean_dim(2);
        let features = features.into_data().try_into_vec::<f32>().map_err(|error| format!("{error:?}"))?;
        println!("{picture}: {features:?}");
    }
    Ok(())
}
