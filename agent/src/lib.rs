//! The Muster agent: the daemon on every host. It dials the gateway, is called back over that connection, and runs each
//! call in Docker containers that belong to that call alone.
//!
//! Read in this order: [`settings`] (what an operator may choose), [`link`] (how the gateway reaches us), [`call`] (one
//! call's inputs, batches and workers), [`host`] (what a worker is made of), [`container`] (where workers come from and go
//! to), [`environments`] (packages for them), [`data`] (what calls share), [`shares`] (folders of the host that they may mount), [`nested`] (what functions ask of us), [`runner`] (the program inside a container, seen from
//! outside), [`capacity`] (pure: who gets which cores and how much memory), [`engine`] (the only file
//! that knows Docker's client), [`tasks`] (how tasks start and stop), [`serve`] (how the parts are put together, and the
//! order in which they stop), [`doctor`] (what is weak about a host).

pub mod settings;

pub mod serve;

pub mod link;

pub mod call;

pub mod host;

pub mod container;

pub mod environments;

pub mod runner;

pub mod data;
pub mod shares;

pub mod nested;

pub mod capacity;

pub mod engine;

pub mod doctor;

pub mod status;

pub mod tasks;

pub use muster_wire::chain;
