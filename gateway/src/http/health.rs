//! How the gateway is: alive, ready, its metrics, and its own description.

use axum::body::Body;
use axum::response::Response;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use metrics_exporter_prometheus::PrometheusHandle;

use super::problem::{Code, Problem};
use crate::tls::Tls;

const OPENAPI: &str = include_str!("../../openapi.json");

/// `GET /healthz`: the process answers.
pub fn alive() -> Response {
    text("ok\n", "text/plain; charset=utf-8")
}

/// `GET /readyz`: it takes work.
pub fn ready(ready: bool) -> Result<Response, Problem> {
    match ready {
        true => Ok(text("ready\n", "text/plain; charset=utf-8")),
        false => Err(Problem::new(
            Code::Stopping,
            "The gateway does not take work: it is starting or stopping.",
            "Ask again in a moment.",
        )),
    }
}

/// `GET /metrics`.
pub fn metrics(handle: &PrometheusHandle) -> Response {
    text(handle.render(), "text/plain; version=0.0.4; charset=utf-8")
}

/// `GET /openapi.json`.
pub fn openapi() -> Response {
    text(OPENAPI, "application/json")
}

/// `GET /v1/ca.pem`: for whoever knows the pin.
pub fn ca(tls: Option<&Tls>) -> Result<Response, Problem> {
    match tls.filter(|tls| tls.pin().is_some()) {
        Some(tls) => Ok(text(tls.authority().pem().to_owned(), "application/x-pem-file")),
        None => Err(Problem::new(
            Code::NoCa,
            "This gateway's certificate, if it has one, is not signed by an authority of its own.",
            "Use the authority that its operator names, or plain HTTP if it speaks that.",
        )),
    }
}

fn text(body: impl Into<Body>, media_type: &'static str) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}
