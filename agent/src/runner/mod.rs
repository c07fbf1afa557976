//! A runner, seen from outside: the program inside a container that runs inputs (PROTOCOL.md section 6).
//!
//! The problem: what comes out of a container is hostile, prints have to be attributed byte by byte to the input that wrote
//! them, and a worker that dies in the middle of a batch must cost only the input that it was running.
//!
//! ```text
//!             START (4 descriptors)                 SPEC FUNCTION INPUTS ... INPUTS
//!   control ──────────────────────▶ pid 1   channel ──────────────────────────────▶ runner
//!           ◀────────────── HELLO EXIT              ◀───────────────── HELLO RESULTS
//!                                            pipes  ◀───────────────── stdout, stderr
//!                                            page   ◀────── what runs now ──────────▶  how far we have read
//!
//!   started ──HELLO──▶ warm ──give──▶ busy ──last record──▶ idle ──give──▶ busy ...      (any) ──EXIT──▶ ended
//! ```
//!
//! Who owns what: a [`Runner`] is owned by one task (the pool's while warm, then the driver of one worker of a call). That
//! task alone reads the pipes and writes the count of what it read. [`attribution`] and [`answers`] decide, purely: to whom
//! bytes belong, and which records are new. [`page`] is the one file with unsafe code.
//!
//! How prints are attributed: bytes are read first, and then the page is looked at. If the page says that input `i` runs, and
//! the records of all inputs before `i` are known, then all that was read and not yet attributed was written before `i`
//! ended: it is `i`'s, and goes out at once. Otherwise it waits for records, which say where each input's bytes end. Bytes
//! written between two inputs (by a thread left behind) go to the later one; bytes after the last one are dropped.
//!
//! When parts fail: the runner dies: what it had sent, and what lies in pending, counts; the input that the page names is
//! the one it was running. Pid 1 dies (out of memory, engine): the same, without an exit code. The runner breaks the
//! protocol: [`RunnerError`], and the worker is destroyed; nobody else notices. The agent dies: every end closes, pid 1 ends.
//!
//! Not here: batches and retries ([`crate::call`]), containers and their limits ([`crate::container`]).

mod answers;
mod attribution;
mod channel;
mod control;
mod exchange;
mod page;
mod pipes;
mod start;

pub use attribution::Printed;
pub use exchange::{News, Step};
pub use page::Running;

use muster_wire::WireError;
use muster_wire::message::Exit;

use answers::Answers;
use attribution::Attribution;
use channel::Channel;
use control::Control;
use page::Page;
use pipes::Pipes;

/// A started runner.
#[derive(Debug)]
pub struct Runner {
    control: Control,
    channel: Channel,
    pipes: Pipes,
    page: Page,
    python: Option<String>,
    attribution: Attribution,
    answers: Answers,
    looks: exchange::Looks,
}

/// Why a runner cannot be used, or used any longer.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    /// The system refused something.
    #[error("{doing} failed")]
    Io {
        /// What we were doing.
        doing: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It did not answer in time.
    #[error("the container did not send {what} in time")]
    Late {
        /// The message that is missing.
        what: &'static str,
    },
    /// Pid 1 could not start it, for example `no python3 in the image`.
    #[error("the runner could not be started: {why}")]
    NotStarted {
        /// What pid 1 said.
        why: String,
    },
    /// It ended before it was ready.
    #[error("the runner ended before it was ready")]
    Ended(Exit),
    /// It sent something that is not the protocol.
    #[error("the runner broke the protocol")]
    Wire(#[from] WireError),
    /// It said something that cannot be true.
    #[error("the runner broke the protocol: {why}")]
    Hostile {
        /// What cannot be true.
        why: &'static str,
    },
}

impl RunnerError {
    fn io(doing: &'static str) -> impl FnOnce(std::io::Error) -> RunnerError {
        move |source| RunnerError::Io { doing, source }
    }
}

#[cfg(test)]
mod tests;
