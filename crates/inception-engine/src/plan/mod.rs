//! From graph to plan. Each file is a decision: `algorithm` (with the model of `cost`), `fusion`, `levels`,
//! `dtypes`, `storage`; then `lowering` makes the steps, and `explain` says what became of each node.

mod algorithm;
mod cost;
mod dtypes;
mod explain;
mod fusion;
mod levels;
mod lowering;
mod storage;

pub use algorithm::Picks;
pub(crate) use algorithm::{Rule, space_to_depth};
pub(crate) use dtypes::dtypes;
pub use explain::PlannedNode;
pub(crate) use lowering::PlannedStep;
pub(crate) use storage::stands_for;

use crate::dtype::DType;
use crate::graph::{Graph, Shape};
use crate::kernels::Kernels;
use crate::memory::{Arena, View};
use crate::mixed::StoredAs;
use crate::{Error, QuantParams};

/// A compiled network, without the machine to run it on.
pub(crate) struct Plan {
    /// All steps; a step reads only what steps of earlier levels wrote.
    pub steps: Vec<PlannedStep>,
    /// The steps of each level, which run at the same time, largest first.
    pub levels: Vec<Vec<usize>>,
    /// The memory of activations.
    pub arena: Arena,
    /// For each node, where its tensor lies, if it is stored.
    pub views: Vec<Option<View>>,
    /// For each node, what became of it.
    pub rows: Vec<PlannedNode>,
}

/// How to plan.
pub(crate) struct PlanOptions<'a> {
    /// By what convolutions get their algorithms.
    pub rule: &'a Rule,
    /// The kernels to use.
    pub kernels: &'a Kernels,
    /// The type in which activations are stored.
    pub activations: DType,
    /// What each node's tensor is stored as, where that is not by the rule of [`dtypes`] alone.
    pub stored: Option<StoredAs>,
    /// Whether each node's tensor is stored, so that it can be looked at.
    pub stores_all: bool,
}

impl Plan {
    /// Makes the plan of a graph that has been through the passes, for images of shape `image`. The weights
    /// are taken out of the graph.
    ///
    /// # Errors
    /// [`Error::Graph`] for a node that no step can compute.
    pub fn new(graph: &mut Graph, image: Shape, options: PlanOptions<'_>) -> Result<Plan, Error> {
        let PlanOptions { rule, kernels, activations, stored, stores_all } = options;
        let mut rows = explain::describe(graph);
        space_to_depth(graph, rule, kernels, activations);
        let stored = &stored.unwrap_or_else(|| StoredAs {
            dtypes: dtypes(graph, activations),
            quants: vec![QuantParams::NONE; graph.nodes.len()],
        });
        let lowerings = &fusion::lowerings(graph, stores_all);
        let levels = &levels::levels(graph, lowerings);
        let (views, arena) = storage::lay_out(graph, lowerings, levels, stored);
        let decisions = lowering::Decisions {
            image,
            rule,
            kernels,
            activations,
            lowerings,
            levels,
            stored,
            views: &views,
        };
        let steps = lowering::steps(graph, &decisions)?;
        explain::complete(&mut rows, graph, lowerings, &steps);
        let levels = by_level(&steps, &rows);
        Ok(Plan { steps, levels, arena, views, rows })
    }
}

/// The numbers of the steps of each level that has any, largest first.
fn by_level(steps: &[PlannedStep], rows: &[PlannedNode]) -> Vec<Vec<usize>> {
    let count = steps.iter().map(|step| step.level + 1).max().unwrap_or(0);
    let mut levels = vec![Vec::new(); count];
    for (index, step) in steps.iter().enumerate() {
        levels[step.level].push(index);
    }
    levels.retain(|level| !level.is_empty());
    let macs = |&step: &usize| steps[step].nodes.iter().map(|&node| rows[node].macs).sum::<u64>();
    for level in &mut levels {
        level.sort_by_key(|step| std::cmp::Reverse(macs(step)));
    }
    levels
}
