//! Python's pickle format, protocols 2 to 5, as much as checkpoints need.
//!
//! A pickle is a program for a stack machine that may name any Python function and call it. This unpickler
//! calls nothing and looks nothing up: each of the names in [`Global`](global::Global) stands for a fixed
//! piece of data, and any other for the class of an inert object, which keeps what it was made of. It does
//! not recurse, and the payloads of arrays stay in the file as byte ranges. Its memory is bounded by a number
//! of objects and the length of short strings.

mod global;
mod objects;
mod reduce;
mod unpickler;

pub(super) use objects::{Array, Pickle, Storage, Tensor, Value};
pub(super) use unpickler::{TORCH_MAGIC, unpickle};
