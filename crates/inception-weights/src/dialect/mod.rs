//! What others call our tensors.

mod paddle;

use burn::module::Module;
use inception_nn::{Architecture, TensorInfo, TensorRole, tensors};

/// Whose names a checkpoint uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Ours: the path of fields in the module.
    Native,
    /// The state dict of PaddleClas 2.6.
    PaddleClas,
}

/// One tensor of a network and the key under which a dialect has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameRow {
    /// Our tensor.
    pub tensor: TensorInfo,
    /// The dialect's key.
    pub key: String,
}

/// For each tensor of `network`, in order, the key that `dialect` has for it.
///
/// # Panics
///
/// If `network` is not an `architecture`.
pub fn name_table<M: Module>(network: &M, architecture: Architecture, dialect: Dialect) -> Vec<NameRow> {
    let tensors = tensors(network);
    let layers = match dialect {
        Dialect::Native => {
            let row = |tensor: TensorInfo| NameRow { key: tensor.name.clone(), tensor };
            return tensors.into_iter().map(row).collect();
        }
        Dialect::PaddleClas => paddle::layers(architecture),
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
        NameRow { tensor, key }
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
        (Dialect::Native, R::RunningMean) => "running_mean",
        (Dialect::Native, R::RunningVariance) => "running_var",
    }
}
