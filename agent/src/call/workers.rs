//! Where workers come from, as far as a call cares: this host's containers, or a fake in tests.

use std::future::Future;
use std::time::Duration;

use muster_wire::message::{CallKind, CallSpec, Mode};
use tokio::sync::watch;

use crate::container::{ClaimError, Container, Containers, Limits, MemoryReport};
use crate::runner::Runner;

/// Gives workers to calls.
pub trait Workers: Clone + Send + Sync + 'static {
    /// What a worker runs in.
    type Held: Held;

    /// Claims a worker for this call. While it waits, says why in `waiting`. Dropping the future gives everything back.
    fn claim(
        &self,
        spec: &CallSpec,
        waiting: watch::Sender<Option<String>>,
    ) -> impl Future<Output = Result<(Runner, Self::Held), ClaimError>> + Send;
}

/// What a worker runs in; dropping it kills the worker.
pub trait Held: Send + 'static {
    /// What it did with its memory so far.
    fn memory(&self) -> MemoryReport;

    /// Ends it: SIGTERM, and SIGKILL after `grace`. Returns at once.
    fn stop(self, runner: Runner, grace: Duration);
}

impl Workers for Containers {
    type Held = Container;

    async fn claim(
        &self,
        spec: &CallSpec,
        waiting: watch::Sender<Option<String>>,
    ) -> Result<(Runner, Container), ClaimError> {
        let mode = match spec.kind {
            CallKind::Pickle | CallKind::Source => Mode::Python,
            CallKind::Command => Mode::Command,
        };
        let limits = Limits { cpu: spec.cpu, ram_bytes: spec.ram_bytes };
        let python = spec.python.as_deref();
        let worker =
            Containers::claim(self, &spec.call, &spec.image, mode, python, limits, waiting).await?;
        Ok((worker.runner, worker.container))
    }
}

impl Held for Container {
    fn memory(&self) -> MemoryReport {
        Container::memory(self)
    }

    fn stop(self, runner: Runner, grace: Duration) {
        Container::stop(self, runner, grace);
    }
}
