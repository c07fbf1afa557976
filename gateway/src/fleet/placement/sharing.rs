//! Who gets the next slot, and who gives one up for it.

use std::collections::{BTreeSet, HashMap};

use super::{Call, Class, Placements, Size};
use crate::calls::machine::LinkId;

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

/// Who may have to give: no poorer than this afterwards.
#[derive(Debug, Clone, Copy)]
struct Target {
    /// A call of the same owner.
    call: f64,
    /// Another owner.
    owner: f64,
}

impl Placements {
    /// Gives out what there is, and takes where shares have become unfair. Calls whose workers have changed since the last time.
    pub fn settle(&mut self) -> BTreeSet<u64> {
        for class in &mut self.classes {
            if class.suits.0 != self.hosts.version() {
                class.suits = (self.hosts.version(), self.hosts.suiting(&class.need));
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

    /// The call with the smallest share of the owner with the smallest share, of those that want more, but for the stuck classes.
    fn poorest(&self, stuck: &[bool]) -> Option<u64> {
        let heads = self.classes.iter().zip(stuck).filter(|(_, stuck)| !**stuck);
        heads
            .filter_map(|(class, _)| {
                let &(count, id) = class.hungry.first()?;
                Some((self.owned(class, 0), f64::from(count) * self.unit(class.size), id))
            })
            .min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)))
            .map(|(_, _, id)| id)
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

    /// How many slots a call may have until another call, or another owner, is poorer; at least one.
    fn turn(&self, id: u64, stuck: &[bool]) -> u32 {
        let call = &self.calls[&id];
        let mine = &self.classes[call.class];
        let (unit, owned) = (self.unit(mine.size), self.owned(mine, 0));
        let mut turn = call.wanted - call.count;
        for (at, class) in self.classes.iter().enumerate().filter(|(at, _)| !stuck[*at]) {
            let next = if at == call.class {
                let next = class.hungry.range((call.count, id + 1)..).next();
                next.map(|&(count, _)| count - call.count + 1)
            } else if class.owner == mine.owner {
                class.hungry.first().map(|&(count, _)| {
                    let ahead = f64::from(count) * self.unit(class.size) / unit;
                    (ahead - f64::from(call.count)) as u32 + 1
                })
            } else {
                let hungry = class.hungry.first();
                hungry.map(|_| ((self.owned(class, 0) - owned) / unit) as u32 + 1)
            };
            turn = turn.min(next.unwrap_or(u32::MAX));
        }
        turn.max(1)
    }

    /// Takes room for a call from owners, and from calls of its own owner, that stay no poorer than it is then.
    fn rob_for(&mut self, id: u64, stuck: &[bool]) -> Robbed {
        let own = self.calls[&id].class;
        let mine = &self.classes[own];
        let target =
            Target { call: self.share(id, 1) - EPSILON, owner: self.owned(mine, 1) - EPSILON };
        let mut victims: Vec<(f64, f64, usize)> = (0..self.classes.len())
            .filter_map(|at| {
                let class = &self.classes[at];
                let &(_, richest) = class.holding.last()?;
                let meet = mine.suits.1.iter().zip(&class.suits.1).any(|(a, b)| *a && *b);
                let gives = meet && self.may_give(richest, mine, target);
                gives.then(|| (self.owned(class, 0), self.share(richest, 0), at))
            })
            .collect();
        victims.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.total_cmp(&a.1)));
        let mut tries = TRIES;
        for (_, _, at) in victims {
            let rich: Vec<u64> =
                self.classes[at].holding.iter().rev().take(TRIES).map(|(_, id)| *id).collect();
            for rich in rich {
                if rich == id || !self.may_give(rich, &self.classes[own], target) {
                    continue;
                }
                let alike = {
                    let (mine, class) = (&self.classes[own], &self.classes[at]);
                    mine.size == class.size && mine.need.place() == class.need.place()
                };
                let robbed = if alike {
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

    /// Whether a call may give a worker to one of this class. Its last one only to another owner's.
    fn may_give(&self, id: u64, to: &Class, target: Target) -> bool {
        let call = &self.calls[&id];
        let class = &self.classes[call.class];
        if class.owner == to.owner {
            return call.count > 1 && self.share(id, -1) >= target.call;
        }
        self.owned(class, -1) >= target.owner
    }

    /// Moves slots from one call to another whose workers are alike, as many as makes them, or their owners, alike, or until it is another's turn.
    fn move_alike(&mut self, rich: u64, poor: u64, stuck: &[bool]) -> Robbed {
        let (from, to) = (&self.calls[&rich], &self.calls[&poor]);
        let (giver, taker) = (&self.classes[from.class], &self.classes[to.class]);
        let most = if giver.owner == taker.owner {
            let below = giver.holding.range(..(from.count, rich)).next_back();
            let next = below.map_or(1, |(count, _)| *count);
            ((from.count - to.count) / 2).min(from.count - next.min(from.count - 1))
        } else {
            let apart = self.owned(giver, 0) - self.owned(taker, 0);
            let half = (apart / self.unit(giver.size) / 2.0 + EPSILON) as u32;
            half.min(from.count)
        };
        let count = most.min(self.turn(poor, stuck)).max(1);
        let moved = from.spread(count, |link| self.hosts.takes(link, &taker.suits.1));
        for &(link, count) in &moved {
            self.take(rich, link, count);
            self.put(poor, link, count);
        }
        if moved.is_empty() { Robbed::Nobody } else { Robbed::Exactly }
    }

    /// Makes room for a worker on a host where `rich` has some, if those who can give have enough there together.
    fn make_room(&mut self, rich: u64, poor: u64, target: Target, tries: &mut usize) -> Robbed {
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
    fn victims_on(&self, link: LinkId, poor: u64, target: Target) -> Option<Vec<(u64, u32)>> {
        let host = self.hosts.get(link)?;
        let mine = &self.classes[self.calls[&poor].class];
        let mut missing = mine.size.minus(host.free);
        let class_of = |id: u64| &self.classes[self.calls[&id].class];
        let wealth = |id: u64| (self.owned(class_of(id), 0), self.share(id, 0));
        let mut rich: Vec<u64> = host.held.keys().copied().filter(|id| *id != poor).collect();
        rich.sort_by(|a, b| {
            let (a, b) = (wealth(*a), wealth(*b));
            b.0.total_cmp(&a.0).then(b.1.total_cmp(&a.1))
        });
        // What each owner would have given already.
        let mut given: HashMap<&str, Size> = HashMap::new();
        let mut victims = Vec::new();
        for id in rich {
            let (call, class) = (&self.calls[&id], class_of(id));
            let size = class.size;
            let gone = given.entry(&class.owner).or_default();
            let can = if class.owner == mine.owner {
                let spare = (self.share(id, 0) - target.call) / self.unit(size);
                (spare.max(0.0) as u32).min(call.count - 1)
            } else {
                let used = self.owners.get(&class.owner).copied().unwrap_or_default();
                let spare = (self.unit(used.minus(*gone)) - target.owner) / self.unit(size);
                (spare.max(0.0) as u32).min(call.count)
            };
            let can = can.min(host.held[&id]);
            let for_cpu = missing.cpu.max(0).div_euclid(size.cpu)
                + i64::from(missing.cpu.max(0) % size.cpu > 0);
            let for_ram = match size.ram {
                0 => 0,
                ram => missing.ram.max(0) / ram + i64::from(missing.ram.max(0) % ram > 0),
            };
            let count = can.min(u32::try_from(for_cpu.max(for_ram)).unwrap_or(u32::MAX));
            if count > 0 {
                let freed = size.times(i64::from(count));
                missing = missing.minus(freed);
                *gone = gone.plus(freed);
                victims.push((id, count));
            }
            if missing.cpu <= 0 && missing.ram <= 0 {
                return Some(victims);
            }
        }
        None
    }

    /// The share of a call with so many workers more, or fewer.
    pub(super) fn share(&self, id: u64, more: i64) -> f64 {
        let call = &self.calls[&id];
        (i64::from(call.count) + more) as f64 * self.unit(self.classes[call.class].size)
    }

    /// The share of a class's owner, with so many workers of that class more, or fewer.
    fn owned(&self, class: &Class, more: i64) -> f64 {
        let used = self.owners.get(&class.owner).copied().unwrap_or_default();
        self.unit(used.plus(class.size.times(more)))
    }

    /// The dominant share of so much.
    fn unit(&self, size: Size) -> f64 {
        let all = self.hosts.all();
        let of = |part: i64, all: i64| part as f64 / (all as f64).max(1.0);
        of(size.cpu, all.cpu).max(of(size.ram, all.ram))
    }
}

impl Call {
    /// Its hosts, from the one on whose turn it is.
    pub(super) fn links(&self) -> impl Iterator<Item = LinkId> + '_ {
        self.held.range(self.turn..).chain(self.held.range(..self.turn)).map(|(link, _)| *link)
    }

    /// `count` of its workers, from hosts that may be asked, evenly, from the one on whose turn it is.
    pub(super) fn spread(&self, count: u32, may: impl Fn(LinkId) -> bool) -> Vec<(LinkId, u32)> {
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
