//! Layout of the page an agent shares with a runner (PROTOCOL.md section 6.3): byte offsets of little-endian `u64`s.

/// Bytes of the whole page.
pub const SIZE: usize = 1 << 20;
/// Agent: odd while a read and its count are being made.
pub const READ_SEQ: usize = 0;
/// Agent: bytes read from the stdout pipe.
pub const OUT_READ: usize = 8;
/// Agent: bytes read from the stderr pipe.
pub const ERR_READ: usize = 16;
/// Runner: odd while the next four words are being written.
pub const STATE_SEQ: usize = 64;
/// Runner: the input being run.
pub const INDEX: usize = 72;
/// Runner: bytes in the stdout pipe when it began.
pub const OUT_START: usize = 80;
/// Runner: bytes in the stderr pipe when it began.
pub const ERR_START: usize = 88;
/// Runner: 1 while an input runs.
pub const RUNNING: usize = 96;
/// Runner: rises whenever pending is emptied.
pub const PENDING_EPOCH: usize = 104;
/// Runner: bytes of pending.
pub const PENDING_LEN: usize = 112;
/// Runner: where pending begins.
pub const PENDING: usize = 4096;
