//! Blobs: bytes in, from where an upload broke off, and out, from wherever a reader is.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use futures_util::stream;
use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body::Body as _;

use super::problem::{Code, MUSTER_CALL, Problem};
use super::{Front, nested, request_body};
use crate::auth::Identity;
use crate::blobs::{Begun, BlobError, BlobId, HOSTS, Key, Look};

/// How many bytes of an upload are there.
const MUSTER_OFFSET: HeaderName = HeaderName::from_static("muster-offset");

/// `PUT /v1/blobs/{sha256}`: the whole blob, or `Content-Range: bytes FIRST-LAST/TOTAL` of it.
pub async fn put(
    front: &Front,
    who: &Identity,
    id: &str,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, mut body) = request.into_parts();
    let key = Key { owner: owner(front, who, &parts.headers)?, id: parse(id)? };
    let (offset, total) = range_of(&parts.headers, body.size_hint().exact())?;
    let mut upload = match front.blobs.put(key, offset, total).await? {
        Begun::Whole(size) => return Ok(answer(StatusCode::OK, Look::Whole { size })),
        Begun::Upload(upload) => upload,
    };
    let read = loop {
        match request_body::next_bytes(&mut body).await {
            Ok(Some(bytes)) => upload.push(bytes).await?,
            Ok(None) => break Ok(()),
            // What came is kept: the client goes on from there.
            Err(problem) => break Err(problem),
        }
    };
    let look = upload.finish().await?;
    read?;
    Ok(match look {
        Look::Whole { .. } => answer(StatusCode::CREATED, look),
        Look::Partial { .. } => answer(StatusCode::ACCEPTED, look),
    })
}

/// `GET` and `HEAD /v1/blobs/{sha256}`; `Range: bytes=FIRST-` begins there.
pub fn read(
    front: &Front,
    who: &Identity,
    id: &str,
    request: &Request,
) -> Result<Response, Problem> {
    let key = Key { owner: owner(front, who, request.headers())?, id: parse(id)? };
    let size = match front.blobs.look(&key) {
        Look::Whole { size } => size,
        Look::Partial { have } => {
            let problem = Problem::from(BlobError::Unknown(key.id));
            return Err(problem.with_header(MUSTER_OFFSET, HeaderValue::from(have)));
        }
    };
    let from = begin_of(request.headers(), size)?;
    let mut response = match *request.method() == Method::HEAD {
        true => Response::new(Body::empty()),
        false => {
            let download = front.blobs.read(&key, from.unwrap_or(0))?;
            Response::new(Body::from_stream(stream::unfold(download, async |mut download| {
                let next = download.next().await?;
                Some((next.inspect_err(told), download))
            })))
        }
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(size - from.unwrap_or(0)));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Some(from) = from {
        let range = format!("bytes {from}-{}/{size}", size - 1);
        if let Ok(range) = HeaderValue::try_from(range) {
            headers.insert(CONTENT_RANGE, range);
        }
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

/// `DELETE /v1/blobs/{sha256}`.
pub async fn remove(front: &Front, who: &Identity, id: &str) -> Result<Response, Problem> {
    let key = Key { owner: who.owner.clone(), id: parse(id)? };
    front.blobs.remove(&key).await?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// Whose blobs the request is about: the caller's own; for an agent those of the call it names, or those that hosts make for each other.
fn owner(front: &Front, who: &Identity, headers: &HeaderMap) -> Result<String, Problem> {
    if !who.is_host() {
        return Ok(who.owner.clone());
    }
    let Some(call) = headers.get(MUSTER_CALL) else { return Ok(HOSTS.to_owned()) };
    let call = nested::given(front, who, call.to_str().unwrap_or_default())?;
    Ok(call.owner().to_owned())
}

fn parse(id: &str) -> Result<BlobId, Problem> {
    const ACTION: &str = "Name a blob by its SHA-256, 64 lower-case hexadecimal digits.";
    BlobId::parse(id).ok_or_else(|| Problem::bad_field("sha256", "is not a SHA-256", ACTION))
}

/// Where a body begins, and how large the whole blob is.
fn range_of(headers: &HeaderMap, length: Option<u64>) -> Result<(u64, u64), Problem> {
    const ACTION: &str = "Send `Content-Range: bytes FIRST-LAST/TOTAL`, or the whole blob with its `Content-Length`.";
    let Some(range) = headers.get(CONTENT_RANGE) else {
        let length = length.ok_or_else(|| {
            Problem::new(
                Code::LengthRequired,
                "The body's size is not known before its end.",
                ACTION,
            )
        })?;
        return Ok((0, length));
    };
    let parsed = range.to_str().ok().and_then(|text| {
        let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last, total): (u64, u64, u64) =
            (first.parse().ok()?, last.parse().ok()?, total.parse().ok()?);
        let fits = first <= last && last < total;
        (fits && length.is_none_or(|length| length == last - first + 1)).then_some((first, total))
    });
    parsed
        .ok_or_else(|| Problem::bad_field("Content-Range", "is not the range of this body", ACTION))
}

/// Where a reader wants to begin, if it says so.
fn begin_of(headers: &HeaderMap, size: u64) -> Result<Option<u64>, Problem> {
    let Some(range) = headers.get(RANGE) else { return Ok(None) };
    let from = range.to_str().ok().and_then(|text| {
        text.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok().filter(|from| *from < size)
    });
    from.map(Some).ok_or_else(|| {
        const ACTION: &str =
            "Send `Range: bytes=FIRST-`, FIRST less than the blob's size, or none.";
        Problem::bad_field("Range", "is not a range that is given here", ACTION)
    })
}

fn answer(status: StatusCode, look: Look) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    let (Look::Whole { size: have } | Look::Partial { have }) = look;
    response.headers_mut().insert(MUSTER_OFFSET, HeaderValue::from(have));
    response
}

/// The reader sees only that the answer broke off.
fn told(error: &BlobError) {
    tracing::error!(error = crate::chain(error), "a blob could not be read");
}

impl From<BlobError> for Problem {
    fn from(error: BlobError) -> Problem {
        let detail =
            format!("{}{}.", error.to_string()[..1].to_uppercase(), &error.to_string()[1..]);
        match error {
            BlobError::Unknown(_) => Problem::new(
                Code::UnknownBlob,
                detail,
                "Put it (again): blobs go some time after their last use, and each owner sees their own.",
            ),
            BlobError::Busy(_) => Problem::new(
                Code::BlobBusy,
                detail.replace("being uploaded", "being uploaded, or used,"),
                "Ask again in a moment where the upload is (`HEAD`), and go on from there.",
            )
            .retry_after(1),
            BlobError::Offset { have, .. } => Problem::new(
                Code::BlobOffset,
                detail,
                format!("Send the bytes from {have} on, with `Content-Range`."),
            )
            .with_header(MUSTER_OFFSET, HeaderValue::from(have)),
            BlobError::TooLarge { .. } => Problem::new(
                Code::BlobTooLarge,
                detail,
                "Share less at once, or raise the gateway's --blob-limit; data on a file system that all hosts reach is a share.",
            ),
            BlobError::Full { .. } => Problem::new(
                Code::BlobsFull,
                detail,
                "Delete blobs that nobody needs, wait until old ones expire, or raise the gateway's --blobs-limit.",
            ),
            BlobError::DiskFull => Problem::new(
                Code::BlobsFull,
                detail,
                "Make room on the disk of the gateway's state folder, or delete blobs that nobody needs.",
            ),
            BlobError::Mismatch(_) => Problem::new(
                Code::BlobMismatch,
                detail,
                "Send it again from its first byte; check how the SHA-256 was made.",
            ),
            BlobError::Store(_) => {
                tracing::error!(error = crate::chain(&error), "blobs failed");
                Problem::new(Code::Internal, detail, "Look at the gateway's log.")
            }
        }
    }
}
