//! Steps: what the plan consists of. A step owns its packed weights, knows where its tensors lie, and can
//! split its work into tasks that different threads do in any order.
//!
//! A task writes elements that no other task of its level reads or writes, and computes each by the same
//! sequence of operations whoever does it. Results therefore do not depend on which thread does which task.
// Tasks of one step write disjoint ranges of one arena, which only raw pointers can express.
#![allow(unsafe_code)]

mod conv;
mod convert;
mod depthwise;
mod edge;
mod elementwise;
mod panels;
mod pool;
mod step;
mod strassen;
mod winograd;

pub(crate) use conv::{ConvStep, FusedOutput, Prologue, Weights};
pub(crate) use convert::ConvertStep;
pub(crate) use depthwise::{DepthwiseStep, DepthwiseWeights};
pub(crate) use edge::{InputStep, OutputStep};
pub(crate) use elementwise::ElementwiseStep;
pub(crate) use panels::Panels;
pub(crate) use pool::PoolStep;
pub(crate) use step::{Context, Epilogue, RunConfig, Step, chunk};
pub(crate) use strassen::Strassen;
pub(crate) use winograd::{IntegerLayer, WinogradStep, fits as winograd_fits};
