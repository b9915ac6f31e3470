//! From graph to plan: which nodes share a step, which kernel each gets, where each tensor lies, what runs together.

use std::collections::BTreeMap;

use crate::dtype::DType;
use crate::graph::{Conv, Graph, Node, NodeId, Op, PoolKind, Window};
use crate::kernels::{CostModel, Kernels, TRANSFORMS, TransformSpec};
use crate::memory::sanitizer::FENCE;
use crate::memory::{Aligned, LINE, Lifetime, View, end_block, pixel_stride, place};
use crate::steps::{
    ConvStep, DepthwiseStep, DepthwiseWeights, ElementwiseStep, Epilogue, FusedOutput, InputStep, OutputStep,
    Panels, PoolStep, Prologue, Step, Strassen, Weights, WinogradStep, winograd_fits,
};
use crate::{Error, graph};

/// A step with its place in the plan.
pub(crate) struct Planned {
    /// What to run.
    pub step: Box<dyn Step>,
    /// The nodes that it computes.
    pub nodes: Vec<NodeId>,
    /// What the cost model expects for one image, in multiply-adds of `f32`; zero where it expects nothing.
    pub cost: f64,
    /// The level of its wave: steps of one level run at the same time.
    pub level: usize,
}

/// Kernels by the names of nodes.
pub type Picks = BTreeMap<String, String>;

/// Which algorithm a convolution gets where several can compute it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// The cheapest by the cost model.
    Cheapest,
    /// The kernel that is named, and the cheapest where none is.
    Picked(Picks),
    /// The direct one, which does not reassociate.
    Direct,
    /// Winograd's, by the cheapest transform (0) or by one of the others.
    Winograd(usize),
    /// Strassen's.
    Strassen,
}

impl Rule {
    fn picked(&self, node: &str) -> Option<&str> {
        if let Rule::Picked(picks) = self { picks.get(node).map(String::as_str) } else { None }
    }

    /// The transform of `transforms`, cheapest first, that `node` gets, with its cost, where the direct algorithm costs
    /// `direct`.
    fn winograd(
        &self,
        node: &str,
        transforms: &[(TransformSpec, f64)],
        direct: f64,
    ) -> Option<(TransformSpec, f64)> {
        let named = |kernel: &str| transforms.iter().find(|(spec, _)| spec.name == kernel);
        match (self, self.picked(node)) {
            (Rule::Direct | Rule::Strassen, _) => None,
            (Rule::Winograd(n), _) => transforms.get(*n).copied(),
            (_, Some(kernel)) if named(kernel).is_some() || !kernel.starts_with("winograd") => {
                named(kernel).copied()
            }
            _ => transforms.first().filter(|(_, cost)| *cost < direct).copied(),
        }
    }

    /// Whether `node`, a convolution with an output of so many `pixels`, is multiplied by Strassen's algorithm.
    fn strassen(&self, kernels: &Kernels, node: &str, conv: &Conv, pixels: usize) -> bool {
        match (self, self.picked(node)) {
            (Rule::Direct | Rule::Winograd(_), _) => false,
            (Rule::Strassen, _) => strassen_fits(kernels, conv, pixels),
            (_, Some(kernel)) => kernel.ends_with("strassen") && strassen_fits(kernels, conv, pixels),
            _ => strassen_pays(kernels, conv, pixels),
        }
    }
}

/// One row of [`crate::Compiled::explain`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The node's name.
    pub node: String,
    /// Its operation with what was fused into it.
    pub op: String,
    /// The kernel that computes it, or what became of it.
    pub kernel: String,
    /// Rows, columns and channels of the output.
    pub shape: [usize; 3],
    /// Multiply-adds for one image, by the direct method.
    pub macs: u64,
}

/// A compiled network, without the machine to run it on.
pub(crate) struct Plan {
    /// All steps; a step reads only what earlier waves wrote.
    pub steps: Vec<Planned>,
    /// Steps that run at the same time, largest first.
    pub waves: Vec<Vec<usize>>,
    /// Floats of the arena for one image.
    pub arena: usize,
    /// Where tensors lie in it, in floats for one image, and the levels that touch them.
    pub buffers: Vec<(usize, Lifetime)>,
    /// For each node, where its tensor lies, if it is stored.
    pub views: Vec<Option<View>>,
    /// What became of each node, by its number; rows for `explain`.
    pub rows: Vec<Row>,
}

/// What becomes of a node.
#[derive(Clone, Debug, PartialEq)]
enum Fate {
    /// A step of its own, or as the first of its siblings.
    Step,
    /// A head of the step of this node.
    Sibling(NodeId),
    /// The prologue of the step of this pointwise convolution or pool.
    Prologue(NodeId),
    /// Its parts are written in place.
    InPlace,
}

/// Makes the plan of a graph that has been through the passes, and takes its weights. Convolutions get algorithms by
/// `rule`; activations are stored as `dtype`.
///
/// # Errors
/// [`Error::Graph`] for a node that no step can compute.
pub(crate) fn plan(
    graph: &mut Graph,
    image: crate::Shape,
    rule: &Rule,
    kernels: &Kernels,
    dtype: DType,
) -> Result<Plan, Error> {
    let described: Vec<_> = graph.nodes.iter().map(|node| (describe(node), node.macs())).collect();
    space_to_depth(graph, rule, kernels, dtype);
    let fates = fates(graph);
    let dtypes = dtypes(graph, dtype);
    let storage = Storage::assign(graph, &fates);
    let levels = levels(graph, &fates);
    let (views, buffers, arena) = storage.lay_out(graph, &levels, &dtypes);
    let mut steps: Vec<Planned> = Vec::new();
    for id in 0..graph.nodes.len() {
        let before = steps.len();
        let mut builder =
            Builder { graph: &*graph, fates: &fates, views: &views, kernels, dtype, rule, steps: &mut steps };
        builder.lower(id, image, &levels)?;
        // They are packed now, and a second copy of all weights would be most of the memory that compiling takes.
        for &node in steps[before..].iter().flat_map(|step| &step.nodes) {
            if let Op::Conv(conv) = &mut graph.nodes[node].op {
                conv.weight = Vec::new();
            }
        }
    }
    end_block();
    let last = levels.iter().max().copied().unwrap_or(0) + 1;
    let mut builder =
        Builder { graph: &*graph, fates: &fates, views: &views, kernels, dtype, rule, steps: &mut steps };
    let step = OutputStep { shape: graph.nodes[graph.output].shape, input: builder.view(graph.output)? };
    builder.push(Box::new(step), vec![], 0.0, last);

    let mut waves = vec![Vec::new(); last + 1];
    for (index, step) in steps.iter().enumerate() {
        waves[step.level].push(index);
    }
    waves.retain(|wave| !wave.is_empty());
    let cost = |&step: &usize| steps[step].nodes.iter().map(|&node| described[node].1).sum::<u64>();
    for wave in &mut waves {
        wave.sort_by_key(|step| std::cmp::Reverse(cost(step)));
    }
    let rows = explain(graph, &fates, &steps, described);
    Ok(Plan { steps, waves, arena, buffers, views, rows })
}

/// Stores the image in blocks of 2x2 pixels where its convolution of stride 2 then becomes cheaper.
pub(crate) fn space_to_depth(graph: &mut Graph, rule: &Rule, kernels: &Kernels, dtype: DType) {
    graph::passes::space_to_depth(graph, |name, conv, over_blocks, output| {
        let direct = direct_cost(kernels, conv, output, dtype);
        rule.winograd(name, &transforms(kernels, over_blocks, output), direct).is_some()
    });
}

/// Whether `node` is a 1x1 convolution that the pointwise kernel can compute with a prologue.
fn pointwise(graph: &Graph, node: NodeId) -> Option<&Conv> {
    match &graph.nodes[node].op {
        Op::Conv(conv) if conv.window.is_pointwise() && conv.groups == 1 => Some(conv),
        _ => None,
    }
}

/// Whether `node` is a pool of maxima, over more than one pixel.
fn max_pool(graph: &Graph, node: NodeId) -> bool {
    matches!(&graph.nodes[node].op, Op::Pool(pool) if pool.kind == PoolKind::Max && pool.window.kernel != [1, 1])
}

/// Whether a path leads from `from` to `to`.
fn reaches(graph: &Graph, from: NodeId, to: NodeId) -> bool {
    let mut reached = vec![false; to + 1];
    if from > to {
        return false;
    }
    reached[from] = true;
    for id in from + 1..=to {
        reached[id] = graph.nodes[id].inputs.iter().any(|&input| input >= from && reached[input]);
    }
    reached[to]
}

/// Decides for each node whether it gets a step, and if not, why.
fn fates(graph: &Graph) -> Vec<Fate> {
    let consumers = graph.consumers();
    let mut fates = vec![Fate::Step; graph.nodes.len()];
    for (id, node) in graph.nodes.iter().enumerate() {
        match &node.op {
            Op::Concat => fates[id] = Fate::InPlace,
            Op::Conv(conv) if conv.is_depthwise() => {
                // The first pointwise reader computes it on the way, unless that would make it wait for itself; or a maximum
                // pool does that is the only one to read it.
                let pool = match consumers[id][..] {
                    [reader] if max_pool(graph, reader) => Some(reader),
                    _ => None,
                };
                let reader = pool.or_else(|| {
                    consumers[id].iter().copied().find(|&reader| {
                        pointwise(graph, reader).is_some()
                            && graph.nodes[reader].inputs[0] == id
                            && graph.nodes[reader].inputs.get(1) != Some(&id)
                            && consumers[id]
                                .iter()
                                .all(|&other| other == reader || !reaches(graph, other, reader))
                    })
                });
                if let Some(reader) = reader {
                    fates[id] = Fate::Prologue(reader);
                }
            }
            _ => {}
        }
    }
    let fused: Vec<NodeId> = fates
        .iter()
        .filter_map(|fate| if let Fate::Prologue(reader) = fate { Some(*reader) } else { None })
        .collect();
    for readers in &consumers {
        let mut leader: Option<NodeId> = None;
        for &id in readers {
            let alike = pointwise(graph, id).is_some_and(|conv| {
                let same = leader
                    .and_then(|leader| pointwise(graph, leader))
                    .is_none_or(|first| first.input_relu == conv.input_relu);
                same && graph.nodes[id].inputs.len() == 1 && !fused.contains(&id)
            });
            match leader {
                _ if !alike => {}
                None => leader = Some(id),
                Some(leader) => fates[id] = Fate::Sibling(leader),
            }
        }
    }
    fates
}

/// The wave in which each node's tensor is complete. A prologue is complete with the step that it belongs to.
fn levels(graph: &Graph, fates: &[Fate]) -> Vec<usize> {
    let mut levels = vec![0; graph.nodes.len()];
    // A prologue's level is that of its reader, which comes later in the order: repeat until nothing moves.
    loop {
        let before = levels.clone();
        for (id, node) in graph.nodes.iter().enumerate() {
            let inputs = node.inputs.iter().map(|&input| match (&fates[input], &fates[id]) {
                // A prologue is not waited for by its own step, but its inputs are.
                (Fate::Prologue(reader), _) if *reader == id => {
                    graph.nodes[input].inputs.iter().map(|&i| levels[i]).max().unwrap_or(0)
                }
                _ => levels[input],
            });
            let ready = inputs.max().unwrap_or(0);
            levels[id] = match fates[id] {
                // The parts of a concatenation that need a copy are copied one wave after they are made.
                Fate::InPlace => ready + 1,
                _ if id == 0 => 0,
                _ => ready + 1,
            };
        }
        for (id, fate) in fates.iter().enumerate() {
            if let Fate::Prologue(reader) = fate {
                levels[id] = levels[*reader];
            }
        }
        if before == levels {
            return levels;
        }
    }
}

/// What each node's tensor is stored as: activations as `dtype`, and the end of the network as `f32`. That is what a pool
/// or a convolution reduces to one pixel, and the result, as long as convolutions alone read them; there are kernels from
/// `f32` and to `f32` for convolutions, and to `f32` for pools.
fn dtypes(graph: &Graph, dtype: DType) -> Vec<DType> {
    let consumers = graph.consumers();
    let at_an_end = |id: NodeId| {
        let node = &graph.nodes[id];
        let written = match &node.op {
            Op::Pool(_) => true,
            Op::Conv(conv) => !conv.is_depthwise() && node.inputs.len() == 1,
            _ => false,
        };
        let read = consumers[id].iter().all(|&reader| match &graph.nodes[reader].op {
            Op::Conv(conv) => {
                !conv.is_depthwise() && !conv.input_relu && graph.nodes[reader].inputs.get(1) != Some(&id)
            }
            _ => false,
        });
        written && read && (id == graph.output || node.shape.pixels() == 1)
    };
    (0..graph.nodes.len()).map(|id| if at_an_end(id) { DType::F32 } else { dtype }).collect()
}

/// Which buffer each node's tensor lies in.
struct Storage {
    /// For each node: the node that owns the buffer, and the first channel in it. `None`: the tensor is never stored.
    places: Vec<Option<(NodeId, usize)>>,
}

impl Storage {
    /// Puts the parts of concatenations into the concatenation's buffer where they have no other place already.
    fn assign(graph: &Graph, fates: &[Fate]) -> Storage {
        let consumers = graph.consumers();
        let mut places: Vec<Option<(NodeId, usize)>> = vec![None; graph.nodes.len()];
        for id in (0..graph.nodes.len()).rev() {
            let node = &graph.nodes[id];
            if let Fate::Prologue(reader) = fates[id]
                && consumers[id][..] == [reader]
            {
                continue;
            }
            let place = *places[id].get_or_insert((id, 0));
            if matches!(node.op, Op::Concat) {
                let mut channel = place.1;
                for &part in &node.inputs {
                    if part != 0 && places[part].is_none() {
                        places[part] = Some((place.0, channel));
                    }
                    channel += graph.nodes[part].shape.channels;
                }
            }
        }
        Storage { places }
    }

    /// Elements from one pixel of a node's buffer to the next. The image stays dense, so that the first convolution can read
    /// a kernel row as one run; everything else is a [`pixel_stride`] apart.
    fn ld(graph: &Graph, root: NodeId, dtype: DType) -> usize {
        let channels = graph.nodes[root].shape.channels;
        if root == 0 && channels < LINE { channels } else { pixel_stride(channels, dtype) }
    }

    /// Lays the buffers out in the arena.
    #[allow(clippy::type_complexity)] // One caller takes it apart.
    fn lay_out(
        &self,
        graph: &Graph,
        levels: &[usize],
        dtypes: &[DType],
    ) -> (Vec<Option<View>>, Vec<(usize, Lifetime)>, usize) {
        let end = levels.iter().max().copied().unwrap_or(0) + 1;
        let mut roots: Vec<NodeId> = self.places.iter().flatten().map(|&(root, _)| root).collect();
        roots.sort_unstable();
        roots.dedup();
        let mut lifetimes: Vec<Lifetime> = roots
            .iter()
            .map(|&root| {
                let dtype = dtypes[root];
                let count = graph.nodes[root].shape.pixels() * Storage::ld(graph, root, dtype);
                let size = count.div_ceil(dtype.pack()).next_multiple_of(LINE) + FENCE;
                Lifetime { size, first: usize::MAX, last: 0 }
            })
            .collect();
        let mut touch = |node: NodeId, level: usize| {
            if let Some((root, _)) = self.places[node]
                && let Ok(index) = roots.binary_search(&root)
            {
                lifetimes[index].first = lifetimes[index].first.min(level);
                lifetimes[index].last = lifetimes[index].last.max(level);
            }
        };
        for (id, node) in graph.nodes.iter().enumerate() {
            touch(id, levels[id]);
            // A prologue reads in its reader's wave, which `levels` gives it.
            for &input in &node.inputs {
                touch(input, levels[id]);
            }
        }
        touch(graph.output, end);
        let (offsets, arena) = place(&lifetimes);
        let views = self
            .places
            .iter()
            .map(|place| {
                place.and_then(|(root, channel)| {
                    let index = roots.binary_search(&root).ok()?;
                    let (pixels, dtype) = (graph.nodes[root].shape.pixels(), dtypes[root]);
                    let ld = Storage::ld(graph, root, dtype);
                    Some(View { offset: offsets[index], channel, ld, pixels, dtype })
                })
            })
            .collect();
        (views, offsets.into_iter().zip(lifetimes).collect(), arena)
    }
}

/// The Winograd transforms that can compute a convolution with an `output` of so many rows and columns, with their costs,
/// cheapest first.
fn transforms(kernels: &Kernels, conv: &Conv, output: [usize; 2]) -> Vec<(TransformSpec, f64)> {
    let Window { kernel, stride, dilation, .. } = conv.window;
    let plain = dilation == [1; 2] && conv.groups == 1 && !conv.input_relu;
    let specs = TRANSFORMS.iter().filter(|spec| {
        plain
            && [spec.kernel, spec.stride] == [kernel, stride]
            && winograd_fits(kernels, spec, conv.in_channels())
    });
    let mut transforms: Vec<_> =
        specs.map(|spec| (*spec, winograd_cost(kernels, conv, output, spec))).collect();
    transforms.sort_by(|a, b| a.1.total_cmp(&b.1));
    transforms
}

/// What the cost model expects of a convolution by Winograd's algorithm on one image whose result is `output` pixels: its time
/// in multiply-adds of `f32`. The transforms lose a digit, which `bf16` has not to spare, so its products are `f32` too.
fn winograd_cost(kernels: &Kernels, conv: &Conv, output: [usize; 2], spec: &TransformSpec) -> f64 {
    let (channels, out_channels) = (conv.in_channels() as f64, conv.out_channels as f64);
    let tiles: usize = (0..2).map(|axis| output[axis].div_ceil(spec.outputs[axis])).product();
    let (tiles, positions) = (tiles as f64, (spec.points[0] * spec.points[1]) as f64);
    let &CostModel { transform_cost, weight_load_cost, .. } = &kernels.costs;
    spec.time_scale
        * positions
        * ((tiles + weight_load_cost) * channels * out_channels
            + tiles * transform_cost * (channels + out_channels))
}

/// As [`winograd_cost`], by the direct algorithm, from activations stored as `dtype`.
fn direct_cost(kernels: &Kernels, conv: &Conv, output: [usize; 2], dtype: DType) -> f64 {
    let weights = (conv.taps() * conv.in_channels() * conv.out_channels) as f64;
    ((output[0] * output[1]) as f64 + kernels.costs.weight_load_cost) * weights / dtype.pack() as f64
}

/// As [`winograd_cost`], by Strassen's algorithm on `pixels` pixels: seven eighths of the products, and four sums of inputs
/// and two of products, of a quarter each.
fn strassen_cost(kernels: &Kernels, conv: &Conv, pixels: usize) -> f64 {
    let (channels, out_channels, pixels) =
        (conv.in_channels() as f64, conv.out_channels as f64, pixels as f64);
    let touched = pixels / 4.0 * (14.0 * channels + 6.0 * out_channels);
    let &CostModel { weight_load_cost, strassen_add_cost, .. } = &kernels.costs;
    0.875 * (pixels + 2.0 * weight_load_cost) * channels * out_channels + strassen_add_cost * touched
}

/// As [`winograd_cost`], of a depthwise convolution: bound by loads, not by multiply-adds.
fn depthwise_cost(kernels: &Kernels, conv: &Conv, pixels: usize) -> f64 {
    kernels.costs.depthwise_cost * (conv.taps() * conv.out_channels * pixels) as f64
}

/// Whether Strassen's algorithm can multiply: halves of pixels and channels exist.
fn strassen_fits(kernels: &Kernels, conv: &Conv, pixels: usize) -> bool {
    let even = conv.in_channels().is_multiple_of(2) && conv.out_channels.is_multiple_of(2);
    conv.window.is_pointwise() && conv.groups == 1 && even && pixels >= kernels.costs.strassen_pixels
}

/// Whether to multiply by Strassen's algorithm.
fn strassen_pays(kernels: &Kernels, conv: &Conv, pixels: usize) -> bool {
    strassen_fits(kernels, conv, pixels)
        && conv.in_channels().min(conv.out_channels) >= kernels.costs.strassen_channels
}

/// Collects steps.
struct Builder<'a> {
    graph: &'a Graph,
    fates: &'a [Fate],
    views: &'a [Option<View>],
    kernels: &'a Kernels,
    /// What activations are stored as.
    dtype: DType,
    rule: &'a Rule,
    steps: &'a mut Vec<Planned>,
}

impl Builder<'_> {
    fn push(&mut self, step: Box<dyn Step>, nodes: Vec<NodeId>, cost: f64, level: usize) {
        self.steps.push(Planned { step, nodes, cost, level });
    }

    fn error(&self, id: NodeId, reason: &str) -> Error {
        let node = &self.graph.nodes[id];
        let (node, op, reason) = (node.name.clone(), node.op.name(), reason.into());
        graph::Error::Graph { node, op, reason }.into()
    }

    fn view(&self, id: NodeId) -> Result<View, Error> {
        self.views[id].ok_or_else(|| self.error(id, "is read but not stored"))
    }

    /// Whether a convolution reads and writes activations, and neither end of the network.
    fn inside(&self, id: NodeId) -> bool {
        let stored = |id: NodeId| self.views[id].is_some_and(|view| view.dtype == self.dtype);
        stored(id) && stored(self.graph.nodes[id].inputs[0])
    }

    fn size(&self, id: NodeId) -> [usize; 2] {
        let shape = self.graph.nodes[id].shape;
        [shape.height, shape.width]
    }

    fn residual(&self, id: NodeId) -> Result<Option<View>, Error> {
        self.graph.nodes[id].inputs.get(1).map(|&residual| self.view(residual)).transpose()
    }

    fn depthwise(&self, id: NodeId, conv: &Conv) -> Result<DepthwiseWeights, Error> {
        let input = self.graph.nodes[id].inputs[0];
        let view = self.view(input)?;
        Ok(DepthwiseWeights::new(
            self.kernels,
            conv,
            self.size(input),
            self.size(id),
            &view,
            self.residual(id)?,
        ))
    }

    /// A head whose micro-kernel reads runs of the input: so many, and so many elements each.
    fn head(
        &self,
        id: NodeId,
        conv: &Conv,
        strassen: bool,
        input: DType,
        runs: [usize; 2],
    ) -> Result<FusedOutput, Error> {
        let (channels, taps) = (conv.in_channels(), conv.taps());
        let weight = dense(conv);
        let residual = self.residual(id)?;
        let weights = if strassen {
            Weights::Strassen(Box::new(Strassen::new(self.kernels, &weight, channels, conv.out_channels)))
        } else {
            // The micro-kernel goes over taps, and over channels within a tap.
            Weights::Direct(Panels::pack_as(self.kernels, input, runs, conv.out_channels, |o, kk| {
                weight[(o * channels + kk % channels) * taps + kk / channels]
            }))
        };
        Ok(FusedOutput {
            weights,
            // Strassen's algorithm adds the residual last, and a ReLU comes after it.
            epilogue: Epilogue::new(
                conv.bias.as_deref().unwrap_or_default(),
                conv.out_channels,
                conv.relu && !(strassen && residual.is_some()),
            ),
            relu: conv.relu,
            out: self.view(id)?,
            residual,
        })
    }

    /// The Winograd transform that a convolution is to get.
    fn transform(&self, id: NodeId, conv: &Conv) -> Option<(TransformSpec, f64)> {
        let node = &self.graph.nodes[id];
        let direct = direct_cost(self.kernels, conv, self.size(id), self.dtype);
        let picked = self.rule.winograd(&node.name, &transforms(self.kernels, conv, self.size(id)), direct);
        picked.filter(|_| node.inputs.len() == 1 && self.inside(id))
    }

    fn lower(&mut self, id: NodeId, image: crate::Shape, levels: &[usize]) -> Result<(), Error> {
        let node = &self.graph.nodes[id];
        let level = levels[id];
        if matches!(self.fates[id], Fate::Sibling(_) | Fate::Prologue(_)) {
            return Ok(());
        }
        let sizes = |input: NodeId| [self.size(input), self.size(id)];
        let (mut nodes, mut cost) = (vec![id], 0.0);
        let step: Box<dyn Step> = match &node.op {
            &Op::Input { pad, block, .. } => Box::new(InputStep {
                image,
                pad,
                space_to_depth: block,
                stored: node.shape,
                out: self.view(id)?,
            }),
            Op::Conv(conv) if conv.is_depthwise() => Box::new(DepthwiseStep {
                weights: self.depthwise(id, conv)?,
                input: self.view(node.inputs[0])?,
                out: self.view(id)?,
            }),
            Op::Conv(conv) => match self.transform(id, conv) {
                Some((spec, expected)) => {
                    cost = expected;
                    Box::new(WinogradStep::new(
                        self.kernels,
                        conv,
                        spec,
                        sizes(node.inputs[0]),
                        self.view(node.inputs[0])?,
                        self.view(id)?,
                    ))
                }
                None => return self.lower_conv(id, conv, level),
            },
            Op::Pool(pool) => {
                let source = node.inputs[0];
                let prologue = match &self.graph.nodes[source].op {
                    Op::Conv(conv) if self.fates[source] == Fate::Prologue(id) => {
                        nodes.push(source);
                        Some(self.depthwise(source, conv)?)
                    }
                    _ => None,
                };
                let input = if prologue.is_some() { self.graph.nodes[source].inputs[0] } else { source };
                Box::new(PoolStep::new(
                    pool,
                    node.shape.channels,
                    sizes(source),
                    self.view(input)?,
                    self.view(id)?,
                    prologue,
                ))
            }
            Op::Add { relu } => Box::new(ElementwiseStep {
                name: "add",
                channels: node.shape.channels,
                a: self.view(node.inputs[0])?,
                b: Some(self.view(node.inputs[1])?),
                out: self.view(id)?,
                affine: None,
                relu: *relu,
            }),
            Op::Relu => Box::new(ElementwiseStep {
                name: "relu",
                channels: node.shape.channels,
                a: self.view(node.inputs[0])?,
                b: None,
                out: self.view(id)?,
                affine: None,
                relu: true,
            }),
            Op::Affine { scale, shift } => {
                let padded = |values: &[f64]| {
                    let values: Vec<f32> = values.iter().map(|&v| v as f32).collect();
                    Aligned::padded(&values, values.len() + LINE, 0.0)
                };
                Box::new(ElementwiseStep {
                    name: "affine",
                    channels: node.shape.channels,
                    a: self.view(node.inputs[0])?,
                    b: None,
                    out: self.view(id)?,
                    affine: Some([padded(scale), padded(shift)]),
                    relu: false,
                })
            }
            Op::Concat => return self.lower_concat(id, level),
            Op::Linear(_) | Op::BatchNorm(_) | Op::Bias(_) | Op::Scale { .. } | Op::GlobalAveragePool => {
                return Err(self.error(id, "is left by the passes"));
            }
            Op::Flatten => {
                return Err(self.error(
                    id,
                    "a flattened map is only supported before a fully connected layer or the output",
                ));
            }
        };
        self.push(step, nodes, cost, level);
        Ok(())
    }

    fn lower_conv(&mut self, id: NodeId, conv: &Conv, level: usize) -> Result<(), Error> {
        let node = &self.graph.nodes[id];
        let source = node.inputs[0];
        let mut nodes = vec![id];
        let (input, prologue) = match &self.graph.nodes[source].op {
            Op::Conv(depthwise) if self.fates[source] == Fate::Prologue(id) => {
                nodes.push(source);
                let prologue = Prologue::Depthwise {
                    weights: Box::new(self.depthwise(source, depthwise)?),
                    stored: self.views[source],
                    relu: conv.input_relu,
                };
                (self.view(self.graph.nodes[source].inputs[0])?, prologue)
            }
            _ if conv.input_relu => (self.view(source)?, Prologue::Relu),
            _ => (self.view(source)?, Prologue::None),
        };
        let alone = !self.fates.contains(&Fate::Sibling(id));
        // Sums of activations would have to be rounded to be multiplied as bf16.
        let pixels = node.shape.pixels();
        let strassen =
            self.dtype == DType::F32 && alone && self.rule.strassen(self.kernels, &node.name, conv, pixels);
        let mut step = ConvStep {
            input,
            input_size: self.size(source),
            output_size: self.size(id),
            channels: self.graph.nodes[source].shape.channels,
            window: conv.window,
            outputs: Vec::new(),
            prologue,
        };
        let runs = step.runs();
        step.outputs.push(self.head(id, conv, strassen, input.dtype, runs)?);
        for (sibling, fate) in self.fates.iter().enumerate() {
            if let (Fate::Sibling(leader), Op::Conv(conv)) = (fate, &self.graph.nodes[sibling].op)
                && *leader == id
            {
                step.outputs.push(self.head(sibling, conv, false, input.dtype, runs)?);
                nodes.push(sibling);
            }
        }
        let costs = nodes.iter().filter_map(|&node| match &self.graph.nodes[node].op {
            Op::Conv(conv) if conv.is_depthwise() => Some(depthwise_cost(self.kernels, conv, pixels)),
            Op::Conv(conv) if strassen && node == id => Some(strassen_cost(self.kernels, conv, pixels)),
            Op::Conv(conv) => Some(direct_cost(self.kernels, conv, self.size(node), input.dtype)),
            _ => None,
        });
        let cost = costs.sum();
        self.push(Box::new(step), nodes, cost, level);
        Ok(())
    }

    /// Copies the parts of a concatenation that could not be written in place.
    fn lower_concat(&mut self, id: NodeId, level: usize) -> Result<(), Error> {
        let out = self.view(id)?;
        let mut channel = out.channel;
        for &part in &self.graph.nodes[id].inputs {
            let (target, source) = (View { channel, ..out }, self.view(part)?);
            let channels = self.graph.nodes[part].shape.channels;
            channel += channels;
            if source != target {
                let step = ElementwiseStep {
                    name: "copy",
                    channels,
                    a: source,
                    b: None,
                    out: target,
                    affine: None,
                    relu: false,
                };
                self.push(Box::new(step), vec![], 0.0, level);
            }
        }
        Ok(())
    }
}

/// A convolution's weights `[out][in][taps]`, with zeros between channels of different groups.
fn dense(conv: &Conv) -> std::borrow::Cow<'_, [f32]> {
    if conv.groups == 1 {
        return std::borrow::Cow::Borrowed(&conv.weight);
    }
    let (channels, taps) = (conv.in_channels(), conv.taps());
    let (group_in, group_out) = (channels / conv.groups, conv.out_channels / conv.groups);
    let mut weight = vec![0.0; conv.out_channels * channels * taps];
    for o in 0..conv.out_channels {
        let row = group_in * taps;
        let start = (o * channels + o / group_out * group_in) * taps;
        weight[start..start + row].copy_from_slice(&conv.weight[o * row..(o + 1) * row]);
    }
    std::borrow::Cow::Owned(weight)
}

/// A node's operation with what was fused into it.
fn describe(node: &Node) -> String {
    let mut op = String::new();
    if let Op::Conv(conv) = &node.op
        && conv.input_relu
    {
        op += "relu+";
    }
    op += node.op.name();
    if let Op::Conv(conv) = &node.op {
        op += &format!(" {}x{}", conv.window.kernel[0], conv.window.kernel[1]);
    }
    if matches!(node.op, Op::Conv(_)) && node.inputs.len() > 1 {
        op += "+add";
    }
    let relu = match &node.op {
        Op::Conv(conv) => conv.relu,
        Op::Pool(pool) => pool.relu,
        Op::Add { relu } => *relu,
        _ => false,
    };
    if relu {
        op += "+relu";
    }
    op
}

/// The rows of `explain`, from what [`describe`] said of each node and its multiply-adds.
fn explain(graph: &Graph, fates: &[Fate], steps: &[Planned], described: Vec<(String, u64)>) -> Vec<Row> {
    let kernel =
        |id: NodeId| steps.iter().find(|step| step.nodes.contains(&id)).map(|step| step.step.kernel());
    graph
        .nodes
        .iter()
        .zip(described)
        .enumerate()
        .map(|(id, (node, (op, macs)))| {
            let kernel = match fates[id] {
                Fate::InPlace => "in place".into(),
                Fate::Prologue(reader) => format!("on the way into {}", graph.nodes[reader].name),
                Fate::Sibling(leader) => format!("with {}", graph.nodes[leader].name),
                Fate::Step => kernel(id).unwrap_or_default(),
            };
            let shape = [node.shape.height, node.shape.width, node.shape.channels];
            Row { node: node.name.clone(), op, kernel, shape, macs }
        })
        .collect()
}
