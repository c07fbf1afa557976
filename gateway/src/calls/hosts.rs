//! The hosts that work for a call: what each was promised, what it was sent, how it does.
//!
//! A suspect host keeps what it holds and is given no more, and its workers do not count as running. A draining one is given no more either, and when it has answered what it holds its exchange is ended, so that its agent sees the call end.
//!
//! A call may have a thousand hosts, and most news come from one of them. So sums are kept, and only those hosts are seen to again that something has changed for: they are *stirred* (it may be time to tell them how many workers they have) and *willing* (they may take inputs).

mod exchanges;
mod host;

use std::collections::{BTreeSet, HashMap, HashSet};

use muster_wire::frame::Frame;
use muster_wire::message::WorkerStatus;

use self::exchanges::Away;
use self::host::Host;
use super::handle::Shared;
use super::machine::LinkId;
use crate::fleet::{HostState, Target};
use crate::link::Inbox;

/// All hosts that work for a call.
#[derive(Default)]
pub(super) struct Hosts {
    hosts: HashMap<LinkId, Host>,
    stirred: BTreeSet<LinkId>,
    willing: BTreeSet<LinkId>,
    /// Those of whose exchange the store may not know all, where it is to know.
    unsaved: BTreeSet<LinkId>,
    /// Exchanges that were ended here and not there yet.
    leaving: HashSet<LinkId>,
    /// Exchanges whose connection broke, by the name of their host.
    away: HashMap<String, Away>,
    /// Exchanges that the store has and that have ended.
    ended: Vec<u64>,
    running: u32,
    starting: u32,
    at_work: u32,
}

impl Hosts {
    /// Follows a placement: opens exchanges where there are workers to be had, with `secrets` as they are then, and notes how many.
    pub fn follow<E>(
        &mut self,
        targets: &[Target],
        shared: &Shared,
        secrets: impl FnOnce() -> Result<Option<Frame>, E>,
        news: &Inbox,
    ) -> Result<(), E> {
        let begin = self.beginning(targets);
        let secrets = if begin.is_empty() { None } else { secrets()? };
        let before: HashMap<LinkId, (u32, HostState)> =
            self.hosts.iter().map(|(&id, host)| (id, (host.target, host.state))).collect();
        self.hosts.values_mut().for_each(|host| host.target = 0);
        for target in targets {
            let id = target.link.id;
            if begin.contains(&id) {
                let host = Host::open(target, shared, secrets.as_ref(), news.clone());
                self.put_in(id, host);
            }
            if let Some(host) = self.hosts.get_mut(&id) {
                host.target = target.workers;
            }
        }
        self.see_states();
        for (id, host) in &self.hosts {
            if before.get(id) != Some(&(host.target, host.state)) {
                self.stirred.insert(*id);
                self.willing.insert(*id);
            }
        }
        Ok(())
    }

    /// Where the call begins anew. A host that it works with over another link will be asked for that exchange.
    fn beginning(&self, targets: &[Target]) -> HashSet<LinkId> {
        let at_work: HashSet<&str> =
            self.hosts.values().map(|host| host.link.host.as_str()).collect();
        let begins = |target: &&Target| {
            let (id, name) = (target.link.id, target.link.host.as_str());
            !self.leaving.contains(&id) && !at_work.contains(name) && !self.away.contains_key(name)
        };
        targets.iter().filter(begins).map(|target| target.link.id).collect()
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

    fn put_in(&mut self, link: LinkId, host: Host) {
        if host.lasts {
            self.unsaved.insert(link);
        }
        self.hosts.insert(link, host);
    }

    fn take_out(&mut self, link: LinkId) -> Option<Host> {
        self.count(link, |sum, part| *sum -= part);
        let host = self.hosts.remove(&link)?;
        self.forget(host.place);
        Some(host)
    }

    /// Tells stirred hosts how many workers they may have; one that cannot be told now is told next time. Those that drain and hold nothing are let go.
    pub fn tell_workers(&mut self, holds_inputs: impl Fn(LinkId) -> bool, received: u64) {
        let (hosts, leaving) = (&mut self.hosts, &mut self.leaving);
        self.stirred.retain(|id| {
            let Some(host) = hosts.get_mut(id) else { return false };
            let holds = holds_inputs(*id);
            if host.state == HostState::Draining && !holds && !host.asked {
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

    /// A host that is suspect, or away.
    pub fn suspect(&self) -> Option<&str> {
        let mut suspects = self.hosts.values().filter(|host| host.state == HostState::Suspect);
        let suspect = suspects.next().map(|host| host.link.host.as_str());
        suspect.or_else(|| self.away.keys().next().map(String::as_str))
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
