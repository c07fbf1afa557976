//! What a stream says in place of events that cannot be read back, since the disk that kept them has changed them. Pure.
//!
//! **Background calls.** The store knows beside the frames which inputs ended with them: each has a failure for its output, `damaged`, so that a reader still gets one output for each index, and the others as they were. What else was among them (prints, receipts, states) is counted by a `damaged` event; the `end` is told again from the record.
//!
//! **Foreground calls.** Of a spilled segment only its length is known: a `damaged` event counts its events. Their client finds at the end which outputs it lacks.

use muster_wire::batch::{OutputsBuilder, Status};
use muster_wire::frame::Frame;
use muster_wire::message::{CallError, Failure, to_json};
use muster_wire::pieces::Pieces;
use serde_json::json;

use super::CallRecord;
use super::handle::event;
use crate::store::durable::LostEvents;

/// The code of what is damaged.
pub const CODE: &str = "damaged";

/// The frames in place of these events; `end` is the call's record if they were its last.
pub fn stand_in(lost: &LostEvents, end: Option<&CallRecord>) -> Vec<Frame<Pieces>> {
    let mut frames: Vec<Frame<Pieces>> = Vec::new();
    let mut seq = lost.first_seq;
    let last = lost.last_seq - u64::from(end.is_some());
    let item = to_json(&failure(
        "its output was damaged on the gateway's disk after it was kept, and cannot be read; submit this input again, and have the disk looked at",
    ));
    for done in &lost.done {
        let mut outputs = OutputsBuilder::new(done.first, lost.attempt);
        for _ in 0..done.count {
            outputs.push(Status::Failure, &item);
        }
        frames.push(Frame { seq, ..outputs.finish().in_pieces() });
        seq += u64::from(done.count);
    }
    if seq <= last {
        frames.push(Frame { seq: last, ..untold(last + 1 - seq).into() });
    }
    if let Some(record) = end {
        frames.push(Frame { seq: lost.last_seq, ..end_of(record).into() });
    }
    frames
}

/// The event in place of so many of which nothing is known.
pub fn untold(events: u64) -> Frame {
    event(json!({"type": "damaged", "events": events}))
}

/// The last event of a call with this record.
pub fn end_of(record: &CallRecord) -> Frame {
    event(json!({
        "type": "end", "state": record.state, "done": record.done, "failed": record.failed,
        "total": record.total, "error": record.error,
    }))
}

/// The failure of an input whose own bytes are damaged.
pub fn of_input() -> Failure {
    failure(
        "it was damaged on the gateway's disk before it ran, and was not run; submit it again, and have the disk looked at",
    )
}

/// Why a call cannot go on whose function is damaged.
pub fn of_function() -> CallError {
    CallError {
        code: CODE.to_owned(),
        message: "the function of this call was damaged on the gateway's disk".to_owned(),
        action: "submit what has no output again, and have the disk of the gateway looked at"
            .to_owned(),
    }
}

fn failure(message: &str) -> Failure {
    Failure { code: CODE.to_owned(), message: message.to_owned(), ..Failure::default() }
}

#[cfg(test)]
mod tests {
    use muster_wire::batch::Outputs;
    use muster_wire::frame::Kind;

    use super::*;
    use crate::calls::log::last_seq;
    use crate::store::durable::Done;

    fn lost(first_seq: u64, last_seq: u64) -> LostEvents {
        let done = [Done { first: 7, count: 2, failed: 0 }, Done { first: 3, count: 1, failed: 1 }];
        LostEvents { first_seq, last_seq, done: done.to_vec(), attempt: 2 }
    }

    #[test]
    fn each_input_that_ended_has_a_failure_and_the_rest_is_counted() {
        let frames = stand_in(&lost(10, 20), None);
        let failed: Vec<_> = frames[..2]
            .iter()
            .map(|frame| {
                let outputs = Outputs::decode(frame.body.clone()).expect("outputs");
                assert!(outputs.statuses().all(|status| status == Status::Failure));
                (frame.seq, outputs.first, outputs.len(), outputs.attempt)
            })
            .collect();
        assert_eq!(failed, [(10, 7, 2, 2), (12, 3, 1, 2)]);
        let said = frames[2].clone().joined();
        assert_eq!((said.kind, said.seq), (Kind::Event, 20));
        let said: serde_json::Value = serde_json::from_slice(&said.body).expect("JSON");
        assert_eq!(said, json!({"type": "damaged", "events": 8}));
    }

    #[test]
    fn nothing_is_said_of_a_rest_where_there_is_none() {
        let frames = stand_in(&lost(10, 12), None);
        assert_eq!(frames.iter().map(last_seq).collect::<Vec<_>>(), [11, 12]);
    }
}
