//! Where and within which limits a server works.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::keys::Keys;

/// What one client, and all clients together, may take.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// Bytes of the bodies of all requests that are being received or answered. Answers in JSON and tensors
    /// in JSON take up to four times their bodies while they are read.
    pub all_body_bytes: usize,
    /// Pixels of a picture. A decoder takes 3 bytes for each, and up to 12 for a progressive JPEG.
    pub pixels: u64,
    /// Pictures of a request.
    pub pictures: usize,
    /// Connections at the same time; more wait in the system's backlog.
    pub connections: usize,
    /// A connection on which nothing moves for this long is closed, and one that takes this long to send the
    /// head of a request.
    pub idle: Duration,
    /// Time for the body of a request to arrive.
    pub request: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 16 << 20,
            all_body_bytes: 256 << 20,
            pixels: 1 << 25,
            pictures: 32,
            connections: 16_384,
            idle: Duration::from_secs(75),
            request: Duration::from_secs(60),
        }
    }
}

/// Files for TLS, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and those that it is signed by.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Where and how a server works.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServeOptions {
    /// Where HTTP is served; port 0 is a free one.
    pub http: Option<SocketAddr>,
    /// Where gRPC is served.
    pub grpc: Option<SocketAddr>,
    /// The most pictures of a batch.
    pub max_batch: usize,
    /// How long a picture waits for others at most that are being decoded, so that they share a batch. It
    /// waits for nobody when it is alone, and where there is a picture for each thread of the engine there are
    /// no batches.
    pub max_delay: Duration,
    /// Pictures of a model that may wait; more are refused.
    pub queue: usize,
    /// Threads that decode pictures.
    pub decoders: usize,
    /// Threads that compute pictures, or hand batches to the threads of an engine: as many as those of the
    /// engine's pool.
    pub threads: usize,
    /// What clients may take.
    pub limits: Limits,
    /// Encrypts both protocols.
    pub tls: Option<TlsFiles>,
    /// Who may use the server; `None` is everybody who reaches it.
    pub keys: Option<Keys>,
    /// How long [`Server::stop`](crate::Server::stop) still accepts requests, told to be the last of their
    /// connection, so that a client is never in the middle of sending one when its connection is closed.
    pub lame_duck: Duration,
    /// How long it then waits for answers at most.
    pub drain: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        let cores = inception::cores();
        Self {
            http: None,
            grpc: None,
            max_batch: 2 * cores,
            max_delay: Duration::from_millis(2),
            queue: 128,
            decoders: cores,
            threads: cores,
            limits: Limits::default(),
            tls: None,
            keys: None,
            lame_duck: Duration::from_secs(1),
            drain: Duration::from_secs(30),
        }
    }
}

impl ServeOptions {
    /// HTTP at `address`, without keys and TLS.
    pub fn on(address: SocketAddr) -> Self {
        Self { http: Some(address), ..Self::default() }
    }
}
