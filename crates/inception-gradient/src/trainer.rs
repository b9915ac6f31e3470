//! A graph in training.

use std::collections::{BTreeMap, HashSet};

use inception_engine::Isa;
use inception_graph::{Graph, NodeId, Op, Parameter, Shape};

use crate::error::Error;
use crate::layers::{Builder, Layer, Tensor};
use crate::memory::{Raw, SLACK, Shared, View, parallel};
use crate::places::{gradients, outputs};
use crate::real::Real;

/// What a graph does not say of training.
#[derive(Clone, Debug)]
pub struct Options {
    /// Share of a batch in the new running statistics of norms.
    pub norm_momentum: f64,
    /// Whether a batch's part in the running variances is an unbiased estimate, as PyTorch has it: the sum of
    /// squares is divided by one less than the number of values. Norms divide by the biased one.
    pub norm_unbiased: bool,
    /// Nodes that drop values out in training, [`Op::Scale`]s, and the share of values that each drops. The
    /// others are multiplied so that the mean is that of inference: with the share that is kept as the node's
    /// factor they stay as they are (Paddle's mode `downscale_in_infer`), with a factor of 1 they are divided
    /// by it (PyTorch's).
    pub dropout: BTreeMap<NodeId, f64>,
}

impl Default for Options {
    fn default() -> Self {
        Self { norm_momentum: 0.1, norm_unbiased: false, dropout: BTreeMap::new() }
    }
}

/// A graph in training: its tensors, and memory for a batch.
///
/// Activations are pixels by channels. Sums are made in an order that depends on neither the number of
/// threads nor their pace, so that results are equal to the bit on the same instruction set.
#[derive(Debug)]
pub struct Trainer<T: Real> {
    pub(crate) layers: Vec<Layer<T>>,
    pub(crate) inputs: Vec<Vec<NodeId>>,
    pub(crate) output: NodeId,
    pub(crate) outputs: Vec<View>,
    pub(crate) gradients: Vec<View>,
    /// Floats for each image of the buffers of outputs, and of those of gradients.
    sizes: [Vec<usize>; 2],
    pub(crate) buffers: [Vec<Vec<T>>; 2],
    /// Images that the buffers have memory for.
    capacity: usize,
    /// Images in the batch at hand.
    pub(crate) batch: usize,
    pub(crate) tensors: Vec<Tensor>,
    pub(crate) norm_momentum: f64,
    pub(crate) norm_unbiased: bool,
    /// Zeros, for what lies outside a map.
    pub(crate) zeros: Vec<T>,
    /// The gradient of a weight on its way to the weight's own order.
    pub(crate) sums: Vec<T>,
    image: Shape,
    /// Rows and columns of zeros before the images in their buffer.
    padding: [usize; 2],
}

impl<T: Real> Trainer<T> {
    /// That of `graph`, whose tensors are all zero at first.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] for an operation whose gradient is not known, [`Error::Graph`] for a graph that
    /// breaks a rule, [`Error::Isa`], and [`Error::TooLarge`].
    pub fn new(graph: &Graph<Parameter>, options: &Options) -> Result<Self, Error> {
        Isa::chosen().map_err(|error| Error::Isa { reason: error.to_string() })?;
        graph.verify()?;
        for node in &graph.nodes {
            if node.shape.len() > u32::MAX as usize / 8 {
                return Err(Error::TooLarge { node: node.name.clone(), shape: node.shape });
            }
        }
        let consumers = graph.consumers();
        for (id, node) in graph.nodes.iter().enumerate() {
            if consumers[id].is_empty() && id != graph.output {
                return Err(Error::unsupported(node, "nothing reads it"));
            }
        }
        let (mut outputs, gradients) = (outputs(graph, &consumers), gradients(graph, &consumers));
        let image = graph.nodes[0].shape;
        // Images are padded once where one convolution reads them.
        let (mut padding, mut padded) = ([0; 2], image);
        let mut is_padded = false;
        if let [reader] = consumers[0][..]
            && let Op::Conv(conv) = &graph.nodes[reader].op
        {
            is_padded = true;
            padding = conv.window.pad;
            padded.height += padding[0] + conv.window.pad_end[0];
            padded.width += padding[1] + conv.window.pad_end[1];
        }
        outputs.views[0].shape = padded;
        outputs.buffers[outputs.views[0].buffer] = padded.len();
        let mut builder = Builder {
            graph,
            consumers,
            outputs: &outputs,
            gradients: &gradients,
            dropout: &options.dropout,
            is_padded,
            tensors: Vec::new(),
            known: HashSet::new(),
        };
        let layers = (0..graph.nodes.len()).map(|id| builder.layer(id)).collect::<Result<Vec<_>, _>>()?;
        let tensors = builder.tensors;
        // As many as a pixel or a run of joined taps.
        let run = layers.iter().map(|layer| match layer {
            Layer::Conv(conv) => conv.convolution.run_len(),
            _ => 0,
        });
        let channels = graph.nodes.iter().map(|node| node.shape.channels);
        let most = channels.chain(run).max().unwrap_or(0);
        Ok(Self {
            inputs: graph.nodes.iter().map(|node| node.inputs.clone()).collect(),
            output: graph.output,
            zeros: vec![T::default(); most],
            sums: vec![T::default(); tensors.iter().map(|t| t.gradient.len()).max().unwrap_or(0) + SLACK],
            layers,
            outputs: outputs.views,
            gradients: gradients.views,
            sizes: [outputs.buffers, gradients.buffers],
            buffers: [Vec::new(), Vec::new()],
            capacity: 0,
            batch: 0,
            tensors,
            norm_momentum: options.norm_momentum,
            norm_unbiased: options.norm_unbiased,
            image,
            padding,
        })
    }

    /// The names and shapes of all tensors, in the order of the nodes, and whether training changes them by
    /// their gradients.
    pub fn tensors(&self) -> impl Iterator<Item = (&Parameter, bool)> {
        self.tensors.iter().map(|tensor| (&tensor.parameter, tensor.trainable))
    }

    /// The values of the tensor number `index`.
    pub fn values(&self, index: usize) -> &[f32] {
        &self.tensors[index].values
    }

    /// The same, to be changed.
    pub fn values_mut(&mut self, index: usize) -> &mut [f32] {
        &mut self.tensors[index].values
    }

    /// The gradient of the tensor number `index` after [`backward`](Self::backward); of no value where it has
    /// none.
    pub fn gradient(&self, index: usize) -> &[f32] {
        &self.tensors[index].gradient
    }

    /// The values of all tensors, to be changed, and their gradients.
    pub fn values_and_gradients(&mut self) -> impl Iterator<Item = (&mut [f32], &[f32])> {
        self.tensors.iter_mut().map(|tensor| (&mut tensor.values[..], &tensor.gradient[..]))
    }

    /// Numbers that the output has for each image.
    pub fn output_len(&self) -> usize {
        self.outputs[self.output].shape.len()
    }

    /// Bytes that a batch of so many images takes.
    pub fn bytes(&self, batch: usize) -> u64 {
        let floats: u64 = self.sizes.iter().flatten().map(|&size| size as u64).sum();
        floats * batch as u64 * size_of::<T>() as u64
    }

    /// Memory for `batch` images, and the images in it, `[batch, channels, height, width]`.
    pub(crate) fn load(&mut self, images: &[f32], batch: usize) {
        let Shape { height, width, channels } = self.image;
        assert_eq!(images.len(), batch * self.image.len(), "images of {}", self.image);
        if batch > self.capacity {
            for (buffers, sizes) in self.buffers.iter_mut().zip(&self.sizes) {
                // The old ones go first.
                buffers.clear();
                buffers.extend(sizes.iter().map(|size| vec![T::default(); size * batch + SLACK]));
            }
            self.capacity = batch;
        }
        self.batch = batch;
        let view = self.outputs[0];
        // SAFETY: the buffer of the images, of which each task writes one.
        let to = unsafe { Raw::new(self.buffers[0][view.buffer].as_mut_ptr(), &view) };
        let [top, left] = self.padding;
        let per_image = self.image.len();
        parallel(batch, |image| {
            let planes = &images[image * per_image..][..per_image];
            for y in 0..height {
                for x in 0..width {
                    let pixel = image * to.pixels + (y + top) * view.shape.width + x + left;
                    // SAFETY: as above; the padding around the images stays zero.
                    let out = unsafe { to.row_mut(pixel) };
                    for (channel, out) in out.iter_mut().enumerate().take(channels) {
                        *out = T::of(planes[(channel * height + y) * width + x]);
                    }
                }
            }
        });
    }

    /// Packs the weights of all layers.
    pub(crate) fn pack(&mut self) {
        let columns = T::kernels().columns();
        let mut tasks = Vec::new();
        for (id, layer) in self.layers.iter_mut().enumerate() {
            match layer {
                Layer::Conv(conv) => {
                    let values = &self.tensors[conv.weight].values;
                    let backs: &[bool] = if self.inputs[id] == [0] { &[false] } else { &[false, true] };
                    for &back in backs {
                        let (panels, len) = conv.convolution.panels(columns, back);
                        let packed = if back { &mut conv.packed_back } else { &mut conv.packed };
                        packed.resize(panels * len, T::default());
                        let packed = Shared(packed.as_mut_ptr());
                        let convolution = &conv.convolution;
                        tasks.extend((0..panels).map(|at| (convolution, values, back, at, packed, len)));
                    }
                }
                Layer::Depthwise(layer) => {
                    let values = &self.tensors[layer.weight].values;
                    let taps = layer.forward.taps.len();
                    let channels = values.len() / taps;
                    let value = |at: usize| T::of(values[at % channels * taps + at / channels]);
                    layer.packed = (0..values.len()).map(value).collect();
                }
                _ => {}
            }
        }
        parallel(tasks.len(), |task| {
            let (convolution, values, back, panel, packed, len) = tasks[task];
            // SAFETY: the panels of a list are apart.
            let packed = unsafe { std::slice::from_raw_parts_mut(packed.get().add(panel * len), len) };
            convolution.pack(values, columns, back, panel, packed);
        });
    }

    /// Where the buffers are, of outputs and of gradients.
    pub(crate) fn addresses(&mut self) -> [Vec<*mut T>; 2] {
        let [outputs, gradients] = &mut self.buffers;
        [outputs, gradients].map(|buffers| buffers.iter_mut().map(Vec::as_mut_ptr).collect())
    }
}

/// The tensor at `view`.
///
/// # Safety
///
/// The view is of these buffers.
pub(crate) unsafe fn raw<T: Copy>(buffers: &[*mut T], view: &View) -> Raw<T> {
    // SAFETY: the caller's promise.
    unsafe { Raw::new(buffers[view.buffer], view) }
}
