//! The one way out of a container that is not its input and output: a socket of ours, on which the user's code asks for data and makes
//! calls of its own, children of the call that it runs for.
//!
//! The problem: a function that calls `remote_parallel_map` needs a gateway and a credential, and no container may have either. And a
//! parent that only waits for its children holds the very cores that they need: a fleet full of parents would stand still.
//!
//! ```text
//!   function ──HTTP──▶ call.sock ──▶ here ──┬─ /v1/data/ID ──▶ fetched by [`crate::data`], mounted into this worker
//!                                           └─ /v1/calls, /v1/blobs ──with this host's credential and `Muster-Parent`──▶ gateway
//!
//!   a worker:  computing ──opens a stream of a child──▶ waiting: its cores are lent ──the stream ends──▶ computing
//! ```
//!
//! Who owns what: each claimed worker has one task here, which owns its listener, and one [`Nested`], which knows its children and the
//! inputs that made them: the SDK names its input, and the call's driver says which are not answered. What may be asked is the
//! gateway's to decide: it takes such requests only for a call that it has given to this host, and only about children of that
//! call. Everything that comes from a container is hostile: of a request only the method, the path and a few named headers go on.
//!
//! When parts fail: an input ends that has left children running, or its worker does, however that happens: they are cancelled. The call ends: the gateway
//! cancels all its children. The agent is killed: its link falls, the call loses what ran here, and its end takes the children along. The gateway cannot be reached: 502, and the SDK
//! tries again.
//!
//! Cores come back at once when a wait ends, even where somebody else has them meanwhile: for that long the host runs more than it has,
//! and gives no new room until the debt is paid ([`crate::capacity`]). Memory is never lent: a parent keeps what it uses.
//!
//! Not here: depth, fan-out and whose calls they are (the gateway's); what a child costs its owner.

mod children;
mod proxy;
mod waiting;

use std::convert::Infallible;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use muster_wire::message::CallError;
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::container::{ClaimError, MountFolder, RoomGuard};
use crate::data::Data;
use crate::link::Client;
use crate::tasks::Tasks;

use children::Children;
use waiting::Waiting;

/// Connections of one container at once.
const CONNECTIONS: usize = 64;
/// For the head of a request; the rest takes what it takes.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
const DATA: &str = "/v1/data/";

type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// What the requests of one worker need.
#[derive(Debug)]
pub struct Nested {
    call: String,
    client: Client,
    data: Data,
    mounts: Weak<Mutex<MountFolder>>,
    waiting: Waiting,
    children: Mutex<Children>,
    tasks: Tasks,
}

impl Nested {
    /// For a worker of this call.
    pub fn new(
        call: &str,
        client: Client,
        data: Data,
        mounts: Weak<Mutex<MountFolder>>,
        room: Weak<RoomGuard>,
        tasks: Tasks,
    ) -> Nested {
        let (waiting, children) = (Waiting::new(room), Mutex::default());
        Nested { call: call.to_owned(), client, data, mounts, waiting, children, tasks }
    }

    /// These are the inputs that the worker has and has not answered: what others have left running ends.
    pub fn runs(self: &Arc<Nested>, inputs: Range<u64>) {
        for child in self.children().running(inputs) {
            let nested = self.clone();
            self.tasks.spawn(async move { nested.cancel(&child).await });
        }
    }

    /// Answers until the worker ends, and then cancels what its function left running.
    pub async fn serve(self: Arc<Nested>, listener: UnixListener, worker: CancellationToken) {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                biased;
                () = worker.cancelled() => break,
                () = self.tasks.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let (Ok((stream, _)), Ok(permit)) = (accepted, room.clone().try_acquire_owned()) else {
                continue;
            };
            let (nested, worker) = (self.clone(), worker.clone());
            self.tasks.spawn(async move {
                let service = hyper::service::service_fn(|request| {
                    let nested = nested.clone();
                    async move { Ok::<_, Infallible>(nested.answer(request).await) }
                });
                let mut server = hyper::server::conn::http1::Builder::new();
                server.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
                tokio::select! {
                    biased;
                    () = worker.cancelled() => {}
                    // What a container does to its own connection concerns nobody else.
                    _ = server.serve_connection(TokioIo::new(stream), service) => {}
                }
                drop(permit);
            });
        }
        let children = self.children().all();
        for child in children {
            self.cancel(&child).await;
        }
    }

    async fn answer(self: Arc<Nested>, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        if let Some(id) = path.strip_prefix(DATA) {
            return match self.bring(id).await {
                Ok(()) => plain(StatusCode::NO_CONTENT, Bytes::new()),
                Err(error) => problem(StatusCode::FAILED_DEPENDENCY, &error.to_call_error()),
            };
        }
        match proxy::wanted(&request) {
            Some(wanted) => self.forward(request, wanted).await,
            None => problem(
                StatusCode::NOT_FOUND,
                &CallError {
                    code: "unknown_route".into(),
                    message:
                        "A function in a container may make calls and share data, nothing else."
                            .into(),
                    action: "Ask the gateway from outside.".into(),
                },
            ),
        }
    }

    /// Has this worker see a blob that nobody knew before that it would need.
    async fn bring(&self, id: &str) -> Result<(), ClaimError> {
        let blob = self.data.may(&self.call, id).await?;
        let kept = self.data.get(&self.call, &blob, |_| {}).await?;
        let Some(mounts) = self.mounts.upgrade() else { return Err(ClaimError::Stopping) };
        let mut mounts = mounts.lock().unwrap_or_else(PoisonError::into_inner);
        let name = crate::data::mount_name(&blob.id);
        match mounts.has(&name) {
            true => Ok(()),
            false => {
                mounts.mount(&name, kept).map_err(|source| ClaimError::Mount { what: name, source })
            }
        }
    }

    async fn forward(
        self: Arc<Nested>,
        request: Request<Incoming>,
        wanted: proxy::Wanted,
    ) -> Response<Body> {
        let streams = wanted == proxy::Wanted::Stream;
        let waits = streams.then(|| self.waiting.begin());
        let makes = *request.method() == Method::POST && request.uri().path() == proxy::CALLS;
        let input = proxy::input(request.headers());
        let mut child = proxy::child_of_path(request.uri().path());
        let answer = self.client.send(proxy::request(request, &self.call)).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                return problem(
                    StatusCode::BAD_GATEWAY,
                    &CallError {
                        code: "host_failed".into(),
                        message: crate::chain(&error),
                        action: "Try again; the host cannot reach the gateway now.".into(),
                    },
                );
            }
        };
        let (mut head, body) = answer.into_parts();
        if makes {
            child = proxy::child(&head.headers);
            if let Some(child) = &child
                && !self.children().made(child, input)
            {
                self.cancel(child).await;
            }
        }
        head.headers.remove(header::CONNECTION);
        head.headers.remove(header::TRANSFER_ENCODING);
        // The wait ends with the stream, however that ends.
        let body = body.map_frame(move |frame| {
            let _ = &waits;
            frame
        });
        // A child's events end with it; where they break off this is not reached.
        let ended = async move {
            if let Some(child) = child.filter(|_| streams) {
                self.children().ended(&child);
            }
            None
        };
        Response::from_parts(head, BodyExt::boxed_unsync(body.with_trailers(ended)))
    }

    async fn cancel(&self, child: &str) {
        let request = Request::builder()
            .method(Method::DELETE)
            .uri(format!("{}/{child}", proxy::CALLS))
            .header(proxy::PARENT, &self.call)
            .body(Empty::<Bytes>::new());
        // An id that is no path was never a call's.
        let Ok(request) = request else { return };
        if let Err(error) = self.client.ask(request).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(call = self.call, child, error, "child not cancelled");
        }
    }

    fn children(&self) -> MutexGuard<'_, Children> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn plain(status: StatusCode, body: Bytes) -> Response<Body> {
    let body = Full::new(body).map_err(|never| match never {});
    let mut response = Response::new(BodyExt::boxed_unsync(body));
    *response.status_mut() = status;
    response
}

fn problem(status: StatusCode, error: &CallError) -> Response<Body> {
    let body = serde_json::json!({
        "code": error.code, "status": status.as_u16(), "title": error.message,
        "detail": error.message, "action": error.action,
    });
    let mut response = plain(status, body.to_string().into());
    let kind = header::HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
