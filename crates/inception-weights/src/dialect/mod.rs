//! What others call our tensors.

mod paddle;
mod torch;

use burn::module::Module;
use inception_nn::{Architecture, TensorInfo, TensorRole, tensors};

/// Whose names a checkpoint uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Ours: the path of fields in the module.
    Native,
    /// The state dict of PaddleClas 2.6.
    PaddleClas,
    /// The state dict of timm or torchvision.
    PyTorch,
    /// None that counts: the file's operations have said which tensor is which.
    Graph,
}

impl Dialect {
    /// The dialects that know a network, ours first.
    pub fn of(architecture: Architecture) -> [Self; 2] {
        [Self::Native, if architecture.is_paddle() { Self::PaddleClas } else { Self::PyTorch }]
    }

    /// Whether a key that belongs to no tensor of the network may be passed over: PyTorch counts the batches that
    /// its norms have seen, its networks have heads for training only, and Paddle's optimisers keep their state
    /// beside what they train.
    pub fn is_unused(self, architecture: Architecture, key: &str) -> bool {
        match self {
            Self::Native | Self::Graph => false,
            Self::PaddleClas => PADDLE_OPTIMISER.iter().any(|suffix| key.ends_with(suffix)),
            Self::PyTorch => {
                key.ends_with(".num_batches_tracked")
                    || torch::unused(architecture).iter().any(|prefix| key.starts_with(prefix))
            }
        }
    }
}

/// What Paddle's optimisers append to the name of a parameter for their own tensors.
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

/// One tensor of a network and the key under which a dialect has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameRow {
    /// Our tensor.
    pub tensor: TensorInfo,
    /// The dialect's key.
    pub key: String,
    /// Whether the dialect has rows where we have columns: PyTorch's fully connected weights.
    pub transposed: bool,
}

impl NameRow {
    /// The shape that the dialect has.
    pub fn shape(&self) -> Vec<usize> {
        let shape = self.tensor.shape.iter().copied();
        if self.transposed { shape.rev().collect() } else { shape.collect() }
    }
}

/// For each tensor of `network`, in order, the key that `dialect` has for it.
///
/// # Panics
///
/// If `network` is not an `architecture`, or one that the dialect does not know.
pub fn name_table<M: Module>(network: &M, architecture: Architecture, dialect: Dialect) -> Vec<NameRow> {
    let tensors = tensors(network);
    let layers = match dialect {
        Dialect::Native | Dialect::Graph => {
            let row = |tensor: TensorInfo| NameRow { key: tensor.name.clone(), tensor, transposed: false };
            return tensors.into_iter().map(row).collect();
        }
        Dialect::PaddleClas => paddle::layers(architecture),
        Dialect::PyTorch => torch::layers(architecture),
    };
    let mut layers = layers.into_iter();
    let mut layer = (String::new(), String::new());
    let rows = tensors.into_iter().map(|tensor| {
        let (path, _) = tensor.name.rsplit_once('.').expect("a tensor is a layer's field");
        if path != layer.0 {
            let theirs = layers.next().expect("a name for each layer");
            layer = (path.to_owned(), theirs);
        }
        let key = format!("{}.{}", layer.1, field(dialect, tensor.role));
        let transposed = dialect == Dialect::PyTorch && tensor.role == TensorRole::LinearWeight;
        NameRow { tensor, key, transposed }
    });
    let rows = rows.collect();
    assert_eq!(layers.next(), None, "a layer for each name");
    rows
}

/// What a dialect calls the field of a layer.
fn field(dialect: Dialect, role: TensorRole) -> &'static str {
    use TensorRole as R;
    match (dialect, role) {
        (_, R::ConvWeight | R::LinearWeight | R::NormScale) => "weight",
        (_, R::Bias | R::NormShift) => "bias",
        (Dialect::PaddleClas, R::RunningMean) => "_mean",
        (Dialect::PaddleClas, R::RunningVariance) => "_variance",
        (_, R::RunningMean) => "running_mean",
        (_, R::RunningVariance) => "running_var",
    }
}
