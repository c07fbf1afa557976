//! `POST /v1/calls/{id}/inputs`: more inputs for a call that runs already, read only as fast as it takes them.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use muster_wire::MAX_ITEM;
use muster_wire::batch::Inputs;
use muster_wire::message::{CallKind, Encoding};

use super::accept::{self, BodyForm};
use super::feed::{Piece, feed};
use super::problem::{Code, Problem};
use super::query::Query;
use super::request_body::{FrameReader, LineReader};
use super::{json_inputs, records};
use crate::calls::CallHandle;

/// Lines are handed over in batches of about this many bytes.
const BATCH_BYTES: usize = 256 << 10;
const BATCH_LINES: usize = 10_000;

/// Appends inputs; answers with how many the call has now.
pub async fn append(call: &CallHandle, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let last = Query::parse(parts.uri.query(), &["last"], &[])?.flag("last")?;
    let form = accept::body_form(&parts.headers, &[BodyForm::Frames, BodyForm::Ndjson])?;
    let _turn = call.turn().await;
    match form {
        BodyForm::Frames => feed(call, Vec::new(), Some(&mut FrameReader::new(body))).await?,
        _ => lines(call, body).await?,
    }
    let inputs = match last {
        true => call.end_inputs(None).await?,
        false => call.next_index().await,
    };
    Ok(records::json(&serde_json::json!({ "inputs": inputs }), call.id()))
}

async fn lines(call: &CallHandle, body: Body) -> Result<(), Problem> {
    if call.spec().encoding != Encoding::Json {
        return Err(Problem::new(
            Code::UnsupportedMediaType,
            "The inputs of this call are not JSON, so lines of JSON cannot be its inputs.",
            format!("Send `Content-Type: {}`.", muster_wire::FRAMES_TYPE),
        ));
    }
    let kind = call.spec().kind;
    let mut reader = LineReader::new(body, MAX_ITEM);
    let mut next = call.next_index().await;
    let mut batch = Vec::new();
    while let Some(first) = reader.next().await? {
        let gathered = gather(&mut reader, &mut batch, first, kind, next);
        let taken = Inputs::from_items(next, 0, &batch);
        let expected = taken.end();
        if !taken.is_empty() {
            next = Piece::Inputs(taken).give(call).await?;
        }
        gathered?;
        if next != expected {
            return Err(Problem::new(
                Code::InputsGap,
                format!("Another request gives inputs to this call; it has {next} now."),
                "Send the inputs of one call one request after another.",
            ));
        }
        batch.clear();
    }
    Ok(())
}

/// Takes the lines that are there already, up to a batch; on a bad one, `batch` holds the good ones before it.
fn gather(
    reader: &mut LineReader,
    batch: &mut Vec<Bytes>,
    first: (u64, Bytes),
    kind: CallKind,
    next: u64,
) -> Result<(), Problem> {
    let mut bytes = 0;
    let mut current = Some(first);
    while let Some((line, text)) = current.take() {
        json_inputs::of_line(kind, line, next + batch.len() as u64, &text)?;
        bytes += text.len();
        batch.push(text);
        if bytes < BATCH_BYTES && batch.len() < BATCH_LINES {
            current = reader.buffered();
        }
    }
    Ok(())
}
