//! Warm workers, and the claims that wait for one. A claim takes a ready worker of its image and mode, or waits, and a
//! start is begun for it; whichever start of that kind ends first serves the claim that waits longest. A start whose claim went
//! away becomes a warm worker, so nothing is begun in vain and a dropped claim has nothing to undo.
//!
//! Kinds that were used lately, and the default images, are refilled one worker at a time when no claims are being made;
//! the others age out.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::FutureExt;
use muster_wire::message::Mode;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::images::Images;
use super::start::{StartError, start};
use super::worker::Worker;
use super::{REFILL, Site};
use crate::status::Board;

/// After a start of a kind failed, the pool leaves it alone for this long; claims still try.
const AFTER_FAILURE: Duration = Duration::from_secs(10);

/// What warm workers are alike in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Kind {
    /// Content id of the image: a name may come to mean another one.
    pub image: String,
    /// Which runner.
    pub mode: Mode,
}

type Answer = Result<Worker, StartError>;

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
    used: Instant,
    failed: Option<Instant>,
}

impl Default for Shelf {
    fn default() -> Shelf {
        Shelf {
            ready: VecDeque::new(),
            waiting: VecDeque::new(),
            starting: 0,
            used: Instant::now(),
            failed: None,
        }
    }
}

impl Pool {
    /// An empty pool that keeps `target` workers of each kind in use, for `max_age` after the last use.
    pub fn new(site: Arc<Site>, board: Board, target: usize, max_age: Duration) -> Pool {
        let shelves = Arc::new(Mutex::new(Shelves::default()));
        Pool { site, board, target, max_age, shelves, changed: Arc::new(Notify::new()) }
    }

    /// A worker of this kind, at once when one is warm. `None` when the pool is closed.
    pub async fn claim(&self, kind: &Kind) -> Option<Answer> {
        let receiver = {
            let mut shelves = self.lock();
            if shelves.closed {
                return None;
            }
            let shelf = shelves.kinds.entry(kind.clone()).or_default();
            shelf.used = Instant::now();
            while let Some(mut worker) = shelf.ready.pop_front() {
                // One that died while it waited is dropped, and so removed.
                if worker.container.is_alive() && worker.runner.exited().now_or_never().is_none() {
                    drop(shelves);
                    self.publish();
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
        self.publish();
        // A closed pool drops the senders.
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

    /// Keeps the shelves filled until the stop.
    pub async fn refill(self, images: Images) {
        let stop = self.site.tasks.token();
        loop {
            self.age_out(&images);
            while let Some(kind) = self.poorest(&images) {
                // A claim may come at any time; this start is then as good for it as its own.
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    () = self.site.quiet.wait(Duration::from_secs(60)) => {}
                }
                let done = {
                    let mut shelves = self.lock();
                    let shelf = shelves.kinds.entry(kind.clone()).or_default();
                    self.begin(&kind, shelf)
                };
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    _ = done => {}
                }
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.changed.notified() => {}
                () = tokio::time::sleep(REFILL) => {}
            }
        }
    }

    /// Begins a start whose worker goes to whoever waits longest, or on the shelf.
    fn begin(&self, kind: &Kind, shelf: &mut Shelf) -> tokio::task::JoinHandle<()> {
        shelf.starting += 1;
        let (pool, kind) = (self.clone(), kind.clone());
        self.site.tasks.clone().spawn(async move {
            let answer = {
                // Never closed. More starts at once than cores only make each of them slower.
                let _permit = pool.site.starts.acquire().await;
                start(&pool.site, &kind.image, kind.mode).await
            };
            pool.shelve(&kind, answer);
        })
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
                    Some(Ok(worker)) if !closed && shelf.ready.len() < self.target => {
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

    /// The kind that lacks most, if any lacks one and may be started now.
    fn poorest(&self, images: &Images) -> Option<Kind> {
        if self.target == 0 {
            return None;
        }
        let mut shelves = self.lock();
        if shelves.closed {
            return None;
        }
        for kind in default_kinds(images) {
            shelves.kinds.entry(kind).or_default();
        }
        shelves
            .kinds
            .iter()
            .filter(|(_, shelf)| shelf.failed.is_none_or(|at| at.elapsed() > AFTER_FAILURE))
            .map(|(kind, shelf)| (shelf.ready.len() + shelf.starting, kind))
            .filter(|(there, _)| *there < self.target)
            .min_by_key(|(there, _)| *there)
            .map(|(_, kind)| kind.clone())
    }

    /// Forgets kinds that were not used for long, or whose image is gone.
    fn age_out(&self, images: &Images) {
        let list = images.list();
        let defaults = default_kinds(images);
        let mut dropped = Vec::new();
        {
            let mut shelves = self.lock();
            shelves.kinds.retain(|kind, shelf| {
                let there = list.iter().any(|image| image.id == kind.image);
                let fresh = shelf.used.elapsed() < self.max_age || defaults.contains(kind);
                let busy = shelf.starting > 0 || !shelf.waiting.is_empty();
                if !(there && fresh || busy) {
                    dropped.extend(shelf.ready.drain(..));
                    return false;
                }
                true
            });
        }
        if !dropped.is_empty() {
            drop(dropped);
            self.publish();
        }
    }

    fn publish(&self) {
        let warm = self.lock().kinds.values().map(|shelf| shelf.ready.len()).sum::<usize>();
        self.board.warm(warm as u32);
    }

    fn lock(&self) -> MutexGuard<'_, Shelves> {
        self.shelves.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Images made for Muster are kept warm for functions from the start.
fn default_kinds(images: &Images) -> Vec<Kind> {
    let ours = images.list().into_iter().filter(|image| image.python.is_some());
    ours.map(|image| Kind { image: image.id, mode: Mode::Python }).collect()
}
