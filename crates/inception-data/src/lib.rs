//! From image files to network input, pixel for pixel as PaddleClas, OpenCV, Pillow and torchvision make it.
//!
//! This crate depends on no tensor library and on no other crate of the workspace.
//! Three steps lead from a file to the input of a network, and each can be used alone:
//!
//! | step | does | equals |
//! |---|---|---|
//! | [`decode`] / [`read`] | JPEG or PNG to 8-bit RGB `[height, width, 3]` | `cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]` |
//! | [`resize_cv2_bilinear`] | resizes 8-bit RGB | `cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)` |
//! | [`resize_pil_bilinear`], [`resize_pil_bicubic`] | the same with antialiasing | Pillow's `image.resize((width, height), Image.BILINEAR)`, `Image.BICUBIC` |
//! | [`Preprocessing::apply`] | resizes the short side, crops the centre, normalises to float `[3, crop, crop]` | PaddleClas's `ResizeImage`, `CropImage`, `NormalizeImage`, `ToCHWImage`; torchvision's `Resize`, `CenterCrop`, `ToTensor`, `Normalize` |
//! | [`Preprocessing::ten_crop`] | the same for ten crops | torchvision's `TenCrop` |
//! | [`Stretch::apply`](Stretch) | stretches to a square in single precision | pytorch-fid, clean-fid, torch-fidelity, torchmetrics |
//! | [`Augmentation`], [`Mixup`], [`smooth_label`] | data augmentation for training | PaddleClas's `RandCropImage`, `RandFlipImage`, `MixupOperator`, `CELoss(epsilon)`, from the same seeds |
//!
//! [`Dataset`] lists images, labelled or not, in folders, lists, archives and (feature `parquet`) Parquet files,
//! [`load`] makes batches of them ahead of the network, by any recipe that is [`Prepare`].
//!
//! ```
//! # fn main() -> Result<(), inception_data::Error> {
//! # let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/images/ILSVRC2012_val_00000010.jpeg");
//! use inception_data::{Preprocessing, label, read};
//!
//! let image = read(file)?;
//! assert_eq!((image.width(), image.height()), (500, 375));
//!
//! let preprocessing = Preprocessing::paddleclas(320, 299);
//! let mut input = vec![0.0; preprocessing.output_len()];
//! preprocessing.apply(&image, &mut input)?;
//! assert_eq!(input.len(), 3 * 299 * 299);
//!
//! assert_eq!(label(332), Some("Angora, Angora rabbit"));
//! # Ok(())
//! # }
//! ```
//!
//! # How close to the reference
//!
//! The reference is PaddleClas 2.6.0 on opencv-python 4.6.0 (bundled libjpeg-turbo 2.1.2 and libpng 1.6.37).
//!
//! - **PNG**: every pixel equal.
//! - **Resizing, cropping, normalising**: from equal decoded pixels every 8-bit pixel and every bit of the
//!   float tensor is equal, over several hundred sizes (`tests/goldens/preprocess`).
//! - **Pillow and torchvision** (Pillow 13.0.0, torchvision 0.29.2): from equal decoded pixels every pixel
//!   and every bit, over a thousand sizes. Pillow before 13 always resized horizontally first, which differs
//!   by a few units in 255 where an image is more than twice as high as wide.
//! - **Training**: from Python's `random.seed` and NumPy's `np.random.seed` the same crops, flips and blends,
//!   every bit.
//! - **JPEG**: not equal, because two correct JPEG decoders may round differently and ours
//!   ([`zune-jpeg`](https://docs.rs/zune-jpeg)) does. `tests/decode.rs` pins the figures below as bounds.
//!
//!   | JPEG, 500 x 375 | largest difference of a channel (of 255) | pixels that differ | mean difference |
//!   |---|---|---|---|
//!   | `ILSVRC2012_val_00000010`, as it is (4:4:4) | 3 | 1.3 % | 0.010 |
//!   | `ILSVRC2012_val_00010010`, as it is (4:4:4) | 3 | 1.0 % | 0.008 |
//!   | both, encoded anew as 4:2:2, quality 75 to 95 | 4 | 7 to 21 % | 0.06 to 0.17 |
//!   | both, encoded anew as 4:2:0, quality 75 to 95 | 4 | 16 to 36 % | 0.12 to 0.28 |
//!
//!   With full chroma only the inverse DCT rounds differently, by one; the colour conversion makes up to 3 of
//!   that. Where chroma is subsampled, its interpolation rounds differently, too.
//!
//! # Stricter than cv2 on purpose
//!
//! - A JPEG that ends before its end-of-image marker is [`Error::Truncated`]. cv2 prints a warning at most
//!   and returns the image with what is missing filled in grey, which would count as a wrong answer of the
//!   network. A cut file that somebody closed with that marker is believed, as by cv2.
//! - PaddleClas fails with `'NoneType' object has no attribute 'shape'` where cv2 cannot read a file; here
//!   each reason is its own [`Error`].
//! - Only JPEG and PNG are read (told apart by content, as cv2 does); any other format is
//!   [`Error::UnsupportedFormat`], which says what was found.
//! - Images of more than [`MAX_PIXELS`] pixels are refused before memory is allocated for them.

mod dataset;
mod decode;
mod error;
mod format;
mod image;
mod labels;
mod loader;
mod prepare;
mod preprocessing;
mod random;
mod resize;
mod scan_stats;
mod training;

pub use dataset::{Dataset, DatasetOptions, Item, MAX_FILE_BYTES};
pub use decode::{MAX_PIXELS, decode, decode_unturned, decode_with_limit, read};
pub use error::{DatasetProblem, Error};
pub use format::{FoundFormat, ImageFormat};
pub use image::RgbImage;
pub use labels::{class_of_wordnet_id, label, labels, wordnet_ids};
pub use loader::{Batch, LoaderOptions, load};
pub use prepare::{Prepare, Scaling, Stretch};
pub use preprocessing::{Arithmetic, Preprocessing};
pub use random::MersenneTwister;
pub use resize::{FloatResampler, Resampler, resize_cv2_bilinear, resize_pil_bicubic, resize_pil_bilinear};
pub use scan_stats::ScanStats;
pub use training::{Augmentation, Mixup, RandomCrop, smooth_label};
