//! Full-size files of the real tools, put together again from their skeletons and the formula's weights, to
//! the byte.
//!
//! `goldens/weights/skeletons.py` cuts them and says what a skeleton holds.

use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::formula;

/// What is left of a file, or of a pair.
#[derive(Deserialize)]
pub struct Skeleton {
    /// The row of the table of models.
    pub model: String,
    /// What wrote it, with versions.
    pub source: String,
    /// The real files, the first one being the one to open.
    pub files: Vec<File>,
    /// The framework's logits for image 0 of the formula, where the goldens do not have them.
    #[serde(default)]
    pub logits: Vec<f32>,
}

/// One real file.
#[derive(Deserialize)]
pub struct File {
    /// Its name.
    pub name: String,
    size: usize,
    /// SHA-256 of the real file.
    pub sha256: String,
    holes: Vec<Hole>,
}

/// Offset, key, count, add, scale, rows, form.
#[derive(Deserialize)]
struct Hole(usize, String, usize, String, String, usize, String);

/// The bytes of a hole.
fn weights(Hole(_, key, count, add, scale, rows, form): &Hole) -> Vec<u8> {
    // As text, because their last bit counts.
    let [add, scale] = [add, scale].map(|number| number.parse::<f64>().unwrap());
    let mut values: Vec<f32> = formula::uniform(key).take(*count).map(|u| (add + u * scale) as f32).collect();
    if let Some(pixels) = form.strip_prefix("kernel ") {
        // From [outputs, inputs, pixels] to [pixels, inputs, outputs].
        let pixels: usize = pixels.parse().unwrap();
        let inputs = count / rows / pixels;
        let place = |i: usize| (i % rows * inputs + i / rows % inputs) * pixels + i / rows / inputs;
        values = (0..*count).map(|i| values[place(i)]).collect();
    } else if *rows > 0 {
        let columns = count / rows;
        values = (0..*count).map(|i| values[i % rows * columns + i / rows]).collect();
    }
    let bytes: &[u8] = bytemuck::cast_slice(&values);
    match form.as_str() {
        "latin1" => bytes.iter().map(|&byte| char::from(byte)).collect::<String>().into_bytes(),
        _ => bytes.to_vec(),
    }
}

/// A real file again; `left` is what remains of it and of those after it.
fn restore(file: &File, left: &mut &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(file.size);
    let mut keep = |bytes: &mut Vec<u8>, until: usize| {
        let (kept, rest) = left.split_at(until - bytes.len());
        bytes.extend(kept);
        *left = rest;
    };
    for hole in &file.holes {
        keep(&mut bytes, hole.0);
        bytes.extend(weights(hole));
    }
    keep(&mut bytes, file.size);
    let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, file.sha256, "{}: not the file that was written", file.name);
    bytes
}

impl Skeleton {
    /// Writes the real files of the skeleton `name` into `folder`.
    pub fn restore(name: &str, folder: &Path) -> Self {
        let skeletons = Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens/weights/skeletons");
        let packed = std::fs::read(skeletons.join(format!("{name}.zz"))).unwrap();
        let mut unpacked = Vec::new();
        flate2::read::ZlibDecoder::new(&packed[..]).read_to_end(&mut unpacked).unwrap();
        let line = unpacked.iter().position(|&byte| byte == b'\n').unwrap();
        let skeleton: Self = serde_json::from_slice(&unpacked[..line]).unwrap();
        let mut left = &unpacked[line + 1..];
        for file in &skeleton.files {
            std::fs::write(folder.join(&file.name), restore(file, &mut left)).unwrap();
        }
        assert!(left.is_empty());
        skeleton
    }
}
