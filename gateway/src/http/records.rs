//! Records of calls, and the small JSON answers.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;

use super::Front;
use super::problem::{Code, MUSTER_CALL, Problem};
use super::query::Query;
use crate::auth::Identity;
use crate::calls::{CallHandle, CallRecord, CancelError};

#[derive(Serialize)]
struct List {
    calls: Vec<CallRecord>,
}

/// `GET /v1/calls`: newest first, the caller's own (an admin: everybody's).
pub fn list(front: &Front, who: &Identity, request: &Request) -> Result<Response, Problem> {
    Query::parse(request.uri().query(), &[], &[])?;
    let handles = front.calls.handles();
    let seen = handles.iter().filter(|call| who.sees(call.owner()));
    let calls = seen.map(CallHandle::record).collect();
    Ok(plain_json(&List { calls }))
}

/// The call, if it is there and the caller's to see; the two are not told apart.
pub fn find(front: &Front, who: &Identity, id: &str) -> Result<CallHandle, Problem> {
    let call = front.calls.get(id).filter(|call| who.sees(call.owner()));
    call.ok_or_else(|| Problem::unknown_call(id))
}

/// `GET /v1/calls/{id}`.
pub fn read(call: &CallHandle) -> Response {
    json(&call.record(), call.id())
}

/// `DELETE /v1/calls/{id}`.
pub async fn cancel(call: &CallHandle) -> Result<Response, Problem> {
    let cancelled = call.cancel_for_good().await;
    cancelled.map_err(|why| not_for_good(&why).with_call(call.id()))?;
    let mut response = json(&call.record(), call.id());
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

fn not_for_good(why: &CancelError) -> Problem {
    match why {
        CancelError::Stopping => Problem::stopping(),
        CancelError::NoSpace => Problem::new(
            Code::DiskFull,
            "The call is cancelled, but the gateway has no space left to keep that: a gateway that is started now would go on with the call.",
            "Make room on the gateway's disk, then cancel it again.",
        )
        .retry_after(30),
    }
}

/// `GET /v1/calls/{id}/function`.
pub async fn function(call: &CallHandle) -> Result<Response, Problem> {
    let function = call.function().await.map_err(|error| {
        let error = crate::chain(&error);
        tracing::error!(call = call.id(), error, "stored function could not be read");
        Problem::new(
            Code::Internal,
            "The function of this call could not be read from the store.",
            "Look into the gateway's log.",
        )
    })?;
    if function.is_empty() {
        return Err(Problem::new(
            Code::NoFunction,
            "This call runs a command; it has no function.",
            "Read the call's record for what it runs.",
        )
        .with_call(call.id()));
    }
    let mut response = Response::new(Body::from(function));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    name_call(headers, call.id());
    Ok(response)
}

/// The answer to a background call that was created.
pub fn created(call: &CallHandle) -> Response {
    let mut response = json(&call.record(), call.id());
    *response.status_mut() = StatusCode::CREATED;
    if let Ok(location) = HeaderValue::try_from(format!("/v1/calls/{}", call.id())) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// A JSON answer about a call.
pub fn json<T: Serialize>(value: &T, id: &str) -> Response {
    let mut response = plain_json(value);
    name_call(response.headers_mut(), id);
    response
}

/// A JSON answer.
pub fn plain_json<T: Serialize>(value: &T) -> Response {
    let mut body = serde_json::to_vec(value).expect("our records have string keys");
    body.push(b'\n');
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Names the call an answer is about.
pub fn name_call(headers: &mut HeaderMap, id: &str) {
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.insert(MUSTER_CALL, value);
    }
}
