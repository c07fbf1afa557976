//! The stream of a call's events, in the form the client likes best.
//!
//! What is there is joined into pieces of about 16 KiB: what waits for a client that takes little by little is a few of these. When there is no more, what was joined leaves at once, so a lone
//! event never waits. The reader of the log lives in the body: when the client goes, hyper drops it, and the call knows.

use std::collections::VecDeque;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::accept::{self, EventForm};
use super::problem::Problem;
use super::query::Query;
use super::render_json::{JsonRenderer, Wrap};
use super::{records, render_frames};
use crate::calls::{CallHandle, Entry, EventReader};

/// Pieces are joined up to this many bytes.
const PIECE: usize = 16 << 10;

/// `GET /v1/calls/{id}/events`.
pub fn read(call: &CallHandle, request: &Request) -> Result<Response, Problem> {
    let form = accept::event_form(request.headers())?;
    let after = cursor(request.uri().query(), request.headers().get("last-event-id"))?;
    let record = call.record();
    if after > record.seq {
        return Err(Problem::bad_field(
            "after",
            format!("is {after}, and the last event of this call is {}", record.seq),
            "Give the `seq` of the last event you have, or 0 for all.",
        ));
    }
    if form == EventForm::Sse && after == record.seq && record.state.is_end() {
        // An EventSource connects again after every end, until it is told that there is nothing.
        let mut response = StatusCode::NO_CONTENT.into_response();
        records::name_call(response.headers_mut(), call.id());
        return Ok(response);
    }
    Ok(stream(call, form, after))
}

/// The events after `after`, live until the end.
pub fn stream(call: &CallHandle, form: EventForm, after: u64) -> Response {
    let encoding = call.spec().encoding;
    let state = EventStream {
        reader: call.events(after),
        render: match form {
            EventForm::Ndjson => Render::Json(JsonRenderer::new(Wrap::Ndjson, encoding, after)),
            EventForm::Sse => Render::Json(JsonRenderer::new(Wrap::Sse, encoding, after)),
            EventForm::Frames => Render::Frames,
        },
        out: BytesMut::new(),
        ready: match form {
            EventForm::Sse => VecDeque::from([Bytes::from_static(b"retry: 1000\n\n")]),
            _ => VecDeque::new(),
        },
        ended: false,
    };
    let pieces = stream::unfold(state, |mut state| async move {
        let piece = state.next().await?;
        Some((Ok::<Bytes, std::convert::Infallible>(piece), state))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(form.media_type()));
    not_to_be_kept(headers);
    records::name_call(headers, call.id());
    response
}

/// Says that neither a cache nor a proxy's buffer should hold the body.
pub fn not_to_be_kept(headers: &mut HeaderMap) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
}

/// The last event that the reader has: by the query, or by the `Last-Event-ID` of an EventSource.
pub fn cursor(query: Option<&str>, last: Option<&HeaderValue>) -> Result<u64, Problem> {
    const ACTION: &str = "Give the `seq` of the last event you have, a whole number.";
    let query = Query::parse(query, &["after"], &[])?;
    if let Some(after) = query.whole("after", ACTION)? {
        return Ok(after);
    }
    let Some(value) = last else { return Ok(0) };
    match value.to_str().unwrap_or("?").trim() {
        "" => Ok(0),
        text => text.parse().map_err(|_| {
            Problem::bad_field("Last-Event-ID", format!("is {text:?}, not a number"), ACTION)
        }),
    }
}

enum Render {
    Json(JsonRenderer),
    Frames,
}

struct EventStream {
    reader: EventReader,
    render: Render,
    out: BytesMut,
    ready: VecDeque<Bytes>,
    ended: bool,
}

impl EventStream {
    /// The next piece of the body. Not cancel-safe, and never cancelled but by dropping the whole stream.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Some(piece);
            }
            self.join();
            if !self.out.is_empty() && self.ready.is_empty() {
                return Some(self.out.split().freeze());
            }
            if self.ready.is_empty() {
                if self.ended {
                    return None;
                }
                match self.reader.next().await {
                    Some(entry) => self.render(entry),
                    None => self.ended = true,
                }
            }
        }
    }

    /// Joins what is there without waiting.
    fn join(&mut self) {
        while self.out.len() < PIECE && self.ready.is_empty() {
            match &mut self.render {
                Render::Json(json) if json.has_more() => json.more(&mut self.out),
                _ => match self.reader.try_next() {
                    Some(entry) => self.render(entry),
                    None => return,
                },
            }
        }
    }

    fn render(&mut self, entry: Entry) {
        match &mut self.render {
            Render::Json(json) => json.entry(entry, &mut self.out),
            Render::Frames => render_frames::entry(entry, &mut self.out, &mut self.ready),
        }
    }
}
