//! `POST /v1/calls`: from a body to a call and the stream of its events, in one round trip.
//!
//! A call of frames is made as soon as SPEC and FUNCTION are there. What has come of its inputs by then is read before
//! that, so that mistakes in a small body are told instead of a call being made. The rest is given to the call by a task of
//! its own while the answer streams: a client may send everything before it reads anything.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use futures_util::FutureExt;
use http::HeaderMap;
use muster_wire::batch::Inputs;
use muster_wire::frame::{Frame, Kind};
use muster_wire::message::{CallKind, CallSpec};
use muster_wire::pieces::Pieces;
use tokio::sync::OwnedSemaphorePermit;

use super::accept::{self, BodyForm};
use super::call_request::{self, CallRequest, Form};
use super::feed::{Piece, feed};
use super::problem::{Code, Problem};
use super::record::Repeated;
use super::request_body::{self, Arrival, FrameReader};
use super::{Front, events, nested, records, shares};
use crate::auth::Identity;
use crate::calls::{CallHandle, Created, NewCall};

/// The largest JSON body.
pub const MAX_JSON: usize = 8 << 20;
/// Room for the hashes of a long lock file.
const MAX_SPEC: usize = 2 << 20;
const MAX_KEY: usize = 128;
/// How much of the inputs is read before the call is made.
const READ_AHEAD: usize = 1 << 20;

/// Creates a call.
pub async fn create(
    front: &Front,
    who: Identity,
    parent: Option<CallHandle>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let key = idempotency_key(&parts.headers)?;
    let mut arriving = match accept::body_form(&parts.headers, &[BodyForm::Json, BodyForm::Frames])?
    {
        BodyForm::Frames => Arriving::of_frames(body).await?,
        _ => Arriving::of_json(body).await?,
    };
    let background = arriving.request.options.background;
    if background && parent.is_some() {
        return Err(Problem::bad_field(
            "background",
            "is set by a function in a call",
            "A call that a function makes ends with it; wait for it, or make it from outside.",
        ));
    }
    let form = match background {
        true => None,
        false => Some(accept::event_form(&parts.headers)?),
    };
    shares::may_use(&who, &arriving.request.spec.shares)?;
    arriving.request.options.share_limit = who.share_limit().map(<[String]>::to_vec);
    let (data, pin) = front.blobs.claim(&who.owner, std::mem::take(&mut arriving.request.data))?;
    let mut spec = CallSpec { data, ..arriving.request.spec };
    nested::complete(&mut spec, parent.as_ref().map(CallHandle::spec));
    let new = NewCall {
        spec,
        options: arriving.request.options,
        key,
        owner: who.owner.clone(),
        function: arriving.function,
        pin: Some(Arc::new(pin)),
        parent,
    };
    let is_nested = new.parent.is_some();
    let (call, repeated) = match front.calls.create(new).await? {
        Created::New(call) => (call, false),
        Created::Existing(call) => {
            // What follows are inputs for it, whatever this request says of shares.
            shares::may_use(&who, &call.spec().shares)?;
            (call, true)
        }
    };
    if is_nested {
        nested::watch(front, &call);
    }
    // Nobody else knows a new call yet, so this request has the first turn; later ones wait until its body is read.
    let first_turn = if repeated { None } else { Some(call.turn().await) };
    let answer = |mut response: Response| {
        if repeated {
            response.extensions_mut().insert(Repeated);
        }
        response
    };
    let Some(form) = form else {
        let _turn = turn(&call, first_turn).await;
        let fed = feed(&call, arriving.ready, arriving.rest.as_mut()).await;
        if let Err(problem) = told(&call, fed, repeated) {
            if problem.code() == Code::DiskFull.name() && !repeated {
                front.calls.withdraw(&call).await;
                return Err(problem);
            }
            return Err(problem.with_call(call.id()));
        }
        return Ok(answer(records::created(&call)));
    };
    let response = answer(events::stream(&call, form, 0));
    let mut feeding = Box::pin(async move {
        let _turn = turn(&call, first_turn).await;
        let fed = feed(&call, arriving.ready, arriving.rest.as_mut()).await;
        if let Err(problem) = told(&call, fed, repeated) {
            let (code, detail) = (problem.code(), problem.detail());
            tracing::info!(call = call.id(), code, detail, "inputs were refused");
        }
    });
    // A small call is on its way to a host before its answer begins.
    if feeding.as_mut().now_or_never().is_none() {
        front.tasks.spawn(feeding);
    }
    tokio::task::yield_now().await;
    Ok(response)
}

/// The turn to give inputs: the one that came with a new call, or the next.
async fn turn(call: &CallHandle, first: Option<OwnedSemaphorePermit>) -> OwnedSemaphorePermit {
    match first {
        Some(turn) => turn,
        None => call.turn().await,
    }
}

/// What is left to tell of how the inputs were taken. A body that makes no sense cancels its call, as nobody could
/// finish it; one that broke off does not: its client may come back.
fn told(call: &CallHandle, fed: Result<(), Problem>, repeated: bool) -> Result<(), Problem> {
    let Err(problem) = fed else { return Ok(()) };
    match problem.code() {
        // The first request of this key gave them already, or the call's end says why it took no more.
        "inputs_closed" if repeated => Ok(()),
        "call_ended" => Ok(()),
        // It can be sent again when there is room, or another gateway.
        "bad_request" | "disk_full" | "stopping" => Err(problem),
        _ => {
            call.cancel();
            Err(problem)
        }
    }
}

/// What has come of a request.
struct Arriving {
    request: CallRequest,
    function: Bytes,
    ready: Vec<Piece>,
    rest: Option<FrameReader>,
}

impl Arriving {
    async fn of_json(body: Body) -> Result<Arriving, Problem> {
        const ACTION: &str = "Create the call with `\"more_inputs\": true`, and send inputs to /v1/calls/{id}/inputs.";
        let body = request_body::whole(body, "The body", MAX_JSON, ACTION, Arrival::Steady).await?;
        let mut request = call_request::parse(&body, Form::Json)?;
        let function = request.source.take().unwrap_or_default().into();
        let inputs = std::mem::take(&mut request.inputs);
        let total = inputs.len() as u64;
        let mut ready = Vec::with_capacity(2);
        if total > 0 {
            ready.push(Piece::Inputs(Inputs::from_items(0, 0, &inputs)));
        }
        if !request.more_inputs {
            ready.push(Piece::End(total));
        }
        Ok(Arriving { request, function, ready, rest: None })
    }

    async fn of_frames(body: Body) -> Result<Arriving, Problem> {
        let mut reader = FrameReader::new(body);
        let spec = expected(&mut reader, Kind::Spec).await?;
        if spec.body.len() > MAX_SPEC {
            return Err(Problem::too_large("The SPEC frame", MAX_SPEC, "Send a smaller SPEC."));
        }
        let request = call_request::parse(&spec.body.joined(), Form::Frames)?;
        let function = match request.spec.kind {
            CallKind::Command => Bytes::new(),
            _ => expected(&mut reader, Kind::Function).await?.body.joined(),
        };
        let mut ready = Vec::new();
        let mut next = 0;
        let mut bytes = 0;
        while bytes < READ_AHEAD {
            let Some(frame) = reader.next().now_or_never() else { break };
            let Some(frame) = frame? else {
                return Ok(Arriving { request, function, ready, rest: None });
            };
            bytes += frame.wire_len();
            let piece = Piece::of_frame(frame)?;
            next = follow(next, &piece)?;
            ready.push(piece);
        }
        Ok(Arriving { request, function, ready, rest: Some(reader) })
    }
}

/// Index of the next input after this piece, in a body that begins with the first.
fn follow(next: u64, piece: &Piece) -> Result<u64, Problem> {
    let (found, then) = match piece {
        Piece::Inputs(inputs) => (inputs.first, inputs.end()),
        Piece::Skip(first, count) => (*first, first + count),
        Piece::End(total) => (*total, next),
    };
    match found > next {
        true => Err(crate::calls::PushError::Gap { expected: next }.into()),
        false => Ok(then.max(next)),
    }
}

async fn expected(reader: &mut FrameReader, kind: Kind) -> Result<Frame<Pieces>, Problem> {
    let frame = reader.next_soon().await?;
    match frame {
        Some(frame) if frame.kind == kind => Ok(frame),
        other => Err(Problem::new(
            Code::BadFrame,
            match other {
                Some(frame) => {
                    format!("A {:?} frame came where {kind:?} was expected.", frame.kind)
                }
                None => format!("The body ends before its {kind:?} frame."),
            },
            "Send SPEC, then FUNCTION (not for commands), then INPUTS and INPUTS_END.",
        )),
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| !key.is_empty() && key.len() <= MAX_KEY);
    key.map(|key| Some(key.to_owned())).ok_or_else(|| {
        Problem::bad_field(
            "Idempotency-Key",
            "is not a key",
            "Send 1 to 128 printable ASCII characters, for example a UUID.",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_must_begin_at_the_first_and_leave_no_gap() {
        let inputs = |first| Piece::Inputs(Inputs::from_items(first, 0, &[b"a", b"b"]));
        assert_eq!(follow(0, &inputs(0)).expect("follows"), 2);
        assert_eq!(follow(2, &inputs(0)).expect("taken already"), 2);
        assert_eq!(follow(2, &Piece::End(2)).expect("the end"), 2);
        assert_eq!(follow(0, &inputs(1)).expect_err("a gap").code(), "inputs_gap");
        assert_eq!(follow(2, &Piece::End(3)).expect_err("a gap").code(), "inputs_gap");
    }

    #[test]
    fn keys_are_held_to_their_length() {
        let of = |key: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("idempotency-key", key.parse().expect("a value"));
            idempotency_key(&headers)
        };
        assert_eq!(of("a-b").expect("a key").as_deref(), Some("a-b"));
        assert!(of("").is_err());
        assert!(of(&"x".repeat(MAX_KEY + 1)).is_err());
        assert_eq!(idempotency_key(&HeaderMap::new()).expect("none"), None);
    }
}
