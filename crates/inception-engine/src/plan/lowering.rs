//! Lowering: from nodes to steps, which own packed weights.

use std::borrow::Cow;

use super::algorithm::Rule;
use super::cost;
use super::fusion::Lowering;
use crate::dtype::{DType, LINE};
use crate::graph::{self, Conv, Graph, Node, NodeId, Op, Pool, Shape};
use crate::kernel_name::KernelName;
use crate::kernels::{Kernels, TransformSpec};
use crate::memory::{Aligned, View, end_block};
use crate::mixed::StoredAs;
use crate::quantization::{IntegerWeights, Requantization};
use crate::steps::{
    ConvStep, ConvertStep, DepthwiseStep, DepthwiseWeights, ElementwiseStep, Epilogue, FusedOutput,
    InputStep, IntegerLayer, OutputStep, Panels, PoolStep, Prologue, Step, Strassen, Weights, WinogradStep,
};
use crate::{Error, QuantParams};

/// A step with its place in the plan.
pub(crate) struct PlannedStep {
    /// What to run.
    pub step: Box<dyn Step>,
    /// The nodes that it computes.
    pub nodes: Vec<NodeId>,
    /// The cost model's estimate for one image, in multiply-adds of `f32`; zero where it has none.
    pub cost: f64,
    /// Steps of one level run at the same time.
    pub level: usize,
}

/// What is decided of a graph; slices have an item for each node.
pub(super) struct Decisions<'a> {
    /// One image as it arrives.
    pub image: Shape,
    /// The kernels in use.
    pub kernels: &'a Kernels,
    /// By what convolutions get their algorithms.
    pub rule: &'a Rule,
    /// The type in which the network stores activations.
    pub activations: DType,
    /// How a node is computed.
    pub lowerings: &'a [Lowering],
    /// When its tensor is complete.
    pub levels: &'a [usize],
    /// What its tensor is stored as, and what bytes stand for, had it a buffer of its own.
    pub stored: &'a StoredAs,
    /// Where its tensor lies, if it is stored.
    pub views: &'a [Option<View>],
}

/// The steps of a graph, in topological order. Takes the weights out of the graph.
///
/// # Errors
/// [`Error::Graph`] for a node that no step can compute.
pub(super) fn steps(graph: &mut Graph, decisions: &Decisions<'_>) -> Result<Vec<PlannedStep>, Error> {
    let mut steps = Vec::new();
    for id in 0..graph.nodes.len() {
        let lowered = Lower { graph, decisions }.node(id)?;
        // They are packed now, and a second copy of all weights would be most of the memory that compiling
        // takes.
        for &node in lowered.iter().flat_map(|step| &step.nodes) {
            if let Op::Conv(conv) = &mut graph.nodes[node].op {
                conv.weight = Vec::new();
            }
        }
        steps.extend(lowered);
    }
    end_block();
    let input = Lower { graph, decisions }.view(graph.output)?;
    let step = Box::new(OutputStep { shape: graph.nodes[graph.output].shape, input });
    let level = decisions.levels.iter().max().copied().unwrap_or(0) + 1;
    steps.push(PlannedStep { step, nodes: vec![], cost: 0.0, level });
    Ok(steps)
}

/// Lowers one node.
struct Lower<'a> {
    graph: &'a Graph,
    decisions: &'a Decisions<'a>,
}

impl Lower<'_> {
    fn error(&self, id: NodeId, reason: &str) -> Error {
        let node = &self.graph.nodes[id];
        let (node, op, reason) = (node.name.clone(), node.op.name(), reason.into());
        graph::Error::Graph { node, op, reason }.into()
    }

    fn view(&self, id: NodeId) -> Result<View, Error> {
        self.decisions.views[id].ok_or_else(|| self.error(id, "is read but not stored"))
    }

    /// What the bytes of a node's tensor stand for, stored or on the way into another node.
    fn quant(&self, id: NodeId) -> QuantParams {
        match self.decisions.views[id] {
            Some(view) => view.quant,
            None => self.decisions.stored.quants[id],
        }
    }

    fn size(&self, id: NodeId) -> [usize; 2] {
        self.graph.nodes[id].shape.size()
    }

    fn residual(&self, id: NodeId) -> Result<Option<View>, Error> {
        self.graph.nodes[id].inputs.get(1).map(|&residual| self.view(residual)).transpose()
    }

    /// The depthwise convolution that is the prologue of `id`, if it has one.
    fn prologue(&self, id: NodeId) -> Result<Option<(NodeId, DepthwiseWeights)>, Error> {
        let source = self.graph.nodes[id].inputs[0];
        match &self.graph.nodes[source].op {
            Op::Conv(conv) if self.decisions.lowerings[source] == Lowering::Prologue(id) => {
                Ok(Some((source, self.depthwise(source, conv)?)))
            }
            _ => Ok(None),
        }
    }

    /// The steps of a node: none if it is computed with another.
    fn node(&self, id: NodeId) -> Result<Vec<PlannedStep>, Error> {
        if matches!(self.decisions.lowerings[id], Lowering::FusedOutput(_) | Lowering::Prologue(_)) {
            return Ok(vec![]);
        }
        let node = &self.graph.nodes[id];
        let (mut nodes, mut cost) = (vec![id], 0.0);
        let step: Box<dyn Step> = match &node.op {
            &Op::Input { pad, block, .. } => Box::new(InputStep {
                image: self.decisions.image,
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
                    Box::new(self.winograd(id, conv, spec)?)
                }
                None => return Ok(vec![self.conv(id, conv)?]),
            },
            Op::Pool(pool) => {
                let prologue = self.prologue(id)?;
                nodes.extend(prologue.iter().map(|(source, _)| *source));
                Box::new(self.pool(id, pool, prologue)?)
            }
            Op::Add { .. } | Op::Relu | Op::Affine { .. } => Box::new(self.elementwise(id, node)?),
            Op::Concat => return self.concat(id),
            Op::Scale { .. }
                if self.decisions.stored.dtypes[id] != self.decisions.stored.dtypes[node.inputs[0]] =>
            {
                let (input, out) = (self.view(node.inputs[0])?, self.view(id)?);
                Box::new(ConvertStep { channels: node.shape.channels, input, out })
            }
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
        Ok(vec![PlannedStep { step, nodes, cost, level: self.decisions.levels[id] }])
    }

    /// A convolution by Winograd's algorithm.
    fn winograd(&self, id: NodeId, conv: &Conv, spec: TransformSpec) -> Result<WinogradStep, Error> {
        let (source, kernels) = (self.graph.nodes[id].inputs[0], self.decisions.kernels);
        let sizes = [self.size(source), self.size(id)];
        let [input, out] = [self.view(source)?, self.view(id)?];
        let mut integers = kernels.integer_winograd().iter().filter(|_| input.dtype == DType::U8);
        let Some(&kernels_of_bytes) = integers.find(|kernels| kernels.transform == spec.transform) else {
            return Ok(WinogradStep::new(kernels, conv, None, spec, sizes, input, out));
        };
        let (values, requantization) = self.integers(id, conv, input.quant)?;
        let layer =
            IntegerLayer { kernels: kernels_of_bytes, values: &values, requantization: &requantization };
        Ok(WinogradStep::new(kernels, conv, Some(layer), spec, sizes, input, out))
    }

    /// The weights of a convolution of bytes as integers, and what their sums become.
    fn integers(
        &self,
        id: NodeId,
        conv: &Conv,
        quant: QuantParams,
    ) -> Result<(Vec<f32>, Requantization), Error> {
        let integers = IntegerWeights::new(conv);
        if !integers.sums_fit() {
            return Err(self.error(id, "has sums of integers that could leave 32 bits"));
        }
        let units: Vec<f64> =
            integers.scales.iter().map(|w| f64::from(quant.scale) * f64::from(*w)).collect();
        let shifts: Vec<i64> = integers.sums.iter().map(|sum| sum * i64::from(quant.zero_point)).collect();
        Ok((integers.values, self.requantization(id, conv, &units, &shifts)?))
    }

    /// What sums in units of `units` become where `id` stores its results.
    fn requantization(
        &self,
        id: NodeId,
        conv: &Conv,
        units: &[f64],
        shifts: &[i64],
    ) -> Result<Requantization, Error> {
        let residual = self.residual(id)?.map(|residual| residual.quant);
        Ok(Requantization::new(units, shifts, conv.bias.as_deref(), self.view(id)?.quant, residual))
    }

    /// The Winograd transform of a convolution, if it is computed by one. It reads and writes activations.
    fn transform(&self, id: NodeId, conv: &Conv) -> Option<(TransformSpec, f64)> {
        let (node, Decisions { kernels, rule, activations, stored, .. }) =
            (&self.graph.nodes[id], self.decisions);
        let stored = [id, node.inputs[0]].map(|node| stored.dtypes[node]);
        // Of integers some layers may be left in floats.
        let dtype = if *activations == DType::U8 { stored[0] } else { *activations };
        if node.inputs.len() > 1 || stored != [dtype; 2] {
            return None;
        }
        let direct = cost::direct(kernels, conv, self.size(id), dtype);
        rule.transform(kernels, &node.name, conv, self.size(id), (dtype, direct))
    }

    fn depthwise(&self, id: NodeId, conv: &Conv) -> Result<DepthwiseWeights, Error> {
        let input = self.graph.nodes[id].inputs[0];
        let view = self.view(input)?;
        Ok(DepthwiseWeights::new(
            self.decisions.kernels,
            conv,
            self.size(input),
            self.size(id),
            &view,
            self.residual(id)?,
            self.quant(id),
        ))
    }

    fn pool(
        &self,
        id: NodeId,
        pool: &Pool,
        prologue: Option<(NodeId, DepthwiseWeights)>,
    ) -> Result<PoolStep, Error> {
        let source = self.graph.nodes[id].inputs[0];
        let input = match &prologue {
            Some((depthwise, _)) => self.graph.nodes[*depthwise].inputs[0],
            None => source,
        };
        let (channels, sizes) = (self.graph.nodes[id].shape.channels, [self.size(source), self.size(id)]);
        let prologue = prologue.map(|(_, weights)| weights);
        let (input, out, pooled) = (self.view(input)?, self.view(id)?, self.quant(source));
        Ok(PoolStep::new(pool, channels, sizes, input, out, prologue, pooled))
    }

    fn elementwise(&self, id: NodeId, node: &Node) -> Result<ElementwiseStep, Error> {
        let (name, relu, affine) = match &node.op {
            Op::Add { relu } => (KernelName::Add, *relu, None),
            Op::Affine { scale, shift } => (KernelName::Affine, false, Some([&scale[..], shift])),
            _ => (KernelName::Relu, true, None),
        };
        let [a, out] = [self.view(node.inputs[0])?, self.view(id)?];
        Ok(elementwise(name, node.shape.channels, [a, out], self.residual(id)?, affine, relu))
    }

    /// A step of direct or pointwise convolutions: `id` with its prologue and its horizontally fused outputs.
    fn conv(&self, id: NodeId, conv: &Conv) -> Result<PlannedStep, Error> {
        let Decisions { kernels, rule, lowerings, levels, views, .. } = self.decisions;
        let costs = &kernels.costs;
        let (node, source) = (&self.graph.nodes[id], self.graph.nodes[id].inputs[0]);
        let mut nodes = vec![id];
        let (input, prologue) = match self.prologue(id)? {
            Some((depthwise, weights)) => {
                nodes.push(depthwise);
                let (weights, stored) = (Box::new(weights), views[depthwise]);
                let input = self.view(self.graph.nodes[depthwise].inputs[0])?;
                (input, Prologue::Depthwise { weights, stored, relu: conv.input_relu })
            }
            // The copy that it is clamped in has one tap.
            None if conv.input_relu && !conv.window.is_pointwise() => {
                return Err(self.error(id, "clamps the input of a window"));
            }
            None if conv.input_relu => (self.view(source)?, Prologue::Relu),
            None => (self.view(source)?, Prologue::None),
        };
        let fused = |other: &NodeId| lowerings[*other] == Lowering::FusedOutput(id);
        let fused: Vec<NodeId> = (0..lowerings.len()).filter(fused).collect();
        let (pixels, dtype) = (node.shape.pixels(), input.dtype);
        let strassen = fused.is_empty()
            && self.decisions.stored.dtypes[id] == dtype
            && rule.strassen(costs, &node.name, conv, pixels, dtype);
        let mut step = ConvStep {
            input,
            input_size: self.size(source),
            output_size: self.size(id),
            channels: self.graph.nodes[source].shape.channels,
            window: conv.window,
            outputs: Vec::new(),
            prologue,
            padding: None,
        };
        let runs = step.runs();
        // Scratch memory holds the whole input of a pointwise convolution.
        let zero = step.input.quant.zero_point;
        if step.input.dtype == DType::U8 && zero != 0 && matches!(step.prologue, Prologue::None) {
            let word = f32::from_bits(u32::from_le_bytes([zero; 4]));
            step.padding = Some(Aligned::padded(&[], runs[1].div_ceil(4), word));
        }
        let matrix_quant = self.quant(source);
        for output in std::iter::once(id).chain(fused.iter().copied()) {
            if let Op::Conv(conv) = &self.graph.nodes[output].op {
                step.outputs.push(self.output(output, conv, strassen, (dtype, matrix_quant), runs)?);
            }
        }
        nodes.extend(fused);
        let cost = nodes.iter().filter_map(|&node| match &self.graph.nodes[node].op {
            Op::Conv(conv) if conv.is_depthwise() => Some(cost::depthwise(costs, conv, pixels)),
            Op::Conv(conv) if strassen => Some(cost::strassen(costs, conv, pixels)),
            Op::Conv(conv) => Some(cost::direct(kernels, conv, self.size(node), dtype)),
            _ => None,
        });
        let cost = cost.sum();
        Ok(PlannedStep { step: Box::new(step), nodes, cost, level: levels[id] })
    }

    /// An output of a convolution step whose micro-kernel reads runs of the input: so many, and so many
    /// elements each, of a type that stands for numbers in a way.
    fn output(
        &self,
        id: NodeId,
        conv: &Conv,
        strassen: bool,
        (dtype, quant): (DType, QuantParams),
        runs: [usize; 2],
    ) -> Result<FusedOutput, Error> {
        let (channels, taps) = (conv.in_channels(), conv.taps());
        let residual = self.residual(id)?;
        if dtype == DType::U8 || self.decisions.stored.dtypes[id] == DType::U8 {
            return self.quantized_output(id, conv, (dtype, quant), runs);
        }
        let weight = dense(conv, &conv.weight);
        let weights = if strassen {
            Weights::Strassen(Box::new(Strassen::new(
                self.decisions.kernels,
                &weight,
                channels,
                conv.out_channels,
            )))
        } else {
            // The micro-kernel goes over taps, and over channels within a tap.
            Weights::Direct(Panels::pack_as(
                self.decisions.kernels,
                dtype,
                runs,
                conv.out_channels,
                |o, kk| weight[(o * channels + kk % channels) * taps + kk / channels],
            ))
        };
        // Strassen's algorithm adds the residual last, and a ReLU comes after it.
        let relu = conv.relu && !(strassen && residual.is_some());
        Ok(FusedOutput {
            weights,
            epilogue: Epilogue::new(conv.bias.as_deref().unwrap_or_default(), conv.out_channels, relu),
            relu: conv.relu,
            out: self.view(id)?,
            residual,
            residual_scale: 1.0,
        })
    }

    /// As [`Lower::output`], from bytes or to bytes.
    fn quantized_output(
        &self,
        id: NodeId,
        conv: &Conv,
        (dtype, quant): (DType, QuantParams),
        runs: [usize; 2],
    ) -> Result<FusedOutput, Error> {
        let (channels, taps, out) = (conv.in_channels(), conv.taps(), self.view(id)?);
        let (values, requantization) = match dtype {
            DType::U8 => self.integers(id, conv, quant)?,
            // Sums are in the unit of the output at once.
            _ => {
                let unit = f64::from(out.quant.scale);
                let values = conv.weight.iter().map(|w| (f64::from(*w) / unit) as f32).collect();
                let (units, shifts) = (vec![unit; conv.out_channels], vec![0; conv.out_channels]);
                (values, self.requantization(id, conv, &units, &shifts)?)
            }
        };
        let values = dense(conv, &values);
        let residual = self.residual(id)?;
        let Requantization { scales, bias, residual_scale } = requantization;
        let scales = (dtype == DType::U8).then_some(&scales[..]);
        let panels = Panels::pack_as(self.decisions.kernels, dtype, runs, conv.out_channels, |o, kk| {
            values[(o * channels + kk % channels) * taps + kk / channels]
        });
        Ok(FusedOutput {
            weights: Weights::Direct(panels),
            epilogue: Epilogue::quantized(&bias, scales, conv.relu, &out),
            relu: conv.relu,
            out,
            residual,
            residual_scale,
        })
    }

    /// Copies of the inputs of a concatenation that could not be written in place.
    fn concat(&self, id: NodeId) -> Result<Vec<PlannedStep>, Error> {
        let out = self.view(id)?;
        let mut channel = out.channel;
        let mut copies = Vec::new();
        for &input in &self.graph.nodes[id].inputs {
            let (a, target) = (self.view(input)?, View { channel, ..out });
            let channels = self.graph.nodes[input].shape.channels;
            channel += channels;
            if a != target {
                let step = elementwise(KernelName::Copy, channels, [a, target], None, None, false);
                let step = Box::new(step);
                copies.push(PlannedStep { step, nodes: vec![], cost: 0.0, level: self.decisions.levels[id] });
            }
        }
        Ok(copies)
    }
}

/// `max(a * scale + shift [+ b], 0 or -inf)` from the first view to the second; of bytes, in their units.
fn elementwise(
    name: KernelName,
    channels: usize,
    [a, out]: [View; 2],
    b: Option<View>,
    affine: Option<[&[f64]; 2]>,
    relu: bool,
) -> ElementwiseStep {
    let padded = |values: &mut dyn Iterator<Item = f64>| {
        let values: Vec<f32> = values.map(|v| v as f32).collect();
        Aligned::padded(&values, values.len() + LINE, 0.0)
    };
    if out.dtype != DType::U8 {
        let affine = affine.map(|values| values.map(|values| padded(&mut values.iter().copied())));
        let least = if relu { 0.0 } else { f32::NEG_INFINITY };
        return ElementwiseStep { name, channels, a, b, out, affine, b_scale: 1.0, least };
    }
    let [unit, a_unit] = [out, a].map(|view| f64::from(view.quant.scale));
    let zero = |quant: QuantParams| f64::from(quant.zero_point);
    let b_scale = b.map_or(1.0, |b| (f64::from(b.quant.scale) / unit) as f32);
    let added = b.map_or(0.0, |b| zero(b.quant) * f64::from(b_scale));
    let of = |c: usize| affine.map_or((1.0, 0.0), |[scale, shift]| (scale[c], shift[c]));
    let scale = |c: usize| of(c).0 * a_unit / unit;
    // The factor as the kernel has it, rounded.
    let zero_of_a = |c: usize| zero(a.quant) * f64::from(scale(c) as f32);
    let shift = |c: usize| of(c).1 / unit + zero(out.quant) - zero_of_a(c) - added;
    let affine = Some([padded(&mut (0..channels).map(scale)), padded(&mut (0..channels).map(shift))]);
    let least = if relu { f32::from(out.quant.zero_point) } else { 0.0 };
    ElementwiseStep { name, channels, a, b, out, affine, b_scale, least }
}

/// A convolution's weights `[out][in][taps]`, with zeros between channels of different groups.
fn dense<'a>(conv: &Conv, weights: &'a [f32]) -> Cow<'a, [f32]> {
    if conv.groups == 1 {
        return Cow::Borrowed(weights);
    }
    let (channels, taps) = (conv.in_channels(), conv.taps());
    let (group_in, group_out) = (channels / conv.groups, conv.out_channels / conv.groups);
    let mut weight = vec![0.0; conv.out_channels * channels * taps];
    for o in 0..conv.out_channels {
        let row = group_in * taps;
        let start = (o * channels + o / group_out * group_in) * taps;
        weight[start..start + row].copy_from_slice(&weights[o * row..(o + 1) * row]);
    }
    Cow::Owned(weight)
}
