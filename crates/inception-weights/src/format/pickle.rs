//! Python's pickle format, protocols 2 to 5, as far as checkpoints need it.
//!
//! A pickle is a program for a stack machine that may name any Python function and call it. This machine calls
//! nothing: the few names in [`Global`] are the only ones it knows, each stands for a fixed piece of data, and any
//! other name is an error. It does not recurse, so that nesting costs a few bytes a level, and the payloads of arrays
//! stay in the file as byte ranges. Its memory is bounded by [`MAX_OBJECTS`] and the length of short strings.

use std::collections::HashMap;

use crate::input::{Fault, Stream};

/// Far above the objects of any checkpoint of the family (about 40 for each of 1000 tensors), with the state of an
/// optimiser.
const MAX_OBJECTS: usize = 1 << 20;

/// Longest string that is kept as text; a longer one is some array's payload and stays a range of the file.
const MAX_TEXT: u64 = 1 << 12;

/// Most dimensions of an array.
const MAX_DIMENSIONS: usize = 8;

/// Longest name of a dtype or a storage: these are copied, so that a long one would be a way to fill the memory.
const MAX_NAME: usize = 32;

/// Bytes of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub offset: u64,
    pub len: u64,
}

/// The names that a pickle may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Global {
    Reconstruct,
    Ndarray,
    Dtype,
    Scalar,
    FromBuffer,
    Encode,
    OrderedDict,
    Tuple,
    ByteString,
    RebuildTensor,
    RebuildTensorV2,
    RebuildParameter,
    Size,
    Device,
    /// A storage class of PyTorch, by its kind of numbers.
    Storage(&'static str),
}

impl Global {
    fn find(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => Self::Reconstruct,
            ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Self::Scalar,
            ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => Self::FromBuffer,
            ("numpy", "ndarray") => Self::Ndarray,
            ("numpy", "dtype") => Self::Dtype,
            ("_codecs", "encode") => Self::Encode,
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("builtins" | "__builtin__", "tuple") => Self::Tuple,
            ("builtins" | "__builtin__", "bytes" | "bytearray") => Self::ByteString,
            ("torch._utils", "_rebuild_tensor") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_tensor_v2") => Self::RebuildTensorV2,
            ("torch._utils", "_rebuild_parameter") => Self::RebuildParameter,
            ("torch", "Size") => Self::Size,
            ("torch", "device") => Self::Device,
            ("torch", storage) => Self::Storage(match storage {
                "FloatStorage" => "f32",
                "HalfStorage" => "f16",
                "BFloat16Storage" => "bf16",
                "DoubleStorage" => "f64",
                "LongStorage" => "i64",
                "IntStorage" => "i32",
                "ShortStorage" => "i16",
                "CharStorage" => "i8",
                "ByteStorage" => "u8",
                "BoolStorage" => "bool",
                _ => return None,
            }),
            _ => return None,
        })
    }
}

/// An object on the stack; what it owns lies in [`Pickle`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// A number or anything else that no tensor depends on.
    Opaque,
    Text(u32),
    Bytes(Range),
    /// What `_codecs.encode(text, "latin1")` gives: one byte for each character of the UTF-8 text in this range.
    Latin1(Range),
    Tuple(u32),
    List(u32),
    Dict(u32),
    Global(Global),
    Dtype(u32),
    Array(u32),
    Storage(u32),
    Tensor(u32),
}

impl Value {
    /// As messages call it.
    pub fn kind(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "a truth value",
            Self::Int(_) => "an integer",
            Self::Opaque => "an object",
            Self::Text(_) => "a string",
            Self::Bytes(_) | Self::Latin1(_) => "bytes",
            Self::Tuple(_) => "a tuple",
            Self::List(_) => "a list",
            Self::Dict(_) => "a dictionary",
            Self::Global(_) => "a class or function",
            Self::Dtype(_) => "a dtype",
            Self::Array(_) => "an array",
            Self::Storage(_) => "a storage",
            Self::Tensor(_) => "a tensor",
        }
    }
}

#[derive(Clone, Debug)]
struct Text {
    range: Range,
    /// The text, where it is short and well-formed.
    text: Option<Box<str>>,
    /// Whether it came from Python 2, whose strings are bytes.
    is_bytes: bool,
}

/// A NumPy dtype: its kind and size (`f4`), and its byte order (`<`, `>`, `=` or `|`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NumpyDtype {
    pub name: Box<str>,
    pub order: char,
}

/// A NumPy array; its fields are unknown until the pickle has said them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Array {
    pub shape: Vec<u64>,
    pub dtype: Option<NumpyDtype>,
    pub column_major: bool,
    pub data: Option<Value>,
}

/// A PyTorch storage.
#[derive(Clone, Debug)]
pub(crate) struct Storage {
    pub dtype: &'static str,
    pub key: Box<str>,
    pub elements: u64,
}

/// A PyTorch tensor: a strided view of a storage.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub storage: u32,
    pub offset: u64,
    pub shape: Vec<u64>,
    pub strides: Vec<u64>,
}

/// What a pickle has built.
#[derive(Debug, Default)]
pub(crate) struct Pickle {
    root: Option<Value>,
    texts: Vec<Text>,
    sequences: Vec<Vec<Value>>,
    dicts: Vec<Vec<(Value, Value)>>,
    dtypes: Vec<NumpyDtype>,
    arrays: Vec<Array>,
    storages: Vec<Storage>,
    tensors: Vec<Tensor>,
    /// The integer beyond 64 bits that a PyTorch file starts with.
    pub has_magic: bool,
}

/// PyTorch's `MAGIC_NUMBER`, 0x1950a86a20f9469cfc6c, as a pickle has it.
pub(crate) const TORCH_MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

impl Pickle {
    /// Runs the pickle at `stream` to its end.
    pub fn read(stream: &mut Stream) -> Result<Self, Fault> {
        Machine {
            stream,
            pickle: Self::default(),
            stack: vec![],
            marks: vec![],
            memo: HashMap::new(),
            objects: 0,
        }
        .run()
    }

    pub fn root(&self) -> Value {
        self.root.unwrap_or(Value::None)
    }

    pub fn text(&self, value: Value) -> Option<&str> {
        match value {
            Value::Text(id) => self.texts[id as usize].text.as_deref(),
            _ => None,
        }
    }

    /// The items of a tuple or a list.
    pub fn items(&self, value: Value) -> Option<&[Value]> {
        match value {
            Value::Tuple(id) | Value::List(id) => Some(&self.sequences[id as usize]),
            _ => None,
        }
    }

    pub fn dict(&self, value: Value) -> Option<&[(Value, Value)]> {
        match value {
            Value::Dict(id) => Some(&self.dicts[id as usize]),
            _ => None,
        }
    }

    /// The last value under a key, as Python would have it.
    pub fn get(&self, dict: Value, key: &str) -> Option<Value> {
        let mut pairs = self.dict(dict)?.iter().rev();
        pairs.find(|(k, _)| self.text(*k) == Some(key)).map(|(_, value)| *value)
    }

    pub fn array(&self, value: Value) -> Option<&Array> {
        match value {
            Value::Array(id) => Some(&self.arrays[id as usize]),
            _ => None,
        }
    }

    pub fn tensor(&self, value: Value) -> Option<(&Tensor, &Storage)> {
        match value {
            Value::Tensor(id) => {
                let tensor = &self.tensors[id as usize];
                Some((tensor, &self.storages[tensor.storage as usize]))
            }
            _ => None,
        }
    }

    pub fn storages(&self) -> &[Storage] {
        &self.storages
    }

    /// A tuple or list of sizes.
    pub fn sizes(&self, value: Value) -> Option<Vec<u64>> {
        let items = self.items(value).filter(|items| items.len() <= MAX_DIMENSIONS)?;
        items
            .iter()
            .map(|item| if let Value::Int(i) = item { u64::try_from(*i).ok() } else { None })
            .collect()
    }

    fn add<T>(list: &mut Vec<T>, item: T) -> u32 {
        list.push(item);
        (list.len() - 1) as u32 // Every item is an object, and these are counted.
    }
}

struct Machine<'a, 'b> {
    stream: &'a mut Stream<'b>,
    pickle: Pickle,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: HashMap<u64, Value>,
    objects: usize,
}

impl Machine<'_, '_> {
    fn run(mut self) -> Result<Pickle, Fault> {
        loop {
            let at = self.stream.pos;
            let code = self.stream.byte()?;
            if code == b'.' {
                self.pickle.root = Some(self.pop(at)?);
                return Ok(self.pickle);
            }
            self.step(at, code)?;
        }
    }

    fn step(&mut self, at: u64, code: u8) -> Result<(), Fault> {
        let fault = |reason: String| Err(Fault::at(at, reason));
        match code {
            0x80 => match self.stream.byte()? {
                2..=5 => {}
                protocol => return fault(format!("pickle protocol {protocol}; 2 to 5 are known")),
            },
            0x95 => {
                self.stream.array::<8>()?; // A frame only says how much to read at once.
            }
            b'N' => self.push(at, Value::None)?,
            0x88 | 0x89 => self.push(at, Value::Bool(code == 0x88))?,
            b'J' => {
                let value = i32::from_le_bytes(self.stream.array()?);
                self.push(at, Value::Int(value.into()))?;
            }
            b'K' => {
                let value = self.stream.byte()?;
                self.push(at, Value::Int(value.into()))?;
            }
            b'M' => {
                let value = u16::from_le_bytes(self.stream.array()?);
                self.push(at, Value::Int(value.into()))?;
            }
            0x8a => {
                let len = self.stream.byte()?;
                self.long(at, len.into())?;
            }
            0x8b => {
                let len = u32::from_le_bytes(self.stream.array()?);
                self.long(at, len.into())?;
            }
            b'G' => {
                self.stream.array::<8>()?;
                self.push(at, Value::Opaque)?;
            }
            b'X' => {
                let len = u32::from_le_bytes(self.stream.array()?);
                self.text(at, len.into(), false)?;
            }
            0x8c => {
                let len = self.stream.byte()?;
                self.text(at, len.into(), false)?;
            }
            0x8d => {
                let len = u64::from_le_bytes(self.stream.array()?);
                self.text(at, len, false)?;
            }
            b'T' => {
                let len = u32::from_le_bytes(self.stream.array()?);
                self.text(at, len.into(), true)?;
            }
            b'U' => {
                let len = self.stream.byte()?;
                self.text(at, len.into(), true)?;
            }
            b'B' => {
                let len = u32::from_le_bytes(self.stream.array()?);
                self.bytes(at, len.into())?;
            }
            b'C' => {
                let len = self.stream.byte()?;
                self.bytes(at, len.into())?;
            }
            0x8e | 0x96 => {
                let len = u64::from_le_bytes(self.stream.array()?);
                self.bytes(at, len)?;
            }
            0x98 => {} // A buffer that may not be written to: none is here.
            b'(' => {
                self.count(at)?;
                self.marks.push(self.stack.len());
            }
            b'0' => {
                self.pop(at)?;
            }
            b'1' => {
                self.since_mark(at)?;
            }
            b'2' => {
                let top = self.top(at)?;
                self.push(at, top)?;
            }
            b')' => self.sequence(at, vec![], true)?,
            b't' => {
                let items = self.since_mark(at)?;
                self.sequence(at, items, true)?;
            }
            0x85..=0x87 => {
                let count = usize::from(code - 0x84);
                let start = self.stack.len().checked_sub(count).filter(|&s| s >= self.floor());
                let start = start.ok_or_else(|| Fault::at(at, "nothing left on the stack"))?;
                let items = self.stack.split_off(start);
                self.sequence(at, items, true)?;
            }
            b']' => self.sequence(at, vec![], false)?,
            b'l' => {
                let items = self.since_mark(at)?;
                self.sequence(at, items, false)?;
            }
            b'a' => {
                let item = self.pop(at)?;
                self.append(at, &[item])?;
            }
            b'e' => {
                let items = self.since_mark(at)?;
                self.append(at, &items)?;
            }
            b'}' => self.dict(at, &[])?,
            b'd' => {
                let items = self.since_mark(at)?;
                self.dict(at, &items)?;
            }
            b's' => {
                let value = self.pop(at)?;
                let key = self.pop(at)?;
                self.set_items(at, &[key, value])?;
            }
            b'u' => {
                let items = self.since_mark(at)?;
                self.set_items(at, &items)?;
            }
            0x8f => self.push(at, Value::Opaque)?, // an empty set
            0x90 => {
                self.since_mark(at)?;
                self.top(at)?;
            }
            0x91 => {
                self.since_mark(at)?;
                self.push(at, Value::Opaque)?; // a frozen set
            }
            b'g' => {
                let index = self.index_line(at)?;
                self.get(at, index)?;
            }
            b'h' => {
                let index = self.stream.byte()?;
                self.get(at, index.into())?;
            }
            b'j' => {
                let index = u32::from_le_bytes(self.stream.array()?);
                self.get(at, index.into())?;
            }
            b'p' => {
                let index = self.index_line(at)?;
                self.put(at, index)?;
            }
            b'q' => {
                let index = self.stream.byte()?;
                self.put(at, index.into())?;
            }
            b'r' => {
                let index = u32::from_le_bytes(self.stream.array()?);
                self.put(at, index.into())?;
            }
            0x94 => self.put(at, self.memo.len() as u64)?,
            b'c' => {
                let module = self.stream.line(MAX_TEXT as usize)?;
                let name = self.stream.line(MAX_TEXT as usize)?;
                let [module, name] = [module, name].map(|line| String::from_utf8_lossy(&line).into_owned());
                self.global(at, &module, &name)?;
            }
            0x93 => {
                let name = self.pop(at)?;
                let module = self.pop(at)?;
                match [module, name].map(|value| self.pickle.text(value).map(str::to_owned)) {
                    [Some(module), Some(name)] => self.global(at, &module, &name)?,
                    _ => return fault("a global without a name".to_owned()),
                }
            }
            b'R' | 0x81 => {
                let arguments = self.pop(at)?;
                let callee = self.pop(at)?;
                self.call(at, callee, arguments)?;
            }
            b'b' => {
                let state = self.pop(at)?;
                let object = self.top(at)?;
                self.build(at, object, state)?;
            }
            b'Q' => {
                let id = self.pop(at)?;
                self.persistent(at, id)?;
            }
            0x82..=0x84 => return fault("names an extension; none is allowed".to_owned()),
            0x97 => return fault("refers to a buffer outside of the file".to_owned()),
            b'i' | b'o' | 0x92 => return fault("makes an object of a class; none is allowed".to_owned()),
            _ => return fault(format!("0x{code:02x} is no instruction of pickle protocols 2 to 5")),
        }
        Ok(())
    }

    /// Where the stack of the innermost mark begins.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn count(&mut self, at: u64) -> Result<(), Fault> {
        self.objects += 1;
        match self.objects <= MAX_OBJECTS {
            true => Ok(()),
            false => {
                Err(Fault::at(at, format!("more than {MAX_OBJECTS} objects; no checkpoint has so many")))
            }
        }
    }

    fn push(&mut self, at: u64, value: Value) -> Result<(), Fault> {
        self.count(at)?;
        self.stack.push(value);
        Ok(())
    }

    fn top(&self, at: u64) -> Result<Value, Fault> {
        let top = self.stack.last().filter(|_| self.stack.len() > self.floor());
        top.copied().ok_or_else(|| Fault::at(at, "nothing left on the stack"))
    }

    fn pop(&mut self, at: u64) -> Result<Value, Fault> {
        let top = self.top(at)?;
        self.stack.pop();
        Ok(top)
    }

    fn since_mark(&mut self, at: u64) -> Result<Vec<Value>, Fault> {
        let mark = self.marks.pop().ok_or_else(|| Fault::at(at, "no mark on the stack"))?;
        Ok(self.stack.split_off(mark))
    }

    fn index_line(&mut self, at: u64) -> Result<u64, Fault> {
        let line = self.stream.line(20)?;
        let index = std::str::from_utf8(&line).ok().and_then(|s| s.parse().ok());
        index.ok_or_else(|| Fault::at(at, "an index that is no number"))
    }

    fn get(&mut self, at: u64, index: u64) -> Result<(), Fault> {
        let value = self.memo.get(&index).copied();
        let value = value.ok_or_else(|| Fault::at(at, format!("nothing was remembered as {index}")))?;
        self.push(at, value)
    }

    fn put(&mut self, at: u64, index: u64) -> Result<(), Fault> {
        self.count(at)?;
        let top = self.top(at)?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn long(&mut self, at: u64, len: u64) -> Result<(), Fault> {
        if len > 16 {
            return Err(Fault::at(at, format!("an integer of {len} bytes")));
        }
        let bytes = self.stream.bytes(len, "an integer")?;
        if bytes == TORCH_MAGIC {
            self.pickle.has_magic = true;
            return self.push(at, Value::Opaque);
        }
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let mut whole = [if negative { 0xff } else { 0 }; 16];
        whole[..bytes.len()].copy_from_slice(&bytes);
        let value = i64::try_from(i128::from_le_bytes(whole));
        self.push(at, value.map_or(Value::Opaque, Value::Int))
    }

    fn text(&mut self, at: u64, len: u64, is_bytes: bool) -> Result<(), Fault> {
        let range = Range { offset: self.stream.pos, len };
        let text = match len <= MAX_TEXT {
            true => String::from_utf8(self.stream.bytes(len, "a string")?).ok().map(String::into_boxed_str),
            false => {
                self.stream.skip(len, "a string")?;
                None
            }
        };
        self.count(at)?;
        let id = Pickle::add(&mut self.pickle.texts, Text { range, text, is_bytes });
        self.push(at, Value::Text(id))
    }

    fn bytes(&mut self, at: u64, len: u64) -> Result<(), Fault> {
        let offset = self.stream.pos;
        self.stream.skip(len, "bytes")?;
        self.push(at, Value::Bytes(Range { offset, len }))
    }

    fn sequence(&mut self, at: u64, items: Vec<Value>, is_tuple: bool) -> Result<(), Fault> {
        self.count(at)?;
        let id = Pickle::add(&mut self.pickle.sequences, items);
        self.push(at, if is_tuple { Value::Tuple(id) } else { Value::List(id) })
    }

    fn append(&mut self, at: u64, items: &[Value]) -> Result<(), Fault> {
        match self.top(at)? {
            Value::List(id) => self.pickle.sequences[id as usize].extend_from_slice(items),
            Value::Opaque => {}
            other => return Err(Fault::at(at, format!("an item is appended to {}", other.kind()))),
        }
        Ok(())
    }

    fn dict(&mut self, at: u64, items: &[Value]) -> Result<(), Fault> {
        self.count(at)?;
        let id = Pickle::add(&mut self.pickle.dicts, vec![]);
        self.push(at, Value::Dict(id))?;
        self.set_items(at, items)
    }

    fn set_items(&mut self, at: u64, items: &[Value]) -> Result<(), Fault> {
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(Fault::at(at, "a dictionary's key without a value"));
        }
        match self.top(at)? {
            Value::Dict(id) => {
                self.pickle.dicts[id as usize].extend(pairs.iter().map(|&[key, value]| (key, value)));
            }
            Value::Opaque => {}
            other => return Err(Fault::at(at, format!("an entry is set in {}", other.kind()))),
        }
        Ok(())
    }

    fn global(&mut self, at: u64, module: &str, name: &str) -> Result<(), Fault> {
        match Global::find(module, name) {
            Some(global) => self.push(at, Value::Global(global)),
            None => {
                let reason = format!(
                    "names `{module}.{name}`, which no state dict needs and which is not looked up; save the state dict alone"
                );
                Err(Fault::at(at, reason))
            }
        }
    }

    /// Stands in for a call of one of the known names.
    fn call(&mut self, at: u64, callee: Value, arguments: Value) -> Result<(), Fault> {
        let Value::Global(global) = callee else {
            return Err(Fault::at(at, format!("{} is called", callee.kind())));
        };
        let Value::Tuple(id) = arguments else {
            return Err(Fault::at(at, format!("a call with {} for arguments", arguments.kind())));
        };
        let given = &self.pickle.sequences[id as usize];
        // No known call has more than seven.
        let arguments: Vec<Value> = given.iter().copied().take(8).collect();
        let bad = || Fault::at(at, format!("{global:?} is called with arguments that it cannot have"));
        let value = match (global, &arguments[..]) {
            (Global::Reconstruct, [Value::Global(Global::Ndarray), ..]) => {
                Value::Array(Pickle::add(&mut self.pickle.arrays, Array::default()))
            }
            (Global::Dtype, [name, ..]) => {
                let name = self.pickle.text(*name).filter(|n| n.len() <= MAX_NAME).ok_or_else(bad)?.into();
                Value::Dtype(Pickle::add(&mut self.pickle.dtypes, NumpyDtype { name, order: '=' }))
            }
            (Global::Encode, [Value::Text(id), encoding]) => match self.pickle.text(*encoding) {
                Some("latin1" | "latin-1") => Value::Latin1(self.pickle.texts[*id as usize].range),
                _ => return Err(bad()),
            },
            (Global::FromBuffer, [data, Value::Dtype(dtype), shape, order]) => {
                let array = Array {
                    shape: self.pickle.sizes(*shape).ok_or_else(bad)?,
                    dtype: Some(self.pickle.dtypes[*dtype as usize].clone()),
                    column_major: self.pickle.text(*order) == Some("F"),
                    data: Some(*data),
                };
                Value::Array(Pickle::add(&mut self.pickle.arrays, array))
            }
            (Global::OrderedDict, []) => Value::Dict(Pickle::add(&mut self.pickle.dicts, vec![])),
            (Global::OrderedDict, [pairs]) => {
                let pairs = self.pickle.items(*pairs).ok_or_else(bad)?.iter();
                let pairs = pairs.map(|pair| match self.pickle.items(*pair) {
                    Some([key, value]) => Ok((*key, *value)),
                    _ => Err(bad()),
                });
                let pairs = pairs.collect::<Result<Vec<_>, _>>()?;
                self.objects += pairs.len(); // A copy.
                Value::Dict(Pickle::add(&mut self.pickle.dicts, pairs))
            }
            (Global::Tuple | Global::Size, [items @ (Value::Tuple(_) | Value::List(_))]) => match *items {
                Value::List(id) | Value::Tuple(id) => Value::Tuple(id),
                _ => return Err(bad()),
            },
            (Global::ByteString, []) => Value::Bytes(Range { offset: 0, len: 0 }),
            (Global::ByteString, [bytes @ (Value::Bytes(_) | Value::Latin1(_))]) => *bytes,
            (Global::ByteString, [Value::Text(id), _]) => {
                Value::Latin1(self.pickle.texts[*id as usize].range)
            }
            (Global::Scalar | Global::Device, _) => Value::Opaque,
            (
                Global::RebuildTensorV2 | Global::RebuildTensor,
                [Value::Storage(storage), offset, shape, strides, ..],
            ) => {
                let offset = match offset {
                    Value::Int(offset) => u64::try_from(*offset).ok(),
                    _ => None,
                };
                let [shape, strides] = [shape, strides].map(|v| self.pickle.sizes(*v));
                let tensor = Tensor {
                    storage: *storage,
                    offset: offset.ok_or_else(bad)?,
                    shape: shape.ok_or_else(bad)?,
                    strides: strides.ok_or_else(bad)?,
                };
                if tensor.shape.len() != tensor.strides.len() {
                    return Err(bad());
                }
                Value::Tensor(Pickle::add(&mut self.pickle.tensors, tensor))
            }
            (Global::RebuildParameter, [tensor @ Value::Tensor(_), ..]) => *tensor,
            _ => return Err(bad()),
        };
        self.count(at)?;
        self.push(at, value)
    }

    /// Completes an object that a call has made.
    fn build(&mut self, at: u64, object: Value, state: Value) -> Result<(), Fault> {
        let bad = || Fault::at(at, format!("{} gets a state that it cannot have", object.kind()));
        match object {
            Value::Array(id) => {
                let [_, shape, Value::Dtype(dtype), Value::Bool(column_major), data] =
                    *self.pickle.items(state).ok_or_else(bad)?
                else {
                    return Err(bad());
                };
                let shape = self.pickle.sizes(shape).ok_or_else(bad)?;
                let dtype = Some(self.pickle.dtypes[dtype as usize].clone());
                self.pickle.arrays[id as usize] = Array { shape, dtype, column_major, data: Some(data) };
            }
            Value::Dtype(id) => {
                let order = self.pickle.items(state).and_then(|items| self.pickle.text(*items.get(1)?));
                let order = order.and_then(|order| order.chars().next()).ok_or_else(bad)?;
                self.pickle.dtypes[id as usize].order = order;
            }
            // The attributes of an ordered dictionary or a tensor: PyTorch's `_metadata`.
            Value::Dict(_) | Value::Tensor(_) | Value::Opaque => {}
            _ => return Err(bad()),
        }
        Ok(())
    }

    /// PyTorch's references to storages: ("storage", class, key, device, number of elements, view of another).
    fn persistent(&mut self, at: u64, id: Value) -> Result<(), Fault> {
        let bad = || Fault::at(at, "refers to something other than a storage");
        let items = self.pickle.items(id).ok_or_else(bad)?;
        let [kind, Value::Global(Global::Storage(dtype)), key, _, Value::Int(elements), view @ ..] = items
        else {
            return Err(bad());
        };
        if self.pickle.text(*kind) != Some("storage") || !matches!(view, [] | [Value::None]) {
            return Err(bad());
        }
        let storage = Storage {
            dtype,
            key: self.pickle.text(*key).filter(|k| k.len() <= MAX_NAME).ok_or_else(bad)?.into(),
            elements: u64::try_from(*elements).map_err(|_| bad())?,
        };
        self.count(at)?;
        let id = Pickle::add(&mut self.pickle.storages, storage);
        self.push(at, Value::Storage(id))
    }
}

impl Pickle {
    /// The bytes of an array: where they are, and whether as UTF-8 text.
    pub fn payload(&self, value: Value) -> Option<(Range, bool)> {
        match value {
            Value::Bytes(range) => Some((range, false)),
            Value::Latin1(range) => Some((range, true)),
            Value::Text(id) => {
                let text = &self.texts[id as usize];
                text.is_bytes.then_some((text.range, false))
            }
            _ => None,
        }
    }
}
