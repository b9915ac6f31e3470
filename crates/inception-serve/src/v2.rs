//! What HTTP and gRPC have in common of the Open Inference Protocol: a tensor goes in, and one comes out.

use bytes::{Buf, Bytes};
use inception::Prediction;

use crate::models::Loaded;
use crate::options::Limits;
use crate::queue::Input;
use crate::refusal::Refusal;

/// The name of the server.
pub(crate) const SERVER: &str = "inception";
/// The extensions of the protocol that are there, by Triton's names.
pub(crate) const EXTENSIONS: [&str; 4] =
    ["binary_tensor_data", "classification", "model_configuration", "model_repository"];
/// What runs the models.
pub(crate) const PLATFORM: &str = "inception_engine";
/// The tensor that goes in: `FP32` normalised images `[batch, 3, height, width]`, or `BYTES` pictures in
/// their files' encoding, `[batch]` or `[batch, 1]`.
pub(crate) const INPUT: &str = "input";
/// The tensor that comes out, `[batch, classes]`.
pub(crate) const OUTPUT: &str = "logits";
/// The types of a tensor that are known here.
pub(crate) const FP32: &str = "FP32";
pub(crate) const BYTES: &str = "BYTES";

/// The values of a tensor, as a protocol carries them.
pub(crate) enum Values {
    /// Numbers in a list.
    Floats(Vec<f32>),
    /// Strings of bytes in a list.
    Strings(Vec<Bytes>),
    /// Little-endian numbers, or strings with four bytes of length before each.
    Raw(Bytes),
}

/// A tensor of a request.
pub(crate) struct Tensor {
    pub name: String,
    pub datatype: String,
    pub shape: Vec<i64>,
    pub values: Values,
}

/// What goes in, of a request's tensors.
///
/// # Errors
///
/// [`Refusal::Invalid`] where they are not what the model takes; [`Refusal::TooLarge`] for more pictures than
/// are allowed.
pub(crate) fn inputs(tensors: Vec<Tensor>, model: &Loaded, limits: &Limits) -> Result<Vec<Input>, Refusal> {
    let [tensor] = <[Tensor; 1]>::try_from(tensors).map_err(|all| {
        Refusal::invalid(format!("one input is wanted, `{INPUT}`; the request has {}", all.len()))
    })?;
    if tensor.name != INPUT {
        return Err(Refusal::invalid(format!(
            "the model has the input `{INPUT}`, and no `{}`",
            shown(&tensor.name)
        )));
    }
    let image = model.image_shape();
    let batch = batch(&tensor, image)?;
    if batch > limits.pictures {
        return Err(Refusal::TooLarge { limit: limits.pictures, what: "pictures" });
    }
    if tensor.datatype == BYTES {
        return Ok(strings(tensor.values, batch)?.into_iter().map(Input::Picture).collect());
    }
    let floats = floats(tensor.values, batch, image.iter().product())?;
    Ok(floats.into_iter().map(Input::Pixels).collect())
}

/// A name of a client's, short enough for a message.
fn shown(name: &str) -> String {
    name.chars().take(60).collect()
}

/// Images of a tensor.
fn batch(tensor: &Tensor, [channels, height, width]: [usize; 3]) -> Result<usize, Refusal> {
    let shape: Option<Vec<usize>> = tensor.shape.iter().map(|&extent| usize::try_from(extent).ok()).collect();
    let wanted = match (tensor.datatype.as_str(), shape.as_deref()) {
        (FP32, Some(&[batch, c, h, w])) if batch > 0 && [c, h, w] == [channels, height, width] => {
            return Ok(batch);
        }
        (BYTES, Some(&[batch] | &[batch, 1])) if batch > 0 => return Ok(batch),
        (FP32, _) => format!("[batch, {channels}, {height}, {width}]"),
        (BYTES, _) => "[batch] or [batch, 1]".to_owned(),
        (other, _) => {
            return Err(Refusal::invalid(format!("`{INPUT}` is {FP32} or {BYTES}, not {}", shown(other))));
        }
    };
    let found: Vec<String> = tensor.shape.iter().take(8).map(ToString::to_string).collect();
    Err(Refusal::invalid(format!(
        "`{INPUT}` of type {} has the shape {wanted}, not [{}]",
        tensor.datatype,
        found.join(", ")
    )))
}

/// The images of `batch` images of `each` numbers.
fn floats(values: Values, batch: usize, each: usize) -> Result<Vec<Vec<f32>>, Refusal> {
    let wrong = |found: usize| {
        Refusal::invalid(format!(
            "`{INPUT}` of this shape has {} numbers, not {found}",
            batch.saturating_mul(each)
        ))
    };
    let whole = |found: usize| Some(found) == batch.checked_mul(each);
    match values {
        Values::Floats(floats) if whole(floats.len()) => {
            Ok(floats.chunks_exact(each).map(<[f32]>::to_vec).collect())
        }
        Values::Raw(bytes) if bytes.len() % 4 == 0 && whole(bytes.len() / 4) => {
            let float = |&bytes: &[u8; 4]| f32::from_le_bytes(bytes);
            let image = |image: &[u8]| image.as_chunks::<4>().0.iter().map(float).collect();
            Ok(bytes.chunks_exact(4 * each).map(image).collect())
        }
        Values::Floats(floats) => Err(wrong(floats.len())),
        Values::Raw(bytes) => Err(wrong(bytes.len() / 4)),
        Values::Strings(_) => Err(Refusal::invalid(format!("a tensor of type {FP32} holds numbers"))),
    }
}

/// The strings of `batch` strings.
fn strings(values: Values, batch: usize) -> Result<Vec<Bytes>, Refusal> {
    let strings = match values {
        Values::Strings(strings) => strings,
        Values::Floats(_) => return Err(Refusal::invalid(format!("a tensor of type {BYTES} holds strings"))),
        Values::Raw(mut bytes) => {
            let mut strings = Vec::new();
            while bytes.has_remaining() && strings.len() <= batch {
                let length = bytes.try_get_u32_le().ok().and_then(|length| usize::try_from(length).ok());
                let length = length.filter(|&length| length <= bytes.len());
                let length = length.ok_or_else(|| {
                    Refusal::invalid("a string of the tensor is longer than what is left of the request")
                })?;
                strings.push(bytes.split_to(length));
            }
            strings
        }
    };
    match strings.len() == batch {
        true => Ok(strings),
        false => Err(Refusal::invalid(format!("`{INPUT}` of this shape has {batch} strings"))),
    }
}

/// A tensor of an answer.
pub(crate) struct Output {
    pub datatype: &'static str,
    pub shape: Vec<i64>,
    pub values: OutputValues,
}

/// Its values.
pub(crate) enum OutputValues {
    Floats(Vec<f32>),
    Strings(Vec<String>),
}

impl Output {
    /// The logits, or the `classes` likeliest classes of each picture as `logit:index:label`, Triton's
    /// extension.
    pub fn new(model: &Loaded, predictions: &[Prediction], classes: Option<usize>) -> Self {
        let extent = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let batch = extent(predictions.len());
        let Some(classes) = classes else {
            let logits: Vec<f32> = predictions.iter().flat_map(|one| &one.logits).copied().collect();
            let shape = vec![batch, extent(model.classifier.num_classes())];
            return Self { datatype: FP32, shape, values: OutputValues::Floats(logits) };
        };
        let classes = classes.min(model.classifier.num_classes());
        let lines = predictions.iter().flat_map(|prediction| {
            let line = |guess: inception::Guess| {
                let logit = prediction.logits[guess.index];
                let label = guess.label.map(|label| format!(":{label}")).unwrap_or_default();
                format!("{logit:.6}:{}{label}", guess.index)
            };
            model.classifier.top(prediction, classes).into_iter().map(line)
        });
        let values = OutputValues::Strings(lines.collect());
        Self { datatype: BYTES, shape: vec![batch, extent(classes)], values }
    }

    /// Its values as binary data: little-endian numbers, or strings with four bytes of length before each.
    pub fn raw(&self) -> Vec<u8> {
        match &self.values {
            OutputValues::Floats(floats) => floats.iter().flat_map(|value| value.to_le_bytes()).collect(),
            OutputValues::Strings(strings) => {
                let bytes = |text: &String| {
                    let length = u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes();
                    length.into_iter().chain(text.bytes()).collect::<Vec<u8>>()
                };
                strings.iter().flat_map(bytes).collect()
            }
        }
    }
}

/// Checks the name of an output that a request asks for.
///
/// # Errors
///
/// [`Refusal::Invalid`].
pub(crate) fn check_output(name: &str) -> Result<(), Refusal> {
    match name == OUTPUT {
        true => Ok(()),
        false => {
            Err(Refusal::invalid(format!("the model has the output `{OUTPUT}`, and no `{}`", shown(name))))
        }
    }
}

/// The predictions, if all pictures have one.
///
/// # Errors
///
/// The first refusal; of several pictures it says which.
pub(crate) fn all(outcomes: Vec<Result<Prediction, Refusal>>) -> Result<Vec<Prediction>, Refusal> {
    let several = outcomes.len() > 1;
    let one = |(number, outcome): (usize, Result<Prediction, Refusal>)| {
        outcome.map_err(|refusal| match refusal {
            Refusal::Invalid(reason) if several => Refusal::Invalid(format!("picture {number}: {reason}")),
            other => other,
        })
    };
    outcomes.into_iter().enumerate().map(one).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test may panic.
mod tests {
    use super::*;

    fn raw(parts: &[&[u8]]) -> Values {
        let bytes = parts.iter().flat_map(|part| [&u32::to_le_bytes(part.len() as u32), *part].concat());
        Values::Raw(bytes.collect::<Vec<u8>>().into())
    }

    #[test]
    fn strings_in_binary() {
        assert_eq!(strings(raw(&[b"one", b"", b"two"]), 3).unwrap(), ["one", "", "two"]);
        for (values, batch) in [
            (raw(&[b"one"]), 2),
            (raw(&[b"one", b"two"]), 1),
            (Values::Raw(Bytes::from_static(b"\x04\0\0\0one")), 1),
            (Values::Raw(Bytes::from_static(b"\xff\xff\xff\xffone")), 1),
            (Values::Raw(Bytes::from_static(b"\0\0")), 1),
            (Values::Floats(vec![0.0]), 1),
        ] {
            assert!(matches!(strings(values, batch), Err(Refusal::Invalid(_))));
        }
    }

    #[test]
    fn numbers_in_binary() {
        let bytes: Vec<u8> = [1.0f32, -2.5, 3.0, 4.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        let images = floats(Values::Raw(bytes.clone().into()), 2, 2).unwrap();
        assert_eq!(images, [[1.0, -2.5], [3.0, 4.0]]);
        for values in [
            Values::Raw(bytes[..15].to_vec().into()),
            Values::Raw(Bytes::new()),
            Values::Floats(vec![0.0; 3]),
        ] {
            assert!(floats(values, 2, 2).is_err());
        }
        // No product overflows.
        assert!(floats(Values::Floats(vec![0.0]), usize::MAX, 3).is_err());
    }

    #[test]
    fn shapes() {
        let tensor = |datatype: &str, shape: &[i64]| Tensor {
            name: INPUT.to_owned(),
            datatype: datatype.to_owned(),
            shape: shape.to_vec(),
            values: Values::Floats(Vec::new()),
        };
        let image = [3, 8, 8];
        assert_eq!(batch(&tensor(FP32, &[2, 3, 8, 8]), image), Ok(2));
        assert_eq!(batch(&tensor(BYTES, &[7]), image), Ok(7));
        assert_eq!(batch(&tensor(BYTES, &[7, 1]), image), Ok(7));
        for (datatype, shape) in [
            (FP32, &[3, 8, 8][..]),
            (FP32, &[0, 3, 8, 8]),
            (FP32, &[-1, 3, 8, 8]),
            (FP32, &[1, 3, 8, 9]),
            (FP32, &[i64::MAX, i64::MAX, i64::MAX, i64::MAX]),
            (BYTES, &[]),
            (BYTES, &[0]),
            (BYTES, &[1, 2]),
            ("INT8", &[1, 3, 8, 8]),
        ] {
            assert!(batch(&tensor(datatype, shape), image).is_err(), "{datatype} {shape:?}");
        }
    }
}
