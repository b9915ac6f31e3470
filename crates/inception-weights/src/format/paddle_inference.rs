//! PaddlePaddle's inference pair: a program, as JSON (`inference.json`, since version 3) or as protocol
//! buffers (`inference.pdmodel`), and beside it the values of its variables in the order of their names
//! (`.pdiparams`).

use std::collections::{BTreeMap, HashMap};
use std::io;

use inception_graph::{BatchNorm, Graph, Op, Parameter, PoolKind};
use serde_json::Value;

use super::contents::Contents;
use super::pixels::Ending;
use super::proto::{Message, Wire};
use crate::entry::{Dtype, Entry, Source};
use crate::graph::{Builder, pool, scale, window};
use crate::input::{Fault, Input, Range, Stream, damaged, unsupported};
use crate::surroundings::{Activation, Surroundings};

/// Longest program that is read; those of the family are under 3 MB.
const MAX_PROGRAM: u64 = 100 << 20;

/// Far above what any network of the family has.
const MAX_OPERATIONS: usize = 100_000;

/// An operation of either kind of program.
#[derive(Default)]
struct Raw {
    op: String,
    inputs: HashMap<String, Vec<String>>,
    outputs: Vec<String>,
    ints: HashMap<String, Vec<i64>>,
    float: HashMap<String, f64>,
    text: HashMap<String, String>,
}

struct Program {
    operations: Vec<Raw>,
    /// Names of the variables with values.
    parameters: Vec<String>,
}

/// Opens the pair; `input` has the values.
pub(crate) fn open(program: &Input, input: &Input) -> Result<Contents, Fault> {
    if program.len() > MAX_PROGRAM {
        return damaged(format!("a program of {} bytes", program.len()));
    }
    let mut start = [0];
    program.read_at(0, &mut start)?;
    let Program { operations, mut parameters } = match start {
        [b'{'] => json(program)?,
        _ => protobuf(program)?,
    };
    parameters.sort_unstable();
    parameters.dedup();
    let entries = values(input, &parameters)?;
    let operations_of = Operations {
        ending: Ending::default(),
        activation: Activation::default(),
        builder: Builder::new(&entries),
        parameters: &parameters,
        numbers: HashMap::new(),
        lists: HashMap::new(),
        combined: HashMap::new(),
    };
    let (graph, surroundings) = operations_of.build(&operations).map_err(Fault::Unsupported)?;
    Ok(Contents { entries, graph: Some(graph), surroundings, ..Contents::default() })
}

/// The first keys of JSON that is no program; nothing for one that may be.
pub(crate) fn other_json(input: &Input) -> io::Result<Option<String>> {
    if input.len() > MAX_PROGRAM {
        return Ok(None);
    }
    let bytes = input.read(0, input.len())?;
    // Without what is below the keys.
    match serde_json::from_slice::<BTreeMap<String, serde::de::IgnoredAny>>(&bytes) {
        Ok(keys) if keys.contains_key("program") => Ok(None),
        Ok(keys) if keys.is_empty() => Ok(Some("no keys".to_owned())),
        Ok(keys) => {
            let keys: Vec<String> = keys.keys().take(3).map(|key| format!("`{key:.40}`")).collect();
            Ok(Some(keys.join(", ")))
        }
        Err(_) => Ok(None),
    }
}

/// Reads the values' headers: version, levels of detail, version, description, and skips the numbers.
fn values(input: &Input, names: &[String]) -> Result<Vec<Entry>, Fault> {
    let mut stream = Stream::new(input, 0, input.len());
    let mut entries = Vec::new();
    for name in names {
        if stream.left() == 0 {
            return damaged(format!("the program has {} variables, the file {}", names.len(), entries.len()));
        }
        let at = stream.pos;
        let versions = |version: u32| match version {
            0 => Ok(()),
            version => Err(Fault::at(at, format!("`{name}` of version {version}"))),
        };
        versions(u32::from_le_bytes(stream.array()?))?;
        let levels = u64::from_le_bytes(stream.array()?);
        if levels != 0 {
            return Err(Fault::at(at, format!("`{name}` has {levels} levels of detail")));
        }
        versions(u32::from_le_bytes(stream.array()?))?;
        let len = u64::from(u32::from_le_bytes(stream.array()?));
        let offset = stream.pos;
        stream.skip(len, "a description")?;
        let mut description = Message::at(input, Range { offset, len });
        let (mut kind, mut shape) = (0, Vec::new());
        while let Some((field, wire)) = description.next()? {
            match field {
                1 => kind = wire.number().unwrap_or(u64::MAX),
                2 => description.numbers(wire, &mut shape)?,
                _ => {}
            }
        }
        let (dtype, size) = match kind {
            5 => (Dtype::F32, 4),
            4 => (Dtype::F16, 2),
            6 => (Dtype::F64, 8),
            22 => (Dtype::Bf16, 2),
            3 => (Dtype::Other("i64".to_owned()), 8),
            kind => return Err(Fault::at(at, format!("`{name}` is of Paddle's kind {kind}"))),
        };
        let entry = Entry::checked(input, name.clone(), &shape, dtype, Source::At(stream.pos))?;
        stream.skip(size * entry.len() as u64, name)?;
        entries.push(entry);
    }
    match stream.left() {
        0 => Ok(entries),
        left => damaged(format!("{left} bytes after the last of {} variables", names.len())),
    }
}

/// What `inference.json` says: `{"program": {"regions": [{"blocks": [{"ops": [..]}]}]}}`.
fn json(program: &Input) -> Result<Program, Fault> {
    let bytes = program.read(0, program.len())?;
    let root: Value =
        serde_json::from_slice(&bytes).map_err(|e| Fault::Damaged(format!("the program: {e}")))?;
    let ops = root["program"]["regions"][0]["blocks"][0]["ops"].as_array();
    let Some(ops) = ops.filter(|ops| ops.len() <= MAX_OPERATIONS) else {
        return damaged("the program has no block of operations");
    };
    let mut parameters = Vec::new();
    // Values have numbers; those of parameters stand for their names.
    let mut names: HashMap<i64, String> = HashMap::new();
    let mut operations = Vec::new();
    for op in ops {
        let kind = op["#"].as_str().unwrap_or_default();
        if kind == "p" {
            if let (Some(name), Some(id)) = (op["A"][3].as_str(), op["O"]["%"].as_i64()) {
                names.insert(id, name.to_owned());
                parameters.push(name.to_owned());
            }
            continue;
        }
        let (_, kind) = kind.split_once('.').unwrap_or(("", kind));
        let mut raw = Raw { op: kind.to_owned(), ..Raw::default() };
        let id = |value: &Value| {
            let id = value["%"].as_i64().unwrap_or(-1);
            names.get(&id).cloned().unwrap_or_else(|| format!("%{id}"))
        };
        for (i, value) in op["I"].as_array().into_iter().flatten().enumerate() {
            raw.inputs.insert(i.to_string(), vec![id(value)]);
        }
        raw.outputs = op["O"].as_array().into_iter().flatten().map(id).collect();
        for attribute in op["A"].as_array().into_iter().flatten() {
            let (Some(name), value) = (attribute["N"].as_str(), &attribute["AT"]["D"]) else { continue };
            let name = name.to_owned();
            match value {
                Value::Bool(value) => drop(raw.ints.insert(name, vec![i64::from(*value)])),
                Value::String(value) => drop(raw.text.insert(name, value.clone())),
                Value::Number(value) => {
                    raw.ints.extend(value.as_i64().map(|v| (name.clone(), vec![v])));
                    raw.float.extend(value.as_f64().map(|v| (name, v)));
                }
                Value::Array(list) if list.len() <= 8 => {
                    let ints = list.iter().map(|v| v["D"].as_i64().or_else(|| v.as_i64()));
                    raw.ints.extend(ints.collect::<Option<Vec<_>>>().map(|v| (name, v)));
                }
                _ => {}
            }
        }
        operations.push(raw);
    }
    Ok(Program { operations, parameters })
}

/// What `inference.pdmodel` says: a `ProgramDesc`, of which the first block counts.
fn protobuf(program: &Input) -> Result<Program, Fault> {
    let mut whole = Message::whole(program);
    let mut block = None;
    while let Some((field, wire)) = whole.next()? {
        if field == 1 && block.is_none() {
            block = Some(whole.message(wire)?);
        }
    }
    let Some(mut block) = block else { return damaged("the program has no block of operations") };
    let mut found = Program { operations: Vec::new(), parameters: Vec::new() };
    while let Some((field, wire)) = block.next()? {
        if found.operations.len().max(found.parameters.len()) > MAX_OPERATIONS {
            return unsupported(format!("more than {MAX_OPERATIONS} operations or variables"));
        }
        match field {
            3 => {
                let mut variable = block.message(wire)?;
                let (mut name, mut persistable) = (String::new(), false);
                while let Some((field, wire)) = variable.next()? {
                    match field {
                        1 => name = variable.text(wire)?,
                        3 => persistable = wire.number() == Some(1),
                        _ => {}
                    }
                }
                if persistable && name != "feed" && name != "fetch" {
                    found.parameters.push(name);
                }
            }
            4 => found.operations.push(operation(block.message(wire)?)?),
            _ => {}
        }
    }
    Ok(found)
}

fn operation(mut message: Message) -> Result<Raw, Fault> {
    let mut raw = Raw::default();
    while let Some((field, wire)) = message.next()? {
        match field {
            1 | 2 => {
                let mut variable = message.message(wire)?;
                let (mut parameter, mut arguments) = (String::new(), Vec::new());
                while let Some((field, wire)) = variable.next()? {
                    match field {
                        1 => parameter = variable.text(wire)?,
                        2 => arguments.push(variable.text(wire)?),
                        _ => {}
                    }
                }
                match field {
                    1 => drop(raw.inputs.insert(parameter, arguments)),
                    // The one that counts comes first.
                    _ if parameter == "Out" || parameter == "Output" || parameter == "Y" => {
                        raw.outputs.splice(0..0, arguments);
                    }
                    _ => raw.outputs.extend(arguments),
                }
            }
            3 => raw.op = message.text(wire)?,
            4 => {
                let mut attribute = message.message(wire)?;
                let (mut name, mut ints) = (String::new(), Vec::new());
                while let Some((field, wire)) = attribute.next()? {
                    match (field, wire) {
                        (1, wire) => name = attribute.text(wire)?,
                        (3 | 10 | 13, Wire::Number(value)) => ints.push(value),
                        (4, Wire::Float(value)) => drop(raw.float.insert(name.clone(), value.into())),
                        (5, wire) => drop(raw.text.insert(name.clone(), attribute.text(wire)?)),
                        (6 | 15, wire) => attribute.numbers(wire, &mut ints)?,
                        _ => {}
                    }
                }
                if !ints.is_empty() {
                    raw.ints.insert(name, ints.into_iter().map(|v| v as i64).collect());
                }
            }
            _ => {}
        }
    }
    Ok(raw)
}

impl Raw {
    /// As messages call it.
    fn what(&self) -> String {
        format!("{} `{}`", self.op, self.outputs.first().map_or("", String::as_str))
    }

    /// The name of an input: by position in JSON, by name in protocol buffers.
    fn input(&self, position: &str, name: &str) -> Result<&str, String> {
        let value = self.inputs.get(position).or_else(|| self.inputs.get(name)).and_then(|v| v.first());
        value.map(String::as_str).ok_or_else(|| format!("{} lacks its input {name}", self.what()))
    }

    fn x(&self) -> Result<&str, String> {
        self.input("0", "X")
    }

    fn output(&self) -> Result<&str, String> {
        let output = self.outputs.first().map(String::as_str);
        output.ok_or_else(|| format!("{} makes nothing", self.what()))
    }

    fn flag(&self, name: &str) -> bool {
        self.ints.get(name).is_some_and(|v| v[..] == [1])
    }

    fn ints(&self, name: &str) -> &[i64] {
        self.ints.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    fn pair(&self, name: &str) -> Result<[u64; 2], String> {
        pair(self.ints(name)).ok_or_else(|| self.what())
    }

    fn pads(&self) -> Result<[u64; 4], String> {
        pads(self.ints("paddings")).ok_or_else(|| self.what())
    }

    /// Refuses windows over channels last, and those whose padding is not said.
    fn check_layout(&self) -> Result<(), String> {
        let explicit = self.text.get("padding_algorithm").is_none_or(|a| a == "EXPLICIT");
        match explicit && self.text.get("data_format").is_none_or(|f| f == "NCHW" || f == "AnyLayout") {
            true => Ok(()),
            false => Err(format!("{} pads by itself or has channels last", self.what())),
        }
    }

    /// The inputs of a list, in order.
    fn combined(&self) -> Vec<&str> {
        let inputs = self.inputs.iter();
        let mut inputs: Vec<_> =
            inputs.filter_map(|(i, v)| Some((i.parse::<usize>().ok()?, v.first()?.as_str()))).collect();
        inputs.sort_unstable();
        inputs.into_iter().map(|(_, name)| name).collect()
    }
}

struct Operations<'a> {
    ending: Ending,
    activation: Activation,
    builder: Builder<'a>,
    /// Names of the variables with values, sorted.
    parameters: &'a [String],
    /// Constants by the values that they are.
    numbers: HashMap<String, f64>,
    lists: HashMap<String, Vec<i64>>,
    /// Lists of values.
    combined: HashMap<&'a str, Vec<&'a str>>,
}

impl<'a> Operations<'a> {
    fn is_parameter(&self, name: &str) -> bool {
        self.parameters.binary_search_by(|parameter| parameter.as_str().cmp(name)).is_ok()
    }

    /// The key of a parameter that an operation reads.
    fn parameter(&self, raw: &Raw, position: &str, name: &str) -> Result<String, String> {
        let value = raw.input(position, name)?;
        match self.is_parameter(value) {
            true => Ok(value.to_owned()),
            false => Err(format!("{}: `{value}` is no parameter", raw.what())),
        }
    }

    fn build(mut self, operations: &'a [Raw]) -> Result<(Graph<Parameter>, Surroundings), String> {
        for raw in operations {
            if raw.op == "fetch" {
                let (activation, notes) = (self.activation, self.ending.notes());
                let surroundings = Surroundings { activation, notes, ..Surroundings::default() };
                return Ok((self.builder.finish(raw.x()?)?, surroundings));
            }
            if !self.after(raw)? {
                self.operation(raw)?;
            }
        }
        Err("the program gives nothing back".to_owned())
    }

    /// Operations on the logits, which `tools/export_model.py` puts behind the network; whether this is one.
    fn after(&mut self, raw: &Raw) -> Result<bool, String> {
        let input = raw.x().unwrap_or_default();
        match raw.op.as_str() {
            "softmax" => self.ending.add([raw.output()?], "softmax"),
            "sigmoid" => {
                self.activation = Activation::Sigmoid;
                self.ending.add([raw.output()?], "sigmoid");
            }
            "argmax" | "arg_max" | "top_k" | "top_k_v2" | "topk" => {
                self.ending.add(raw.outputs.iter().map(String::as_str), "choice of the best class");
            }
            // Exporters end with a copy of the result.
            "scale" | "assign" | "share_data" | "share_data_" if self.ending.has(input) => {
                self.ending.pass([raw.output()?], input);
            }
            "fetch" => return Ok(false),
            _ => {
                let mut inputs = raw.inputs.values().flatten();
                return inputs.try_for_each(|input| self.ending.check(input)).map(|()| false);
            }
        }
        for output in &raw.outputs {
            self.builder.pass(output, input)?;
        }
        Ok(true)
    }

    fn operation(&mut self, raw: &'a Raw) -> Result<(), String> {
        let op = match raw.op.as_str() {
            "data" | "feed" => return self.builder.input(raw.output()?),
            "full" => {
                let value = raw.float.get("value").copied();
                let name = raw.output().unwrap_or_default();
                self.numbers.extend(value.map(|v| (name.to_owned(), v)));
                return Ok(());
            }
            "full_int_array" => {
                self.lists.insert(raw.output()?.to_owned(), raw.ints("value").to_vec());
                return Ok(());
            }
            "combine" => {
                self.combined.insert(raw.output()?, raw.combined());
                return Ok(());
            }
            "concat" => {
                let inputs = match raw.inputs.get("X") {
                    Some(inputs) => inputs.iter().map(String::as_str).collect(),
                    None => self.combined.get(raw.x()?).cloned().unwrap_or_default(),
                };
                return self.builder.node(raw.output()?, Op::Concat, &inputs);
            }
            "add" | "elementwise_add" => return self.add(raw),
            "flatten"
            | "flatten_contiguous_range"
            | "flatten2"
            | "reshape"
            | "reshape2"
            | "squeeze"
            | "squeeze2" => return self.builder.pass(raw.output()?, raw.x()?),
            "dropout" => match self.dropout(raw) {
                Some(op) => op,
                None => return self.builder.pass(raw.output()?, raw.x()?),
            },
            "conv2d" | "depthwise_conv2d" => {
                let op = self.conv(raw)?;
                return self.builder.node(raw.output()?, op, &[raw.input("0", "Input")?]);
            }
            "batch_norm" | "batch_norm_" => {
                let weight = |position, name| {
                    Ok::<_, String>(self.builder.weight(self.parameter(raw, position, name)?))
                };
                Op::BatchNorm(Box::new(BatchNorm {
                    gamma: weight("3", "Scale")?,
                    beta: weight("4", "Bias")?,
                    mean: weight("1", "Mean")?,
                    variance: weight("2", "Variance")?,
                    epsilon: raw.float.get("epsilon").copied().unwrap_or(1e-5),
                }))
            }
            "relu" | "relu_" => Op::Relu,
            "pool2d" => self.pool(raw)?,
            "matmul" | "matmul_v2" | "mul" => {
                let transposed = raw.flag("transpose_y") || raw.flag("trans_y");
                self.builder.linear(self.parameter(raw, "1", "Y")?, None, transposed)
            }
            "scale" => {
                let factor = raw.float.get("scale").copied();
                let factor = factor.or_else(|| self.numbers.get(raw.inputs.get("1")?.first()?).copied());
                let shift = raw.float.get("bias").copied().unwrap_or(0.0);
                Op::Scale { scale: factor.unwrap_or(1.0), shift }
            }
            _ => return Err(format!("{}: no network of the family has such an operation", raw.what())),
        };
        self.builder.node(raw.output()?, op, &[raw.x()?])
    }

    fn conv(&self, raw: &Raw) -> Result<Op<Parameter>, String> {
        raw.check_layout()?;
        let window = window([1; 2], raw.pair("strides")?, raw.pads()?, raw.pair("dilations")?, false);
        let groups = raw.ints("groups").first().map_or(1, |&g| g as u64);
        Ok(self.builder.conv(self.parameter(raw, "1", "Filter")?, None, window, groups))
    }

    fn pool(&self, raw: &Raw) -> Result<Op<Parameter>, String> {
        raw.check_layout()?;
        let kernel = match raw.inputs.get("1").and_then(|v| self.lists.get(v.first()?)) {
            Some(list) => list.as_slice(),
            None => raw.ints("ksize"),
        };
        let is_max = raw.text.get("pooling_type").is_some_and(|t| t == "max");
        if raw.flag("adaptive") || raw.flag("global_pooling") {
            return match is_max || (raw.flag("adaptive") && kernel != [1, 1]) {
                true => Err(format!("{} pools into {kernel:?}", raw.what())),
                false => Ok(Op::GlobalAveragePool),
            };
        }
        let kernel = pair(kernel).ok_or_else(|| raw.what())?;
        let kind = match (is_max, raw.flag("exclusive")) {
            (true, _) => PoolKind::Max,
            (false, true) => PoolKind::Average,
            (false, false) => PoolKind::AverageWithPadding,
        };
        let ceil = raw.flag("ceil_mode");
        Ok(pool(kind, window(kernel, raw.pair("strides")?, raw.pads()?, [1; 2], ceil)))
    }

    fn add(&mut self, raw: &Raw) -> Result<(), String> {
        let (a, b) = (raw.x()?, raw.input("1", "Y")?);
        if !self.is_parameter(b) {
            return self.builder.node(raw.output()?, Op::Add { relu: false }, &[a, b]);
        }
        match self.builder.add_bias(a, b)? {
            true => self.builder.pass(raw.output()?, a),
            false => Err(format!("{} adds `{b}` to no fully connected layer", raw.what())),
        }
    }

    /// The factor of a dropout that scales at inference.
    fn dropout(&self, raw: &Raw) -> Option<Op<Parameter>> {
        let mode = raw.text.get("mode").or_else(|| raw.text.get("dropout_implementation"))?;
        let share = raw.inputs.get("2").and_then(|v| self.numbers.get(v.first()?));
        let share = share.or_else(|| raw.float.get("dropout_prob")).copied().unwrap_or(0.0);
        (mode == "downgrade_in_infer").then(|| scale(1.0 - share))
    }
}

fn pair(list: &[i64]) -> Option<[u64; 2]> {
    let &[first, second] = list else { return None };
    Some([u64::try_from(first).ok()?, u64::try_from(second).ok()?])
}

fn pads(list: &[i64]) -> Option<[u64; 4]> {
    match list {
        [h, w] => pads(&[*h, *h, *w, *w]),
        // Paddle: top, bottom, left, right.
        [top, bottom, left, right] => {
            let [top, bottom, left, right] = [top, bottom, left, right].map(|&v| u64::try_from(v).ok());
            Some([top?, left?, bottom?, right?])
        }
        _ => None,
    }
}
