//! Scales and zero points of a network, as its file keeps them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use burn::tensor::Device;
use inception_engine::{Calibrator, Options, QuantParams, Quantization, RangeMethod};
use inception_nn::{Network, NetworkConfig, Output};
use inception_weights::Metadata;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Scales and zero points for [`Precision::Int8`](crate::Precision::Int8). Two are equal if they are the same.
#[derive(Clone, Debug)]
pub struct Calibration(Arc<Quantization>);

impl PartialEq for Calibration {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Calibration {}

/// A [`Quantization`] as JSON.
#[derive(Deserialize, Serialize)]
struct Kept {
    /// Scale and zero point of each tensor.
    tensors: BTreeMap<String, (f32, u8)>,
    /// What is added to biases.
    biases: BTreeMap<String, Vec<f32>>,
    /// What channels are multiplied by as they are stored.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    equalization: BTreeMap<String, Vec<f32>>,
    /// The layers in `f32`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    floats: BTreeSet<String>,
}

impl Calibration {
    /// For the network that `config` describes with random weights and images of `[height, width]`, by what it
    /// makes of noise: for timings, which depend on no value.
    ///
    /// # Errors
    ///
    /// [`Error::Network`] for an input too small, [`Error::Engine`].
    pub fn on_noise(config: &NetworkConfig, [height, width]: [usize; 2]) -> Result<Self, Error> {
        let init = |device: &Device| Ok::<_, Error>(config.init(device)?);
        let forward = |network: &Network, images| network.forward_output(images, &Output::Logits);
        let graph = inception_engine::capture_init(init, forward, [3, height, width])?;
        let mut calibrator = Calibrator::new(&graph, &Options::default())?;
        calibrator.add(&inception_engine::noise(3 * height * width))?;
        Ok(Self::new(calibrator.finish(RangeMethod::MinMax)))
    }

    /// Of what calibration found.
    pub(crate) fn new(quantization: Quantization) -> Self {
        Self(Arc::new(quantization))
    }

    /// Of what a file keeps in its metadata, with these layers in `f32` besides. (Files of earlier versions have the
    /// weights of the classifier in `f32`.)
    pub(crate) fn from_json(json: &str, floats: impl IntoIterator<Item = String>) -> Result<Self, Error> {
        let mut kept: Kept = serde_json::from_str(json)
            .map_err(|source| Error::Metadata { key: Metadata::QUANTIZATION, source })?;
        kept.floats.extend(floats);
        let Kept { tensors, biases, equalization, floats } = kept;
        let params = |(node, (scale, zero_point))| (node, QuantParams { scale, zero_point });
        let tensors = tensors.into_iter().map(params).collect();
        Ok(Self(Arc::new(Quantization { tensors, biases, equalization, floats, as_written: false })))
    }

    /// What a file keeps.
    pub(crate) fn to_json(&self) -> Result<String, Error> {
        let kept =
            |(node, params): (&String, &QuantParams)| (node.clone(), (params.scale, params.zero_point));
        let tensors = self.0.tensors.iter().map(kept).collect();
        let Quantization { biases, equalization, floats, .. } = (*self.0).clone();
        serde_json::to_string(&Kept { tensors, biases, equalization, floats })
            .map_err(|source| Error::Metadata { key: Metadata::QUANTIZATION, source })
    }

    /// For the engine.
    pub(crate) fn quantization(&self) -> Arc<Quantization> {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_keeps_is_read_back() -> Result<(), Error> {
        let mut quantization = Quantization::default();
        let params = QuantParams { scale: 0.1, zero_point: 3 };
        quantization.tensors.insert("a.b".to_owned(), params);
        quantization.biases.insert("a.b".to_owned(), vec![1.0e-7, -0.3]);
        quantization.equalization.insert("a.b".to_owned(), vec![0.25, 3.0]);
        quantization.floats.insert("a.b".to_owned());
        let kept = Calibration(Arc::new(quantization.clone())).to_json()?;
        assert_eq!(*Calibration::from_json(&kept, [])?.0, quantization);
        assert!(matches!(Calibration::from_json("[1]", []), Err(Error::Metadata { .. })));
        Ok(())
    }
}
