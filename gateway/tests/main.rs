//! The gateway from outside, in one binary: what they share is compiled and linked once. `http_floods` has a process of its own, whose memory it measures.

#![allow(clippy::disallowed_methods, reason = "tests end with their runtime")]

mod support;

mod claims_doc;
mod disks;
mod errors_doc;
mod http_access;
mod http_blobs;
mod http_calls;
mod http_front;
mod http_inputs;
mod http_join;
mod http_limits;
mod http_nested;
mod http_run;
mod http_secrets;
mod http_tls;
mod restart;
