//! Connections: accepted up to a limit, served as HTTP/1.1 or HTTP/2, and ended in an orderly way.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::guard::MAX_HEADERS;
use crate::tasks::Tasks;

/// Limits of the listener.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Connections at once; more wait to be accepted.
    pub connections: usize,
    /// How long a connection may take to say its first byte, and a request to say its headers.
    pub header_timeout: Duration,
    /// How long answers may go on once the gateway stops.
    pub grace: Duration,
}

impl Default for ServerConfig {
    fn default() -> ServerConfig {
        ServerConfig {
            connections: 10_000,
            header_timeout: Duration::from_secs(10),
            grace: Duration::from_secs(30),
        }
    }
}

/// Who is at the other end of a connection; every request has it among its extensions.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Where from.
    pub address: SocketAddr,
}

const STREAMS: u32 = 128;
const STREAM_WINDOW: u32 = 8 << 20;
const CONNECTION_WINDOW: u32 = 32 << 20;
const FRAME: u32 = 1 << 20;
const MAX_HEADER_LIST: u32 = 32 << 10;
/// How long to wait after the system refused us a connection: it is out of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections until the tasks are asked to stop. Connections that are open then end with the answers they are
/// giving, or with the grace period.
pub async fn serve(listener: TcpListener, router: Router, tasks: Tasks, config: ServerConfig) {
    let permits = Arc::new(Semaphore::new(config.connections));
    loop {
        let accepted = tokio::select! {
            biased;
            () = tasks.stopping() => return,
            accepted = accept(&listener, &permits) => accepted,
        };
        let Some((stream, address, permit)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // Small answers must not wait for more to send.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(error = crate::chain(&error), "a connection went away at once");
            continue;
        }
        let peer = Peer { address };
        let connection =
            connection(stream, peer, permit, router.clone(), tasks.clone(), config.clone());
        tasks.spawn(connection);
    }
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = permits.clone().acquire_owned().await.expect("the semaphore is never closed");
    match listener.accept().await {
        Ok((stream, address)) => Some((stream, address, permit)),
        Err(error) => {
            tracing::warn!(error = crate::chain(&error), "a connection could not be accepted");
            None
        }
    }
}

async fn connection(
    stream: TcpStream,
    peer: Peer,
    permit: OwnedSemaphorePermit,
    router: Router,
    tasks: Tasks,
    config: ServerConfig,
) {
    // Hyper waits for ever for the first byte, whatever its timeouts say.
    let mut first = [0];
    let spoke = tokio::select! {
        biased;
        () = tasks.stopping() => return,
        spoke = timeout(config.header_timeout, stream.peek(&mut first)) => spoke,
    };
    if !matches!(spoke, Ok(Ok(1))) {
        return;
    }
    let builder = builder(config.header_timeout);
    let service = TowerToHyperService::new(router.into_service());
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        service.call(request)
    });
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        biased;
        ended = serving.as_mut() => Some(ended),
        () = tasks.stopping() => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            serving.as_mut().graceful_shutdown();
            // Past the grace period the connection is dropped as it is.
            timeout(config.grace, serving).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = crate::chain(error.as_ref()), "a connection ended in an error");
    }
    drop(permit);
}

fn builder(header_timeout: Duration) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_headers(MAX_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_header_list_size(MAX_HEADER_LIST)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}
