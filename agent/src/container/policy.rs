//! How many warm workers there should be, which are started next, and which go first: decisions only. Time and facts come
//! in as arguments; [`super::pool`] carries out what comes out.
//!
//! - **How many.** Of each kind in use, and of each default image: the target (a setting, by default a worker for each core).
//!   A kind whose calls took more workers than that at once is kept warm for as many, up to twice the target.
//! - **How long.** Until a kind was not used for `max_age`; the default images for ever.
//! - **When.** A start keeps more than a core busy for a tenth of a second, so while workers run only cores that none of them
//!   holds are used: as many refills at once as there are free ones. While they hold all of them, one is started every
//!   [`TRICKLE`] after the last claim, which costs those calls about half a percent of one core, so that the call after a long one
//!   finds its workers warm too; a shorter one has all cores to its end. While none runs (claims may wait for starts) there are two starts for each core, which is what keeps the
//!   engine busiest: sustained calls of one input then come as fast as it can start containers. Claims that wait are not
//!   refills: they hold their room, and their starts begin at once.
//!   For [`PAUSE`] after a claim nothing is begun: a call of one input is over by then, and has had the cores to itself.
//! - **Which.** The kind that lacks most of what it should have; among equals the one used last.
//! - **Memory.** Warm workers hold no room of the host's, so they are the first to go: nothing is refilled where less than a
//!   tenth of the host's memory is available, and where less than a twentieth is, they are dropped one by one, those of the
//!   kind that was not used for longest first.

use std::time::Duration;

use tokio::time::Instant;

/// From the last claim to a refill while calls hold all cores, and between two of these.
pub const TRICKLE: Duration = Duration::from_secs(30);
/// After a claim, until refills are begun: a few times what a call of one short input takes.
pub const PAUSE: Duration = Duration::from_millis(20);
/// Starts at once for each core: with fewer the engine waits for the kernel, with more each only takes longer.
pub const STARTS_PER_CORE: usize = 2;
/// Claims this close together are those of one call.
const BURST: Duration = Duration::from_millis(100);
/// After a start of a kind failed, the pool leaves it alone for this long; claims still try.
const AFTER_FAILURE: Duration = Duration::from_secs(10);

/// How much of the host's memory is available.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// Enough.
    Plenty,
    /// Too little to start something that nobody waits for.
    Short,
    /// So little that what nobody uses has to go.
    Scarce,
}

impl Memory {
    /// From what is available and what there is.
    pub fn of(available: u64, total: u64) -> Memory {
        match (available.saturating_mul(20) < total, available.saturating_mul(10) < total) {
            (true, _) => Memory::Scarce,
            (false, true) => Memory::Short,
            (false, false) => Memory::Plenty,
        }
    }
}

/// Who uses the host's cores.
#[derive(Debug, Clone, Copy)]
pub struct Cores {
    /// How many there are.
    pub all: f64,
    /// Those that no call holds.
    pub free: f64,
    /// Workers that calls hold, or that they wait for with room taken.
    pub workers: usize,
}

/// How calls have used one kind.
#[derive(Debug, Clone, Copy)]
pub struct Demand {
    used: Option<Instant>,
    since: Instant,
    burst: usize,
    most: usize,
    most_at: Instant,
}

/// One kind of warm worker, as it is now.
#[derive(Debug, Clone, Copy)]
pub struct Shelf {
    /// How calls have used it.
    pub demand: Demand,
    /// Whether its image is one of those that are kept warm without having been used.
    pub default: bool,
    /// Whether its image is still there.
    pub there: bool,
    /// Warm workers.
    pub ready: usize,
    /// Starts under way.
    pub starting: usize,
    /// Claims that wait for one of these.
    pub waiting: usize,
    /// When a start of it failed, unless one has succeeded since.
    pub failed: Option<Instant>,
}

/// The rules, and when the last trickle was.
#[derive(Debug, Clone)]
pub struct Policy {
    target: usize,
    max_age: Duration,
    trickled: Option<Instant>,
}

impl Demand {
    /// Not used yet.
    pub fn new(now: Instant) -> Demand {
        Demand { used: None, since: now, burst: 0, most: 0, most_at: now }
    }

    /// A call claims one worker.
    pub fn claimed(&mut self, now: Instant, max_age: Duration) {
        if now.duration_since(self.since) > BURST {
            (self.since, self.burst) = (now, 0);
        }
        self.burst += 1;
        if self.burst >= self.most || now.duration_since(self.most_at) > max_age {
            (self.most, self.most_at) = (self.burst, now);
        }
        self.used = Some(now);
    }
}

impl Policy {
    /// With this target for each kind, kept for `max_age` after its last use.
    pub fn new(target: usize, max_age: Duration) -> Policy {
        Policy { target, max_age, trickled: None }
    }

    /// How many warm workers this kind should have.
    pub fn wanted(&self, shelf: &Shelf, now: Instant) -> usize {
        let fresh = |at: Instant| now.duration_since(at) < self.max_age;
        let in_use = shelf.default || shelf.demand.used.is_some_and(fresh);
        if !shelf.there || !in_use {
            return 0;
        }
        let most = if fresh(shelf.demand.most_at) { shelf.demand.most } else { 0 };
        most.clamp(self.target, self.target * 2)
    }

    /// Whether nothing of this kind is wanted, and nobody waits for it: all of it can go.
    pub fn is_over(&self, shelf: &Shelf, now: Instant) -> bool {
        self.wanted(shelf, now) == 0 && shelf.starting == 0 && shelf.waiting == 0
    }

    /// Until when nothing is begun, because of a claim just now.
    pub fn pauses(&self, shelves: &[Shelf], now: Instant) -> Option<Instant> {
        let last = shelves.iter().filter_map(|shelf| shelf.demand.used).max()?;
        Some(last + PAUSE).filter(|&until| until > now)
    }

    /// Which kinds get another start now, one each time they are named.
    pub fn refills(
        &mut self,
        shelves: &[Shelf],
        cores: Cores,
        memory: Memory,
        now: Instant,
    ) -> Vec<usize> {
        if memory != Memory::Plenty {
            return Vec::new();
        }
        let sum = |of: fn(&Shelf) -> usize| shelves.iter().map(of).sum::<usize>();
        let running = cores.workers > sum(|shelf| shelf.waiting);
        let trickle = running && cores.free < 1.0;
        let disturbed = shelves.iter().filter_map(|shelf| shelf.demand.used).max();
        let rests = disturbed.max(self.trickled).is_some_and(|at| now.duration_since(at) < TRICKLE);
        let allowed = match (running, trickle) {
            (_, true) => usize::from(!rests),
            (true, false) => cores.free as usize,
            (false, false) => (STARTS_PER_CORE * cores.all as usize)
                .saturating_sub(sum(|shelf| shelf.starting.min(shelf.waiting))),
        };
        let under_way = sum(|shelf| shelf.starting.saturating_sub(shelf.waiting));
        let mut there: Vec<usize> = shelves.iter().map(Shelf::on_the_way).collect();
        let mut refills = Vec::new();
        while under_way + refills.len() < allowed {
            let lacks = |(at, shelf): (usize, &Shelf)| {
                let rests = shelf.failed.is_some_and(|at| now.duration_since(at) < AFTER_FAILURE);
                let lack = self.wanted(shelf, now).saturating_sub(there[at]);
                (lack > 0 && !rests).then_some((lack, shelf.demand.used, at))
            };
            let Some((_, _, at)) = shelves.iter().enumerate().filter_map(lacks).max() else {
                break;
            };
            there[at] += 1;
            self.trickled = Some(now);
            refills.push(at);
        }
        refills
    }

    /// The kind that has to give up a warm worker, if memory is so scarce.
    pub fn shed(&self, shelves: &[Shelf], memory: Memory) -> Option<usize> {
        if memory != Memory::Scarce {
            return None;
        }
        let full = shelves.iter().enumerate().filter(|(_, shelf)| shelf.ready > 0);
        full.min_by_key(|(_, shelf)| shelf.demand.used).map(|(at, _)| at)
    }
}

impl Shelf {
    /// Warm workers there are, or will be once every claim that waits has got one.
    fn on_the_way(&self) -> usize {
        (self.ready + self.starting).saturating_sub(self.waiting)
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
