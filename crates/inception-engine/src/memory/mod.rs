//! Memory of a run: allocation, the planner that lays tensors out in one arena, and views of them.

mod allocator;
mod planner;
pub(crate) mod sanitizer;
mod view;

pub(crate) use allocator::{Aligned, end_block};
pub(crate) use planner::{Arena, Lifetime};
pub(crate) use view::{View, pixel_stride};
