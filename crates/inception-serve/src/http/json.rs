//! Requests and answers of the Open Inference Protocol in JSON, with its extension for binary data.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::{DeserializeSeed, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::refusal::Refusal;
use crate::v2::{Tensor, Values};

/// A request. What is not known is left out, so that it takes no memory.
#[derive(Deserialize)]
pub struct Request {
    pub id: Option<String>,
    #[serde(default)]
    pub parameters: RequestParameters,
    inputs: Vec<Input>,
    #[serde(default)]
    pub outputs: Vec<Output>,
}

#[derive(Default, Deserialize)]
pub struct RequestParameters {
    #[serde(default)]
    pub binary_data_output: bool,
}

#[derive(Deserialize)]
struct Input {
    name: String,
    datatype: String,
    shape: Vec<i64>,
    #[serde(default)]
    parameters: InputParameters,
    data: Option<Data>,
}

#[derive(Default, Deserialize)]
struct InputParameters {
    binary_data_size: Option<usize>,
}

#[derive(Deserialize)]
pub struct Output {
    pub name: String,
    #[serde(default)]
    pub parameters: OutputParameters,
}

#[derive(Default, Deserialize)]
pub struct OutputParameters {
    pub binary_data: Option<bool>,
    #[serde(default)]
    pub classification: usize,
}

/// A list, or a list of lists, of numbers or of strings.
#[derive(Default)]
struct Data {
    floats: Vec<f32>,
    strings: Vec<Bytes>,
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut data = Self::default();
        deserializer.deserialize_seq(Collect(&mut data))?;
        Ok(data)
    }
}

/// Adds what comes to a list.
struct Collect<'a>(&'a mut Data);

impl<'de> DeserializeSeed<'de> for Collect<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Collect<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("lists of numbers, or of strings in base64")
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.0.floats.push(value as f32);
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.0.floats.push(value as f32);
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.0.floats.push(value as f32);
        Ok(())
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        let bytes = STANDARD.decode(value).map_err(|_| E::custom("strings of bytes are in base64"))?;
        self.0.strings.push(bytes.into());
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Collect(self.0))?.is_some() {}
        match self.0.floats.is_empty() || self.0.strings.is_empty() {
            true => Ok(()),
            false => Err(A::Error::custom("a tensor holds numbers or strings, not both")),
        }
    }
}

impl Request {
    /// Reads a request whose first `header` bytes are JSON, all of them if it does not say, and the rest
    /// binary data.
    ///
    /// # Errors
    ///
    /// [`Refusal::Invalid`].
    pub fn parse(mut body: Bytes, header: Option<usize>) -> Result<(Self, Vec<Tensor>), Refusal> {
        let header = header.unwrap_or(body.len());
        if header > body.len() {
            return Err(Refusal::invalid("the JSON is said to be longer than the request"));
        }
        let text = body.split_to(header);
        let mut request: Self = serde_json::from_slice(&text)
            .map_err(|error| Refusal::invalid(format!("the request is no JSON of the protocol: {error}")))?;
        let mut tensors = Vec::new();
        for Input { name, datatype, shape, parameters, data } in request.inputs.drain(..) {
            let values = match (parameters.binary_data_size, data) {
                (Some(size), None) if size <= body.len() => Values::Raw(body.split_to(size)),
                (Some(_), None) => {
                    return Err(Refusal::invalid("a tensor is longer than what is left of the request"));
                }
                (None, Some(Data { floats, strings })) if strings.is_empty() => Values::Floats(floats),
                (None, Some(Data { strings, .. })) => Values::Strings(strings),
                _ => return Err(Refusal::invalid("a tensor has either `data` or `binary_data_size`")),
            };
            tensors.push(Tensor { name, datatype, shape, values });
        }
        match body.is_empty() {
            true => Ok((request, tensors)),
            false => Err(Refusal::invalid("there is binary data that belongs to no tensor")),
        }
    }
}

/// An answer.
#[derive(Serialize)]
pub struct Response<'a> {
    pub model_name: &'a str,
    pub model_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    pub outputs: [OutputTensor<'a>; 1],
}

#[derive(Serialize)]
pub struct OutputTensor<'a> {
    pub name: &'a str,
    pub datatype: &'a str,
    pub shape: &'a [i64],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<BinarySize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<List<'a>>,
}

#[derive(Serialize)]
pub struct BinarySize {
    pub binary_data_size: usize,
}

#[derive(Serialize)]
#[serde(untagged)]
pub enum List<'a> {
    Floats(&'a [f32]),
    Strings(&'a [String]),
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test may panic.
mod tests {
    use super::*;

    fn parse(text: &str, binary: &[u8]) -> Result<(Request, Vec<Tensor>), Refusal> {
        let body = [text.as_bytes(), binary].concat();
        Request::parse(body.into(), Some(text.len()))
    }

    #[test]
    fn numbers_strings_and_binary_data() {
        let numbers = r#"{"id": "a", "unknown": [{}], "inputs":
            [{"name": "input", "datatype": "FP32", "shape": [2, 2], "data": [[1, -2.5], [3e1, 0.1]]}]}"#;
        let (request, tensors) = parse(numbers, b"").unwrap();
        assert_eq!(request.id.as_deref(), Some("a"));
        assert_eq!(tensors[0].shape, [2, 2]);
        assert!(matches!(&tensors[0].values, Values::Floats(values) if *values == [1.0, -2.5, 30.0, 0.1]));

        let strings =
            r#"{"inputs": [{"name": "input", "datatype": "BYTES", "shape": [2], "data": ["YWI=", ""]}]}"#;
        let (_, tensors) = parse(strings, b"").unwrap();
        assert!(matches!(&tensors[0].values, Values::Strings(values) if *values == ["ab", ""]));

        let binary = r#"{"inputs": [{"name": "input", "datatype": "BYTES", "shape": [1],
            "parameters": {"binary_data_size": 3}}], "outputs": [{"name": "logits", "parameters": {"binary_data": true}}]}"#;
        let (request, tensors) = parse(binary, b"abc").unwrap();
        assert_eq!(request.outputs[0].parameters.binary_data, Some(true));
        assert!(matches!(&tensors[0].values, Values::Raw(bytes) if bytes == "abc"));
        for rest in ["ab", "abcd"] {
            assert!(parse(binary, rest.as_bytes()).is_err(), "{rest}");
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let input = |rest: &str| {
            format!(r#"{{"inputs": [{{"name": "input", "datatype": "FP32", "shape": [1]{rest}}}]}}"#)
        };
        assert!(parse(&input(r#", "data": [1]"#), b"").is_ok());
        for text in [
            input(""),
            input(r#", "data": 1"#),
            input(r#", "data": [1, "YQ=="]"#),
            input(r#", "data": [true]"#),
            input(r#", "data": [{}]"#),
            input(r#", "data": [1], "parameters": {"binary_data_size": 0}"#),
            input(r#", "parameters": {"binary_data_size": -1}"#),
            input(&format!(r#", "data": {}1{}"#, "[".repeat(1000), "]".repeat(1000))),
            "{}".to_owned(),
            "[]".to_owned(),
            "{\"inputs\": [{}]}".to_owned(),
            String::new(),
        ] {
            assert!(matches!(parse(&text, b""), Err(Refusal::Invalid(_))), "{text}");
        }
        assert!(Request::parse(Bytes::from_static(b"{}"), Some(3)).is_err());
    }
}
