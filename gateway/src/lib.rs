//! The Muster gateway: HTTP front door, calls, placement, and the links to hosts.
//!
//! Read in this order: [`calls`] (what a call is and how it runs), [`fleet`] (where workers go), [`link`] (the way to a host), [`store`] (what does not stay in memory), [`blobs`] (large data that clients and hosts share), [`http`] (the front door), [`auth`] (who may do what), [`tls`] (who is at the other end), [`secrets`] (what functions need and nobody else may see), [`shares`] (which hosts have the folders that a call names), [`audit`] (who did what).

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests end with their runtime"))]

pub mod address;
pub mod audit;
pub mod auth;
pub mod blobs;
pub mod calls;
pub mod commands;
pub mod files;
pub mod fleet;
pub mod http;
pub mod images;
pub mod link;
pub mod secrets;
pub mod service_files;
pub mod settings;
pub mod shares;
pub mod store;
pub mod tasks;
pub mod tls;

/// Seconds since 1970.
pub fn unix_s() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs())
}

pub use muster_wire::chain;
