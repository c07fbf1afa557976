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
use super::routes::Route;
use crate::auth::Identity;
use crate::calls::{CallHandle, CallRecord, CancelError, PastCall};
use crate::store::StoreError;

/// How many expired calls a list has.
const PAST_LISTED: u32 = 1_000;

#[derive(Serialize)]
struct List {
    calls: Vec<CallRecord>,
}

/// A call that somebody asks for.
pub enum Found {
    /// Whole.
    Here(CallHandle),
    /// It has expired.
    Past(Box<PastCall>),
}

impl Found {
    /// Where there is more of it than its record.
    pub fn whole(self) -> Result<CallHandle, Problem> {
        match self {
            Found::Here(call) => Ok(call),
            Found::Past(call) => Err(Problem::call_expired(&call.record.id)),
        }
    }
}

/// `GET /v1/calls`: newest first, the caller's own (an admin: everybody's); after those that are whole the newest that have expired.
pub async fn list(front: &Front, who: &Identity, request: Request) -> Result<Response, Problem> {
    Query::parse(request.uri().query(), &[], &[])?;
    let past = front.calls.past_calls(who.sees_only(), PAST_LISTED).await.map_err(unread)?;
    let handles = front.calls.handles();
    let seen = handles.iter().filter(|call| who.sees(call.owner()));
    let whole = seen.map(CallHandle::record);
    Ok(plain_json(&List { calls: whole.chain(past.into_iter().map(|call| call.record)).collect() }))
}

/// The call, if it is there and the caller's to see; the two are not told apart.
pub async fn find(front: &Front, who: &Identity, id: &str) -> Result<Found, Problem> {
    if let Some(call) = front.calls.get(id) {
        let seen = Some(call).filter(|call| who.sees(call.owner()));
        return seen.map(Found::Here).ok_or_else(|| Problem::unknown_call(id));
    }
    let past = front.calls.past(id).await.map_err(unread)?;
    let seen = past.filter(|call| who.sees(&call.owner));
    seen.map(|call| Found::Past(Box::new(call))).ok_or_else(|| Problem::unknown_call(id))
}

fn unread(error: StoreError) -> Problem {
    tracing::error!(error = crate::chain(&error), "records of expired calls could not be read");
    Problem::internal()
}

/// Whether a request is about a call that is there, and somebody else's: it is told what [`find`] tells, and the audit log tells the rest.
pub fn is_foreign(front: &Front, who: &Identity, route: &Route, id: &str) -> bool {
    let call = route.path.starts_with("/v1/calls/{id}").then(|| front.calls.get(id)).flatten();
    call.is_some_and(|call| !who.sees(call.owner()))
}

/// `GET /v1/calls/{id}`.
pub fn read(call: &Found) -> Response {
    match call {
        Found::Here(call) => json(&call.record(), call.id()),
        Found::Past(call) => json(&call.record, &call.record.id),
    }
}

/// `DELETE /v1/calls/{id}`.
pub async fn cancel(call: &Found) -> Result<Response, Problem> {
    if let Found::Here(call) = call {
        let cancelled = call.cancel_for_good().await;
        cancelled.map_err(|why| not_for_good(&why).with_call(call.id()))?;
    }
    let mut response = read(call);
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
        tracing::error!(
            call = call.id(),
            error = crate::chain(&error),
            "stored function could not be read"
        );
        match error.is_loss() {
            true => Problem::new(
                Code::Damaged,
                "The function of this call was damaged on the gateway's disk.",
                "Submit the call again, and have the disk looked at.",
            ),
            false => Problem::internal(),
        }
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
