//! What a client is told instead of an answer.

use hyper::StatusCode;
use tonic::Code;

/// Why a request has no answer. The texts name no file and nothing else of the machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// The request, or a picture in it, cannot be used.
    #[error("{0}")]
    Invalid(String),
    #[error("there is no model of this name and version here")]
    NoModel,
    #[error("there is nothing at this address")]
    NoPath,
    /// For other methods, which HTTP's `Allow` names.
    #[error("this address is for another method")]
    Method(&'static str),
    /// Without a key where keys are on.
    #[error("a key is needed: `Authorization: Bearer KEY`")]
    NoKey,
    #[error("models are loaded again on request only where keys are on")]
    Forbidden,
    #[error("the request has more than {limit} {what}")]
    TooLarge { limit: usize, what: &'static str },
    #[error("{0}")]
    Media(&'static str),
    /// The queue is full, or the memory for bodies is.
    #[error("too many requests; try again in {seconds} s")]
    Busy { seconds: u64 },
    #[error("the model is being loaded")]
    Loading,
    #[error("the request did not arrive in time")]
    Slow,
    #[error("the connection ended before the request did")]
    Cut,
    #[error("the server could not compute an answer")]
    Internal,
}

impl Refusal {
    /// A request that cannot be used.
    pub fn invalid(reason: impl Into<String>) -> Self {
        Self::Invalid(reason.into())
    }

    /// HTTP's and gRPC's code.
    fn codes(&self) -> (StatusCode, Code) {
        match self {
            Self::Invalid(_) | Self::Cut => (StatusCode::BAD_REQUEST, Code::InvalidArgument),
            Self::NoModel | Self::NoPath => (StatusCode::NOT_FOUND, Code::NotFound),
            Self::Method(_) => (StatusCode::METHOD_NOT_ALLOWED, Code::Unimplemented),
            Self::NoKey => (StatusCode::UNAUTHORIZED, Code::Unauthenticated),
            Self::Forbidden => (StatusCode::FORBIDDEN, Code::PermissionDenied),
            Self::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted),
            Self::Media(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument),
            Self::Busy { .. } | Self::Loading => (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable),
            Self::Slow => (StatusCode::REQUEST_TIMEOUT, Code::DeadlineExceeded),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, Code::Internal),
        }
    }

    pub fn status(&self) -> StatusCode {
        self.codes().0
    }

    /// Seconds after which another try may succeed.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Busy { seconds } => Some(*seconds),
            Self::Loading => Some(1),
            _ => None,
        }
    }
}

impl From<&Refusal> for tonic::Status {
    fn from(refusal: &Refusal) -> Self {
        let mut status = Self::new(refusal.codes().1, refusal.to_string());
        if let Some(seconds) = refusal.retry_after() {
            // What gRPC's clients wait for before they try again by themselves.
            status.metadata_mut().insert("grpc-retry-pushback-ms", (seconds * 1000).into());
        }
        status
    }
}
