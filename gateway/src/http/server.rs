//! Connections: accepted up to a limit, plain or over TLS, served as HTTP/1.1 or HTTP/2, and ended in an orderly way.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::CONNECTION;
use http::{HeaderValue, Request, StatusCode, Version};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncBufReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use super::guard::MAX_HEADERS;
use super::limits::{self, Counts};
use super::pace::{Pace, PaceConfig, PacedBody};
use super::problem::{Code, Problem};
use super::watched::{Below, Watched};
use crate::tasks::Tasks;
use crate::tls::{HostKey, Tls};

/// Limits of the listener.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Connections at once; more wait to be accepted.
    pub connections: usize,
    /// Connections at once from one address; more are answered 429. This machine is not counted.
    pub per_address: usize,
    /// How long a connection may take to say its first byte, and a request to say its headers.
    pub header_timeout: Duration,
    /// How long a connection may be without a request.
    pub idle_timeout: Duration,
    /// How long an answer may wait to be taken; who takes little by little has all the time.
    pub stall_timeout: Duration,
    /// How long answers may go on once the gateway stops.
    pub grace: Duration,
    /// Speaks TLS; without it connections are plain.
    pub tls: Option<Tls>,
}

impl Default for ServerConfig {
    fn default() -> ServerConfig {
        ServerConfig {
            connections: 10_000,
            per_address: 1_000,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(60),
            grace: Duration::from_secs(30),
            tls: None,
        }
    }
}

/// Who is at the other end of a connection; every request has it among its extensions.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Where from.
    pub address: SocketAddr,
    /// The host whose certificate it showed.
    pub host: Option<Arc<HostKey>>,
}

const STREAMS: u32 = 128;
const STREAM_WINDOW: u32 = 8 << 20;
const CONNECTION_WINDOW: u32 = 32 << 20;
const FRAME: u32 = 1 << 20;
const MAX_HEADER_LIST: u32 = 32 << 10;
/// Bytes of an answer that wait for a client to take them, per connection of HTTP/1.1 and per stream of HTTP/2; also what is read
/// at once. The kernel holds as many again that it has not sent.
const WAITING: usize = 64 << 10;
/// How long to wait after the system refused us a connection: it is out of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections until the tasks are asked to stop. Connections that are open then end with the answers they are
/// giving, or with the grace period.
pub async fn serve(listener: TcpListener, router: Router, tasks: Tasks, config: ServerConfig) {
    let permits = Arc::new(Semaphore::new(config.connections));
    let addresses = Counts::new(config.per_address);
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
        // The kernel sees best that a client is gone to which little is written; and it would hold megabytes for one that is slow. What it
        // holds for a client that takes 1 KiB a second is taken within this time.
        let socket = socket2::SockRef::from(&stream);
        if let Err(error) = socket
            .set_tcp_user_timeout(Some(2 * config.stall_timeout))
            .and_then(|()| socket.set_tcp_notsent_lowat(WAITING as u32))
        {
            tracing::debug!(error = crate::chain(&error), "clients that are gone are seen late");
        }
        let peer = Peer { address, host: None };
        let crowded = limits::counted(address.ip()).map(|address| addresses.take(&address));
        let router = match crowded {
            Some(None) => Router::new().fallback(too_many_connections),
            _ => router.clone(),
        };
        let held = (permit, crowded.flatten());
        tasks.spawn(connection(stream, peer, held, router, tasks.clone(), config.clone()));
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

/// All that a connection over its address's limit is told.
async fn too_many_connections() -> Response {
    let problem = Problem::new(
        Code::TooManyConnections,
        "This address has as many connections as one address may have.",
        "Use fewer connections, and close those that are not used; try again after the time in `Retry-After`.",
    );
    let mut response = problem.retry_after(1).into_response();
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Serves one connection; `held` is what it holds until its end.
async fn connection<H>(
    stream: TcpStream,
    peer: Peer,
    held: H,
    router: Router,
    tasks: Tasks,
    config: ServerConfig,
) {
    let opened = tokio::select! {
        biased;
        () = tasks.stopping() => return,
        opened = timeout(config.header_timeout, open(stream, config.tls.as_ref())) => opened,
    };
    match opened {
        Ok(Some(Opened::Plain(stream))) => talk(stream, peer, router, tasks, config).await,
        Ok(Some(Opened::Secret(stream, host))) => {
            let peer = Peer { host: host.map(Arc::new), ..peer };
            talk(stream, peer, router, tasks, config).await;
        }
        _ => {}
    }
    drop(held);
}

/// A connection whose first byte of a request is there.
enum Opened {
    Plain(TcpStream),
    Secret(Box<TlsStream<TcpStream>>, Option<HostKey>),
}

/// The handshake, if there is one, and the first byte: hyper waits for that for ever, whatever its timeouts say.
async fn open(stream: TcpStream, tls: Option<&Tls>) -> Option<Opened> {
    let Some(tls) = tls else {
        return matches!(stream.peek(&mut [0]).await, Ok(1)).then_some(Opened::Plain(stream));
    };
    match tls.accept(stream).await {
        Ok((stream, host)) => {
            let mut stream = Box::new(stream);
            let spoke = stream.fill_buf().await.is_ok_and(|first| !first.is_empty());
            spoke.then_some(Opened::Secret(stream, host))
        }
        Err(error) => {
            tracing::debug!(error = crate::chain(&error), "a handshake failed");
            None
        }
    }
}

/// Speaks HTTP on a connection until its end.
async fn talk(stream: impl Below, peer: Peer, router: Router, tasks: Tasks, config: ServerConfig) {
    let pace = Pace::new();
    let limits = PaceConfig {
        head: config.header_timeout,
        idle: config.idle_timeout,
        stall: config.stall_timeout,
    };
    let builder = builder(config.idle_timeout.max(config.header_timeout));
    let stream = TokioIo::new(Watched::new(stream, pace.clone()));
    let serving = builder.serve_connection_with_upgrades(stream, paced(router, peer, pace.clone()));
    tokio::pin!(serving);
    let ended = tokio::select! {
        biased;
        ended = serving.as_mut() => Some(ended),
        late = pace.overdue(&limits) => {
            metrics::counter!("muster_http_overdue_total", "late_with" => late).increment(1);
            return;
        }
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
}

/// The router for one connection, whose pace is told of every request and answer.
fn paced(
    router: Router,
    peer: Peer,
    pace: Pace,
) -> impl Service<
    Request<Incoming>,
    Response = http::Response<PacedBody<Body>>,
    Error = Infallible,
    Future = impl Future<Output = Result<http::Response<PacedBody<Body>>, Infallible>> + Send,
> {
    let service = TowerToHyperService::new(router.into_service());
    service_fn(move |mut request: Request<Incoming>| {
        let answering = pace.request(request.version() == Version::HTTP_2);
        request.extensions_mut().insert(peer.clone());
        let (answer, pace) = (service.call(request), pace.clone());
        async move {
            let answer = answer.await?;
            if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                pace.upgraded();
            }
            Ok(answer.map(|body| PacedBody::new(body, answering)))
        }
    })
}

/// Hyper's own timer for heads runs while a connection is idle too; ours is in [`Pace`].
fn builder(idle_timeout: Duration) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(idle_timeout)
        .max_buf_size(WAITING)
        .max_headers(MAX_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_send_buf_size(WAITING)
        .max_header_list_size(MAX_HEADER_LIST)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}
