//! How a warm worker comes to be: name, folder, container, connection, runner. Each step has a deadline, and whatever
//! fails, what was made before is removed.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use muster_wire::message::Mode;

use super::Site;
use super::cgroup::{CgroupError, WorkerCgroup};
use super::network::{Address, NetworkError};
use super::process::Process;
use super::profile::{Builder, Plan};
use super::socket::{self, SocketFolder};
use super::worker::{Container, Remains, Worker};
use crate::engine::EngineError;
use crate::runner::{Runner, RunnerError};
use crate::shares::ShareMount;

/// From started to connected: pid 1 is a small static program.
const CONNECT: Duration = Duration::from_secs(30);
/// How often one is begun anew with another address: the bridge got another range meanwhile, or another agent was faster.
const ADDRESSES: usize = 3;

/// Why there is no new worker.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// What keeps containers from this host is not there.
    #[error("the firewall rules that keep containers from this host could not be made")]
    NetworkUnsafe,
    /// More workers than uids.
    #[error("this agent has no uid left for another container")]
    NoUid,
    /// The folder or its socket could not be made.
    #[error("the socket of a new container could not be made")]
    Socket(#[source] std::io::Error),
    /// The folder of its mounts could not be made.
    #[error("the folder that a new container shares with this host could not be made")]
    Mounts(#[source] std::io::Error),
    /// It could not be plugged into its network.
    #[error("a new container could not be given its network")]
    Network(#[source] NetworkError),
    /// The engine would not make or start it.
    #[error("a new container could not be started")]
    Engine(#[source] EngineError),
    /// It stopped, or stayed silent, before it connected.
    #[error("a new container did not connect: {why}")]
    Silent {
        /// What is known.
        why: String,
    },
    /// Its limits could not be found.
    #[error("the cgroup of a new container could not be used")]
    Cgroup(#[source] CgroupError),
    /// Its runner did not start.
    #[error("the runner of a new container did not start")]
    Runner(#[source] RunnerError),
}

/// What is made.
#[derive(Debug, Clone, Copy)]
pub struct Made<'a> {
    /// Content id of its image.
    pub image: &'a str,
    /// Which runner.
    pub mode: Mode,
    /// How it is started where not as by default: one that the operator allows.
    pub runtime: Option<&'a str>,
    /// It works for the agent itself.
    pub builder: Option<Builder<'a>>,
    /// Shares of the one call that it is started for.
    pub shares: &'a [ShareMount],
}

/// Makes one.
pub async fn start(site: &Arc<Site>, made: Made<'_>) -> Result<Worker, StartError> {
    for _ in 0..ADDRESSES {
        match start_once(site, made).await {
            Err(StartError::Network(error)) if error.is_of_address() => {}
            other => return other,
        }
    }
    start_once(site, made).await
}

async fn start_once(site: &Arc<Site>, made: Made<'_>) -> Result<Worker, StartError> {
    if !site.wall.stands() {
        return Err(StartError::NetworkUnsafe);
    }
    let name = site.names.take().ok_or(StartError::NoUid)?;
    let (folder, listener) = SocketFolder::create(&site.state_dir, name.short(), name.uid())
        .map_err(StartError::Socket)?;
    let mounts = site.mounts.folder(name.short()).map_err(StartError::Mounts)?;
    let mounts_dir = mounts.path().to_owned();
    let mounts = Arc::new(Mutex::new(mounts));
    let on_bridge = site.profile.is_on_bridge(made.builder);
    let address = on_bridge.then(|| site.wall.address(made.runtime)).flatten();
    let remains = Remains { site: site.clone(), folder, mounts, address, name };
    match build(&remains, &mounts_dir, listener, made).await {
        Ok((runner, process, cgroup)) => {
            Ok(Worker { runner, container: Container::new(process, cgroup, remains) })
        }
        Err(error) => {
            site.tasks.spawn(remains.remove());
            Err(error)
        }
    }
}

async fn build(
    remains: &Remains,
    mounts_dir: &Path,
    listener: tokio::net::UnixListener,
    made: Made<'_>,
) -> Result<(Runner, Process, WorkerCgroup), StartError> {
    let Made { image, mode, runtime, builder, shares } = made;
    let (site, full, uid) = (&remains.site, remains.name.full(), remains.name.uid());
    let socket_dir = remains.folder.path();
    let host_name = &remains.name.host_name();
    let address = remains.address.as_ref().map(Address::ip);
    let plan = Plan {
        name: &full,
        host_name,
        image,
        runtime,
        uid,
        socket_dir,
        mounts_dir,
        builder,
        shares,
        address,
    };
    let body = site.profile.container(&plan);
    let id = site.engine.create(&full, body).await.map_err(StartError::Engine)?;
    // Pid 1 runs some time before the engine says so: the runner's interpreter starts meanwhile.
    let by_engine = site.profile.is_on_bridge(builder) && address.is_none();
    let started = start_container(site, &full, by_engine);
    let connected = connect(remains, listener, &id, mode);
    tokio::try_join!(started, connected).map(|((), worker)| worker)
}

async fn start_container(site: &Site, full: &str, on_bridge: bool) -> Result<(), StartError> {
    match site.engine.start(full).await {
        Ok(()) => Ok(()),
        // Another agent of this machine was the last on the network a moment ago.
        Err(_) if on_bridge && site.wall.keep(&site.engine).await.is_ok() => {
            site.engine.start(full).await.map_err(StartError::Engine)
        }
        Err(error) => Err(StartError::Engine(error)),
    }
}

/// Waits for pid 1 of a container that is being started, and has it start the runner.
async fn connect(
    remains: &Remains,
    listener: tokio::net::UnixListener,
    id: &str,
    mode: Mode,
) -> Result<(Runner, Process, WorkerCgroup), StartError> {
    let (site, full, uid) = (&remains.site, remains.name.full(), remains.name.uid());
    let silent = |why: String| StartError::Silent { why };
    let (control, process) = tokio::select! {
        biased;
        accepted = socket::accept(listener, id) => accepted.map_err(StartError::Socket)?,
        code = site.engine.stopped(&full) => {
            let code = code.map_or("unknown".to_string(), |code| code.to_string());
            return Err(silent(format!("it stopped with exit code {code}")));
        }
        () = tokio::time::sleep(CONNECT) => {
            return Err(silent(format!("nothing within {CONNECT:?}")));
        }
    };
    let cgroup = WorkerCgroup::of(process.pid()).map_err(StartError::Cgroup)?;
    // Nothing of a user runs before the claim: the network may come while the interpreter starts.
    let plugged = async {
        let Some(address) = &remains.address else { return Ok(()) };
        site.wall.plug(&site.engine, &process, address).await.map_err(StartError::Network)
    };
    let runner = async { Runner::start(control, mode, uid).await.map_err(StartError::Runner) };
    let ((), runner) = tokio::try_join!(plugged, runner)?;
    Ok((runner, process, cgroup))
}
