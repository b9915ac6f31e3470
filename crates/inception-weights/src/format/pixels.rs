//! What a file's first operations make of the image: its channels, each with a factor and a summand, as the
//! exports of torchvision's `transform_input` and of networks that normalise by themselves begin.

use std::collections::HashMap;

/// A channel of the image: `scale * channel + shift`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Channel {
    source: usize,
    scale: f64,
    shift: f64,
}

/// Values that are channels of the image, by name.
#[derive(Debug, Default)]
pub(super) struct Pixels {
    values: HashMap<String, Vec<Channel>>,
    /// What the network reads, by the first of its readers.
    read: Option<Vec<Channel>>,
}

/// More channels than any value of these operations has; red, green and blue are three.
const MAX_CHANNELS: usize = 4;

impl Pixels {
    /// That `name` is the image.
    pub fn image(&mut self, name: &str) {
        let channels = (0..3).map(|source| Channel { source, scale: 1.0, shift: 0.0 });
        self.values.insert(name.to_owned(), channels.collect());
    }

    pub fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// That `output` is what `input` is.
    pub fn pass(&mut self, output: &str, input: &str) {
        if let Some(channels) = self.values.get(input).cloned() {
            self.values.insert(output.to_owned(), channels);
        }
    }

    /// The channels `indices` of `input`; whether there are such.
    pub fn select(&mut self, output: &str, input: &str, indices: &[i64]) -> bool {
        let Some(channels) = self.values.get(input) else { return false };
        let count = channels.len() as i64;
        let index =
            |&i: &i64| channels.get(usize::try_from(if i < 0 { i + count } else { i }).ok()?).copied();
        let selected: Option<Vec<_>> = indices.iter().take(MAX_CHANNELS).map(index).collect();
        match selected.filter(|selected| !selected.is_empty()) {
            Some(selected) => self.values.insert(output.to_owned(), selected).is_none(),
            None => false,
        }
    }

    /// `op`, which is Add, Sub, Mul or Div, of `input` and one number for all of its channels, or one for each;
    /// `reversed`: the number comes first. Whether it is that.
    pub fn arithmetic(
        &mut self,
        output: &str,
        op: &str,
        input: &str,
        numbers: &[f64],
        reversed: bool,
    ) -> bool {
        let Some(channels) = self.values.get(input) else { return false };
        if !(numbers.len() == 1 || numbers.len() == channels.len()) {
            return false;
        }
        let changed = channels.iter().zip(numbers.iter().cycle()).map(|(&channel, &number)| {
            let Channel { source, scale, shift } = channel;
            Some(match (op, reversed) {
                ("Add", _) => Channel { shift: shift + number, ..channel },
                ("Sub", false) => Channel { shift: shift - number, ..channel },
                ("Sub", true) => Channel { source, scale: -scale, shift: number - shift },
                ("Mul", _) => Channel { source, scale: scale * number, shift: shift * number },
                ("Div", false) => Channel { source, scale: scale / number, shift: shift / number },
                _ => return None,
            })
        });
        match changed.collect::<Option<Vec<_>>>() {
            Some(changed) => self.values.insert(output.to_owned(), changed).is_none(),
            None => false,
        }
    }

    /// The channels of all `inputs`, one after the other; whether they are channels.
    pub fn concat(&mut self, output: &str, inputs: &[String]) -> bool {
        let parts: Option<Vec<_>> =
            inputs.iter().take(MAX_CHANNELS).map(|input| self.values.get(input)).collect();
        let joined: Option<Vec<Channel>> = parts.map(|parts| parts.into_iter().flatten().copied().collect());
        match joined.filter(|joined| joined.len() <= MAX_CHANNELS) {
            Some(joined) => self.values.insert(output.to_owned(), joined).is_none(),
            None => false,
        }
    }

    /// That the network itself reads `name`.
    ///
    /// # Errors
    ///
    /// If another of its operations reads something else of the image, or the channels are out of order.
    pub fn read(&mut self, name: &str) -> Result<(), String> {
        let Some(channels) = self.values.get(name) else { return Ok(()) };
        if channels.iter().map(|channel| channel.source).ne(0..3) {
            return Err(format!(
                "`{name}` has not red, green and blue in this order: export it for RGB images"
            ));
        }
        match &self.read {
            Some(first) if first != channels => {
                Err(format!("`{name}` is not what other operations of the network read of the image"))
            }
            _ => {
                self.read = Some(channels.clone());
                Ok(())
            }
        }
    }

    /// For red, green and blue the factor and the summand, if they change anything.
    pub fn transform(&self) -> Option<[[f64; 2]; 3]> {
        let channels: Vec<_> =
            self.read.iter().flatten().map(|channel| [channel.scale, channel.shift]).collect();
        let channels = <[[f64; 2]; 3]>::try_from(channels).ok()?;
        channels.iter().any(|&channel| channel != [1.0, 0.0]).then_some(channels)
    }
}

/// What stands behind a network's logits.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// Values that are no logits any more, and what made them so.
    values: HashMap<String, &'static str>,
}

impl Ending {
    /// That an operation makes `outputs` of `input`, which are logits or made of them.
    pub fn add<'n>(&mut self, outputs: impl IntoIterator<Item = &'n str>, what: &'static str) {
        self.values.extend(outputs.into_iter().map(|output| (output.to_owned(), what)));
    }

    /// That `outputs` are what `input` is, in another form.
    pub fn pass<'n>(&mut self, outputs: impl IntoIterator<Item = &'n str>, input: &str) {
        if let Some(&what) = self.values.get(input) {
            self.add(outputs, what);
        }
    }

    pub fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// Refuses an operation of the network that reads `name`, if that is no logit any more.
    pub fn check(&self, name: &str) -> Result<(), String> {
        match self.values.get(name) {
            Some(what) => {
                Err(format!("a {what} within the network (`{name}`), which none of the family has"))
            }
            None => Ok(()),
        }
    }

    /// What was left out, as sentences.
    pub fn notes(&self) -> Vec<String> {
        let mut kinds: Vec<_> = self.values.values().copied().collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
            .into_iter()
            .map(|kind| format!("the file ends in a {kind}; the logits before it are taken"))
            .collect()
    }
}
