//! The way to a [`CallStore`]: one writer task that commits whatever waits together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::{CallStore, Change};
use crate::store::StoreError;
use crate::tasks::Tasks;

/// Writes that wait for the writer.
const WAITING: usize = 1024;
/// How many are committed together.
const TOGETHER: usize = 256;
/// Once the process stops: how long without a write until there will be none.
const SILENCE: Duration = Duration::from_millis(500);

/// Writes changes and reads them back. Cheap to clone.
#[derive(Clone)]
pub struct Journal {
    store: Arc<dyn CallStore>,
    writes: mpsc::Sender<Write>,
    used: Arc<AtomicU64>,
    limit: u64,
}

struct Write {
    changes: Vec<Change>,
    reply: oneshot::Sender<Result<(), StoreError>>,
}

/// The outcome of a write that is on its way.
pub type Written = oneshot::Receiver<Result<(), StoreError>>;

impl Journal {
    /// Starts the writer of this store, which may hold `limit` bytes of payloads.
    pub fn start(store: impl CallStore, limit: u64, tasks: &Tasks) -> Journal {
        let store: Arc<dyn CallStore> = Arc::new(store);
        let (writes, waiting) = mpsc::channel(WAITING);
        tasks.spawn_critical("store", write_all(store.clone(), waiting, tasks.clone()));
        Journal { store, writes, used: Arc::default(), limit }
    }

    /// Makes these changes, all or none; they are durable when this returns.
    pub async fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        written(self.submit(changes).await).await
    }

    /// The same, without waiting for the outcome. Writes take place in the order they were submitted.
    pub async fn submit(&self, changes: Vec<Change>) -> Written {
        let (reply, outcome) = oneshot::channel();
        // If nobody takes it, the reply is dropped, which says the same.
        let _ = self.writes.send(Write { changes, reply }).await;
        outcome
    }

    /// Where to read.
    pub fn store(&self) -> &dyn CallStore {
        &*self.store
    }

    /// Bytes of payloads there are.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// How many bytes would have to go before there is a tenth of the room left again.
    pub fn excess(&self) -> u64 {
        self.used().saturating_sub(self.limit / 10 * 9)
    }

    /// Whether so many bytes more are within the limit. What running calls produce is kept past it too.
    pub fn has_room(&self, bytes: u64) -> bool {
        self.used() + bytes <= self.limit
    }

    /// So many bytes more are there.
    pub fn add(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many are gone.
    pub fn subtract(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Journal({} of {} bytes)", self.used(), self.limit)
    }
}

/// The outcome, once it is known.
pub async fn written(outcome: Written) -> Result<(), StoreError> {
    outcome.await.unwrap_or(Err(StoreError::Closed))
}

/// The writer task: until the process stops and nothing has been written for a moment, or a commit fails for another reason than a full disk.
async fn write_all(store: Arc<dyn CallStore>, mut waiting: mpsc::Receiver<Write>, tasks: Tasks) {
    loop {
        let first = tokio::select! {
            biased;
            first = waiting.recv() => first,
            () = tasks.stopping() => {
                tokio::time::timeout(SILENCE, waiting.recv()).await.unwrap_or(None)
            }
        };
        let Some(first) = first else { return };
        let mut group = vec![first];
        while group.len() < TOGETHER
            && let Ok(next) = waiting.try_recv()
        {
            group.push(next);
        }
        if let Err(error) = write_group(&*store, group).await {
            tracing::error!(error = crate::chain(&error), "store failed, stopping");
            return;
        }
    }
}

/// Commits a group and answers it. An error is one that nothing may be written after.
async fn write_group(store: &dyn CallStore, group: Vec<Write>) -> Result<(), StoreError> {
    metrics::histogram!("muster_store_writes_per_commit").record(group.len() as f64);
    let (changes, replies): (Vec<_>, Vec<_>) =
        group.into_iter().map(|write| (write.changes, write.reply)).unzip();
    let all: Vec<Change> = changes.iter().flatten().cloned().collect();
    match store.commit(&all).await {
        Ok(()) => replies.into_iter().for_each(|reply| {
            let _ = reply.send(Ok(()));
        }),
        Err(StoreError::Full) => {
            // One large write must not keep out the small ones that wait with it.
            for (changes, reply) in changes.into_iter().zip(replies) {
                let written = store.commit(&changes).await;
                match written {
                    Ok(()) | Err(StoreError::Full) => {
                        let _ = reply.send(written);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
