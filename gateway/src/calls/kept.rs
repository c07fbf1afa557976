//! What a background call has in the store, and how much.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use muster_wire::batch::Inputs;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::PushError;
use crate::store::StoreError;
use crate::store::durable::{Change, Chunk, Digest, Journal, Payload};

/// A call's part of the store. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub journal: Journal,
    call: String,
    age: Age,
    sizes: Arc<Sizes>,
}

/// Bytes of payloads.
#[derive(Debug, Default)]
struct Sizes {
    inputs: AtomicU64,
    rest: AtomicU64,
}

/// How long gateways ran on this store: the clock by which calls expire. It stands still while none runs, and no change of the machine's time moves it, so nothing expires early.
#[derive(Debug, Clone, Copy)]
pub(super) struct Age {
    before: Duration,
    begun: Instant,
}

impl Age {
    /// A gateway begins on a store of this age.
    pub fn from(before_s: u64) -> Age {
        Age { before: Duration::from_secs(before_s), begun: Instant::now() }
    }

    /// The age now.
    pub fn now(&self) -> Duration {
        self.before + self.begun.elapsed()
    }
}

impl Kept {
    /// A call with so many bytes of payloads in the store.
    pub fn new(journal: Journal, call: &str, age: Age, bytes: u64) -> Kept {
        journal.add(bytes);
        let kept = Kept { journal, call: call.to_owned(), age, sizes: Arc::default() };
        kept.sizes.rest.store(bytes, Ordering::Relaxed);
        kept
    }

    /// Makes inputs durable.
    pub async fn write_inputs(&self, inputs: &Inputs, digest: Digest) -> Result<(), PushError> {
        let payload = Payload::new(inputs.in_pieces().body.into_iter().collect());
        let bytes = payload.len() as u64;
        if !self.journal.has_room(bytes) {
            return Err(PushError::NoSpace);
        }
        let (first, count) = (inputs.first, inputs.len() as u64);
        let chunk = Chunk { call: self.call.clone(), first, count, digest, payload };
        self.journal.commit(vec![Change::Chunk(chunk)]).await.map_err(refused)?;
        self.journal.add(bytes);
        self.sizes.inputs.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Makes durable that there are no more inputs.
    pub async fn close(&self, total: u64) -> Result<(), PushError> {
        let close = Change::Close { call: self.call.clone(), total };
        self.journal.commit(vec![close]).await.map_err(refused)
    }

    /// The change that ends it.
    pub fn end(&self, record: Bytes) -> Change {
        Change::End { call: self.call.clone(), record, age_s: self.age.now().as_secs() }
    }

    /// The change that removes it.
    pub fn delete(&self) -> Change {
        Change::Delete { call: self.call.clone() }
    }

    /// So many bytes of events were written.
    pub fn grow(&self, bytes: u64) {
        self.journal.add(bytes);
        self.sizes.rest.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Its inputs were removed.
    pub fn inputs_gone(&self) {
        self.journal.subtract(self.sizes.inputs.swap(0, Ordering::Relaxed));
    }

    /// How many bytes go with it.
    pub fn bytes(&self) -> u64 {
        self.sizes.inputs.load(Ordering::Relaxed) + self.sizes.rest.load(Ordering::Relaxed)
    }

    /// All of it was removed.
    pub fn all_gone(&self) {
        self.inputs_gone();
        self.journal.subtract(self.sizes.rest.swap(0, Ordering::Relaxed));
    }
}

/// What tells these inputs from others with the same indexes.
pub(super) fn digest(inputs: &Inputs) -> Digest {
    let mut hasher = Sha256::new();
    inputs.in_pieces().body.iter().for_each(|piece| hasher.update(piece));
    hasher.finalize().into()
}

fn refused(error: StoreError) -> PushError {
    match error {
        StoreError::Full => PushError::NoSpace,
        // The writer has said why, and the gateway is stopping.
        _ => PushError::Stopping,
    }
}
