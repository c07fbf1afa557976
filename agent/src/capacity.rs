//! Who gets which cores, and how much memory: pure, owned by `container::rooms`.
//!
//! A request for a whole number of cores gets that many cores for itself among the whole requests (they are pinned, so the
//! function's `sched_getaffinity` shows them); a fractional one gets a quota over all cores. Either way the sum of what was
//! given never passes what there is. Requests wait in one queue. The first is served first, but while it does not fit a later
//! one that fits may pass it, at most [`MAX_PASSED`] times: small requests use the gaps, large ones are never starved.

use std::collections::{BTreeSet, VecDeque};

/// How often a waiting request may be passed by later ones.
pub const MAX_PASSED: u32 = 16;

/// Thousandths of a core.
pub type Millis = u64;

/// What one worker wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// Cores, in thousandths.
    pub cpu: Millis,
    /// Memory, in bytes.
    pub ram: u64,
}

impl Want {
    /// From cores and bytes; part of a thousandth counts as a whole one, and a hundredth of a core is the least.
    pub fn new(cpu: f64, ram: u64) -> Want {
        // A float cast saturates, so even nonsense becomes a want that never fits.
        Want { cpu: ((cpu * 1000.0 - 1e-6).ceil() as Millis).max(10), ram }
    }

    /// How many cores to pin, if the want is a whole number of them.
    fn whole(&self) -> Option<usize> {
        self.cpu.is_multiple_of(1000).then_some((self.cpu / 1000) as usize)
    }
}

/// What one worker was given; goes back by [`Capacity::give_back`].
#[derive(Debug, PartialEq, Eq)]
pub struct Room {
    /// What was asked for.
    pub want: Want,
    /// Cores of its own; empty when it has a quota over all.
    pub cores: Vec<usize>,
}

/// A place in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

#[derive(Debug)]
struct Waiter {
    ticket: Ticket,
    want: Want,
    passed: u32,
}

/// What a host has, what is free, and who waits.
#[derive(Debug)]
pub struct Capacity {
    total: Want,
    free: Want,
    /// Cores of workers that only wait; part of what is free.
    lent: Millis,
    /// Cores that were taken back while others had them; what comes free pays it first.
    owed: Millis,
    unpinned: BTreeSet<usize>,
    queue: VecDeque<Waiter>,
    next: u64,
}

impl Capacity {
    /// All of it free.
    pub fn new(cores: impl IntoIterator<Item = usize>, ram: u64) -> Capacity {
        let unpinned: BTreeSet<usize> = cores.into_iter().collect();
        let total = Want { cpu: unpinned.len() as Millis * 1000, ram };
        Capacity { total, free: total, lent: 0, owed: 0, unpinned, queue: VecDeque::new(), next: 0 }
    }

    /// What there is.
    pub fn total(&self) -> Want {
        self.total
    }

    /// What nobody holds.
    pub fn free(&self) -> Want {
        self.free
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Whether an empty host could hold it.
    pub fn fits_ever(&self, want: &Want) -> bool {
        want.cpu <= self.total.cpu && want.ram <= self.total.ram
    }

    /// How many of these are free, and how many an empty host holds.
    pub fn slots(&self, want: &Want) -> (u64, u64) {
        let count = |of: &Want| (of.cpu / want.cpu.max(1)).min(of.ram / want.ram.max(1));
        (count(&self.free), count(&self.total))
    }

    /// Joins the queue.
    pub fn enter(&mut self, want: Want) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        self.queue.push_back(Waiter { ticket, want, passed: 0 });
        ticket
    }

    /// Leaves the queue without having been served.
    pub fn leave(&mut self, ticket: Ticket) {
        self.queue.retain(|waiter| waiter.ticket != ticket);
    }

    /// Serves the queue as far as there is room.
    pub fn grant(&mut self) -> Vec<(Ticket, Room)> {
        let mut granted = Vec::new();
        let mut at = 0;
        while at < self.queue.len() {
            let want = self.queue[at].want;
            if self.fits_now(&want) {
                if let Some(waiter) = self.queue.remove(at) {
                    self.queue.iter_mut().take(at).for_each(|before| before.passed += 1);
                    granted.push((waiter.ticket, self.take(want)));
                }
                // Whoever was passed once too often blocks those behind it from here on.
                if self.queue.iter().take(at).any(|before| before.passed >= MAX_PASSED) {
                    break;
                }
            } else if self.queue[at].passed >= MAX_PASSED {
                break;
            } else {
                at += 1;
            }
        }
        granted
    }

    /// Takes back what a worker held.
    pub fn give_back(&mut self, room: Room) {
        self.free_cores(room.want.cpu);
        self.free.ram += room.want.ram;
        self.unpinned.extend(room.cores);
    }

    /// Who holds this only waits: others may have its cores meanwhile, not its memory.
    pub fn lend(&mut self, room: &Room) {
        self.lent += room.want.cpu;
        self.free_cores(room.want.cpu);
    }

    /// The wait is over. What others have by now is owed: nothing is given until it is paid.
    pub fn take_back(&mut self, room: &Room) {
        self.lent -= room.want.cpu;
        let free = self.free.cpu.min(room.want.cpu);
        self.free.cpu -= free;
        self.owed += room.want.cpu - free;
    }

    /// Cores that are lent, in thousandths.
    pub fn lent(&self) -> Millis {
        self.lent
    }

    fn free_cores(&mut self, cpu: Millis) {
        let paid = self.owed.min(cpu);
        self.owed -= paid;
        self.free.cpu += cpu - paid;
    }

    fn fits_now(&self, want: &Want) -> bool {
        want.cpu <= self.free.cpu && want.ram <= self.free.ram
    }

    /// Pinned cores are part of what was taken, so as many unpinned ones are left as free whole ones.
    fn take(&mut self, want: Want) -> Room {
        self.free.cpu -= want.cpu;
        self.free.ram -= want.ram;
        // Of cores that are lent nobody can have one for its own: then all of its own are a quota over all.
        let count = want.whole().filter(|count| *count <= self.unpinned.len()).unwrap_or(0);
        let cores: Vec<usize> = self.unpinned.iter().copied().take(count).collect();
        cores.iter().for_each(|core| {
            self.unpinned.remove(core);
        });
        Room { want, cores }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GIB: u64 = 1 << 30;

    fn serve(capacity: &mut Capacity, want: Want) -> Option<Room> {
        let ticket = capacity.enter(want);
        let granted = capacity.grant();
        granted.into_iter().find(|(of, _)| *of == ticket).map(|(_, room)| room)
    }

    #[test]
    fn whole_requests_get_cores_of_their_own() {
        let mut capacity = Capacity::new([0, 1, 5], 8 * GIB);
        let first = serve(&mut capacity, Want::new(1.0, GIB)).expect("there is room");
        let second = serve(&mut capacity, Want::new(2.0, GIB)).expect("there is room");
        assert_eq!((first.cores.clone(), second.cores.clone()), (vec![0], vec![1, 5]));
        assert_eq!(serve(&mut capacity, Want::new(0.1, GIB)), None);
        capacity.give_back(first);
        assert_eq!(capacity.grant().len(), 1);
        assert_eq!(capacity.slots(&Want::new(0.9, GIB)), (1, 3));
    }

    #[test]
    fn a_fraction_is_a_quota_over_all_cores() {
        let mut capacity = Capacity::new(0..2, GIB);
        let room = serve(&mut capacity, Want::new(1.5, 1)).expect("there is room");
        assert!(room.cores.is_empty());
        assert_eq!(capacity.free().cpu, 500);
    }

    #[test]
    fn what_never_fits_is_known() {
        let capacity = Capacity::new(0..2, GIB);
        assert!(capacity.fits_ever(&Want::new(2.0, GIB)));
        assert!(!capacity.fits_ever(&Want::new(2.001, GIB)));
        assert!(!capacity.fits_ever(&Want::new(1.0, GIB + 1)));
        assert!(!capacity.fits_ever(&Want::new(f64::INFINITY, 1)));
    }

    #[test]
    fn small_requests_use_gaps_but_do_not_starve_a_large_one() {
        let mut capacity = Capacity::new(0..2, 1000 * GIB);
        let first = serve(&mut capacity, Want::new(1.0, 1)).expect("there is room");
        let large = capacity.enter(Want::new(2.0, 1));
        let mut passed = 0;
        while let Some(room) = serve(&mut capacity, Want::new(1.0, 1)) {
            passed += 1;
            capacity.give_back(room);
        }
        assert_eq!(passed, MAX_PASSED);
        capacity.give_back(first);
        assert_eq!(capacity.grant().first().map(|(ticket, _)| *ticket), Some(large));
    }

    #[test]
    fn who_leaves_the_queue_is_not_served() {
        let mut capacity = Capacity::new(0..1, GIB);
        let room = serve(&mut capacity, Want::new(1.0, 1)).expect("there is room");
        let ticket = capacity.enter(Want::new(1.0, 1));
        capacity.leave(ticket);
        capacity.give_back(room);
        assert!(capacity.grant().is_empty());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Enter(u64, u64),
        GiveBack(usize),
        Leave(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (prop_oneof![Just(1000u64), Just(2000), Just(3000), 10u64..3000], 1u64..40)
                .prop_map(|(cpu, ram)| Step::Enter(cpu, ram)),
            any::<usize>().prop_map(Step::GiveBack),
            any::<usize>().prop_map(Step::Leave),
        ]
    }

    proptest! {
        #[test]
        fn capacity_is_never_passed_and_pinned_cores_never_shared(
            steps in proptest::collection::vec(step(), 1..200)
        ) {
            let mut capacity = Capacity::new(0..4, 100);
            let total = capacity.total();
            let (mut held, mut waiting) = (Vec::new(), Vec::new());
            for step in steps {
                match step {
                    Step::Enter(cpu, ram) => waiting.push(capacity.enter(Want { cpu, ram })),
                    Step::GiveBack(which) if !held.is_empty() => {
                        capacity.give_back(held.swap_remove(which % held.len()));
                    }
                    Step::Leave(which) if !waiting.is_empty() => {
                        capacity.leave(waiting.swap_remove(which % waiting.len()));
                    }
                    _ => {}
                }
                for (ticket, room) in capacity.grant() {
                    waiting.retain(|other| *other != ticket);
                    held.push(room);
                }
                let cpu: u64 = held.iter().map(|room: &Room| room.want.cpu).sum();
                let ram: u64 = held.iter().map(|room| room.want.ram).sum();
                prop_assert!(cpu <= total.cpu && ram <= total.ram);
                prop_assert_eq!(capacity.free(), Want { cpu: total.cpu - cpu, ram: total.ram - ram });
                let mut pinned = BTreeSet::new();
                for room in &held {
                    if let Some(count) = room.want.whole() {
                        prop_assert_eq!(room.cores.len(), count);
                    }
                    prop_assert!(room.cores.iter().all(|core| pinned.insert(*core)));
                }
                prop_assert_eq!(capacity.waiting(), waiting.len());
            }
            held.into_iter().for_each(|room| capacity.give_back(room));
            prop_assert_eq!(capacity.free(), total);
        }
    }

    #[test]
    fn what_a_waiting_worker_lends_is_given_and_comes_back_when_others_are_done() {
        let mut capacity = Capacity::new([0, 1], 8 * GIB);
        let want = Want::new(2.0, GIB);
        let parent = serve(&mut capacity, want).expect("there is room");
        assert_eq!(serve(&mut capacity, Want::new(1.0, GIB)), None);
        capacity.leave(Ticket(1));
        capacity.lend(&parent);
        let child = serve(&mut capacity, Want::new(1.0, GIB)).expect("lent");
        assert_eq!((child.cores.len(), capacity.lent()), (0, 2000));
        capacity.take_back(&parent);
        assert_eq!((capacity.free().cpu, capacity.lent()), (0, 0));
        assert_eq!(serve(&mut capacity, Want::new(1.0, GIB)), None, "one core is owed");
        capacity.give_back(child);
        assert!(capacity.grant().is_empty(), "it pays the debt");
        capacity.give_back(parent);
        assert_eq!(capacity.grant().len(), 1);
        assert_eq!(capacity.free(), Want { cpu: 1000, ram: 7 * GIB });
    }
}
