//! The one place that turns errors into statuses: `application/problem+json` with a stable code, what is wrong, and what
//! to do. Each code has its paragraph in `docs/errors.md`; a test holds the two together.

use std::borrow::Cow;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, StatusCode};
use serde::Serialize;

/// The header that names the call an answer is about.
pub const MUSTER_CALL: HeaderName = HeaderName::from_static("muster-call");

macro_rules! codes {
    ($($variant:ident $name:literal $status:literal $title:literal)*) => {
        /// What can go wrong with a request.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code { $(#[doc = $title] $variant),* }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Code] = &[$(Code::$variant),*];

            /// Its stable name.
            pub fn name(self) -> &'static str {
                match self { $(Code::$variant => $name),* }
            }

            /// The status it is answered with.
            pub fn status(self) -> StatusCode {
                let number = match self { $(Code::$variant => $status),* };
                StatusCode::from_u16(number).expect("the table above holds valid statuses")
            }

            fn title(self) -> &'static str {
                match self { $(Code::$variant => $title),* }
            }
        }
    };
}

codes! {
    BadRequest "bad_request" 400 "The request is malformed"
    BadJson "bad_json" 400 "The body is not the JSON it should be"
    BadFrame "bad_frame" 400 "The body is not the frames it should be"
    UnknownField "unknown_field" 400 "There is no such field"
    BadField "bad_field" 400 "A field has a value it cannot have"
    Unauthenticated "unauthenticated" 401 "A valid token is needed"
    Forbidden "forbidden" 403 "The token does not allow this"
    ShareForbidden "share_forbidden" 403 "The token may not use the share"
    OriginRefused "origin_refused" 403 "Requests from web pages are refused"
    UnknownRoute "unknown_route" 404 "There is no such route"
    UnknownCall "unknown_call" 404 "There is no such call"
    UnknownHost "unknown_host" 404 "There is no such host"
    UnknownToken "unknown_token" 404 "There is no such token"
    UnknownBlob "unknown_blob" 404 "There is no such blob"
    UnknownSecret "unknown_secret" 404 "There is no such secret"
    NoFunction "no_function" 404 "The call has no function"
    MethodNotAllowed "method_not_allowed" 405 "The route does not take this method"
    NotAcceptable "not_acceptable" 406 "None of the accepted media types can be given"
    SlowRequest "slow_request" 408 "The request did not arrive in time"
    InputsGap "inputs_gap" 409 "Inputs are missing before these"
    InputsClosed "inputs_closed" 409 "The inputs of the call are closed"
    CallEnded "call_ended" 409 "The call has ended"
    InputsDiffer "inputs_differ" 409 "Other inputs came under these indexes"
    HostTaken "host_taken" 409 "A host of this name is connected"
    BlobBusy "blob_busy" 409 "The blob is in use"
    BlobOffset "blob_offset" 409 "The upload does not go on where it broke off"
    TooManySecrets "too_many_secrets" 409 "The owner has as many secrets as one may have"
    CallExpired "call_expired" 410 "Only the record of the call is kept"
    LengthRequired "length_required" 411 "The size must be said first"
    BlobTooLarge "blob_too_large" 413 "The blob is too large"
    TooLarge "too_large" 413 "Too large"
    UnsupportedMediaType "unsupported_media_type" 415 "The body's media type is not taken here"
    DoesNotFit "does_not_fit" 422 "No host is large enough"
    NoSuchShare "no_such_share" 422 "No host has the share"
    NoSuchImage "no_such_image" 422 "No host has this image"
    NoSuchRuntime "no_such_runtime" 422 "No host lets calls choose this runtime"
    NoImageForPython "no_image_for_python" 422 "No image has this version of Python"
    PythonMismatch "python_mismatch" 422 "The image has another Python"
    BlobMismatch "blob_mismatch" 422 "The bytes are not those of the name"
    NestedTooDeep "nested_too_deep" 422 "Calls of functions are nested too deep"
    UpgradeRequired "upgrade_required" 426 "The connection must be upgraded"
    TooManyConnections "too_many_connections" 429 "Too many connections from this address"
    TooManyRequests "too_many_requests" 429 "Too many requests of this token at once"
    TooManyNested "too_many_nested" 429 "Too many calls of functions run"
    HeadersTooLarge "headers_too_large" 431 "The headers are too large"
    Internal "internal" 500 "The gateway failed"
    Damaged "damaged" 500 "What was kept is damaged"
    HostFailed "host_failed" 502 "A host could not run the call"
    NoHosts "no_hosts" 503 "No host is connected"
    Full "full" 503 "The gateway is full"
    Stopping "stopping" 503 "The gateway is stopping"
    BlobsFull "blobs_full" 507 "There is no room for the blob"
    DiskFull "disk_full" 507 "No space is left to keep the call"
}

/// An answer that says what went wrong.
#[derive(Debug)]
pub struct Problem {
    code: Cow<'static, str>,
    status: StatusCode,
    title: &'static str,
    detail: String,
    action: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Serialize)]
struct Wire<'a> {
    r#type: String,
    code: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    action: &'a str,
}

impl Problem {
    /// A problem of this kind: what is wrong with this very request, and what to do about it.
    pub fn new(code: Code, detail: impl Into<String>, action: impl Into<String>) -> Problem {
        Problem {
            code: Cow::Borrowed(code.name()),
            status: code.status(),
            title: code.title(),
            detail: detail.into(),
            action: action.into(),
            headers: Vec::new(),
        }
    }

    /// A field of a user's request that has a value it cannot have.
    pub fn bad_field(field: &str, wrong: impl std::fmt::Display, action: &str) -> Problem {
        Problem::new(Code::BadField, format!("`{field}` {wrong}."), action)
    }

    /// A call that is not there, or not the caller's to see.
    pub fn unknown_call(id: &str) -> Problem {
        Problem::new(
            Code::UnknownCall,
            format!("No call has the id `{id}`."),
            "Check the id; `GET /v1/calls` lists the calls there are. The record of a call goes some time after its end.",
        )
    }

    /// A call whose inputs, function and events are kept no longer.
    pub fn call_expired(id: &str) -> Problem {
        Problem::new(
            Code::CallExpired,
            format!("What the call `{id}` was given, gave and printed is kept no longer; only its record is."),
            "Read its record for how it ended, and submit the call again for its outputs. For how long they are kept, and within how many bytes, is said by the gateway's --keep-background, --keep-foreground and --store-limit.",
        )
        .with_call(id)
    }

    /// A file that the request needs written failed; the log says how.
    pub fn internal() -> Problem {
        Problem::new(
            Code::Internal,
            "The gateway could not do this.",
            "The log of the gateway says why; send the request again when that is mended.",
        )
    }

    /// The request has no good token.
    pub fn unauthenticated() -> Problem {
        Problem::new(
            Code::Unauthenticated,
            "The request has no valid token.",
            "Send `Authorization: Bearer TOKEN`; the gateway wrote a token at its first start.",
        )
        .with_header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"muster\""))
    }

    /// The path has no such method.
    pub fn method_not_allowed(method: &http::Method, allowed: &str) -> Problem {
        let problem = Problem::new(
            Code::MethodNotAllowed,
            format!("This route does not take {method}."),
            format!("Use {allowed}."),
        );
        match HeaderValue::from_str(allowed) {
            Ok(value) => problem.with_header(ALLOW, value),
            Err(_) => problem,
        }
    }

    /// More bytes than are taken.
    pub fn too_large(what: &str, limit_bytes: usize, action: &str) -> Problem {
        Problem::new(
            Code::TooLarge,
            format!("{what} is over the limit of {limit_bytes} bytes."),
            action,
        )
    }

    /// What should be kept cannot be.
    pub fn disk_full() -> Problem {
        Problem::new(
            Code::DiskFull,
            "The gateway has no space left to keep this; nothing of it was taken.",
            "Make room on the gateway's disk, raise --store-limit, or wait until older calls expire; then send it again.",
        )
        .retry_after(30)
    }

    /// The gateway takes nothing new any more.
    pub fn stopping() -> Problem {
        Problem::new(
            Code::Stopping,
            "The gateway is stopping and takes nothing new.",
            "Send it again after the time in `Retry-After`, or to another gateway.",
        )
        .retry_after(5)
    }

    /// How a call itself failed, where the answer has not begun yet.
    pub fn of_call(code: String, message: String, action: String) -> Problem {
        let known = Code::ALL.iter().find(|known| known.name() == code).copied();
        let kind = known.unwrap_or(Code::HostFailed);
        Problem { code: Cow::Owned(code), ..Problem::new(kind, message, action) }
    }

    /// The same with one more header.
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Problem {
        self.headers.push((name, value));
        self
    }

    /// Names the call that it is about.
    pub fn with_call(self, id: &str) -> Problem {
        match HeaderValue::from_str(id) {
            Ok(value) => self.with_header(MUSTER_CALL, value),
            Err(_) => self,
        }
    }

    /// Its stable code.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// What is wrong.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// What to do about it.
    pub fn action(&self) -> &str {
        &self.action
    }

    /// The same, and when to ask again.
    pub fn retry_after(self, seconds: u32) -> Problem {
        self.with_header(RETRY_AFTER, HeaderValue::from(seconds))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let wire = Wire {
            r#type: format!("https://muster.invalid/errors#{}", self.code),
            code: &self.code,
            title: self.title,
            status: self.status.as_u16(),
            detail: &self.detail,
            action: &self.action,
        };
        let mut body = serde_json::to_vec(&wire).expect("texts and numbers always serialise");
        body.push(b'\n');
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        for (name, value) in self.headers {
            headers.append(name, value);
        }
        response
    }
}
