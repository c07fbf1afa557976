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

use super::away::{self, Next, Seen, Since};
use super::handle::Shared;
use super::machine::LinkId;
use super::machine::Range;
use crate::fleet::{HostState, Links, Target};
use crate::link::{Exchange, ExchangeName, HostLink, Inbox};
use crate::store::durable::{Change, StoredExchange};
use muster_wire::message::Held;
use tokio::time::Instant;

/// Bytes of inputs in one frame.
const FRAME_BYTES: usize = 4 << 20;
/// Bytes of what a host said after which it is told that they were taken.
const TAKEN_EVERY: u64 = 256 << 10;

/// All hosts that work for a call.
#[derive(Default)]
pub(super) struct Hosts {
    hosts: HashMap<LinkId, Host>,
    stirred: BTreeSet<LinkId>,
    willing: BTreeSet<LinkId>,
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
    place: Place,
    /// It was asked for an exchange again, and has not said what it holds.
    asked: bool,
    /// What it said counts as taken once the store has it.
    lasts: bool,
}

/// How far an exchange has come.
#[derive(Debug, Clone, Copy)]
struct Place {
    exchange: u64,
    /// Bytes of what the host said that were seen to.
    taken: u64,
    /// The same as the store has it, if it does.
    saved: Option<u64>,
    /// The same as the host was told.
    told: u64,
}

struct Away {
    place: Place,
    since: Since,
    at: Instant,
    link: Option<Arc<HostLink>>,
}

/// What has become of hosts that were away.
#[derive(Debug, Default)]
pub(super) struct Returned {
    /// They go on under another link.
    pub moved: Vec<(LinkId, LinkId)>,
    /// They do not come back.
    pub lost: Vec<LinkId>,
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
        let at_work: HashSet<String> =
            self.hosts.values().map(|host| host.link.host.clone()).collect();
        for target in targets.iter().filter(|target| !self.leaving.contains(&target.link.id)) {
            // A host that this call works with over another link will be asked for that exchange.
            let name = &target.link.host;
            if !self.hosts.contains_key(&target.link.id)
                && (at_work.contains(name) || self.away.contains_key(name))
            {
                continue;
            }
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
        let host = self.hosts.remove(&link)?;
        self.forget(host.place);
        Some(host)
    }

    fn forget(&mut self, place: Place) {
        if place.saved.is_some() {
            self.ended.push(place.exchange);
        }
    }

    /// A connection broke. Whether its exchange may be asked for again; else it has ended.
    pub fn breaks(&mut self, link: LinkId) -> bool {
        if self.leaving.remove(&link) {
            return false;
        }
        self.count(link, |sum, part| *sum -= part);
        let Some(Host { link: at, place, .. }) = self.hosts.remove(&link) else { return false };
        let (name, since) = (at.host.clone(), Since::Broken(link));
        let away = Away { place, since, at: Instant::now(), link: Some(at) };
        if let Some(before) = self.away.insert(name, away) {
            self.forget(before.place);
        }
        true
    }

    /// An exchange that an earlier gateway had.
    pub fn restore(&mut self, stored: &StoredExchange) {
        let StoredExchange { exchange, taken, .. } = *stored;
        let place = Place { exchange, taken, saved: Some(taken), told: taken };
        let away = Away { place, since: Since::Restored, at: Instant::now(), link: None };
        if let Some(before) = self.away.insert(stored.host.clone(), away) {
            self.forget(before.place);
        }
    }

    /// Sees to hosts that are away: asks those that are back.
    pub fn look_for(&mut self, links: &Links, shared: &Shared, news: &Inbox) -> Returned {
        let mut returned = Returned::default();
        let now = Instant::now();
        let names: Vec<String> = self.away.keys().cloned().collect();
        for name in names {
            let Some(away) = self.away.get(&name) else { continue };
            let link = links.get(&name);
            let next = match away.next(link, now) {
                // Another exchange with it has begun: it was given the call anew.
                Next::Ask if link.is_some_and(|link| self.hosts.contains_key(&link.id)) => {
                    Next::Lose
                }
                next => next,
            };
            match (next, link) {
                (Next::Ask, Some(link)) => {
                    let Some(Away { place, since, .. }) = self.away.remove(&name) else { continue };
                    self.hosts.insert(link.id, Host::ask(link, place, shared, news.clone()));
                    if let Since::Broken(before) = since {
                        returned.moved.push((before, link.id));
                    }
                }
                (Next::Lose, _) => {
                    let Some(Away { place, since, .. }) = self.away.remove(&name) else { continue };
                    self.forget(place);
                    if let Since::Broken(before) = since {
                        returned.lost.push(before);
                    }
                }
                _ => {}
            }
        }
        returned
    }

    /// When hosts that are away should be looked for, at the latest.
    pub fn look_at(&self, links: &Links) -> Option<Instant> {
        let now = Instant::now();
        let looks = self.away.iter().map(|(name, away)| match away.next(links.get(name), now) {
            Next::Wait(until) => until,
            Next::Ask | Next::Lose => now,
        });
        looks.min()
    }

    /// A host that was asked says what it holds: its inputs, as ranges.
    pub fn holds(&mut self, link: LinkId, held: &Held) -> Option<Vec<Range>> {
        let host = self.stir(link)?;
        (host.asked, host.sent) = (false, (held.inputs, held.bytes));
        // It may have been told before that the connection broke, or not.
        host.told = u32::MAX;
        let range = |&(first, end, attempt): &(u64, u64, u32)| Range { first, end, attempt };
        Some(held.ranges.iter().map(range).collect())
    }

    /// Whether hosts of an earlier gateway may still say that they hold inputs that wait here.
    pub fn awaited(&self) -> bool {
        self.away.values().any(|away| away.since == Since::Restored)
            || self.hosts.values().any(|host| host.asked)
    }

    /// What a host said was seen to, up to this place.
    pub fn took(&mut self, link: LinkId, place: u64) {
        if let Some(host) = self.hosts.get_mut(&link) {
            host.place.taken = host.place.taken.max(place);
            host.tell_taken();
        }
    }

    /// What the store does not know of the exchanges: how far they are only where events are saved too, as they are all that may not come twice.
    pub fn unsaved(&self, call: &str, events: bool) -> Vec<Change> {
        let exchange = |name: &str, place: &Place| {
            let (call, host) = (call.to_owned(), name.to_owned());
            Change::Exchange(StoredExchange {
                call,
                exchange: place.exchange,
                host,
                taken: place.taken,
            })
        };
        let at_work = self.hosts.values().map(|host| (host.link.host.as_str(), &host.place));
        let away = self.away.iter().map(|(name, away)| (name.as_str(), &away.place));
        let changed = at_work.chain(away).filter(|(_, place)| match place.saved {
            Some(saved) => events && saved != place.taken,
            None => true,
        });
        let gone = self.ended.iter().map(|&exchange| {
            let call = call.to_owned();
            Change::ExchangeEnd { call, exchange }
        });
        changed.map(|(name, place)| exchange(name, place)).chain(gone).collect()
    }

    /// The store knows this.
    pub fn saved(&mut self, changes: &[Change]) {
        let mut saved: HashMap<u64, u64> = HashMap::new();
        let mut gone: HashSet<u64> = HashSet::new();
        for change in changes {
            match change {
                Change::Exchange(StoredExchange { exchange, taken, .. }) => {
                    saved.insert(*exchange, *taken);
                }
                Change::ExchangeEnd { exchange, .. } => drop(gone.insert(*exchange)),
                _ => {}
            }
        }
        self.ended.retain(|exchange| !gone.contains(exchange));
        for host in self.hosts.values_mut() {
            if let Some(taken) = saved.remove(&host.place.exchange) {
                host.place.saved = Some(taken);
                host.tell_taken();
            }
        }
        for away in self.away.values_mut() {
            if let Some(taken) = saved.remove(&away.place.exchange) {
                away.place.saved = Some(taken);
            }
        }
        // These ended while that was being written.
        saved.retain(|exchange, _| !self.ended.contains(exchange));
        self.ended.extend(saved.into_keys());
    }

    /// Waits until every connection has ended.
    pub async fn until_cut(&self) {
        for host in self.hosts.values() {
            host.link.over().await;
        }
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

impl Away {
    fn next(&self, link: Option<&Arc<HostLink>>, now: Instant) -> Next {
        let given_up = self.link.as_ref().is_some_and(|link| link.is_given_up());
        away::next(self.since, self.at, Seen { link: link.map(|link| link.id), given_up }, now)
    }
}

impl Place {
    fn name(&self, shared: &Shared, taken: Option<u64>) -> ExchangeName {
        ExchangeName { id: self.exchange, lasts: shared.kept.is_some(), taken }
    }
}

impl Host {
    /// Opens an exchange and sends the call. Before its first DEMAND the host takes an input for each worker.
    fn open(target: &Target, shared: &Shared, secrets: Option<&Frame>, news: Inbox) -> Host {
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
    fn ask(link: &Arc<HostLink>, place: Place, shared: &Shared, news: Inbox) -> Host {
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

    fn tell_taken(&mut self) {
        let Place { taken, saved, told, .. } = self.place;
        let taken = if self.lasts { saved.unwrap_or(0) } else { taken };
        if taken >= told + TAKEN_EVERY
            && self.exchange.send(Frame::of_u64(Kind::Taken, taken)).is_ok()
        {
            self.place.told = taken;
        }
    }

    /// Tells it how many workers the call may have. It keeps one while it holds inputs, and all of them while it drains: none is taken from it unfinished. Whether it knows.
    fn tell_workers(&mut self, holds_inputs: bool) -> bool {
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
