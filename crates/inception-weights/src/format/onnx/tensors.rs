//! The tensors of an ONNX model: in its own file or in files beside it, as numbers or quantised.

use std::collections::{HashMap, HashSet};

use half::{bf16, f16};

use super::node::Node;
use crate::entry::{Dtype, Entry, IntegerType, Source};
use crate::format::proto::{Message, Wire};
use crate::input::{Beside, Fault, Input, Range, damaged, unsupported};

/// Far above the operations and the tensors of any network of the family.
pub(super) const MAX_ITEMS: usize = 100_000;

/// Most bytes of a tensor that is an argument rather than a weight.
const MAX_SMALL: u64 = 64;

/// Most files beside a model.
const MAX_FILES: usize = 1024;

pub(super) struct Tensors<'a> {
    input: &'a Input,
    beside: Beside<'a>,
    /// The files beside the model, by name, and where each begins behind the model and those before it.
    files: Vec<(String, Input, u64)>,
    /// Names that stand for a tensor of the file, and its key.
    pub initializers: HashMap<String, String>,
    /// Tensors of a few values, which are arguments rather than weights.
    pub small: HashMap<String, Vec<f64>>,
    /// Zero points that are the least value of their type: what is quantised with one is clamped at zero.
    pub least: HashSet<String>,
    pub entries: Vec<Entry>,
    /// Tensors whose numbers are not of one length each.
    packed: HashSet<String>,
    /// Those of them that are zeros.
    zeros: HashSet<String>,
}

/// Where the values of a tensor are.
enum Place {
    Inside(Range),
    /// In file number .. of those beside the model.
    Beside(usize, Range),
}

impl<'a> Tensors<'a> {
    pub fn new(input: &'a Input, beside: Beside<'a>) -> Self {
        let (initializers, small, least) = (HashMap::new(), HashMap::new(), HashSet::new());
        let (packed, zeros) = (HashSet::new(), HashSet::new());
        let (files, entries) = (Vec::new(), Vec::new());
        Self { input, beside, files, initializers, small, least, entries, packed, zeros }
    }

    /// Adds a tensor of the graph.
    pub fn add(&mut self, message: Message) -> Result<(), Fault> {
        if self.entries.len() == MAX_ITEMS {
            return unsupported(format!("more than {MAX_ITEMS} tensors"));
        }
        let (entry, small) = self.tensor(message)?;
        let name = entry.key.clone();
        if let Some(values) = small {
            if are_least(&entry.dtype, &values) {
                self.least.insert(name.clone());
            }
            self.small.insert(name.clone(), values);
        }
        if self.initializers.insert(name.clone(), name).is_some() {
            return damaged(format!("`{}` is there twice", entry.key));
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Remembers the value of a `Constant`, if it is a small one.
    pub fn constant(&mut self, output: &str, range: Range) -> Result<(), Fault> {
        let (_, small) = self.tensor(Message::at(self.input, range))?;
        self.small.extend(small.map(|values| (output.to_owned(), values)));
        Ok(())
    }

    /// The files beside the model, in the order of their places.
    pub fn into_files(self) -> Vec<Input> {
        self.files.into_iter().map(|(_, file, _)| file).collect()
    }

    fn tensor(&mut self, mut tensor: Message) -> Result<(Entry, Option<Vec<f64>>), Fault> {
        let (mut shape, mut kind, mut name, mut external) = (Vec::new(), 0, String::new(), None);
        let (mut data, mut packed, mut numbers) = (None, None, Vec::new());
        while let Some((field, wire)) = tensor.next()? {
            match (field, wire) {
                (1, wire) => tensor.numbers(wire, &mut shape)?,
                (2, Wire::Number(value)) => kind = value,
                // Packed, these are as raw as raw data.
                (4 | 10, Wire::Bytes(range)) => data = Some(range),
                (4 | 10, Wire::Float(_)) => return unsupported("a tensor whose values are not packed"),
                // One after the other, each in as few bytes as it needs.
                (5, Wire::Bytes(range)) => packed = Some(range),
                (5 | 7, wire) => tensor.numbers(wire, &mut numbers)?,
                (8, wire) => name = tensor.text(wire)?,
                (9, Wire::Bytes(range)) => data = Some(range),
                (13, wire) => {
                    let mut pair = tensor.message(wire)?;
                    let [mut key, mut value] = [String::new(), String::new()];
                    while let Some((field, wire)) = pair.next()? {
                        match field {
                            1 => key = pair.text(wire)?,
                            2 => value = pair.text(wire)?,
                            _ => {}
                        }
                    }
                    external.get_or_insert_with(HashMap::new).insert(key, value);
                }
                (14, Wire::Number(1)) => drop(external.get_or_insert_with(HashMap::new)),
                _ => {}
            }
        }
        if let (None, Some(range)) = (data, packed) {
            let bytes = input_bytes(self.input, range)?;
            if bytes.iter().all(|&byte| byte == 0) {
                self.zeros.insert(name.clone());
            }
            if range.len <= MAX_SMALL {
                tensor.numbers(Wire::Bytes(range), &mut numbers)?;
            }
            self.packed.insert(name.clone());
        }
        let dtype = match kind {
            1 => Dtype::F32,
            10 => Dtype::F16,
            11 => Dtype::F64,
            16 => Dtype::Bf16,
            2 => Dtype::Other("u8".to_owned()),
            3 => Dtype::Other("i8".to_owned()),
            6 => Dtype::Other("i32".to_owned()),
            7 => Dtype::Other("i64".to_owned()),
            kind => Dtype::Other(format!("ONNX's kind {kind}")),
        };
        let place = match external {
            Some(external) => self.outside(&name, &external)?,
            None => Place::Inside(data.unwrap_or(Range { offset: 0, len: 0 })),
        };
        let (input, range) = match &place {
            Place::Inside(range) => (self.input, *range),
            Place::Beside(file, range) => (&self.files[*file].1, *range),
        };
        let mut entry = Entry::checked(input, name.clone(), &shape, dtype, Source::At(range.offset))?;
        let wanted = entry.dtype.size().map(|size| size * entry.len() as u64);
        if wanted.is_some_and(|wanted| wanted != range.len) {
            return damaged(format!("`{name}` {shape:?} of {} has {} bytes", entry.dtype, range.len));
        }
        let small = small(input, &entry.dtype, range, &numbers)?;
        if let Place::Beside(file, range) = place {
            entry.source = Source::At(self.files[file].2 + range.offset);
        }
        Ok((entry, small))
    }

    /// Where a tensor is that is not in the model's own file.
    fn outside(&mut self, name: &str, external: &HashMap<String, String>) -> Result<Place, Fault> {
        let Some(location) = external.get("location") else {
            return damaged(format!("`{name}` is in another file, whose name is missing"));
        };
        let number = |key: &str| match external.get(key).map(|text| text.trim().parse::<u64>()) {
            None => Ok(None),
            Some(Ok(number)) => Ok(Some(number)),
            Some(Err(_)) => damaged(format!("`{name}` is in `{location}`, at a {key} that is no number")),
        };
        let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
        let file = match self.files.iter().position(|(known, ..)| known == location) {
            Some(file) => file,
            None if self.files.len() == MAX_FILES => {
                return unsupported(format!("its tensors are in more than {MAX_FILES} files"));
            }
            None => {
                let Some(file) = (self.beside)(location.as_ref())? else {
                    return unsupported(format!(
                        "`{name}` is in another file, `{location}`, which is not beside it"
                    ));
                };
                let last = self.files.last().map(|(_, file, start)| start + file.len());
                let start = last.unwrap_or(self.input.len());
                self.files.push((location.clone(), file, start));
                self.files.len() - 1
            }
        };
        let size = self.files[file].1.len();
        let len = length.unwrap_or(size.saturating_sub(offset));
        match offset.checked_add(len) {
            Some(end) if end <= size => Ok(Place::Beside(file, Range { offset, len })),
            _ => damaged(format!(
                "`{name}` of {len} bytes at {offset} of `{location}` ends beyond that file's {size} bytes"
            )),
        }
    }

    /// Adds the tensors that are made of quantised ones, by the names of their nodes; how many there are.
    pub fn dequantize(&mut self, nodes: &[Node]) -> Result<usize, Fault> {
        let by_key: HashMap<String, usize> =
            self.entries.iter().enumerate().map(|(i, entry)| (entry.key.clone(), i)).collect();
        let (mut made, mut numbers) = (Vec::new(), Vec::new());
        for node in nodes.iter().filter(|node| node.op == "DequantizeLinear") {
            let of =
                |i: usize| node.inputs.get(i).and_then(|name| by_key.get(name)).map(|&i| &self.entries[i]);
            let (Some(values), Some(scales), [output, ..]) = (of(0), of(1), &node.outputs[..]) else {
                continue; // Of an activation.
            };
            let bad = |reason: &str| Fault::Unsupported(format!("{}: {reason}", node.what()));
            let Dtype::Other(kind) = &values.dtype else { return Err(bad("its values are not quantised")) };
            let kind = match kind.as_str() {
                "i8" => IntegerType::I8,
                "u8" => IntegerType::U8,
                "i32" => IntegerType::I32,
                kind => return Err(bad(&format!("its values are {kind}"))),
            };
            if scales.dtype != Dtype::F32 || scales.len() > 1 << 16 {
                return Err(bad("its scales are not single-precision numbers"));
            }
            let axis = node.number("axis").map_or(1, |axis| axis as i64);
            let axis = if axis < 0 { axis + values.shape.len() as i64 } else { axis } as usize;
            let inner = match scales.len() {
                1 => values.len(),
                count if values.shape.get(axis) == Some(&count) => values.shape[axis + 1..].iter().product(),
                count => return Err(bad(&format!("{count} scales for {:?}", values.shape))),
            };
            let is_packed = |i: usize| node.inputs.get(i).is_some_and(|name| self.packed.contains(name));
            let is_zero = node.inputs.get(2).is_some_and(|name| self.zeros.contains(name));
            if is_packed(0) || is_packed(1) || (is_packed(2) && !is_zero) {
                return Err(bad("its numbers are not stored as they are"));
            }
            let zeros = match of(2).filter(|_| !is_zero) {
                Some(zeros) if zeros.len() == scales.len() && zeros.dtype == values.dtype => {
                    Some(zeros.source.clone())
                }
                Some(_) => return Err(bad("as many zero points as scales are needed")),
                None => None,
            };
            let source = Source::Quantized {
                kind,
                values: Box::new(values.source.clone()),
                scales: (Box::new(scales.source.clone()), scales.len() as u64),
                zeros: zeros.map(Box::new),
                inner: inner.max(1) as u64,
            };
            let sized = values.len() as u64 * kind.size();
            let checked = Entry::checked_extent(&values.source, sized, self.total());
            checked.map_err(|reason| bad(&reason))?;
            // A factor, for instance, is an argument rather than a weight.
            let small = |i: usize| match node
                .inputs
                .get(i)
                .and_then(|name| self.small.get(name))
                .map(Vec::as_slice)
            {
                Some(&[value]) => Some(value),
                _ => None,
            };
            if let (Some(value), Some(scale), zero) = (small(0), small(1), small(2)) {
                numbers.push((output.clone(), (value - zero.unwrap_or(0.0)) * scale));
            }
            let (key, shape) = (output.clone(), values.shape.clone());
            made.push(Entry { key, shape, dtype: Dtype::F32, source, strides: None });
        }
        self.small.extend(numbers.into_iter().map(|(name, number)| (name, vec![number])));
        let count = made.len();
        for entry in made {
            self.initializers.insert(entry.key.clone(), entry.key.clone());
            self.entries.push(entry);
        }
        Ok(count)
    }

    /// Reads scales and zero points by which activations are quantised channel by channel.
    pub fn read_scales(&mut self, nodes: &[Node]) -> Result<(), Fault> {
        let quantized = nodes.iter().filter(|node| node.op == "QuantizeLinear");
        let names: HashSet<&String> = quantized.flat_map(|node| node.inputs.iter().skip(1)).collect();
        for entry in self.entries.iter().filter(|entry| names.contains(&entry.key)) {
            let (count, dtype) = (entry.len(), &entry.dtype);
            let Source::At(offset) = entry.source else { continue };
            if self.small.contains_key(&entry.key) || entry.shape.len() != 1 || count > 1 << 16 {
                continue;
            }
            let size = match dtype {
                Dtype::F32 => 4,
                Dtype::Other(kind) if ["i8", "u8"].contains(&kind.as_str()) => 1,
                _ => continue,
            };
            let values = match (size, self.zeros.contains(&entry.key)) {
                (1, true) => Some(vec![0.0; count]),
                _ if self.packed.contains(&entry.key) => None,
                _ => numbers_of(&self.read(Range { offset, len: size * count as u64 })?, dtype),
            };
            let Some(values) = values else { continue };
            if are_least(dtype, &values) {
                self.least.insert(entry.key.clone());
            }
            self.small.insert(entry.key.clone(), values);
        }
        Ok(())
    }

    /// Bytes of the model, or of a file beside it.
    fn read(&self, Range { offset, len }: Range) -> Result<Vec<u8>, Fault> {
        let beside = self.files.iter().rev().find(|(_, _, start)| *start <= offset);
        Ok(match beside {
            Some((_, file, start)) => file.read(offset - start, len)?,
            None => self.input.read(offset, len)?,
        })
    }

    /// Bytes of the model and the files beside it.
    fn total(&self) -> u64 {
        self.files.last().map_or(self.input.len(), |(_, file, start)| start + file.len())
    }
}

/// Whether zero points are the least value of their type.
fn are_least(dtype: &Dtype, values: &[f64]) -> bool {
    let least = match dtype {
        Dtype::Other(kind) if kind == "u8" => 0.0,
        Dtype::Other(kind) if kind == "i8" => -128.0,
        _ => return false,
    };
    values.iter().all(|&value| value == least)
}

/// The bytes of a list of numbers, if it is not longer than that of any network's channels.
fn input_bytes(input: &Input, range: Range) -> Result<Vec<u8>, Fault> {
    match range.len <= 1 << 20 {
        true => Ok(input.read(range.offset, range.len)?),
        false => damaged(format!("a list of {} bytes of numbers", range.len)),
    }
}

/// The values of a tensor that is small enough to be an argument.
fn small(input: &Input, dtype: &Dtype, range: Range, numbers: &[u64]) -> Result<Option<Vec<f64>>, Fault> {
    let integers = matches!(dtype, Dtype::Other(kind) if ["i64", "i32", "i8", "u8"].contains(&kind.as_str()));
    if range.len == 0 && integers && !numbers.is_empty() {
        return Ok(Some(numbers.iter().map(|&v| v as i64 as f64).collect()));
    }
    if range.len == 0 || range.len > MAX_SMALL {
        return Ok(None);
    }
    Ok(numbers_of(&input.read(range.offset, range.len)?, dtype))
}

/// What bytes stand for, one number after the other.
fn numbers_of(bytes: &[u8], dtype: &Dtype) -> Option<Vec<f64>> {
    fn each<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f64) -> Option<Vec<f64>> {
        let (chunks, _) = bytes.as_chunks::<N>();
        Some(chunks.iter().map(|&chunk| value(chunk)).collect())
    }
    match dtype {
        Dtype::F32 => each(bytes, |b| f32::from_le_bytes(b).into()),
        Dtype::F64 => each(bytes, f64::from_le_bytes),
        Dtype::F16 => each(bytes, |b| f16::from_le_bytes(b).into()),
        Dtype::Bf16 => each(bytes, |b| bf16::from_le_bytes(b).into()),
        Dtype::Other(kind) if kind == "i64" => each(bytes, |b| i64::from_le_bytes(b) as f64),
        Dtype::Other(kind) if kind == "i32" => each(bytes, |b| i32::from_le_bytes(b).into()),
        Dtype::Other(kind) if kind == "u8" => each(bytes, |[b]| b.into()),
        Dtype::Other(kind) if kind == "i8" => each(bytes, |b| i8::from_le_bytes(b).into()),
        // Readers of ONNX have no scales beside integers.
        Dtype::I8 | Dtype::Other(_) => None,
    }
}
