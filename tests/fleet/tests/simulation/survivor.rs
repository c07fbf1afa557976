//! What outlives a gateway of the simulation: its store, in memory. A gateway that has crashed commits nothing more, and what it had on the way is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use muster_gateway::store::StoreError;
use muster_gateway::store::durable::{
    Answer, Batch, CallStore, Change, MemoryCallStore, StoredCall, StoredRecord,
};

/// What a commit takes: there is a moment in which a crash can come between.
const COMMIT: Duration = Duration::from_millis(3);

/// One gateway's hold on the store.
#[derive(Debug, Clone, Default)]
pub struct Survivor {
    store: Arc<MemoryCallStore>,
    crashed: Arc<AtomicBool>,
}

impl Survivor {
    /// The gateway that has this is dead: the next one's hold.
    pub fn crash(&self) -> Survivor {
        self.crashed.store(true, Ordering::Relaxed);
        Survivor { store: self.store.clone(), crashed: Arc::default() }
    }
}

impl CallStore for Survivor {
    fn commit<'a>(&'a self, changes: &'a [Change]) -> Answer<'a, ()> {
        Box::pin(async move {
            tokio::time::sleep(COMMIT).await;
            match self.crashed.load(Ordering::Relaxed) {
                true => Err(StoreError::Fenced),
                false => self.store.commit(changes).await,
            }
        })
    }

    fn load(&self) -> Answer<'_, (Vec<StoredCall>, u64)> {
        self.store.load()
    }

    fn function<'a>(&'a self, call: &'a str) -> Answer<'a, Bytes> {
        self.store.function(call)
    }

    fn chunk<'a>(&'a self, call: &'a str, first: u64) -> Answer<'a, Bytes> {
        self.store.chunk(call, first)
    }

    fn events<'a>(&'a self, call: &'a str, seq: u64, bytes: usize) -> Answer<'a, Vec<Batch>> {
        self.store.events(call, seq, bytes)
    }

    fn record<'a>(&'a self, call: &'a str) -> Answer<'a, Option<StoredRecord>> {
        self.store.record(call)
    }

    fn records<'a>(
        &'a self,
        owner: Option<&'a str>,
        at_most: u32,
    ) -> Answer<'a, Vec<StoredRecord>> {
        self.store.records(owner, at_most)
    }
}
