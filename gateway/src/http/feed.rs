//! Inputs on their way from a request's body into a call.

use std::time::Duration;

use muster_wire::batch::Inputs;
use muster_wire::frame::{Frame, Kind};
use muster_wire::pieces::Pieces;

use super::problem::{Code, Problem};
use super::request_body::{FrameReader, bad_frame};
use crate::calls::{CallHandle, PushError};

/// How long a client that goes on sending to a call that takes no more is listened to, so that it gets to read why.
const DRAIN: Duration = Duration::from_secs(30);

/// What a body says about a call's inputs.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Some of them.
    Inputs(Inputs),
    /// Inputs from this index on, so many, have their outputs.
    Skip(u64, u64),
    /// There are this many in all.
    End(u64),
}

impl Piece {
    /// What a client's frame says.
    pub fn of_frame(frame: impl Into<Frame<Pieces>>) -> Result<Piece, Problem> {
        let frame = frame.into();
        match frame.kind {
            Kind::Inputs => {
                let inputs = Inputs::decode(frame.body).map_err(bad_frame)?;
                Ok(Piece::Inputs(inputs.at_attempt(0)))
            }
            Kind::InputsEnd => frame.joined().as_u64().map(Piece::End).map_err(bad_frame),
            Kind::Skip => match frame.joined().as_two_u64().map_err(bad_frame)? {
                (first, count) if first.checked_add(count).is_some() => {
                    Ok(Piece::Skip(first, count))
                }
                _ => Err(Problem::new(
                    Code::BadFrame,
                    "A SKIP frame has indexes past 2^64.",
                    "Skip inputs that there are.",
                )),
            },
            other => Err(Problem::new(
                Code::BadFrame,
                format!("A {other:?} frame has no place among inputs."),
                "Send INPUTS and SKIP frames, and INPUTS_END after the last.",
            )),
        }
    }

    /// Gives it to the call, waiting while there is no room; how many inputs the call has now.
    pub async fn give(self, call: &CallHandle) -> Result<u64, PushError> {
        match self {
            Piece::Inputs(inputs) => call.push(inputs).await,
            Piece::Skip(first, count) => call.skip(first, count).await,
            Piece::End(total) => call.end_inputs(Some(total)).await,
        }
    }
}

/// Gives a call what came first, and then the rest of the body as it comes.
pub async fn feed(
    call: &CallHandle,
    ready: Vec<Piece>,
    mut rest: Option<&mut FrameReader>,
) -> Result<(), Problem> {
    for piece in ready {
        if let Err(error) = piece.give(call).await {
            return refused(error, rest).await;
        }
    }
    while let Some(reader) = rest.as_deref_mut() {
        let Some(frame) = reader.next().await? else { break };
        if let Err(error) = Piece::of_frame(frame)?.give(call).await {
            return refused(error, rest).await;
        }
    }
    Ok(())
}

/// The call takes no more. The rest of the body is read all the same: a client that cannot send it may never come to
/// read its answer.
async fn refused(error: PushError, rest: Option<&mut FrameReader>) -> Result<(), Problem> {
    if let Some(reader) = rest {
        let drained =
            tokio::time::timeout(DRAIN, async { while let Ok(Some(_)) = reader.next().await {} });
        // Late or not, the answer is the same.
        let _ = drained.await;
    }
    Err(error.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn frames_of_inputs_are_read_and_others_refused() {
        let inputs = Inputs::from_items(3, 0, &[b"a", b"b"]);
        assert_eq!(Piece::of_frame(inputs.to_frame()).expect("inputs"), Piece::Inputs(inputs));
        let end = Frame::of_u64(Kind::InputsEnd, 5);
        assert_eq!(Piece::of_frame(end).expect("an end"), Piece::End(5));
        let mut two = [0; 16];
        (two[0], two[8]) = (3, 2);
        let skip = Frame::new(Kind::Skip, Bytes::copy_from_slice(&two));
        assert_eq!(Piece::of_frame(skip).expect("a skip"), Piece::Skip(3, 2));
        for frame in [
            Frame::new(Kind::Skip, Bytes::from_static(&[0xff; 16])),
            Frame::new(Kind::Outputs, Bytes::new()),
            Frame::new(Kind::Inputs, Bytes::new()),
            Frame::new(Kind::InputsEnd, Bytes::from_static(b"1")),
            Frame::new(Kind::Spec, Bytes::from_static(b"{}")),
        ] {
            assert_eq!(Piece::of_frame(frame).expect_err("refused").code(), "bad_frame");
        }
    }
}
