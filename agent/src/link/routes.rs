//! What the gateway may ask of us, once linked.

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use muster_wire::FRAMES_TYPE;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::status;
use crate::call::Workers;
use crate::call::line::{Connection, Exchange, Lines, NotHeld, Owner};
use crate::status::Board;
use crate::tasks::Tasks;

/// Chunks on their way to the gateway, per stream; past this, its flow control holds the call back.
const CHUNKS: usize = 16;
const CALLS: &str = "/v1/calls/";
/// Names the exchange of a call.
const EXCHANGE: &str = "muster-exchange";
/// Names the start of the gateway.
const GATEWAY: &str = "muster-gateway";
/// How much of the response the gateway has taken: it asks for an exchange again.
const TAKEN: &str = "muster-taken";

type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// The handlers and what they need.
#[derive(Debug)]
pub struct Routes<W> {
    /// This host's name.
    pub host: String,
    /// Its status.
    pub board: Board,
    /// Where streams of status run.
    pub tasks: Tasks,
    /// Where calls run.
    pub calls: Tasks,
    /// Where workers come from.
    pub workers: W,
    /// The exchanges of calls, of this connection and of those before.
    pub lines: Lines,
    /// This connection.
    pub connection: Connection,
}

impl<W: Workers> Routes<W> {
    /// Answers at once; what follows streams.
    pub fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path();
        match (request.method(), path.strip_prefix(CALLS)) {
            (&Method::GET, None) if path == "/v1/status" => {
                self.lines.linked(number(&request, GATEWAY).unwrap_or(0));
                self.status()
            }
            (&Method::POST, Some(call)) if !call.is_empty() && !call.contains('/') => {
                self.call(request)
            }
            _ => refusal(StatusCode::NOT_FOUND, "this agent has no such route"),
        }
    }

    fn status(&self) -> Response<Body> {
        let (out, chunks) = mpsc::channel(1);
        let board = self.board.watch();
        // Ends with its stream, or with the link.
        self.tasks.spawn(status::stream(board, out, self.tasks.token()));
        streaming(chunks)
    }

    fn call(&self, request: Request<Incoming>) -> Response<Body> {
        let (out, chunks) = mpsc::channel(CHUNKS);
        // A gateway that does not name the exchange never asks for it again.
        let id = number(&request, EXCHANGE).unwrap_or_else(rand::random);
        let owner = number(&request, GATEWAY).map_or(Owner::Store, Owner::Gateway);
        let taken = number(&request, TAKEN);
        let body = request.into_body().into_data_stream();
        let body = Box::pin(body.map_err(|error| error.to_string()));
        let exchange = Exchange { id, owner, connection: self.connection.clone(), body, out };
        if let Some(taken) = taken {
            return match self.lines.resume(exchange, taken) {
                Ok(()) => streaming(chunks),
                Err(NotHeld) => refusal(StatusCode::NOT_FOUND, "this exchange is not here"),
            };
        }
        if self.board.watch().borrow().draining {
            return refusal(StatusCode::SERVICE_UNAVAILABLE, "this host is stopping");
        }
        let (workers, host, tasks) = (self.workers.clone(), self.host.clone(), self.calls.clone());
        let line = self.lines.open(exchange);
        self.calls.spawn(crate::call::serve(workers, host, tasks, line));
        streaming(chunks)
    }
}

fn number(request: &Request<Incoming>, header: &str) -> Option<u64> {
    request.headers().get(header)?.to_str().ok()?.parse().ok()
}

fn streaming(chunks: mpsc::Receiver<Bytes>) -> Response<Body> {
    let frames = ReceiverStream::new(chunks).map(|chunk| Ok(Frame::data(chunk)));
    let mut response = Response::new(BodyExt::boxed_unsync(StreamBody::new(frames)));
    let kind = header::HeaderValue::from_static(FRAMES_TYPE);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn refusal(status: StatusCode, why: &'static str) -> Response<Body> {
    let mut response = Response::new(BodyExt::boxed_unsync(Full::from(why)));
    *response.status_mut() = status;
    response
}
