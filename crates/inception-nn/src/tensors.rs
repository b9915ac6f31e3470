//! The tensors of a module by name: listing, reading, replacing, and the seeded values they start from.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use rand::SeedableRng;
use rand::distr::{Distribution, Uniform};
use rand::rngs::ChaCha8Rng;
use rand_distr::Normal;

/// What a tensor is to the layer that owns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TensorRole {
    /// A convolution's weight, `[channels_out, channels_in / groups, kernel_height, kernel_width]`.
    ConvWeight,
    /// A fully connected layer's weight, `[inputs, outputs]`.
    LinearWeight,
    /// The bias of a fully connected layer, or of a convolution that no norm follows, `[outputs]`; in the
    /// form for a GPU one that is added by itself, `[1, channels, 1, 1]`.
    Bias,
    /// A batch norm's scale (gamma), `[channels]`.
    NormScale,
    /// A batch norm's shift (beta), `[channels]`.
    NormShift,
    /// A batch norm's running mean, `[channels]`; not trained.
    RunningMean,
    /// A batch norm's running variance, `[channels]`; not trained.
    RunningVariance,
}

impl TensorRole {
    /// Whether an optimiser changes it: everything but the running statistics.
    pub fn is_trainable(self) -> bool {
        !matches!(self, Self::RunningMean | Self::RunningVariance)
    }

    /// The role of the field `name` of a struct that Burn's derive calls `container`.
    fn of(container: &str, name: &str) -> Self {
        match (container, name) {
            ("Struct:Conv2d", "weight") => Self::ConvWeight,
            ("Struct:Linear", "weight") => Self::LinearWeight,
            ("Struct:Linear" | "Struct:Conv2d", "bias")
            | ("Struct:ConvNorm" | "Struct:Stage" | "Struct:Block", "shift") => Self::Bias,
            ("Struct:BatchNorm", "gamma") => Self::NormScale,
            ("Struct:BatchNorm", "beta") => Self::NormShift,
            ("Struct:BatchNorm", "running_mean") => Self::RunningMean,
            ("Struct:BatchNorm", "running_var") => Self::RunningVariance,
            _ => unreachable!("the networks own no `{name}` in a {container}"),
        }
    }
}

/// A tensor of a network, without its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Our own name: the path of fields from the network to the tensor, joined by dots, such as
    /// `stages.7.branches.1.convs.0.conv.weight`.
    pub name: String,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// What it is.
    pub role: TensorRole,
}

/// Where a traversal is. An enum that only says which network this is has no part in a name.
#[derive(Default)]
struct Path(Vec<(String, String)>);

impl Path {
    fn info(&self, shape: Vec<usize>) -> TensorInfo {
        let fields = self.0.iter().filter(|(c, _)| !c.starts_with("Enum:"));
        let names: Vec<_> = fields.map(|(_, name)| name.as_str()).collect();
        let (container, name) = self.0.last().expect("a tensor is the field of a layer");
        TensorInfo { name: names.join("."), shape, role: TensorRole::of(container, name) }
    }
}

/// What a traversal whose first field is its [`Path`] does on its way.
macro_rules! keeps_path {
    () => {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.0.0.push((container.to_owned(), name.to_owned()));
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.0.pop();
        }
    };
}

/// Names, shapes and roles of all tensors of a network, in the order of its fields.
pub fn tensors<M: Module>(module: &M) -> Vec<TensorInfo> {
    struct Lister(Path, Vec<TensorInfo>);
    impl ModuleVisitor for Lister {
        keeps_path!();
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.1.push(self.0.info(param.lazy_shape().to_vec()));
        }
    }
    let mut lister = Lister(Path::default(), Vec::new());
    module.visit(&mut lister);
    lister.1
}

/// Number of values that training changes.
pub fn trainable_parameters<M: Module>(module: &M) -> usize {
    let trainable = tensors(module).into_iter().filter(|t| t.role.is_trainable());
    trainable.map(|t| t.shape.iter().product::<usize>()).sum()
}

/// Shows every tensor with its values to `visit`, one at a time, in the order of [`tensors`].
///
/// # Errors
///
/// The first error of `visit`; no tensor is shown after it.
pub fn read_tensors<M: Module, E>(
    module: &M,
    visit: impl FnMut(&TensorInfo, TensorData) -> Result<(), E>,
) -> Result<(), E> {
    struct Reader<F, E>(Path, F, Result<(), E>);
    impl<F: FnMut(&TensorInfo, TensorData) -> Result<(), E>, E> ModuleVisitor for Reader<F, E> {
        keeps_path!();
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if self.2.is_ok() {
                let info = self.0.info(param.lazy_shape().to_vec());
                self.2 = (self.1)(&info, param.val().into_data());
            }
        }
    }
    let mut reader = Reader(Path::default(), visit, Ok(()));
    module.visit(&mut reader);
    reader.2
}

/// Replaces each tensor by what `source` gives for it, on the device where it is; `None` keeps the tensor.
///
/// The values must be as many as the shape asks for; `source` is asked once for each of [`tensors`], in that
/// order.
///
/// # Errors
///
/// The first error of `source`; the module is then lost, as half of it may have been replaced.
pub fn load_tensors<M: Module, E>(
    module: M,
    source: impl FnMut(&TensorInfo) -> Result<Option<TensorData>, E>,
) -> Result<M, E> {
    struct Loader<F, E>(Path, F, Result<(), E>);
    impl<F: FnMut(&TensorInfo) -> Result<Option<TensorData>, E>, E> ModuleMapper for Loader<F, E> {
        keeps_path!();
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if self.2.is_err() {
                return param;
            }
            match (self.1)(&self.0.info(param.lazy_shape().to_vec())) {
                Ok(None) => param,
                Ok(Some(data)) => {
                    let tensor = Tensor::from_data(data, &param.lazy_device());
                    let id = param.id;
                    param.transform_for_load(tensor, id)
                }
                Err(error) => {
                    self.2 = Err(error);
                    param
                }
            }
        }
    }
    let mut loader = Loader(Path::default(), source, Ok(()));
    let module = module.map(&mut loader);
    loader.2.map(|()| module)
}

/// Shows every tensor that training changes to `change`, one at a time, in the order of [`tensors`]: its values, to be
/// changed, and its gradient, if there is one, which is taken out of `gradients`.
///
/// The module is on a device for training (`Device::autodiff`), and the gradients are those of its tensors.
pub fn update_tensors<M: Module>(
    module: M,
    gradients: &mut Gradients,
    change: impl FnMut(&TensorInfo, &mut [f32], Option<&[f32]>),
) -> M {
    struct Updater<'a, F>(Path, F, &'a mut Gradients);
    impl<F: FnMut(&TensorInfo, &mut [f32], Option<&[f32]>)> ModuleMapper for Updater<'_, F> {
        keeps_path!();
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let info = self.0.info(param.lazy_shape().to_vec());
            if !info.role.is_trainable() {
                return param;
            }
            let (value, device) = (param.val(), param.lazy_device());
            let gradient = value.grad_remove(self.2).map(|gradient| in_f32(gradient.into_data()));
            let mut values = in_f32(value.into_data());
            (self.1)(&info, &mut values, gradient.as_deref());
            let tensor = Tensor::from_data(TensorData::new(values, info.shape), &device);
            let id = param.id;
            param.transform_for_load(tensor, id)
        }
    }
    module.map(&mut Updater(Path::default(), change, gradients))
}

/// Values in single precision.
fn in_f32(data: TensorData) -> Vec<f32> {
    data.convert::<f32>().try_into_vec::<f32>().expect("just converted")
}

/// Gives every parameter an initialiser that draws from a generator of its own, keyed by `seed` and the
/// tensor's name, so that the values depend neither on the device nor on the order of first use. Nothing is
/// drawn until a value is asked for.
pub(crate) fn seed_parameters<M: Module>(module: M, seed: u64) -> M {
    struct Seeder(Path, u64);
    impl ModuleMapper for Seeder {
        keeps_path!();
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let shape = param.lazy_shape();
            let info = self.0.info(shape.to_vec());
            let seed = self.1;
            if !info.role.is_trainable() {
                // Burn has made running statistics as an operation, which a device that only holds values
                // cannot run.
                let data = TensorData::new(initial_values(&info, seed), info.shape.clone());
                return Param::from_tensor(Tensor::from_data(data, &param.lazy_device()));
            }
            let init = move |device: &Device, require_grad: bool| {
                let data = TensorData::new(initial_values(&info, seed), info.shape.clone());
                Tensor::from_data(data, device).set_require_grad(require_grad)
            };
            Param::uninitialized(ParamId::new(), init, param.lazy_device(), true, shape)
        }
    }
    module.map(&mut Seeder(Path::default(), seed))
}

/// He's normal for convolutions (as Paddle's `Conv2D` by default; half the variance for depthwise ones, which
/// no ReLU follows, so that an untrained Xception's logits stay finite), uniform within `1 / sqrt(inputs)`
/// for fully connected layers (as PaddleClas's classifiers), the identity for norms, zero for biases.
fn initial_values(info: &TensorInfo, seed: u64) -> Vec<f32> {
    let count = info.shape.iter().product();
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    generator.set_stream(fnv1a(info.name.as_bytes()));
    match info.role {
        TensorRole::ConvWeight => {
            let fan_in: usize = info.shape[1..].iter().product();
            let gain = if info.shape[1] == 1 { 1.0 } else { 2.0 };
            let normal = Normal::new(0.0, (gain / fan_in as f32).sqrt());
            let normal = normal.expect("a kernel has values, so that the deviation is finite");
            normal.sample_iter(generator).take(count).collect()
        }
        TensorRole::LinearWeight => {
            let bound = 1.0 / (info.shape[0] as f32).sqrt();
            let uniform = Uniform::new_inclusive(-bound, bound);
            let uniform = uniform.expect("a layer has inputs, so that the bound is finite");
            uniform.sample_iter(generator).take(count).collect()
        }
        TensorRole::NormScale | TensorRole::RunningVariance => vec![1.0; count],
        TensorRole::Bias | TensorRole::NormShift | TensorRole::RunningMean => vec![0.0; count],
    }
}

/// The 64-bit FNV-1a hash: stable across versions and platforms, which the standard library's hasher is not.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use inception_graph::with_storage_device;

    use super::*;
    use crate::{Network, model};

    fn values(seed: u64) -> Vec<(String, Vec<f32>)> {
        let config = model("GoogLeNet").unwrap().config().with_num_classes(5).with_seed(seed);
        with_storage_device(|device| values_of(&config.init(device).unwrap()))
    }

    fn values_of(network: &Network) -> Vec<(String, Vec<f32>)> {
        let mut all = Vec::new();
        let read = read_tensors(network, |info, data| {
            all.push((info.name.clone(), data.try_into_vec::<f32>().unwrap()));
            Ok::<_, std::convert::Infallible>(())
        });
        read.unwrap();
        all
    }

    #[test]
    fn seeds_decide_all_values() {
        let first = values(1);
        assert_eq!(first, values(1));
        let other = values(2);
        for ((name, a), (_, b)) in first.iter().zip(&other) {
            assert_eq!(a == b, name.ends_with("bias"), "{name}");
        }
    }

    #[test]
    fn equal_shapes_get_different_values() {
        let first = values(1);
        let weights: Vec<_> = first.iter().filter(|(name, _)| name.contains("fc2.weight")).collect();
        assert_eq!(weights.len(), 2);
        assert_ne!(weights[0].1, weights[1].1);
    }

    #[test]
    fn loading_part_keeps_the_rest() {
        let config = model("GoogLeNet").unwrap().config().with_num_classes(5);
        let before = values(0);
        let after = with_storage_device(|device| {
            let Ok(network) = load_tensors(config.init(device).unwrap(), |info| {
                let ones = TensorData::new(vec![1f32; 5], [5]);
                Ok::<_, std::convert::Infallible>((info.name == "head.fc.bias").then_some(ones))
            });
            values_of(&network)
        });
        let changed = after.iter().zip(&before).filter(|(new, old)| new != old);
        let changed: Vec<_> = changed.map(|((name, _), _)| name.as_str()).collect();
        assert_eq!(changed, ["head.fc.bias"]);
    }

    #[test]
    fn an_error_of_the_source_is_returned() {
        let mut asked = 0;
        let result = with_storage_device(|device| {
            let network = model("GoogLeNet").unwrap().config().init(device).unwrap();
            load_tensors(network, |_| {
                asked += 1;
                Err("no")
            })
        });
        assert_eq!(result.err(), Some("no"));
        assert_eq!(asked, 1);
    }
}
