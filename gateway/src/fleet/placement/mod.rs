//! How many workers each call has on each host. Pure: hosts and calls come, change and go; who has how many where comes out.
//!
//! **Fairness.** Calls have owners: users. A slot goes to the owner with the smallest dominant share (the larger of its part of all cores and of all memory) that can use one more, and of that owner's calls to the one with the smallest share, oldest first among equals, on the host with most room. Where there is no
//! room, it is taken from the owner with the largest share, as long as that owner stays no poorer than the one that gets it, or else from the richest call of the same owner on the same condition: so shares differ by a slot at most, and who has a hundred calls gets no more than who has one.
//! Among the calls of one owner a call that has workers keeps one; for another owner it may lose its last. Running inputs are never stopped for fairness: a call gives a worker up when it has answered what it was given.
//!
//! **Cost.** With a thousand hosts, a hundred thousand slots and ten thousand calls, placing everything anew for each change would take longer than the changes are apart. So what was placed stays, and a change costs what it changes:
//!
//! - Calls of one owner, size, image, runtime and shared folders are one *class*: in it the order of shares is the order of counts. A class keeps its calls that want more ("hungry") and those that have workers ("holding") by count, so the poorest and the richest call of all are among the heads of the classes, and no host that comes or goes changes an order.
//! - Hosts that look alike are one *kind*: which host has which image, runtime and folders is a question of kinds. Each kind keeps its hosts by free cores.
//! - What a call may have before the next one's turn is given, or taken, at once; a share of a large fleet is given in pieces of several slots a host. Pieces are of one slot where a call gets less than four slots a host.
//! - A class whose poorest call can get nothing is left alone until something changes, whatever the number of its calls.
//!
//! Every step makes the poorest call that can be helped richer, and no other poorer than that one is then, so the steps come to an end.
//!
//! [`sharing`] decides; here is what it decides on, kept in order. **Limits.** To free room for a large worker the workers of several calls on a host may have to go. Only [`TRIES`] hosts are looked at for that in one go, others in the next. The tests hold all this against `model`, which gives slots one at a time, from nothing.

mod hosts;
#[cfg(test)]
mod model;
mod sharing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

pub use hosts::HostRoom;
use hosts::Hosts;

use crate::calls::machine::LinkId;
use crate::fleet::HostState;

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
#[derive(Debug, Clone)]
pub struct Need {
    /// Whose call it is.
    pub owner: String,
    /// Image of its containers.
    pub image: String,
    /// How they are started, where not as each host does by itself.
    pub runtime: Option<String>,
    /// Cores of one worker.
    pub cpu: f64,
    /// Memory of one worker, in bytes.
    pub ram_bytes: u64,
    /// Names of the shares that its containers mount, sorted.
    pub shares: Vec<String>,
}

/// Image, runtime and shares.
type Place<'a> = (&'a str, Option<&'a str>, &'a [String]);

/// The same as the agents reckon: what makes no difference to them makes none here.
impl Need {
    fn key(&self) -> (&str, Place<'_>, Size) {
        (&self.owner, self.place(), Size::of(self.cpu, self.ram_bytes))
    }

    /// What decides which hosts suit it.
    fn place(&self) -> Place<'_> {
        (&self.image, self.runtime.as_deref(), &self.shares)
    }
}

impl PartialEq for Need {
    fn eq(&self, other: &Need) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Need {}

impl Hash for Need {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

/// Where every call has workers.
#[derive(Debug, Default)]
pub struct Placements {
    hosts: Hosts,
    classes: Vec<Class>,
    by_need: HashMap<Need, usize>,
    /// Classes without calls, to be used again.
    unused: Vec<usize>,
    /// What the calls of each owner have, together; absent is nothing.
    owners: HashMap<Arc<str>, Size>,
    calls: BTreeMap<u64, Call>,
    changed: BTreeSet<u64>,
}

/// Calls of one owner whose workers have one size, one image, one runtime and the same shared folders.
#[derive(Debug)]
struct Class {
    need: Need,
    size: Size,
    owner: Arc<str>,
    /// Which kinds of hosts suit it, at a version of the hosts.
    suits: (u64, Vec<bool>),
    /// How many calls it has.
    calls: usize,
    /// Calls that want more than they have, by how much they have.
    hungry: BTreeSet<(u32, u64)>,
    /// Calls that have workers, by how many.
    holding: BTreeSet<(u32, u64)>,
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
    /// A host came, or looks different now. Workers it has no room for any more are taken back, and those whose shares it has lost; from one that drains, all.
    pub fn host(&mut self, link: LinkId, room: HostRoom) {
        let held = self.hosts.get(link).map(|host| host.held.clone()).unwrap_or_default();
        let leaves = |(call, _): &(u64, u32)| {
            let need = &self.classes[self.calls[call].class].need;
            room.state == HostState::Draining || !room.shares(&need.shares)
        };
        let leaving: Vec<(u64, u32)> = held.into_iter().filter(leaves).collect();
        self.hosts.set(link, room);
        for (call, count) in leaving {
            self.take(call, link, count);
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
            self.has(call, -i64::from(count));
            self.change(call, |call| {
                call.count -= count;
                call.held.remove(&link);
            });
        }
    }

    /// A call came; it wants no worker yet. Calls are told apart, and their age, by `id`.
    pub fn call(&mut self, id: u64, need: &Need) {
        let class = match self.by_need.get(need) {
            Some(class) => *class,
            None => self.new_class(need),
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
            self.by_need.remove(&class.need);
            self.unused.push(call.class);
        }
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
        self.hosts.slots(class.size, &self.hosts.suiting(&class.need))
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

    fn new_class(&mut self, need: &Need) -> usize {
        // One name for all classes of an owner.
        let known = self.owners.get_key_value(need.owner.as_str()).map(|(owner, _)| owner.clone());
        let class = Class {
            size: Size::of(need.cpu, need.ram_bytes),
            owner: known.unwrap_or_else(|| need.owner.as_str().into()),
            need: need.clone(),
            suits: (u64::MAX, Vec::new()),
            calls: 0,
            hungry: BTreeSet::new(),
            holding: BTreeSet::new(),
        };
        let at = match self.unused.pop() {
            Some(at) => {
                self.classes[at] = class;
                at
            }
            None => {
                self.classes.push(class);
                self.classes.len() - 1
            }
        };
        self.by_need.insert(need.clone(), at);
        at
    }

    fn put(&mut self, id: u64, link: LinkId, count: u32) {
        self.hold(id, link, i64::from(count));
        self.change(id, |call| {
            call.count += count;
            *call.held.entry(link).or_default() += count;
        });
    }

    fn take(&mut self, id: u64, link: LinkId, count: u32) {
        self.hold(id, link, -i64::from(count));
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

    /// Notes workers of a call at its host and its owner; fewer where the count is negative.
    fn hold(&mut self, id: u64, link: LinkId, count: i64) {
        let class = &self.classes[self.calls[&id].class];
        self.hosts.give(link, id, class.size, count);
        self.has(id, count);
    }

    /// Notes at its owner that a call has so many workers more, or fewer.
    fn has(&mut self, id: u64, count: i64) {
        let class = &self.classes[self.calls[&id].class];
        let used = self.owners.entry(class.owner.clone()).or_default();
        *used = used.plus(class.size.times(count));
        if *used == Size::default() {
            self.owners.remove(&class.owner);
        }
    }

    /// Changes a call, and its place in its class.
    fn change(&mut self, id: u64, change: impl FnOnce(&mut Call)) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let class = &mut self.classes[call.class];
        let before = call.count;
        class.hungry.remove(&(before, id));
        class.holding.remove(&(before, id));
        change(call);
        if call.count < call.wanted {
            class.hungry.insert((call.count, id));
        }
        if call.count > 0 {
            class.holding.insert((call.count, id));
        }
        if call.count != before {
            self.changed.insert(id);
        }
    }
}
