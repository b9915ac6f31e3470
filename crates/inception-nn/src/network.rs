//! Any network of the family behind one type.

use burn::module::Module;
use burn::nn::pool::AdaptiveAvgPool2dConfig;
use burn::tensor::{Device, Tensor};
use inception_graph::{Graph, Op, Parameter, PoolKind, Shape, capture_structure, with_storage_device};

use crate::error::Error;
use crate::googlenet::GoogLeNet;
use crate::inception::{Inception, Version};
use crate::layers::{Classifier, HiddenLayer, NormSpec, Observer, PADDLE_NORM, ScaledDropout};
use crate::tensors::{TensorInfo, seed_parameters, tensors};
use crate::xception::{OutputStride, Variant, Xception};

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
    FidInceptionV3,
    TimmInceptionV4,
    TimmInceptionResNetV2,
    TorchvisionGoogLeNet,
    TimmXception41,
    TimmXception65,
    TimmXception71,
    TimmLegacyXception,
    KerasInceptionV3,
    KerasXception,
}

/// What to build; [`init`](NetworkConfig::init) builds it.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    name: &'static str,
    architecture: Architecture,
    num_classes: usize,
    hidden: Vec<HiddenLayer>,
    output_stride: OutputStride,
    auxiliary: bool,
    dropout: Option<f64>,
    seed: u64,
}

impl NetworkConfig {
    pub(crate) fn new(name: &'static str, architecture: Architecture) -> Self {
        let (hidden, output_stride) = (Vec::new(), OutputStride::default());
        let (auxiliary, dropout) = (false, None);
        Self { name, architecture, num_classes: 1000, hidden, output_stride, auxiliary, dropout, seed: 0 }
    }

    /// Number of logits; 1000 unless set.
    pub fn with_num_classes(mut self, num_classes: usize) -> Self {
        self.num_classes = num_classes;
        self
    }

    /// Fully connected layers of the classifier before its last; none unless set.
    pub fn with_hidden(mut self, hidden: &[HiddenLayer]) -> Self {
        self.hidden = hidden.to_vec();
        self
    }

    /// Output stride of a deeplab network; 32, as PaddleClas trains it, unless set.
    pub fn with_output_stride(mut self, output_stride: OutputStride) -> Self {
        self.output_stride = output_stride;
        self
    }

    /// Whether torchvision's Inception V3 gets the auxiliary classifier that it has in training; without unless
    /// set. GoogLeNet always has its two, and other networks have none.
    pub fn with_auxiliary(mut self, auxiliary: bool) -> Self {
        self.auxiliary = auxiliary;
        self
    }

    /// Share of the pooled features that training drops out in PyTorch's way, which changes nothing at inference;
    /// the network's own unless set. That of PaddleClas's networks scales at inference and is always there.
    pub fn with_dropout(mut self, share: f64) -> Self {
        self.dropout = Some(share);
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
        let inception =
            |version| Network::Inception(Inception::new(version, classes, self.auxiliary, device));
        let mut network = match self.architecture {
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
            A::FidInceptionV3 => inception(Version::FidV3),
            A::TimmInceptionV4 => inception(Version::TimmV4),
            A::TimmInceptionResNetV2 => inception(Version::TimmResNetV2),
            A::TorchvisionGoogLeNet => inception(Version::TorchvisionGoogLeNet),
            A::TimmXception41 => xception(Variant::Timm41),
            A::TimmXception65 => xception(Variant::Timm65),
            A::TimmXception71 => xception(Variant::Timm71),
            A::TimmLegacyXception => xception(Variant::TimmLegacy),
            A::KerasInceptionV3 => inception(Version::KerasV3),
            A::KerasXception => xception(Variant::Keras),
        };
        if !self.hidden.is_empty() {
            network.head_mut().set_hidden(&self.hidden, device);
        }
        if let Some(share) = self.dropout {
            network.head_mut().set_dropout(Some(ScaledDropout::upscale(share)));
        }
        Ok(seed_parameters(network, self.seed))
    }

    /// The operations of the network for images of `[height, width]`, with the names of the tensors; no value
    /// is made.
    ///
    /// # Errors
    ///
    /// As [`init`](Self::init) and [`Network::graph`].
    pub fn graph(&self, input: [usize; 2]) -> Result<Graph<Parameter>, Error> {
        with_storage_device(|device| self.init(device)?.graph(input))
    }

    /// The network's [`tensors`].
    ///
    /// # Errors
    ///
    /// As [`init`](Self::init).
    pub fn tensors(&self) -> Result<Vec<TensorInfo>, Error> {
        with_storage_device(|device| Ok(tensors(&self.init(device)?)))
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
    /// Auxiliary classifiers have no part in it; see [`forward_training`](Self::forward_training).
    ///
    /// # Panics
    ///
    /// As Burn's own layers do, on an input that [`check_input`](Self::check_input) refuses.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        self.forward_observed(images, &mut |_, _| {})
    }

    /// Images `[batch, 3, height, width]` to the logits of each classifier that training has, the network's
    /// own first.
    ///
    /// # Errors
    ///
    /// [`Error::AuxiliarySize`] for a size that the auxiliary classifiers do not take.
    pub fn forward_training(&self, images: Tensor<4>) -> Result<Vec<TrainingHead>, Error> {
        self.training_heads(0, images)
    }

    /// As [`forward_training`](Self::forward_training), from what the first `start` stages make of images; of the
    /// auxiliary classifiers those that read that map or a later one.
    fn training_heads(&self, start: usize, map: Tensor<4>) -> Result<Vec<TrainingHead>, Error> {
        let (logits, auxiliary, weight) = match self {
            Self::GoogLeNet(network) => {
                let (logits, auxiliary) = network.forward_heads(start, map)?;
                (logits, auxiliary, GOOGLENET_AUXILIARY_WEIGHT)
            }
            Self::Inception(network) => {
                let (logits, auxiliary) = network.forward_heads(start, map)?;
                (logits, auxiliary, V3_AUXILIARY_WEIGHT)
            }
            Self::Xception(_) => (self.logits_from(start, map), Vec::new(), 0.0),
        };
        let own = TrainingHead { logits, weight: 1.0 };
        let auxiliary = auxiliary.into_iter().map(|logits| TrainingHead { logits, weight });
        Ok(std::iter::once(own).chain(auxiliary).collect())
    }

    /// Whether it has classifiers that only training uses.
    pub fn has_auxiliary(&self) -> bool {
        match self {
            Self::GoogLeNet(_) => true,
            Self::Inception(network) => network.has_auxiliary(),
            Self::Xception(_) => false,
        }
    }

    /// The same network without dropout, for comparisons: it then trains on all values, and inference scales
    /// none.
    pub fn without_dropout(mut self) -> Self {
        self.head_mut().set_dropout(None);
        if let Self::GoogLeNet(network) = &mut self {
            network.remove_auxiliary_dropout();
        }
        self
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

    /// Normalised images `[batch, 3, height, width]` to what `output` asks for, `[batch, dimensions]`.
    ///
    /// # Panics
    ///
    /// On a stage that [`check_output`](Self::check_output) refuses.
    pub fn forward_output(&self, images: Tensor<4>, output: &Output) -> Tensor<2> {
        let map = match output {
            Output::Logits => return self.forward(images),
            Output::Pooled => self.forward_features(images),
            Output::Stage(wanted) | Output::Map(wanted) => {
                let mut found = None;
                self.features(images, &mut |name, map| {
                    if name.eq_ignore_ascii_case(wanted) {
                        found = Some(map.clone());
                    }
                });
                found.expect("`check_output` knows the stages")
            }
        };
        match output {
            Output::Map(_) => map.flatten::<2>(1, 3),
            _ => AdaptiveAvgPool2dConfig::new([1, 1]).init().forward(map).flatten::<2>(1, 3),
        }
    }

    /// The classifier's weights, `[channels, classes]` row-major: from pooled features to logits without
    /// bias.
    pub fn classifier_weight(&self) -> Vec<f32> {
        self.head().weight()
    }

    /// What pooled features are multiplied by before the classifier at inference: the share that Paddle's
    /// dropout keeps, 1 without one.
    pub fn classifier_scale(&self) -> f32 {
        self.head().scale()
    }

    /// The names of the stages, in the order in which [`forward_observed`](Self::forward_observed) shows
    /// them.
    pub fn stages(&self) -> Vec<String> {
        match self {
            Self::GoogLeNet(_) => GoogLeNet::stages(),
            Self::Inception(network) => network.stages(),
            Self::Xception(network) => network.stages(),
        }
    }

    /// Whether the network has such an output.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownStage`], with the names of all stages.
    pub fn check_output(&self, output: &Output) -> Result<(), Error> {
        let (Output::Stage(stage) | Output::Map(stage)) = output else { return Ok(()) };
        let stages = self.stages();
        match stages.iter().any(|name| name.eq_ignore_ascii_case(stage)) {
            true => Ok(()),
            false => Err(Error::UnknownStage { stage: stage.clone(), stages }),
        }
    }

    fn features(&self, images: Tensor<4>, observe: Observer) -> Tensor<4> {
        self.features_from(0, images, observe)
    }

    /// From what the first `start` stages make of images to the classifier's logits.
    fn logits_from(&self, start: usize, map: Tensor<4>) -> Tensor<2> {
        self.head().forward(self.features_from(start, map, &mut |_, _| {}))
    }

    /// From what the first `start` stages make of images to the last map.
    fn features_from(&self, start: usize, map: Tensor<4>, observe: Observer) -> Tensor<4> {
        match self {
            Self::GoogLeNet(network) => network.forward_features(start, map, observe),
            Self::Inception(network) => network.forward_features(start, map, observe),
            Self::Xception(network) => network.forward_features(start, map, observe),
        }
    }

    /// The form for inference alone: each batch norm folded into the convolution before it, in f64 and
    /// rounded once.
    ///
    /// Its logits are those of the network within a few roundings. Its tensors are no longer a checkpoint's
    /// (biases named `...conv.bias` stand for the norms): fold after loading, to run and for nothing else.
    /// Reads each weight back to the host once.
    pub fn folded(mut self) -> Self {
        match &mut self {
            // It has no norms.
            Self::GoogLeNet(_) => {}
            Self::Inception(network) => network.fold(),
            Self::Xception(network) => network.fold(),
        }
        self
    }

    /// The folded form as the kernels of Burn's GPUs want it (`burn-cubecl` 0.22, `kernel/conv`), for the
    /// same logits:
    ///
    /// - Depthwise convolutions have no bias, with which the kernels that are made for them decline and a
    ///   general one is left. The other convolutions have none where a ReLU or a sum follows, since that is a
    ///   kernel anyway, into which an addition is fused; for a pointwise convolution it saves one. Where a
    ///   padded depthwise convolution follows a pointwise one, the bias is added after both, as a map.
    /// - The 1x1 convolutions that read one map are one convolution, and branches read a part of its channels.
    /// - Branches that are concatenated have one such addition and ReLU for all of them, after the
    ///   concatenation; a block's two paths have one addition after their sum. Nothing that waits to be fused
    ///   is then followed by a convolution of another map, after which Burn fuses nothing up to the end of
    ///   the run.
    /// - Weights are stored as the kernels read them, channels last, which otherwise is one copy for each
    ///   convolution in each run. Shapes stay as they are.
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

    fn head_mut(&mut self) -> &mut Classifier {
        match self {
            Self::GoogLeNet(network) => network.head_mut(),
            Self::Inception(network) => network.head_mut(),
            Self::Xception(network) => network.head_mut(),
        }
    }

    /// The fully connected layers of the classifier before its last.
    pub fn hidden(&self) -> Vec<HiddenLayer> {
        self.head().hidden()
    }

    /// The same network, untrained, on another device, with the same dropout.
    pub fn untrained(&self, device: &Device) -> Self {
        let classes = self.head().num_classes();
        let mut network = match self {
            Self::GoogLeNet(_) => Self::GoogLeNet(GoogLeNet::new(classes, device)),
            Self::Inception(network) => {
                let auxiliary = network.has_auxiliary();
                Self::Inception(Inception::new(network.version(), classes, auxiliary, device))
            }
            Self::Xception(network) => Self::Xception(Xception::new(network.variant(), classes, device)),
        };
        let hidden = self.hidden();
        if !hidden.is_empty() {
            network.head_mut().set_hidden(&hidden, device);
        }
        match self.head().dropout() {
            None => return network.without_dropout(),
            dropout => network.head_mut().set_dropout(dropout.cloned()),
        }
        network
    }

    /// The operations that training computes for images of `[height, width]`, with the names of the tensors.
    /// The auxiliary classifiers take part where the size is theirs.
    ///
    /// # Errors
    ///
    /// As [`graph`](Self::graph).
    pub fn training_graph(&self, [height, width]: [usize; 2]) -> Result<TrainingGraph, Error> {
        self.check_input([height, width])?;
        Ok(self.training_graph_from(0, [3, height, width]))
    }

    /// As [`training_graph`](Self::training_graph), from the map after `stage` on: the images of the graph are
    /// such maps, and the tensors those of the stages after it. Of the auxiliary classifiers those take part that
    /// read that map or a later one.
    ///
    /// # Errors
    ///
    /// As [`graph`](Self::graph) and [`check_output`](Self::check_output).
    pub fn training_graph_after(&self, stage: &str, size: [usize; 2]) -> Result<TrainingGraph, Error> {
        let output = Output::Map(stage.to_owned());
        self.check_output(&output)?;
        let graph = self.graph_of(size, &output)?;
        let mut map = &graph.nodes[graph.output];
        if matches!(map.op, Op::Flatten) {
            map = &graph.nodes[map.inputs[0]];
        }
        let stages = self.stages();
        let before = stages.iter().take_while(|name| !name.eq_ignore_ascii_case(stage)).count();
        let Shape { height, width, channels } = map.shape;
        Ok(self.training_graph_from(before + 1, [channels, height, width]))
    }

    /// What training computes from what the first `start` stages make of images, a map of `[channels, height,
    /// width]`.
    fn training_graph_from(&self, start: usize, map: [usize; 3]) -> TrainingGraph {
        let mut heads = Vec::new();
        let mut record = |dropout: bool| {
            let forward = |network: &Self, images: Tensor<4>| {
                let all = network.training_heads(start, images.clone()).unwrap_or_else(|_| {
                    // Without auxiliary classifiers that do not fit.
                    vec![TrainingHead { logits: network.logits_from(start, images), weight: 1.0 }]
                });
                heads = all.iter().map(|head| head.weight).collect();
                let mut logits: Vec<_> = all.into_iter().map(|head| head.logits).collect();
                match logits.len() {
                    1 => logits.remove(0),
                    _ => Tensor::cat(logits, 1),
                }
            };
            let init = |device: &Device| match dropout {
                true => self.untrained(device),
                false => self.untrained(device).without_dropout(),
            };
            let graph = capture_structure(init, forward, map);
            let mut graph = graph.expect("every row of `MODELS` is captured in the tests");
            // What led to auxiliary classifiers that do not fit.
            graph.prune();
            graph
        };
        let (bare, graph) = (record(false), record(true));
        // A factor that is another one without dropout, or not there, is that of dropout: the share that is kept,
        // or 1 where training scales and not inference.
        let own = self.head().dropout().map_or(0.0, ScaledDropout::probability);
        let share = |scale: f64| if scale == 1.0 { own } else { 1.0 - scale };
        let mut dropout = Vec::new();
        let mut others = bare.nodes.iter().map(|node| &node.op).peekable();
        for (id, node) in graph.nodes.iter().enumerate() {
            if let (&Op::Scale { scale, .. }, Some(other)) = (&node.op, others.peek()) {
                match other {
                    &&Op::Scale { scale: other, .. } if other == scale => {}
                    Op::Scale { .. } => dropout.push((id, share(scale))),
                    _ => {
                        dropout.push((id, share(scale)));
                        continue;
                    }
                }
            }
            others.next();
        }
        let norm = match self {
            Self::GoogLeNet(_) => None,
            Self::Inception(network) => network.norm(),
            Self::Xception(network) => Some(network.norm()),
        };
        let NormSpec { momentum: norm_momentum, unbiased: norm_unbiased, .. } = norm.unwrap_or(PADDLE_NORM);
        TrainingGraph { graph, heads, dropout, norm_momentum, norm_unbiased }
    }

    /// The operations of [`forward`](Self::forward), recorded from it, with the names of the tensors, for
    /// images of `[height, width]`. No value of a tensor is made or read.
    ///
    /// # Errors
    ///
    /// [`Error::InputSize`], with the smallest side that fits, for a size at which some window does not.
    pub fn graph(&self, input: [usize; 2]) -> Result<Graph<Parameter>, Error> {
        self.graph_of(input, &Output::Logits)
    }

    /// How many numbers [`forward_output`](Self::forward_output) gives for an image of `[height, width]`.
    ///
    /// # Errors
    ///
    /// As [`graph`](Self::graph) and [`check_output`](Self::check_output).
    pub fn output_len(&self, input: [usize; 2], output: &Output) -> Result<usize, Error> {
        self.check_output(output)?;
        let graph = self.graph_of(input, output)?;
        Ok(graph.nodes[graph.output].shape.len())
    }

    fn graph_of(&self, [height, width]: [usize; 2], output: &Output) -> Result<Graph<Parameter>, Error> {
        let mut graph = self.recorded(output);
        match graph.infer_shapes([height, width]) {
            Ok(()) => Ok(graph),
            Err(_) => Err(Error::InputSize { height, width, minimum: minimum(&graph) }),
        }
    }

    /// The graph of an output at a size that every network takes.
    fn recorded(&self, output: &Output) -> Graph<Parameter> {
        let forward = |network: &Self, images| network.forward_output(images, output);
        let graph = capture_structure(|device| self.untrained(device), forward, [3, 299, 299]);
        let mut graph = graph.expect("every row of `MODELS` is captured in the tests");
        if matches!(self, Self::Xception(network) if network.pools_same()) {
            // Recorded are the paddings for one size.
            for node in &mut graph.nodes {
                if let Op::Pool(pool) = &mut node.op
                    && pool.kind == PoolKind::Max
                {
                    (pool.window.same, pool.window.ceil) = (true, false);
                }
            }
            graph.infer_shapes([299; 2]).expect("the size that it was recorded at");
        }
        graph
    }

    /// The smallest square input that every window of the network fits in.
    pub fn minimum_input(&self) -> usize {
        minimum(&self.recorded(&Output::Logits))
    }

    /// Whether images of `[height, width]` can be run.
    ///
    /// # Errors
    ///
    /// As [`graph`](Self::graph).
    pub fn check_input(&self, input: [usize; 2]) -> Result<(), Error> {
        self.graph(input).map(|_| ())
    }
}

/// What GoogLeNet's auxiliary classifiers count in the loss (`ppcls/loss/googlenetloss.py` of PaddleClas).
const GOOGLENET_AUXILIARY_WEIGHT: f64 = 0.3;

/// What the auxiliary classifier of torchvision's Inception V3 counts. torchvision's own reference
/// (`references/classification/train.py`) cannot train that network; PyTorch's tutorial on fine-tuning it does,
/// with this weight (`finetuning_torchvision_models_tutorial.py`), as TensorFlow's slim does.
const V3_AUXILIARY_WEIGHT: f64 = 0.4;

/// The logits of a classifier in training.
#[derive(Clone, Debug)]
pub struct TrainingHead {
    /// Its logits, `[batch, classes]`.
    pub logits: Tensor<2>,
    /// The factor of its loss.
    pub weight: f64,
}

/// What training computes.
#[derive(Clone, Debug)]
pub struct TrainingGraph {
    /// From images to the logits of all classifiers side by side, the network's own first.
    pub graph: Graph<Parameter>,
    /// The factor of each classifier's loss.
    pub heads: Vec<f64>,
    /// The nodes that drop values out in training, and the share that each drops. A node's factor is what
    /// inference multiplies by.
    pub dropout: Vec<(usize, f64)>,
    /// Share of a batch in the new running statistics of norms.
    pub norm_momentum: f64,
    /// Whether a batch's part in the running variances is an unbiased estimate, as PyTorch has it.
    pub norm_unbiased: bool,
}

/// What is taken of a network, one vector for each image.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output {
    /// The scores of the classes.
    Logits,
    /// The last map, averaged over places: what the classifier reads, before any dropout.
    Pooled,
    /// The map after a stage, averaged over places; the names of stages are those that
    /// [`Network::forward_observed`] shows.
    Stage(String),
    /// All of the map after a stage: channels by rows by columns.
    Map(String),
}

/// The smallest square input of a recorded graph.
fn minimum(graph: &Graph<Parameter>) -> usize {
    graph.minimum_input().expect("it was captured at some size")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MODELS, VARIANTS, model};

    /// Every network is captured, under the names of its tensors and with their shapes; no tensor of
    /// inference is left out.
    #[test]
    fn graphs_have_the_networks_tensors() -> Result<(), Error> {
        for spec in MODELS.iter().chain(VARIANTS) {
            let config = spec.config().with_num_classes(3);
            let graph = config.graph([spec.input_size; 2])?;
            let weights = graph.nodes.iter().flat_map(|node| node.op.weights());
            let mut found: Vec<_> = weights.map(|w| (w.name.clone(), w.shape.clone())).collect();
            let tensors = config.tensors()?.into_iter().map(|info| (info.name, info.shape));
            let mut wanted: Vec<_> = tensors.filter(|(name, _)| !name.starts_with("auxiliary")).collect();
            found.sort();
            wanted.sort();
            assert_eq!(found, wanted, "{}", spec.name);
        }
        Ok(())
    }

    /// What training drops out before the classifier is what the origin does, and a factor tells Paddle's mode from
    /// PyTorch's.
    #[test]
    fn training_drops_out_what_the_origin_does() -> Result<(), Error> {
        for (name, expected) in [
            ("GoogLeNet", vec![(0.3, 0.7), (0.3, 0.7), (0.6, 0.4)]),
            ("InceptionV3", vec![(0.8, 0.2)]),
            ("Xception41", vec![]),
            ("Xception65_deeplab", vec![(0.5, 0.5)]),
            ("torchvision-googlenet", vec![(1.0, 0.2)]),
            ("torchvision-inception_v3", vec![(1.0, 0.5)]),
            ("timm-inception_v3", vec![]),
            ("keras-xception", vec![]),
        ] {
            let spec = model(name).expect("a row of `MODELS`");
            with_storage_device(|device| {
                let network = spec.training_config().init(device)?.untrained(device);
                let TrainingGraph { graph, dropout, .. } = network.training_graph([spec.input_size; 2])?;
                let factor = |id: usize| match graph.nodes[id].op {
                    Op::Scale { scale, .. } => scale,
                    _ => f64::NAN,
                };
                let found: Vec<_> = dropout.iter().map(|&(id, share)| (factor(id), share)).collect();
                assert_eq!(found.len(), expected.len(), "{name}: {found:?}");
                for (found, expected) in found.iter().zip(&expected) {
                    let close = |a: f64, b: f64| (a - b).abs() < 1e-6;
                    assert!(close(found.0, expected.0) && close(found.1, expected.1), "{name}: {found:?}");
                }
                Ok::<_, Error>(())
            })?;
        }
        Ok(())
    }

    /// Lengths of outputs are known without a run.
    #[test]
    fn lengths_of_outputs() -> Result<(), Error> {
        for spec in MODELS {
            let config = spec.config().with_num_classes(7);
            with_storage_device(|device| {
                let network = config.init(device)?;
                let size = [spec.input_size; 2];
                assert_eq!(network.output_len(size, &Output::Logits)?, 7, "{}", spec.name);
                let channels = config.graph(size)?.features().channels;
                assert_eq!(network.output_len(size, &Output::Pooled)?, channels, "{}", spec.name);
                let unknown = network.output_len(size, &Output::Stage("zero".to_owned()));
                assert!(matches!(unknown, Err(Error::UnknownStage { .. })));
                // Some networks pad so that one pixel is enough.
                let small = network.output_len([1; 2], &Output::Pooled);
                assert_eq!(small.is_ok(), network.check_input([1; 2]).is_ok(), "{}: {small:?}", spec.name);
                Ok::<_, Error>(())
            })?;
        }
        Ok(())
    }

    /// The names of stages are those that are shown, and each stage can be asked for.
    #[test]
    fn stages_are_those_observed() -> Result<(), Error> {
        for spec in MODELS {
            let config = spec.config().with_num_classes(2);
            let mut shown = Vec::new();
            let observe = |network: &Network, images| {
                let stages = network.stages();
                let last = Output::Stage(stages[stages.len() - 1].to_uppercase());
                assert_eq!(network.check_output(&last), Ok(()));
                let unknown = network.check_output(&Output::Stage("zero".to_owned()));
                assert_eq!(
                    unknown,
                    Err(Error::UnknownStage { stage: "zero".to_owned(), stages: stages.clone() })
                );
                let logits = network
                    .forward_observed(images, &mut |name: &str, _: &Tensor<4>| shown.push(name.to_owned()));
                assert_eq!(stages, shown, "{}", spec.name);
                logits
            };
            let init = |device: &Device| config.init(device).expect("two classes");
            capture_structure(init, observe, [3, 299, 299]).expect("captured");
        }
        Ok(())
    }

    /// Counted by hand: what goes into one layer of the stem, and what comes out.
    #[test]
    fn peaks_by_hand() -> Result<(), Error> {
        let cases = [
            // 64 maps of 112x112 and what the first pooling makes of them.
            ("GoogLeNet", 64 * (112 * 112 + 55 * 55)),
            // 32 and 64 maps of 147x147 around the stem's third convolution.
            ("InceptionV3", 96 * 147 * 147),
        ];
        for (name, wanted) in cases {
            let graph = model(name)?.config().graph([model(name)?.input_size; 2])?;
            assert_eq!(graph.peak_activations(), wanted, "{name}");
        }
        Ok(())
    }

    /// No network needs less than its first convolution, and twice the side is about four times the maps.
    #[test]
    fn peaks_grow_with_the_image() -> Result<(), Error> {
        for spec in MODELS {
            let config = spec.config().with_num_classes(2);
            let peak = |side: usize| Ok(config.graph([side; 2])?.peak_activations());
            let ratio = peak(2 * spec.input_size)? as f64 / peak(spec.input_size)? as f64;
            assert!((3.8..4.2).contains(&ratio), "{}: {ratio}", spec.name);
            assert!(config.graph([0; 2]).is_err(), "{}", spec.name);
        }
        Ok(())
    }
}
