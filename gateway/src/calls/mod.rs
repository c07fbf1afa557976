//! Calls: what they are, who owns what, and how one runs.
//!
//! **Problem.** A call has from none to many millions of inputs, which arrive while it runs, from a client that may be slow, fast, or gone.
//! Workers on several hosts take them in batches and may die at any moment; readers, any number of them, want the events in order from any point. Memory must not grow with the number of inputs or the length of the output.
//!
//! **Parts.**
//! - [`machine`]: which input is where: received, leased to a host at an attempt, done, to be tried again. Pure.
//! - [`queue`]: the bytes of the inputs, by chunk, in memory or spilled, until each is done.
//! - [`log`]: the events of the call, numbered by `seq`, in memory or spilled, for readers (`reader`). `appetite`: how much of what is read back a reader takes at once.
//! - `owner`: the one task that owns the machine and the queue of a call and writes its log. Everything else holds a [`CallHandle`].
//! - `hosts`: what one host was promised and sent, and what it said that was taken. `away`: how long a host is waited for whose connection broke.
//! - `registry`: [`Calls`], all calls by id; admission; until when calls are kept, and their records after that.
//! - `damage`: what is said in place of what the disk has changed.
//! - `kept`, `saver`, `restore`: what a background call has in the store, how its events get there, and how it goes on from there after a restart.
//!
//! **States of a call.** `queued` (no worker yet) → `running` → `succeeded` | `failed` | `cancelled`. The owner task ends with the call; its log and last record stay readable until it *expires*, and its record for longer.
//!
//! **Path of an input.** push → queue (bytes) and machine (index) → leased to a host as far as that host's DEMAND goes → OUTPUTS from the host → the machine decides commit, again, or late → log → readers.
//!
//! **Background calls** are durable ([`crate::store::durable`]). Creating one is answered after its commit. Inputs are committed before the owner hears of them, and answered then; a batch that comes again is known by its indexes and hash. A cancel is answered once the end is committed (`cancel`). Events are committed in batches, one at a time for each call, each with
//! all that came since the last, and readers see them after that: what a reader saw is never lost. After a restart a call goes on without its inputs being read: the machine comes back from chunks and from which inputs are done; the queue reads a chunk when its turn comes; the log reads old events from the store. Inputs that were running
//! run again, at an attempt above every one that events told of, unless their host is back and holds them (`away`); strikes are forgotten. The values of its [`secrets`](crate::secrets) are not kept with it: they are read whenever a host begins to work on it, and one that was deleted fails it then. A call whose inputs are not closed waits for its client to go on under the same key, for a time.
//!
//! **Failures.** A link that breaks leaves its leases for some seconds, in which its host may come back with them (`away`); then, or when an exchange ends before its inputs, they are given back (attempt + 1, counted as ours). An output for an input that this link does not hold at this attempt is late and dropped. A client that is gone: a foreground call without any reader for its
//! grace period is cancelled. What the disk has changed is found when it is read (`damage`): an input is failed without being run, an output is a failure in the stream, and all others go on. Where the disk is full that the store or the spill needs, the call takes no inputs or no outputs until there is room, and says so. Any other error of the store ends the call with `internal`: nothing is invented.
//!
//! **Not here.** HTTP, containers, and where workers go (`fleet`). Foreground calls do not survive a restart of the gateway: their clients hold the inputs, and submit again what has no output.

mod appetite;
mod away;
mod cancel;
mod damage;
mod family;
mod handle;
mod hosts;
mod kept;
pub mod log;
pub mod machine;
mod owner;
pub mod queue;
mod reader;
mod receipt;
mod registry;
mod restore;
mod saver;
mod wait;

pub use cancel::CancelError;
pub use handle::CallHandle;
pub use log::LogConfig;
pub use reader::{Entry, EventReader};
pub use registry::{AdmitError, Calls, CallsConfig, Created, PastCall};

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use muster_wire::message::{CallError, CallKind, CallSpec};
use serde::{Deserialize, Serialize};

use crate::blobs::Pin;

/// What to do when an input fails for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// Go on with the others.
    #[default]
    Continue,
    /// End the call as failed.
    Stop,
}

/// What a call asks of the gateway; the rest of it is the [`CallSpec`] that hosts get.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CallOptions {
    /// Workers at once, over all hosts.
    pub max_parallelism: Option<u32>,
    /// Further attempts of an input that raised, died or timed out.
    pub retries: u32,
    /// What to do when an input fails for good.
    pub on_error: OnError,
    /// The call does not depend on its client.
    pub background: bool,
    /// For people.
    pub name: Option<String>,
    /// All shares that whoever made it may use, where that is limited; so its functions' calls may use no others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_limit: Option<Vec<String>>,
}

/// A call to be created.
#[derive(Debug, Clone)]
pub struct NewCall {
    /// What hosts get; `call` is filled in, and `image` where it is empty.
    pub spec: CallSpec,
    /// What the gateway does with it.
    pub options: CallOptions,
    /// Idempotency key of the client.
    pub key: Option<String>,
    /// Whose call it is.
    pub owner: String,
    /// The function's bytes; empty for commands.
    pub function: Bytes,
    /// Keeps its shared data until it ends.
    pub pin: Option<Arc<Pin>>,
    /// The call whose function makes it.
    pub parent: Option<CallHandle>,
}

/// Where a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CallState {
    /// No worker yet.
    Queued,
    /// Has had a worker.
    Running,
    /// Every input has an output.
    Succeeded,
    /// Stopped at a failure, or could not run.
    Failed,
    /// Stopped on request.
    Cancelled,
}

impl CallState {
    /// Whether nothing more will happen.
    pub fn is_end(self) -> bool {
        !matches!(self, CallState::Queued | CallState::Running)
    }
}

/// The record of a call (PROTOCOL.md section 4.4).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are PROTOCOL.md's, explained there")]
pub struct CallRecord {
    pub id: String,
    pub name: Option<String>,
    pub kind: CallKind,
    pub state: CallState,
    pub image: String,
    pub cpu: f64,
    pub ram: f64,
    pub background: bool,
    pub created: String,
    pub ended: Option<String>,
    pub done: u64,
    pub failed: u64,
    pub total: Option<u64>,
    pub inputs: u64,
    pub workers: u32,
    pub hosts: u32,
    pub waiting: Option<String>,
    pub seq: u64,
    pub exit_code: Option<i32>,
    pub error: Option<EndError>,
    /// Whether this is all that is left of it.
    pub expired: bool,
}

/// Why a call ended as failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EndError {
    /// The call itself could not go on.
    Call(CallError),
    /// An input failed for good and the call stops at the first.
    Input {
        /// Always `input_failed`.
        code: Cow<'static, str>,
        /// Which input.
        index: u64,
    },
}

/// Why inputs were not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// They do not follow the ones that are there.
    #[error("the next input of this call is {expected}")]
    Gap {
        /// Index of the next input.
        expected: u64,
    },
    /// The inputs were closed.
    #[error("the inputs of this call are closed")]
    Closed,
    /// The call has ended.
    #[error("the call has ended")]
    Ended,
    /// Others came under these indexes before.
    #[error("input {first} and those after it came before, and were others")]
    Differs {
        /// Index of the first.
        first: u64,
    },
    /// A background call skips none.
    #[error("inputs of a background call cannot be skipped")]
    Background,
    /// They cannot be kept.
    #[error("no space left to keep inputs")]
    NoSpace,
    /// The gateway is stopping.
    #[error("the gateway is stopping")]
    Stopping,
}
