//! The classifier of a file: one fully connected layer or several, whatever they are called.

use inception_nn::{HiddenLayer, TensorRole};

use super::keys::Keys;
use crate::checkpoint::Checkpoint;
use crate::entry::Entry;
use crate::error::Error;
use crate::key_scheme::{KeyRow, KeyScheme};
use crate::metadata::Metadata;

/// Prefix of our names of the classifier's tensors.
pub(super) const HEAD: &str = "head.";

/// The classifier's weight and bias, by our names.
pub(super) const WEIGHT: &str = "head.fc.weight";
pub(super) const BIAS: &str = "head.fc.bias";

/// Most fully connected layers of a classifier.
const MAX_LAYERS: usize = 4;

/// What `BatchNorm1d` adds to a variance, unless it is told otherwise; a state dict does not say.
const EPSILON: f64 = 1e-5;

/// A `BatchNorm1d` between fully connected layers.
#[derive(Clone, Copy)]
pub(super) struct Norm<'a> {
    /// Its key without the field.
    path: &'a str,
    mean: &'a Entry,
    variance: &'a Entry,
    /// Scale and shift, where it has them.
    scale: Option<&'a Entry>,
    shift: Option<&'a Entry>,
}

impl<'a> Norm<'a> {
    /// Factors and summands of its values.
    fn affine(&self, checkpoint: &Checkpoint) -> Result<Vec<[f64; 2]>, Error> {
        let (mean, variance) = (checkpoint.values(self.mean)?, checkpoint.values(self.variance)?);
        let optional = |entry: Option<&Entry>, otherwise: f32| match entry {
            Some(entry) => checkpoint.values(entry),
            None => Ok(vec![otherwise; mean.len()]),
        };
        let (scale, shift) = (optional(self.scale, 1.0)?, optional(self.shift, 0.0)?);
        let values = mean.iter().zip(variance).zip(scale.into_iter().zip(shift));
        Ok(values
            .map(|((&mean, variance), (scale, shift))| {
                let factor = f64::from(scale) / (f64::from(variance) + EPSILON).sqrt();
                [factor, f64::from(shift) - f64::from(mean) * factor]
            })
            .collect())
    }

    /// Its tensors.
    fn entries(&self) -> impl Iterator<Item = &'a Entry> + use<'a> {
        [self.mean, self.variance].into_iter().chain(self.scale).chain(self.shift)
    }
}

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
    /// Norms of what it reads and of what it gives, before the ReLU.
    norms: [Option<Norm<'a>>; 2],
}

impl<'a> Layer<'a> {
    /// Whether its values are the file's as they are.
    pub fn is_plain(&self) -> bool {
        self.norms.iter().all(Option::is_none)
    }

    /// The tensors of its norms.
    pub fn norm_entries(&self) -> impl Iterator<Item = &'a Entry> + use<'a> {
        self.norms.into_iter().flatten().flat_map(|norm| norm.entries().collect::<Vec<_>>())
    }

    /// Its weight `[inputs, outputs]`, or its bias, with its norms in it. `transposed`: rows of the file's
    /// are outputs.
    pub fn with_norms(
        &self,
        checkpoint: &Checkpoint,
        transposed: bool,
        bias: bool,
    ) -> Result<Vec<f32>, Error> {
        let weight = checkpoint.values(self.weight)?;
        let inputs = weight.len() / self.outputs.max(1);
        let affine = |norm: &Option<Norm>, channels: usize| match norm {
            Some(norm) => norm.affine(checkpoint),
            None => Ok(vec![[1.0, 0.0]; channels]),
        };
        let (before, after) = (affine(&self.norms[0], inputs)?, affine(&self.norms[1], self.outputs)?);
        let at = |input: usize, output: usize| match transposed {
            true => f64::from(weight[output * inputs + input]),
            false => f64::from(weight[input * self.outputs + output]),
        };
        if !bias {
            let pairs = (0..inputs).flat_map(|input| (0..self.outputs).map(move |output| (input, output)));
            let value = |(input, output)| (at(input, output) * before[input][0] * after[output][0]) as f32;
            return Ok(pairs.map(value).collect());
        }
        let own = self.bias.map(|bias| checkpoint.values(bias)).transpose()?;
        let own = own.unwrap_or_else(|| vec![0.0; self.outputs]);
        let sum = |output: usize| {
            let shifted: f64 = (0..inputs).map(|input| before[input][1] * at(input, output)).sum();
            ((shifted + f64::from(own[output])) * after[output][0] + after[output][1]) as f32
        };
        Ok((0..self.outputs).map(sum).collect())
    }
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
        if scheme == KeyScheme::Keras {
            return found.keras(own, metadata);
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
        let norms: Vec<_> = layers.iter().flat_map(|layer| layer.norms).flatten().collect();
        if !norms.is_empty() {
            let names: Vec<_> = norms.iter().map(|norm| format!("`{}`", norm.path)).collect();
            notes.push(format!(
                "the norms {} are folded into it, with an epsilon of {EPSILON}",
                names.join(", ")
            ));
        }
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
        Some(Layer { path, weight, bias, outputs, relu: false, norms: [None; 2] })
    }

    /// The norm at `path`, of so many channels.
    fn norm(&self, path: &'a str, channels: usize) -> Option<Norm<'a>> {
        let field = |name: &str| {
            let entry = self.keys.get(&format!("{path}.{name}"))?;
            (entry.shape == [channels]).then_some(entry)
        };
        let (mean, variance) = (field("running_mean")?, field("running_var")?);
        Some(Norm { path, mean, variance, scale: field("weight"), shift: field("bias") })
    }

    /// The layers of one `Sequential` that begins with `first`, or with a norm before it: numbered, each with
    /// as many inputs as the one before it has outputs. Norms stand between them.
    fn sequence(&self, mut first: Layer<'a>, paths: &[&'a str]) -> Vec<Layer<'a>> {
        let split = |path: &'a str| {
            let (list, number) = path.rsplit_once('.').unwrap_or(("", path));
            Some((list, number.parse::<usize>().ok()?))
        };
        let Some((list, mut at)) = split(first.path) else { return vec![first] };
        let in_list = |path: &'a str| split(path).filter(|(l, _)| *l == list).map(|(_, n)| (n, path));
        let linear = paths.iter().filter(|path| self.layer(path).is_some());
        let linear = linear.filter_map(|&path| in_list(path)).map(|(n, path)| (n, path, false));
        let norms = self.keys.entries.keys().filter_map(|key| key.strip_suffix(".running_mean"));
        let norms = norms.filter_map(in_list).map(|(n, path)| (n, path, true));
        let mut members: Vec<(usize, &'a str, bool)> = linear.chain(norms).collect();
        members.sort_unstable();
        // Nothing but norms stands before the first.
        let before = members.iter().rfind(|(number, _, is_norm)| *is_norm && *number < at);
        first.norms[0] = before.and_then(|(_, path, _)| self.norm(path, self.inputs(first.weight)?));
        let mut layers = vec![first];
        // A norm that reads what the ReLU gives, for the next layer.
        let mut waiting = None;
        for (number, path, is_norm) in
            members.into_iter().filter(|(number, ..)| *number > at).collect::<Vec<_>>()
        {
            let last = layers.last_mut().expect("the first");
            // What has no weights stands between the two: a ReLU, and often dropout.
            let gap = number > at + 1;
            if is_norm {
                let Some(norm) = self.norm(path, last.outputs).filter(|_| waiting.is_none()) else { break };
                match gap || last.norms[1].is_some() {
                    true => (waiting, last.relu) = (Some(norm), gap),
                    false => last.norms[1] = Some(norm),
                }
                at = number;
                continue;
            }
            let Some(layer) =
                self.layer(path).filter(|layer| self.inputs(layer.weight) == Some(last.outputs))
            else {
                break;
            };
            // One ReLU between two layers: behind a norm that has one before it stands dropout.
            last.relu |= gap && waiting.is_none();
            at = number;
            layers.push(Layer { norms: [waiting.take(), None], ..layer });
            if layers.len() == MAX_LAYERS {
                break;
            }
        }
        layers
    }

    /// Keras's, which are numbered through: the first `dense` and those that read what the one before gives.
    /// The file says after which of them a ReLU follows, if it has the model's description.
    fn keras(&self, own: &str, metadata: &Metadata) -> Option<Head<'a>> {
        let mut layers = vec![self.layer(own)?];
        while layers.len() < MAX_LAYERS
            && let Some(layer) = self.layer(&format!("{own}_{}", layers.len()))
            && self.inputs(layer.weight) == layers.last().map(|last| last.outputs)
        {
            layers.push(layer);
        }
        let said = relus(metadata);
        for (i, layer) in layers.iter_mut().enumerate() {
            layer.relu = said.as_ref().and_then(|said| said.get(i).copied()).unwrap_or(true);
        }
        layers.last_mut()?.relu = false;
        let mut notes = Vec::new();
        if layers.len() > 1 {
            let names: Vec<_> = layers.iter().map(|layer| format!("`{}`", layer.path)).collect();
            notes.push(format!("its classifier is {}", names.join(", ")));
            if said.is_none() {
                notes.push("a ReLU is assumed between its layers: the file has weights alone".to_owned());
            }
        }
        Some(Head { layers, transposed: self.transposed, notes })
    }

    /// Our own: the hidden layers in order; the file says after which of them a ReLU follows.
    fn native(&self, own: &str, metadata: &Metadata) -> Option<Head<'a>> {
        let relus = relus(metadata).unwrap_or_default();
        let hidden = (0..MAX_LAYERS - 1).map_while(|i| {
            let layer = self.layer(&format!("{HEAD}hidden.{i}.fc"))?;
            Some(Layer { relu: relus.get(i).copied().unwrap_or(true), ..layer })
        });
        let mut layers: Vec<_> = hidden.collect();
        layers.push(self.layer(own)?);
        Some(Head { layers, transposed: false, notes: Vec::new() })
    }
}

/// After which layers of the classifier a ReLU follows, where the file says it.
fn relus(metadata: &Metadata) -> Option<Vec<bool>> {
    metadata.get(Metadata::HEAD).and_then(|json| serde_json::from_str(json).ok())
}

/// The tensor of a layer that has this role.
pub(super) fn field<'a>(layer: &Layer<'a>, role: TensorRole) -> Option<&'a Entry> {
    if role == TensorRole::LinearWeight { Some(layer.weight) } else { layer.bias }
}
