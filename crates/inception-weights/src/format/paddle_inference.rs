//! PaddlePaddle's inference pair: a program, as JSON (`inference.json`, since version 3) or as protocol buffers
//! (`inference.pdmodel`), and beside it the values of its variables in the order of their names (`.pdiparams`).

use std::collections::HashMap;

use inception_graph::{BatchNorm, Graph, Op, Parameter, PoolKind};
use serde_json::Value;

use super::contents::Contents;
use super::proto::{Message, Wire};
use crate::entry::{Dtype, Entry, Source};
use crate::graph::{Builder, pool, scale, window};
use crate::input::{Fault, Input, Range, Stream, damaged};

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
    let graph = Operations { parameters: &parameters, numbers: HashMap::new(), lists: HashMap::new() };
    let graph = graph.build(&entries, &operations).map_err(Fault::Damaged)?;
    Ok(Contents { entries, graph: Some(graph), ..Contents::default() })
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
            return damaged(format!("more than {MAX_OPERATIONS} operations or variables"));
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

struct Operations<'a> {
    /// Names of the variables with values, sorted.
    parameters: &'a [String],
    /// Constants by the values that they are.
    numbers: HashMap<String, f64>,
    lists: HashMap<String, Vec<i64>>,
}

impl Operations<'_> {
    fn is_parameter(&self, name: &str) -> bool {
        self.parameters.binary_search_by(|parameter| parameter.as_str().cmp(name)).is_ok()
    }

    fn build(mut self, entries: &[Entry], operations: &[Raw]) -> Result<Graph<Parameter>, String> {
        let mut builder = Builder::new(entries);
        let mut combined: HashMap<&str, Vec<&str>> = HashMap::new();
        for raw in operations {
            let what = || format!("{} `{}`", raw.op, raw.outputs.first().map_or("", String::as_str));
            // By position in JSON, by name in protocol buffers.
            let read = |position: &str, name: &str| -> Result<&str, String> {
                let value = raw.inputs.get(position).or_else(|| raw.inputs.get(name)).and_then(|v| v.first());
                value.map(String::as_str).ok_or_else(|| format!("{} lacks its input {name}", what()))
            };
            let parameter = |position: &str, name: &str| -> Result<String, String> {
                let value = read(position, name)?;
                match self.is_parameter(value) {
                    true => Ok(value.to_owned()),
                    false => Err(format!("{}: `{value}` is no parameter", what())),
                }
            };
            let flag = |name: &str| raw.ints.get(name).is_some_and(|v| v[..] == [1]);
            let ints = |name: &str| raw.ints.get(name).map(Vec::as_slice).unwrap_or_default();
            let output = raw.outputs.first().map(String::as_str);
            let made = || output.ok_or_else(|| format!("{} makes nothing", what()));
            match raw.op.as_str() {
                "data" | "feed" => builder.input(made()?)?,
                "full" => {
                    let value = raw.float.get("value").copied();
                    self.numbers.extend(value.map(|v| (made().unwrap_or_default().to_owned(), v)));
                }
                "full_int_array" => {
                    self.lists.insert(made()?.to_owned(), ints("value").to_vec());
                }
                "conv2d" | "depthwise_conv2d" => {
                    let explicit = raw.text.get("padding_algorithm").is_none_or(|a| a == "EXPLICIT");
                    if !explicit
                        || raw.text.get("data_format").is_some_and(|f| f != "NCHW" && f != "AnyLayout")
                    {
                        return Err(format!("{} pads by itself or has channels last", what()));
                    }
                    let stride = pair(ints("strides")).ok_or_else(what)?;
                    let pads = pads(ints("paddings")).ok_or_else(what)?;
                    let dilation = pair(ints("dilations")).ok_or_else(what)?;
                    let groups = ints("groups").first().map_or(1, |&g| g as u64);
                    let window = window([1; 2], stride, pads, dilation, false);
                    let op = builder.conv(parameter("1", "Filter")?, None, window, groups);
                    builder.node(made()?, op, &[read("0", "Input")?])?;
                }
                "batch_norm" | "batch_norm_" => {
                    let norm = BatchNorm {
                        gamma: builder.weight(parameter("3", "Scale")?),
                        beta: builder.weight(parameter("4", "Bias")?),
                        mean: builder.weight(parameter("1", "Mean")?),
                        variance: builder.weight(parameter("2", "Variance")?),
                        epsilon: raw.float.get("epsilon").copied().unwrap_or(1e-5),
                    };
                    builder.node(made()?, Op::BatchNorm(Box::new(norm)), &[read("0", "X")?])?;
                }
                "relu" | "relu_" => builder.node(made()?, Op::Relu, &[read("0", "X")?])?,
                "pool2d" => {
                    let kernel = match raw.inputs.get("1").and_then(|v| self.lists.get(v.first()?)) {
                        Some(list) => list.as_slice(),
                        None => ints("ksize"),
                    };
                    let is_max = raw.text.get("pooling_type").is_some_and(|t| t == "max");
                    let op = if flag("adaptive") || flag("global_pooling") {
                        if is_max || (flag("adaptive") && kernel != [1, 1]) {
                            return Err(format!("{} pools into {kernel:?}", what()));
                        }
                        Op::GlobalAveragePool
                    } else {
                        let kernel = pair(kernel).ok_or_else(what)?;
                        let stride = pair(ints("strides")).ok_or_else(what)?;
                        let pads = pads(ints("paddings")).ok_or_else(what)?;
                        let kind = match (is_max, flag("exclusive")) {
                            (true, _) => PoolKind::Max,
                            (false, true) => PoolKind::Average,
                            (false, false) => PoolKind::AverageWithPadding,
                        };
                        pool(kind, window(kernel, stride, pads, [1; 2], flag("ceil_mode")))
                    };
                    builder.node(made()?, op, &[read("0", "X")?])?;
                }
                "combine" => {
                    let mut inputs: Vec<_> = raw
                        .inputs
                        .iter()
                        .filter_map(|(i, v)| Some((i.parse::<usize>().ok()?, v.first()?.as_str())))
                        .collect();
                    inputs.sort_unstable();
                    combined.insert(made()?, inputs.into_iter().map(|(_, name)| name).collect());
                }
                "concat" => {
                    let inputs = match raw.inputs.get("X") {
                        Some(inputs) => inputs.iter().map(String::as_str).collect(),
                        None => combined.get(read("0", "X")?).cloned().unwrap_or_default(),
                    };
                    builder.node(made()?, Op::Concat, &inputs)?;
                }
                "add" | "elementwise_add" => {
                    let (a, b) = (read("0", "X")?, read("1", "Y")?);
                    if self.is_parameter(b) {
                        if !builder.add_bias(a, b)? {
                            return Err(format!("{} adds `{b}` to no fully connected layer", what()));
                        }
                        builder.pass(made()?, a)?;
                    } else {
                        builder.node(made()?, Op::Add { relu: false }, &[a, b])?;
                    }
                }
                "matmul" | "matmul_v2" | "mul" => {
                    let transposed = flag("transpose_y") || flag("trans_y");
                    let op = builder.linear(parameter("1", "Y")?, None, transposed);
                    builder.node(made()?, op, &[read("0", "X")?])?;
                }
                "dropout" => {
                    let x = read("0", "X")?;
                    let share = raw.inputs.get("2").and_then(|v| self.numbers.get(v.first()?));
                    let share = share.or_else(|| raw.float.get("dropout_prob")).copied().unwrap_or(0.0);
                    match raw.text.get("mode").or_else(|| raw.text.get("dropout_implementation")) {
                        Some(mode) if mode == "downgrade_in_infer" => {
                            builder.node(made()?, scale(1.0 - share), &[x])?;
                        }
                        _ => builder.pass(made()?, x)?,
                    }
                }
                "flatten"
                | "flatten_contiguous_range"
                | "flatten2"
                | "reshape"
                | "reshape2"
                | "squeeze"
                | "squeeze2" => builder.pass(made()?, read("0", "X")?)?,
                "fetch" => return builder.finish(read("0", "X")?),
                "scale" => {
                    let factor = raw.float.get("scale").copied();
                    let factor = factor.or_else(|| self.numbers.get(raw.inputs.get("1")?.first()?).copied());
                    let shift = raw.float.get("bias").copied().unwrap_or(0.0);
                    let op = Op::Scale { scale: factor.unwrap_or(1.0), shift };
                    builder.node(made()?, op, &[read("0", "X")?])?;
                }
                _ => return Err(format!("{}: no network of the family has such an operation", what())),
            }
        }
        Err("the program gives nothing back".to_owned())
    }
}

fn pair(list: &[i64]) -> Option<[u64; 2]> {
    <[i64; 2]>::try_from(list)
        .ok()?
        .map(|v| u64::try_from(v).ok())
        .into_iter()
        .collect::<Option<Vec<_>>>()?
        .try_into()
        .ok()
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
