//! The way to one host: the agent dialled, now the roles are turned and the gateway is the HTTP/2 client (PROTOCOL.md section 5).
//!
//! [`run`] owns the connection: it reads the host's status until the connection ends. [`HostLink`] opens one exchange per call; each is driven by a task of its own that carries frames from and to the call's owner task. A connection that ends takes its exchanges with it,
//! and each tells its call so, which may ask for it again on the host's next connection (`calls::away`). Whatever comes in on the connection, be it the answer to a ping, is a sign of life of the host; the fleet hears each second whether there was one, and says when the link has to end (`fleet::seats`). Both directions have bounds: a call that is slow to take what a host sends slows that host's exchange by HTTP/2's flow control, and no other.

mod exchange;
mod heard;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use http_body_util::combinators::BoxBody;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use muster_wire::WireError;
use muster_wire::frame::{Decoder, Kind};
use muster_wire::message::{HostStatus, from_json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use exchange::{Exchange, ExchangeName, Inbox, LinkEvent, News};

use crate::calls::machine::LinkId;
use crate::fleet::seats::GIVE_UP_AFTER;
use crate::fleet::{GivenUp, HostState, LinkEvents};
use crate::tasks::Tasks;
use heard::Heard;

/// The largest HOST_STATUS, in bytes.
const MAX_STATUS: usize = 1 << 20;
/// How often the fleet is told whether the host was heard.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A host that says nothing is asked this often.
const PING_EVERY: Duration = Duration::from_secs(4);
/// The fleet gives a silent host up before this.
const PING_WITHIN: Duration = Duration::from_secs(120);

/// Why a connection to a host ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// HTTP/2 failed.
    #[error("the connection to the host failed")]
    Http(#[source] hyper::Error),
    /// The host broke the protocol.
    #[error("the host broke the protocol")]
    Protocol(#[source] WireError),
    /// The host says nothing any more.
    #[error("the host said nothing for {} s", GIVE_UP_AFTER.as_secs())]
    Silent,
    /// The host refused a request.
    #[error("the host answered {0}")]
    Refused(http::StatusCode),
    /// The host was asked for an exchange again and does not say what it holds of it.
    #[error("the host did not say what it holds")]
    NotHeld,
    /// This side gave the exchange up.
    #[error("the exchange was given up")]
    GivenUp,
}

type Body = BoxBody<Bytes, LinkError>;

/// A connected host, for those who open exchanges with it.
#[derive(Debug)]
pub struct HostLink {
    /// Names this connection.
    pub id: LinkId,
    /// The host's name.
    pub host: String,
    state: watch::Sender<HostState>,
    /// This start of the gateway.
    gateway: u64,
    /// Cancelled when the connection has ended.
    over: CancellationToken,
    /// Whether it ended because its host was given up: whoever waits for that to come back waits for nothing.
    given_up: AtomicBool,
    requests: http2::SendRequest<Body>,
    tasks: Tasks,
}

impl HostLink {
    /// Whether it gets anything new. Calls with workers there are told of changes through their placement.
    pub fn state(&self) -> HostState {
        *self.state.borrow()
    }

    /// Waits for the connection's end.
    pub async fn over(&self) {
        self.over.cancelled().await;
    }

    /// Whether the connection has ended because its host was silent for too long.
    pub fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }

    /// The fleet says how the host is.
    pub(crate) fn set_state(&self, state: HostState) {
        self.state.send_replace(state);
    }
}

/// Speaks to a host until its connection ends.
pub async fn run(
    id: LinkId,
    host: String,
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    mut events: LinkEvents,
    tasks: Tasks,
) -> Result<(), LinkError> {
    let heard = Arc::new(AtomicBool::new(false));
    // However this ends, the connection ends with it, and with the connection its exchanges.
    let broken = CancellationToken::new();
    let _breaks = broken.clone().drop_guard();
    let gateway = events.gateway();
    let (mut requests, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(32 << 20)
        .max_frame_size(1 << 20)
        .max_send_buf_size(1 << 20)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_WITHIN)
        .keep_alive_while_idle(true)
        .handshake::<_, Body>(TokioIo::new(Heard::new(io, heard.clone(), broken.clone())))
        .await
        .map_err(LinkError::Http)?;
    let state = watch::Sender::default();
    let link = Arc::new(HostLink {
        id,
        host,
        state,
        gateway,
        over: broken,
        given_up: AtomicBool::new(false),
        requests: requests.clone(),
        tasks,
    });
    let pulse = events.pulse();
    let silence = async {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        loop {
            looks.tick().await;
            if let Err(GivenUp) = pulse.look(heard.swap(false, Ordering::Relaxed)).await {
                link.given_up.store(true, Ordering::Relaxed);
                return Err(LinkError::Silent);
            }
        }
    };
    let status = async {
        let mut request = request("GET", "/v1/status", empty());
        request.headers_mut().insert("muster-gateway", gateway.into());
        let response = requests.send_request(request).await.map_err(LinkError::Http)?;
        if !response.status().is_success() {
            return Err(LinkError::Refused(response.status()));
        }
        let mut body = response.into_body();
        let mut decoder = Decoder::new(MAX_STATUS);
        loop {
            let Some(data) = body.frame().await else { return Ok(()) };
            if let Ok(data) = data.map_err(LinkError::Http)?.into_data() {
                decoder.push(&data);
            }
            while let Some(frame) = decoder.next_frame().map_err(LinkError::Protocol)? {
                if frame.kind == Kind::HostStatus {
                    let mut status: HostStatus =
                        from_json("HOST_STATUS", &frame.body).map_err(LinkError::Protocol)?;
                    status.host.clone_from(&link.host);
                    events.status(&link, status).await;
                }
            }
        }
    };
    tokio::select! {
        ended = connection => ended.map_err(LinkError::Http),
        ended = status => ended,
        silent = silence => silent,
    }
}

fn request(method: &str, path: &str, body: Body) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(format!("http://agent{path}"))
        .body(body)
        .expect("method and path are made of plain characters")
}

fn empty() -> Body {
    http_body_util::Empty::new().map_err(|never| match never {}).boxed()
}
