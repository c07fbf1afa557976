//! One host that works for a call: what it was promised, what it was sent, how far its exchange has come.

use std::sync::Arc;

use muster_wire::batch::Inputs;
use muster_wire::frame::{Frame, Kind};
use muster_wire::message::{WorkerStatus, json_frame};

use crate::calls::handle::Shared;
use crate::fleet::{HostState, Target};
use crate::link::{Exchange, ExchangeName, HostLink, Inbox};

/// Bytes of inputs in one frame.
const FRAME_BYTES: usize = 4 << 20;
/// Bytes of what a host said after which it is told that they were taken.
const TAKEN_EVERY: u64 = 256 << 10;

/// A host that works for this call. Dropping it cancels the call there.
pub(in crate::calls) struct Host {
    pub(super) link: Arc<HostLink>,
    /// What was last seen of the link's.
    pub(super) state: HostState,
    pub(super) exchange: Exchange,
    /// Inputs, and bytes of them, that it is willing to have received in all.
    pub demand: (u64, u64),
    pub(super) sent: (u64, u64),
    /// Workers that placement gives the call there.
    pub(super) target: u32,
    pub(super) told: u32,
    pub(super) status: WorkerStatus,
    pub(super) place: Place,
    /// It was asked for an exchange again, and has not said what it holds.
    pub(super) asked: bool,
    /// What it said counts as taken once the store has it.
    pub(super) lasts: bool,
}

/// How far an exchange has come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub exchange: u64,
    /// Bytes of what the host said that were seen to.
    pub taken: u64,
    /// The same as the store has it, if it does.
    pub saved: Option<u64>,
    /// The same as the host was told.
    pub told: u64,
}

impl Place {
    fn name(&self, shared: &Shared, taken: Option<u64>) -> ExchangeName {
        ExchangeName { id: self.exchange, lasts: shared.kept.is_some(), taken }
    }
}

impl Host {
    /// Opens an exchange and sends the call. Before its first DEMAND the host takes an input for each worker.
    pub(super) fn open(
        target: &Target,
        shared: &Shared,
        secrets: Option<&Frame>,
        news: Inbox,
    ) -> Host {
        shared.family.given_to(&target.link.host);
        let place = Place { exchange: rand::random(), taken: 0, saved: None, told: 0 };
        let name = place.name(shared, None);
        let exchange = target.link.open(&shared.spec.call, name, news);
        let mut opening = vec![json_frame(Kind::Spec, &shared.spec)];
        opening.extend(secrets.cloned());
        if !shared.function.is_empty() {
            opening.push(Frame::new(Kind::Function, shared.function.clone()));
        }
        for frame in opening {
            let sent = exchange.send(frame);
            debug_assert!(sent.is_ok(), "a new outbox has room");
        }
        Host {
            link: target.link.clone(),
            state: HostState::Ready,
            exchange,
            demand: (u64::from(target.workers), u64::MAX),
            sent: (0, 0),
            target: 0,
            told: 0,
            status: WorkerStatus::default(),
            place,
            asked: false,
            lasts: name.lasts,
        }
    }

    /// Asks a host that is back for its exchange.
    pub(super) fn ask(link: &Arc<HostLink>, place: Place, shared: &Shared, news: Inbox) -> Host {
        shared.family.given_to(&link.host);
        let name = place.name(shared, Some(place.taken));
        let exchange = link.open(&shared.spec.call, name, news);
        Host {
            link: link.clone(),
            state: HostState::Ready,
            exchange,
            // Both are told again.
            demand: (0, 0),
            sent: (0, 0),
            target: 0,
            told: 0,
            status: WorkerStatus::default(),
            place: Place { told: place.taken, ..place },
            asked: true,
            lasts: name.lasts,
        }
    }

    pub(super) fn tell_taken(&mut self) {
        let Place { taken, saved, told, .. } = self.place;
        let taken = if self.lasts { saved.unwrap_or(0) } else { taken };
        if taken >= told + TAKEN_EVERY
            && self.exchange.send(Frame::of_u64(Kind::Taken, taken)).is_ok()
        {
            self.place.told = taken;
        }
    }

    /// Tells it how many workers the call may have. It keeps one while it holds inputs, and all of them while it drains: none is taken from it unfinished. Whether it knows.
    pub(super) fn tell_workers(&mut self, holds_inputs: bool) -> bool {
        if self.asked {
            return true;
        }
        let workers = match self.state {
            _ if self.told == u32::MAX => self.target.max(u32::from(holds_inputs)),
            HostState::Draining => self.told,
            _ => self.target.max(u32::from(holds_inputs && self.told > 0)),
        };
        if workers != self.told && self.exchange.send(Frame::of_u32(Kind::Workers, workers)).is_ok()
        {
            self.told = workers;
        }
        workers == self.told
    }

    /// How many inputs, and bytes of them, one frame may have now.
    pub fn allowance(&self) -> Option<(u64, usize)> {
        let inputs = self.demand.0.saturating_sub(self.sent.0);
        let bytes = self.demand.1.saturating_sub(self.sent.1);
        let closed = self.target == 0 || self.asked || self.state != HostState::Ready;
        if closed || inputs == 0 || bytes == 0 || !self.exchange.has_room() {
            return None;
        }
        Some((inputs, usize::try_from(bytes).unwrap_or(usize::MAX).min(FRAME_BYTES)))
    }

    /// Sends inputs; false when the exchange takes no more.
    pub fn give(&mut self, inputs: &Inputs) -> bool {
        let sent = self.exchange.send(inputs.in_pieces()).is_ok();
        if sent {
            self.sent.0 += inputs.len() as u64;
            self.sent.1 += inputs.item_bytes() as u64;
        }
        sent
    }

    /// Every input is done: lets the exchange end by itself.
    pub fn finish(self, received: u64) {
        if self.exchange.send(Frame::of_u64(Kind::InputsEnd, received)).is_ok() {
            self.exchange.finish();
        }
    }
}
