//! The keys of our tensors in the state dicts of other libraries.

mod keras;
mod nvidia;
mod paddle;
mod table;
mod torch;

use burn::module::Module;
use inception_nn::{Architecture, ModelSpec, StateDict, TensorInfo, TensorRole, tensors};

use table::KeyTable;

/// How a checkpoint names its tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyScheme {
    /// Our own keys: the path of fields in the module.
    Native,
    /// The state dict of PaddleClas 2.6.
    PaddleClas,
    /// The state dict of timm or torchvision.
    PyTorch,
    /// Keras's layers by class and place, as `.weights.h5` has them.
    Keras,
    /// The state dict of NVIDIA's port of TensorFlow's Inception V3, which StyleGAN and clean-fid compute FID
    /// with.
    Nvidia,
    /// Any: the operations of the file have said which tensor is which.
    Graph,
}

impl KeyScheme {
    /// The schemes that have keys for a model: ours, its origin's, and those of other libraries that publish
    /// its weights.
    pub fn of(spec: &ModelSpec) -> Vec<Self> {
        let foreign = |state_dict: &StateDict| match state_dict {
            StateDict::Paddle => Self::PaddleClas,
            StateDict::PyTorch => Self::PyTorch,
            StateDict::Keras => Self::Keras,
            StateDict::Nvidia => Self::Nvidia,
        };
        std::iter::once(Self::Native).chain(spec.state_dicts.iter().map(foreign)).collect()
    }

    /// The scheme of a model's origin.
    pub fn of_origin(spec: &ModelSpec) -> Self {
        Self::of(spec)[1]
    }

    /// The key table of a network in this scheme, if it has one.
    fn table(self, architecture: Architecture) -> Option<&'static KeyTable> {
        let tables = match self {
            Self::Native | Self::Graph => &[][..],
            Self::PaddleClas => paddle::TABLES,
            Self::PyTorch => torch::TABLES,
            Self::Keras => keras::TABLES,
            Self::Nvidia => nvidia::TABLES,
        };
        tables.iter().find(|table| table.architecture == architecture)
    }

    /// Whether a key that belongs to no tensor of the network may be passed over. PyTorch's norms count their
    /// batches, its networks have heads for training only, Paddle's optimisers keep their state beside
    /// the parameters, and Keras's dropout that of its generator.
    pub fn is_unused(self, architecture: Architecture, key: &str) -> bool {
        let suffixes = match self {
            Self::Native | Self::Graph | Self::Nvidia => &[][..],
            Self::PaddleClas => PADDLE_OPTIMISER,
            Self::PyTorch => &[".num_batches_tracked"],
            Self::Keras => KERAS_GENERATOR,
        };
        let has_auxiliary =
            || Self::PyTorch.table(architecture).is_some_and(|table| !table.auxiliary.is_empty());
        let prefixes = match self {
            Self::Native if has_auxiliary() => &[AUXILIARY][..],
            _ => self.table(architecture).map_or(&[][..], |table| table.unused),
        };
        suffixes.iter().any(|suffix| key.ends_with(suffix))
            || prefixes.iter().any(|prefix| key.starts_with(prefix))
    }

    /// The name of a layer's field.
    fn field(self, role: TensorRole) -> &'static str {
        use TensorRole as R;
        match (self, role) {
            (Self::Keras, R::ConvWeight | R::LinearWeight) => "kernel",
            (Self::Keras, R::NormScale) => "gamma",
            (Self::Keras, R::NormShift) => "beta",
            (Self::Keras, R::RunningMean) => "moving_mean",
            (Self::Keras, R::RunningVariance) => "moving_variance",
            // Which no file has.
            (Self::Nvidia, R::NormScale) => "gamma",
            (Self::Nvidia, R::NormShift) => "beta",
            (Self::Nvidia, R::RunningMean) => "mean",
            (Self::Nvidia, R::RunningVariance) => "var",
            (_, R::ConvWeight | R::LinearWeight | R::NormScale) => "weight",
            (_, R::Bias | R::NormShift) => "bias",
            (Self::PaddleClas, R::RunningMean) => "_mean",
            (Self::PaddleClas, R::RunningVariance) => "_variance",
            (_, R::RunningMean) => "running_mean",
            (_, R::RunningVariance) => "running_var",
        }
    }
}

/// Suffixes that Paddle's optimisers append to the key of a parameter for their own tensors.
const PADDLE_OPTIMISER: &[&str] = &[
    "_velocity_0",
    "_moment_0",
    "_moment1_0",
    "_moment2_0",
    "_beta1_pow_acc_0",
    "_beta2_pow_acc_0",
    "_mean_square_0",
    "_mean_grad_0",
    "_momentum_0",
];

/// The state of a generator of random numbers, by its names in the two formats.
const KERAS_GENERATOR: &[&str] = &["seed_generator/0", "seed_generator_state"];

/// The shape of a tensor in a file that may have the transposed matrix.
pub(crate) fn shape_in_file(tensor: &TensorInfo, transposed: bool) -> Vec<usize> {
    let shape = tensor.shape.iter().copied();
    if transposed { shape.rev().collect() } else { shape.collect() }
}

/// Prefix of our names of the tensors of an auxiliary classifier that a network has only where it is built for
/// training.
pub(crate) const AUXILIARY: &str = "auxiliary.";

/// One tensor of a network and its key in a scheme.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct KeyRow {
    /// Our tensor.
    pub tensor: TensorInfo,
    /// Its key.
    pub key: String,
    /// Whether the scheme has the transposed matrix: PyTorch's and NVIDIA's fully connected weights.
    pub transposed: bool,
    /// What all of its values are where the scheme has no such tensor: the scale of Keras's and NVIDIA's
    /// norms.
    pub constant: Option<f32>,
}

impl KeyRow {
    /// The tensor's shape in the scheme.
    pub fn shape(&self) -> Vec<usize> {
        shape_in_file(&self.tensor, self.transposed)
    }
}

/// The key in `scheme` of each tensor of `network`, in the order of the tensors.
///
/// # Panics
///
/// If `network` is not an `architecture`, or one for which the scheme has no keys.
pub fn key_table<M: Module>(network: &M, architecture: Architecture, scheme: KeyScheme) -> Vec<KeyRow> {
    let tensors = tensors(network);
    if matches!(scheme, KeyScheme::Native | KeyScheme::Graph) {
        let row = |tensor: TensorInfo| KeyRow {
            key: tensor.name.clone(),
            tensor,
            transposed: false,
            constant: None,
        };
        return tensors.into_iter().map(row).collect();
    }
    let table = scheme.table(architecture).expect("a key table for the network");
    let auxiliary = match tensors.iter().any(|tensor| tensor.name.starts_with(AUXILIARY)) {
        true => table.auxiliary,
        false => &[],
    };
    let mut layers = (table.layers)().into_iter().chain(auxiliary.iter().map(|&layer| layer.to_owned()));
    let mut layer = (String::new(), String::new());
    let rows = tensors.into_iter().map(|tensor| {
        let (path, _) = tensor.name.rsplit_once('.').expect("a tensor is a layer's field");
        if path != layer.0 {
            let theirs = layers.next().expect("a name for each layer");
            layer = (path.to_owned(), theirs);
        }
        // Keras's layers end in what separates them from the field.
        let dot = if scheme == KeyScheme::Keras { "" } else { "." };
        let key = format!("{}{dot}{}", layer.1, scheme.field(tensor.role));
        let transposed = matches!(scheme, KeyScheme::PyTorch | KeyScheme::Nvidia)
            && tensor.role == TensorRole::LinearWeight;
        let constant = (table.without_scale && tensor.role == TensorRole::NormScale).then_some(1.0);
        KeyRow { tensor, key, transposed, constant }
    });
    let rows = rows.collect();
    assert_eq!(layers.next(), None, "a layer for each name");
    rows
}

/// The key tables of `network`, one of `spec`, in all its schemes.
pub(crate) fn key_tables<M: Module>(network: &M, spec: &ModelSpec) -> Vec<(KeyScheme, Vec<KeyRow>)> {
    let table = |scheme| (scheme, key_table(network, spec.architecture, scheme));
    KeyScheme::of(spec).into_iter().map(table).collect()
}
