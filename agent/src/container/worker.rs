//! A container with a runner in it, warm or claimed, and how it goes away: signal, kill, room back, removal. Room goes
//! back as soon as pid 1 is dead, because then every process and byte of the container is; the engine's removal follows
//! in the background.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};

use super::Site;
use super::cgroup::{MemoryReport, WorkerCgroup};
use super::error::ClaimError;
use super::holders::Shim;
use super::mounts::{MountFolder, Source};
use super::names::Name;
use super::network::Address;
use super::process::Process;
use super::rooms::RoomGuard;
use super::socket::SocketFolder;
use crate::data::Data;
use crate::link::Client;
use crate::nested::Nested;
use crate::runner::Runner;

/// SIGKILL works at once, unless the kernel is stuck in a disk or a driver.
const DEATH: Duration = Duration::from_secs(10);
/// Removing waits for quiet, but not long: what a call leaves is gone within 10 s.
const REMOVAL_WAITS: Duration = Duration::from_secs(2);

/// A container of one call, ready to work.
#[derive(Debug)]
pub struct Worker {
    /// The program in it.
    pub runner: Runner,
    /// What it runs in.
    pub container: Container,
}

/// A running container. Dropping it kills and removes it.
#[derive(Debug)]
pub struct Container {
    parts: Option<Parts>,
}

/// What there is to undo, from the moment a name was taken.
#[derive(Debug)]
pub struct Remains {
    /// Where the removal is done.
    pub site: Arc<Site>,
    /// Removed with the container.
    pub folder: SocketFolder,
    /// Unmounted when the container is gone.
    pub mounts: Arc<Mutex<MountFolder>>,
    /// Its place on the bridge, where the agent has plugged it in.
    pub address: Option<Address>,
    /// Freed last.
    pub name: Name,
}

#[derive(Debug)]
struct Parts {
    process: Process,
    shim: Shim,
    cgroup: Arc<WorkerCgroup>,
    room: Option<Arc<RoomGuard>>,
    /// What serves the function's own requests, and what ends that.
    nested: Option<(Arc<Nested>, DropGuard)>,
    full_name: String,
    remains: Remains,
}

impl Container {
    /// A started container, not yet claimed.
    pub fn new(process: Process, cgroup: WorkerCgroup, remains: Remains) -> Container {
        let full_name = remains.name.full();
        let (cgroup, nested) = (Arc::new(cgroup), None);
        let shim = Shim::of(process.pid(), &remains.site.tasks);
        let parts = Parts { process, shim, cgroup, room: None, nested, full_name, remains };
        Container { parts: Some(parts) }
    }

    /// The container's name, as the engine knows it.
    pub fn name(&self) -> &str {
        &self.parts().full_name
    }

    /// The user it runs as.
    pub fn uid(&self) -> u32 {
        self.parts().remains.name.uid()
    }

    /// What it did with its memory so far.
    pub fn memory(&self) -> MemoryReport {
        self.parts().cgroup.memory()
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        self.parts().process.is_alive()
    }

    /// Whether what keeps containers alive is gone, so that this one may have died of that.
    pub async fn is_lost(&self) -> bool {
        let parts = self.parts();
        let site = &parts.remains.site;
        parts.shim.died_first() || site.presence.is_gone(&site.engine).await
    }

    /// Its cgroup.
    pub fn cgroup(&self) -> &WorkerCgroup {
        &self.parts().cgroup
    }

    /// From now on it holds this room.
    pub fn hold(&mut self, room: RoomGuard) {
        if let Some(parts) = &mut self.parts {
            parts.room = Some(Arc::new(room));
        }
    }

    /// Lets its programs see a folder or file of the host, read-only, at `/.muster/mnt/NAME`, until the worker is removed. `name`
    /// is one of ours, a single path component.
    pub fn mount(&mut self, name: &str, source: Source) -> Result<(), ClaimError> {
        let Some(parts) = &mut self.parts else { return Ok(()) };
        let mounted =
            parts.remains.mounts.lock().unwrap_or_else(PoisonError::into_inner).mount(name, source);
        mounted.map_err(|source| ClaimError::Mount { what: name.into(), source })
    }

    /// From now on its function may ask for data, and make calls of its own.
    pub fn open(&mut self, call: &str, client: &Client, data: &Data) {
        let Some(parts) = &mut self.parts else { return };
        let (Some(listener), Some(room)) = (parts.remains.folder.take_calls(), &parts.room) else {
            return;
        };
        let (mounts, room) = (Arc::downgrade(&parts.remains.mounts), Arc::downgrade(room));
        let (worker, tasks) = (CancellationToken::new(), &parts.remains.site.tasks);
        let nested = Nested::new(call, client.clone(), data.clone(), mounts, room, tasks.clone());
        let nested = Arc::new(nested);
        tasks.spawn(nested.clone().serve(listener, worker.clone()));
        parts.nested = Some((nested, worker.drop_guard()));
    }

    /// These are the inputs that it has and has not answered.
    pub fn runs(&self, inputs: Range<u64>) {
        if let Some((nested, _)) = &self.parts().nested {
            nested.runs(inputs);
        }
    }

    /// SIGTERM to the runner's processes, after `grace` SIGKILL (at once when it is zero), then the room goes back and the container is
    /// removed. Returns at once.
    pub fn stop(mut self, mut runner: Runner, grace: Duration) {
        let Some(parts) = self.parts.take() else { return };
        let tasks = parts.remains.site.tasks.clone();
        tasks.spawn(async move {
            if !grace.is_zero() {
                let gentle = async {
                    runner.signal(nix::sys::signal::Signal::SIGTERM as i32).await;
                    runner.exited().await;
                };
                // Late or not, what follows is the same.
                let _ = tokio::time::timeout(grace, gentle).await;
            }
            parts.end().await;
        });
    }

    fn parts(&self) -> &Parts {
        self.parts.as_ref().expect("only stopping and dropping take the parts out")
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Some(parts) = self.parts.take() {
            let tasks = parts.remains.site.tasks.clone();
            tasks.spawn(parts.end());
        }
    }
}

impl Parts {
    async fn end(self) {
        self.process.kill();
        drop(self.nested);
        if tokio::time::timeout(DEATH, self.process.exited()).await.is_err() {
            tracing::error!(worker = self.full_name, "killed container does not die");
        }
        drop(self.room);
        self.remains.remove().await;
    }
}

impl Remains {
    /// Removes the container, if there is one, and then folder and name. What the engine refuses, the reaper tries again.
    pub async fn remove(self) {
        let site = self.site.clone();
        site.quiet.wait(REMOVAL_WAITS).await;
        // Closed never; without a permit the removal would only be less orderly.
        let _permit = site.removals.acquire().await;
        if let Err(error) = site.engine.remove(&self.name.full()).await {
            tracing::warn!(worker = self.name.full(), error = %error, "container not removed yet");
        }
        if let Some(address) = &self.address {
            site.wall.unplug(address).await;
        }
    }
}
