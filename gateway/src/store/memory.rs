use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bytes::{Bytes, BytesMut};

use super::{Store, StoreError};

/// Blobs in a map.
#[derive(Debug, Default)]
pub struct MemoryStore {
    blobs: Mutex<HashMap<u64, Bytes>>,
}

impl Store for MemoryStore {
    fn put(&self, id: u64, parts: &[Bytes]) -> Result<(), StoreError> {
        let mut whole = BytesMut::new();
        parts.iter().for_each(|part| whole.extend_from_slice(part));
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner).insert(id, whole.freeze());
        Ok(())
    }

    fn get(&self, id: u64) -> Result<Bytes, StoreError> {
        let blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        blobs.get(&id).cloned().ok_or(StoreError::Damaged(id))
    }

    fn set_aside(&self, _id: u64, _bytes: u64) {}

    fn remove(&self, id: u64) {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }
}
