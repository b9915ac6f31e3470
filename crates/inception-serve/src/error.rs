//! Why a server does not start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// An error of any kind.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a server does not start. What clients are told is no error of the server, and not among these.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is nothing to serve, or nowhere to listen.
    #[error("a server needs {missing}")]
    Nothing {
        /// What is not there.
        missing: &'static str,
    },

    /// The address is taken, or none of this machine's.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },

    /// The system refuses threads.
    #[error("cannot start the threads of the server")]
    Threads {
        /// What the operating system said.
        source: io::Error,
    },

    /// A certificate or its key cannot be used.
    #[error("cannot use {} for TLS", path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: BoxError,
    },

    /// The file of keys cannot be used.
    #[error("cannot use the keys in {}: {reason}", path.display())]
    Keys {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },

    /// A name that cannot be part of an address.
    #[error(
        "a model cannot be called {name:?}: only letters, digits, `.`, `-` and `_`, at most 100, are allowed"
    )]
    Name {
        /// The name.
        name: String,
    },

    /// Two models of one name.
    #[error("two models are called {name}")]
    Twice {
        /// The name.
        name: String,
    },

    /// A model cannot be loaded, or does not compute.
    #[error("{name} does not start")]
    Model {
        /// The name of the model.
        name: String,
        /// Why not.
        source: BoxError,
    },
}
