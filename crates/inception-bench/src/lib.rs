//! What brings networks, weights and pictures together: devices by name, classification, and the table of models.
//!
//! ```
//! use inception_bench::{DeviceKind, Predictor, Weights};
//!
//! let spec = inception_nn::model("GoogLeNet")?;
//! let predictor = Predictor::new(spec, &Weights::Random { seed: 0 }, DeviceKind::Flex)?;
//! # let photograph = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/images/ILSVRC2012_val_00000010.jpeg");
//! let prediction = predictor.predict(&inception_data::read(photograph)?)?;
//! assert_eq!(prediction.logits.len(), 1000);
//! println!("{:?}", predictor.top(&prediction, 5));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod device;
mod error;
mod predict;
mod table;

pub use device::{DeviceKind, UnknownDevice};
pub use error::Error;
pub use predict::{Guess, Prediction, Predictor, Weights, preprocessing};
pub use table::{ModelRow, model_rows, models_markdown};
