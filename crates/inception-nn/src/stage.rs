//! Stages of parallel branches: what GoogLeNet, Inception V3 and V4 and Inception-ResNet-v2 are tables of.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, activation::relu};

use crate::layers::{ConvNorm, ConvRow, NormSpec, Pool, PoolRow, conv, per_channel};

/// A chain of layers: a pooling or none, then convolutions, then perhaps convolutions side by side
/// that all read the last of the chain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BranchRow {
    pub pool: Option<PoolRow>,
    pub convs: &'static [ConvRow],
    pub fork: &'static [ConvRow],
}

pub(crate) const fn chain(convs: &'static [ConvRow]) -> BranchRow {
    forked(convs, &[])
}

pub(crate) const fn forked(convs: &'static [ConvRow], fork: &'static [ConvRow]) -> BranchRow {
    BranchRow { pool: None, convs, fork }
}

pub(crate) const fn pooled(pool: PoolRow, convs: &'static [ConvRow]) -> BranchRow {
    BranchRow { pool: Some(pool), convs, fork: &[] }
}

/// Branches that read one map and whose outputs are concatenated, in the order of the rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StageRow {
    pub name: &'static str,
    pub branches: &'static [BranchRow],
    /// What a residual stage's branches are scaled by before the sum.
    pub residual: Option<f64>,
    /// Whether a ReLU follows a residual stage's sum.
    pub relu: bool,
    /// How many of this stage follow one another.
    pub times: usize,
}

pub(crate) const fn stage(name: &'static str, branches: &'static [BranchRow]) -> StageRow {
    StageRow { name, branches, residual: None, relu: false, times: 1 }
}

impl StageRow {
    /// A 1x1 convolution brings the concatenation back to the input's channels; its output, scaled, is added
    /// to the input, and a ReLU follows.
    pub const fn residual(mut self, scale: f64) -> Self {
        self.residual = Some(scale);
        self.relu = true;
        self
    }

    /// No ReLU after the sum.
    pub const fn without_relu(mut self) -> Self {
        self.relu = false;
        self
    }

    /// That many of this stage, named by its name and a number from 1.
    pub const fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    /// The names of its stages.
    pub fn names(&self) -> impl Iterator<Item = String> {
        (1..=self.times).map(move |i| match self.times {
            1 => self.name.to_owned(),
            _ => format!("{}{i}", self.name),
        })
    }
}

/// What follows the convolutions of a network of stages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StageStyle {
    pub norm: Option<NormSpec>,
    /// A ReLU after each convolution.
    pub relu: bool,
    /// A ReLU after each concatenation of several branches.
    pub relu_after_concat: bool,
}

/// One branch of a [`Stage`].
#[derive(Module, Debug)]
pub struct Branch {
    pool: Option<Pool>,
    convs: Vec<ConvNorm>,
    fork: Vec<ConvNorm>,
    /// How many channels of the stage's joined convolution it reads; none where it reads the stage's input.
    joined_channels: Option<usize>,
}

impl Branch {
    /// The branch and its number of output channels.
    fn new(row: BranchRow, channels: usize, style: StageStyle, device: &Device) -> (Self, usize) {
        let mut trunk = channels;
        let convs = row.convs.iter().map(|&conv| {
            let channels_in = std::mem::replace(&mut trunk, conv.channels);
            ConvNorm::new(channels_in, conv, style.norm, style.relu, device)
        });
        let convs = convs.collect();
        let fork = row.fork.iter();
        let branch = Self {
            pool: row.pool.map(Pool::new),
            convs,
            fork: fork
                .clone()
                .map(|&conv| ConvNorm::new(trunk, conv, style.norm, style.relu, device))
                .collect(),
            joined_channels: None,
        };
        match row.fork.is_empty() {
            true => (branch, trunk),
            false => (branch, fork.map(|conv| conv.channels).sum()),
        }
    }

    fn forward(&self, input: Tensor<4>, outputs: &mut Vec<Tensor<4>>) {
        let pooled = match &self.pool {
            Some(pool) => pool.forward(input),
            None => input,
        };
        let trunk = self.convs.iter().fold(pooled, |x, conv| conv.forward(x));
        match self.fork.is_empty() {
            true => outputs.push(trunk),
            false => outputs.extend(self.fork.iter().map(|conv| conv.forward(trunk.clone()))),
        }
    }
}

impl Branch {
    fn convs_mut(&mut self) -> impl Iterator<Item = &mut ConvNorm> {
        self.convs.iter_mut().chain(&mut self.fork)
    }

    /// The convolution that can be one with those of other branches.
    fn joinable(&self) -> Option<&ConvNorm> {
        let reads_input = self.pool.is_none() && self.joined_channels.is_none();
        self.convs.first().filter(|conv| reads_input && conv.is_pointwise())
    }

    /// The convolutions that make the branch's outputs; none where a pooling or the joined convolution does.
    fn lasts(&self) -> &[ConvNorm] {
        let from = self.convs.len().saturating_sub(1);
        if self.fork.is_empty() { &self.convs[from..] } else { &self.fork }
    }

    fn lasts_mut(&mut self) -> &mut [ConvNorm] {
        let from = self.convs.len().saturating_sub(1);
        if self.fork.is_empty() { &mut self.convs[from..] } else { &mut self.fork }
    }
}

/// What a residual stage does with its concatenated branches.
#[derive(Module, Debug)]
pub struct Residual {
    projection: ConvNorm,
    scale: f64,
    relu: bool,
}

impl Residual {
    /// The stage's input and its branches' maps, both `[batch, channels, height, width]`, to their sum in the
    /// input's shape.
    pub fn forward(&self, input: Tensor<4>, branches: Tensor<4>) -> Tensor<4> {
        let x = input + self.projection.forward(branches).mul_scalar(self.scale);
        match self.relu {
            true => relu(x),
            false => x,
        }
    }
}

/// Parallel branches over one map, concatenated over channels; in a residual stage, then added to that map.
#[derive(Module, Debug)]
pub struct Stage {
    branches: Vec<Branch>,
    residual: Option<Residual>,
    /// The first convolutions of several branches as one, in the form for a GPU.
    joined: Option<ConvNorm>,
    /// What is added after the concatenation, `[1, channels, 1, 1]`: the last convolutions' biases in the
    /// form for a GPU.
    shift: Option<Param<Tensor<4>>>,
    relu: bool,
}

impl Stage {
    /// `[batch, channels_in, height, width]` to `[batch, channels_out, height_out, width_out]`.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let mut outputs = Vec::with_capacity(self.branches.len());
        for (branch, input) in self.branches.iter().zip(self.inputs(&input)) {
            branch.forward(input, &mut outputs);
        }
        let x = match outputs.len() {
            1 => outputs.remove(0),
            _ => Tensor::cat(outputs, 1),
        };
        let x = match &self.shift {
            Some(shift) => x + shift.val(),
            None => x,
        };
        let x = match self.relu {
            true => relu(x),
            false => x,
        };
        match &self.residual {
            Some(residual) => residual.forward(input, x),
            None => x,
        }
    }
}

impl Stage {
    /// What each branch reads.
    fn inputs(&self, input: &Tensor<4>) -> Vec<Tensor<4>> {
        let joined = self.joined.as_ref().map(|conv| conv.forward(input.clone()));
        let mut end = 0;
        let inputs = self.branches.iter().map(|branch| match (&joined, branch.joined_channels) {
            (Some(joined), Some(channels)) => {
                end += channels;
                joined.clone().slice_dim(1, end - channels..end)
            }
            _ => input.clone(),
        });
        inputs.collect()
    }

    /// Makes the 1x1 convolutions that read the stage's input one.
    fn join(&mut self) {
        let firsts: Vec<_> = self.branches.iter().filter_map(Branch::joinable).collect();
        if firsts.len() < 2 {
            return;
        }
        if let Some(joined) = ConvNorm::join(&firsts) {
            self.joined = Some(joined);
            for branch in self.branches.iter_mut().filter(|branch| branch.joinable().is_some()) {
                branch.joined_channels = Some(branch.convs.remove(0).channels());
            }
        }
    }

    /// Takes norms into the convolutions before them. (A residual stage's projection has none.)
    pub(crate) fn fold(&mut self) {
        self.branches.iter_mut().flat_map(Branch::convs_mut).for_each(ConvNorm::fold);
    }

    /// Readies a folded stage for Burn's GPU kernels, as [`Network::for_gpu`](crate::Network::for_gpu) says.
    /// Where each branch ends in a bias and a ReLU, or in a pooling or channels of a map that a ReLU has made,
    /// one addition and ReLU of all together takes their place.
    pub(crate) fn for_gpu(&mut self) {
        let reader = self.branches.iter().find_map(|branch| branch.convs.first());
        let input = reader.map(ConvNorm::channels_in_and_zero);
        self.join();
        let lasts: Vec<_> = self.branches.iter().map(Branch::lasts).collect();
        let joins = lasts.iter().map(|convs| convs.len().max(1)).sum::<usize>() > 1;
        if let Some((channels, zero)) = input
            && joins
            && lasts.iter().copied().flatten().all(ConvNorm::ends_in_relu_of_bias)
        {
            let shifts = self.branches.iter_mut().flat_map(|branch| {
                let channels = branch.joined_channels.unwrap_or(channels);
                match branch.lasts_mut() {
                    [] => vec![zero.clone().expand([channels])],
                    convs => convs.iter_mut().filter_map(ConvNorm::take_relu_and_bias).collect(),
                }
            });
            self.shift = Some(Param::from_tensor(per_channel(Tensor::cat(shifts.collect(), 0))));
            self.relu = true;
        }
        let branches = self.branches.iter_mut().flat_map(Branch::convs_mut);
        branches.chain(&mut self.joined).for_each(|conv| conv.for_gpu(false));
        self.residual.iter_mut().for_each(|residual| residual.projection.for_gpu(true));
    }
}

/// Builds a table's stages from an image of three channels on; also the channels of the last map.
pub(crate) fn build_stages(rows: &[StageRow], style: StageStyle, device: &Device) -> (Vec<Stage>, usize) {
    let mut channels = 3;
    let rows = rows.iter().flat_map(|row| std::iter::repeat_n(row, row.times));
    let stages = rows.map(|row| {
        let channels_in = std::mem::take(&mut channels);
        let branches = row.branches.iter().map(|&branch| {
            let (branch, channels_out) = Branch::new(branch, channels_in, style, device);
            channels += channels_out;
            branch
        });
        let branches: Vec<_> = branches.collect();
        let residual = row.residual.map(|scale| {
            let concatenated = std::mem::replace(&mut channels, channels_in);
            let projection = ConvNorm::new(concatenated, conv(channels_in, 1).biased(), None, false, device);
            Residual { projection, scale, relu: row.relu }
        });
        let relu = style.relu_after_concat && branches.len() > 1;
        Stage { relu, residual, joined: None, shift: None, branches }
    });
    (stages.collect(), channels)
}
