//! The frames of a request, from the bytes of its body.

use std::fmt::Display;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use muster_wire::WireError;
use muster_wire::frame::{Decoder, Frame};
use muster_wire::pieces::Pieces;

/// The request of one call.
#[derive(Debug)]
pub struct Intake<S> {
    body: S,
    decoder: Decoder,
}

/// Why a request ended without its end.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The gateway reset it, or its connection broke.
    #[error("the request broke off: {0}")]
    Broken(String),
    /// It is not frames.
    #[error("the request is not frames")]
    Wire(#[from] WireError),
    /// It ended inside a frame.
    #[error("the request ended inside a frame")]
    Cut,
}

impl<S, E> Intake<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: Display,
{
    pub fn new(body: S) -> Intake<S> {
        Intake { body, decoder: Decoder::default() }
    }

    /// The next frame among the bytes that have come already.
    pub fn next_now(&mut self) -> Result<Option<Frame<Pieces>>, IntakeError> {
        Ok(self.decoder.next_in_pieces()?)
    }

    /// The next frame; `None` at the end. Safe to cancel.
    pub async fn next(&mut self) -> Result<Option<Frame<Pieces>>, IntakeError> {
        loop {
            if let Some(frame) = self.decoder.next_in_pieces()? {
                return Ok(Some(frame));
            }
            match self.body.next().await {
                Some(Ok(bytes)) => self.decoder.give(bytes),
                Some(Err(error)) => return Err(IntakeError::Broken(error.to_string())),
                None if self.decoder.is_empty() => return Ok(None),
                None => return Err(IntakeError::Cut),
            }
        }
    }
}
