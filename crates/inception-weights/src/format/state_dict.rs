//! The state dict within a pickled checkpoint.

use super::pickle::{Pickle, Value};
use crate::input::{Fault, damaged};

/// The keys under which training loops keep the state dict of the network, in the order in which they are
/// tried.
const STATE_DICT_KEYS: &[&str] =
    &["state_dict", "model_state_dict", "model", "net", "network", "state_dict_ema"];

/// The dictionary of tensors: the outermost, or the one under one of the keys of training loops.
pub(super) fn state_dict(pickle: &Pickle, is_tensor: impl Fn(Value) -> bool) -> Result<Value, Fault> {
    let root = pickle.root();
    let Some(pairs) = pickle.dict(root) else {
        return damaged(format!("it holds {}, not a dictionary of tensors", root.kind()));
    };
    if pairs.iter().any(|(_, value)| is_tensor(*value)) {
        return Ok(root);
    }
    let nested = STATE_DICT_KEYS.iter().filter_map(|key| pickle.get(root, key));
    Ok(nested.into_iter().find(|value| pickle.dict(*value).is_some()).unwrap_or(root))
}
