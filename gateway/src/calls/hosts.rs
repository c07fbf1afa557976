//! The hosts that work for a call: what each was promised, what it was sent, how it does.
//!
//! A call may have a thousand hosts, and most news come from one of them. So sums are kept, and only those hosts are seen to again that something has changed for: they are *stirred* (it may be time to tell them how many workers they have) and *willing* (they may take inputs).

use std::collections::{BTreeSet, HashMap};

use muster_wire::batch::Inputs;
use muster_wire::frame::{Frame, Kind};
use muster_wire::message::{WorkerStatus, json_frame};

use super::handle::Shared;
use super::machine::LinkId;
use crate::fleet::Target;
use crate::link::{Exchange, Inbox};

/// Bytes of inputs in one frame.
const FRAME_BYTES: usize = 4 << 20;

/// All hosts that work for a call.
#[derive(Default)]
pub(super) struct Hosts {
    hosts: HashMap<LinkId, Host>,
    stirred: BTreeSet<LinkId>,
    willing: BTreeSet<LinkId>,
    running: u32,
    starting: u32,
    at_work: u32,
}

/// A host that works for this call. Dropping it cancels the call there.
pub(super) struct Host {
    exchange: Exchange,
    /// Inputs, and bytes of them, that it is willing to have received in all.
    pub demand: (u64, u64),
    sent: (u64, u64),
    /// Workers that placement gives the call there.
    target: u32,
    told: u32,
    status: WorkerStatus,
}

impl Hosts {
    /// Follows a placement: opens exchanges where there are workers to be had, and notes how many.
    pub fn follow(&mut self, targets: &[Target], shared: &Shared, news: &Inbox) {
        let before: HashMap<LinkId, u32> =
            self.hosts.iter().map(|(&id, host)| (id, host.target)).collect();
        self.hosts.values_mut().for_each(|host| host.target = 0);
        for target in targets {
            let open = || Host::open(target, shared, news.clone());
            self.hosts.entry(target.link.id).or_insert_with(open).target = target.workers;
        }
        for (id, host) in &self.hosts {
            if before.get(id) != Some(&host.target) {
                self.stirred.insert(*id);
                self.willing.insert(*id);
            }
        }
    }

    /// A host, if it works for this call. Whatever is changed about it is seen to by the next settling.
    pub fn stir(&mut self, link: LinkId) -> Option<&mut Host> {
        let host = self.hosts.get_mut(&link)?;
        self.stirred.insert(link);
        self.willing.insert(link);
        Some(host)
    }

    /// Whether a host works for this call.
    pub fn has(&self, link: LinkId) -> bool {
        self.hosts.contains_key(&link)
    }

    /// What a host says of its workers.
    pub fn note(&mut self, link: LinkId, status: WorkerStatus) {
        self.count(link, |sum, part| *sum -= part);
        if let Some(host) = self.hosts.get_mut(&link) {
            host.status = status;
        }
        self.count(link, |sum, part| *sum += part);
    }

    /// An exchange has ended.
    pub fn remove(&mut self, link: LinkId) {
        self.count(link, |sum, part| *sum -= part);
        self.hosts.remove(&link);
    }

    /// Tells stirred hosts how many workers they may have; one that cannot be told now is told next time.
    pub fn tell_workers(&mut self, holds_inputs: impl Fn(LinkId) -> bool) {
        let hosts = &mut self.hosts;
        self.stirred.retain(|id| {
            hosts.get_mut(id).is_some_and(|host| !host.tell_workers(holds_inputs(*id)))
        });
    }

    /// The willing host at or after this one.
    pub fn willing_from(&mut self, from: LinkId) -> Option<(LinkId, &mut Host)> {
        let gone = |id: &LinkId| !self.hosts.contains_key(id);
        while let Some(id) = self.willing.range(from..).next().copied().filter(gone) {
            self.willing.remove(&id);
        }
        let id = *self.willing.range(from..).next()?;
        Some((id, self.hosts.get_mut(&id)?))
    }

    /// It takes no inputs now; the next news of it may change that.
    pub fn unwilling(&mut self, link: LinkId) {
        self.willing.remove(&link);
    }

    /// Workers that take inputs, and workers being made ready.
    pub fn workers(&self) -> (u32, u32) {
        (self.running, self.starting)
    }

    /// How many hosts have workers that take inputs.
    pub fn at_work(&self) -> u32 {
        self.at_work
    }

    /// What a host says it waits for.
    pub fn waiting(&self) -> Option<&str> {
        self.hosts.values().find_map(|host| host.status.waiting.as_deref())
    }

    /// All of them.
    pub fn into_all(self) -> impl Iterator<Item = Host> {
        self.hosts.into_values()
    }

    fn count(&mut self, link: LinkId, change: impl Fn(&mut u32, u32)) {
        let Some(host) = self.hosts.get(&link) else { return };
        change(&mut self.running, host.status.running);
        change(&mut self.starting, host.status.starting);
        change(&mut self.at_work, u32::from(host.status.running > 0));
    }
}

impl Host {
    /// Opens an exchange and sends the call. Before its first DEMAND the host takes an input for each worker.
    fn open(target: &Target, shared: &Shared, news: Inbox) -> Host {
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

    /// Tells it how many workers the call may have. It keeps one while it holds inputs: none is taken from it unfinished. Whether it knows.
    fn tell_workers(&mut self, holds_inputs: bool) -> bool {
        let workers = self.target.max(u32::from(holds_inputs && self.told > 0));
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
        if self.target == 0 || inputs == 0 || bytes == 0 || !self.exchange.has_room() {
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
