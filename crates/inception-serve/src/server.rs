//! A server, from its start to its end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::error::{BoxError, Error};
use crate::listen::{Connections, Protocol, tls};
use crate::models::{ModelSource, Slot};
use crate::options::ServeOptions;
use crate::state::State;
use crate::workers::Workers;

/// Threads that read large requests and load models on request.
const BLOCKING: usize = 4;

/// A server at work. Dropping it ends the process's part in it at once; [`stop`](Self::stop) ends it in good
/// order.
pub struct Server {
    state: Arc<State>,
    connections: Arc<Connections>,
    runtime: Option<Runtime>,
    workers: Option<Workers>,
    stop: watch::Sender<bool>,
    listeners: JoinSet<()>,
    http: Option<SocketAddr>,
    grpc: Option<SocketAddr>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("http", &self.http).field("grpc", &self.grpc).finish_non_exhaustive()
    }
}

/// What became of a model that was to be loaded again.
#[derive(Debug)]
#[non_exhaustive]
pub struct Reloaded {
    /// Its name.
    pub name: String,
    /// Why the one before it is still served, if it is.
    pub result: Result<(), BoxError>,
}

impl Server {
    /// Listens, loads the models and has each answer once, which makes the server ready.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn start(options: ServeOptions, models: Vec<ModelSource>) -> Result<Self, Error> {
        let slots = Slot::all(models)?;
        // A thread for connections is enough for what the engine answers, and a second one hides a large
        // request.
        let runtime =
            Builder::new_multi_thread().worker_threads(2).max_blocking_threads(BLOCKING).enable_all().build();
        let runtime = runtime.map_err(|source| Error::Threads { source })?;
        // Each connection is a descriptor. What the system allows is what there is.
        let _ = rlimit::increase_nofile_limit(u64::MAX);

        let mut listening = Vec::new();
        for (address, protocol) in [(options.http, Protocol::Http), (options.grpc, Protocol::Grpc)] {
            let Some(address) = address else { continue };
            let tls = options.tls.as_ref().map(|files| tls(files, protocol)).transpose()?;
            let listener = runtime.block_on(TcpListener::bind(address));
            let bound = listener.and_then(|listener| Ok((listener.local_addr()?, listener)));
            let (bound, listener) = bound.map_err(|source| Error::Listen { address, source })?;
            listening.push((bound, listener, protocol, tls));
        }
        if listening.is_empty() {
            return Err(Error::Nothing { missing: "an address" });
        }
        let of = |wanted| {
            listening.iter().find(|(_, _, protocol, _)| *protocol == wanted).map(|(bound, ..)| *bound)
        };
        let (http, grpc) = (of(Protocol::Http), of(Protocol::Grpc));

        let state = State::new(options, slots)
            .map_err(|source| Error::Model { name: "metrics".to_owned(), source })?;
        let state = Arc::new(state);
        let workers = Workers::start(&state).map_err(|source| Error::Threads { source })?;
        let (stop, stopped) = watch::channel(false);
        let connections = Connections::new(state.clone());
        let mut listeners = JoinSet::new();
        for (_, listener, protocol, tls) in listening {
            let accept = connections.clone().accept(listener, protocol, tls, stopped.clone());
            listeners.spawn_on(accept, runtime.handle());
        }
        let (runtime, workers) = (Some(runtime), Some(workers));
        let server = Self { state, connections, runtime, workers, stop, listeners, http, grpc };
        server.load()?;
        Ok(server)
    }

    /// Loads all models.
    fn load(&self) -> Result<(), Error> {
        for (index, slot) in self.state.slots.iter().enumerate() {
            let start = Instant::now();
            let name = slot.name();
            self.state.load(index).map_err(|source| Error::Model { name: name.to_owned(), source })?;
            tracing::info!(model = name, seconds = start.elapsed().as_secs_f64(), "a model is loaded");
        }
        self.state.set_ready();
        Ok(())
    }

    /// Where HTTP is served.
    pub fn http(&self) -> Option<SocketAddr> {
        self.http
    }

    /// Where gRPC is served.
    pub fn grpc(&self) -> Option<SocketAddr> {
        self.grpc
    }

    /// Loads all models again. Each is served as it was until its successor has answered once, and for good
    /// if that cannot be used. No request is lost.
    pub fn reload(&self) -> Vec<Reloaded> {
        let names = self.state.slots.iter().map(|slot| slot.name().to_owned()).enumerate();
        names.map(|(slot, name)| Reloaded { name, result: self.state.reload(slot) }).collect()
    }

    /// Ends the server. It is not ready any more, goes on accepting and answering for the [time of a lame
    /// duck](ServeOptions::lame_duck), then closes its addresses, answers what was accepted, and ends.
    pub fn stop(mut self) {
        let (lame_duck, drain) = (self.state.options.lame_duck, self.state.options.drain);
        self.state.leave();
        thread::sleep(lame_duck);
        let _ = self.stop.send(true);
        if let Some(runtime) = &self.runtime {
            runtime.block_on(async {
                while self.listeners.join_next().await.is_some() {}
                self.connections.drain(drain).await;
            });
        }
        self.end();
    }

    /// Ends its threads.
    fn end(&mut self) {
        let _ = self.stop.send(true);
        self.state.queue.stop();
        if let Some(workers) = self.workers.take() {
            workers.join();
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}
