//! The objects that a pickle makes.

use super::global::Global;
use crate::input::Range;

/// Most dimensions of an array.
const MAX_DIMENSIONS: usize = 8;

/// An object on the stack; what it owns lies in [`Pickle`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// An object that no tensor depends on, such as a floating-point number.
    Opaque,
    Text(u32),
    Bytes(Range),
    /// What `_codecs.encode(text, "latin1")` gives: one byte for each character of the UTF-8 text in this
    /// range.
    Latin1(Range),
    Tuple(u32),
    List(u32),
    Dict(u32),
    Global(Global),
    Dtype(u32),
    Array(u32),
    Storage(u32),
    Tensor(u32),
    Object(u32),
}

impl Value {
    /// Its kind in messages.
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
            Self::Object(_) => "an object of a class",
        }
    }
}

/// A string.
#[derive(Clone, Debug)]
pub(super) struct Text {
    pub range: Range,
    /// The text, where it is short and well-formed.
    pub text: Option<Box<str>>,
    /// Whether it came from Python 2, whose strings are bytes.
    pub is_bytes: bool,
}

/// A NumPy dtype: its type code and size (`f4`), and its byte order (`<`, `>`, `=` or `|`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NumpyDtype {
    pub name: Box<str>,
    pub order: char,
}

/// A NumPy array; `data` and `dtype` are missing until its state has been set.
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

impl Tensor {
    /// `None` if there is not a stride for each dimension.
    pub fn new(storage: u32, offset: u64, shape: Vec<u64>, strides: Vec<u64>) -> Option<Self> {
        (shape.len() == strides.len()).then_some(Tensor { storage, offset, shape, strides })
    }
}

/// An object of a class that is not looked up.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    /// The class: its place in the list of names.
    pub class: u32,
    /// What it was made of.
    pub arguments: Value,
    /// The state that it was given.
    pub state: Value,
    /// The entries that were set in it, as in a dictionary.
    pub items: Vec<(Value, Value)>,
}

/// The objects of a pickle.
#[derive(Debug, Default)]
pub(crate) struct Pickle {
    pub(super) root: Option<Value>,
    pub(super) texts: Vec<Text>,
    pub(super) sequences: Vec<Vec<Value>>,
    pub(super) dicts: Vec<Vec<(Value, Value)>>,
    pub(super) dtypes: Vec<NumpyDtype>,
    pub(super) arrays: Vec<Array>,
    pub(super) storages: Vec<Storage>,
    pub(super) tensors: Vec<Tensor>,
    pub(super) objects: Vec<Object>,
    /// Names that are not looked up: module and name, both of them texts.
    pub(super) names: Vec<(Value, Value)>,
    /// The integer beyond 64 bits that a PyTorch file starts with.
    pub has_magic: bool,
}

impl Pickle {
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

    /// The entries of a dictionary, or of an object in which entries were set, as in a class derived from
    /// one.
    pub fn dict(&self, value: Value) -> Option<&[(Value, Value)]> {
        match value {
            Value::Dict(id) => Some(&self.dicts[id as usize]),
            Value::Object(id) => Some(&self.objects[id as usize].items[..]).filter(|items| !items.is_empty()),
            _ => None,
        }
    }

    pub fn object(&self, value: Value) -> Option<&Object> {
        match value {
            Value::Object(id) => Some(&self.objects[id as usize]),
            _ => None,
        }
    }

    /// The name of a class, by its place in the list of names.
    pub fn class(&self, class: u32) -> String {
        let part = |value| self.text(value).unwrap_or("?").chars().take(100).collect::<String>();
        let (module, name) = self.names[class as usize];
        format!("{}.{}", part(module), part(name))
    }

    /// What a value is, in messages.
    pub fn describe(&self, value: Value) -> String {
        match self.object(value) {
            Some(object) => format!("an object of `{}`", self.class(object.class)),
            None => value.kind().to_owned(),
        }
    }

    /// The class of an inert object that was made of a tensor or a storage.
    pub fn unknown_tensor(&self, value: Value) -> Option<String> {
        let object = self.object(value)?;
        let is_numbers = |value: &Value| matches!(value, Value::Storage(_) | Value::Tensor(_));
        let arguments = self.items(object.arguments).unwrap_or_default();
        let mut nested = arguments.iter().filter_map(|value| self.items(*value)).take(8).flatten().take(64);
        (arguments.iter().any(is_numbers) || nested.any(is_numbers)).then(|| self.class(object.class))
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

    /// Adds an object to its list; its index there.
    pub(super) fn add<T>(list: &mut Vec<T>, item: T) -> u32 {
        list.push(item);
        (list.len() - 1) as u32 // Every item is an object, and these are counted.
    }

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
