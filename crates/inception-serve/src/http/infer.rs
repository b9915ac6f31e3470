//! `POST /v2/models/NAME/infer`.

use std::time::Instant;

use hyper::header::{CONTENT_ENCODING, HeaderName, HeaderValue};

use super::call::Call;
use super::json::{BinarySize, List, OutputTensor, Request, Response};
use super::reply::{Reply, of};
use crate::refusal::Refusal;
use crate::state::VERSION;
use crate::v2::{self, OutputValues};

/// Bytes of JSON at the start of a body; binary data follows.
const HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// Bodies from here on are read on a thread of their own, so that other connections do not wait for it.
const LARGE: usize = 64 << 10;

pub async fn infer(mut call: Call<'_>, name: &str, version: Option<&str>) -> Result<Reply, Refusal> {
    let start = Instant::now();
    let state = call.state;
    let (slot, model) = state.model(name, version)?;
    if call.header(CONTENT_ENCODING.as_str()).is_some_and(|encoding| encoding != "identity") {
        return Err(Refusal::Media("compressed requests are not read"));
    }
    let header = match call.header(HEADER_LENGTH.as_str()).map(str::parse) {
        None => None,
        Some(Ok(length)) => Some(length),
        Some(Err(_)) => return Err(Refusal::invalid("Inference-Header-Content-Length is no number")),
    };
    let body = call.bytes().await?;
    let limits = state.options.limits.clone();
    let of_thread = model.clone();
    let large = body.len() >= LARGE;
    let parse = move || {
        let (request, tensors) = Request::parse(body, header)?;
        let inputs = v2::inputs(tensors, &of_thread, &limits)?;
        Ok::<_, Refusal>((request, inputs))
    };
    let (request, inputs) = match large {
        true => tokio::task::spawn_blocking(parse).await.map_err(|_| Refusal::Internal)??,
        false => parse()?,
    };
    // Not more than one output is there, but it may be asked for in two ways.
    let output = match &request.outputs[..] {
        [] => None,
        [output] => Some(output),
        _ => return Err(Refusal::invalid("one output can be asked for")),
    };
    output.map_or(Ok(()), |output| v2::check_output(&output.name))?;
    let classes = output.map(|output| output.parameters.classification).filter(|&classes| classes > 0);
    let binary = output.and_then(|output| output.parameters.binary_data);
    let binary = binary.unwrap_or(request.parameters.binary_data_output);

    let outcomes = state.submit(slot, &model, inputs, Some(call.lease))?.outcomes().await;
    let output = v2::Output::new(&model, &v2::all(outcomes)?, classes);
    let raw = binary.then(|| output.raw());
    let data = raw.is_none().then(|| match &output.values {
        OutputValues::Floats(floats) => List::Floats(floats),
        OutputValues::Strings(strings) => List::Strings(strings),
    });
    let tensor = OutputTensor {
        name: v2::OUTPUT,
        datatype: output.datatype,
        shape: &output.shape,
        parameters: raw.as_ref().map(|raw| BinarySize { binary_data_size: raw.len() }),
        data,
    };
    let served_as = state.slots[slot].name();
    let response =
        Response { model_name: served_as, model_version: VERSION, id: request.id, outputs: [tensor] };
    let mut text = serde_json::to_vec(&response).map_err(|_| Refusal::Internal)?;
    state.metrics.answered(served_as, "http", start.elapsed());
    let Some(raw) = raw else { return Ok(of("application/json", text)) };
    let length = HeaderValue::from(text.len());
    text.extend_from_slice(&raw);
    let mut reply = of("application/octet-stream", text);
    reply.headers_mut().insert(HEADER_LENGTH, length);
    Ok(reply)
}
