//! This host as calls see it: a worker with all that its call asks for, which is a container and what is mounted into it.

use muster_wire::message::{CallKind, CallSpec, Mode};
use tokio::sync::watch;

use crate::call::Workers;
use crate::container::{ClaimError, Container, Containers, Limits, Wanted, say};
use crate::data::mount_name;
use crate::environments::Environments;
use crate::runner::Runner;
use crate::shares::Shares;

/// Where a container finds its packages, below its mounts.
const PACKAGES: &str = "packages";

/// A cheap handle to all that workers are made of.
#[derive(Debug, Clone)]
pub struct Host {
    /// Containers, warm and cold, and the data that calls share.
    pub containers: Containers,
    /// Packages for them.
    pub environments: Environments,
    /// Folders of this host that they may mount.
    pub shares: Shares,
}

impl Workers for Host {
    type Runner = Runner;
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
        let containers = &self.containers;
        // Before there is room: nobody's cores wait for an installer.
        let packages = match &spec.packages {
            Some(packages) => {
                let image = containers.image(&spec.image, mode, python, &waiting).await?;
                let found = self.environments.get(&image, packages, &waiting).await;
                found.map_err(ClaimError::Environment)?
            }
            None => None,
        };
        let mut data = Vec::with_capacity(spec.data.len());
        for blob in &spec.data {
            let how_far = |how_far| say(&waiting, how_far);
            let kept = containers.data().get(&spec.call, blob, how_far).await?;
            data.push((mount_name(&blob.id), kept));
        }
        let shares = match spec.shares.is_empty() {
            true => Vec::new(),
            false => self.shares.ready(&spec.shares, &waiting).await?,
        };
        let (image, runtime, shares) = (&spec.image, spec.runtime.as_deref(), &shares);
        let wanted = Wanted { image, mode, python, runtime, shares };
        let mut worker = containers.claim(&spec.call, wanted, limits, waiting).await?;
        if let Some(packages) = packages {
            worker.container.mount(PACKAGES, packages)?;
        }
        for (name, kept) in data {
            worker.container.mount(&name, kept)?;
        }
        let data = containers.data();
        worker.container.open(&spec.call, data.client(), data);
        Ok((worker.runner, worker.container))
    }
}
