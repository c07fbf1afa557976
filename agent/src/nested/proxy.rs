//! What of a container's request goes on to the gateway. Pure.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};

/// The header that names the call whose function asks.
pub const PARENT: HeaderName = HeaderName::from_static("muster-parent");
const CALL: HeaderName = HeaderName::from_static("muster-call");
/// The header in which the SDK names the input that asks; for us alone.
const INPUT: HeaderName = HeaderName::from_static("muster-input");
/// Where calls are made, and below which they are found.
pub const CALLS: &str = "/v1/calls";

/// Headers that mean something to the gateway and that the function's SDK sends.
const PASSED: [HeaderName; 7] = [
    header::ACCEPT,
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::RANGE,
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("last-event-id"),
];
const FRAMES: &str = "application/vnd.muster.frames";

/// What a request is about, if it may go on at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The events of a child: whoever reads them waits for it.
    Stream,
    /// Anything else.
    Other,
}

/// Whether a request may go on.
pub fn wanted<B>(request: &Request<B>) -> Option<Wanted> {
    let path = request.uri().path();
    // Dots have no meaning in our paths, and one to whoever reads them otherwise.
    if path.contains("..") || path.contains('%') {
        return None;
    }
    let streams = request.headers().get(header::ACCEPT).is_some_and(|accept| accept == FRAMES);
    match path.strip_prefix(CALLS) {
        Some("") => (*request.method() == Method::POST).then_some(if streams {
            Wanted::Stream
        } else {
            Wanted::Other
        }),
        Some(rest) if rest.starts_with('/') => {
            Some(if rest.ends_with("/events") { Wanted::Stream } else { Wanted::Other })
        }
        Some(_) => None,
        None => path.starts_with("/v1/blobs/").then_some(Wanted::Other),
    }
}

/// The request as the gateway gets it.
pub fn request<B>(request: Request<B>, call: &str) -> Request<B> {
    let (head, body) = request.into_parts();
    let mut passed = Request::new(body);
    *passed.method_mut() = head.method;
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    *passed.uri_mut() = target.parse().unwrap_or_default();
    let headers = passed.headers_mut();
    for name in PASSED {
        if let Some(value) = head.headers.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    headers.extend(HeaderValue::from_str(call).ok().map(|call| (PARENT, call)));
    passed
}

/// The call that an answer names.
pub fn child(headers: &HeaderMap) -> Option<String> {
    headers.get(CALL)?.to_str().ok().map(str::to_owned)
}

/// The input that asks, where that is said.
pub fn input(headers: &HeaderMap) -> Option<u64> {
    headers.get(INPUT)?.to_str().ok()?.parse().ok()
}

/// The call whose events a path names.
pub fn child_of_path(path: &str) -> Option<String> {
    let child = path.strip_prefix(CALLS)?.strip_prefix('/')?.strip_suffix("/events")?;
    Some(child.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: Method, target: &str, accept: &str) -> Option<Wanted> {
        let request = Request::builder().method(method).uri(target).header("accept", accept);
        wanted(&request.body(()).expect("a request"))
    }

    #[test]
    fn only_calls_and_blobs_are_asked_for() {
        assert_eq!(asked(Method::POST, "/v1/calls", FRAMES), Some(Wanted::Stream));
        assert_eq!(asked(Method::GET, "/v1/calls/c-1/events?after=2", "x"), Some(Wanted::Stream));
        assert_eq!(asked(Method::DELETE, "/v1/calls/c-1", "x"), Some(Wanted::Other));
        assert_eq!(asked(Method::PUT, "/v1/blobs/00", "x"), Some(Wanted::Other));
        for target in ["/v1/hosts", "/v1/tokens", "/v1/callsign", "/metrics", "/", "/v1/blobs"] {
            assert_eq!(asked(Method::GET, target, "x"), None, "{target}");
        }
        for target in ["/v1/calls/../hosts", "/v1/blobs/%2e%2e/tokens"] {
            assert_eq!(asked(Method::GET, target, "x"), None, "{target}");
        }
        assert_eq!(asked(Method::GET, "/v1/calls", "x"), None, "calls of others are not listed");
    }

    #[test]
    fn a_path_names_the_call_whose_events_it_leads_to() {
        assert_eq!(child_of_path("/v1/calls/c-1/events").as_deref(), Some("c-1"));
        for path in ["/v1/calls", "/v1/calls/c-1", "/v1/calls/c-1/inputs", "/v1/blobs/c/events"] {
            assert_eq!(child_of_path(path), None, "{path}");
        }
    }

    #[test]
    fn nothing_that_says_who_asks_comes_from_the_container() {
        let hostile = Request::builder()
            .uri("/v1/calls/c-1?x=1")
            .header("authorization", "Bearer stolen")
            .header("muster-parent", "c-other")
            .header("muster-call", "c-other")
            .header("muster-host", "other")
            .header("muster-input", "7")
            .header("range", "bytes=1-");
        let hostile = hostile.body(()).expect("a request");
        assert_eq!(input(hostile.headers()), Some(7));
        let passed = request(hostile, "c-own");
        assert_eq!(passed.uri(), "/v1/calls/c-1?x=1");
        let names: Vec<_> = passed.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["range", "muster-parent"]);
        assert_eq!(passed.headers()[PARENT], "c-own");
    }
}
