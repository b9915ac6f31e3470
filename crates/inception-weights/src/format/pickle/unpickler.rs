//! The stack machine.

use std::collections::HashMap;

use super::global::Global;
use super::objects::{Pickle, Text, Value};
use crate::input::{Fault, Range, Stream, le};

/// Far above the objects of any checkpoint of the family (about 40 for each of 1000 tensors), with the state
/// of an optimiser.
const MAX_OBJECTS: usize = 1 << 20;

/// Longest string that is kept as text; a longer one is some array's payload and stays a range of the file.
const MAX_TEXT: u64 = 1 << 12;

/// PyTorch's `MAGIC_NUMBER`, 0x1950a86a20f9469cfc6c, as a pickle has it.
pub(in crate::format) const TORCH_MAGIC: [u8; 10] =
    [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// Runs the pickle at `stream` to its end.
pub(in crate::format) fn unpickle(stream: &mut Stream) -> Result<Pickle, Fault> {
    let (pickle, memo) = (Pickle::default(), HashMap::new());
    Unpickler { stream, pickle, stack: vec![], marks: vec![], memo, objects: 0 }.run()
}

struct Unpickler<'a, 'b> {
    stream: &'a mut Stream<'b>,
    pickle: Pickle,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: HashMap<u64, Value>,
    objects: usize,
}

impl Unpickler<'_, '_> {
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

    /// Runs the instruction `code`, which is at byte `at`.
    fn step(&mut self, at: u64, code: u8) -> Result<(), Fault> {
        match code {
            b'N' => self.push(at, Value::None),
            0x88 | 0x89 => self.push(at, Value::Bool(code == 0x88)),
            b'J' => {
                let value = i32::from_le_bytes(self.stream.array()?);
                self.push(at, Value::Int(value.into()))
            }
            b'K' => {
                let value = self.stream.byte()?;
                self.push(at, Value::Int(value.into()))
            }
            b'M' => {
                let value = u16::from_le_bytes(self.stream.array()?);
                self.push(at, Value::Int(value.into()))
            }
            0x8a => self.long::<1>(at),
            0x8b => self.long::<4>(at),
            b'G' => {
                self.stream.array::<8>()?;
                self.push(at, Value::Opaque)
            }
            0x8c => self.text::<1>(at, false),
            b'X' => self.text::<4>(at, false),
            0x8d => self.text::<8>(at, false),
            b'U' => self.text::<1>(at, true),
            b'T' => self.text::<4>(at, true),
            b'C' => self.bytes::<1>(at),
            b'B' => self.bytes::<4>(at),
            0x8e | 0x96 => self.bytes::<8>(at),
            _ => self.step_stack(at, code),
        }
    }

    /// The instructions on the stack, the memo, and containers.
    fn step_stack(&mut self, at: u64, code: u8) -> Result<(), Fault> {
        match code {
            b'(' => {
                self.count(at)?;
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' => self.pop(at).map(drop),
            b'1' => self.pop_mark(at).map(drop),
            b'2' => {
                let top = self.top(at)?;
                self.push(at, top)
            }
            b'h' | b'j' | b'g' | b'q' | b'r' | b'p' => {
                let index = match code {
                    b'h' | b'q' => self.uint::<1>()?,
                    b'j' | b'r' => self.uint::<4>()?,
                    _ => self.index_line(at)?,
                };
                match code {
                    b'h' | b'j' | b'g' => self.get(at, index),
                    _ => self.put(at, index),
                }
            }
            0x94 => self.put(at, self.memo.len() as u64),
            _ => self.step_container(at, code),
        }
    }

    /// The instructions that make and fill tuples, lists, dictionaries and sets.
    fn step_container(&mut self, at: u64, code: u8) -> Result<(), Fault> {
        match code {
            b')' => self.sequence(at, vec![], true),
            0x85..=0x87 => {
                let count = usize::from(code - 0x84);
                let start = self.stack.len().checked_sub(count).filter(|&s| s >= self.floor());
                let start = start.ok_or_else(|| Fault::at(at, "nothing left on the stack"))?;
                let items = self.stack.split_off(start);
                self.sequence(at, items, true)
            }
            b'l' | b't' => {
                let items = self.pop_mark(at)?;
                self.sequence(at, items, code == b't')
            }
            b']' => self.sequence(at, vec![], false),
            b'a' => {
                let item = self.pop(at)?;
                self.append(at, &[item])
            }
            b'e' => {
                let items = self.pop_mark(at)?;
                self.append(at, &items)
            }
            b'}' => self.dict(at, &[]),
            b'd' => {
                let items = self.pop_mark(at)?;
                self.dict(at, &items)
            }
            b's' => {
                let value = self.pop(at)?;
                let key = self.pop(at)?;
                self.set_items(at, &[key, value])
            }
            b'u' => {
                let items = self.pop_mark(at)?;
                self.set_items(at, &items)
            }
            0x8f => self.push(at, Value::Opaque), // an empty set
            0x90 => {
                self.pop_mark(at)?;
                self.top(at).map(drop)
            }
            0x91 => {
                self.pop_mark(at)?;
                self.push(at, Value::Opaque) // a frozen set
            }
            _ => self.step_object(at, code),
        }
    }

    /// The instructions that name, make and complete objects, and those that frame the pickle.
    fn step_object(&mut self, at: u64, code: u8) -> Result<(), Fault> {
        let fault = |reason: &str| Err(Fault::at(at, reason));
        match code {
            0x80 => match self.stream.byte()? {
                2..=5 => Ok(()),
                protocol => fault(&format!("pickle protocol {protocol}; 2 to 5 are known")),
            },
            0x95 => self.stream.array::<8>().map(drop), // The length of a frame, for buffering.
            0x98 => Ok(()),                             // Makes a buffer read-only.
            b'c' => self.named_global(at),
            0x93 => {
                let name = self.pop(at)?;
                let module = self.pop(at)?;
                self.global(at, module, name)
            }
            b'R' | 0x81 => self.make(at),
            b'b' => {
                let state = self.pop(at)?;
                let object = self.top(at)?;
                self.pickle.build(at, object, state)
            }
            b'Q' => {
                let id = self.pop(at)?;
                let storage = self.pickle.persistent(at, id)?;
                self.count(at)?;
                self.push(at, storage)
            }
            0x82..=0x84 => fault("names an extension; none is allowed"),
            0x97 => fault("refers to a buffer outside of the file"),
            // With arguments by name, which no object here keeps.
            0x92 => {
                self.pop(at)?;
                self.make(at)
            }
            b'o' => {
                let mut items = self.pop_mark(at)?;
                if items.is_empty() {
                    return fault("an object without a class");
                }
                let class = items.remove(0);
                self.push(at, class)?;
                self.sequence(at, items, true)?;
                self.make(at)
            }
            b'i' => {
                let items = self.pop_mark(at)?;
                self.named_global(at)?;
                self.sequence(at, items, true)?;
                self.make(at)
            }
            _ => fault(&format!("0x{code:02x} is no instruction of pickle protocols 2 to 5")),
        }
    }

    /// An unsigned integer of `N` bytes, at most 8.
    fn uint<const N: usize>(&mut self) -> Result<u64, Fault> {
        self.stream.array::<N>().map(|bytes| le(&bytes))
    }

    /// Where the stack of the innermost mark begins.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    /// Counts an object that takes memory.
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

    /// Pops everything above the last mark, and the mark.
    fn pop_mark(&mut self, at: u64) -> Result<Vec<Value>, Fault> {
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

    /// An integer whose length is `N` bytes.
    fn long<const N: usize>(&mut self, at: u64) -> Result<(), Fault> {
        let len = self.uint::<N>()?;
        if len > 16 {
            self.stream.skip(len, "an integer")?;
            return self.push(at, Value::Opaque); // The state of some generator.
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

    /// A string whose length is `N` bytes; `is_bytes` if it is one of Python 2.
    fn text<const N: usize>(&mut self, at: u64, is_bytes: bool) -> Result<(), Fault> {
        let len = self.uint::<N>()?;
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

    /// Bytes whose length is `N` bytes.
    fn bytes<const N: usize>(&mut self, at: u64) -> Result<(), Fault> {
        let len = self.uint::<N>()?;
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
            // What a class derived from a list or a deque holds is no tensor by name.
            Value::Opaque | Value::Object(_) => {}
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
            Value::Object(id) => {
                let pairs = pairs.iter().map(|&[key, value]| (key, value));
                self.pickle.objects[id as usize].items.extend(pairs);
            }
            Value::Opaque => {}
            other => return Err(Fault::at(at, format!("an entry is set in {}", other.kind()))),
        }
        Ok(())
    }

    /// Calls what is below the arguments on the stack.
    fn make(&mut self, at: u64) -> Result<(), Fault> {
        let arguments = self.pop(at)?;
        let callee = self.pop(at)?;
        let value = self.pickle.reduce(at, callee, arguments, &mut self.objects)?;
        self.count(at)?;
        self.push(at, value)
    }

    /// A name in two lines.
    fn named_global(&mut self, at: u64) -> Result<(), Fault> {
        let mut line = || -> Result<Value, Fault> {
            let offset = self.stream.pos;
            let line = self.stream.line(MAX_TEXT as usize)?;
            let range = Range { offset, len: line.len() as u64 };
            let text = Some(String::from_utf8_lossy(&line).into());
            Ok(Value::Text(Pickle::add(&mut self.pickle.texts, Text { range, text, is_bytes: false })))
        };
        let [module, name] = [line()?, line()?];
        self.global(at, module, name)
    }

    /// A name; one that is not known is kept by its two parts, which are not copied.
    fn global(&mut self, at: u64, module: Value, name: Value) -> Result<(), Fault> {
        let global = match [module, name].map(|value| self.pickle.text(value)) {
            [Some(module), Some(name)] => Global::find(module, name),
            _ => return Err(Fault::at(at, "a global without a name")),
        };
        let global =
            global.unwrap_or_else(|| Global::Other(Pickle::add(&mut self.pickle.names, (module, name))));
        self.count(at)?;
        self.push(at, Value::Global(global))
    }
}
