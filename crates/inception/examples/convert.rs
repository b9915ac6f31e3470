//! Weights from any known format to safetensors, which `inception` and other tools read without running
//! anything. `cargo run --release --workspace --example convert MODEL FROM TO`

use inception::weights::{Checkpoint, Dtype, Metadata, convert};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, from, to] = &arguments[..] else { return Err("MODEL FROM TO".into()) };
    let spec = inception::model(model)?;
    let checkpoint = Checkpoint::open(from)?;
    let done = convert(spec, &checkpoint, to.as_ref(), &Dtype::F32, &Metadata::of(spec))?;
    for warning in done.loaded.warnings() {
        eprintln!("warning: {warning}");
    }
    Ok(())
}
