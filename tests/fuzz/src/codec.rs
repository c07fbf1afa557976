//! Frames and the bodies in them, as all parts of ours read them.

use bytes::{Bytes, BytesMut};
use muster_wire::batch::{Inputs, Outputs, OutputsBuilder};
use muster_wire::frame::{Decoder, Frame, HEADER, Kind};
use muster_wire::message::{CallSpec, ExceptionHead, Exit, Hello, HostStatus, WorkerStatus};
use muster_wire::message::{from_json, json_frame};
use muster_wire::pieces::Pieces;
use muster_wire::print::Print;
use muster_wire::receipt::Receipt;
use muster_wire::results::Record;

/// Bodies over this are refused.
const LIMIT: usize = 1 << 20;

/// A stream of frames with their bodies. The first byte says how the rest is cut on its way.
pub fn wire(data: &[u8]) {
    let Some((&cut, stream)) = data.split_first() else { return };
    let whole = frames(stream, stream.len().max(1));
    let cut = frames(stream, usize::from(cut) + 1);
    assert_eq!(whole, cut, "how a stream is cut changes nothing");
    let mut again = BytesMut::new();
    for frame in &whole.0 {
        frame.encode(&mut again);
        body(frame);
    }
    let (frames, rest) = frames(&again, again.len().max(1));
    assert_eq!((frames, rest), (whole.0, Some(0)), "what was read is written as it was");
}

/// The frames, and how many bytes are left over; `None` where one was refused.
fn frames(stream: &[u8], piece: usize) -> (Vec<Frame>, Option<usize>) {
    let mut decoder = Decoder::new(LIMIT);
    let mut list = Vec::new();
    for (number, bytes) in stream.chunks(piece).enumerate() {
        match number % 2 {
            0 => decoder.push(bytes),
            _ => decoder.give(Bytes::copy_from_slice(bytes)),
        }
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => list.push(frame),
                Ok(None) => break,
                Err(_) => return (list, None),
            }
        }
    }
    (list, Some(decoder.rest().len()))
}

/// Reads a body as the receivers of its kind do.
fn body(frame: &Frame) {
    let bytes = frame.body.clone();
    match frame.kind {
        Kind::Inputs => inputs(bytes),
        Kind::Outputs => outputs(bytes),
        Kind::Results => results(bytes),
        Kind::Print => {
            if let Ok(print) = Print::decode(bytes) {
                let again = Print::decode(print.to_frame().body);
                assert_eq!(again, Ok(print));
            }
        }
        Kind::Receipt => {
            if let Ok(receipt) = Receipt::decode(bytes) {
                assert_eq!(Receipt::decode(receipt.to_frame().body), Ok(receipt));
            }
        }
        Kind::Spec => {
            if let Ok(spec) = from_json::<CallSpec>("SPEC", &bytes) {
                let again = json_frame(Kind::Spec, &spec).body;
                assert!(from_json::<CallSpec>("SPEC", &again).is_ok());
            }
        }
        Kind::HostStatus => drop(from_json::<HostStatus>("HOST_STATUS", &bytes)),
        Kind::WorkerStatus => drop(from_json::<WorkerStatus>("WORKER_STATUS", &bytes)),
        Kind::Hello => drop(from_json::<Hello>("HELLO", &bytes)),
        Kind::Exit => drop(from_json::<Exit>("EXIT", &bytes)),
        _ => {
            let _ = (frame.as_u32(), frame.as_u64(), frame.as_two_u64());
        }
    }
}

/// The body of a batch: INPUTS, OUTPUTS or RESULTS, by the first byte, with nothing before it.
pub fn batches(data: &[u8]) {
    let Some((&kind, body)) = data.split_first() else { return };
    let body = Bytes::copy_from_slice(body);
    match kind % 3 {
        0 => inputs(body),
        1 => outputs(body),
        _ => results(body),
    }
}

fn inputs(body: Bytes) {
    let Ok(whole) = Inputs::decode(body.clone()) else { return };
    assert_eq!(whole.to_frame().body, body, "a batch is written as it was read");
    let items: Vec<(u64, Bytes)> = whole.iter().collect();
    assert_eq!(items.len(), whole.len());
    assert_eq!(items.iter().map(|(_, item)| item.len()).sum::<usize>(), whole.item_bytes());
    let mut rest = whole.clone();
    let head = rest.split_to(whole.count_within(whole.item_bytes() / 2));
    assert_eq!(head.end(), rest.first);
    assert_eq!(Inputs::join(&[head, rest]), Some(whole));
}

fn outputs(body: Bytes) {
    let Ok(whole) = Outputs::decode(body.clone()) else { return };
    assert_eq!(whole.to_frame().body, body, "a batch is written as it was read");
    let mut built = OutputsBuilder::new(whole.first, whole.attempt);
    for (_, status, item) in whole.iter() {
        built.push(status, &item);
        let _ = ExceptionHead::of_item(&item);
    }
    assert_eq!(built.finish().to_frame().body, body);
    let mut rest = whole.clone();
    let head = rest.split_to(whole.leading_values());
    assert!(head.all_values());
    assert_eq!((head.end(), rest.end()), (rest.first, whole.end()));
}

fn results(body: Bytes) {
    let mut bytes = Pieces::from(body);
    loop {
        let before = bytes.len();
        let Ok(Some(record)) = Record::take(&mut bytes) else { return };
        assert!(bytes.len() + HEADER < before, "each record pays with its own bytes");
        assert!(record.count > 0 || record.items.is_empty());
        assert_eq!(record.items.len(), record.item_len() * record.count as usize);
        let mut again = BytesMut::new();
        record.encode(&mut again);
        let mut again = Pieces::from(again.freeze());
        assert_eq!(Record::take(&mut again), Ok(Some(record.clone())));
        if record.count > 1 {
            let mut tail = record.clone();
            tail.skip(record.count - 1);
            assert_eq!((tail.count, tail.item_len()), (1, record.item_len()));
        }
    }
}
