//! Any network of the family behind one type.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::cost::{Cost, Trace};
use crate::error::Error;
use crate::googlenet::GoogLeNet;
use crate::inception::{Inception, Version};
use crate::layers::Classifier;
use crate::tensors::seed_parameters;
use crate::xception::{OutputStride, Variant, Xception};

/// Called with the name of each stage and the map that it made.
pub type Observer<'a> = &'a mut dyn FnMut(&str, &Tensor<4>);

/// The networks that can be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Architecture {
    GoogLeNet,
    InceptionV3,
    InceptionV4,
    Xception41,
    Xception65,
    Xception71,
    Xception41Deeplab,
    Xception65Deeplab,
    TorchInceptionV3,
    TimmInceptionV4,
    TorchvisionGoogLeNet,
    TimmXception41,
    TimmXception65,
    TimmXception71,
}

/// What to build; [`init`](NetworkConfig::init) builds it.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    name: &'static str,
    architecture: Architecture,
    num_classes: usize,
    output_stride: OutputStride,
    seed: u64,
}

impl NetworkConfig {
    pub(crate) fn new(name: &'static str, architecture: Architecture) -> Self {
        Self { name, architecture, num_classes: 1000, output_stride: OutputStride::default(), seed: 0 }
    }

    /// Number of logits; 1000 unless set.
    pub fn with_num_classes(mut self, num_classes: usize) -> Self {
        self.num_classes = num_classes;
        self
    }

    /// Output stride of a deeplab network; 32, as PaddleClas trains it, unless set.
    pub fn with_output_stride(mut self, output_stride: OutputStride) -> Self {
        self.output_stride = output_stride;
        self
    }

    /// Seed of the initial values; 0 unless set. Equal seeds give equal values on every device.
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Builds the network. Its parameters take their values when first asked for.
    ///
    /// # Errors
    ///
    /// [`Error::NoClasses`] and [`Error::FixedOutputStride`].
    pub fn init(&self, device: &Device) -> Result<Network, Error> {
        use Architecture as A;
        let classes = self.num_classes;
        if classes == 0 {
            return Err(Error::NoClasses);
        }
        let stride = self.output_stride;
        let xception = |variant| Network::Xception(Xception::new(variant, classes, device));
        let inception = |version| Network::Inception(Inception::new(version, classes, device));
        let network = match self.architecture {
            A::Xception41Deeplab => xception(Variant::Xception41Deeplab(stride)),
            A::Xception65Deeplab => xception(Variant::Xception65Deeplab(stride)),
            _ if stride != OutputStride::S32 => {
                return Err(Error::FixedOutputStride { model: self.name });
            }
            A::GoogLeNet => Network::GoogLeNet(GoogLeNet::new(classes, device)),
            A::InceptionV3 => inception(Version::V3),
            A::InceptionV4 => inception(Version::V4),
            A::Xception41 => xception(Variant::Xception41),
            A::Xception65 => xception(Variant::Xception65),
            A::Xception71 => xception(Variant::Xception71),
            A::TorchInceptionV3 => inception(Version::TorchV3),
            A::TimmInceptionV4 => inception(Version::TimmV4),
            A::TorchvisionGoogLeNet => inception(Version::TorchvisionGoogLeNet),
            A::TimmXception41 => xception(Variant::Timm41),
            A::TimmXception65 => xception(Variant::Timm65),
            A::TimmXception71 => xception(Variant::Timm71),
        };
        Ok(seed_parameters(network, self.seed))
    }
}

/// A network of the family.
#[derive(Module, Debug)]
#[allow(missing_docs)]
#[allow(clippy::large_enum_variant)] // Burn has no `Module` for `Box`, and there are never many networks.
pub enum Network {
    GoogLeNet(GoogLeNet),
    Inception(Inception),
    Xception(Xception),
}

impl Network {
    /// Normalised images `[batch, 3, height, width]` to logits `[batch, classes]`.
    ///
    /// GoogLeNet's auxiliary heads have no part in it; see [`GoogLeNet::forward_training`].
    ///
    /// # Panics
    ///
    /// As Burn's own layers do, on an input that [`check_input`](Self::check_input) refuses.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        self.forward_observed(images, &mut |_, _| {})
    }

    /// As [`forward`](Self::forward), showing the map after each stage to `observe` on the way.
    pub fn forward_observed(&self, images: Tensor<4>, observe: Observer) -> Tensor<2> {
        self.head().forward(self.features(images, observe))
    }

    /// Normalised images `[batch, 3, height, width]` to the last feature map
    /// `[batch, channels, height / stride, width / stride]`, what the classifier pools.
    pub fn forward_features(&self, images: Tensor<4>) -> Tensor<4> {
        self.features(images, &mut |_, _| {})
    }

    fn features(&self, images: Tensor<4>, observe: Observer) -> Tensor<4> {
        match self {
            Self::GoogLeNet(network) => network.forward_features(images, observe),
            Self::Inception(network) => network.forward_features(images, observe),
            Self::Xception(network) => network.forward_features(images, observe),
        }
    }

    /// The form for inference alone: each batch norm folded into the convolution before it, in f64 and rounded once.
    ///
    /// Its logits are those of the network within a few roundings. Its tensors are no longer a checkpoint's (biases named
    /// `...conv.bias` stand for the norms), and [`outline`](Self::outline) leaves those biases out: fold after loading, to run
    /// and for nothing else. Reads each weight back to the host once.
    pub fn folded(mut self) -> Self {
        match &mut self {
            // It has no norms.
            Self::GoogLeNet(_) => {}
            Self::Inception(network) => network.fold(),
            Self::Xception(network) => network.fold(),
        }
        self
    }

    /// The folded form as the kernels of Burn's GPUs want it (`burn-cubecl` 0.22, `kernel/conv`), for the same logits:
    ///
    /// - Depthwise convolutions have no bias, with which the kernels that are made for them decline and a general one
    ///   is left. The other convolutions have none where a ReLU or a sum follows, since that is a
    ///   kernel anyway, into which an addition is fused; for a pointwise convolution it saves one.
    /// - Branches that are concatenated have one such addition and ReLU for all of them, after the concatenation; a block's two
    ///   paths have one addition after their sum. Nothing that waits to be fused is then followed by a convolution of another
    ///   map, after which Burn fuses nothing up to the end of the run.
    /// - Weights are stored as the kernels read them, channels last, which otherwise is one copy for each convolution in each
    ///   run. Shapes stay as they are.
    ///
    /// Each weight is read back to the host once.
    pub fn for_gpu(self) -> Self {
        let mut network = self.folded();
        match &mut network {
            Self::GoogLeNet(network) => network.for_gpu(),
            Self::Inception(network) => network.for_gpu(),
            Self::Xception(network) => network.for_gpu(),
        }
        network
    }

    pub(crate) fn head(&self) -> &Classifier {
        match self {
            Self::GoogLeNet(network) => network.head(),
            Self::Inception(network) => network.head(),
            Self::Xception(network) => network.head(),
        }
    }

    fn trace(&self, input: [usize; 2], cost: &mut Cost) -> Option<[usize; 2]> {
        match self {
            Self::GoogLeNet(network) => network.trace(input, cost),
            Self::Inception(network) => network.trace(input, cost),
            Self::Xception(network) => network.trace(input, cost),
        }
    }

    /// The smallest square input that every window of the network fits in.
    pub fn minimum_input(&self) -> usize {
        (1..).find(|&side| self.trace([side, side], &mut Cost::default()).is_some()).expect("some size fits")
    }

    /// Whether images of `[height, width]` can be run.
    ///
    /// # Errors
    ///
    /// [`Error::InputSize`] with the smallest side that can.
    pub fn check_input(&self, input: [usize; 2]) -> Result<(), Error> {
        self.feature_size(input).map(|_| ())
    }

    /// The `[height, width]` of the last feature map for images of `[height, width]`.
    ///
    /// # Errors
    ///
    /// As [`check_input`](Self::check_input).
    pub fn feature_size(&self, input: [usize; 2]) -> Result<[usize; 2], Error> {
        self.trace(input, &mut Cost::default()).ok_or_else(|| Error::InputSize {
            height: input[0],
            width: input[1],
            minimum: self.minimum_input(),
        })
    }

    /// What inference on one image of `[height, width]` costs, without GoogLeNet's auxiliary heads.
    ///
    /// # Errors
    ///
    /// As [`check_input`](Self::check_input).
    pub fn cost(&self, input: [usize; 2]) -> Result<Cost, Error> {
        let features = self.feature_size(input)?;
        let mut cost = Cost::default();
        self.trace(input, &mut cost);
        self.head().trace(features, &mut cost);
        Ok(cost)
    }
}
