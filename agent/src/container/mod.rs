//! Containers: where workers come from, what they are allowed, and how they go away.
//!
//! The problem: a call should begin in milliseconds, but a container takes a tenth of a second to start; it should have exactly
//! the cores and memory it asked for; nothing in it may reach us, the host or other containers; and whatever dies, nothing may
//! be left behind.
//!
//! ```text
//!                       ┌───────────── claim ─────────────┐
//!   image known? ──▶ room (queue) ──▶ warm worker or start ──▶ limits into its cgroup ──▶ Worker
//!                                           ▲                                              │ stop, drop
//!         refill as [`policy`] says ────────┘        kill ◀── SIGTERM, grace ◀─────────────┘
//!                                                     └▶ dead: room back ──▶ removed ──▶ name, uid, folder free
//! ```
//!
//! Who owns what: [`rooms`] the host's cores and memory, [`pool`] the warm workers and the claims that wait for them,
//! [`names`] which workers are alive, [`mounts`] what of the host a worker sees beside its image. [`policy`] decides, purely, how many warm workers there are. [`profile`] says, purely,
//! what a container looks like. A [`Worker`] is its call's alone, and is never used again. Warm workers hold no room: they import the runner and wait.
//!
//! When parts fail: a container does not start: its claim gets the error, what was made is removed. A claim is dropped: its
//! place or room goes to the next; its start becomes a warm worker. The engine does not answer: claims fail with its error;
//! running workers go on, because nothing of theirs goes through the engine. The engine or a shim dies, and containers of it: [`holders`] tells that
//! from containers that died by themselves, and their inputs run again. The agent is killed: pid 1 of each container sees
//! its connection close and ends; the next agent's [`reaper`] removes what is left. The engine forgets the network or
//! the firewall its rules: both are made again on a timer.
//!
//! Not here: what runs in a container ([`crate::runner`]), how many workers a call has ([`crate::call`]).

pub mod cgroup;
mod error;
mod holders;
mod images;
mod memory;
mod mounts;
mod names;
mod network;
mod open_files;
mod policy;
mod pool;
mod process;
pub mod profile;
mod quiet;
mod reaper;
mod rooms;
mod runtimes;
mod seccomp;
mod slice;
mod socket;
mod start;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use muster_wire::message::Mode;
use tokio::sync::{Semaphore, watch};

pub use cgroup::{MemoryReport, Used};
pub use error::{BuilderError, ClaimError, OpenError};
pub use mounts::{MountFolder, Source};
pub use network::rules_on_this_host;
pub use profile::{BUILD_AT, Builder, MOUNTS_AT};
pub use rooms::{RoomGuard, Rooms, say};
pub use worker::{Container, Worker};

use crate::capacity::{Capacity, Want};
use crate::data::Data;
use crate::engine::Engine;
use crate::environments::PackageNetwork;
use crate::settings::{Network, Settings, cpu_list};
use crate::shares::{ShareMount, Shares, Taken};
use crate::status::Board;
use crate::tasks::Tasks;

use holders::Presence;
use images::Images;
use mounts::Mounts;
use names::Names;
use network::Wall;
use pool::{Kind, Pool};
use profile::Profile;
use quiet::Quiet;
use runtimes::Runtimes;
use start::Made;

/// The pool is looked at this often even when nothing happens, for its age and the host's memory.
const REFILL: Duration = Duration::from_secs(1);
/// Removals at once: more would only keep the engine from starting.
const REMOVALS: usize = 2;
/// What a container for the agent's own commands may use: cores in thousandths, bytes.
const BUILDER_CPU: u64 = 2000;
const BUILDER_RAM: u64 = 2 << 30;
/// How long the removals of a stop may take together.
const STOP: Duration = Duration::from_secs(60);

/// What one worker of a call gets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Cores; fractions are allowed.
    pub cpu: f64,
    /// Memory without swap, in bytes.
    pub ram_bytes: u64,
}

/// What kind of worker a call needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// Its image, by name.
    pub image: &'a str,
    /// Which runner.
    pub mode: Mode,
    /// The minor version of Python that its pickles need.
    pub python: Option<&'a str>,
    /// How its container is started, where not as by default.
    pub runtime: Option<&'a str>,
    /// Shares of the call.
    pub shares: &'a [ShareMount],
}

/// What everything in this directory needs.
#[derive(Debug)]
pub struct Site {
    engine: Engine,
    tasks: Tasks,
    names: Names,
    mounts: Mounts,
    profile: Profile,
    quiet: Quiet,
    starts: Semaphore,
    removals: Semaphore,
    state_dir: PathBuf,
    host_name: String,
    network: Network,
    /// Whether builders may have made the network.
    builder_network: bool,
    wall: Wall,
    runtimes: Runtimes,
    presence: Presence,
    cores: String,
    systemd_cgroups: bool,
}

/// A cheap handle to this host's containers.
#[derive(Debug, Clone)]
pub struct Containers {
    site: Arc<Site>,
    rooms: Rooms,
    pool: Pool,
    images: Images,
    data: Data,
}

impl Containers {
    /// Prepares the host: removes what an earlier agent left, makes the network, lists the images. Nothing is warm yet.
    pub async fn open(
        settings: &Settings,
        board: &Board,
        tasks: &Tasks,
        data: Data,
        shares: &Shares,
    ) -> Result<Containers, OpenError> {
        std::fs::create_dir_all(settings.state_dir.join(socket::FOLDERS))
            .map_err(|source| OpenError::StateDir { path: settings.state_dir.clone(), source })?;
        let engine = Engine::connect(settings.docker_host.as_deref()).await?;
        let facts = engine.facts().await?;
        let runtimes = Runtimes::new(settings, &facts)?;
        board.runtimes(runtimes.names());
        if let Some(share) = shares.reaching(&Taken::folder(&facts.folder)) {
            return Err(OpenError::Share { share: share.name.clone(), folder: facts.folder });
        }
        let site = Arc::new(Site {
            tasks: tasks.clone(),
            names: Names::new(&settings.host_name),
            mounts: Mounts::open(&settings.state_dir).map_err(OpenError::Mounts)?,
            profile: Profile::new(
                settings,
                &facts,
                open_files::allowed(settings.docker_host.as_deref()),
            ),
            quiet: Quiet::default(),
            starts: Semaphore::new(settings.cpus.len() * policy::STARTS_PER_CORE),
            removals: Semaphore::new(REMOVALS),
            state_dir: settings.state_dir.clone(),
            host_name: settings.host_name.clone(),
            network: settings.network,
            builder_network: settings.packages.network == PackageNetwork::Internet,
            wall: Wall::new(runtimes.default()),
            runtimes,
            presence: Presence::default(),
            cores: cpu_list(&settings.cpus),
            systemd_cgroups: facts.systemd_cgroups,
            engine: engine.clone(),
        });
        reaper::sweep(&site).await?;
        if let Some(slice) = site.profile.own_slice() {
            slice::renew(slice).await;
        }
        if site.network == Network::Internet {
            site.wall.keep(&engine).await?;
        }
        let images = Images::new(engine, settings.pull, board.clone());
        images.refresh().await?;
        let capacity = Capacity::new(settings.cpus.iter().copied(), settings.ram_bytes);
        Ok(Containers {
            rooms: Rooms::new(capacity, board.clone()),
            pool: Pool::new(site.clone(), board.clone(), settings.warm, settings.warm_age),
            images,
            data,
            site,
        })
    }

    /// The shared data that workers may be given.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// Starts what runs beside the claims: the refilling of the pool, the list of images, the reaper, the checks of network and engine.
    pub fn run(&self) {
        let tasks = &self.site.tasks;
        tasks.spawn_critical("refill", self.pool.clone().refill(self.images.clone()));
        tasks.spawn_critical("upkeep", self.clone().upkeep());
        let (site, stop) = (self.site.clone(), tasks.token());
        tasks.spawn_critical("presence", async move {
            site.presence.watch(&site.engine, &stop).await;
        });
    }

    /// Takes room on this host (waits until there is), then a warm worker of this kind or a new one, always a new one with
    /// shares, and writes the limits into its cgroup. While it waits, says why in `waiting`. Dropping the future gives everything back.
    pub async fn claim(
        &self,
        call: &str,
        wanted: Wanted<'_>,
        limits: Limits,
        waiting: watch::Sender<Option<String>>,
    ) -> Result<Worker, ClaimError> {
        let Wanted { image, mode, python, runtime, shares } = wanted;
        let runtime = self.site.runtimes.of_call(runtime)?;
        let want = Want::new(limits.cpu, limits.ram_bytes);
        if let Some(total) = self.rooms.too_little_for(&want) {
            return Err(ClaimError::TooLarge {
                cores: total.cpu as f64 / 1000.0,
                ram_bytes: total.ram,
            });
        }
        let found = self.images.resolve(image, mode, python, &waiting).await?;
        let room = self.rooms.take(want, &waiting).await;
        if !self.site.wall.stands() {
            return Err(ClaimError::NetworkUnsafe);
        }
        let claiming = self.site.quiet.claim();
        let kind = Kind { image: found.id, mode, runtime };
        let answer = match shares {
            [] => self.pool.claim(&kind, &waiting).await,
            // No mount is added to a container that was started without it.
            shares => self.pool.claim_with(kind, shares.to_vec(), &waiting).await,
        };
        let answer = answer.ok_or(ClaimError::Stopping)?;
        let mut worker = answer.map_err(|error| ClaimError::from_start(image, error))?;
        if let (Some(wants), Some(has), Mode::Python) = (python, worker.runner.python(), mode)
            && wants != has
        {
            return Err(self.images.wrong_python(image, has, wants));
        }
        let cores = match room.room().cores.as_slice() {
            [] => self.site.cores.clone(),
            own => cpu_list(own),
        };
        worker.container.cgroup().limit(want.cpu, &cores, want.ram).map_err(ClaimError::Limits)?;
        worker.container.hold(room);
        drop(claiming);
        if self.site.systemd_cgroups {
            self.tell_engine(worker.container.name(), want, cores);
        }
        waiting.send_if_modified(|why| why.take().is_some());
        tracing::debug!(call, worker = worker.container.name(), "worker claimed");
        Ok(worker)
    }

    /// The content id of the image a call means, pulled if it may be.
    pub async fn image(
        &self,
        name: &str,
        mode: Mode,
        python: Option<&str>,
        waiting: &watch::Sender<Option<String>>,
    ) -> Result<String, ClaimError> {
        self.images.resolve(name, mode, python, waiting).await.map(|image| image.id)
    }

    /// A new container of this image (its content id) for a command of the agent's own, outside the room of calls. Dropping it
    /// removes it.
    pub async fn builder(
        &self,
        image: &str,
        builder: Option<Builder<'_>>,
    ) -> Result<Worker, BuilderError> {
        if builder.is_some_and(|builder| builder.network == PackageNetwork::Internet) {
            self.site.wall.keep(&self.site.engine).await.map_err(BuilderError::Network)?;
        }
        let mode = Mode::Command;
        let made = Made { image, mode, runtime: None, builder, shares: &[] };
        let started = start::start(&self.site, made).await;
        let worker = started.map_err(BuilderError::Start)?;
        let cgroup = worker.container.cgroup();
        cgroup.limit(BUILDER_CPU, &self.site.cores, BUILDER_RAM).map_err(BuilderError::Limits)?;
        if let Some(builder) = builder {
            let uid = Some(worker.container.uid());
            std::os::unix::fs::chown(builder.folder, uid, uid).map_err(BuilderError::Folder)?;
        }
        Ok(worker)
    }

    /// Stops everything of ours, and removes it. Claims have ended before.
    pub async fn close(&self) {
        let tasks = &self.site.tasks;
        tasks.stop();
        self.pool.close();
        if let crate::tasks::Ended::Late(left) = tasks.ended(STOP).await {
            tracing::error!(left, "tasks still run; the reaper takes their containers");
        }
        if let Err(error) = reaper::sweep(&self.site).await {
            tracing::error!(error = &error as &dyn std::error::Error, "leftovers not removed");
        }
        if self.site.network == Network::Internet || self.site.builder_network {
            network::remove_if_unused(&self.site.engine).await;
        }
        if let Some(own) = self.site.profile.own_cgroup() {
            cgroup::remove_empty(own, Duration::ZERO);
        }
        if let Some(slice) = self.site.profile.own_slice() {
            slice::remove(slice).await;
        }
        if let Err(error) = self.site.mounts.close() {
            tracing::error!(error = &error as &dyn std::error::Error, "mounts not removed");
        }
        // Only succeeds when it is empty, which is when nobody needs it.
        let _ = std::fs::remove_dir(self.site.state_dir.join(socket::FOLDERS));
    }

    /// systemd writes a scope's limits again when it reloads; so it must know ours.
    fn tell_engine(&self, name: &str, want: Want, cores: String) {
        let (site, name) = (self.site.clone(), name.to_string());
        self.site.tasks.spawn(async move {
            if let Err(error) = site.engine.update_limits(&name, want.cpu, &cores, want.ram).await {
                tracing::debug!(worker = name, error = %error, "engine does not know the limits");
            }
        });
    }

    async fn upkeep(self) {
        let stop = self.site.tasks.token();
        let mut reaped = tokio::time::Instant::now();
        let mut looked = reaped;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(images::REFRESH) => {}
            }
            let work = async {
                if let Err(error) = self.images.refresh().await {
                    tracing::warn!(error = &error as &dyn std::error::Error, "images not listed");
                }
                if self.site.network == Network::Internet && looked.elapsed() >= network::EVERY {
                    looked = tokio::time::Instant::now();
                    if let Err(error) = self.site.wall.keep(&self.site.engine).await {
                        let error = &error as &dyn std::error::Error;
                        tracing::error!(error, "network not safe: nothing starts until it is");
                    }
                }
                if reaped.elapsed() < reaper::EVERY {
                    return;
                }
                reaped = tokio::time::Instant::now();
                if let Err(error) = reaper::sweep(&self.site).await {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "leftovers not removed"
                    );
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = work => {}
            }
        }
    }
}
