//! What survives a restart: background calls, their inputs, and what became of them.
//!
//! **Problem.** A background call is durable when its request is answered, and what a reader saw of it is never lost, whatever dies: the client, this process, the power. That must not cost an fsync per input, and nothing at all for foreground calls.
//!
//! **Shape.** All writing is one operation, [`CallStore::commit`]: a list of [`Change`]s becomes durable wholly or not at all. Who writes hands changes to the [`Journal`]; its one writer task takes whatever waits and commits it together, so that many callers share an fsync. Reading
//! goes to the store directly. Rows are per chunk of inputs and per batch of events, never per input. So small is the trait that PostgreSQL and S3 fit behind it.
//!
//! - [`SqliteStore`]: rows in SQLite (WAL, `synchronous=FULL`, read back at start), payloads over [`ROW_BYTES`] as files beside it ([`PayloadFiles`]), each synced with its folder before the row that names it commits.
//! - [`MemoryCallStore`]: maps, for tests. Both pass the same contract suite.
//!
//! **Who writes what.** The registry creates, expires and deletes calls; the request that gives inputs writes their chunk *before* the call's owner hears of it; the owner writes events and the end. So of one call nothing is written by two at once.
//!
//! **Failures.**
//! - No space: that change is refused ([`StoreError::Full`]) and nothing of it is kept; what waited with it is tried by itself. The caller answers 507, or tries again.
//! - Any other error of a commit, an fsync's above all: nobody knows what is on the disk. The writer ends, and with it, as a critical task, the process. Tried again it might seem to succeed.
//! - A crash between a payload's file and its row leaves a file that no row names; opening removes it.
//! - Another gateway on the same store: the folder's lock keeps it out, and each opening raises the store's *epoch*, which every commit checks, so a former owner's commits fail.
//! - A flipped bit: every payload carries a checksum; one that does not match is [`StoreError::Damaged`], never delivered. Of events the rows beside the payload still say which inputs ended with them ([`Batch::Damaged`]), and a call whose function is damaged is told by [`StoredCall::damaged`]: neither keeps anything else from being read.
//!
//! **Not here.** What events and inputs are: payloads are bytes.

mod journal;
mod memory;
mod payload_files;
mod sqlite;

#[cfg(test)]
mod contract_tests;

pub use journal::{Journal, Written, written};
pub use memory::MemoryCallStore;
pub use payload_files::PayloadFiles;
pub use sqlite::SqliteStore;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;

use super::StoreError;

/// Payloads up to this size lie in their row.
pub const ROW_BYTES: usize = 1 << 20;

/// What a store answers, in a while.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// Keeps calls. See the module.
pub trait CallStore: Send + Sync + 'static {
    /// Makes these changes, in order, all or none; they are durable when this answers. Those of a call that is not there change nothing: it may have been removed while its owner still wrote.
    fn commit<'a>(&'a self, changes: &'a [Change]) -> Answer<'a, ()>;
    /// All calls in the order they were created, without payloads, and how old the store is, in seconds.
    fn load(&self) -> Answer<'_, (Vec<StoredCall>, u64)>;
    /// The function of a call.
    fn function<'a>(&'a self, call: &'a str) -> Answer<'a, Bytes>;
    /// The chunk of a call's inputs that begins with input `first`.
    fn chunk<'a>(&'a self, call: &'a str, first: u64) -> Answer<'a, Bytes>;
    /// Batches of events that hold those after `seq`, in order: at least the next one, if there is one, and not many more bytes than `bytes`.
    fn events<'a>(&'a self, call: &'a str, seq: u64, bytes: usize) -> Answer<'a, Vec<Batch>>;
    /// The record of a call that has [expired](Change::Expire).
    fn record<'a>(&'a self, call: &'a str) -> Answer<'a, Option<StoredRecord>>;
    /// The newest of these records, of one owner or of all.
    fn records<'a>(&'a self, owner: Option<&'a str>, at_most: u32)
    -> Answer<'a, Vec<StoredRecord>>;
}

/// One change of what is kept.
#[derive(Debug, Clone)]
pub enum Change {
    /// A new call.
    Create(CreatedCall),
    /// Inputs that follow the last ones.
    Chunk(Chunk),
    /// There will be no more inputs than these.
    Close {
        /// Which call.
        call: String,
        /// How many there are.
        total: u64,
    },
    /// More events.
    Events(Events),
    /// A host works for a call, or has given back so much.
    Exchange(StoredExchange),
    /// A host works for a call no more.
    ExchangeEnd {
        /// Which call.
        call: String,
        /// Which of its exchanges.
        exchange: u64,
    },
    /// The call has ended: its inputs go, its events stay.
    End {
        /// Which call.
        call: String,
        /// Its last record, as JSON.
        record: Bytes,
        /// How old the store was, in seconds.
        age_s: u64,
    },
    /// All of a call goes.
    Delete {
        /// Which call.
        call: String,
    },
    /// A call's payloads go and its record stays; of a call that the store did not have, it comes.
    Expire(StoredRecord),
    /// Records go: those of calls that ended before the store was so old, in seconds, and the oldest past so many.
    Forget {
        /// The age.
        ended_before_s: u64,
        /// How many stay.
        at_most: u32,
    },
    /// The store is so old, in seconds: the sum of the times that gateways ran on it.
    Age(u64),
}

/// A call as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of `NewCall`")]
pub struct CreatedCall {
    pub call: String,
    pub owner: String,
    pub key: Option<String>,
    /// Its `CallSpec`, as JSON.
    pub spec: Bytes,
    /// Its `CallOptions`, as JSON.
    pub options: Bytes,
    /// When, as RFC 3339.
    pub created: String,
    pub function: Payload,
}

/// Some inputs of a call: the body of an INPUTS frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Which call.
    pub call: String,
    /// The first input.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// What tells this chunk from another with the same indexes.
    pub digest: Digest,
    /// The inputs.
    pub payload: Payload,
}

/// A hash of a chunk.
pub type Digest = [u8; 32];

/// Some events of a call: frames, one after another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Events {
    /// Which call.
    pub call: String,
    /// Number of the first event.
    pub first_seq: u64,
    /// Number of the last event.
    pub last_seq: u64,
    /// The inputs that ended with them.
    pub done: Vec<Done>,
    /// The highest attempt that they tell of.
    pub attempt: u32,
    /// The frames.
    pub payload: Payload,
}

/// Some events of a call, as they were read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Batch {
    /// The frames, as they were kept.
    Whole(Bytes),
    /// The frames are not what was kept, or cannot be read; this is known of them.
    Damaged(LostEvents),
}

/// What is known of events that cannot be read back.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of `Events`")]
pub struct LostEvents {
    pub first_seq: u64,
    pub last_seq: u64,
    pub done: Vec<Done>,
    pub attempt: u32,
}

/// What became of one exchange of a call with a host, so that the host can go on with it under the next gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredExchange {
    /// Which call.
    pub call: String,
    /// Names the exchange.
    pub exchange: u64,
    /// The host's name.
    pub host: String,
    /// So many bytes of what it sent are in the events.
    pub taken: u64,
}

/// What is left of a call once its payloads are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Which call.
    pub call: String,
    /// Whose it is.
    pub owner: String,
    /// How old the store was when it ended, in seconds.
    pub ended_s: u64,
    /// Its last record, as JSON.
    pub record: Bytes,
}

/// Inputs `first .. first + count` have ended, `failed` of them with an exception or a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "said above")]
pub struct Done {
    pub first: u64,
    pub count: u32,
    pub failed: u32,
}

/// A call as it was left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCall {
    /// As it was created; the function only where it has not ended.
    pub created: CreatedCall,
    /// Its function cannot be read back, and it has not ended.
    pub damaged: bool,
    /// How many inputs there are, once that is known.
    pub total: Option<u64>,
    /// The chunks of its inputs, in order: none once it has ended.
    pub chunks: Vec<StoredChunk>,
    /// Which inputs have ended; empty once it has.
    pub done: Vec<Done>,
    /// The hosts that worked for it; empty once it has ended.
    pub exchanges: Vec<StoredExchange>,
    /// The last event.
    pub last_seq: u64,
    /// The highest attempt that events tell of.
    pub attempt: u32,
    /// Its last record and how old the store was then, once it has ended.
    pub end: Option<(Bytes, u64)>,
    /// Bytes of its payloads.
    pub bytes: u64,
}

/// A chunk whose inputs were not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of `Chunk`")]
pub struct StoredChunk {
    pub first: u64,
    pub count: u64,
    pub digest: Digest,
}

/// Bytes in the pieces they came in, and their checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    pieces: Vec<Bytes>,
    len: usize,
    crc: u32,
}

impl Payload {
    /// These pieces, one after another.
    pub fn new(pieces: Vec<Bytes>) -> Payload {
        let mut hasher = crc32fast::Hasher::new();
        pieces.iter().for_each(|piece| hasher.update(piece));
        let len = pieces.iter().map(Bytes::len).sum();
        Payload { pieces, len, crc: hasher.finalize() }
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All in one buffer.
    pub fn joined(&self) -> Bytes {
        match &self.pieces[..] {
            [one] => one.clone(),
            many => {
                let mut all = BytesMut::with_capacity(self.len);
                many.iter().for_each(|piece| all.extend_from_slice(piece));
                all.freeze()
            }
        }
    }
}

impl Done {
    /// So many bytes each takes when it is kept.
    const BYTES: usize = 16;

    fn write_all(list: &[Done]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(list.len() * Done::BYTES);
        for done in list {
            bytes.extend_from_slice(&done.first.to_le_bytes());
            bytes.extend_from_slice(&done.count.to_le_bytes());
            bytes.extend_from_slice(&done.failed.to_le_bytes());
        }
        bytes
    }

    fn read_all(bytes: &[u8]) -> impl Iterator<Item = Done> + '_ {
        bytes.chunks_exact(Done::BYTES).map(|part| {
            let (first, rest) = part.split_at(8);
            let (count, failed) = rest.split_at(4);
            let small = |part: &[u8]| u32::from_le_bytes(part.try_into().expect("four bytes"));
            Done {
                first: u64::from_le_bytes(first.try_into().expect("eight bytes")),
                count: small(count),
                failed: small(failed),
            }
        })
    }
}

/// The payload that was kept with this checksum.
fn checked(bytes: Bytes, crc: u32, what: u64) -> Result<Bytes, StoreError> {
    match crc32fast::hash(&bytes) == crc {
        true => Ok(bytes),
        false => Err(StoreError::Damaged(what)),
    }
}
