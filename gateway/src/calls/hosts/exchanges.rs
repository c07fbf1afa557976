//! The exchanges of a call over the ends of their connections: those that are away, and what the store has of all of them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use muster_wire::message::Held;
use tokio::time::Instant;

use super::Hosts;
use super::host::{Host, Place};
use crate::calls::away::{self, Next, Seen, Since};
use crate::calls::handle::Shared;
use crate::calls::machine::{LinkId, Range};
use crate::fleet::Links;
use crate::link::{HostLink, Inbox};
use crate::store::durable::{Change, StoredExchange};

pub(super) struct Away {
    place: Place,
    since: Since,
    at: Instant,
    link: Option<Arc<HostLink>>,
}

/// What has become of hosts that were away.
#[derive(Debug, Default)]
pub(in crate::calls) struct Returned {
    /// They go on under another link.
    pub moved: Vec<(LinkId, LinkId)>,
    /// They do not come back.
    pub lost: Vec<LinkId>,
}

impl Hosts {
    pub(super) fn forget(&mut self, place: Place) {
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
                    self.put_in(link.id, Host::ask(link, place, shared, news.clone()));
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
            if host.lasts {
                self.unsaved.insert(link);
            }
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
        let at_work = self.unsaved.iter().filter_map(|link| self.hosts.get(link));
        let at_work = at_work.map(|host| (host.link.host.as_str(), &host.place));
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
        let hosts = &mut self.hosts;
        self.unsaved.retain(|link| {
            let Some(host) = hosts.get_mut(link) else { return false };
            if let Some(taken) = saved.remove(&host.place.exchange) {
                host.place.saved = Some(taken);
                host.tell_taken();
            }
            host.place.saved != Some(host.place.taken)
        });
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
}

impl Away {
    fn next(&self, link: Option<&Arc<HostLink>>, now: Instant) -> Next {
        let given_up = self.link.as_ref().is_some_and(|link| link.is_given_up());
        away::next(self.since, self.at, Seen { link: link.map(|link| link.id), given_up }, now)
    }
}
