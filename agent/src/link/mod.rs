//! The link to the gateway. We dial, because hosts may sit where nobody can dial them; then the roles turn, and the gateway
//! calls us over that connection: HTTP/2, one stream per call (PROTOCOL.md section 5).
//!
//! ```text
//!   away ──dial──▶ offered ──101──▶ linked: serves /v1/status and /v1/calls/ID
//!    ▲  wait, longer each time  │ refused           │ lost
//!    └──────────────────────────┴───────────────────┘ its calls go on, for 120 s ([`crate::call::line`])
//! ```
//!
//! [`dial`] gets and keeps the credential and dials with it, [`ask`] says what answers mean. [`client`] asks the gateway plain questions over connections of their own, with the same credential.
//!
//! Who owns what: one critical task dials, for ever. hyper owns the connection; each stream's handler is a task of the
//! `calls` group, so that a stop can wait for running calls and then cancel them.
//!
//! When parts fail: the gateway is away: dial again, after 0.1 s and then longer, at most 10 s, never in step with other
//! agents. It refuses us (wrong token, name taken): said once per refusal, with what to do, and tried again slowly, because
//! an operator can mend it there. The network is silent: nothing is
//! given up for 120 s, and calls run on; what they send waits in TCP. The gateway gives this host's inputs to others after a
//! minute, and then a connection that comes to life again is one that it has closed. After 120 s without the answer to a ping
//! the link is lost, and its calls with it, so that a host that is cut off ends its containers by itself. A connection that
//! breaks sooner is dialled again, and calls go on over the next. A stream is reset while its connection is there: its call is
//! cancelled.
//!
//! Not here: what a call is ([`crate::call`]).

mod ask;
mod backoff;
pub mod client;
mod connect;
mod dial;
pub mod identity;
mod marked;
mod routes;
mod socket;
mod status;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};

pub use ask::DialError;
pub use client::{Client, ClientError};
pub use connect::Connect;
pub use dial::{Dial, JoinBy, Source};

use crate::call::Workers;
use crate::call::line::{Connection, Lines};
use crate::status::Board;
use crate::tasks::Tasks;

use backoff::Backoff;
use marked::Marked;
use routes::Routes;

const STREAM_WINDOW: u32 = 8 << 20;
const CONNECTION_WINDOW: u32 = 32 << 20;
const FRAME: u32 = 1 << 20;
const SEND_BUFFER: usize = 4 << 20;
/// Calls and the status; a gateway that asks for more at once waits.
const STREAMS: u32 = 1024;
/// How long after a renewal that failed.
const RENEW_AGAIN: Duration = Duration::from_secs(60);
/// Between renewals at least, and how often to look whether this host has joined.
const RENEW_PAUSE: Duration = Duration::from_secs(1);
const PING_EVERY: Duration = Duration::from_secs(10);
/// A gateway that does not answer a ping for this long is gone: two minutes after its last word this host stops its containers
/// itself, which by then others run.
const PING_WITHIN: Duration = Duration::from_secs(110);

/// Keeps this host linked to its gateway.
#[derive(Debug)]
pub struct Link<W, D = Dial> {
    dial: Arc<D>,
    board: Board,
    tasks: Tasks,
    calls: Tasks,
    workers: W,
    lines: Lines,
}

impl<W: Workers, D: Connect> Link<W, D> {
    /// A link that is not dialled yet. `tasks` are its own, `calls` those of running calls.
    pub fn new(dial: Arc<D>, board: Board, workers: W, tasks: Tasks, calls: Tasks) -> Link<W, D> {
        Link { dial, board, tasks, calls, workers, lines: Lines::default() }
    }

    /// Dials, serves, and dials again, until the stop.
    pub async fn run(self) {
        let stop = self.tasks.token();
        let mut backoff = Backoff::default();
        loop {
            let linked = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                linked = self.dial.connect() => linked,
            };
            let pause = match linked {
                Ok(connection) => {
                    tracing::info!(gateway = self.dial.gateway(), "linked");
                    let since = tokio::time::Instant::now();
                    self.serve(connection).await;
                    if stop.is_cancelled() {
                        return;
                    }
                    tracing::warn!(gateway = self.dial.gateway(), "link lost");
                    backoff.was_linked(since.elapsed());
                    backoff.after_loss(rand::random())
                }
                Err(error) => {
                    let pause = backoff.after(&error, rand::random());
                    tracing::warn!(
                        gateway = self.dial.gateway(),
                        error = &error as &dyn std::error::Error,
                        retry_in = ?pause,
                        "not linked"
                    );
                    pause
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Until the connection ends, whoever ends it.
    async fn serve(&self, connection: D::Io) {
        let marks = Connection::begin();
        let routes = Arc::new(Routes {
            host: self.dial.host().to_string(),
            board: self.board.clone(),
            tasks: self.tasks.clone(),
            calls: self.calls.clone(),
            workers: self.workers.clone(),
            lines: self.lines.clone(),
            connection: marks.clone(),
        });
        let service = hyper::service::service_fn(move |request| {
            let routes = routes.clone();
            async move { Ok::<_, std::convert::Infallible>(routes.answer(request)) }
        });
        let mut server = hyper::server::conn::http2::Builder::new(self.tasks.clone());
        server
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME)
            .max_send_buf_size(SEND_BUFFER)
            .max_concurrent_streams(STREAMS)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_WITHIN);
        let connection = TokioIo::new(Marked::new(TokioIo::new(connection), marks));
        let serving = server.serve_connection(connection, service);
        let mut serving = std::pin::pin!(serving);
        let ended = tokio::select! {
            biased;
            () = self.tasks.cancelled() => {
                serving.as_mut().graceful_shutdown();
                // Streams still open are cut when the connection falls.
                match tokio::time::timeout(Duration::from_secs(2), serving).await {
                    Ok(ended) => ended,
                    Err(_) => Ok(()),
                }
            }
            ended = &mut serving => ended,
        };
        if let Err(error) = ended {
            tracing::debug!(error = &error as &dyn std::error::Error, "link ended badly");
        }
    }
}

/// Renews this host's credential in time, until the stop.
pub async fn stay_joined(dial: Arc<Dial>, tasks: Tasks) {
    loop {
        let wait = dial.until_renewal().unwrap_or_default().max(RENEW_PAUSE);
        tokio::select! {
            biased;
            () = tasks.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        if dial.until_renewal().is_none_or(|wait| !wait.is_zero()) {
            continue;
        }
        if let Err(error) = dial.renew().await {
            {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, retry_in = ?RENEW_AGAIN, "credential not renewed");
            }
            tokio::select! {
                biased;
                () = tasks.cancelled() => return,
                () = tokio::time::sleep(RENEW_AGAIN) => {}
            }
        }
    }
}
