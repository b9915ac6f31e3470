//! The classifier of a file: one fully connected layer or several, whatever they are called.

use inception_nn::{HiddenLayer, TensorRole};

use super::keys::Keys;
use crate::entry::Entry;
use crate::key_scheme::{KeyRow, KeyScheme};
use crate::metadata::Metadata;

/// Prefix of our names of the classifier's tensors.
pub(super) const HEAD: &str = "head.";

/// The classifier's weight and bias, by our names.
pub(super) const WEIGHT: &str = "head.fc.weight";
pub(super) const BIAS: &str = "head.fc.bias";

/// Most fully connected layers of a classifier.
const MAX_LAYERS: usize = 4;

/// A fully connected layer of a file.
#[derive(Clone, Copy)]
pub(super) struct Layer<'a> {
    /// Its key without the field.
    pub path: &'a str,
    pub weight: &'a Entry,
    pub bias: Option<&'a Entry>,
    pub outputs: usize,
    /// A ReLU follows.
    pub relu: bool,
}

/// A classifier: its layers in order, at least one.
pub(super) struct Head<'a> {
    pub layers: Vec<Layer<'a>>,
    /// Rows of the weights are outputs.
    pub transposed: bool,
    /// What a user should know of it.
    pub notes: Vec<String>,
}

impl<'a> Head<'a> {
    /// Finds it: at its own key, or by its shape: fully connected, from the network's `features`.
    pub fn find(
        scheme: KeyScheme,
        table: &[KeyRow],
        keys: &Keys<'a>,
        metadata: &Metadata,
        is_spare: impl Fn(&str) -> bool,
    ) -> Option<Self> {
        let row = table.iter().find(|row| row.tensor.name == WEIGHT)?;
        let bias = table.iter().find(|row| row.tensor.name == BIAS)?;
        // Keras separates by slashes.
        let end = row.key.rfind(['.', '/'])?;
        let (own, weight) = row.key.split_at(end);
        let (features, transposed) = (row.tensor.shape[0], row.transposed);
        let found = Search { keys, transposed, weight, bias: bias.key.get(end..)? };
        if scheme == KeyScheme::Native {
            return found.native(own, metadata);
        }
        // Of another size, too: what differs is then said of its own key.
        if let Some(layer) = found.layer(own) {
            return Some(Self { layers: vec![layer], transposed, notes: Vec::new() });
        }
        let mut paths: Vec<&'a str> =
            keys.entries.keys().filter_map(|key| key.strip_suffix(weight)).collect();
        let used: std::collections::HashSet<&str> = table.iter().map(|row| row.key.as_str()).collect();
        paths.retain(|path| {
            let key = format!("{path}{weight}");
            !used.contains(&*key) && !is_spare(&key)
        });
        // Those below the layer's own name first, then in the order of their names.
        paths.sort_unstable_by_key(|path| (!path.starts_with(own), *path));
        let first = paths.iter().find_map(|path| {
            found.layer(path).filter(|layer| found.inputs(layer.weight) == Some(features))
        })?;
        let mut layers = found.sequence(first, &paths);
        let mut notes = Vec::new();
        let names: Vec<_> = layers.iter().map(|layer| format!("`{}`", layer.path)).collect();
        notes.push(format!("its classifier is {}", names.join(", ")));
        if layers.iter().any(|layer| layer.relu) {
            notes.push(
                "a ReLU is assumed between its layers where their numbers leave room for one".to_owned(),
            );
        }
        layers.last_mut()?.relu = false;
        Some(Self { layers, transposed, notes })
    }

    /// Outputs of the last layer.
    pub fn classes(&self) -> usize {
        // By the bias, where there is one, so that a transposed weight comes to light.
        let bias = |layer: &Layer| layer.bias.and_then(|bias| bias.shape.first().copied());
        self.layers.last().map_or(0, |layer| bias(layer).unwrap_or(layer.outputs))
    }

    /// The layers before the last one.
    pub fn hidden(&self) -> Vec<HiddenLayer> {
        let (_, hidden) = self.layers.split_last().expect("at least one");
        hidden.iter().map(|layer| HiddenLayer { outputs: layer.outputs, relu: layer.relu }).collect()
    }

    /// The layer of one of our names, `head.hidden.1.fc.weight` for example.
    pub fn of(&self, name: &str) -> Option<&Layer<'a>> {
        match name.strip_prefix("head.hidden.") {
            Some(rest) => self.layers.get(rest.split('.').next()?.parse::<usize>().ok()?),
            None => self.layers.last(),
        }
    }
}

struct Search<'k, 'a> {
    keys: &'k Keys<'a>,
    transposed: bool,
    /// The fields of a layer, behind its path.
    weight: &'k str,
    bias: &'k str,
}

impl<'a> Search<'_, 'a> {
    /// Outputs and inputs of a fully connected layer's weight; a 1x1 convolution is one, too.
    fn sizes(&self, weight: &Entry) -> Option<[usize; 2]> {
        match (self.transposed, &weight.shape[..]) {
            (true, &[outputs, inputs] | &[outputs, inputs, 1, 1]) | (false, &[inputs, outputs]) => {
                Some([outputs, inputs])
            }
            _ => None,
        }
    }

    fn inputs(&self, weight: &Entry) -> Option<usize> {
        self.sizes(weight).map(|[_, inputs]| inputs)
    }

    fn layer(&self, path: &str) -> Option<Layer<'a>> {
        let key = format!("{path}{}", self.weight);
        let (key, weight) = self.keys.entries.get_key_value(&*key)?;
        let [outputs, _] = self.sizes(weight)?;
        let path = key.strip_suffix(self.weight)?;
        let bias = self.keys.get(&format!("{path}{}", self.bias));
        Some(Layer { path, weight, bias, outputs, relu: false })
    }

    /// The layers that follow `first` in one `Sequential`: numbered, each with as many inputs as the one
    /// before it has outputs.
    fn sequence(&self, first: Layer<'a>, paths: &[&'a str]) -> Vec<Layer<'a>> {
        let split = |path: &'a str| {
            let (list, number) = path.rsplit_once('.').unwrap_or(("", path));
            Some((list, number.parse::<usize>().ok()?))
        };
        let mut layers = vec![first];
        let Some((list, mut at)) = split(first.path) else { return layers };
        let mut others: Vec<(usize, &str)> = paths
            .iter()
            .filter_map(|&path| split(path).filter(|(l, _)| *l == list).map(|(_, n)| (n, path)))
            .collect();
        others.sort_unstable();
        for (number, path) in others.into_iter().filter(|(number, _)| *number > at).collect::<Vec<_>>() {
            let last = layers.last_mut().expect("the first");
            let Some(layer) =
                self.layer(path).filter(|layer| self.inputs(layer.weight) == Some(last.outputs))
            else {
                break;
            };
            last.relu = number > at + 1;
            at = number;
            layers.push(layer);
            if layers.len() == MAX_LAYERS {
                break;
            }
        }
        layers
    }

    /// Our own: the hidden layers in order; the file says after which of them a ReLU follows.
    fn native(&self, own: &str, metadata: &Metadata) -> Option<Head<'a>> {
        let relus =
            metadata.get(Metadata::HEAD).and_then(|json| serde_json::from_str::<Vec<bool>>(json).ok());
        let relus = relus.unwrap_or_default();
        let hidden = (0..MAX_LAYERS - 1).map_while(|i| {
            let layer = self.layer(&format!("{HEAD}hidden.{i}.fc"))?;
            Some(Layer { relu: relus.get(i).copied().unwrap_or(true), ..layer })
        });
        let mut layers: Vec<_> = hidden.collect();
        layers.push(self.layer(own)?);
        Some(Head { layers, transposed: false, notes: Vec::new() })
    }
}

/// The tensor of a layer that has this role.
pub(super) fn field<'a>(layer: &Layer<'a>, role: TensorRole) -> Option<&'a Entry> {
    if role == TensorRole::LinearWeight { Some(layer.weight) } else { layer.bias }
}
