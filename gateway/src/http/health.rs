//! How the gateway is: alive, ready, its metrics, and its own description.

use axum::body::Body;
use axum::response::Response;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use metrics_exporter_prometheus::PrometheusHandle;

use super::problem::{Code, Problem};

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

fn text(body: impl Into<Body>, media_type: &'static str) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}
