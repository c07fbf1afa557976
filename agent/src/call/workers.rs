//! Where workers come from and what runs inputs in them, as far as a call cares: this host's containers with their runners,
//! or the simulated ones of `tests/fleet`.

use std::future::Future;
use std::ops::Range;
use std::time::Duration;

use muster_wire::batch::Inputs;
use muster_wire::frame::Frame;
use muster_wire::message::{CallSpec, Exit};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::container::{ClaimError, Container, MemoryReport, Used};
use crate::runner::{Runner, RunnerError, Running, Step};

/// Gives workers to calls.
pub trait Workers: Clone + Send + Sync + 'static {
    /// What runs its inputs.
    type Runner: Runs;
    /// What it runs in.
    type Held: Held<Self::Runner>;

    /// Claims a worker for this call. While it waits, says why in `waiting`. Dropping the future gives everything back.
    fn claim(
        &self,
        spec: &CallSpec,
        waiting: watch::Sender<Option<String>>,
    ) -> impl Future<Output = Result<(Self::Runner, Self::Held), ClaimError>> + Send;
}

/// What runs inputs; [`Runner`] says what each method promises.
pub trait Runs: Send + 'static {
    /// Hands over a batch, after `before`. The last batch must be answered.
    fn give(&mut self, before: &[Frame], batch: &Inputs);

    /// Whether records of the batch are still to come.
    fn is_busy(&self) -> bool;

    /// First input of the batch that is not answered.
    fn unanswered(&self) -> Option<u64>;

    /// What it says it runs.
    fn running(&self) -> Option<Running>;

    /// Waits for the next thing to happen, until `until` at most. Safe to cancel.
    fn step(&mut self, until: Instant) -> impl Future<Output = Result<Step, RunnerError>> + Send;

    /// Ends when it has ended. Safe to cancel, and to ask again.
    fn exited(&mut self) -> impl Future<Output = Exit> + Send;

    /// Sends it a signal.
    fn signal(&self, signal: i32) -> impl Future<Output = ()> + Send;

    /// Tells it that no batch will come any more.
    fn close(&mut self);
}

/// What a worker runs in; dropping it kills the worker.
pub trait Held<R>: Send + 'static {
    /// What it did with its memory so far.
    fn memory(&self) -> MemoryReport;

    /// What it has used so far.
    fn used(&self) -> Used;

    /// Time of cores that it has used so far.
    fn cpu(&self) -> Duration {
        self.used().cpu
    }

    /// These are the inputs that it has and has not answered.
    fn runs(&self, _inputs: Range<u64>) {}

    /// Whether it failed under what ran in it.
    fn is_lost(&mut self) -> impl Future<Output = bool> + Send {
        std::future::ready(false)
    }

    /// Ends it: SIGTERM, and SIGKILL after `grace`. Returns at once.
    fn stop(self, runner: R, grace: Duration);
}

impl Runs for Runner {
    fn give(&mut self, before: &[Frame], batch: &Inputs) {
        Runner::give(self, before, batch);
    }

    fn is_busy(&self) -> bool {
        Runner::is_busy(self)
    }

    fn unanswered(&self) -> Option<u64> {
        Runner::unanswered(self)
    }

    fn running(&self) -> Option<Running> {
        Runner::running(self)
    }

    async fn step(&mut self, until: Instant) -> Result<Step, RunnerError> {
        Runner::step(self, until).await
    }

    async fn exited(&mut self) -> Exit {
        Runner::exited(self).await
    }

    async fn signal(&self, signal: i32) {
        Runner::signal(self, signal).await;
    }

    fn close(&mut self) {
        Runner::close(self);
    }
}

impl Held<Runner> for Container {
    fn memory(&self) -> MemoryReport {
        Container::memory(self)
    }

    fn used(&self) -> Used {
        self.cgroup().used()
    }

    fn cpu(&self) -> Duration {
        self.cgroup().cpu()
    }

    fn runs(&self, inputs: Range<u64>) {
        Container::runs(self, inputs);
    }

    async fn is_lost(&mut self) -> bool {
        Container::is_lost(self).await
    }

    fn stop(self, runner: Runner, grace: Duration) {
        Container::stop(self, runner, grace);
    }
}
