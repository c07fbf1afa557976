//! Many simulated hosts in one process, against the real gateway, over real connections.
//!
//! The problem: what a gateway costs with a thousand hosts and a hundred thousand slots cannot be seen on one machine with
//! real containers. So the container engine is replaced, and nothing else: each host dials, turns the roles, tells its
//! status, and serves calls with the agent's own code (link, queue, batches, demand, writer, rooms).
//!
//! ```text
//!   load (client) ──HTTP──▶ gateway (its own process) ──h2──▶ host: agent's link, calls, rooms ──▶ worker (simulated)
//!         ▲                     CPU, memory from /proc                                               │ begins, ends
//!         └──────────────── outputs, checked ◀───────────────────────────────                        ▼
//!                                                                                                  tally
//! ```
//!
//! What is simulated: a [`worker`] waits as long as its inputs would take and gives back what it was given. How long that is
//! each call says itself, in the place of its function ([`plan`]), so that long and short calls can run side by side. An
//! input that takes no time costs the host nearly nothing: it is the gateway that is measured, and the hosts' and the
//! client's CPU is reported apart.
//!
//! Who owns what: a [`host`] owns its link and its rooms; the [`tally`] is told when workers of a call begin, and keeps
//! first, last and how many; [`load`] makes calls and checks that every index came once, with the right bytes; [`gateway`]
//! owns the gateway's process. [`scenario`] puts these together, one for each question.

pub mod gateway;
pub mod host;
pub mod load;
pub mod plan;
pub mod scenario;
pub mod tally;
pub mod worker;
