//! Environments that hosts built for each other: which blob has which.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::StatusCode;
use muster_wire::message::BlobRef;

use super::Front;
use super::fields::Fields;
use super::problem::{Code, Problem};
use super::records::plain_json;
use super::tokens::control_body;
use crate::blobs::{BlobError, BlobId, EnvironmentKey, HOSTS, Key, Look};

/// `GET /v1/environments/{key}`.
pub fn read(front: &Front, key: &str) -> Result<Response, Problem> {
    let key = parse(key)?;
    match front.blobs.environment(&key) {
        Some(blob) => Ok(plain_json::<BlobRef>(&blob)),
        None => Err(Problem::new(
            Code::UnknownBlob,
            "No host has put this environment here, or it has gone since.",
            "Build it, put it as a blob, and name that.",
        )),
    }
}

/// `PUT /v1/environments/{key}`: the blob that it is in, which is whole.
pub async fn put(front: &Front, key: &str, request: Request) -> Result<Response, Problem> {
    const ACTION: &str = "Give the SHA-256 of the blob, 64 lower-case hexadecimal digits.";
    let key = parse(key)?;
    let body = control_body(request).await?;
    let fields = Fields::parse("The environment", &body, &["blob"])?;
    let blob = fields.text("blob", ACTION)?.and_then(|text| BlobId::parse(&text));
    let blob = blob.ok_or_else(|| Problem::bad_field("blob", "is not a SHA-256", ACTION))?;
    let at = Key { owner: HOSTS.to_owned(), id: blob.clone() };
    if !matches!(front.blobs.look(&at), Look::Whole { .. }) {
        return Err(BlobError::Unknown(blob).into());
    }
    front.blobs.name_environment(key, blob);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

fn parse(key: &str) -> Result<EnvironmentKey, Problem> {
    const ACTION: &str = "Name an environment by its 32 lower-case hexadecimal digits.";
    EnvironmentKey::parse(key)
        .ok_or_else(|| Problem::bad_field("key", "is not an environment's", ACTION))
}
