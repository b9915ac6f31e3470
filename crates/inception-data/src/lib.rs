//! From image files to network input, pixel for pixel as PaddleClas, OpenCV, Pillow and torchvision make it.
//!
//! This crate depends on no tensor library and on no other crate of the workspace.
//! Three steps lead from a file to the input of a network, and each can be used alone:
//!
//! | step | does | equals |
//! |---|---|---|
//! | [`decode`] / [`read`] | a picture to 8-bit RGB `[height, width, 3]` | `cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]` |
//! | [`resize`] | resizes 8-bit RGB, by a [`Resampler`] | `cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)`; Pillow's `image.resize((width, height), Image.BILINEAR)`, `Image.BICUBIC` |
//! | [`Preprocessing::apply`] | resizes the short side, crops the centre, normalises to float `[3, crop, crop]` | PaddleClas's `ResizeImage`, `CropImage`, `NormalizeImage`, `ToCHWImage`; torchvision's `Resize`, `CenterCrop`, `ToTensor`, `Normalize` |
//! | [`Preprocessing::ten_crop`] | the same for ten crops | torchvision's `TenCrop` |
//! | [`Stretch::apply`](Stretch) | stretches to a square in single precision | pytorch-fid, clean-fid, torch-fidelity, torchmetrics |
//! | [`Augmentation`], [`Mixup`], [`smooth_label`] | data augmentation for training | PaddleClas's `RandCropImage`, `RandFlipImage`, `MixupOperator`, `CELoss(epsilon)`, from the same seeds |
//!
//! [`Dataset`] lists images, labelled or not, in folders, lists, archives and (feature `parquet`) Parquet
//! files, [`load`] makes batches of them ahead of the network, by any recipe that is [`Prepare`].
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
//! - **JPEG** and the other formats: every pixel equal, OpenCV's or Pillow's ([`Reader`]), from the files of
//!   `tests/goldens/preprocess/generate_formats.py`. A damaged file whose damage goes unnoticed may differ.
//!
//! # Stricter than cv2 on purpose
//!
//! - A JPEG that ends early is [`Error::Truncated`], unless [`DecodeOptions::accept_truncated`] is set.
//!   OpenCV 4.6 prints a warning at most and repeats the last row, which would count as a wrong answer of the
//!   network.
//! - PaddleClas fails with `'NoneType' object has no attribute 'shape'` where cv2 cannot read a file; here
//!   each reason is its own [`Error`].
//! - What is no JPEG, PNG, WebP, BMP, TIFF, GIF or PNM (told apart by content, as cv2 does) is
//!   [`Error::UnsupportedFormat`], which says what was found.
//! - Images of more than [`MAX_PIXELS`] pixels are refused before memory is allocated for them.

mod catch;
mod dataset;
mod decode;
mod error;
mod files;
mod format;
mod image;
mod label_file;
mod labels;
mod loader;
mod prepare;
mod preprocessing;
mod random;
mod resize;
mod scan_stats;
mod training;

pub use dataset::{Classes, Dataset, DatasetOptions, Item};
pub use decode::{DecodeOptions, MAX_PIXELS, Reader, decode, decode_with, read, read_with};
pub use error::{DatasetProblem, Error};
pub use files::{MAX_FILE_BYTES, is_image};
pub use format::{FoundFormat, ImageFormat};
pub use image::RgbImage;
pub use label_file::{parse_labels, read_labels};
pub use labels::{class_of_devkit_id, class_of_wordnet_id, label, labels};
pub use loader::{Batch, LoaderOptions, load};
pub use prepare::{Prepare, Scaling, Stretch};
pub use preprocessing::{Arithmetic, Preprocessing};
pub use random::MersenneTwister;
pub use resize::{FloatResampler, Resampler, resize};
pub use scan_stats::ScanStats;
pub use training::{Augmentation, Mixup, RandomCrop, smooth_label};
