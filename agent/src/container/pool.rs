//! Warm workers, and the claims that wait for one. A claim takes a ready worker of its image, mode and runtime, or waits, and a
//! start is begun for it; whichever start of that kind ends first serves the claim that waits longest. A start whose claim went
//! away becomes a warm worker, so nothing is begun in vain and a dropped claim has nothing to undo.
//!
//! How many are kept, which are started next and which go is decided by [`super::policy`]; one task, `refill`, asks it whenever
//! a claim, a start, the free cores or the timer change something, and carries it out.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::FutureExt;
use muster_wire::message::Mode;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

use super::images::Images;
use super::memory;
use super::policy::{self, Cores, Demand, Memory, Policy};
use super::start::{Made, StartError, start};
use super::worker::Worker;
use super::{REFILL, Site, say};
use crate::shares::ShareMount;
use crate::status::{Board, Found};

/// What warm workers are alike in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Kind {
    /// Content id of the image: a name may come to mean another one.
    pub image: String,
    /// Which runner.
    pub mode: Mode,
    /// How the engine starts its container, where not as by default.
    pub runtime: Option<String>,
}

impl Kind {
    /// One of these, with shares.
    fn made<'a>(&'a self, shares: &'a [ShareMount]) -> Made<'a> {
        let (image, mode, runtime) = (&self.image, self.mode, self.runtime.as_deref());
        Made { image, mode, runtime, builder: None, shares }
    }
}

type Answer = Result<Worker, StartError>;
/// Why a claim waits, for whoever asks.
type Waiting = watch::Sender<Option<String>>;

/// A cheap handle to the pool.
#[derive(Debug, Clone)]
pub struct Pool {
    site: Arc<Site>,
    board: Board,
    target: usize,
    max_age: Duration,
    shelves: Arc<Mutex<Shelves>>,
    changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Shelves {
    kinds: HashMap<Kind, Shelf>,
    closed: bool,
}

#[derive(Debug)]
struct Shelf {
    ready: VecDeque<Worker>,
    waiting: VecDeque<oneshot::Sender<Answer>>,
    starting: usize,
    demand: Demand,
    failed: Option<Instant>,
}

impl Default for Shelf {
    fn default() -> Shelf {
        Shelf {
            ready: VecDeque::new(),
            waiting: VecDeque::new(),
            starting: 0,
            demand: Demand::new(Instant::now()),
            failed: None,
        }
    }
}

impl Pool {
    /// An empty pool that keeps `target` workers of each kind in use, for `max_age` after the last use.
    pub fn new(site: Arc<Site>, board: Board, target: usize, max_age: Duration) -> Pool {
        Pool { site, board, target, max_age, shelves: Arc::default(), changed: Arc::default() }
    }

    /// A worker of this kind, at once when one is warm; where one has to be started, says so in `waiting`. `None` when the pool is closed.
    pub async fn claim(&self, kind: &Kind, waiting: &Waiting) -> Option<Answer> {
        let receiver = {
            let mut shelves = self.lock();
            if shelves.closed {
                return None;
            }
            let shelf = shelves.kinds.entry(kind.clone()).or_default();
            shelf.demand.claimed(Instant::now(), self.max_age);
            while let Some(mut worker) = shelf.ready.pop_front() {
                // One that died while it waited is dropped, and so removed.
                if worker.container.is_alive() && worker.runner.exited().now_or_never().is_none() {
                    drop(shelves);
                    self.claimed(Found::Warm);
                    return Some(Ok(worker));
                }
            }
            let (sender, receiver) = oneshot::channel();
            shelf.waiting.retain(|waiter| !waiter.is_closed());
            shelf.waiting.push_back(sender);
            if shelf.starting < shelf.waiting.len() {
                self.begin(kind, shelf);
            }
            receiver
        };
        self.cold(waiting);
        // A closed pool drops the senders.
        receiver.await.ok()
    }

    /// A worker that is started with these shares, for this claim alone: it never stands on a shelf.
    pub async fn claim_with(
        &self,
        kind: Kind,
        shares: Vec<ShareMount>,
        waiting: &Waiting,
    ) -> Option<Answer> {
        if self.lock().closed {
            return None;
        }
        self.cold(waiting);
        let (sender, receiver) = oneshot::channel();
        let site = self.site.clone();
        self.site.tasks.clone().spawn(async move {
            let answer = {
                // Never closed.
                let _permit = site.starts.acquire().await;
                start(&site, kind.made(&shares)).await
            };
            // A worker whose claim went away is dropped here, and so removed.
            drop(sender.send(answer));
        });
        receiver.await.ok()
    }

    /// Drops all warm workers and refuses claims from now on.
    pub fn close(&self) {
        let dropped = {
            let mut shelves = self.lock();
            shelves.closed = true;
            std::mem::take(&mut shelves.kinds)
        };
        drop(dropped);
        self.publish();
    }

    /// Keeps the shelves as the policy wants them, until the stop.
    pub async fn refill(self, images: Images) {
        let stop = self.site.tasks.token();
        let mut policy = Policy::new(self.target, self.max_age);
        let mut host = self.board.watch();
        loop {
            let cores = {
                let status = host.borrow_and_update();
                let (all, free, workers) =
                    (status.cores, status.free_cores, status.workers as usize);
                Cores { all, free, workers }
            };
            let (_, seen) = self.lock().seen(&images);
            if let Some(until) = policy.pauses(&seen, Instant::now()) {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep_until(until) => continue,
                }
            }
            let memory = memory::look();
            self.shed(&policy, &images, memory);
            self.age_out(&policy, &images);
            self.begin_refills(&mut policy, &images, cores, memory);
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.changed.notified() => {}
                // The board is there as long as its writers, of which we are one.
                _ = host.changed() => {}
                () = tokio::time::sleep(REFILL) => {}
            }
        }
    }

    fn begin_refills(&self, policy: &mut Policy, images: &Images, cores: Cores, memory: Memory) {
        let mut shelves = self.lock();
        if shelves.closed {
            return;
        }
        if self.target > 0 {
            for kind in default_kinds(images) {
                shelves.kinds.entry(kind).or_default();
            }
        }
        let (kinds, seen) = shelves.seen(images);
        for at in policy.refills(&seen, cores, memory, Instant::now()) {
            if let Some(shelf) = shelves.kinds.get_mut(&kinds[at]) {
                self.begin(&kinds[at], shelf);
            }
        }
    }

    /// Begins a start whose worker goes to whoever waits longest, or on the shelf.
    fn begin(&self, kind: &Kind, shelf: &mut Shelf) {
        shelf.starting += 1;
        let (pool, kind) = (self.clone(), kind.clone());
        self.site.tasks.clone().spawn(async move {
            let answer = {
                // Never closed.
                let _permit = pool.site.starts.acquire().await;
                start(&pool.site, kind.made(&[])).await
            };
            pool.shelve(&kind, answer);
        });
    }

    fn shelve(&self, kind: &Kind, answer: Answer) {
        let mut rest = Some(answer);
        {
            let mut shelves = self.lock();
            let closed = shelves.closed;
            if let Some(shelf) = shelves.kinds.get_mut(kind) {
                shelf.starting = shelf.starting.saturating_sub(1);
                shelf.failed = match &rest {
                    Some(Err(_)) => Some(Instant::now()),
                    _ => None,
                };
                while let Some(waiter) = shelf.waiting.pop_front() {
                    // A waiter that went away gives the answer back, for the next one.
                    rest = rest.take().and_then(|answer| waiter.send(answer).err());
                    if rest.is_none() {
                        break;
                    }
                }
                match rest.take() {
                    // Never more than a full shelf and a call's worth of claims that went away.
                    Some(Ok(worker)) if !closed && shelf.ready.len() < self.target * 2 => {
                        shelf.ready.push_back(worker);
                    }
                    other => rest = other,
                }
            }
        }
        // A worker too many, or for a closed pool, is dropped here, and so removed.
        if let Some(Err(error)) = rest {
            tracing::warn!(error = &error as &dyn std::error::Error, "warm worker not started");
        }
        self.publish();
        self.changed.notify_one();
    }

    /// Where memory is scarce, gives up one warm worker.
    fn shed(&self, policy: &Policy, images: &Images, memory: Memory) {
        let dropped = {
            let mut shelves = self.lock();
            let (kinds, seen) = shelves.seen(images);
            let poorest =
                policy.shed(&seen, memory).and_then(|at| shelves.kinds.get_mut(&kinds[at]));
            poorest.and_then(|shelf| shelf.ready.pop_front())
        };
        if let Some(worker) = dropped {
            tracing::info!(
                worker = worker.container.name(),
                "memory is scarce: warm worker dropped"
            );
            drop(worker);
            self.publish();
        }
    }

    /// Forgets kinds that are not wanted any more.
    fn age_out(&self, policy: &Policy, images: &Images) {
        let mut dropped = Vec::new();
        {
            let mut shelves = self.lock();
            let (kinds, seen) = shelves.seen(images);
            for (kind, shelf) in kinds.into_iter().zip(seen) {
                if policy.is_over(&shelf, Instant::now()) {
                    dropped.extend(shelves.kinds.remove(&kind));
                }
            }
        }
        if !dropped.is_empty() {
            drop(dropped);
            self.publish();
        }
    }

    fn cold(&self, waiting: &Waiting) {
        say(waiting, "starting containers".into());
        self.claimed(Found::Cold);
    }

    fn claimed(&self, found: Found) {
        self.board.claimed(found);
        self.publish();
    }

    fn publish(&self) {
        let warm = self.lock().kinds.values().map(|shelf| shelf.ready.len()).sum::<usize>();
        self.board.warm(warm as u32);
    }

    fn lock(&self) -> MutexGuard<'_, Shelves> {
        self.shelves.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Shelves {
    /// What the policy is to know of each kind.
    fn seen(&self, images: &Images) -> (Vec<Kind>, Vec<policy::Shelf>) {
        let list = images.list();
        let defaults = default_kinds(images);
        let see = |(kind, shelf): (&Kind, &Shelf)| {
            let seen = policy::Shelf {
                demand: shelf.demand,
                default: defaults.contains(kind),
                there: list.iter().any(|image| image.id == kind.image),
                ready: shelf.ready.len(),
                starting: shelf.starting,
                waiting: shelf.waiting.iter().filter(|waiter| !waiter.is_closed()).count(),
                failed: shelf.failed,
            };
            (kind.clone(), seen)
        };
        self.kinds.iter().map(see).unzip()
    }
}

/// Images made for Muster are kept warm for functions from the start.
fn default_kinds(images: &Images) -> Vec<Kind> {
    let ours = images.list().into_iter().filter(|image| image.python.is_some());
    ours.map(|image| Kind { image: image.id, mode: Mode::Python, runtime: None }).collect()
}
