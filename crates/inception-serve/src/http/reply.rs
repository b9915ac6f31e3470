//! Answers of HTTP.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::json;

use crate::refusal::Refusal;

/// An answer.
pub(crate) type Reply = Response<Full<Bytes>>;

/// An answer of this type.
pub fn of(content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

/// An answer in JSON.
pub fn json(value: &impl Serialize) -> Reply {
    match serde_json::to_vec(value) {
        Ok(text) => of("application/json", text),
        Err(_) => error(&Refusal::Internal),
    }
}

/// Yes or no: by the status for probes, and by `value` for clients that read it.
pub fn probe(yes: bool, value: &impl Serialize) -> Reply {
    let mut reply = json(value);
    *reply.status_mut() = if yes { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    reply
}

/// What a refusal looks like.
pub fn error(refusal: &Refusal) -> Reply {
    let mut reply = json(&json!({ "error": refusal.to_string() }));
    *reply.status_mut() = refusal.status();
    if let Some(seconds) = refusal.retry_after() {
        reply.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    if let Refusal::Method(allowed) = refusal {
        reply.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    }
    if *refusal == Refusal::NoKey {
        // Browsers then ask for a name and a password, which is the key.
        let scheme = HeaderValue::from_static("Basic realm=\"inception\", charset=\"UTF-8\"");
        reply.headers_mut().insert(WWW_AUTHENTICATE, scheme);
    }
    reply
}
