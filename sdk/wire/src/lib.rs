//! The Muster protocol: frames, messages and codecs, without I/O.
//!
//! `PROTOCOL.md` beside this crate is the truth; this crate, and `muster._wire` in Python, implement it and run the same
//! vectors. Three layers: [`frame`] cuts a byte stream into frames, [`batch`], [`print`] and [`results`] read and write the
//! binary bodies, [`message`] holds the JSON ones. [`pieces`] keeps large bodies as they came. [`page`] is the layout of the memory shared with a runner. [`share`] says where shared folders may be seen.
//!
//! Nothing here trusts its input: lengths are checked before memory is taken, and a body that does not add up is an error.

pub mod batch;
pub mod frame;
pub mod message;
pub mod page;
pub mod pieces;
pub mod print;
pub mod receipt;
pub mod results;
pub mod share;

/// The largest single input or output, in bytes.
pub const MAX_ITEM: usize = 256 << 20;
/// The largest frame body a receiver takes, in bytes.
pub const MAX_FRAME: usize = 272 << 20;
/// Media type of a body made of frames.
pub const FRAMES_TYPE: &str = "application/vnd.muster.frames";
/// The `Upgrade` token of an agent's connection.
pub const AGENT_PROTOCOL: &str = "muster-agent/1";

/// A body or frame that is not as PROTOCOL.md says.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum WireError {
    /// A frame announces more bytes than the receiver takes.
    #[error("a frame of {len} bytes is over the limit of {limit}")]
    TooLong {
        /// Announced length of the body.
        len: usize,
        /// What the receiver takes.
        limit: usize,
    },
    /// A frame of a kind this version must know but does not.
    #[error("unknown frame kind {0}")]
    UnknownKind(u8),
    /// The body of a frame does not add up.
    #[error("malformed {what}: {why}")]
    Malformed {
        /// The message's name in PROTOCOL.md.
        what: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A JSON body could not be read.
    #[error("malformed {what}: {why}")]
    Json {
        /// The message's name in PROTOCOL.md.
        what: &'static str,
        /// What the JSON reader said.
        why: String,
    },
}

/// An error and its sources in one line, as messages between the parts and logs tell it.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

pub(crate) fn malformed(what: &'static str, why: &'static str) -> WireError {
    WireError::Malformed { what, why }
}
