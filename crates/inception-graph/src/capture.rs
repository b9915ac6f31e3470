//! A Burn module's `forward`, recorded by `burn-capture`, as a [`Graph`].

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor, TensorData};
use burn_capture::CaptureBackend;
use burn_ir::{
    ActivationOperationIr, BaseOperationIr, FloatOperationIr, ModuleOperationIr, NumericOperationIr,
    OperationIr, ScalarIr, TensorId, TensorIr, TensorStatus,
};

use crate::{
    BatchNorm, Conv, Error, Graph, Linear, NodeId, Op, Parameter, Pool, PoolKind, Shape, Weight, Window,
};

/// Images in the recorded batch. Two, so that an operation that mixes the batch with another axis shows.
const BATCH: usize = 2;

/// Records `forward(module, images)` for images of `[channels, height, width]`, with the values of the
/// weights. A module that others hold too, as clones do, is not changed.
///
/// # Errors
///
/// [`Error::Capture`] if recording fails (a panic inside `forward` included), [`Error::Unsupported`] for an
/// operation that a graph does not have, [`Error::Graph`] for shapes that it cannot make sense of.
pub fn capture<M: Module, const D: usize>(
    module: M,
    forward: impl FnOnce(&M, Tensor<4>) -> Tensor<D>,
    image: [usize; 3],
) -> Result<Graph, Error> {
    let init = |device: &Device| {
        // `clone` would share the norms' running statistics, and `to_device` move them for both; `valid`
        // makes new ones.
        let own = module.valid();
        // The recording is copied when it is complete: with the module's that would be three copies of all
        // weights.
        drop(module);
        Ok(own.to_device(device))
    };
    capture_init(init, forward, image)
}

/// As [`capture`], of a module that `init` builds, with its values, on the device that records. Burn needs no
/// other backend for it.
///
/// # Errors
///
/// As [`capture`], and those of `init`.
pub fn capture_init<M: Module, const D: usize, E: From<Error>>(
    init: impl FnOnce(&Device) -> Result<M, E>,
    forward: impl FnOnce(&M, Tensor<4>) -> Tensor<D>,
    image: [usize; 3],
) -> Result<Graph, E> {
    let Recording { graph, mut values, .. } = record(init, forward, image)?;
    let mut readers: HashMap<TensorId, usize> = HashMap::new();
    for weight in graph.nodes.iter().flat_map(|node| node.op.weights()) {
        *readers.entry(weight.id).or_default() += 1;
    }
    let graph = graph.map_weights(|weight: Recorded| {
        let left = readers.entry(weight.id).or_default();
        *left = left.saturating_sub(1);
        // The last reader takes the values, so that there is one copy of each.
        let data = if *left == 0 { values.remove(&weight.id) } else { values.get(&weight.id).cloned() };
        let data = data.ok_or_else(|| Error::Capture(format!("{} has no values", weight.id)))?;
        let converted = data.convert::<f32>().try_into_vec::<f32>();
        converted.map_err(|error| Error::Capture(format!("{}: {error:?}", weight.id)))
    })?;
    Ok(graph)
}

/// As [`capture`], with the names of the weights, the paths of their fields, instead of values: no value is
/// made or read. `init` builds the module on a device, as a `Config` does.
///
/// # Errors
///
/// As [`capture`].
pub fn capture_structure<M: Module, const D: usize>(
    init: impl FnOnce(&Device) -> M,
    forward: impl FnOnce(&M, Tensor<4>) -> Tensor<D>,
    image: [usize; 3],
) -> Result<Graph<Parameter>, Error> {
    let on_device = |device: &Device| Ok::<_, Error>(init(device).map(&mut Zeros(device.clone())));
    let Recording { graph, parameters, .. } = record(on_device, forward, image)?;
    graph.map_weights(|weight: Recorded| match parameters.get(&weight.id) {
        Some(parameter) => Ok(parameter.clone()),
        None => Err(Error::Capture(format!("a weight of {:?} is no parameter of the module", weight.dims))),
    })
}

/// Replaces parameters by zeros, which the recording holds as an operation and not as values.
struct Zeros(Device);

impl ModuleMapper for Zeros {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        Param::from_tensor(Tensor::zeros(param.lazy_shape(), &self.0))
    }
}

/// Runs `work` with a device of Burn that holds the values of tensors and computes nothing, for what reads or
/// lists the tensors of modules: Burn needs no other backend for it. Modules made on the device can be read,
/// and moved to other devices, afterwards, too; parameters that have no value by then never get one.
///
/// # Panics
///
/// As `work` does.
pub fn with_storage_device<R>(work: impl FnOnce(&Device) -> R) -> R {
    let device = Device::capture();
    let mut result = None;
    let recorded = device.capture_scope(|scope| {
        result = Some(work(&device));
        // No tensor has this number, so that the recording is refused and its values are not copied.
        scope.complete([TensorId::new(u64::MAX)], [])
    });
    debug_assert!(recorded.is_err());
    result.expect("a new device is in no other scope")
}

struct Recording {
    graph: Graph<Recorded>,
    parameters: HashMap<TensorId, Parameter>,
    values: std::collections::BTreeMap<TensorId, TensorData>,
}

fn record<M: Module, const D: usize, E: From<Error>>(
    init: impl FnOnce(&Device) -> Result<M, E>,
    forward: impl FnOnce(&M, Tensor<4>) -> Tensor<D>,
    [channels, height, width]: [usize; 3],
) -> Result<Recording, E> {
    let device = Device::capture();
    let mut parameters = Ok(HashMap::new());
    // Burn's layers panic on input that they cannot take; a library should not pass that on.
    let recorded = catch_unwind(AssertUnwindSafe(|| {
        device.capture_scope(|scope| {
            let module = match init(&device) {
                Ok(module) => module,
                Err(error) => {
                    parameters = Err(error);
                    return scope.complete([], []);
                }
            };
            parameters = Ok(Parameters::of(&module));
            let shape = [BATCH, channels, height, width];
            let zeros = TensorData::new(vec![0.0f32; shape.iter().product()], shape);
            let images = Tensor::<4>::from_data(zeros, &device);
            let boundary = (id(&images), id(&forward(&module, images)));
            scope.complete(boundary.0, boundary.1)
        })
    }));
    let parameters = parameters?;
    let captured = match recorded {
        Ok(Ok(captured)) => captured,
        Ok(Err(error)) => return Err(Error::Capture(error.to_string()).into()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("forward panicked");
            return Err(Error::Capture(text.into()).into());
        }
    };
    let (&[input], &[output]) = (&captured.graph.inputs[..], &captured.graph.outputs[..]) else {
        return Err(Error::Capture("forward left the capture device".into()).into());
    };
    let translator = Translator {
        parameters: &parameters,
        graph: Graph::new(Shape::new(height, width, channels)),
        values: HashMap::from([(input, Value::Node(0))]),
        at: (0, String::new()),
    };
    let graph = translator.translate(&captured.graph.operations, output)?;
    Ok(Recording { graph, parameters, values: captured.values })
}

/// The identifier of a tensor on the capture device; `None` elsewhere.
fn id<const D: usize>(tensor: &Tensor<D>) -> Option<TensorId> {
    Some(tensor.clone().try_into_primitive::<CaptureBackend>().ok()?.id())
}

/// Collects the path and the shape of each parameter.
#[derive(Default)]
struct Parameters {
    path: Vec<String>,
    found: HashMap<TensorId, Parameter>,
}

impl Parameters {
    fn of<M: Module>(module: &M) -> HashMap<TensorId, Parameter> {
        let mut parameters = Parameters::default();
        module.visit(&mut parameters);
        parameters.found
    }
}

impl ModuleVisitor for Parameters {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(id) = id(&param.val()) {
            let (name, shape) = (self.path.join("."), param.lazy_shape().to_vec());
            self.found.insert(id, Parameter { name, shape });
        }
    }

    // A variant of an enum says which module this is, not where it stands.
    fn enter_module(&mut self, name: &str, container_type: &str) {
        if !container_type.starts_with("Enum:") {
            self.path.push(name.into());
        }
    }

    fn exit_module(&mut self, _name: &str, container_type: &str) {
        if !container_type.starts_with("Enum:") {
            self.path.pop();
        }
    }
}

/// A recorded constant that an operation reads as a weight.
#[derive(Clone, Debug)]
struct Recorded {
    id: TensorId,
    dims: Vec<usize>,
}

impl Weight for Recorded {
    fn len(&self) -> usize {
        self.dims.iter().product()
    }
}

/// What a recorded tensor is to a graph.
#[derive(Clone)]
enum Value {
    /// The output of a node.
    Node(NodeId),
    /// A constant, perhaps seen with other dimensions, or with rows and columns exchanged.
    Constant { id: TensorId, dims: Vec<usize>, transposed: bool },
}

struct Translator<'a> {
    parameters: &'a HashMap<TensorId, Parameter>,
    graph: Graph<Recorded>,
    values: HashMap<TensorId, Value>,
    /// Number of the operation at hand, and its name, for errors.
    at: (usize, String),
}

impl Translator<'_> {
    fn translate(mut self, operations: &[OperationIr], output: TensorId) -> Result<Graph<Recorded>, Error> {
        for (index, operation) in operations.iter().enumerate() {
            // An operation's debug form starts with its names: `Module(Conv2d(...`.
            let debug = format!("{operation:?}");
            let name: Vec<&str> =
                debug.split(['(', ' ', '{']).filter(|word| !word.is_empty()).take(2).collect();
            self.at = (index, name.join("::"));
            self.operation(operation)?;
        }
        self.graph.output = match self.values.get(&output) {
            Some(Value::Node(node)) => *node,
            _ => return Err(self.unsupported("the output does not depend on the input")),
        };
        Ok(self.graph)
    }

    fn unsupported(&self, reason: impl Into<String>) -> Error {
        Error::Unsupported { op: self.at.1.clone(), index: self.at.0, reason: reason.into() }
    }

    fn value(&self, tensor: &TensorIr) -> Value {
        let constant = || Value::Constant { id: tensor.id, dims: tensor.shape.to_vec(), transposed: false };
        self.values.get(&tensor.id).cloned().unwrap_or_else(constant)
    }

    fn node(&self, tensor: &TensorIr) -> Result<NodeId, Error> {
        match self.value(tensor) {
            Value::Node(node) => Ok(node),
            Value::Constant { .. } => {
                Err(self.unsupported("reads a constant where an activation is expected"))
            }
        }
    }

    /// A weight and whether its rows and columns are exchanged.
    fn matrix(&self, tensor: &TensorIr) -> Result<(Recorded, bool), Error> {
        match self.value(tensor) {
            Value::Constant { id, dims, transposed } => Ok((Recorded { id, dims }, transposed)),
            Value::Node(_) => Err(self.unsupported("reads an activation where a parameter is expected")),
        }
    }

    fn weight(&self, tensor: &TensorIr) -> Result<Recorded, Error> {
        match self.matrix(tensor)? {
            (weight, false) => Ok(weight),
            (_, true) => Err(self.unsupported("reads a transposed parameter")),
        }
    }

    /// Appends a node named after the layer that owns its first weight, or else by its operation and number.
    fn push(&mut self, op: Op<Recorded>, inputs: &[NodeId], out: &TensorIr) -> Result<(), Error> {
        let path = op
            .weights()
            .first()
            .and_then(|weight| self.parameters.get(&weight.id))
            .map(|parameter| &parameter.name);
        let name = match path {
            Some(path) => path.rsplit_once('.').map_or(&**path, |(layer, _)| layer).to_owned(),
            None => format!("{}_{}", op.name(), self.graph.nodes.len()),
        };
        let node = self.graph.add(name, op, inputs)?;
        self.values.insert(out.id, Value::Node(node));
        Ok(())
    }

    fn scale(&mut self, input: &TensorIr, scale: f64, shift: f64, out: &TensorIr) -> Result<(), Error> {
        let input = self.node(input)?;
        self.push(Op::Scale { scale, shift }, &[input], out)
    }

    /// Adds a parameter with one value for each channel. That of a fully connected layer, which Burn records
    /// as an operation of its own, is the layer's.
    fn bias(&mut self, x: &TensorIr, node: NodeId, bias: Recorded, out: &TensorIr) -> Result<(), Error> {
        let channels = self.graph.nodes[node].shape.channels;
        let rank = out.shape.to_vec().len();
        // Broadcasting aligns the last axes; the channels are axis 1.
        let axis = (bias.dims.len() + 1).checked_sub(rank);
        if bias.len() != channels || axis.and_then(|axis| bias.dims.get(axis)) != Some(&channels) {
            return Err(self.unsupported(format!("adds a constant of {:?}", bias.dims)));
        }
        if let Op::Linear(linear) = &mut self.graph.nodes[node].op
            && linear.bias.is_none()
            && x.status == TensorStatus::ReadWrite
        {
            linear.bias = Some(bias);
            self.values.insert(out.id, Value::Node(node));
            return Ok(());
        }
        self.push(Op::Bias(bias), &[node], out)
    }

    fn scalar(&self, scalar: &ScalarIr) -> Result<f64, Error> {
        match scalar {
            ScalarIr::Float(x) => Ok(*x),
            ScalarIr::Int(x) => Ok(*x as f64),
            ScalarIr::UInt(x) => Ok(*x as f64),
            ScalarIr::Bool(_) => Err(self.unsupported("a boolean operand")),
        }
    }

    fn operation(&mut self, operation: &OperationIr) -> Result<(), Error> {
        match operation {
            OperationIr::Init(_) | OperationIr::Drop(_) => Ok(()),
            OperationIr::Module(op) => self.module(op),
            OperationIr::Activation(ActivationOperationIr::Relu(op)) => {
                let input = self.node(&op.input)?;
                self.push(Op::Relu, &[input], &op.out)
            }
            OperationIr::NumericFloat(_, op) => self.numeric(op),
            OperationIr::BaseFloat(op) => self.base(op),
            OperationIr::Float(_, FloatOperationIr::Matmul(op)) => {
                self.linear(&op.lhs, &op.rhs, None, &op.out)
            }
            _ => Err(self.unsupported("a graph has no such operation")),
        }
    }

    fn numeric(&mut self, operation: &NumericOperationIr) -> Result<(), Error> {
        match operation {
            NumericOperationIr::Add(op) => {
                for (x, constant) in [(&op.lhs, &op.rhs), (&op.rhs, &op.lhs)] {
                    if let (Value::Node(node), Value::Constant { .. }) = (self.value(x), self.value(constant))
                    {
                        let bias = self.weight(constant)?;
                        return self.bias(x, node, bias, &op.out);
                    }
                }
                if op.lhs.shape != op.rhs.shape {
                    return Err(self.unsupported("a sum that broadcasts"));
                }
                let inputs = [self.node(&op.lhs)?, self.node(&op.rhs)?];
                self.push(Op::Add { relu: false }, &inputs, &op.out)
            }
            NumericOperationIr::MulScalar(op) => self.scale(&op.lhs, self.scalar(&op.rhs)?, 0.0, &op.out),
            NumericOperationIr::DivScalar(op) => {
                self.scale(&op.lhs, 1.0 / self.scalar(&op.rhs)?, 0.0, &op.out)
            }
            NumericOperationIr::AddScalar(op) => self.scale(&op.lhs, 1.0, self.scalar(&op.rhs)?, &op.out),
            NumericOperationIr::SubScalar(op) => self.scale(&op.lhs, 1.0, -self.scalar(&op.rhs)?, &op.out),
            NumericOperationIr::ClampMin(op) if self.scalar(&op.rhs)? == 0.0 => {
                let input = self.node(&op.lhs)?;
                self.push(Op::Relu, &[input], &op.out)
            }
            NumericOperationIr::MeanDim(op) => {
                // Burn averages one axis at a time; along height or width that is a pool.
                let input = self.node(&op.input)?;
                let shape = self.graph.nodes[input].shape;
                let kernel = match op.axis {
                    2 => [shape.height, 1],
                    3 => [1, shape.width],
                    axis => return Err(self.unsupported(format!("a mean along axis {axis}"))),
                };
                let window = Window::new(kernel, [1; 2], [0; 2]);
                self.pool(PoolKind::Average, window, &op.input, &op.out)
            }
            _ => Err(self.unsupported("a graph has no such operation")),
        }
    }

    fn base(&mut self, operation: &BaseOperationIr) -> Result<(), Error> {
        match operation {
            // A constant; if nobody but the module's parameters knows its values, that shows where they are
            // asked for.
            BaseOperationIr::Zeros(_) | BaseOperationIr::Ones(_) => Ok(()),
            BaseOperationIr::Cat(op) => {
                if op.dim != 1 {
                    return Err(self.unsupported(format!("concatenation along axis {}", op.dim)));
                }
                let inputs =
                    op.tensors.iter().map(|tensor| self.node(tensor)).collect::<Result<Vec<_>, _>>()?;
                self.push(Op::Concat, &inputs, &op.out)
            }
            BaseOperationIr::Cast(op) if op.input.dtype == op.out.dtype => {
                let value = self.value(&op.input);
                self.values.insert(op.out.id, value);
                Ok(())
            }
            BaseOperationIr::Reshape(op) => self.reshape(&op.input, &op.out),
            BaseOperationIr::SwapDims(op) => match self.value(&op.input) {
                Value::Constant { id, dims, transposed } if dims.len() == 2 && op.dim1 != op.dim2 => {
                    let dims = vec![dims[1], dims[0]];
                    self.values.insert(op.out.id, Value::Constant { id, dims, transposed: !transposed });
                    Ok(())
                }
                _ => Err(self.unsupported("a transposed activation")),
            },
            _ => Err(self.unsupported("a graph has no such operation")),
        }
    }

    fn reshape(&mut self, input: &TensorIr, out: &TensorIr) -> Result<(), Error> {
        let dims = out.shape.to_vec();
        let node = match self.value(input) {
            Value::Constant { id, transposed: false, .. } => {
                self.values.insert(out.id, Value::Constant { id, dims, transposed: false });
                return Ok(());
            }
            Value::Constant { .. } => return Err(self.unsupported("reshapes a transposed parameter")),
            Value::Node(node) => node,
        };
        let shape = self.graph.nodes[node].shape;
        let flat = dims.len() >= 2 && dims[0] == BATCH && dims[1] == shape.len();
        if dims[..] == [BATCH, shape.channels, shape.height, shape.width] || (flat && shape.pixels() == 1) {
            self.values.insert(out.id, Value::Node(node));
            return Ok(());
        }
        if flat && dims[2..].iter().all(|&d| d == 1) {
            return self.push(Op::Flatten, &[node], out);
        }
        Err(self.unsupported(format!("reshapes {:?} to {dims:?}", input.shape.to_vec())))
    }

    fn pool(&mut self, kind: PoolKind, window: Window, x: &TensorIr, out: &TensorIr) -> Result<(), Error> {
        let input = self.node(x)?;
        self.push(Op::Pool(Box::new(Pool { kind, window, bias: None, relu: false })), &[input], out)
    }

    /// `x * weight + bias`, with a weight of `[in, out]`.
    fn linear(
        &mut self,
        x: &TensorIr,
        weight: &TensorIr,
        bias: Option<&TensorIr>,
        out: &TensorIr,
    ) -> Result<(), Error> {
        let input = self.node(x)?;
        let (weight, transposed) = self.matrix(weight)?;
        let dims = &weight.dims;
        let (&[rows, columns], 2) = (&dims[dims.len().saturating_sub(2)..], x.shape.to_vec().len()) else {
            return Err(self.unsupported(format!("a product of {:?} and {dims:?}", x.shape.to_vec())));
        };
        if weight.len() != rows * columns {
            return Err(self.unsupported("a product with a batch of matrices"));
        }
        let bias = bias.map(|bias| self.weight(bias)).transpose()?;
        let linear = Linear { weight, bias, out_features: columns, transposed };
        self.push(Op::Linear(Box::new(linear)), &[input], out)
    }

    fn module(&mut self, operation: &ModuleOperationIr) -> Result<(), Error> {
        match operation {
            ModuleOperationIr::Conv2d(op) => {
                let input = self.node(&op.x)?;
                let dims = op.weight.shape.to_vec();
                let &[out_channels, _, height, width] = &dims[..] else {
                    return Err(self.unsupported(format!("a kernel of {dims:?}")));
                };
                let [(top, bottom), (left, right)] = op.options.padding;
                let window = Window {
                    kernel: [height, width],
                    stride: op.options.stride,
                    pad: [top, left],
                    pad_end: [bottom, right],
                    dilation: op.options.dilation,
                    ceil: false,
                    same: false,
                };
                let bias = op.bias.as_ref().map(|bias| self.weight(bias)).transpose()?;
                let groups = op.options.groups;
                let conv = Conv { bias, out_channels, groups, ..Conv::new(self.weight(&op.weight)?, window) };
                self.push(Op::Conv(Box::new(conv)), &[input], &op.out)
            }
            ModuleOperationIr::BatchNorm(op) => {
                let input = self.node(&op.x)?;
                let norm = BatchNorm {
                    gamma: self.weight(&op.gamma)?,
                    beta: self.weight(&op.beta)?,
                    mean: self.weight(&op.mean)?,
                    variance: self.weight(&op.variance)?,
                    epsilon: self.scalar(&op.epsilon)?,
                };
                self.push(Op::BatchNorm(Box::new(norm)), &[input], &op.out)
            }
            ModuleOperationIr::Linear(op) => self.linear(&op.x, &op.weight, op.bias.as_ref(), &op.out),
            ModuleOperationIr::MaxPool2d(op) => {
                let mut window = Window::new(op.kernel_size, op.stride, op.padding);
                (window.dilation, window.ceil) = (op.dilation, op.ceil_mode);
                self.pool(PoolKind::Max, window, &op.x, &op.out)
            }
            ModuleOperationIr::AvgPool2d(op) => {
                let mut window = Window::new(op.kernel_size, op.stride, op.padding);
                window.ceil = op.ceil_mode;
                let kind =
                    if op.count_include_pad { PoolKind::AverageWithPadding } else { PoolKind::Average };
                self.pool(kind, window, &op.x, &op.out)
            }
            ModuleOperationIr::AdaptiveAvgPool2d(op) if op.output_size == [1, 1] => {
                let input = self.node(&op.x)?;
                self.push(Op::GlobalAveragePool, &[input], &op.out)
            }
            ModuleOperationIr::AdaptiveAvgPool2d(op) => {
                let input = self.node(&op.x)?;
                let size = self.graph.nodes[input].shape.size();
                let divides = (0..2)
                    .all(|axis| op.output_size[axis] > 0 && size[axis].is_multiple_of(op.output_size[axis]));
                if !divides {
                    return Err(self
                        .unsupported(format!("averages {size:?} to {:?}, uneven windows", op.output_size)));
                }
                let kernel = [0, 1].map(|axis| size[axis] / op.output_size[axis]);
                self.pool(PoolKind::Average, Window::new(kernel, kernel, [0; 2]), &op.x, &op.out)
            }
            _ => Err(self.unsupported("a graph has no such operation")),
        }
    }
}
