//! What the tests share: where files lie, the goldens, and images made by formula.
#![allow(dead_code, clippy::unwrap_used)] // Each test file uses a part of it.

use std::path::PathBuf;

use inception_data::RgbImage;
use serde::Deserialize;

/// The workspace's `tests` folder.
pub fn tests() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests")
}

/// The folder of the goldens.
pub fn goldens_dir() -> PathBuf {
    tests().join("goldens/preprocess")
}

/// Bytes of an input of the goldens: one that the generator made, or a photograph.
pub fn input(file: &str) -> Vec<u8> {
    let path = goldens_dir().join("inputs").join(file);
    let path = if path.exists() { path } else { tests().join("images").join(file) };
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What cv2 decoded a JPEG to.
pub fn expected(file: &str) -> RgbImage {
    inception_data::read(goldens_dir().join("expected").join(file)).expect("the generator wrote it")
}

/// The generator's `pattern`.
pub fn pattern(width: u32, height: u32) -> RgbImage {
    let pixels = (0..width * height * 3)
        .map(|n| {
            let n = n.wrapping_mul(2_654_435_761);
            let n = (n ^ (n >> 15)).wrapping_mul(2_246_822_519);
            ((n ^ (n >> 13)) >> 24) as u8
        })
        .collect();
    RgbImage::from_raw(width, height, pixels).expect("no size is 0")
}

/// The pixel in column `x` of row `y`, if there is one.
pub fn pixel(image: &RgbImage, x: u32, y: u32) -> Option<[u8; 3]> {
    let row = image.pixels().chunks_exact(image.width() as usize * 3).nth(y as usize)?;
    row.as_chunks().0.get(x as usize).copied()
}

/// Pseudo-random numbers below what it is given (xorshift), the same ones each time.
pub fn random() -> impl FnMut(usize) -> usize {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    }
}

/// FNV-1a, 64 bits, as the generator writes it.
pub fn fnv(bytes: impl IntoIterator<Item = u8>) -> String {
    let hash = bytes
        .into_iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    format!("{hash:016x}")
}

#[derive(Deserialize)]
pub struct Goldens {
    pub labels: LabelsGolden,
    pub resize: Vec<ResizeGolden>,
    /// Width, height, short side; width and height after resizing.
    pub resized_size: Vec<[u32; 5]>,
    pub preprocess: Vec<PreprocessGolden>,
    pub png: Vec<PngGolden>,
    pub jpeg: Vec<JpegGolden>,
}

#[derive(Deserialize)]
pub struct LabelsGolden {
    pub count: usize,
    pub fnv: String,
}

/// The generator's `summary`.
#[derive(Deserialize)]
pub struct Summary {
    pub width: u32,
    pub height: u32,
    pub fnv: String,
    pub pixels: Vec<(u32, u32, [u8; 3])>,
}

impl Summary {
    /// What differs, first the size, then the sampled pixels, then the hash of all.
    pub fn difference(&self, image: &RgbImage) -> Option<String> {
        let size = (image.width(), image.height());
        if size != (self.width, self.height) {
            return Some(format!("{} x {} instead of {} x {}", size.0, size.1, self.width, self.height));
        }
        for &(x, y, wanted) in &self.pixels {
            let found = pixel(image, x, y);
            if found != Some(wanted) {
                return Some(format!("pixel ({x}, {y}) is {found:?} instead of {wanted:?}"));
            }
        }
        let hash = fnv(image.pixels().iter().copied());
        (hash != self.fnv)
            .then(|| format!("sampled pixels agree, but the hash is {hash} instead of {}", self.fnv))
    }
}

#[derive(Deserialize)]
pub struct ResizeGolden {
    pub from: (u32, u32),
    #[serde(flatten)]
    pub to: Summary,
}

#[derive(Deserialize)]
pub struct PreprocessGolden {
    pub pattern: Option<(u32, u32)>,
    pub file: Option<String>,
    pub resize_short: u32,
    pub crop: u32,
    pub resized: (u32, u32),
    pub fnv: String,
    pub values: Vec<(usize, usize, usize, f32)>,
}

#[derive(Deserialize)]
pub struct PngGolden {
    pub file: String,
    #[serde(flatten)]
    pub summary: Summary,
}

#[derive(Deserialize)]
pub struct JpegGolden {
    pub file: String,
    pub expected: String,
}

/// All goldens.
pub fn goldens() -> Goldens {
    let text =
        std::fs::read_to_string(goldens_dir().join("goldens.json")).expect("the goldens are committed");
    serde_json::from_str(&text).expect("the generator wrote them")
}
