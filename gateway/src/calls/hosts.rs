//! One host that works for a call: what it was promised, what it was sent, how it does.

use muster_wire::batch::Inputs;
use muster_wire::frame::{Frame, Kind};
use muster_wire::message::{WorkerStatus, json_frame};
use tokio::sync::mpsc;

use super::handle::Shared;
use super::machine::LinkId;
use crate::fleet::Target;
use crate::link::{Exchange, LinkEvent};

/// Bytes of inputs in one frame.
const FRAME_BYTES: usize = 4 << 20;

/// A host that works for this call. Dropping it cancels the call there.
pub(super) struct Host {
    exchange: Exchange,
    /// Inputs, and bytes of them, that it is willing to have received in all.
    pub demand: (u64, u64),
    sent: (u64, u64),
    /// Workers that placement gives the call there.
    pub target: u32,
    told: u32,
    /// What it said last.
    pub status: WorkerStatus,
}

impl Host {
    /// Opens an exchange and sends the call. Before its first DEMAND the host takes an input for each worker.
    pub fn open(target: &Target, shared: &Shared, news: mpsc::Sender<(LinkId, LinkEvent)>) -> Host {
        let exchange = target.link.open(&shared.spec.call, news);
        let mut opening = vec![json_frame(Kind::Spec, &shared.spec)];
        if !shared.function.is_empty() {
            opening.push(Frame::new(Kind::Function, shared.function.clone()));
        }
        for frame in opening {
            let sent = exchange.send(frame);
            debug_assert!(sent.is_ok(), "a new outbox has room");
        }
        Host {
            exchange,
            demand: (u64::from(target.workers), u64::MAX),
            sent: (0, 0),
            target: 0,
            told: 0,
            status: WorkerStatus::default(),
        }
    }

    /// Tells it how many workers the call may have. It keeps one while it holds inputs: none is taken from it unfinished.
    pub fn tell_workers(&mut self, holds_inputs: bool) {
        let workers = self.target.max(u32::from(holds_inputs && self.told > 0));
        if workers != self.told && self.exchange.send(Frame::of_u32(Kind::Workers, workers)).is_ok()
        {
            self.told = workers;
        }
    }

    /// How many inputs, and bytes of them, one frame may have now.
    pub fn allowance(&self) -> Option<(u64, usize)> {
        let inputs = self.demand.0.saturating_sub(self.sent.0);
        let bytes = self.demand.1.saturating_sub(self.sent.1);
        if self.target == 0 || inputs == 0 || bytes == 0 || !self.exchange.has_room() {
            return None;
        }
        Some((inputs, usize::try_from(bytes).unwrap_or(usize::MAX).min(FRAME_BYTES)))
    }

    /// Sends inputs; false when the exchange takes no more.
    pub fn give(&mut self, inputs: &Inputs) -> bool {
        let sent = self.exchange.send(inputs.to_frame()).is_ok();
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
