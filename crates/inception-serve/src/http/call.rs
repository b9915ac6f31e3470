//! A request over HTTP, before its body is read.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::http::request::Parts;

use crate::body::{Guarded, Lease};
use crate::refusal::Refusal;
use crate::state::State;

/// A request, its body not yet read.
pub struct Call<'a> {
    pub state: &'a Arc<State>,
    pub parts: &'a Parts,
    pub body: &'a mut Incoming,
    pub lease: &'a Arc<Lease>,
}

impl Call<'_> {
    /// The body.
    pub async fn bytes(&mut self) -> Result<Bytes, Refusal> {
        let limits = &self.state.options.limits;
        let guarded = Guarded::new(&mut *self.body, self.lease.clone(), limits.body_bytes, limits.request)?;
        guarded.whole().await
    }

    /// A header, where it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.parts.headers.get(name)?.to_str().ok()
    }
}
