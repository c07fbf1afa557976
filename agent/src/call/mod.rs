//! One call on this host: its inputs, its batches, its workers (PROTOCOL.md section 5.2).
//!
//! The problem: keep every worker busy to the end, whatever its inputs take, without holding more inputs than are needed
//! soon; pass prints and outputs on as they come, in the right order; and let the death of a worker cost only the input
//! that it was running.
//!
//! ```text
//!            SPEC FUNCTION WORKERS INPUTS INPUTS_END                DEMAND WORKER_STATUS PRINT OUTPUTS
//!   gateway ─────────────────────────────────────────▶ owner ─┐        ┌──▶ writer ──────────────────▶ gateway
//!                                           reports ▲  │ orders        │
//!                                                   │  ▼ (one batch)   │
//!                                        driver, driver, driver ───────┘
//!                                           │  claims, then drives one worker
//!                                        runner + container
//!
//!   a worker:  starting ──claimed──▶ idle ──batch──▶ busy ──answered──▶ idle ...  ──stop──▶ gone
//!                                                      └── died: rest of the batch to the front of the queue ──▶ gone
//! ```
//!
//! Who owns what: the owner task ([`owner`]) owns the queue, the demand and the list of workers ([`slots`]); it does no I/O but
//! frames. Each [`driver`] owns one worker, and sends prints and outputs straight to the [`writer`], which joins small
//! frames and owns the response. [`queue`], [`batching`], [`demand`], [`stopwatch`], [`meter`] and [`verdict`] decide, purely.
//!
//! A batch is handed over only when the one before is answered; it is large enough (50 ms) that the hand-over does not
//! count, and small enough at the end that the last worker is not late. A slow reader fills the writer's inbox, then the
//! drivers wait and stop reading pipes and results, and at last the user's print waits. Nothing is dropped.
//!
//! When parts fail: a worker dies: its records so far count, the input it was running gets a failure, the rest is queued
//! again, and another worker is claimed. A worker dies without having run anything: nobody is charged, but the third such
//! death in a row charges the input at the front, so that no call hangs. No worker can be had: if that is final for this
//! host, WORKER_STATUS says so and the response ends; otherwise it is tried again, and WORKER_STATUS says why it waits. The
//! gateway resets: every worker gets SIGTERM and, 5 s later, SIGKILL. The agent stops: the same. The gateway goes away: the
//! call goes on for up to 120 s, and its exchange when the gateway is back ([`line`]).
//!
//! Not here: attempts, retries and fairness (the gateway's), containers ([`crate::container`]), what a runner says
//! ([`crate::runner`]).

mod batching;
mod demand;
mod driver;
mod intake;
pub mod line;
mod meter;
mod owner;
mod queue;
mod retained;
mod slots;
mod stopwatch;
mod verdict;
mod workers;
mod writer;

pub use owner::serve;
pub use workers::{Held, Runs, Workers};
