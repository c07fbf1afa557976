//! Events as frames: the log's own bytes, joined where they are small.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use muster_wire::frame::{Frame, Kind};

use crate::calls::Entry;

/// A piece of at least this many bytes is passed on as it is; a smaller one is cheaper to copy than to send alone.
const UNCOPIED: usize = 16 << 10;

/// Adds an entry's frame to `out`; a large piece of its body goes to `ready` as it is, after what was in `out`.
pub fn entry(entry: Entry, out: &mut BytesMut, ready: &mut VecDeque<Bytes>) {
    let frame = match entry {
        Entry::Logged(frame) => frame,
        Entry::Progress { seq, json } => Frame { kind: Kind::Event, seq, body: json }.into(),
    };
    out.extend_from_slice(&frame.header());
    for piece in frame.body {
        if piece.len() < UNCOPIED {
            out.extend_from_slice(&piece);
            continue;
        }
        if !out.is_empty() {
            ready.push_back(out.split().freeze());
        }
        ready.push_back(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_wire::frame::Decoder;

    #[test]
    fn frames_of_any_size_come_out_as_they_went_in() {
        let sizes = [0, 10, UNCOPIED - 1, UNCOPIED, 100_000, 3];
        let frames: Vec<Frame> = sizes
            .iter()
            .zip(1..)
            .map(|(&size, seq)| Frame { kind: Kind::Event, seq, body: vec![7u8; size].into() })
            .collect();
        let (mut out, mut ready) = (BytesMut::new(), VecDeque::new());
        for frame in &frames {
            entry(Entry::Logged(frame.clone().into()), &mut out, &mut ready);
        }
        ready.push_back(out.freeze());
        let mut decoder = Decoder::default();
        ready.iter().for_each(|bytes| decoder.push(bytes));
        let mut back = Vec::new();
        while let Some(frame) = decoder.next_frame().expect("own frames") {
            back.push(frame);
        }
        assert_eq!(back, frames);
    }

    #[test]
    fn progress_is_an_event_that_repeats_the_last_seq() {
        let (mut out, mut ready) = (BytesMut::new(), VecDeque::new());
        let json = Bytes::from_static(b"{\"seq\":4,\"type\":\"progress\"}");
        entry(Entry::Progress { seq: 4, json: json.clone() }, &mut out, &mut ready);
        let mut decoder = Decoder::default();
        decoder.push(&out);
        let frame = decoder.next_frame().expect("a frame").expect("whole");
        assert_eq!(frame, Frame { kind: Kind::Event, seq: 4, body: json });
    }
}
