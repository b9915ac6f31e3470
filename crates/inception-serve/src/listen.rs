//! Connections: accepted, decrypted, watched, and closed in good order.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::error::{BoxError, Error};
use crate::options::TlsFiles;
use crate::state::State;
use crate::{grpc, http};

/// What is spoken on an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http,
    Grpc,
}

impl Protocol {
    /// Its name within TLS.
    fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http => b"http/1.1",
            Self::Grpc => b"h2",
        }
    }
}

/// Streams of an HTTP/2 connection: requests of one client at the same time.
const STREAMS: u32 = 128;

/// Bytes of the head of a request.
const HEAD: usize = 32 << 10;

/// What encrypts the connections of `protocol`.
pub(crate) fn tls(files: &TlsFiles, protocol: Protocol) -> Result<TlsAcceptor, Error> {
    let fail = |path: &Path| {
        let path = path.to_owned();
        move |source: BoxError| Error::Tls { path, source }
    };
    let certificates = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| fail(&files.certificate)(error.into()))?;
    if certificates.is_empty() {
        return Err(fail(&files.certificate)("there is no certificate in it".into()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| fail(&files.key)(error.into()))?;
    // Named, since another crate of the program may have brought another one.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, key));
    let mut config = config.map_err(|error| fail(&files.certificate)(error.into()))?;
    config.alpn_protocols = vec![protocol.alpn().to_vec()];
    Ok(Arc::new(config).into())
}

/// What the listeners of a server share.
pub(crate) struct Connections {
    state: Arc<State>,
    room: Arc<Semaphore>,
    graceful: Mutex<Option<GracefulShutdown>>,
}

impl Connections {
    pub fn new(state: Arc<State>) -> Arc<Self> {
        let room =
            Arc::new(Semaphore::new(state.options.limits.connections.clamp(1, Semaphore::MAX_PERMITS)));
        Arc::new(Self { state, room, graceful: Mutex::new(Some(GracefulShutdown::new())) })
    }

    fn watcher(&self) -> Option<Watcher> {
        self.graceful.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(GracefulShutdown::watcher)
    }

    /// Accepts connections until it is told to stop, and then those that the system has accepted already.
    pub async fn accept(
        self: Arc<Self>,
        listener: TcpListener,
        protocol: Protocol,
        tls: Option<TlsAcceptor>,
        mut stop: watch::Receiver<bool>,
    ) {
        loop {
            let accepted = tokio::select! {
                accepted = self.accept_one(&listener) => accepted,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            self.take(accepted, protocol, tls.as_ref()).await;
        }
        while let Ok(accepted) = timeout(Duration::ZERO, self.accept_one(&listener)).await {
            self.take(accepted, protocol, tls.as_ref()).await;
        }
    }

    /// A connection, when there is room for it.
    async fn accept_one(
        &self,
        listener: &TcpListener,
    ) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
        let room = self.room.clone().acquire_owned().await.map_err(io::Error::other)?;
        let (stream, _) = listener.accept().await?;
        Ok((stream, room))
    }

    async fn take(
        self: &Arc<Self>,
        accepted: io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)>,
        protocol: Protocol,
        tls: Option<&TlsAcceptor>,
    ) {
        let (stream, room) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, for example. Connections that end make room.
                tracing::warn!(%error, "a connection was not accepted");
                sleep(Duration::from_millis(20)).await;
                return;
            }
        };
        let Some(watcher) = self.watcher() else { return };
        let (connections, tls) = (self.clone(), tls.cloned());
        tokio::spawn(async move {
            let _room = room;
            connections.state.metrics.connections.inc();
            connections.serve(stream, protocol, tls, watcher).await;
            connections.state.metrics.connections.dec();
        });
    }

    async fn serve(&self, stream: TcpStream, protocol: Protocol, tls: Option<TlsAcceptor>, watcher: Watcher) {
        let idle = self.state.options.limits.idle;
        // Answers are small, and are written at once.
        let _ = stream.set_nodelay(true);
        let answering = Answering::default();
        let stream = Watched::new(stream, idle, answering.clone());
        match tls {
            None => self.speak(stream, protocol, watcher, answering).await,
            Some(tls) => match timeout(idle, tls.accept(stream)).await {
                Ok(Ok(stream)) => self.speak(stream, protocol, watcher, answering).await,
                Ok(Err(error)) => tracing::debug!(%error, "no TLS"),
                Err(_) => tracing::debug!("no TLS in time"),
            },
        }
    }

    async fn speak<S>(&self, stream: S, protocol: Protocol, watcher: Watcher, answering: Answering)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = Builder::new(TokioExecutor::new());
        let stream = TokioIo::new(stream);
        let state = &self.state;
        let ended = match protocol {
            Protocol::Http => {
                builder = builder.http1_only();
                let mut http1 = builder.http1();
                http1.timer(TokioTimer::new()).header_read_timeout(state.options.limits.idle);
                http1.max_buf_size(HEAD).half_close(false);
                let service = service_fn(|request| answering.during(http::serve(state.clone(), request)));
                watcher.watch(builder.serve_connection(stream, service)).await
            }
            Protocol::Grpc => {
                builder = builder.http2_only();
                let mut http2 = builder.http2();
                http2.timer(TokioTimer::new()).max_concurrent_streams(STREAMS);
                http2.max_header_list_size(HEAD as u32).max_pending_accept_reset_streams(STREAMS as usize);
                let service = service_fn(|request| answering.during(grpc::serve(state.clone(), request)));
                watcher.watch(builder.serve_connection(stream, service)).await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(error, "a connection ended");
        }
    }

    /// Tells all connections to end after the request that they are at, and waits for it, up to `longest`.
    pub async fn drain(&self, longest: Duration) {
        let graceful = self.graceful.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(graceful) = graceful else { return };
        let open = graceful.count();
        if timeout(longest, graceful.shutdown()).await.is_err() {
            tracing::warn!(open, "connections were still open at the end");
        }
    }
}

/// How many requests of a connection are being answered.
#[derive(Clone, Default)]
struct Answering(Arc<AtomicUsize>);

impl Answering {
    /// `answer`, counted until it is there or nobody wants it any more.
    fn during<F: Future>(&self, answer: F) -> impl Future<Output = F::Output> + use<F> {
        let one = One::of(self);
        async move {
            let _one = one;
            answer.await
        }
    }
}

/// One of them.
struct One(Answering);

impl One {
    fn of(answering: &Answering) -> Self {
        answering.0.fetch_add(1, Ordering::Relaxed);
        Self(answering.clone())
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream on which something has to move now and then, unless the server is about to answer: bodies have a
/// limit of their own, and an answer may take its time where many wait.
struct Watched<S> {
    stream: S,
    idle: Duration,
    end: Pin<Box<Sleep>>,
    answering: Answering,
}

impl<S> Watched<S> {
    fn new(stream: S, idle: Duration, answering: Answering) -> Self {
        Self { stream, idle, end: Box::pin(sleep(idle)), answering }
    }

    /// What came of an operation; an error if it waits for too long.
    fn watch<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.end.as_mut().reset(Instant::now() + self.idle);
            return poll;
        }
        while self.end.as_mut().poll(cx).is_ready() {
            if self.answering.0.load(Ordering::Relaxed) == 0 {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.end.as_mut().reset(Instant::now() + self.idle);
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.watch(cx, poll)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(cx, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.watch(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.watch(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
