//! The hosts that work for a call: what each was promised, what it was sent, how it does.
//!
//! A suspect host keeps what it holds and is given no more, and its workers do not count as running. A draining one is given no more either, and when it has answered what it holds its exchange is ended, so that its agent sees the call end.
//!
//! A call may have a thousand hosts, and most news come from one of them. So sums are kept, and only those hosts are seen to again that something has changed for: they are *stirred* (it may be time to tell them how many workers they have) and *willing* (they may take inputs).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use muster_wire::batch::Inputs;
use muster_wire::frame::{Frame, Kind};
use muster_wire::message::{WorkerStatus, json_frame};

use super::handle::Shared;
use super::machine::LinkId;
use crate::fleet::{HostState, Target};
use crate::link::{Exchange, HostLink, Inbox};

/// Bytes of inputs in one frame.
const FRAME_BYTES: usize = 4 << 20;

/// All hosts that work for a call.
#[derive(Default)]
pub(super) struct Hosts {
    hosts: HashMap<LinkId, Host>,
    stirred: BTreeSet<LinkId>,
    willing: BTreeSet<LinkId>,
    /// Exchanges that were ended here and not there yet.
    leaving: HashSet<LinkId>,
    running: u32,
    starting: u32,
    at_work: u32,
}

/// A host that works for this call. Dropping it cancels the call there.
pub(super) struct Host {
    link: Arc<HostLink>,
    /// What was last seen of the link's.
    state: HostState,
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
    pub fn follow(
        &mut self,
        targets: &[Target],
        shared: &Shared,
        secrets: Option<&Frame>,
        news: &Inbox,
    ) {
        let before: HashMap<LinkId, (u32, HostState)> =
            self.hosts.iter().map(|(&id, host)| (id, (host.target, host.state))).collect();
        self.hosts.values_mut().for_each(|host| host.target = 0);
        for target in targets.iter().filter(|target| !self.leaving.contains(&target.link.id)) {
            let open = || Host::open(target, shared, secrets, news.clone());
            self.hosts.entry(target.link.id).or_insert_with(open).target = target.workers;
        }
        self.see_states();
        for (id, host) in &self.hosts {
            if before.get(id) != Some(&(host.target, host.state)) {
                self.stirred.insert(*id);
                self.willing.insert(*id);
            }
        }
    }

    /// What the host is called.
    pub fn name(&self, link: LinkId) -> Option<&str> {
        self.hosts.get(&link).map(|host| host.link.host.as_str())
    }

    fn see_states(&mut self) {
        let changed = |host: &Host| host.link.state() != host.state;
        let links: Vec<LinkId> =
            self.hosts.iter().filter(|(_, host)| changed(host)).map(|(id, _)| *id).collect();
        for link in links {
            self.count(link, |sum, part| *sum -= part);
            if let Some(host) = self.hosts.get_mut(&link) {
                host.state = host.link.state();
            }
            self.count(link, |sum, part| *sum += part);
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
        self.leaving.remove(&link);
        self.take_out(link);
    }

    fn take_out(&mut self, link: LinkId) -> Option<Host> {
        self.count(link, |sum, part| *sum -= part);
        self.hosts.remove(&link)
    }

    /// Tells stirred hosts how many workers they may have; one that cannot be told now is told next time. Those that drain and hold nothing are let go.
    pub fn tell_workers(&mut self, holds_inputs: impl Fn(LinkId) -> bool, received: u64) {
        let (hosts, leaving) = (&mut self.hosts, &mut self.leaving);
        self.stirred.retain(|id| {
            let Some(host) = hosts.get_mut(id) else { return false };
            let holds = holds_inputs(*id);
            if host.state == HostState::Draining && !holds {
                leaving.insert(*id);
                return false;
            }
            !host.tell_workers(holds)
        });
        if !self.leaving.is_empty() {
            for link in self.leaving.clone() {
                if let Some(host) = self.take_out(link) {
                    host.finish(received);
                }
            }
        }
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

    /// A host that is suspect.
    pub fn suspect(&self) -> Option<&str> {
        let mut suspects = self.hosts.values().filter(|host| host.state == HostState::Suspect);
        suspects.next().map(|host| host.link.host.as_str())
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
        let heard = |host: &&Host| host.state != HostState::Suspect;
        let Some(host) = self.hosts.get(&link).filter(heard) else { return };
        change(&mut self.running, host.status.running);
        change(&mut self.starting, host.status.starting);
        change(&mut self.at_work, u32::from(host.status.running > 0));
    }
}

impl Host {
    /// Opens an exchange and sends the call. Before its first DEMAND the host takes an input for each worker.
    fn open(target: &Target, shared: &Shared, secrets: Option<&Frame>, news: Inbox) -> Host {
        shared.family.given_to(&target.link.host);
        let exchange = target.link.open(&shared.spec.call, news);
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
        }
    }

    /// Tells it how many workers the call may have. It keeps one while it holds inputs, and all of them while it drains: none is taken from it unfinished. Whether it knows.
    fn tell_workers(&mut self, holds_inputs: bool) -> bool {
        let workers = match self.state {
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
        let closed = self.target == 0 || self.state != HostState::Ready;
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
