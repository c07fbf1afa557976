//! What the gateway may ask of us, once linked.

use bytes::Bytes;
use futures_util::StreamExt;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use muster_wire::FRAMES_TYPE;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::status;
use crate::call::Workers;
use crate::status::Board;
use crate::tasks::Tasks;

/// Chunks on their way to the gateway, per stream; past this, its flow control holds the call back.
const CHUNKS: usize = 16;
const CALLS: &str = "/v1/calls/";

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
}

impl<W: Workers> Routes<W> {
    /// Answers at once; what follows streams.
    pub fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path();
        match (request.method(), path.strip_prefix(CALLS)) {
            (&Method::GET, None) if path == "/v1/status" => self.status(),
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
        if self.board.watch().borrow().draining {
            return refusal(StatusCode::SERVICE_UNAVAILABLE, "this host is stopping");
        }
        let (out, chunks) = mpsc::channel(CHUNKS);
        let body = request.into_body().into_data_stream();
        let (workers, host, tasks) = (self.workers.clone(), self.host.clone(), self.calls.clone());
        self.calls.spawn(crate::call::serve(workers, host, tasks, body, out));
        streaming(chunks)
    }
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
