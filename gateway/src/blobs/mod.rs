//! Blobs: large data that clients and hosts share, kept under the SHA-256 of what it holds.
//!
//! **Problem.** A table of gigabytes that every input reads, or an environment that one host has built, is sent once and read by many. It never
//! fits into memory, connections break in its middle, disks flip bits and fill up, and whoever knows a name must not read what somebody else put there.
//!
//! ```text
//!            PUT, byte by byte           all there, and the hash is right
//!   nothing ───────────────────▶ partial ────────────────────────────────▶ whole ──▶ expired, removed
//!      ▲                            │ the hash is wrong, or nobody goes on   │ ▲ used, pinned
//!      └────────────────────────────┘                                        └─┘
//! ```
//!
//! **Names.** A blob is found by its owner and its hash together ([`Key`]). Knowing a hash is no licence to read: who wants a blob sends it, and so
//! proves to have it; what two owners have put is stored twice. What hosts put themselves (built environments) belongs to [`HOSTS`], which every host of the
//! fleet reads and no user does.
//!
//! **Parts.** [`index`] decides, purely, what there is, what fits, and what goes. `parts` keeps bytes through `object_store`: a blob is a row of objects of at most
//! [`PART`] bytes, named by their offset, and an empty one that says it is whole, whose time is that of its last use. So an upload goes on
//! where it broke off, in any store that has objects, and nothing is copied at its end. `environments` knows which of the hosts' blobs has which environment. `upload` and `download` move bytes, a part at a time, and hash all of them; `hashers` has how far the hashes of uploads have come.
//!
//! **Who owns what.** [`Blobs`] owns the index, behind a lock that is never held across an await. One upload of a blob runs at a time. A [`Pin`] keeps blobs as long as a call lives.
//!
//! **Failures.** An upload that breaks off leaves what came; nobody goes on within a day: it is removed. A hash that is wrong at the end of an upload removes all of it; at the end of a
//! download it breaks that download off before its last part, and removes the blob, so that it can be put again. A full disk is told to whoever sends. After a restart the index is made from the objects' names.
//!
//! **Not here.** What is in a blob; HTTP; the spill of calls (`store`), which dies with its gateway.

mod download;
mod environments;
mod hashers;
pub mod index;
mod parts;
mod upload;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use muster_wire::message::BlobRef;
use tokio::time::Instant;

use self::environments::Environments;
use self::hashers::Hashers;
use self::index::Index;
use self::parts::Parts;
use crate::tasks::Tasks;

pub use self::download::Download;
pub use self::environments::EnvironmentKey;
pub use self::index::{BlobId, Key, Look};
pub use self::upload::Upload;

/// Whose blobs those are that hosts make for each other; no user is called so.
pub const HOSTS: &str = "";
/// Bytes of one object: what an upload or download holds in memory.
pub const PART: usize = 4 << 20;

/// How often what has expired is looked for, at least; twice while something short-lived is kept.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);
/// How long an upload that nobody goes on with is kept.
const KEEP_PARTIAL: Duration = Duration::from_secs(24 * 3600);
/// How old the stored time of the last use may be.
const NOTE_USE_EVERY: Duration = Duration::from_secs(3600);

/// The bounds of what is kept.
#[derive(Debug, Clone, Copy)]
pub struct BlobsConfig {
    /// Bytes of one blob.
    pub largest: u64,
    /// Bytes of all together.
    pub limit: u64,
    /// How long a blob is kept after its last use.
    pub keep: Duration,
}

/// Why a blob could not be put or had.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// There is none, or it is somebody else's.
    #[error("there is no blob {0}")]
    Unknown(BlobId),
    /// Another upload of it is going on.
    #[error("blob {0} is being uploaded by another request")]
    Busy(BlobId),
    /// The upload does not go on where it broke off.
    #[error("blob {id} has {have} bytes so far")]
    Offset {
        /// Which.
        id: BlobId,
        /// Where to go on.
        have: u64,
    },
    /// It is larger than one may be.
    #[error("a blob of {size} bytes is over the bound of {largest}")]
    TooLarge {
        /// What was to be put.
        size: u64,
        /// What may be.
        largest: u64,
    },
    /// All together would be too large.
    #[error("{size} more bytes do not fit beside {used} of {limit}")]
    Full {
        /// What was to be put.
        size: u64,
        /// What there is.
        used: u64,
        /// What there may be.
        limit: u64,
    },
    /// Its bytes are not those of its name.
    #[error("what came is not blob {0}")]
    Mismatch(BlobId),
    /// The disk is full.
    #[error("no space is left for blobs")]
    DiskFull,
    /// The store failed.
    #[error("the blobs' store failed")]
    Store(#[source] object_store::Error),
}

/// All blobs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Blobs {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    parts: Parts,
    index: Mutex<Index>,
    environments: Mutex<Environments>,
    hashers: Hashers,
    tasks: Tasks,
}

/// What a `PUT` begins with.
#[derive(Debug)]
pub enum Begun {
    /// It is whole already; so many bytes.
    Whole(u64),
    /// Bytes are wanted.
    Upload(Box<Upload>),
}

/// Keeps blobs from expiring as long as it lives.
#[derive(Debug)]
pub struct Pin {
    blobs: Blobs,
    keys: Vec<Key>,
}

impl Blobs {
    /// What is kept in a folder, and the task that removes what has expired.
    pub async fn open(
        folder: &Path,
        config: BlobsConfig,
        tasks: &Tasks,
    ) -> Result<Blobs, BlobError> {
        let parts = Parts::open(folder)?;
        let mut index = Index::new(config);
        let now = Instant::now();
        for found in parts.list().await? {
            index.found(
                found.key,
                found.parts,
                found.whole,
                now.checked_sub(found.age).unwrap_or(now),
            );
        }
        let every = EXPIRE_EVERY.min(config.keep / 2).max(Duration::from_millis(100));
        let blobs = Blobs {
            shared: Arc::new(Shared {
                parts,
                index: Mutex::new(index),
                environments: Mutex::default(),
                hashers: Hashers::default(),
                tasks: tasks.clone(),
            }),
        };
        tasks.spawn_critical("blobs", blobs.clone().expire(every));
        Ok(blobs)
    }

    /// What there is of a blob; looking at it counts as a use.
    pub fn look(&self, key: &Key) -> Look {
        self.used(key);
        self.lock().look(key)
    }

    /// Begins an upload of a blob of `total` bytes at `offset`, or goes on with one.
    pub async fn put(&self, key: Key, offset: u64, total: u64) -> Result<Begun, BlobError> {
        self.used(&key);
        let begun = self.lock().begin(&key, offset, total, Instant::now())?;
        let evicted = match begun {
            index::Begun::Whole(size) => return Ok(Begun::Whole(size)),
            index::Begun::Upload { evicted } => evicted,
        };
        // From here on the upload gives the blob's turn back however it ends.
        let upload = Upload::new(self.clone(), key, offset, total);
        self.remove_objects(evicted).await;
        Ok(Begun::Upload(Box::new(upload.resume().await?)))
    }

    /// The bytes of a whole blob from `offset` on.
    pub fn read(&self, key: &Key, offset: u64) -> Result<Download, BlobError> {
        let pin = self.pin(vec![key.clone()])?;
        let parts = self.lock().parts(key);
        Ok(Download::new(self.clone(), key.clone(), parts, offset, pin))
    }

    /// Keeps these blobs until the pin is dropped; an error if one of them is not whole.
    pub fn pin(&self, keys: Vec<Key>) -> Result<Pin, BlobError> {
        for key in &keys {
            self.used(key);
        }
        self.lock().pin(&keys)?;
        Ok(Pin { blobs: self.clone(), keys })
    }

    /// Keeps an owner's blobs for a call, and says how large they are.
    pub fn claim(&self, owner: &str, ids: Vec<BlobId>) -> Result<(Vec<BlobRef>, Pin), BlobError> {
        let key = |id| Key { owner: owner.to_owned(), id };
        let keys: Vec<Key> = ids.into_iter().map(key).collect();
        let pin = self.pin(keys)?;
        let index = self.lock();
        let size = |key: &Key| match index.look(key) {
            Look::Whole { size } => size,
            Look::Partial { .. } => 0,
        };
        let refs = pin.keys.iter().map(|key| BlobRef { id: key.id.to_string(), size: size(key) });
        let refs = refs.collect();
        drop(index);
        Ok((refs, pin))
    }

    /// The blob that hosts put an environment into, if it is there.
    pub fn environment(&self, key: &EnvironmentKey) -> Option<BlobRef> {
        let id = self.environments().find(key, |id| self.built(id).is_some())?;
        let size = self.built(&id)?;
        Some(BlobRef { id: id.to_string(), size })
    }

    /// Says which blob of the hosts' an environment is in.
    pub fn name_environment(&self, key: EnvironmentKey, blob: BlobId) {
        self.environments().name(key, blob, |id| self.built(id).is_some());
    }

    /// How large a blob of the hosts' is that is whole.
    fn built(&self, id: &BlobId) -> Option<u64> {
        match self.lock().look(&Key { owner: HOSTS.to_owned(), id: id.clone() }) {
            Look::Whole { size } => Some(size),
            Look::Partial { .. } => None,
        }
    }

    /// Taken before the index, never while that is held.
    fn environments(&self) -> MutexGuard<'_, Environments> {
        self.shared.environments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes a blob, or what there is of it; an error while somebody uses it.
    pub async fn remove(&self, key: &Key) -> Result<(), BlobError> {
        self.lock().remove(key)?;
        self.remove_objects(vec![key.clone()]).await;
        Ok(())
    }

    /// How many there are, and how many bytes they have together.
    pub fn totals(&self) -> (usize, u64) {
        let index = self.lock();
        (index.len(), index.used_bytes())
    }

    async fn remove_objects(&self, keys: Vec<Key>) {
        for key in keys {
            if let Err(error) = self.shared.parts.remove(&key).await {
                let error = crate::chain(&error);
                tracing::warn!(blob = key.id.as_str(), error, "blob could not be removed");
            }
            self.shared.hashers.take(&key, 0);
            self.lock().forget(&key);
        }
        self.count();
    }

    /// Notes a use, in the store too now and then.
    fn used(&self, key: &Key) {
        if !self.lock().touch(key, Instant::now()) {
            return;
        }
        let (blobs, key) = (self.clone(), key.clone());
        self.shared.tasks.spawn(async move {
            if let Err(error) = blobs.shared.parts.mark_whole(&key).await {
                let error = crate::chain(&error);
                tracing::warn!(blob = key.id.as_str(), error, "the use of a blob was not noted");
            }
        });
    }

    async fn expire(self, every: Duration) {
        loop {
            tokio::select! {
                biased;
                () = self.shared.tasks.stopping() => return,
                () = tokio::time::sleep(every) => {}
            }
            let expired = self.lock().expired(Instant::now());
            for key in &expired {
                tracing::info!(blob = key.id.as_str(), owner = key.owner, "blob expired");
            }
            self.remove_objects(expired).await;
        }
    }

    fn count(&self) {
        let (blobs, bytes) = self.totals();
        metrics::gauge!("muster_blobs").set(blobs as f64);
        metrics::gauge!("muster_blobs_bytes").set(bytes as f64);
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        self.shared.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.blobs.lock().unpin(&self.keys, Instant::now());
    }
}

#[cfg(test)]
mod tests;
