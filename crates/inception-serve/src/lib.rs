//! A server for image classifiers: the Open Inference Protocol (KServe v2, Triton's) over HTTP and gRPC,
//! pictures in plain HTTP, and a page to drop a picture on.
//!
//! ```no_run
//! use inception::{Classifier, RunOptions, Weights};
//! use inception_serve::{ModelSource, ServeOptions, Server};
//!
//! let load = || {
//!     let weights = Weights::File("googlenet.safetensors".into());
//!     // Answers then do not depend on the batch that a picture happens to be in.
//!     let mut options = RunOptions::default();
//!     options.batch_invariant = true;
//!     let classifier = Classifier::new(inception::model("GoogLeNet")?, &weights, &options)?;
//!     let warnings = classifier.warnings().to_vec();
//!     Ok((classifier, warnings))
//! };
//! let options = ServeOptions::on("127.0.0.1:8080".parse()?);
//! let server = Server::start(options, vec![ModelSource::new("GoogLeNet", load)])?;
//! // Until the process is told to stop:
//! server.stop();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How a request goes
//!
//! | module | what happens |
//! |---|---|
//! | `listen` | a connection is accepted, decrypted, and cut off when it idles |
//! | `body` | a body is read within the limits on its bytes, on the bytes of all bodies, and on time |
//! | `http`, `grpc` | the protocols; `v2` is what both have of the Open Inference Protocol |
//! | `queue` | its pictures are admitted, or refused if the queue is full |
//! | `workers` | threads decode pictures; others compute one each, or hand a batch to the engine's |
//!
//! The network of a model may change while requests are on their way ([`Server::reload`]): each is answered
//! by the one that was there when it was admitted.

mod body;
mod error;
mod grpc;
mod http;
mod keys;
mod listen;
mod metrics;
mod models;
mod options;
mod queue;
mod refusal;
mod server;
mod state;
mod v2;
mod workers;

pub use error::{BoxError, Error};
pub use keys::Keys;
pub use models::ModelSource;
pub use options::{Limits, ServeOptions, TlsFiles};
pub use server::{Reloaded, Server};
