//! Events as JSON objects, one after another: NDJSON lines or server-sent events (PROTOCOL.md 4.3).
//!
//! Objects are written straight into the buffer; a value that is JSON already goes in as it is. It comes out of a
//! container, so it is checked first: text that is not JSON travels as `base64`, and a line break between its parts becomes
//! a space, so that nothing a container writes can end a line or forge an event.

use std::collections::VecDeque;
use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use muster_wire::batch::{Outputs, Status};
use muster_wire::frame::{Frame, Kind};
use muster_wire::message::Encoding;
use muster_wire::pieces::Pieces;
use muster_wire::print::{Print, Stream};
use serde_json::value::RawValue;

use crate::calls::Entry;

/// What goes around each object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrap {
    /// A line.
    Ndjson,
    /// A server-sent event with its id.
    Sse,
}

/// Turns entries into text, a bounded piece at a time.
#[derive(Debug)]
pub struct JsonRenderer {
    wrap: Wrap,
    encoding: Encoding,
    after: u64,
    rest: VecDeque<Rest>,
}

/// Outputs of a frame that are not written yet, the first of them numbered `seq`.
#[derive(Debug)]
struct Rest {
    seq: u64,
    outputs: Outputs,
}

impl JsonRenderer {
    /// A renderer for a call of this encoding; outputs up to `after`, which a frame may hold too, are left out.
    pub fn new(wrap: Wrap, encoding: Encoding, after: u64) -> JsonRenderer {
        JsonRenderer { wrap, encoding, after, rest: VecDeque::new() }
    }

    /// Whether a frame's outputs wait to be written by [`more`](JsonRenderer::more).
    pub fn has_more(&self) -> bool {
        !self.rest.is_empty()
    }

    /// Writes one more output of the frame given last.
    pub fn more(&mut self, out: &mut BytesMut) {
        let Some(rest) = self.rest.front_mut() else { return };
        let seq = rest.seq;
        let head = rest.outputs.split_to(1);
        rest.seq += 1;
        if rest.outputs.is_empty() {
            self.rest.pop_front();
        }
        for (index, status, item) in head.iter() {
            let attempt = head.attempt;
            self.event(out, seq, |out| {
                write_head(out, seq, "output", Some((index, attempt)));
                write_output(out, self.encoding, status, &item);
                out.put_u8(b'}');
            });
        }
    }

    /// Writes an entry; outputs are only taken up, for [`more`](JsonRenderer::more).
    pub fn entry(&mut self, entry: Entry, out: &mut BytesMut) {
        match entry {
            Entry::Progress { seq, json } => self.event(out, seq, |out| put_line(out, &json)),
            Entry::Logged(frame) => self.frame(frame, out),
        }
    }

    fn frame(&mut self, frame: Frame<Pieces>, out: &mut BytesMut) {
        let seq = frame.seq;
        match frame.kind {
            Kind::Outputs => {
                let Ok(mut outputs) = Outputs::decode(frame.body) else {
                    tracing::error!(seq, "outputs in the log cannot be read");
                    return;
                };
                let skip = (self.after + 1).saturating_sub(seq);
                outputs.split_to(usize::try_from(skip).unwrap_or(usize::MAX));
                if !outputs.is_empty() {
                    self.rest.push_back(Rest { seq: seq + skip, outputs });
                }
            }
            Kind::Print => match Print::decode(frame.body.joined()) {
                Ok(print) => self.event(out, seq, |out| write_print(out, seq, &print)),
                Err(_) => tracing::error!(seq, "a print in the log cannot be read"),
            },
            _ => self.event(out, seq, |out| write_numbered(out, seq, &frame.body.joined())),
        }
    }

    fn event(&self, out: &mut BytesMut, seq: u64, write: impl FnOnce(&mut BytesMut)) {
        if self.wrap == Wrap::Sse {
            put(out, format_args!("id: {seq}\ndata: "));
        }
        write(out);
        out.put_slice(if self.wrap == Wrap::Sse { b"\n\n" } else { b"\n" });
    }
}

/// An event's own JSON, with `seq` first if it is not there yet.
fn write_numbered(out: &mut BytesMut, seq: u64, json: &[u8]) {
    match json.strip_prefix(b"{") {
        Some(rest) if !rest.starts_with(b"\"seq\"") => {
            put(out, format_args!("{{\"seq\":{seq},"));
            put_line(out, rest);
        }
        _ => put_line(out, json),
    }
}

fn write_head(out: &mut BytesMut, seq: u64, kind: &str, input: Option<(u64, u32)>) {
    put(out, format_args!("{{\"seq\":{seq},\"type\":\"{kind}\""));
    if let Some((index, attempt)) = input {
        put(out, format_args!(",\"index\":{index},\"attempt\":{attempt}"));
    }
}

/// The pieces of a print are shown one by one: one that is cut inside a character goes as base64, and so does the piece
/// with the rest of it. Joining them here would give one `seq` two meanings for a reader that resumes in between.
fn write_print(out: &mut BytesMut, seq: u64, print: &Print) {
    let name = match print.stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    };
    write_head(out, seq, name, Some((print.index, print.attempt)));
    match std::str::from_utf8(&print.bytes) {
        Ok(text) => {
            out.put_slice(b",\"text\":");
            serde_json::to_writer(out.writer(), text).expect("a string always serialises");
        }
        Err(_) => write_base64(out, "base64", &print.bytes),
    }
    out.put_u8(b'}');
}

fn write_output(out: &mut BytesMut, encoding: Encoding, status: Status, item: &Bytes) {
    match (status, encoding) {
        (Status::Value, Encoding::Pickle) => write_base64(out, "pickle_base64", item),
        (Status::Value, _) => write_json_or_base64(out, "value", item),
        (Status::Exception, _) => write_json_or_base64(out, "exception", exception_head(item)),
        (Status::Failure, _) => write_json_or_base64(out, "failure", item),
    }
}

/// The JSON of an exception item; all of it where there is no sound head.
fn exception_head(item: &[u8]) -> &[u8] {
    item.split_first_chunk::<4>()
        .and_then(|(length, rest)| rest.get(..u32::from_le_bytes(*length) as usize))
        .unwrap_or(item)
}

fn write_json_or_base64(out: &mut BytesMut, field: &str, item: &[u8]) {
    match serde_json::from_slice::<&RawValue>(item) {
        Ok(raw) => {
            put(out, format_args!(",\"{field}\":"));
            put_line(out, raw.get().as_bytes());
        }
        Err(_) => {
            put(out, format_args!(",\"{field}\":null"));
            write_base64(out, "base64", item);
        }
    }
}

fn write_base64(out: &mut BytesMut, field: &str, bytes: &[u8]) {
    put(out, format_args!(",\"{field}\":\""));
    out.reserve(bytes.len().div_ceil(3) * 4 + 2);
    // A multiple of 3 at a time needs no padding but in the last piece.
    for piece in bytes.chunks(48 << 10) {
        let at = out.len();
        out.resize(at + piece.len().div_ceil(3) * 4, 0);
        STANDARD.encode_slice(piece, &mut out[at..]).expect("the room was made for it");
    }
    out.put_u8(b'"');
}

/// JSON on one line. Valid JSON has raw line breaks only between its parts, where a space means the same.
fn put_line(out: &mut BytesMut, json: &[u8]) {
    let at = out.len();
    out.put_slice(json);
    if json.iter().any(|&byte| byte == b'\n' || byte == b'\r') {
        for byte in &mut out[at..] {
            if *byte == b'\n' || *byte == b'\r' {
                *byte = b' ';
            }
        }
    }
}

fn put(out: &mut BytesMut, text: std::fmt::Arguments<'_>) {
    out.writer().write_fmt(text).expect("a buffer in memory takes everything");
}

#[cfg(test)]
#[path = "render_json_tests.rs"]
mod tests;
