//! How many workers each call has on each host. Pure: hosts and calls come, change and go; who has how many where comes out.
//!
//! **Fairness.** A slot goes to the call with the smallest dominant share (the larger of its part of all cores and of all memory) that can use one more, oldest first among equals, on the host with most room. Where there is no
//! room, it is taken from the call with the largest share, as long as that call stays no poorer than the one that gets it: so shares differ by a slot at most. A call that has workers keeps one: running inputs are never stopped for fairness.
//!
//! **Cost.** With a thousand hosts, a hundred thousand slots and ten thousand calls, placing everything anew for each change would take longer than the changes are apart. So what was placed stays, and a change costs what it changes:
//!
//! - Calls of one size and image are one *class*: in it the order of shares is the order of counts. A class keeps its calls that want more ("hungry") and those that can give ("rich") by count, so the poorest and the richest call of all are among the heads of few classes, and no host that comes or goes changes an order.
//! - Hosts that look alike are one *kind*: which image suits which host is a question of kinds. Each kind keeps its hosts by free cores.
//! - What a call may have before the next one's turn is given, or taken, at once; a share of a large fleet is given in pieces of several slots a host. Pieces are of one slot where a call gets less than four slots a host.
//! - A class whose poorest call can get nothing is left alone until something changes, whatever the number of its calls.
//!
//! Every step makes the poorest call that can be helped richer, and no other poorer than that one is then, so the steps come to an end.
//!
//! **Limits.** To free room for a large worker the workers of several calls on a host may have to go. Only [`TRIES`] hosts are looked at for that in one go, others in the next. The tests hold all this against `model`, which gives slots one at a time, from nothing.

mod hosts;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};

pub use hosts::HostRoom;
use hosts::Hosts;

use crate::calls::machine::LinkId;
use crate::fleet::HostState;

/// Hosts on which room for a large worker is sought in one go.
const TRIES: usize = 32;
/// Slack for sums of shares.
const EPSILON: f64 = 1e-9;

/// What came of an attempt to take from the rich.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Robbed {
    Nobody,
    /// What was taken is given.
    Exactly,
    /// More was taken than the worker needs.
    More,
}

/// What one worker takes, or several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Size {
    /// Thousandths of cores.
    pub cpu: i64,
    /// Bytes of memory.
    pub ram: i64,
}

/// How many workers of a size the hosts that suit them could hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Slots {
    /// Hosts that take new ones.
    pub open: u32,
    /// Hosts that take nothing new now.
    pub closed: u32,
}

/// What a call needs of hosts.
#[derive(Debug, Clone, PartialEq)]
pub struct Need {
    /// Image of its containers.
    pub image: String,
    /// Cores of one worker.
    pub cpu: f64,
    /// Memory of one worker, in bytes.
    pub ram_bytes: u64,
}

/// Where every call has workers.
#[derive(Debug, Default)]
pub struct Placements {
    hosts: Hosts,
    classes: Vec<Class>,
    by_need: HashMap<(Size, String), usize>,
    /// Classes without calls, to be used again.
    unused: Vec<usize>,
    calls: BTreeMap<u64, Call>,
    changed: BTreeSet<u64>,
}

/// Calls whose workers have one size and one image.
#[derive(Debug)]
struct Class {
    size: Size,
    image: String,
    /// Which kinds of hosts suit it, at a version of the hosts.
    suits: (u64, Vec<bool>),
    /// How many calls it has.
    calls: usize,
    /// Calls that want more than they have, by how much they have.
    hungry: BTreeSet<(u32, u64)>,
    /// Calls that have more than one worker.
    rich: BTreeSet<(u32, u64)>,
}

#[derive(Debug)]
struct Call {
    class: usize,
    wanted: u32,
    count: u32,
    held: BTreeMap<LinkId, u32>,
    /// From which host on workers are taken next.
    turn: LinkId,
}

impl Size {
    /// Of one worker. The same as the agents reckon: part of a thousandth is a whole one, a hundredth of a core is the least.
    pub fn of(cpu: f64, ram_bytes: u64) -> Size {
        Size { cpu: ((cpu * 1000.0 - 1e-6).ceil() as i64).max(10), ram: ram_bytes as i64 }
    }

    fn plus(self, other: Size) -> Size {
        Size { cpu: self.cpu + other.cpu, ram: self.ram + other.ram }
    }

    fn minus(self, other: Size) -> Size {
        self.plus(other.times(-1))
    }

    fn times(self, count: i64) -> Size {
        Size { cpu: self.cpu * count, ram: self.ram * count }
    }

    fn holds(self, other: Size) -> bool {
        self.cpu >= other.cpu && self.ram >= other.ram
    }

    fn how_many(self, of: Size) -> u64 {
        let by_ram = if of.ram > 0 { self.ram / of.ram } else { i64::MAX };
        (self.cpu / of.cpu).min(by_ram).max(0) as u64
    }
}

impl Placements {
    /// A host came, or looks different now. Workers it has no room for any more are taken back; from one that drains, all.
    pub fn host(&mut self, link: LinkId, room: HostRoom) {
        let drains = room.state == HostState::Draining;
        self.hosts.set(link, room);
        if drains && let Some(host) = self.hosts.get(link) {
            for (call, count) in host.held.clone() {
                self.take(call, link, count);
            }
        }
        while let Some(host) = self.hosts.get(link)
            && !host.free.holds(Size::default())
            && let Some(richest) = host
                .held
                .keys()
                .copied()
                .max_by(|a, b| self.share(*a, 0).total_cmp(&self.share(*b, 0)))
        {
            self.take(richest, link, 1);
        }
    }

    /// A host has gone.
    pub fn host_gone(&mut self, link: LinkId) {
        let Some(host) = self.hosts.remove(link) else { return };
        for (call, count) in host.held {
            self.change(call, |call| {
                call.count -= count;
                call.held.remove(&link);
            });
        }
    }

    /// A call came; it wants no worker yet. Calls are told apart, and their age, by `id`.
    pub fn call(&mut self, id: u64, need: &Need) {
        let size = Size::of(need.cpu, need.ram_bytes);
        let key = (size, need.image.clone());
        let class = match self.by_need.get(&key) {
            Some(class) => *class,
            None => {
                let class = self.new_class(size, &need.image);
                self.by_need.insert(key, class);
                class
            }
        };
        self.classes[class].calls += 1;
        let call = Call { class, wanted: 0, count: 0, held: BTreeMap::new(), turn: 0 };
        self.calls.insert(id, call);
        self.changed.insert(id);
    }

    /// A call can use so many workers.
    pub fn want(&mut self, id: u64, wanted: u32) {
        self.change(id, |call| call.wanted = wanted);
        let Some(call) = self.calls.get(&id) else { return };
        for (link, count) in call.spread(call.count.saturating_sub(wanted), |_| true) {
            self.take(id, link, count);
        }
    }

    /// A call has ended.
    pub fn call_gone(&mut self, id: u64) {
        self.want(id, 0);
        let Some(call) = self.calls.remove(&id) else { return };
        self.changed.remove(&id);
        let class = &mut self.classes[call.class];
        class.calls -= 1;
        if class.calls == 0 {
            self.by_need.remove(&(class.size, class.image.clone()));
            self.unused.push(call.class);
        }
    }

    /// Gives out what there is, and takes where shares have become unfair. Calls whose workers have changed since the last time.
    pub fn settle(&mut self) -> BTreeSet<u64> {
        for class in &mut self.classes {
            if class.suits.0 != self.hosts.version() {
                class.suits = (self.hosts.version(), self.hosts.suiting(&class.image));
            }
        }
        let mut stuck = vec![false; self.classes.len()];
        while let Some(id) = self.poorest(&stuck) {
            let class = self.calls[&id].class;
            if self.give(id, &stuck) {
                continue;
            }
            match self.rob_for(id, &stuck) {
                Robbed::Nobody => stuck[class] = true,
                Robbed::Exactly => {}
                // What is left may be enough for a smaller one.
                Robbed::More => stuck.fill(false),
            }
        }
        std::mem::take(&mut self.changed)
    }

    /// Where a call has workers.
    pub fn of(&self, id: u64) -> impl Iterator<Item = (LinkId, u32)> + '_ {
        self.calls.get(&id).into_iter().flat_map(|call| call.held.iter().map(|(l, n)| (*l, *n)))
    }

    /// How many workers of this call's size all hosts could hold if they were empty.
    pub fn slots(&self, id: u64) -> Slots {
        let Some(call) = self.calls.get(&id) else { return Slots::default() };
        let class = &self.classes[call.class];
        if class.suits.0 == self.hosts.version() {
            return self.hosts.slots(class.size, &class.suits.1);
        }
        self.hosts.slots(class.size, &self.hosts.suiting(&class.image))
    }

    /// The calls that have workers on a host.
    pub fn calls_on(&self, link: LinkId) -> impl Iterator<Item = u64> + '_ {
        self.hosts.get(link).into_iter().flat_map(|host| host.held.keys().copied())
    }

    /// How many hosts there are.
    pub fn hosts(&self) -> usize {
        self.hosts.len()
    }

    /// All calls, oldest first, each with how many older ones have workers or want some.
    pub fn line(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        self.calls.iter().scan(0, |ahead, (&id, call)| {
            let before = *ahead;
            *ahead += u32::from(call.wanted > 0);
            Some((id, before))
        })
    }

    fn new_class(&mut self, size: Size, image: &str) -> usize {
        let class = Class {
            size,
            image: image.to_owned(),
            suits: (u64::MAX, Vec::new()),
            calls: 0,
            hungry: BTreeSet::new(),
            rich: BTreeSet::new(),
        };
        match self.unused.pop() {
            Some(at) => {
                self.classes[at] = class;
                at
            }
            None => {
                self.classes.push(class);
                self.classes.len() - 1
            }
        }
    }

    /// The call with the smallest share of those that want more, but for the stuck classes.
    fn poorest(&self, stuck: &[bool]) -> Option<u64> {
        let heads = self.classes.iter().zip(stuck).filter(|(_, stuck)| !**stuck);
        heads
            .filter_map(|(class, _)| {
                let &(count, id) = class.hungry.first()?;
                Some((f64::from(count) * self.unit(class.size), id))
            })
            .min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)))
            .map(|(_, id)| id)
    }

    /// Gives a call free room until it is another call's turn, or there is no more. Whether there was any.
    fn give(&mut self, id: u64, stuck: &[bool]) -> bool {
        let class = &self.classes[self.calls[&id].class];
        let size = class.size;
        let turn = self.turn(id, stuck);
        let piece = (turn as usize / (4 * self.hosts.count(&class.suits.1)).max(1)).max(1) as u32;
        let mut left = turn;
        while left > 0 {
            let suits = &self.classes[self.calls[&id].class].suits.1;
            let Some(link) = self.hosts.roomiest(size, suits) else { break };
            let room = self.hosts.get(link).map_or(0, |host| host.free.how_many(size));
            let count = left.min(piece).min(u32::try_from(room).unwrap_or(u32::MAX)).max(1);
            self.put(id, link, count);
            left -= count;
        }
        left < turn
    }

    /// How many slots a call may have until another call is poorer; at least one.
    fn turn(&self, id: u64, stuck: &[bool]) -> u32 {
        let call = &self.calls[&id];
        let own = self.unit(self.classes[call.class].size);
        let mut turn = call.wanted - call.count;
        for (at, class) in self.classes.iter().enumerate().filter(|(at, _)| !stuck[*at]) {
            let next = if at == call.class {
                let next = class.hungry.range((call.count, id + 1)..).next();
                next.map(|&(count, _)| count - call.count + 1)
            } else {
                class.hungry.first().map(|&(count, _)| {
                    let ahead = f64::from(count) * self.unit(class.size) / own;
                    (ahead - f64::from(call.count)) as u32 + 1
                })
            };
            turn = turn.min(next.unwrap_or(u32::MAX));
        }
        turn.max(1)
    }

    /// Takes room for a call from calls that stay no poorer than it is then.
    fn rob_for(&mut self, id: u64, stuck: &[bool]) -> Robbed {
        let own = self.calls[&id].class;
        let target = self.share(id, 1) - EPSILON;
        let mut victims: Vec<(f64, usize)> = (0..self.classes.len())
            .filter_map(|at| {
                let &(_, richest) = self.classes[at].rich.last()?;
                let suits = &self.classes[own].suits.1;
                let meet = suits.iter().zip(&self.classes[at].suits.1).any(|(a, b)| *a && *b);
                let after = self.share(richest, -1);
                (meet && after >= target).then_some((after, at))
            })
            .collect();
        victims.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut tries = TRIES;
        for (_, at) in victims {
            let rich: Vec<u64> =
                self.classes[at].rich.iter().rev().take(TRIES).map(|(_, id)| *id).collect();
            for rich in rich {
                if rich == id || self.share(rich, -1) < target {
                    continue;
                }
                let robbed = if at == own {
                    self.move_alike(rich, id, stuck)
                } else {
                    self.make_room(rich, id, target, &mut tries)
                };
                if robbed != Robbed::Nobody {
                    return robbed;
                }
                if tries == 0 {
                    return Robbed::Nobody;
                }
            }
        }
        Robbed::Nobody
    }

    /// Moves slots from one call to another of the same class, as many as makes them alike, or until it is another's turn.
    fn move_alike(&mut self, rich: u64, poor: u64, stuck: &[bool]) -> Robbed {
        let (from, to) = (&self.calls[&rich], &self.calls[&poor]);
        let class = &self.classes[from.class];
        let next =
            class.rich.range(..(from.count, rich)).next_back().map_or(1, |(count, _)| *count);
        let count = ((from.count - to.count) / 2)
            .min(from.count - next.min(from.count - 1))
            .min(self.turn(poor, stuck))
            .max(1);
        let moved = from.spread(count, |link| self.hosts.takes(link, &class.suits.1));
        for &(link, count) in &moved {
            self.take(rich, link, count);
            self.put(poor, link, count);
        }
        if moved.is_empty() { Robbed::Nobody } else { Robbed::Exactly }
    }

    /// Makes room for a worker on a host where `rich` has some, if those who can give have enough there together.
    fn make_room(&mut self, rich: u64, poor: u64, target: f64, tries: &mut usize) -> Robbed {
        let links: Vec<LinkId> = self.calls[&rich].links().take(*tries).collect();
        for link in links {
            *tries -= 1;
            if let Some(call) = self.calls.get_mut(&rich) {
                call.turn = link + 1;
            }
            let class = &self.classes[self.calls[&poor].class];
            if !self.hosts.takes(link, &class.suits.1) {
                continue;
            }
            let size = class.size;
            let Some(victims) = self.victims_on(link, poor, target) else { continue };
            for (victim, count) in victims {
                self.take(victim, link, count);
            }
            self.put(poor, link, 1);
            let left = self.hosts.get(link).map_or(size, |host| host.free);
            return if left.cpu > 0 && left.ram > 0 { Robbed::More } else { Robbed::Exactly };
        }
        Robbed::Nobody
    }

    /// Who gives how many workers on a host so that one of `poor` fits.
    fn victims_on(&self, link: LinkId, poor: u64, target: f64) -> Option<Vec<(u64, u32)>> {
        let host = self.hosts.get(link)?;
        let mut missing = self.classes[self.calls[&poor].class].size.minus(host.free);
        let mut rich: Vec<u64> = host.held.keys().copied().filter(|id| *id != poor).collect();
        rich.sort_by(|a, b| self.share(*b, 0).total_cmp(&self.share(*a, 0)));
        let mut victims = Vec::new();
        for id in rich {
            let (call, size) = (&self.calls[&id], self.classes[self.calls[&id].class].size);
            let spare = (self.share(id, 0) - target) / self.unit(size);
            let can = (spare.max(0.0) as u32).min(call.count - 1).min(host.held[&id]);
            let for_cpu = missing.cpu.max(0).div_euclid(size.cpu)
                + i64::from(missing.cpu.max(0) % size.cpu > 0);
            let for_ram = match size.ram {
                0 => 0,
                ram => missing.ram.max(0) / ram + i64::from(missing.ram.max(0) % ram > 0),
            };
            let count = can.min(u32::try_from(for_cpu.max(for_ram)).unwrap_or(u32::MAX));
            if count > 0 {
                missing = missing.minus(size.times(i64::from(count)));
                victims.push((id, count));
            }
            if missing.cpu <= 0 && missing.ram <= 0 {
                return Some(victims);
            }
        }
        None
    }

    fn put(&mut self, id: u64, link: LinkId, count: u32) {
        let size = self.classes[self.calls[&id].class].size;
        self.hosts.give(link, id, size, i64::from(count));
        self.change(id, |call| {
            call.count += count;
            *call.held.entry(link).or_default() += count;
        });
    }

    fn take(&mut self, id: u64, link: LinkId, count: u32) {
        let size = self.classes[self.calls[&id].class].size;
        self.hosts.give(link, id, size, -i64::from(count));
        self.change(id, |call| {
            call.count -= count;
            call.turn = link + 1;
            if let Some(held) = call.held.get_mut(&link) {
                *held -= count;
                if *held == 0 {
                    call.held.remove(&link);
                }
            }
        });
    }

    /// Changes a call, and its place in its class.
    fn change(&mut self, id: u64, change: impl FnOnce(&mut Call)) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let class = &mut self.classes[call.class];
        let before = call.count;
        class.hungry.remove(&(before, id));
        class.rich.remove(&(before, id));
        change(call);
        if call.count < call.wanted {
            class.hungry.insert((call.count, id));
        }
        if call.count > 1 {
            class.rich.insert((call.count, id));
        }
        if call.count != before {
            self.changed.insert(id);
        }
    }

    /// The share of a call with so many workers more, or fewer.
    fn share(&self, id: u64, more: i64) -> f64 {
        let call = &self.calls[&id];
        (i64::from(call.count) + more) as f64 * self.unit(self.classes[call.class].size)
    }

    /// The dominant share of one worker.
    fn unit(&self, size: Size) -> f64 {
        let all = self.hosts.all();
        let of = |part: i64, all: i64| part as f64 / (all as f64).max(1.0);
        of(size.cpu, all.cpu).max(of(size.ram, all.ram))
    }
}

impl Call {
    /// Its hosts, from the one on whose turn it is.
    fn links(&self) -> impl Iterator<Item = LinkId> + '_ {
        self.held.range(self.turn..).chain(self.held.range(..self.turn)).map(|(link, _)| *link)
    }

    /// `count` of its workers, from hosts that may be asked, evenly, from the one on whose turn it is.
    fn spread(&self, count: u32, may: impl Fn(LinkId) -> bool) -> Vec<(LinkId, u32)> {
        let mut left = u64::from(count);
        let mut found = Vec::new();
        for link in self.links() {
            if left == 0 {
                break;
            }
            if may(link) {
                let held = u64::from(self.held[&link]);
                let part = (u64::from(count) * held).div_ceil(u64::from(self.count)).min(left);
                left -= part;
                found.push((link, part as u32));
            }
        }
        found
    }
}
