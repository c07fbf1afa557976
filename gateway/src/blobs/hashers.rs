//! How far the hash of an upload had come when its last request ended. A client sends a large blob in many requests: without
//! this each would read and hash all that is there again, so that the whole would cost the square of its size.
//!
//! Only a cache: after a restart, what is there is read once.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::Sha256;

use super::Key;

/// Of uploads that are not whole.
#[derive(Debug, Default)]
pub struct Hashers {
    of: Mutex<BTreeMap<Key, (u64, Sha256)>>,
}

impl Hashers {
    /// Notes the hash of the first `bytes` of a blob.
    pub fn keep(&self, key: &Key, bytes: u64, hasher: Sha256) {
        self.lock().insert(key.clone(), (bytes, hasher));
    }

    /// Gives back the hash of the first `bytes`, if it is of just these.
    pub fn take(&self, key: &Key, bytes: u64) -> Option<Sha256> {
        let (of, hasher) = self.lock().remove(key)?;
        (of == bytes).then_some(hasher)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, (u64, Sha256)>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
