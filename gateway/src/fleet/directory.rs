//! The hosts as the front door sees them: every host's status for those who ask, and one of each kind for admission, so that admitting a call costs the same however many hosts there are. Pure but for the lock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use muster_wire::message::HostStatus;
use serde::Serialize;

use super::HostState;
use crate::calls::machine::LinkId;

/// A cheap handle to the hosts' statuses.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    shared: Arc<Mutex<Shared>>,
}

/// A host as those who look at hosts see it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HostRecord {
    /// What it says of itself.
    #[serde(flatten)]
    pub status: HostStatus,
    /// Whether it gets anything new.
    pub state: HostState,
}

#[derive(Debug, Default)]
struct Shared {
    hosts: BTreeMap<LinkId, HostRecord>,
    kinds: Vec<Kind>,
    known: Arc<Vec<HostStatus>>,
}

/// Hosts that a call cannot tell apart.
#[derive(Debug)]
struct Kind {
    like: HostStatus,
    hosts: BTreeSet<LinkId>,
}

impl Directory {
    /// All hosts, by name.
    pub fn hosts(&self) -> Vec<HostRecord> {
        let mut hosts: Vec<HostRecord> = self.lock().hosts.values().cloned().collect();
        hosts.sort_by(|a, b| a.status.host.cmp(&b.status.host));
        hosts
    }

    /// One host.
    pub fn host(&self, link: LinkId) -> Option<HostRecord> {
        self.lock().hosts.get(&link).cloned()
    }

    /// Whether a host gets anything new.
    pub fn set_state(&self, link: LinkId, state: HostState) {
        if let Some(host) = self.lock().hosts.get_mut(&link) {
            host.state = state;
        }
    }

    /// One host of each kind: what a call can be admitted to. What is free there says nothing about the others.
    pub fn kinds(&self) -> Arc<Vec<HostStatus>> {
        self.lock().known.clone()
    }

    /// A host is like this now; whether calls can tell it from what it was.
    pub fn set(&self, link: LinkId, status: HostStatus) -> bool {
        let mut shared = self.lock();
        let known = shared.hosts.get(&link).map(|host| &host.status);
        if let Some(before) = known {
            count_claims(before, &status);
        }
        let looks = known.is_none_or(|before| !alike(before, &status));
        let draining = known.is_none_or(|before| before.draining != status.draining);
        if looks {
            shared.leave(link);
            match shared.kinds.iter_mut().find(|kind| alike(&kind.like, &status)) {
                Some(kind) => drop(kind.hosts.insert(link)),
                None => {
                    let hosts = BTreeSet::from([link]);
                    shared.kinds.push(Kind { like: status.clone(), hosts });
                    shared.publish();
                }
            }
        }
        let state = shared.hosts.get(&link).map(|host| host.state).unwrap_or_default();
        shared.hosts.insert(link, HostRecord { status, state });
        looks || draining
    }

    /// A host has gone.
    pub fn remove(&self, link: LinkId) {
        let mut shared = self.lock();
        shared.leave(link);
        shared.hosts.remove(&link);
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Takes a host out of its kind.
    fn leave(&mut self, link: LinkId) {
        let Some(at) = self.kinds.iter().position(|kind| kind.hosts.contains(&link)) else {
            return;
        };
        let kind = &mut self.kinds[at];
        kind.hosts.remove(&link);
        let name = self.hosts.get(&link).map(|host| host.status.host.as_str());
        if let Some(next) = kind.hosts.first() {
            // Messages name a host that is there.
            if name == Some(kind.like.host.as_str()) {
                kind.like.host.clone_from(&self.hosts[next].status.host);
                self.publish();
            }
        } else {
            self.kinds.remove(at);
            self.publish();
        }
    }

    fn publish(&mut self) {
        self.known = Arc::new(self.kinds.iter().map(|kind| kind.like.clone()).collect());
    }
}

fn alike(a: &HostStatus, b: &HostStatus) -> bool {
    (a.cores, a.lent_cores, a.ram_bytes, a.pull) == (b.cores, b.lent_cores, b.ram_bytes, b.pull)
        && (&a.images, &a.shares) == (&b.images, &b.shares)
        && a.runtimes == b.runtimes
}

/// How many claims found a warm worker, over all hosts: an agent tells how many there were since it began.
fn count_claims(before: &HostStatus, now: &HostStatus) {
    let counts = [
        ("warm", before.warm_claims, now.warm_claims),
        ("cold", before.cold_claims, now.cold_claims),
    ];
    for (found, before, now) in counts {
        metrics::counter!("muster_worker_claims_total", "found" => found)
            .increment(now.saturating_sub(before));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_wire::message::Image;

    fn host(name: &str, cores: f64) -> HostStatus {
        HostStatus {
            host: name.into(),
            version: "1".into(),
            cores,
            ram_bytes: 1 << 30,
            free_cores: cores,
            lent_cores: 0.0,
            waiting_workers: 0,
            free_ram_bytes: 1 << 30,
            workers: 0,
            warm: 0,
            warm_claims: 0,
            cold_claims: 0,
            draining: false,
            pull: false,
            images: vec![Image { name: "x".into(), python: None }],
            runtimes: vec!["runc".into()],
            shares: Vec::new(),
        }
    }

    fn names(hosts: &[HostStatus]) -> Vec<&str> {
        hosts.iter().map(|host| host.host.as_str()).collect()
    }

    #[test]
    fn hosts_that_look_alike_are_one_kind_and_what_is_free_does_not_count() {
        let directory = Directory::default();
        assert!(directory.set(1, host("b", 2.0)));
        assert!(directory.set(2, host("a", 2.0)));
        assert!(directory.set(3, host("c", 4.0)));
        assert!(!directory.set(1, HostStatus { free_cores: 0.0, workers: 2, ..host("b", 2.0) }));
        assert!(directory.set(1, HostStatus { draining: true, ..host("b", 2.0) }));
        assert_eq!(names(&directory.kinds()), ["b", "c"]);
        let all: Vec<String> = directory.hosts().into_iter().map(|it| it.status.host).collect();
        assert_eq!(all, ["a", "b", "c"]);
    }

    #[test]
    fn a_kind_is_known_by_a_host_that_is_there_and_goes_with_its_last() {
        let directory = Directory::default();
        directory.set(1, host("b", 2.0));
        directory.set(2, host("a", 2.0));
        directory.remove(1);
        assert_eq!(names(&directory.kinds()), ["a"]);
        directory.set(2, host("a", 3.0));
        assert_eq!(directory.kinds()[0].cores, 3.0);
        directory.remove(2);
        assert_eq!((directory.kinds().len(), directory.hosts().len()), (0, 0));
    }
}
