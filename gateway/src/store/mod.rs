//! Where bytes go that should not stay in memory.
//!
//! [`durable`] keeps background calls over a restart. The rest is for foreground calls: sealed segments of event logs, and inputs that wait.
//!
//! A *blob* is written once, read any number of times, and removed. The call that made it is its only writer. [`DirStore`] keeps blobs as
//! files; [`MemoryStore`] keeps them in a map, for tests. Both pass the same contract suite. Blobs do not survive a restart of the gateway: the directory is emptied at start.
//!
//! Writing and reading block on the disk, so they run on the blocking pool. [`Spill`] bounds what is stored: past its limit, or where the disk is full,
//! a writer keeps what it has and tries again. It also has a little memory that all calls share, for bytes that will soon be taken: writing and reading
//! them back costs more than all else that the gateway does with them.

mod dir;
mod drop_behind;
pub mod durable;
mod memory;
mod spill;

pub use dir::DirStore;
pub use memory::MemoryStore;
pub use spill::{Blob, FULL_PAUSE, Spare, Spill};

use std::path::PathBuf;

use bytes::Bytes;

/// Why something could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk is full, or the budget for it is used up.
    #[error("no space left in the state folder")]
    Full,
    /// What was written is gone, or is something else now.
    #[error("blob, chunk or event {0} is missing or damaged")]
    Damaged(u64),
    /// Another gateway has opened the store since.
    #[error("another gateway has taken over the store")]
    Fenced,
    /// It was made by another version of this program.
    #[error(
        "{} was written by another version of muster-gateway (its store has version {version}): read its calls with \
         that version, and start this one with another --state-dir, or move that folder away",
        folder.display()
    )]
    OtherVersion {
        /// Its store's.
        version: i64,
        /// Where.
        folder: PathBuf,
    },
    /// The store takes nothing any more.
    #[error("the store is closed")]
    Closed,
    /// The database.
    #[error("the database failed")]
    Database(#[source] sqlx::Error),
    /// Anything else.
    #[error("the state folder failed")]
    Io(#[source] std::io::Error),
}

impl StoreError {
    /// Whether what was asked for cannot be had, now or later, and nothing else is the matter.
    pub fn is_loss(&self) -> bool {
        matches!(self, StoreError::Damaged(_) | StoreError::Io(_))
    }

    /// Whether this means that a disk is full.
    fn is_full(error: &std::io::Error) -> bool {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(error.kind(), StorageFull | QuotaExceeded)
    }

    fn of_io(error: std::io::Error) -> StoreError {
        match StoreError::is_full(&error) {
            true => StoreError::Full,
            false => StoreError::Io(error),
        }
    }
}

/// Keeps blobs by number. Calls may block.
pub trait Store: Send + Sync + 'static {
    /// Writes a blob: the concatenation of `parts`.
    fn put(&self, id: u64, parts: &[Bytes]) -> Result<(), StoreError>;
    /// Reads a blob back, whole, and checks that it is what was written.
    fn get(&self, id: u64) -> Result<Bytes, StoreError>;
    /// A blob of so many bytes will hardly be read again: memory that it takes beside where it is kept may be given back. Returns at once.
    fn set_aside(&self, id: u64, bytes: u64);
    /// Removes a blob; one that is not there is no error.
    fn remove(&self, id: u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contract(store: &dyn Store) {
        let parts = [Bytes::from_static(b"one "), Bytes::from_static(b"two")];
        store.put(7, &parts).expect("there is room");
        assert_eq!(&store.get(7).expect("just written")[..], b"one two");
        store.set_aside(7, 7);
        assert_eq!(&store.get(7).expect("still there")[..], b"one two");
        store.remove(7);
        store.set_aside(7, 7);
        assert!(matches!(store.get(7), Err(StoreError::Damaged(7))));
        store.remove(7);
        store.put(8, &[]).expect("an empty blob is a blob");
        assert!(store.get(8).expect("just written").is_empty());
    }

    #[test]
    fn both_stores_keep_the_contract() {
        let folder = tempfile::tempdir().expect("temp dir");
        contract(&DirStore::open(folder.path().join("spill")).expect("opens"));
        contract(&MemoryStore::default());
    }

    #[test]
    fn a_flipped_bit_on_disk_is_found() {
        let folder = tempfile::tempdir().expect("temp dir");
        let path = folder.path().join("spill");
        let store = DirStore::open(path.clone()).expect("opens");
        store.put(1, &[Bytes::from_static(b"precious")]).expect("there is room");
        let file =
            std::fs::read_dir(&path).expect("dir").next().expect("one").expect("entry").path();
        let mut bytes = std::fs::read(&file).expect("readable");
        bytes[3] ^= 1;
        std::fs::write(&file, bytes).expect("writable");
        assert!(matches!(store.get(1), Err(StoreError::Damaged(1))));
    }
}
