//! The hosts of a fleet, by how much room each has left. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::{Need, Size, Slots};
use crate::calls::machine::LinkId;
use crate::fleet::HostState;
use crate::images;

/// A host as placement sees it. Most hosts of a fleet look alike.
#[derive(Debug, Clone, PartialEq)]
pub struct HostRoom {
    /// Cores it gives to workers.
    pub cores: f64,
    /// Memory it gives to workers, in bytes.
    pub ram_bytes: u64,
    /// Whether it takes anything new.
    pub state: HostState,
    /// May pull images that are not there.
    pub pull: bool,
    /// Names of the images that are there.
    pub images: Vec<String>,
    /// Runtimes that calls may ask for.
    pub runtimes: Vec<String>,
    /// Names of the shares that are there.
    pub shares: Vec<String>,
}

/// Names a kind of hosts.
pub type KindId = usize;

/// Hosts that look alike.
#[derive(Debug)]
struct Kind {
    room: HostRoom,
    size: Size,
    hosts: u32,
    /// Those that take new workers, by free cores; among equals, the one that came first is the last.
    roomy: BTreeSet<(i64, Reverse<LinkId>)>,
}

/// One host.
#[derive(Debug)]
pub struct Host {
    /// What it looks like.
    pub kind: KindId,
    /// What nobody was given; below nothing only until [`super::Placements::host`] has taken workers back.
    pub free: Size,
    /// Calls that have workers here, and how many.
    pub held: BTreeMap<u64, u32>,
}

/// All hosts.
#[derive(Debug, Default)]
pub struct Hosts {
    hosts: BTreeMap<LinkId, Host>,
    kinds: Vec<Kind>,
    all: Size,
    version: u64,
}

impl HostRoom {
    fn size(&self) -> Size {
        // A float cast saturates.
        Size { cpu: (self.cores * 1000.0 + 1e-6) as i64, ram: self.ram_bytes as i64 }
    }

    /// Whether it has what this call needs beside room.
    pub fn suits(&self, need: &Need) -> bool {
        (self.pull || self.images.iter().any(|there| images::same(there, &need.image)))
            && need.runtime.as_ref().is_none_or(|runtime| self.runtimes.contains(runtime))
            && self.shares(&need.shares)
    }

    /// Whether it has all of these shares.
    pub fn shares(&self, names: &[String]) -> bool {
        names.iter().all(|name| self.shares.contains(name))
    }
}

impl Hosts {
    /// A host came, or looks different now; what it holds stays.
    pub fn set(&mut self, link: LinkId, room: HostRoom) {
        let size = room.size();
        let kind = self.kind_of(room);
        let (mut free, mut held) = (size, BTreeMap::new());
        if let Some(before) = self.take_out(link) {
            let was = self.kinds[before.kind].size;
            free = Size {
                cpu: size.cpu - (was.cpu - before.free.cpu),
                ram: size.ram - (was.ram - before.free.ram),
            };
            held = before.held;
        }
        self.kinds[kind].hosts += 1;
        self.all = self.all.plus(size);
        self.hosts.insert(link, Host { kind, free, held });
        self.index(link, kind, free);
    }

    /// A host has gone.
    pub fn remove(&mut self, link: LinkId) -> Option<Host> {
        self.take_out(link)
    }

    /// Gives `count` slots of this size on a host to a call, or takes them back where it is negative.
    pub fn give(&mut self, link: LinkId, call: u64, size: Size, count: i64) {
        let Some(host) = self.hosts.get_mut(&link) else { return };
        let kind = host.kind;
        let before = host.free;
        host.free = before.minus(size.times(count));
        let held = host.held.entry(call).or_default();
        *held = (i64::from(*held) + count) as u32;
        if *held == 0 {
            host.held.remove(&call);
        }
        let free = host.free;
        self.kinds[kind].roomy.remove(&(before.cpu, Reverse(link)));
        self.index(link, kind, free);
    }

    /// The host with most free cores, of these kinds, that has room for one of this size.
    pub fn roomiest(&self, size: Size, suits: &[bool]) -> Option<LinkId> {
        let best = |kind: &Kind| {
            let fitting = kind.roomy.iter().rev().take_while(|(cpu, _)| *cpu >= size.cpu);
            let mut fitting =
                fitting.filter(|(_, Reverse(link))| self.hosts[link].free.holds(size));
            fitting.next().copied()
        };
        let kinds = self.kinds.iter().zip(suits).filter(|(_, suits)| **suits);
        kinds.filter_map(|(kind, _)| best(kind)).max().map(|(_, Reverse(link))| link)
    }

    /// One host.
    pub fn get(&self, link: LinkId) -> Option<&Host> {
        self.hosts.get(&link)
    }

    /// Whether a host takes new workers of those whom these kinds suit.
    pub fn takes(&self, link: LinkId, suits: &[bool]) -> bool {
        self.hosts.get(&link).is_some_and(|host| {
            suits.get(host.kind) == Some(&true)
                && self.kinds[host.kind].room.state == HostState::Ready
        })
    }

    /// What all hosts have, together.
    pub fn all(&self) -> Size {
        self.all
    }

    /// How many hosts there are.
    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    /// Rises when there is another kind of hosts: then [`suiting`](Hosts::suiting) has another answer.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Which kinds of hosts suit a call with this need.
    pub fn suiting(&self, need: &Need) -> Vec<bool> {
        self.kinds.iter().map(|kind| kind.room.suits(need)).collect()
    }

    /// How many hosts of these kinds take new workers.
    pub fn count(&self, suits: &[bool]) -> usize {
        self.kinds
            .iter()
            .zip(suits)
            .filter(|(_, suits)| **suits)
            .map(|(kind, _)| kind.roomy.len())
            .sum()
    }

    /// How many workers of this size all hosts of these kinds could hold if they were empty.
    pub fn slots(&self, size: Size, suits: &[bool]) -> Slots {
        let kinds = || self.kinds.iter().zip(suits).filter(|(_, suits)| **suits);
        let count = |ready: bool| {
            let kinds = kinds().filter(|(kind, _)| (kind.room.state == HostState::Ready) == ready);
            let slots: u64 =
                kinds.map(|(kind, _)| u64::from(kind.hosts) * kind.size.how_many(size)).sum();
            u32::try_from(slots).unwrap_or(u32::MAX)
        };
        Slots { open: count(true), closed: count(false) }
    }

    fn kind_of(&mut self, room: HostRoom) -> KindId {
        if let Some(kind) = self.kinds.iter().position(|kind| kind.room == room) {
            return kind;
        }
        let kind = Kind { size: room.size(), room, hosts: 0, roomy: BTreeSet::new() };
        self.version += 1;
        // A kind that no host has any more makes place, so that there are never more kinds than there were hosts at once.
        match self.kinds.iter().position(|kind| kind.hosts == 0) {
            Some(empty) => {
                self.kinds[empty] = kind;
                empty
            }
            None => {
                self.kinds.push(kind);
                self.kinds.len() - 1
            }
        }
    }

    fn take_out(&mut self, link: LinkId) -> Option<Host> {
        let host = self.hosts.remove(&link)?;
        let kind = &mut self.kinds[host.kind];
        kind.hosts -= 1;
        kind.roomy.remove(&(host.free.cpu, Reverse(link)));
        self.all = self.all.minus(kind.size);
        Some(host)
    }

    fn index(&mut self, link: LinkId, kind: KindId, free: Size) {
        let kind = &mut self.kinds[kind];
        if kind.room.state == HostState::Ready {
            kind.roomy.insert((free.cpu, Reverse(link)));
        }
    }
}
