//! One call on one host: frames to the agent, news from it.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame as BodyFrame;
use muster_wire::batch::Outputs;
use muster_wire::frame::{Decoder, Frame, Kind};
use muster_wire::message::{Held, WorkerStatus, from_json};
use muster_wire::pieces::{Pieces, SMALL};
use muster_wire::print::Print;
use muster_wire::receipt::Receipt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Body, HostLink, LinkError, request};
use crate::calls::machine::LinkId;

/// Bytes of frames from hosts that wait for the owner of a call, in KiB.
pub const WAITING_KIB: u32 = 24 << 10;
/// Frames that wait to be sent.
const OUTBOX: usize = 256;
/// How long a host may take to say what it holds.
const HELD_WITHIN: Duration = Duration::from_secs(10);
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
    /// What inputs cost that end next.
    Receipt(Receipt),
    /// Inputs have ended.
    Outputs(Outputs),
    /// It goes on with an exchange, and holds this. The first word of one that was asked for again.
    Held(Held),
    /// It does not take the call, and has seen none of its inputs.
    Refused,
    /// The connection broke: the exchange can be asked for again on another.
    Broken,
    /// Nothing more comes on this exchange.
    Ended,
}

/// What a host says, on its way to the call's owner.
#[derive(Debug)]
pub struct News {
    /// Which host.
    pub link: LinkId,
    /// What it says.
    pub event: LinkEvent,
    /// How many bytes it has said with this, since the exchange began.
    pub place: u64,
    /// Room for its bytes, given back when it is dropped.
    pub room: Option<OwnedSemaphorePermit>,
}

/// The way to a call's owner: few large frames wait there, or many small ones.
#[derive(Debug, Clone)]
pub struct Inbox {
    news: mpsc::Sender<News>,
    room: Arc<Semaphore>,
}

impl Inbox {
    /// For at most `count` events that wait, and [`WAITING_KIB`] of them.
    pub fn new(count: usize) -> (Inbox, mpsc::Receiver<News>) {
        let (news, receiver) = mpsc::channel(count);
        (Inbox { news, room: Arc::new(Semaphore::new(WAITING_KIB as usize)) }, receiver)
    }

    /// Whether the owner is there.
    async fn send(&self, link: LinkId, event: LinkEvent, place: u64, bytes: usize) -> bool {
        let kib = u32::try_from(bytes >> 10).unwrap_or(u32::MAX).min(WAITING_KIB);
        let room = match kib {
            0 => None,
            kib => self.room.clone().acquire_many_owned(kib).await.ok(),
        };
        self.news.send(News { link, event, place, room }).await.is_ok()
    }
}

/// What an exchange is known by on both sides, over connections and starts of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExchangeName {
    /// Its number.
    pub id: u64,
    /// Whether a gateway that is started anew can ask for it.
    pub lasts: bool,
    /// How much of the response was taken, where it is asked for again.
    pub taken: Option<u64>,
}

/// An open exchange. Dropping it resets it, which cancels the call on that host.
#[derive(Debug)]
pub struct Exchange {
    frames: mpsc::Sender<Frame<Pieces>>,
    reset: CancellationToken,
}

impl Exchange {
    /// Sends a frame; gives it back when the outbox is full or the exchange has ended.
    pub fn send(&self, frame: impl Into<Frame<Pieces>>) -> Result<(), Frame<Pieces>> {
        self.frames.try_send(frame.into()).map_err(mpsc::error::TrySendError::into_inner)
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
    /// Opens an exchange for a call, or asks for one again. What the host says goes to `events`, with this link's id.
    pub fn open(self: &Arc<Self>, call: &str, name: ExchangeName, events: Inbox) -> Exchange {
        let (frames, outbox) = mpsc::channel(OUTBOX);
        let reset = CancellationToken::new();
        let (link, path, stop) = (self.clone(), format!("/v1/calls/{call}"), reset.clone());
        self.tasks.spawn(async move {
            let talk = link.talk(&path, name, outbox, stop.clone(), &events);
            let ended = tokio::select! {
                biased;
                () = stop.cancelled() => Ok(()),
                ended = talk => ended,
            };
            let last = match &ended {
                Ok(()) => LinkEvent::Ended,
                Err(LinkError::Http(_)) => LinkEvent::Broken,
                Err(LinkError::Refused(_)) if name.taken.is_none() => LinkEvent::Refused,
                Err(_) => LinkEvent::Ended,
            };
            if let Err(error) = ended {
                let (host, error) = (&link.host, crate::chain(&error));
                tracing::warn!(path, host, error, "exchange with a host failed");
            }
            // Nothing was taken with it.
            events.send(link.id, last, 0, 0).await;
        });
        Exchange { frames, reset }
    }

    async fn talk(
        &self,
        path: &str,
        name: ExchangeName,
        outbox: mpsc::Receiver<Frame<Pieces>>,
        stop: CancellationToken,
        events: &Inbox,
    ) -> Result<(), LinkError> {
        let mut request = request("POST", path, outgoing(outbox, stop));
        let headers = request.headers_mut();
        headers.insert("muster-exchange", name.id.into());
        if !name.lasts {
            headers.insert("muster-gateway", self.gateway.into());
        }
        if let Some(taken) = name.taken {
            headers.insert("muster-taken", taken.into());
        }
        let response =
            self.requests.clone().send_request(request).await.map_err(LinkError::Http)?;
        if !response.status().is_success() {
            return Err(LinkError::Refused(response.status()));
        }
        let mut body = response.into_body();
        let mut decoder = Decoder::default();
        let mut place = name.taken.unwrap_or(0);
        let mut held = name.taken.is_none();
        loop {
            let next = match held {
                true => body.frame().await,
                false => {
                    timeout(HELD_WITHIN, body.frame()).await.map_err(|_| LinkError::NotHeld)?
                }
            };
            let Some(data) = next else { break };
            held = true;
            if let Ok(data) = data.map_err(LinkError::Http)?.into_data() {
                decoder.give(data);
            }
            while let Some(frame) = decoder.next_in_pieces().map_err(LinkError::Protocol)? {
                let bytes = frame.body.len();
                // What is said ahead of what was not taken is not part of it.
                place += if frame.kind == Kind::Held { 0 } else { frame.wire_len() as u64 };
                let Some(event) = read(frame).map_err(LinkError::Protocol)? else { continue };
                if !events.send(self.id, event, place, bytes).await {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

fn read(frame: Frame<Pieces>) -> Result<Option<LinkEvent>, muster_wire::WireError> {
    Ok(Some(match frame.kind {
        Kind::Demand => {
            let (inputs, bytes) = frame.joined().as_two_u64()?;
            LinkEvent::Demand(inputs, bytes)
        }
        Kind::Held => LinkEvent::Held(from_json("HELD", &frame.body.joined())?),
        Kind::WorkerStatus => LinkEvent::Workers(from_json("WORKER_STATUS", &frame.body.joined())?),
        Kind::Print => {
            let frame = frame.joined();
            LinkEvent::Print(Print::decode(frame.body.clone())?, frame)
        }
        Kind::Receipt => LinkEvent::Receipt(Receipt::decode(frame.body.joined())?),
        Kind::Outputs => LinkEvent::Outputs(Outputs::decode(frame.body)?),
        _ => return Ok(None),
    }))
}

/// The request's body: frames as they come, small ones joined, until there are no more, or an error that resets the exchange.
fn outgoing(outbox: mpsc::Receiver<Frame<Pieces>>, stop: CancellationToken) -> Body {
    let state = (outbox, stop, Pieces::default());
    let chunks = stream::unfold(state, |(mut outbox, stop, mut body)| async move {
        let mut joined = BytesMut::new();
        loop {
            // A large body goes out in the pieces it came in; small ones are joined.
            while !body.is_empty() && joined.len() < JOIN {
                let piece = body.next_piece();
                if piece.len() >= SMALL && joined.is_empty() {
                    return Some((Ok(BodyFrame::data(piece)), (outbox, stop, body)));
                }
                if piece.len() >= SMALL {
                    body.push_front(piece);
                    break;
                }
                joined.extend_from_slice(&piece);
            }
            if !body.is_empty() || joined.len() >= JOIN {
                break;
            }
            let frame = match joined.is_empty() {
                false => outbox.try_recv().ok(),
                true => tokio::select! {
                    biased;
                    () = stop.cancelled() => {
                        return Some((Err(LinkError::GivenUp), (outbox, stop, body)));
                    }
                    next = outbox.recv() => match next {
                        Some(frame) => Some(frame),
                        None => return None,
                    },
                },
            };
            let Some(frame) = frame else { break };
            joined.extend_from_slice(&frame.header());
            body = frame.body;
        }
        Some((Ok(BodyFrame::data(joined.freeze())), (outbox, stop, body)))
    });
    StreamBody::new(chunks).boxed()
}
