//! The front door: a Burn module's `forward`, recorded by `burn-capture`, as a [`Graph`].

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor, TensorData};
use burn_capture::CaptureBackend;
use burn_ir::{
    ActivationOperationIr, BaseOperationIr, FloatOperationIr, ModuleOperationIr, NumericOperationIr,
    OperationIr, ScalarIr, TensorId, TensorIr,
};

use crate::Error;
use crate::graph::{Conv, Graph, NodeId, Op, Pool, PoolKind, Shape, Window};

/// Images in the recorded batch. Two, so that an operation that mixes the batch with another axis shows.
const BATCH: usize = 2;

/// Records `forward(module, images)` for images of `[channels, height, width]` and translates it. A module that others hold
/// too, as clones do, is not changed.
///
/// # Errors
/// [`Error::Capture`] if recording fails (a panic inside `forward` included), [`Error::Unsupported`] for an operation that
/// the engine does not have, [`Error::Graph`] for shapes that it cannot make sense of.
pub fn capture<M: Module, const D: usize>(
    module: M,
    forward: impl FnOnce(&M, Tensor<4>) -> Tensor<D>,
    [channels, height, width]: [usize; 3],
) -> Result<Graph, Error> {
    let device = Device::capture();
    let mut names = HashMap::new();
    // Burn's layers panic on input that they cannot take; a library should not pass that on.
    let recorded = catch_unwind(AssertUnwindSafe(|| {
        device.capture_scope(|scope| {
            // `clone` would share the norms' running statistics, and `to_device` move them for both; `valid` makes new ones.
            let own = module.valid();
            // The recording is copied when it is complete: with the module's that would be three copies of all weights.
            drop(module);
            let module = own.to_device(&device);
            names = Names::of(&module);
            let shape = [BATCH, channels, height, width];
            let zeros = TensorData::new(vec![0.0f32; shape.iter().product()], shape);
            let images = Tensor::<4>::from_data(zeros, &device);
            let boundary = (id(&images), id(&forward(&module, images)));
            scope.complete(boundary.0, boundary.1)
        })
    }));
    let captured = match recorded {
        Ok(Ok(captured)) => captured,
        Ok(Err(error)) => return Err(Error::Capture(error.to_string())),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("forward panicked");
            return Err(Error::Capture(text.into()));
        }
    };
    let (&[input], &[output]) = (&captured.graph.inputs[..], &captured.graph.outputs[..]) else {
        return Err(Error::Capture("forward left the capture device".into()));
    };
    let operations = &captured.graph.operations;
    Translator::new(captured.values, names, input, Shape::new(height, width, channels))
        .translate(operations, output)
}

/// The identifier of a tensor on the capture device; `None` elsewhere.
fn id<const D: usize>(tensor: &Tensor<D>) -> Option<TensorId> {
    Some(tensor.clone().try_into_primitive::<CaptureBackend>().ok()?.id())
}

/// Collects the path of each parameter's layer.
#[derive(Default)]
struct Names {
    path: Vec<String>,
    found: HashMap<TensorId, String>,
}

impl Names {
    fn of<M: Module>(module: &M) -> HashMap<TensorId, String> {
        let mut names = Names::default();
        module.visit(&mut names);
        names.found
    }
}

impl ModuleVisitor for Names {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(id) = id(&param.val()) {
            // The last part is the parameter's own name, `weight` or the like.
            let layer = &self.path[..self.path.len().saturating_sub(1)];
            self.found.insert(id, layer.join("."));
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

/// What a recorded tensor is to the engine.
#[derive(Clone)]
enum Value {
    /// The output of a node.
    Node(NodeId),
    /// A parameter, or something that `forward` made of one.
    Constant { data: Vec<f32>, dims: Vec<usize> },
}

struct Translator {
    /// What was recorded of parameters; each goes when the last operation that reads it has its copy.
    recorded: BTreeMap<TensorId, TensorData>,
    names: HashMap<TensorId, String>,
    graph: Graph,
    values: HashMap<TensorId, Value>,
    /// Number of the operation at hand, and its name, for errors.
    at: (usize, String),
}

impl Translator {
    fn new(
        recorded: BTreeMap<TensorId, TensorData>,
        names: HashMap<TensorId, String>,
        input: TensorId,
        image: Shape,
    ) -> Self {
        let values = HashMap::from([(input, Value::Node(0))]);
        Translator { recorded, names, graph: Graph::new(image), values, at: (0, String::new()) }
    }

    fn translate(mut self, operations: &[OperationIr], output: TensorId) -> Result<Graph, Error> {
        let reads = operations.iter().enumerate();
        let reads = reads.flat_map(|(index, operation)| operation.inputs().map(move |x| (x.id, index)));
        let last_read: HashMap<TensorId, usize> = reads.collect();
        for (index, operation) in operations.iter().enumerate() {
            // An operation's debug form starts with its names: `Module(Conv2d(...`.
            let debug = format!("{operation:?}");
            let name: Vec<&str> =
                debug.split(['(', ' ', '{']).filter(|part| !part.is_empty()).take(2).collect();
            self.at = (index, name.join("::"));
            self.operation(operation)?;
            for tensor in operation.inputs().filter(|tensor| last_read[&tensor.id] == index) {
                self.recorded.remove(&tensor.id);
                if let Some(Value::Constant { .. }) = self.values.get(&tensor.id) {
                    self.values.remove(&tensor.id);
                }
            }
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

    fn value(&self, tensor: &TensorIr) -> Result<Value, Error> {
        if let Some(value) = self.values.get(&tensor.id) {
            return Ok(value.clone());
        }
        let data = self.recorded.get(&tensor.id);
        let data =
            data.ok_or_else(|| self.unsupported(format!("reads {}, which nothing writes", tensor.id)))?;
        let floats = match data.as_slice::<f32>() {
            Ok(floats) => floats.to_vec(),
            Err(_) => data.iter::<f32>().collect(),
        };
        Ok(Value::Constant { data: floats, dims: tensor.shape.to_vec() })
    }

    fn node(&self, tensor: &TensorIr) -> Result<NodeId, Error> {
        match self.value(tensor)? {
            Value::Node(node) => Ok(node),
            Value::Constant { .. } => {
                Err(self.unsupported("reads a constant where an activation is expected"))
            }
        }
    }

    fn constant(&self, tensor: &TensorIr) -> Result<Vec<f32>, Error> {
        match self.value(tensor)? {
            Value::Constant { data, .. } => Ok(data),
            Value::Node(_) => Err(self.unsupported("reads an activation where a parameter is expected")),
        }
    }

    /// Appends a node named after the layer that owns `parameter`, or else by its number.
    fn push(
        &mut self,
        op: Op,
        inputs: &[NodeId],
        parameter: Option<&TensorIr>,
        out: &TensorIr,
    ) -> Result<(), Error> {
        let name = match parameter.and_then(|tensor| self.names.get(&tensor.id)) {
            Some(path) => path.clone(),
            None => format!("{}_{}", op.name(), self.graph.nodes.len()),
        };
        let node = self.graph.add(name, op, inputs)?;
        self.values.insert(out.id, Value::Node(node));
        Ok(())
    }

    fn affine(&mut self, input: &TensorIr, scale: f64, shift: f64, out: &TensorIr) -> Result<(), Error> {
        let input = self.node(input)?;
        let channels = self.graph.nodes[input].shape.channels;
        let op = Op::Affine { scale: vec![scale; channels], shift: vec![shift; channels] };
        self.push(op, &[input], None, out)
    }

    /// Adds a parameter with one value for each channel, as a fully connected layer adds its bias.
    fn add_constant(
        &mut self,
        node: NodeId,
        data: Vec<f32>,
        dims: &[usize],
        out: &TensorIr,
    ) -> Result<(), Error> {
        let channels = self.graph.nodes[node].shape.channels;
        let rank = out.shape.to_vec().len();
        // Broadcasting aligns the last axes; the channels are axis 1.
        let axis = (dims.len() + 1).checked_sub(rank);
        if data.len() != channels || axis.and_then(|axis| dims.get(axis)) != Some(&channels) {
            return Err(self.unsupported(format!("adds a constant of {dims:?}")));
        }
        let op = Op::Affine { scale: vec![1.0; channels], shift: data.into_iter().map(f64::from).collect() };
        self.push(op, &[node], None, out)
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
                self.push(Op::Relu, &[input], None, &op.out)
            }
            OperationIr::NumericFloat(_, op) => self.numeric(op),
            OperationIr::BaseFloat(op) => self.base(op),
            OperationIr::Float(_, FloatOperationIr::Matmul(op)) => {
                self.linear(&op.lhs, &op.rhs, None, &op.out)
            }
            _ => Err(self.unsupported("the engine has no such operation")),
        }
    }

    fn numeric(&mut self, operation: &NumericOperationIr) -> Result<(), Error> {
        match operation {
            NumericOperationIr::Add(op) => {
                for (x, constant) in [(&op.lhs, &op.rhs), (&op.rhs, &op.lhs)] {
                    if let (Value::Node(node), Value::Constant { data, dims }) =
                        (self.value(x)?, self.value(constant)?)
                    {
                        return self.add_constant(node, data, &dims, &op.out);
                    }
                }
                if op.lhs.shape != op.rhs.shape {
                    return Err(self.unsupported("a sum that broadcasts"));
                }
                let inputs = [self.node(&op.lhs)?, self.node(&op.rhs)?];
                self.push(Op::Add { relu: false }, &inputs, None, &op.out)
            }
            NumericOperationIr::MulScalar(op) => self.affine(&op.lhs, self.scalar(&op.rhs)?, 0.0, &op.out),
            NumericOperationIr::DivScalar(op) => {
                self.affine(&op.lhs, 1.0 / self.scalar(&op.rhs)?, 0.0, &op.out)
            }
            NumericOperationIr::AddScalar(op) => self.affine(&op.lhs, 1.0, self.scalar(&op.rhs)?, &op.out),
            NumericOperationIr::SubScalar(op) => self.affine(&op.lhs, 1.0, -self.scalar(&op.rhs)?, &op.out),
            NumericOperationIr::ClampMin(op) if self.scalar(&op.rhs)? == 0.0 => {
                let input = self.node(&op.lhs)?;
                self.push(Op::Relu, &[input], None, &op.out)
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
            _ => Err(self.unsupported("the engine has no such operation")),
        }
    }

    fn base(&mut self, operation: &BaseOperationIr) -> Result<(), Error> {
        match operation {
            BaseOperationIr::Cat(op) => {
                if op.dim != 1 {
                    return Err(self.unsupported(format!("concatenation along axis {}", op.dim)));
                }
                let inputs =
                    op.tensors.iter().map(|tensor| self.node(tensor)).collect::<Result<Vec<_>, _>>()?;
                self.push(Op::Concat, &inputs, None, &op.out)
            }
            BaseOperationIr::Cast(op) if op.input.dtype == op.out.dtype => {
                let value = self.value(&op.input)?;
                self.values.insert(op.out.id, value);
                Ok(())
            }
            BaseOperationIr::Reshape(op) => self.reshape(&op.input, &op.out),
            BaseOperationIr::SwapDims(op) => match self.value(&op.input)? {
                Value::Constant { data, dims } if dims.len() == 2 && op.dim1 != op.dim2 => {
                    let (rows, columns) = (dims[0], dims[1]);
                    let data = (0..data.len()).map(|i| data[i % rows * columns + i / rows]).collect();
                    self.values.insert(op.out.id, Value::Constant { data, dims: vec![columns, rows] });
                    Ok(())
                }
                _ => Err(self.unsupported("a transposed activation")),
            },
            _ => Err(self.unsupported("the engine has no such operation")),
        }
    }

    fn reshape(&mut self, input: &TensorIr, out: &TensorIr) -> Result<(), Error> {
        let dims = out.shape.to_vec();
        let node = match self.value(input)? {
            Value::Constant { data, .. } => {
                self.values.insert(out.id, Value::Constant { data, dims });
                return Ok(());
            }
            Value::Node(node) => node,
        };
        let shape = self.graph.nodes[node].shape;
        let flat = dims.len() >= 2 && dims[0] == BATCH && dims[1] == shape.len();
        if dims[..] == [BATCH, shape.channels, shape.height, shape.width] || (flat && shape.pixels() == 1) {
            self.values.insert(out.id, Value::Node(node));
            return Ok(());
        }
        if flat && dims[2..].iter().all(|&d| d == 1) {
            return self.push(Op::Flatten, &[node], None, out);
        }
        Err(self.unsupported(format!("reshapes {:?} to {dims:?}", input.shape.to_vec())))
    }

    fn pool(&mut self, kind: PoolKind, window: Window, x: &TensorIr, out: &TensorIr) -> Result<(), Error> {
        let input = self.node(x)?;
        self.push(Op::Pool(Box::new(Pool { kind, window, bias: vec![], relu: false })), &[input], None, out)
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
        let dims = weight.shape.to_vec();
        let (&[rows, columns], 2) = (&dims[dims.len().saturating_sub(2)..], x.shape.to_vec().len()) else {
            return Err(self.unsupported(format!("a product of {:?} and {dims:?}", x.shape.to_vec())));
        };
        let data = self.constant(weight)?;
        if data.len() != rows * columns {
            return Err(self.unsupported("a product with a batch of matrices"));
        }
        let conv = Conv {
            weight: (0..data.len()).map(|i| data[i % rows * columns + i / rows]).collect(),
            bias: bias.map_or(Ok(vec![0.0; columns]), |bias| self.constant(bias))?,
            out_channels: columns,
            groups: 1,
            window: Window::square(1, 1, 0),
            input_relu: false,
            relu: false,
        };
        self.push(Op::Conv(Box::new(conv)), &[input], Some(weight), out)
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
                };
                let conv = Conv {
                    weight: self.constant(&op.weight)?,
                    bias: op.bias.as_ref().map_or(Ok(vec![0.0; out_channels]), |bias| self.constant(bias))?,
                    out_channels,
                    groups: op.options.groups,
                    window,
                    input_relu: false,
                    relu: false,
                };
                self.push(Op::Conv(Box::new(conv)), &[input], Some(&op.weight), &op.out)
            }
            ModuleOperationIr::BatchNorm(op) => {
                let input = self.node(&op.x)?;
                let epsilon = self.scalar(&op.epsilon)?;
                let constants =
                    [&op.gamma, &op.beta, &op.mean, &op.variance].map(|tensor| self.constant(tensor));
                let [gamma, beta, mean, variance] = constants;
                let (gamma, beta, mean, variance) = (gamma?, beta?, mean?, variance?);
                let scale: Vec<f64> = gamma
                    .iter()
                    .zip(&variance)
                    .map(|(&g, &v)| f64::from(g) / (f64::from(v) + epsilon).sqrt())
                    .collect();
                let shift =
                    beta.iter().zip(&mean).zip(&scale).map(|((&b, &m), s)| f64::from(b) - f64::from(m) * s);
                let op_affine = Op::Affine { shift: shift.collect(), scale };
                self.push(op_affine, &[input], Some(&op.gamma), &op.out)
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
            ModuleOperationIr::AdaptiveAvgPool2d(op) => {
                let input = self.node(&op.x)?;
                let size = [self.graph.nodes[input].shape.height, self.graph.nodes[input].shape.width];
                let divides = (0..2)
                    .all(|axis| op.output_size[axis] > 0 && size[axis].is_multiple_of(op.output_size[axis]));
                if !divides {
                    return Err(self
                        .unsupported(format!("averages {size:?} to {:?}, uneven windows", op.output_size)));
                }
                let kernel = [0, 1].map(|axis| size[axis] / op.output_size[axis]);
                self.pool(PoolKind::Average, Window::new(kernel, kernel, [0; 2]), &op.x, &op.out)
            }
            _ => Err(self.unsupported("the engine has no such operation")),
        }
    }
}
