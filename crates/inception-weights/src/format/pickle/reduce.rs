//! Data in place of the calls that a pickle asks for: NumPy's arrays, PyTorch's tensors and storages.

use super::global::Global;
use super::objects::{Array, NumpyDtype, Object, Pickle, Storage, Tensor, Value};
use crate::input::{Fault, Range, unsupported};

/// Longest name of a dtype or a storage: these are copied, so that a long one would be a way to fill the
/// memory.
const MAX_NAME: usize = 32;

/// What `pickle.dump` makes of tensors.
const PICKLED: &str = "the values of its tensors are pickles within this one (`pickle.dump` has written it, as StyleGAN's \
                       `.pkl`); load it with PyTorch, and write its state dict with `torch.save`";

impl Pickle {
    /// The object that a call of one of the known names gives; `objects` counts what is copied for it.
    pub(super) fn reduce(
        &mut self,
        at: u64,
        callee: Value,
        arguments: Value,
        objects: &mut usize,
    ) -> Result<Value, Fault> {
        let global = match callee {
            Value::Global(Global::Other(class)) => return Ok(self.inert(class, arguments)),
            Value::Object(id) => {
                let class = self.objects[id as usize].class;
                return Ok(self.inert(class, arguments));
            }
            Value::Global(global) => global,
            _ => return Err(Fault::at(at, format!("{} is called", callee.kind()))),
        };
        let Value::Tuple(id) = arguments else {
            return Err(Fault::at(at, format!("a call with {} for arguments", arguments.kind())));
        };
        let given = &self.sequences[id as usize];
        // No known call has more than seven.
        let arguments: Vec<Value> = given.iter().copied().take(8).collect();
        let bad = || Fault::at(at, format!("{global:?} is called with arguments that it cannot have"));
        Ok(match (global, &arguments[..]) {
            (Global::Reconstruct, [Value::Global(Global::Ndarray), ..]) => {
                Value::Array(Pickle::add(&mut self.arrays, Array::default()))
            }
            // An array of another class.
            (Global::Reconstruct, _) => Value::Opaque,
            (Global::Dtype, [name, ..]) => match self.text(*name).filter(|n| n.len() <= MAX_NAME) {
                Some(name) => {
                    let name = name.into();
                    Value::Dtype(Pickle::add(&mut self.dtypes, NumpyDtype { name, order: '=' }))
                }
                None => Value::Opaque, // Of records, which no weight is.
            },
            (Global::Encode, [Value::Text(id), encoding]) => match self.text(*encoding) {
                Some("latin1" | "latin-1") => Value::Latin1(self.texts[*id as usize].range),
                _ => return Err(bad()),
            },
            (Global::FromBuffer, [data, Value::Dtype(dtype), shape, order]) => {
                let array = Array {
                    shape: self.sizes(*shape).ok_or_else(bad)?,
                    dtype: Some(self.dtypes[*dtype as usize].clone()),
                    column_major: self.text(*order) == Some("F"),
                    data: Some(*data),
                };
                Value::Array(Pickle::add(&mut self.arrays, array))
            }
            (Global::OrderedDict, []) => Value::Dict(Pickle::add(&mut self.dicts, vec![])),
            (Global::OrderedDict, [pairs]) => self.ordered(*pairs, objects).ok_or_else(bad)?,
            (Global::Tuple | Global::Size, [items @ (Value::Tuple(_) | Value::List(_))]) => match *items {
                Value::List(id) | Value::Tuple(id) => Value::Tuple(id),
                _ => return Err(bad()),
            },
            (Global::ByteString, []) => Value::Bytes(Range { offset: 0, len: 0 }),
            (Global::ByteString, [bytes @ (Value::Bytes(_) | Value::Latin1(_))]) => *bytes,
            (Global::ByteString, [Value::Text(id), _]) => Value::Latin1(self.texts[*id as usize].range),
            (Global::Scalar | Global::Device, _) => Value::Opaque,
            (
                Global::RebuildTensorV2 | Global::RebuildTensor,
                [Value::Storage(storage), offset, shape, strides, ..],
            ) => {
                let tensor = self.tensor_view(*storage, *offset, *shape, *strides).ok_or_else(bad)?;
                Value::Tensor(Pickle::add(&mut self.tensors, tensor))
            }
            (Global::RebuildTensorV2 | Global::RebuildTensor, [Value::Object(_), ..]) => {
                return unsupported(PICKLED);
            }
            (Global::RebuildParameter, [tensor @ (Value::Tensor(_) | Value::Object(_)), ..]) => *tensor,
            // A tensor of a derived class, or with attributes: function, class, arguments, state.
            (Global::RebuildFromType, [inner @ Value::Global(function), _, arguments, ..])
                if *function != Global::RebuildFromType =>
            {
                return self.reduce(at, *inner, *arguments, objects);
            }
            _ => return Err(bad()),
        })
    }

    /// A dictionary of pairs, which are copied.
    fn ordered(&mut self, pairs: Value, objects: &mut usize) -> Option<Value> {
        let pairs = self.items(pairs)?.iter().map(|pair| match self.items(*pair) {
            Some([key, value]) => Some((*key, *value)),
            _ => None,
        });
        let pairs = pairs.collect::<Option<Vec<_>>>()?;
        *objects += pairs.len();
        Some(Value::Dict(Pickle::add(&mut self.dicts, pairs)))
    }

    /// An object of a class that is not looked up.
    pub(super) fn inert(&mut self, class: u32, arguments: Value) -> Value {
        let object = Object { class, arguments, state: Value::None, items: Vec::new() };
        Value::Object(Pickle::add(&mut self.objects, object))
    }

    /// Completes an object that a call has made.
    pub(super) fn build(&mut self, at: u64, object: Value, state: Value) -> Result<(), Fault> {
        let bad = || Fault::at(at, format!("{} gets a state that it cannot have", object.kind()));
        match object {
            Value::Array(id) => {
                let [_, shape, dtype, Value::Bool(column_major), data] =
                    *self.items(state).ok_or_else(bad)?
                else {
                    return Err(bad());
                };
                let Value::Dtype(dtype) = dtype else { return Ok(()) };
                let shape = self.sizes(shape).ok_or_else(bad)?;
                let dtype = Some(self.dtypes[dtype as usize].clone());
                self.arrays[id as usize] = Array { shape, dtype, column_major, data: Some(data) };
            }
            Value::Dtype(id) => {
                let order = self.items(state).and_then(|items| self.text(*items.get(1)?));
                let order = order.and_then(|order| order.chars().next()).ok_or_else(bad)?;
                self.dtypes[id as usize].order = order;
            }
            Value::Object(id) => self.objects[id as usize].state = state,
            // The attributes of an ordered dictionary or a tensor: PyTorch's `_metadata`.
            Value::Dict(_) | Value::Tensor(_) | Value::Opaque => {}
            _ => return Err(bad()),
        }
        Ok(())
    }

    /// PyTorch's references to storages: ("storage", class, key, device, number of elements, view of
    /// another); in old files of whole modules also to classes with their sources: ("module", class, file, text).
    pub(super) fn persistent(&mut self, at: u64, id: Value) -> Result<Value, Fault> {
        let bad = || Fault::at(at, "refers to something other than a storage");
        let items = self.items(id).ok_or_else(bad)?;
        if let [kind, class @ Value::Global(_), ..] = items
            && self.text(*kind) == Some("module")
        {
            return Ok(*class);
        }
        if let [kind, Value::Global(Global::Other(class)), ..] = items
            && self.text(*kind) == Some("storage")
        {
            let class = self.class(*class);
            let reason = format!(
                "a storage of `{class}`, whose numbers are not read; save the weights in floating point"
            );
            return unsupported(reason);
        }
        let [kind, Value::Global(Global::Storage(dtype)), key, _, Value::Int(elements), view @ ..] = items
        else {
            return Err(bad());
        };
        if self.text(*kind) != Some("storage") || !matches!(view, [] | [Value::None]) {
            return Err(bad());
        }
        let storage = Storage {
            dtype,
            key: self.text(*key).filter(|k| k.len() <= MAX_NAME).ok_or_else(bad)?.into(),
            elements: u64::try_from(*elements).map_err(|_| bad())?,
        };
        Ok(Value::Storage(Pickle::add(&mut self.storages, storage)))
    }

    /// A tensor of PyTorch's `_rebuild_tensor_v2`.
    fn tensor_view(&self, storage: u32, offset: Value, shape: Value, strides: Value) -> Option<Tensor> {
        let Value::Int(offset) = offset else { return None };
        let [shape, strides] = [self.sizes(shape)?, self.sizes(strides)?];
        let offset = u64::try_from(offset).ok()?;
        Tensor::new(storage, offset, shape, strides)
    }
}
