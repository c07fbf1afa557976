//! One call on one host: frames to the agent, news from it.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame as BodyFrame;
use muster_wire::batch::Outputs;
use muster_wire::frame::{Decoder, Frame, Kind};
use muster_wire::message::{WorkerStatus, from_json};
use muster_wire::print::Print;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Body, HostLink, LinkError, request};
use crate::calls::machine::LinkId;

/// Frames that wait to be sent.
const OUTBOX: usize = 256;
/// Small frames are joined up to this many bytes.
const JOIN: usize = 64 << 10;

/// What a host says about a call.
#[derive(Debug)]
pub enum LinkEvent {
    /// It is willing to have received so many inputs, and bytes of them, in all.
    Demand(u64, u64),
    /// Its workers.
    Workers(WorkerStatus),
    /// An input printed.
    Print(Print, Frame),
    /// Inputs have ended.
    Outputs(Outputs),
    /// Nothing more comes on this exchange.
    Ended,
}

/// An open exchange. Dropping it resets it, which cancels the call on that host.
#[derive(Debug)]
pub struct Exchange {
    frames: mpsc::Sender<Frame>,
    reset: CancellationToken,
}

impl Exchange {
    /// Sends a frame; gives it back when the outbox is full or the exchange has ended.
    pub fn send(&self, frame: Frame) -> Result<(), Frame> {
        self.frames.try_send(frame).map_err(mpsc::error::TrySendError::into_inner)
    }

    /// Whether a frame would be taken now.
    pub fn has_room(&self) -> bool {
        self.frames.capacity() > 1
    }

    /// Lets the exchange end by itself: no more frames, no reset.
    pub fn finish(mut self) {
        self.reset = CancellationToken::new();
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.reset.cancel();
    }
}

impl HostLink {
    /// Opens an exchange for a call. What the host says goes to `events`, with this link's id.
    pub fn open(
        self: &Arc<Self>,
        call: &str,
        events: mpsc::Sender<(LinkId, LinkEvent)>,
    ) -> Exchange {
        let (frames, outbox) = mpsc::channel(OUTBOX);
        let reset = CancellationToken::new();
        let (link, path, stop) = (self.clone(), format!("/v1/calls/{call}"), reset.clone());
        self.tasks.spawn(async move {
            let talk = link.talk(&path, outbox, stop.clone(), &events);
            let ended = tokio::select! {
                biased;
                () = stop.cancelled() => Ok(()),
                ended = talk => ended,
            };
            if let Err(error) = ended {
                let (host, error) = (&link.host, crate::chain(&error));
                tracing::warn!(path, host, error, "exchange with a host failed");
            }
            let _ = events.send((link.id, LinkEvent::Ended)).await;
        });
        Exchange { frames, reset }
    }

    async fn talk(
        &self,
        path: &str,
        outbox: mpsc::Receiver<Frame>,
        stop: CancellationToken,
        events: &mpsc::Sender<(LinkId, LinkEvent)>,
    ) -> Result<(), LinkError> {
        let request = request("POST", path, outgoing(outbox, stop));
        let response =
            self.requests.clone().send_request(request).await.map_err(LinkError::Http)?;
        if !response.status().is_success() {
            return Err(LinkError::Refused(response.status()));
        }
        let mut body = response.into_body();
        let mut decoder = Decoder::default();
        while let Some(data) = body.frame().await {
            if let Ok(data) = data.map_err(LinkError::Http)?.into_data() {
                decoder.push(&data);
            }
            while let Some(frame) = decoder.next_frame().map_err(LinkError::Protocol)? {
                let Some(event) = read(frame).map_err(LinkError::Protocol)? else { continue };
                if events.send((self.id, event)).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

fn read(frame: Frame) -> Result<Option<LinkEvent>, muster_wire::WireError> {
    Ok(Some(match frame.kind {
        Kind::Demand => {
            let (inputs, bytes) = frame.as_demand()?;
            LinkEvent::Demand(inputs, bytes)
        }
        Kind::WorkerStatus => LinkEvent::Workers(from_json("WORKER_STATUS", &frame.body)?),
        Kind::Print => LinkEvent::Print(Print::decode(frame.body.clone())?, frame),
        Kind::Outputs => LinkEvent::Outputs(Outputs::decode(frame.body)?),
        _ => return Ok(None),
    }))
}

/// The request's body: frames as they come, small ones joined, until there are no more, or an error that resets the exchange.
fn outgoing(outbox: mpsc::Receiver<Frame>, stop: CancellationToken) -> Body {
    let state = (outbox, stop, None::<Bytes>);
    let chunks = stream::unfold(state, |(mut outbox, stop, body)| async move {
        if let Some(body) = body {
            return Some((Ok(BodyFrame::data(body)), (outbox, stop, None)));
        }
        let next = tokio::select! {
            biased;
            () = stop.cancelled() => return Some((Err(LinkError::GivenUp), (outbox, stop, None))),
            next = outbox.recv() => next,
        };
        let mut frame = next?;
        let mut joined = BytesMut::new();
        loop {
            if frame.body.len() > JOIN {
                joined.extend_from_slice(&frame.header());
                let chunk = BodyFrame::data(joined.freeze());
                return Some((Ok(chunk), (outbox, stop, Some(frame.body))));
            }
            frame.encode(&mut joined);
            if joined.len() >= JOIN {
                break;
            }
            match outbox.try_recv() {
                Ok(next) => frame = next,
                Err(_) => break,
            }
        }
        Some((Ok(BodyFrame::data(joined.freeze())), (outbox, stop, None)))
    });
    StreamBody::new(chunks).boxed()
}
