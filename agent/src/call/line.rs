//! What outlives a connection: the exchange of a call with its gateway.
//!
//! **Problem.** A connection breaks, or the gateway is started again, while inputs run here that took an hour. They should go on, and what they give should arrive once.
//!
//! ```text
//!              body, response                      connection over                     said again: HELD, then the rest
//!  open ──▶ attached ───────────────────────────────▶ parked ─────────────────────────────▶ attached
//!              │ response closed, connection there      │ 120 s without a word, or the gateway is back and does not ask for it
//!              ▼                                        ▼
//!           cancelled                                cancelled
//! ```
//!
//! **How.** The gateway names each exchange. Everything that goes out is kept ([`Retained`]) until the gateway says that it has taken it for good (TAKEN): for a background call, that its store has it. After the connection broke it asks for the exchange by its name, and from which byte on: the agent says what it holds (HELD), as of that byte, and then
//! sends the rest again. So no output and no print comes twice, and none is missing; and inputs that were on the way to here, which are not held, the gateway gives again. While the exchange is parked its workers run on; once 16 MiB are kept, they wait.
//!
//! **Who owns what.** [`Lines`], one for the agent, knows the exchanges by name. A call's [`Line`] is shared by three: the handler that attaches a new request, the intake that reads requests, and the writer, which alone sends. Whether an end is a cancel is told by the [`Connection`]: it is marked before anything on it is told of its end.
//!
//! **A gateway that was started again** knows its background calls and no others. So a foreground exchange is dropped as soon as another gateway than its own has linked, and any exchange that a gateway has not asked for 20 s after it linked: its call has ended, or its inputs were given to others.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use muster_wire::frame::Kind;
use muster_wire::message::json_frame;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::retained::Retained;

/// How long after the gateway's last word this host runs its calls.
pub const ALONE: Duration = Duration::from_secs(120);
/// How long after it has linked a gateway may take to ask for an exchange.
const ASKED_WITHIN: Duration = Duration::from_secs(20);
/// Requests of one exchange that wait to be read: the last one counts.
const BODIES: usize = 4;

/// The bytes of a request.
pub type Body = Pin<Box<dyn Stream<Item = Result<Bytes, String>> + Send>>;

/// One connection of the gateway; a cheap handle.
#[derive(Debug, Clone)]
pub struct Connection {
    over: CancellationToken,
    begun: Instant,
    /// When something came in last, in milliseconds since it began.
    heard_ms: Arc<AtomicU64>,
}

/// Whose an exchange is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// This start of a gateway alone can ask for it again.
    Gateway(u64),
    /// Any start of the gateway can.
    Store,
}

/// A request and its response.
pub struct Exchange {
    /// Names it.
    pub id: u64,
    /// Whose it is.
    pub owner: Owner,
    /// What it came on.
    pub connection: Connection,
    /// The request.
    pub body: Body,
    /// The response.
    pub out: mpsc::Sender<Bytes>,
}

/// All exchanges by name; a cheap handle.
#[derive(Debug, Clone, Default)]
pub struct Lines {
    lines: Arc<Mutex<HashMap<u64, Arc<Shared>>>>,
}

/// There is no such exchange here, or not all that is asked for.
#[derive(Debug)]
pub struct NotHeld;

/// One call's exchange. Dropping it forgets it.
#[derive(Debug)]
pub struct Line {
    lines: Lines,
    shared: Arc<Shared>,
}

/// The end of an exchange that takes the response.
#[derive(Debug, Clone)]
pub struct Outlet(Arc<Shared>);

/// The end that gives requests, one after another.
pub struct Inlet {
    shared: Arc<Shared>,
    bodies: mpsc::Receiver<(u64, Body)>,
}

#[derive(Debug)]
struct Shared {
    id: u64,
    owner: Owner,
    state: Mutex<State>,
    bodies: mpsc::Sender<(u64, Body)>,
    /// Rises whenever the exchange is attached anew, or its deadline has changed.
    changed: watch::Sender<u64>,
    dropped: CancellationToken,
}

#[derive(Debug)]
struct State {
    retained: Retained,
    /// How often it was attached.
    turn: u64,
    out: Option<mpsc::Sender<Bytes>>,
    connection: Connection,
    /// Goes out before anything else.
    ahead: Option<Bytes>,
    /// How far the response that is attached was sent.
    sent: u64,
    /// A gateway has linked meanwhile, and has to ask before this.
    asked_before: Option<Instant>,
}

impl Connection {
    /// One that was just made.
    pub fn begin() -> Connection {
        let (over, heard_ms) = (CancellationToken::new(), Arc::default());
        Connection { over, begun: Instant::now(), heard_ms }
    }

    /// Something came in.
    pub fn heard(&self) {
        let now = self.begun.elapsed().as_millis() as u64;
        self.heard_ms.store(now, Ordering::Relaxed);
    }

    /// It has ended; said before anybody else sees that.
    pub fn end(&self) {
        self.over.cancel();
    }

    fn last_word(&self) -> Instant {
        self.begun + Duration::from_millis(self.heard_ms.load(Ordering::Relaxed))
    }
}

impl Lines {
    /// A new exchange.
    pub fn open(&self, exchange: Exchange) -> (Line, Outlet, Inlet) {
        let Exchange { id, owner, connection, body, out } = exchange;
        let (bodies, waiting) = mpsc::channel(BODIES);
        // The channel is empty.
        let _ = bodies.try_send((0, body));
        let state = State {
            retained: Retained::default(),
            turn: 0,
            out: Some(out),
            connection,
            ahead: None,
            sent: 0,
            asked_before: None,
        };
        let shared = Arc::new(Shared {
            id,
            owner,
            state: Mutex::new(state),
            bodies,
            changed: watch::Sender::new(0),
            dropped: CancellationToken::new(),
        });
        self.lock().insert(id, shared.clone());
        let inlet = Inlet { shared: shared.clone(), bodies: waiting };
        (Line { lines: self.clone(), shared: shared.clone() }, Outlet(shared), inlet)
    }

    /// The gateway asks for an exchange again, from this place of its response on.
    pub fn resume(&self, exchange: Exchange, taken: u64) -> Result<(), NotHeld> {
        let shared = self.lock().get(&exchange.id).cloned().ok_or(NotHeld)?;
        shared.resume(exchange, taken)
    }

    /// A gateway has linked: it has some time to ask for what is its own, and the rest goes.
    pub fn linked(&self, gateway: u64) {
        let deadline = Instant::now() + ASKED_WITHIN;
        for line in self.lock().values() {
            match line.owner {
                Owner::Gateway(other) if other != gateway => line.dropped.cancel(),
                _ => {
                    line.lock().asked_before = Some(deadline);
                    line.changed.send_modify(|_| {});
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Shared>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn resume(&self, exchange: Exchange, taken: u64) -> Result<(), NotHeld> {
        let mut state = self.lock();
        let turn = state.turn + 1;
        if self.dropped.is_cancelled() || !state.retained.has(taken) {
            return Err(NotHeld);
        }
        self.bodies.try_send((turn, exchange.body)).map_err(|_| NotHeld)?;
        state.retained.taken(taken);
        let mut held = BytesMut::new();
        json_frame(Kind::Held, &state.retained.held()).encode(&mut held);
        (state.turn, state.sent, state.asked_before) = (turn, taken, None);
        (state.ahead, state.out) = (Some(held.freeze()), Some(exchange.out));
        state.connection = exchange.connection;
        drop(state);
        self.changed.send_modify(|turns| *turns += 1);
        Ok(())
    }
}

impl Line {
    /// Waits until the exchange is over for good: cancelled, dropped, or without its gateway for too long.
    pub async fn over(&self) {
        let mut changed = self.shared.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let (turn, out) = {
                let state = self.shared.lock();
                (state.turn, state.out.clone())
            };
            if let Some(out) = out {
                tokio::select! {
                    () = out.closed() => {}
                    () = self.shared.dropped.cancelled() => return,
                }
                let mut state = self.shared.lock();
                if state.turn == turn {
                    if !state.connection.over.is_cancelled() {
                        return;
                    }
                    state.out = None;
                }
                continue;
            }
            let deadline = {
                let state = self.shared.lock();
                let alone = state.connection.last_word() + ALONE;
                state.asked_before.map_or(alone, |asked| asked.min(alone))
            };
            tokio::select! {
                () = self.shared.dropped.cancelled() => return,
                _ = changed.changed() => {}
                () = tokio::time::sleep_until(deadline) => return,
            }
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.lines.lock().remove(&self.shared.id);
        self.shared.dropped.cancel();
        self.shared.lock().out = None;
    }
}

impl Outlet {
    /// Sends this, after all that was to be sent before; waits while the reader is slow, or too much is kept for one that is away. Whether the exchange is there.
    pub async fn send(&self, chunk: Bytes) -> bool {
        if self.is_full() && !self.room().await {
            return false;
        }
        self.0.lock().retained.push(chunk);
        self.flush().await
    }

    /// Whether too much is kept for a gateway that is away.
    fn is_full(&self) -> bool {
        let state = self.0.lock();
        state.out.is_none() && state.retained.is_full()
    }

    /// Waits until it is back. Whether the exchange is there.
    async fn room(&self) -> bool {
        let mut changed = self.0.changed.subscribe();
        loop {
            changed.borrow_and_update();
            if !self.is_full() {
                return true;
            }
            tokio::select! {
                () = self.0.dropped.cancelled() => return false,
                _ = changed.changed() => {}
            }
        }
    }

    /// Sends what is there, as far as somebody reads it. Whether the exchange is there.
    pub async fn flush(&self) -> bool {
        loop {
            let (turn, out, next) = {
                let mut state = self.0.lock();
                let Some(out) = state.out.clone() else { break };
                let next = match state.ahead.take() {
                    Some(ahead) => Some((ahead, 0)),
                    None => state.retained.at(state.sent).map(|chunk| {
                        let length = chunk.len() as u64;
                        (chunk, length)
                    }),
                };
                (state.turn, out, next)
            };
            let Some((chunk, length)) = next else { break };
            let sent = out.send(chunk).await.is_ok();
            let mut state = self.0.lock();
            if state.turn == turn && sent {
                state.sent += length;
            } else if state.turn == turn {
                // [`Line::over`] finds out what that means.
                break;
            }
        }
        !self.0.dropped.is_cancelled()
    }

    /// Ends the response.
    pub fn close(&self) {
        self.0.lock().out = None;
    }

    /// Waits until there is something to be sent again.
    pub async fn resumed(&self) {
        let mut changed = self.0.changed.subscribe();
        loop {
            changed.borrow_and_update();
            if self.0.lock().ahead.is_some() || changed.changed().await.is_err() {
                return;
            }
        }
    }
}

impl Inlet {
    /// The next request of this exchange, and its turn.
    pub async fn next(&mut self) -> Option<(u64, Body)> {
        let mut newest = self.bodies.recv().await;
        while let Ok(newer) = self.bodies.try_recv() {
            newest = Some(newer);
        }
        newest
    }

    /// Inputs came with the request of this turn; false where another turn has begun, and the gateway was told that they are not held.
    pub fn given(&self, turn: u64, first: u64, count: u64, attempt: u32, bytes: u64) -> bool {
        let mut state = self.shared.lock();
        let is_current = state.turn == turn;
        if is_current {
            state.retained.given(first, count, attempt, bytes);
        }
        is_current
    }

    /// Whether the request of this turn is the last one, and its connection is there.
    pub fn is_attached(&self, turn: u64) -> bool {
        let state = self.shared.lock();
        state.turn == turn && !state.connection.over.is_cancelled()
    }

    /// The gateway has taken everything before this place.
    pub fn taken(&self, place: u64) {
        self.shared.lock().retained.taken(place);
    }
}
