//! Weights from any known format to safetensors, which `inception` and other tools read without running
//! anything. `cargo run --release --workspace --example convert MODEL FROM TO`

use inception::burn::tensor::Device;
use inception::weights::{Checkpoint, Metadata, load, save};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, from, to] = &arguments[..] else { return Err("MODEL FROM TO".into()) };
    let spec = inception::model(model)?;
    let loaded = load(spec, &Checkpoint::open(from)?, &Device::flex())?;
    for warning in loaded.warnings() {
        eprintln!("warning: {warning}");
    }
    save(&loaded.network, &Metadata::of(spec), to.as_ref())?;
    Ok(())
}
