//! The frames of a call's requests, from the bytes of their bodies.

use futures_util::StreamExt;
use muster_wire::WireError;
use muster_wire::batch::Inputs;
use muster_wire::frame::{Decoder, Frame, Kind};
use muster_wire::pieces::Pieces;

use super::line::{Body, Inlet};

/// The requests of one call: a broken one is followed by another, or by nothing for ever.
pub struct Intake {
    inlet: Inlet,
    request: Option<(u64, Body)>,
    decoder: Decoder,
}

/// What comes next.
#[derive(Debug)]
pub enum Got {
    /// A frame; `None` stands for one that was seen to here.
    Frame(Option<Frame<Pieces>>),
    /// Inputs.
    Inputs(Inputs),
    /// The gateway is back, and knows nothing of what it was told of workers and demand.
    Resumed,
    /// The end.
    End,
}

/// The request is not what it should be.
#[derive(Debug, thiserror::Error)]
#[error("the request is not frames")]
pub struct IntakeError(#[from] WireError);

impl Intake {
    pub fn new(inlet: Inlet) -> Intake {
        Intake { inlet, request: None, decoder: Decoder::default() }
    }

    /// The next of what has come already.
    pub fn next_now(&mut self) -> Result<Option<Got>, IntakeError> {
        match self.decoder.next_in_pieces()? {
            Some(frame) => Ok(Some(self.see(frame)?)),
            None => Ok(None),
        }
    }

    /// The next frame. Safe to cancel.
    pub async fn next(&mut self) -> Result<Got, IntakeError> {
        loop {
            if let Some(got) = self.next_now()? {
                return Ok(got);
            }
            let Some((turn, body)) = &mut self.request else {
                let Some((turn, body)) = self.inlet.next().await else {
                    return std::future::pending().await;
                };
                self.request = Some((turn, body));
                if turn > 0 {
                    return Ok(Got::Resumed);
                }
                continue;
            };
            match body.next().await {
                Some(Ok(bytes)) => self.decoder.give(bytes),
                None if self.decoder.is_empty() => return Ok(Got::End),
                None if self.inlet.is_attached(*turn) => {
                    let why = "the request ended within a frame";
                    return Err(WireError::Malformed { what: "call", why }.into());
                }
                // A cancel, or a connection that broke: whoever watches the exchange knows which.
                Some(Err(_)) | None => {
                    self.request = None;
                    self.decoder = Decoder::default();
                }
            }
        }
    }

    fn see(&self, frame: Frame<Pieces>) -> Result<Got, IntakeError> {
        match frame.kind {
            Kind::Inputs => {
                let inputs = Inputs::decode(frame.body)?;
                let turn = self.request.as_ref().map_or(0, |(turn, _)| *turn);
                let (count, bytes) = (inputs.len() as u64, inputs.item_bytes() as u64);
                let known = self.inlet.given(turn, inputs.first, count, inputs.attempt, bytes);
                Ok(if known { Got::Inputs(inputs) } else { Got::Frame(None) })
            }
            Kind::Taken => {
                self.inlet.taken(frame.joined().as_u64()?);
                Ok(Got::Frame(None))
            }
            _ => Ok(Got::Frame(Some(frame))),
        }
    }
}
