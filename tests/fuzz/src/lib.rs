//! What strangers send, changed at random by `scripts/torture.sh fuzz`, and by `make test` as it is kept in `corpus/`.
//!
//! **Problem.** Everything that comes from a network or out of a container is hostile until it was read. Whatever it is, reading it
//! neither panics nor takes memory that the bytes do not pay for; and what was read is the same when it is written and read again.
//!
//! **Parts.** A target is a function of bytes in a file of its own, named in [`TARGETS`]; each has a folder in `corpus/` with inputs that take
//! different ways through the code. What a fuzzer finds is added there with the change that mends it. `targets/` has what cargo-fuzz wants.
//!
//! **Not here.** The Python side: hypothesis in `sdk/python/tests`. Pickles: no daemon reads them.

mod access;
mod calls;
mod codec;

pub use access::{event_cursor, token};
pub use calls::call_to_container;
pub use codec::{batches, wire};

/// What does something with any bytes, and panics where it should not.
pub type Target = fn(&[u8]);

/// Every target by the name of its folder in `corpus/`.
pub const TARGETS: &[(&str, Target)] = &[
    ("wire", wire),
    ("batches", batches),
    ("event_cursor", event_cursor),
    ("token", token),
    ("call_to_container", call_to_container),
];
