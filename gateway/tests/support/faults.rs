//! A disk that fails on request, under the stores of a gateway.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use muster_gateway::store::durable::{Answer, Batch, CallStore, Change, StoredCall, StoredRecord};
use muster_gateway::store::{Store, StoreError};

/// What is wrong with a disk. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    full: Arc<AtomicBool>,
    damaged: Arc<AtomicBool>,
}

impl Disk {
    /// Nothing can be written from now on.
    pub fn fill(&self) {
        self.full.store(true, Ordering::Relaxed);
    }

    /// There is room again.
    pub fn make_room(&self) {
        self.full.store(false, Ordering::Relaxed);
    }

    /// What is spilled reads as something else from now on.
    pub fn damage(&self) {
        self.damaged.store(true, Ordering::Relaxed);
    }

    /// A store on this disk.
    pub fn under<S>(&self, store: S) -> OnDisk<S> {
        OnDisk { store, disk: self.clone() }
    }

    fn check(&self) -> Result<(), StoreError> {
        match self.full.load(Ordering::Relaxed) {
            true => Err(StoreError::Full),
            false => Ok(()),
        }
    }
}

/// A store that fails as its disk does.
#[derive(Debug)]
pub struct OnDisk<S> {
    store: S,
    disk: Disk,
}

impl<S: Store> Store for OnDisk<S> {
    fn put(&self, id: u64, parts: &[Bytes]) -> Result<(), StoreError> {
        self.disk.check()?;
        self.store.put(id, parts)
    }

    fn get(&self, id: u64) -> Result<Bytes, StoreError> {
        match self.disk.damaged.load(Ordering::Relaxed) {
            true => Err(StoreError::Damaged(id)),
            false => self.store.get(id),
        }
    }

    fn set_aside(&self, id: u64, bytes: u64) {
        self.store.set_aside(id, bytes);
    }

    fn remove(&self, id: u64) {
        self.store.remove(id);
    }
}

impl<S: CallStore> CallStore for OnDisk<S> {
    fn commit<'a>(&'a self, changes: &'a [Change]) -> Answer<'a, ()> {
        Box::pin(async move {
            self.disk.check()?;
            self.store.commit(changes).await
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
