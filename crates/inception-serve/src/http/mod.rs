//! The protocols over HTTP: addresses, and what all answers have in common.

mod call;
mod classify;
mod infer;
mod json;
mod reply;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, EXPECT, HeaderValue};
use hyper::{Method, Request, Response};
use serde_json::json;

use crate::body::Lease;
use crate::models::Slot;
use crate::refusal::Refusal;
use crate::state::{State, VERSION};
use crate::v2;

use call::Call;
use reply::{Reply, json as json_reply};

/// The page.
const PAGE: &str = include_str!("page.html");

/// The page has its style and its script in itself, and nothing may come from elsewhere.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src blob:; \
                           connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Answers a request.
pub(crate) async fn serve(state: Arc<State>, request: Request<Incoming>) -> Result<Reply, Infallible> {
    let start = Instant::now();
    let (parts, mut body) = request.into_parts();
    let lease = Lease::of(&state.budget);
    let call = Call { state: &state, parts: &parts, body: &mut body, lease: &lease };
    let mut reply = match route(call).await {
        Ok(reply) => reply,
        Err(refusal) => {
            // An answer to somebody who still sends may be lost with the connection. (Who expects to be told
            // to go on has not begun.)
            if !parts.headers.contains_key(EXPECT) {
                drain(&mut body).await;
            }
            reply::error(&refusal)
        }
    };
    if state.is_leaving() {
        reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    state.metrics.request("http", reply.status().as_str());
    tracing::debug!(
        protocol = "http",
        method = %parts.method,
        path = parts.uri.path(),
        status = reply.status().as_u16(),
        milliseconds = start.elapsed().as_secs_f64() * 1e3,
        "request"
    );
    Ok(reply)
}

/// Reads what is left of a body and keeps nothing, for a while.
async fn drain(body: &mut Incoming) {
    let rest = async { while let Some(Ok(_)) = body.frame().await {} };
    let _ = tokio::time::timeout(Duration::from_secs(2), rest).await;
}

/// The methods of an address that is read, and of one that is told something.
const GET: &str = "GET, HEAD";
const POST: &str = "POST";

async fn route(call: Call<'_>) -> Result<Reply, Refusal> {
    let (state, parts) = (call.state, call.parts);
    let path = parts.uri.path();
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).take(9).collect();
    // A GET without its body, which hyper leaves out.
    let get = matches!(parts.method, Method::GET | Method::HEAD);
    let post = parts.method == Method::POST;
    match (&segments[..], get) {
        // Probes have no keys, and are told no more than a status.
        (["v2", "health", "live"], true) => return Ok(reply::probe(true, &json!({ "live": true }))),
        (["v2", "health", "ready"], true) => {
            let ready = state.is_ready();
            return Ok(reply::probe(ready, &json!({ "ready": ready })));
        }
        _ => {}
    }
    if state.options.keys.as_ref().is_some_and(|keys| !keys.open(&parts.headers)) {
        return Err(Refusal::NoKey);
    }
    match &segments[..] {
        [] if get => Ok(page()),
        ["metrics"] if get => metrics(state),
        ["v1", "models"] if get => {
            let names: Vec<&str> = state.slots.iter().map(Slot::name).collect();
            Ok(json_reply(&json!({ "models": names })))
        }
        ["v1", "models", name] if get => {
            let ready = state.model(name, None).map(drop);
            let ready = if ready == Err(Refusal::Loading) { Ok(false) } else { ready.map(|()| true) };
            Ok(json_reply(&json!({ "name": name, "ready": ready? })))
        }
        ["v1", "models", name, "classify"] if post => classify::classify(call, name).await,
        ["v2"] if get => {
            let version = env!("CARGO_PKG_VERSION");
            Ok(json_reply(&json!({ "name": v2::SERVER, "version": version, "extensions": v2::EXTENSIONS })))
        }
        ["v2", "repository", "index"] if post => Ok(index(state)),
        ["v2", "repository", "models", name, "load"] if post => load(state, name).await,
        ["v2", "models", name, "versions", version, rest @ ..] => {
            model(call, name, Some(version), rest).await
        }
        ["v2", "models", name, rest @ ..] => model(call, name, None, rest).await,
        [] | ["metrics"] | ["v1", "models"] | ["v1", "models", _] | ["v2"] => Err(Refusal::Method(GET)),
        ["v2", "health", "live" | "ready"] => Err(Refusal::Method(GET)),
        ["v1", "models", _, "classify"] => Err(Refusal::Method(POST)),
        ["v2", "repository", "index"] | ["v2", "repository", "models", _, "load"] => {
            Err(Refusal::Method(POST))
        }
        _ => Err(Refusal::NoPath),
    }
}

/// The addresses below a model's.
async fn model(call: Call<'_>, name: &str, version: Option<&str>, rest: &[&str]) -> Result<Reply, Refusal> {
    let get = matches!(call.parts.method, Method::GET | Method::HEAD);
    let state = call.state;
    match rest {
        [] if get => {
            let (slot, model) = state.model(name, version)?;
            let [channels, height, width] = model.image_shape();
            Ok(json_reply(&json!({
                "name": state.slots[slot].name(),
                "versions": [VERSION],
                "platform": v2::PLATFORM,
                "inputs": [{ "name": v2::INPUT, "datatype": v2::FP32, "shape": [-1, channels as i64, height as i64, width as i64] }],
                "outputs": [{ "name": v2::OUTPUT, "datatype": v2::FP32, "shape": [-1, model.classifier.num_classes() as i64] }],
            })))
        }
        ["ready"] if get => match state.model(name, version) {
            Ok(_) => Ok(reply::probe(true, &json!({ "name": name, "ready": true }))),
            Err(Refusal::Loading) => Ok(reply::probe(false, &json!({ "name": name, "ready": false }))),
            Err(refusal) => Err(refusal),
        },
        ["config"] if get => {
            let (slot, model) = state.model(name, version)?;
            let classes = model.classifier.num_classes();
            Ok(json_reply(&json!({
                "name": state.slots[slot].name(),
                "platform": v2::PLATFORM,
                "backend": v2::SERVER,
                "max_batch_size": state.options.limits.pictures,
                "input": [{ "name": v2::INPUT, "data_type": "TYPE_FP32", "format": "FORMAT_NCHW", "dims": model.image_shape() }],
                "output": [{ "name": v2::OUTPUT, "data_type": "TYPE_FP32", "dims": [classes] }],
            })))
        }
        ["infer"] if call.parts.method == Method::POST => infer::infer(call, name, version).await,
        [] | ["ready" | "config"] => Err(Refusal::Method(GET)),
        ["infer"] => Err(Refusal::Method(POST)),
        _ => Err(Refusal::NoPath),
    }
}

fn page() -> Reply {
    let mut page = Response::new(Full::new(Bytes::from_static(PAGE.as_bytes())));
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("content-security-policy", PAGE_POLICY),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-cache"),
    ] {
        page.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    page
}

fn metrics(state: &State) -> Result<Reply, Refusal> {
    let text = state.metrics.text().map_err(|error| {
        tracing::error!(%error, "metrics");
        Refusal::Internal
    })?;
    Ok(reply::of("text/plain; version=0.0.4", text))
}

/// The list of models, Triton's extension.
fn index(state: &State) -> Reply {
    let entry = |slot: &Slot| {
        let (now, reason) = slot.state();
        json!({ "name": slot.name(), "version": VERSION, "state": now, "reason": reason })
    };
    json_reply(&serde_json::Value::Array(state.slots.iter().map(entry).collect()))
}

/// Loads a model again, Triton's extension.
async fn load(state: &Arc<State>, name: &str) -> Result<Reply, Refusal> {
    if state.options.keys.is_none() {
        return Err(Refusal::Forbidden);
    }
    let (slot, _) = state.model(name, None)?;
    let of_thread = state.clone();
    let loaded = tokio::task::spawn_blocking(move || of_thread.reload(slot)).await;
    match loaded {
        Ok(Ok(())) => Ok(Reply::default()),
        // Why is in the log, since it names files.
        _ => Err(Refusal::Internal),
    }
}
