//! Events as JSON objects, one after another: NDJSON lines or server-sent events (PROTOCOL.md 4.3).
//!
//! Objects are written straight into the buffer; a value that is JSON already goes in as it is. It comes out of a
//! container, so it is checked first: text that is not JSON travels as `base64`, and a line break between its parts becomes
//! a space, so that nothing a container writes can end a line or forge an event.
//!
//! A long value is written a piece at a time, so that a client that takes little by little holds little of this process.

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

/// A value of more bytes than this is written in pieces of so many, a multiple of 3: base64 needs no padding but in the last.
const LONG: usize = 15 << 10;

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
    /// The rest of the event that is being written.
    long: Option<Long>,
    rest: VecDeque<Rest>,
}

/// Outputs of a frame that are not written yet, the first of them numbered `seq`.
#[derive(Debug)]
struct Rest {
    seq: u64,
    outputs: Outputs,
}

/// What is left of the value with which an event ends.
#[derive(Debug)]
struct Long {
    form: Form,
    bytes: Bytes,
}

/// How bytes become JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// They are JSON.
    Json,
    /// They are UTF-8, and become a string.
    Text,
    /// They become a string in base64.
    Base64,
}

impl JsonRenderer {
    /// A renderer for a call of this encoding; outputs up to `after`, which a frame may hold too, are left out.
    pub fn new(wrap: Wrap, encoding: Encoding, after: u64) -> JsonRenderer {
        JsonRenderer { wrap, encoding, after, long: None, rest: VecDeque::new() }
    }

    /// Whether something of the entry given last waits to be written by [`more`](JsonRenderer::more); only then comes the next.
    pub fn has_more(&self) -> bool {
        self.long.is_some() || !self.rest.is_empty()
    }

    /// Writes one more output of the frame given last, or one more piece of a long value.
    pub fn more(&mut self, out: &mut BytesMut) {
        if let Some(long) = self.long.take() {
            return self.go_on(out, long);
        }
        let Some(rest) = self.rest.front_mut() else { return };
        let seq = rest.seq;
        let head = rest.outputs.split_to(1);
        rest.seq += 1;
        if rest.outputs.is_empty() {
            self.rest.pop_front();
        }
        for (index, status, item) in head.iter() {
            self.begin(out, seq);
            write_head(out, seq, "output", Some((index, head.attempt)));
            let long = begin_output(out, self.encoding, status, item);
            self.go_on(out, long);
        }
    }

    /// Writes an entry; outputs are only taken up, for [`more`](JsonRenderer::more).
    pub fn entry(&mut self, entry: Entry, out: &mut BytesMut) {
        match entry {
            Entry::Progress { seq, json } => {
                self.begin(out, seq);
                put_line(out, &json);
                self.end(out);
            }
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
                Ok(print) => {
                    self.begin(out, seq);
                    let long = begin_print(out, seq, print);
                    self.go_on(out, long);
                }
                Err(_) => tracing::error!(seq, "a print in the log cannot be read"),
            },
            _ => {
                self.begin(out, seq);
                write_numbered(out, seq, &frame.body.joined());
                self.end(out);
            }
        }
    }

    /// Writes a piece of the value that an event ends with, and the end after the last.
    fn go_on(&mut self, out: &mut BytesMut, mut long: Long) {
        long.write_piece(out);
        if !long.bytes.is_empty() {
            self.long = Some(long);
            return;
        }
        out.put_slice(if long.form == Form::Json { b"}" } else { b"\"}" });
        self.end(out);
    }

    fn begin(&self, out: &mut BytesMut, seq: u64) {
        if self.wrap == Wrap::Sse {
            put(out, format_args!("id: {seq}\ndata: "));
        }
    }

    fn end(&self, out: &mut BytesMut) {
        out.put_slice(if self.wrap == Wrap::Sse { b"\n\n" } else { b"\n" });
    }
}

impl Long {
    /// After the name of its field.
    fn begin(out: &mut BytesMut, field: &str, form: Form, bytes: Bytes) -> Long {
        put(out, format_args!(",\"{field}\":{}", if form == Form::Json { "" } else { "\"" }));
        Long { form, bytes }
    }

    fn write_piece(&mut self, out: &mut BytesMut) {
        let mut len = self.bytes.len().min(LONG);
        if self.form == Form::Text {
            // A character is at most 4 bytes; those after its first begin with the bits 10.
            while len < self.bytes.len() && self.bytes[len] & 0xc0 == 0x80 {
                len -= 1;
            }
        }
        let piece = self.bytes.split_to(len);
        match self.form {
            Form::Json => put_line(out, &piece),
            Form::Base64 => {
                let at = out.len();
                out.resize(at + piece.len().div_ceil(3) * 4, 0);
                STANDARD.encode_slice(&piece, &mut out[at..]).expect("the room was made for it");
            }
            Form::Text => {
                let text =
                    std::str::from_utf8(&piece).expect("checked, and cut between characters");
                let quoted = serde_json::to_vec(text).expect("a string always serialises");
                out.put_slice(&quoted[1..quoted.len() - 1]);
            }
        }
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
fn begin_print(out: &mut BytesMut, seq: u64, print: Print) -> Long {
    let name = match print.stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    };
    write_head(out, seq, name, Some((print.index, print.attempt)));
    match std::str::from_utf8(&print.bytes) {
        Ok(_) => Long::begin(out, "text", Form::Text, print.bytes),
        Err(_) => Long::begin(out, "base64", Form::Base64, print.bytes),
    }
}

fn begin_output(out: &mut BytesMut, encoding: Encoding, status: Status, item: Bytes) -> Long {
    match (status, encoding) {
        (Status::Value, Encoding::Pickle) => Long::begin(out, "pickle_base64", Form::Base64, item),
        (Status::Value, _) => json_or_base64(out, "value", item),
        (Status::Exception, _) => json_or_base64(out, "exception", exception_head(item)),
        (Status::Failure, _) => json_or_base64(out, "failure", item),
    }
}

/// The JSON of an exception item; all of it where there is no sound head.
fn exception_head(item: Bytes) -> Bytes {
    let head =
        item.split_first_chunk::<4>().map(|(length, _)| u32::from_le_bytes(*length) as usize);
    match head {
        Some(length) if length <= item.len() - 4 => item.slice(4..4 + length),
        _ => item,
    }
}

fn json_or_base64(out: &mut BytesMut, field: &str, item: Bytes) -> Long {
    match serde_json::from_slice::<&RawValue>(&item) {
        Ok(_) => Long::begin(out, field, Form::Json, item),
        Err(_) => {
            put(out, format_args!(",\"{field}\":null"));
            Long::begin(out, "base64", Form::Base64, item)
        }
    }
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
