//! How the agent is put together, and how it stops.
//!
//! The stop is a written list: (1) tell the gateway, and refuse new calls; (2) let running calls end, for the grace period;
//! (3) cancel those that have not; (4) hang up; (5) kill and remove every container, sweep for leftovers, remove the
//! network if nobody else uses it, and our folders. A second signal exits at once; the next start sweeps up.

use std::future::Future;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use crate::container::{Containers, OpenError};
use crate::data::Data;
use crate::environments::Environments;
use crate::host::Host;
use crate::link::{self, Client, Dial, Link};
use crate::settings::Settings;
use crate::shares::Shares;
use crate::status::Board;
use crate::tasks::Tasks;

/// Cancelled calls give their workers 5 s after SIGTERM.
const CANCEL: Duration = Duration::from_secs(10);
const HANG_UP: Duration = Duration::from_secs(5);

/// The agent could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Another agent of this name runs here.
    #[error(
        "another agent named {name} runs on this machine ({lock} is locked); stop it, or use another --host-name"
    )]
    Taken {
        /// The name.
        name: String,
        /// The file it holds.
        lock: String,
    },
    /// The lock could not be made.
    #[error("the lock in {path} could not be made; run as root, or choose another --state-dir")]
    Lock {
        /// Where.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Containers cannot be made here.
    #[error("this host cannot run containers")]
    Containers(#[from] OpenError),
}

/// An agent, ready to run.
#[derive(Debug)]
pub struct Agent {
    grace: Duration,
    board: Board,
    containers: Containers,
    link: Link<Host>,
    links: Tasks,
    calls: Tasks,
    workers: Tasks,
    lock: Lock,
}

/// How the agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Because it was asked to.
    Asked,
    /// Because a part of it failed.
    Broken,
}

#[derive(Debug)]
struct Lock {
    /// Both held as long as this lives: the state folder, and the name, whatever folder its other owner has.
    _file: Flock<std::fs::File>,
    _name: UnixListener,
    path: PathBuf,
}

impl Agent {
    /// Takes the host's name and prepares the host. Nothing runs yet.
    pub async fn build(settings: &Settings) -> Result<Agent, BuildError> {
        let lock = Lock::take(settings)?;
        let board = Board::new(settings);
        let (links, calls, workers) = (Tasks::new(), Tasks::new(), Tasks::new());
        let dial = Arc::new(Dial::new(&settings.host_name, settings.source.clone()));
        links.spawn_critical("join", link::stay_joined(dial.clone(), links.clone()));
        let client = Client::new(dial.clone(), calls.clone());
        let data = Data::new(client, &settings.cache_dir, settings.cache_bytes, calls.clone());
        let shares = Shares::new(settings.shares.clone(), board.clone());
        let containers = Containers::open(settings, &board, &workers, data, &shares).await?;
        workers.spawn_critical("shares", shares.clone().watch(workers.token()));
        let packages = settings.packages.clone();
        let environments = Environments::open(packages, containers.clone(), workers.clone());
        let host = Host { containers: containers.clone(), environments, shares };
        let link = Link::new(dial, board.clone(), host, links.clone(), calls.clone());
        Ok(Agent { grace: settings.grace, board, containers, link, links, calls, workers, lock })
    }

    /// Works until `asked` ends, or a part fails, and then stops in order.
    pub async fn run(self, asked: impl Future<Output = ()>) -> Stopped {
        self.containers.run();
        self.links.spawn_critical("link", self.link.run());
        tokio::select! {
            biased;
            () = asked => {}
            () = self.links.cancelled() => {}
            () = self.workers.cancelled() => {}
        }
        let broken = self.links.is_broken() || self.workers.is_broken();
        tracing::info!(calls = self.board.watch().borrow().workers, "stopping");
        self.board.drain();
        self.calls.ended(self.grace).await;
        self.calls.stop();
        self.calls.ended(CANCEL).await;
        self.links.stop();
        self.links.ended(HANG_UP).await;
        self.containers.close().await;
        drop(self.lock);
        if broken { Stopped::Broken } else { Stopped::Asked }
    }
}

impl Lock {
    /// Two agents of one name would take each other's containers for leftovers.
    fn take(settings: &Settings) -> Result<Lock, BuildError> {
        let path = settings.state_dir.join("lock");
        let failed = |source| BuildError::Lock { path: path.display().to_string(), source };
        let taken = |lock: String| BuildError::Taken { name: settings.host_name.clone(), lock };
        // A name without a file: the kernel gives it back when the process ends, however it does.
        let name = format!("muster-agent/{}", settings.host_name);
        let address = SocketAddr::from_abstract_name(&name).map_err(failed)?;
        let name = UnixListener::bind_addr(&address).map_err(|error| match error.kind() {
            std::io::ErrorKind::AddrInUse => taken(format!("socket @{name}")),
            _ => failed(error),
        })?;
        std::fs::create_dir_all(&settings.state_dir).map_err(failed)?;
        let file = std::fs::File::create(&path).map_err(failed)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Lock { _file: file, _name: name, path }),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Err(taken(path.display().to_string())),
            Err((_, errno)) => Err(failed(errno.into())),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Best effort: a file that stays is not held, and a folder with other things in it is not ours to remove.
        let _ = std::fs::remove_file(&self.path);
        let _ = self.path.parent().map(std::fs::remove_dir);
    }
}
