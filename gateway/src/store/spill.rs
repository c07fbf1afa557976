use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::{Store, StoreError};

/// Blobs that are read back at the same time. Each is in memory meanwhile, however many readers there are.
const READS: usize = 16;
/// How long after a disk was found full it is taken to be so, and not tried again.
pub const FULL_PAUSE: Duration = Duration::from_millis(500);

/// Hands out blobs of a store, up to a number of bytes in all. Cheap to clone.
#[derive(Clone)]
pub struct Spill {
    inner: Arc<Inner>,
}

struct Inner {
    store: Box<dyn Store>,
    limit: u64,
    used: AtomicU64,
    next: AtomicU64,
    freed: Notify,
    reads: Arc<Semaphore>,
    /// The disk was found full: until when nobody tries it.
    full_until: Mutex<Option<Instant>>,
    /// Bytes of memory that all calls share, and how many of them are left.
    spare: Arc<AtomicUsize>,
}

/// Memory of those that all calls share; dropping it gives it back.
#[derive(Debug)]
pub struct Spare {
    bytes: usize,
    left: Arc<AtomicUsize>,
}

/// A stored blob; dropping the last clone removes it.
#[derive(Clone)]
pub struct Blob {
    inner: Arc<BlobInner>,
}

struct BlobInner {
    id: u64,
    bytes: u64,
    spill: Arc<Inner>,
}

impl Spill {
    /// Blobs in `store`, at most `limit` bytes of them.
    pub fn new(store: impl Store, limit: u64) -> Spill {
        Spill::with_spare(store, limit, 0)
    }

    /// The same, with `spare` bytes of memory for those who ask before they spill.
    pub fn with_spare(store: impl Store, limit: u64, spare: usize) -> Spill {
        let inner = Inner {
            store: Box::new(store),
            limit,
            used: AtomicU64::new(0),
            next: AtomicU64::new(0),
            freed: Notify::new(),
            reads: Arc::new(Semaphore::new(READS)),
            full_until: Mutex::default(),
            spare: Arc::new(AtomicUsize::new(spare)),
        };
        Spill { inner: Arc::new(inner) }
    }

    /// So many bytes of the memory that all calls share, if they are left.
    pub fn spare(&self, bytes: usize) -> Option<Spare> {
        let left = self.inner.spare.clone();
        let taken =
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| now.checked_sub(bytes));
        taken.ok().map(|_| Spare { bytes, left })
    }

    /// Bytes stored now.
    pub fn used(&self) -> u64 {
        self.inner.used.load(Ordering::Relaxed)
    }

    /// Whether another writer would have to wait.
    pub fn is_full(&self) -> bool {
        self.used() >= self.inner.limit
    }

    /// Waits until there is room again.
    pub async fn room(&self) {
        loop {
            let freed = self.inner.freed.notified();
            if !self.is_full() {
                return;
            }
            freed.await;
        }
    }

    /// Stores `parts` as one blob, on the blocking pool. Does not wait for room: where the limit is reached or the disk is full, callers keep what they have and try again
    /// after [`FULL_PAUSE`], or when there is [`room`](Spill::room). Until then nobody's try reaches a full disk.
    pub async fn put(&self, parts: Vec<Bytes>) -> Result<Blob, StoreError> {
        if self.is_full() || self.is_resting() {
            return Err(StoreError::Full);
        }
        let stored = self.store(parts).await;
        let full = matches!(stored, Err(StoreError::Full)).then(|| Instant::now() + FULL_PAUSE);
        let mut until = self.inner.full_until.lock().unwrap_or_else(PoisonError::into_inner);
        match (std::mem::replace(&mut *until, full).is_some(), full.is_some()) {
            (false, true) => tracing::warn!("no space to spill to; calls that have to spill wait"),
            (true, false) => tracing::info!("there is space to spill to again"),
            _ => {}
        }
        stored
    }

    /// Whether the disk was found full a moment ago.
    fn is_resting(&self) -> bool {
        let until = self.inner.full_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    async fn store(&self, parts: Vec<Bytes>) -> Result<Blob, StoreError> {
        let inner = self.inner.clone();
        let written = tokio::task::spawn_blocking(move || {
            let id = inner.next.fetch_add(1, Ordering::Relaxed);
            let bytes = parts.iter().map(|part| part.len() as u64).sum();
            inner.store.put(id, &parts)?;
            inner.used.fetch_add(bytes, Ordering::Relaxed);
            Ok(Blob { inner: Arc::new(BlobInner { id, bytes, spill: inner }) })
        });
        written.await.unwrap_or_else(|error| Err(StoreError::Io(std::io::Error::other(error))))
    }
}

impl Blob {
    /// Reads it back, on the blocking pool.
    pub async fn get(&self) -> Result<Bytes, StoreError> {
        self.read(Ok).await
    }

    /// It will hardly be read again: the machine's memory is for other things.
    pub fn set_aside(&self) {
        self.inner.spill.store.set_aside(self.inner.id, self.inner.bytes);
    }

    /// What `look` takes of it, which is called on the blocking pool too: for those that keep less than the whole.
    pub async fn read<R: Send + 'static>(
        &self,
        look: impl FnOnce(Bytes) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, StoreError> {
        let inner = self.inner.clone();
        let turn =
            inner.spill.reads.clone().acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let read = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            inner.spill.store.get(inner.id).and_then(look)
        });
        read.await.unwrap_or_else(|error| Err(StoreError::Io(std::io::Error::other(error))))
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        self.left.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

impl Drop for BlobInner {
    fn drop(&mut self) {
        self.spill.store.remove(self.id);
        self.spill.used.fetch_sub(self.bytes, Ordering::Relaxed);
        self.spill.freed.notify_waiters();
    }
}

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Blob({}, {} bytes)", self.inner.id, self.inner.bytes)
    }
}

impl std::fmt::Debug for Spill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Spill({} of {} bytes)", self.used(), self.inner.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    #[tokio::test]
    async fn past_the_limit_nothing_is_stored() {
        let spill = Spill::new(MemoryStore::default(), 4);
        let put = async |bytes: &'static [u8]| spill.put(vec![Bytes::from_static(bytes)]).await;
        let blob = put(b"12345").await.expect("there was room when it came");
        assert!(matches!(put(b"6").await, Err(StoreError::Full)));
        drop(blob);
        put(b"6").await.expect("there is room again, and nobody has to wait for it");
    }

    #[tokio::test]
    async fn dropping_a_blob_gives_its_room_to_a_writer_that_waits() {
        let spill = Spill::new(MemoryStore::default(), 4);
        let blob = spill.put(vec![Bytes::from_static(b"1234")]).await.expect("room");
        assert!(spill.is_full());
        let waiting = tokio::spawn({
            let spill = spill.clone();
            async move { spill.room().await }
        });
        assert_eq!(&blob.get().await.expect("there")[..], b"1234");
        drop(blob);
        waiting.await.expect("woken");
        assert_eq!(spill.used(), 0);
    }
}
