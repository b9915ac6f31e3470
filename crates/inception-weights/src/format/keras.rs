//! Keras's files: `.h5` of Keras 2 and 3, whole or weights alone, `.weights.h5`, and `.keras`, a zip archive
//! of such a file and the model's description.
//!
//! Layers that were not named have names that count through a process (`conv2d_112`), so Keras itself finds
//! weights by the order of the layers, and so does this reader: the keys that it gives are those that Keras 3
//! uses in `.weights.h5`, a layer's class and its place among those of its class in `Model.layers`, with the
//! variable's name in place of its number: `conv2d_17/kernel`, `batch_normalization/beta`. The class is told
//! by the shapes of its weights.
//!
//! Shapes are given in our order: a kernel `[height, width, inputs, outputs]` as `[outputs, inputs, height,
//! width]`.

use std::collections::HashMap;

use serde_json::Value;

use super::contents::Contents;
use super::hdf5::{Dataset, File, Links, Object};
use super::zip::Members;
use crate::entry::{Entry, Source};
use crate::input::{Fault, Input, Range, damaged, unsupported};
use crate::metadata::Metadata;

/// The member of a `.keras` archive that has the weights.
pub(super) const MEMBER: &str = "model.weights.h5";

/// The member that describes the model.
const CONFIG: &str = "config.json";

/// Longest description that is read: that of a large model has some hundred kilobytes.
const MAX_CONFIG: u64 = 8 << 20;

/// Deeper groups than a model within a model within a model has.
const MAX_DEPTH: usize = 32;

/// Groups of `.weights.h5` that are no layers.
const NO_LAYERS: &[&str] = &["optimizer", "metrics"];

pub(crate) fn open_h5(input: &Input) -> Result<Contents, Fault> {
    open(input, Range { offset: 0, len: input.len() })
}

pub(crate) fn open_archive(input: &Input) -> Result<Contents, Fault> {
    let members = Members::of(input)?;
    match members.get(MEMBER)? {
        Some(member) => {
            let mut contents = open(input, member)?;
            if let Ok(Some(member)) = members.get(CONFIG)
                && member.len <= MAX_CONFIG
            {
                let config = input.read(member.offset, member.len)?;
                contents.metadata = described(contents.metadata, &config)?;
            }
            Ok(contents)
        }
        None => damaged(format!("a zip archive without `{MEMBER}`")),
    }
}

fn open(input: &Input, place: Range) -> Result<Contents, Fault> {
    let file = File::open(input, place)?;
    let root = Object::root(&file)?;
    let Some(links) = root.links(&file)? else { return damaged("its root is no group") };
    // A whole model has its weights beside the state of the optimiser.
    let inner = Object::find(&file, &links, "model_weights")?;
    let mut layers = Vec::new();
    let legacy = match &inner {
        Some(group) => (group, group.links(&file)?.unwrap_or_default()),
        None => (&root, links),
    };
    match legacy.0.long_strings(&file, "layer_names")? {
        Some(names) => named_layers(&file, &legacy.1, &names, &mut layers)?,
        None => {
            numbered_layers(&file, &legacy.1, &mut Vec::new(), &mut layers)?;
            // The order of those of one class within a model; models in the order of their names.
            layers.sort_by_cached_key(|layer| {
                let (model, name) = layer.path.rsplit_once('/').unwrap_or(("", &layer.path));
                let (class, number) = split_number(name);
                (model.to_owned(), class.to_owned(), number)
            });
        }
    }
    if layers.is_empty() {
        return unsupported("an HDF5 file without layers of Keras");
    }
    let mut counts = HashMap::new();
    let mut entries = Vec::new();
    for layer in layers {
        layer.entries(input, &mut counts, &mut entries)?;
    }
    let mut metadata = Metadata::default();
    if let Ok(Some(config)) = root.strings(&file, "model_config")
        && let [config] = &config[..]
    {
        metadata = described(metadata, config.as_bytes())?;
    }
    Ok(Contents { entries, metadata, ..Contents::default() })
}

/// Adds what a model's description says of its classifier: after which of its layers a ReLU follows. A
/// description that is none says nothing.
fn described(metadata: Metadata, config: &[u8]) -> Result<Metadata, Fault> {
    let Ok(config) = serde_json::from_slice::<Value>(config) else { return Ok(metadata) };
    let mut activations = Vec::new();
    dense_activations(&config, &mut activations);
    // What the last one has makes probabilities of the logits.
    activations.pop();
    if activations.is_empty() {
        return Ok(metadata);
    }
    let is_relu = |activation: &String| match activation.as_str() {
        "relu" => Ok("true"),
        "linear" => Ok("false"),
        other => unsupported(format!(
            "a layer of its classifier has the activation `{other}`, which is not supported"
        )),
    };
    let relus = activations.iter().map(is_relu).collect::<Result<Vec<_>, _>>()?;
    Ok(metadata.with(Metadata::HEAD, format!("[{}]", relus.join(","))))
}

/// The activations of the `Dense` layers of a description, in their order. serde_json bounds how deep it is.
fn dense_activations(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| dense_activations(item, found)),
        Value::Object(fields) => {
            if fields.get("class_name").and_then(Value::as_str) == Some("Dense") {
                let activation = &value["config"]["activation"];
                let name = activation.as_str().or_else(|| activation["class_name"].as_str());
                found.push(name.unwrap_or("linear").to_lowercase());
                return;
            }
            fields.values().for_each(|field| dense_activations(field, found));
        }
        _ => {}
    }
}

/// A layer's weights, in Keras's order.
struct Layer {
    path: String,
    weights: Vec<(String, Dataset)>,
}

/// Layers of the older format, in the order of the attribute `layer_names`. Models within models have all of
/// their weights in one group, the trainable ones first.
fn named_layers(file: &File, links: &Links, names: &[String], layers: &mut Vec<Layer>) -> Result<(), Fault> {
    for name in names {
        let Some(group) = Object::find(file, links, name)? else {
            return damaged(format!("the layer `{name}` is not in the file"));
        };
        let members = group.links(file)?.unwrap_or_default();
        let mut places: HashMap<String, usize> = HashMap::new();
        for weight in group.long_strings(file, "weight_names")?.unwrap_or_default() {
            let object = Object::find(file, &members, &weight)?;
            let dataset = object.map(|object| object.dataset(file, &weight)).transpose()?.flatten();
            let Some(dataset) = dataset else {
                return damaged(format!("`{weight}` of the layer `{name}` is not in the file"));
            };
            let weight = weight.strip_suffix(":0").unwrap_or(&weight);
            let (own, variable) = weight.rsplit_once('/').unwrap_or((name, weight));
            let place = *places.entry(own.to_owned()).or_insert(layers.len());
            if place == layers.len() {
                layers.push(Layer { path: own.to_owned(), weights: Vec::new() });
            }
            layers[place].weights.push((variable.to_owned(), dataset));
        }
    }
    Ok(())
}

/// Layers of `.weights.h5`: groups `vars` of datasets by number.
fn numbered_layers(
    file: &File,
    links: &Links,
    path: &mut Vec<String>,
    layers: &mut Vec<Layer>,
) -> Result<(), Fault> {
    if path.len() > MAX_DEPTH {
        return damaged(format!("groups deeper than {MAX_DEPTH}"));
    }
    for (name, &address) in links {
        if path.is_empty() && NO_LAYERS.contains(&name.as_str()) {
            continue;
        }
        let Some(members) = Object::at(file, address)?.links(file)? else { continue };
        if name != "vars" {
            path.push(name.clone());
            numbered_layers(file, &members, path, layers)?;
            path.pop();
            continue;
        }
        let mut weights = Vec::new();
        for (number, &address) in &members {
            let what = format!("{}/vars/{number}", path.join("/"));
            if let Some(dataset) = Object::at(file, address)?.dataset(file, &what)? {
                weights.push((number.clone(), dataset));
            }
        }
        // "10" comes after "9".
        weights.sort_by_key(|(number, _)| number.parse().unwrap_or(u64::MAX));
        if !weights.is_empty() {
            layers.push(Layer { path: path.join("/"), weights });
        }
    }
    Ok(())
}

/// `conv2d_17` as its class and number; without a number it is the first.
fn split_number(name: &str) -> (&str, u64) {
    let split = name.rsplit_once('_').and_then(|(class, number)| Some((class, number.parse().ok()?)));
    split.unwrap_or((name, 0))
}

/// The classes of layers that the networks have, by the numbers of dimensions of their weights: their names
/// in `.weights.h5`, and those of their variables.
const CLASSES: &[(&[usize], &str, &[&str])] = &[
    (&[4], "conv2d", &["kernel"]),
    (&[4, 1], "conv2d", &["kernel", "bias"]),
    (&[4, 4], "separable_conv2d", &["depthwise_kernel", "pointwise_kernel"]),
    (&[1, 1, 1], "batch_normalization", &["beta", "moving_mean", "moving_variance"]),
    (&[1, 1, 1, 1], "batch_normalization", &["gamma", "beta", "moving_mean", "moving_variance"]),
    (&[2, 1], "dense", &["kernel", "bias"]),
    (&[2], "dense", &["kernel"]),
];

impl Layer {
    /// The entries of its weights, by class and place if the class is known, and else by path.
    fn entries(
        self,
        input: &Input,
        counts: &mut HashMap<&'static str, usize>,
        entries: &mut Vec<Entry>,
    ) -> Result<(), Fault> {
        let ranks: Vec<usize> = self.weights.iter().map(|(_, dataset)| dataset.shape.len()).collect();
        let class = CLASSES.iter().find(|(known, ..)| *known == ranks);
        // A norm may lack its shift and not its scale.
        let class = class.filter(|(.., variables)| {
            !self.weights.iter().zip(*variables).any(|((name, _), own)| name == "gamma" && name != own)
        });
        let layer = match class {
            Some((_, class, _)) => {
                let count = counts.entry(*class).or_default();
                *count += 1;
                match *count - 1 {
                    0 => (*class).to_owned(),
                    number => format!("{class}_{number}"),
                }
            }
            None => self.path,
        };
        for (i, (name, dataset)) in self.weights.into_iter().enumerate() {
            let variable = class.map_or(name.as_str(), |(.., variables)| variables[i]);
            entries.push(entry(input, format!("{layer}/{variable}"), dataset)?);
        }
        Ok(())
    }
}

/// The entry of a dataset in our order of dimensions.
fn entry(input: &Input, key: String, dataset: Dataset) -> Result<Entry, Fault> {
    let Dataset { shape, dtype, offset, len } = dataset;
    let count = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
    if let Some(size) = dtype.size()
        && count.and_then(|count| count.checked_mul(size)) != Some(len)
    {
        return damaged(format!("`{key}` {shape:?} of {dtype} has {len} bytes"));
    }
    let is_depthwise = key.ends_with("depthwise_kernel");
    let mut entry = Entry::checked(input, key, &shape, dtype, Source::At(offset))?;
    if let &[height, width, inputs, outputs] = &entry.shape[..]
        && !entry.is_empty()
    {
        let pixel = inputs * outputs;
        let (shape, first) = match is_depthwise {
            // Each channel has filters of its own.
            true => ([inputs, outputs, height, width], [outputs, 1]),
            false => ([outputs, inputs, height, width], [1, outputs]),
        };
        entry.shape = shape.to_vec();
        entry.strides = Some(vec![first[0], first[1], width * pixel, pixel]);
    }
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The descriptions of Keras 2 and 3: a base without a classifier, and layers behind it.
    #[test]
    fn descriptions_say_where_a_relu_is() {
        let dense = |activation: &str| {
            format!(r#"{{"class_name": "Dense", "config": {{"units": 4, "activation": {activation}}}}}"#)
        };
        let model = |layers: &[String]| {
            let base = r#"{"class_name": "Functional", "config": {"layers": [{"class_name": "Conv2D", "config": {}}]}}"#;
            format!(
                r#"{{"class_name": "Sequential", "config": {{"layers": [{base}, {}]}}}}"#,
                layers.join(", ")
            )
        };
        let head = |layers: &[String]| {
            described(Metadata::default(), model(layers).as_bytes())
                .map(|m| m.get(Metadata::HEAD).map(str::to_owned))
        };
        let [relu, linear, softmax] = [r#""relu""#, r#""linear""#, r#""softmax""#].map(dense);
        assert_eq!(head(std::slice::from_ref(&softmax)).ok(), Some(None));
        let three = head(&[relu.clone(), linear, softmax.clone()]).ok().flatten();
        assert_eq!(three.as_deref(), Some("[true,false]"));
        // As an object, and the hidden layer's without one.
        let object = dense(r#"{"class_name": "ReLU", "config": {}}"#);
        assert_eq!(head(&[object, softmax.clone()]).ok().flatten().as_deref(), Some("[true]"));
        match head(&[dense(r#""gelu""#), softmax]) {
            Err(Fault::Unsupported(message)) => assert!(message.contains("`gelu`"), "{message}"),
            _ => panic!("another function is computed"),
        }
        for text in ["", "{}", "[1, 2]", "no JSON"] {
            assert!(
                described(Metadata::default(), text.as_bytes())
                    .is_ok_and(|m| m.get(Metadata::HEAD).is_none())
            );
        }
    }
}
