//! What containers may reach: the internet, and nothing near them. A bridge of our own keeps containers apart, and two chains
//! of rules ([`rules`]) keep them from this host, from private and link-local ranges (cloud metadata), and from every other
//! network of this machine. Name servers of the host stay reachable on port 53.
//!
//! The engine makes the bridge, and with it what lets packets out; but it takes a fifth of a container's start to plug one in,
//! most of that for a name server of its own in each. So containers are started without a network, and the agent plugs them
//! in ([`veth`]) while their interpreter starts: a pair of interfaces, of which one end is an isolated port of the bridge, and
//! an address from the half of the bridge's range that the engine comes to last ([`address`]). The pair ends with the
//! container's network namespace, whoever dies first; its name says its address, so that no two agents of a machine can give
//! out the same one. The engine plugs in itself where that is not the same: a runtime with a network stack of its own, or a host
//! whose name servers only the host can ask ([`resolvers`]).
//!
//! Bridge and rules are made again on a timer, because firewall tools and restarts of the engine forget them, and a `docker
//! network prune` takes a bridge on which the engine sees nobody; the ports are then put on the new one, which has the range of the
//! old. Where that fails, the [`Wall`] is down: nothing starts and nothing is claimed until it stands again.
//!
//! The last agent of a machine takes both away, once no port is left. The next one may get another range, while an agent that had
//! no port yet still gives out addresses of the old: a container that comes with one is started anew.
//!
//! IPv6: the bridge has none, and it is switched off for what is plugged into a container.

mod address;
mod resolvers;
mod rules;
mod veth;

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use crate::doctor::Firewall;
use crate::engine::{Engine, EngineError, EngineNetwork};

pub use address::Address;

use super::process::Process;
use super::profile::NETWORK;
use address::{Addresses, Subnet};
use resolvers::Resolvers;
use veth::VethError;

const BRIDGE: &str = "muster0";
const DEADLINE: Duration = Duration::from_secs(30);
/// How often the rules are made again, in case something took them away.
pub const EVERY: Duration = Duration::from_secs(10);

/// The network could not be made safe.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The engine would not make it.
    #[error("the network {NETWORK} could not be made")]
    Engine(#[from] EngineError),
    /// Another agent of this machine holds it for too long.
    #[error("the lock on the machine's network rules could not be had")]
    Lock {
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The tool could not be run.
    #[error(
        "{command} could not be run; install iptables, or give containers no network with --network none"
    )]
    Tool {
        /// Which.
        command: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The tool refused.
    #[error("{command} refused our rules: {said}")]
    Refused {
        /// Which.
        command: &'static str,
        /// Its own words.
        said: String,
    },
    /// A container could not be plugged in.
    #[error("a container could not be connected to the bridge {BRIDGE}")]
    Veth(#[from] VethError),
    /// While it started, the bridge was made anew with another range.
    #[error("the bridge {BRIDGE} has changed its range of addresses")]
    Moved,
}

impl NetworkError {
    /// Whether a container with another address may have better luck.
    pub fn is_of_address(&self) -> bool {
        match self {
            NetworkError::Moved => true,
            // Another agent of this machine has chosen the same one.
            NetworkError::Veth(error) => error.is_taken(),
            _ => false,
        }
    }
}

/// Bridge and rules, and what is known of them.
#[derive(Debug)]
pub struct Wall {
    broken: AtomicBool,
    /// Whether containers of the default runtime can be plugged in while they run.
    pluggable: bool,
    seen: Mutex<Seen>,
    addresses: Addresses,
}

/// As it was when it was last looked at.
#[derive(Debug, Default)]
struct Seen {
    subnet: Option<Subnet>,
    resolvers: Resolvers,
}

impl Wall {
    /// For containers that are started with this runtime where nothing else is said; nothing is made yet.
    pub fn new(runtime: &str) -> Wall {
        let pluggable = is_pluggable(runtime);
        let (seen, addresses) = (Mutex::default(), Addresses::default());
        Wall { broken: AtomicBool::new(false), pluggable, seen, addresses }
    }

    /// Makes network and rules, or puts right what has changed; remembers whether that could be done.
    pub async fn keep(&self, engine: &Engine) -> Result<(), NetworkError> {
        self.keep_for(engine).await.map(drop)
    }

    /// The same, and the turn in which nobody takes it away again.
    async fn keep_for(&self, engine: &Engine) -> Result<Turn, NetworkError> {
        let before = self.seen().subnet;
        let kept = ensure(engine, before).await;
        if self.broken.swap(kept.is_err(), Ordering::Relaxed) && kept.is_ok() {
            tracing::info!("the network is safe again");
        }
        let (seen, turn) = kept?;
        *self.seen() = seen;
        Ok(turn)
    }

    /// Whether it stands.
    pub fn stands(&self) -> bool {
        !self.broken.load(Ordering::Relaxed)
    }

    /// An address for a new container, which is then to be plugged in; none where the engine is to do that.
    pub fn address(&self, runtime: Option<&str>) -> Option<Address> {
        let pluggable = runtime.map_or(self.pluggable, is_pluggable);
        let seen = self.seen();
        let subnet = seen.subnet.filter(|_| pluggable && seen.resolvers.serve_anybody())?;
        self.addresses.take(subnet, rand::random(), veth::is_there)
    }

    /// Connects a running container to the bridge.
    pub async fn plug(
        &self,
        engine: &Engine,
        process: &Process,
        address: &Address,
    ) -> Result<(), NetworkError> {
        let shared = turn(FlockArg::LockShared).await?;
        if plug(process, address, &shared).await.is_ok() {
            return Ok(());
        }
        drop(shared);
        // Another agent of this machine was the last on the network a moment ago, or somebody has pruned it.
        let own = self.keep_for(engine).await?;
        plug(process, address, &own).await
    }

    /// Takes away what is left of a container's connection; the kernel does so too, but when it likes.
    pub async fn unplug(&self, address: &Address) {
        if let Err(error) = veth::unplug(address).await {
            let error = &error as &dyn std::error::Error;
            tracing::debug!(port = address.port(), error, "left to the kernel");
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether containers of this runtime see an interface that comes later. Others read the interfaces once, when they start, into a
/// network stack of their own.
fn is_pluggable(runtime: &str) -> bool {
    matches!(runtime, "runc" | "crun" | "io.containerd.runc.v2")
}

/// Connects a container to the bridge that its address is for.
async fn plug(process: &Process, address: &Address, _turn: &Turn) -> Result<(), NetworkError> {
    // On a bridge of another range it would be connected to nobody.
    if veth::subnet(BRIDGE).is_some_and(|now| now != address.subnet()) {
        return Err(NetworkError::Moved);
    }
    Ok(veth::plug(process, BRIDGE, address).await?)
}

/// Makes network and rules, or puts right what has changed since; a bridge that is made anew gets the range it had.
async fn ensure(engine: &Engine, before: Option<Subnet>) -> Result<(Seen, Turn), NetworkError> {
    let turn = turn(FlockArg::LockExclusive).await?;
    let subnet = before.map(|subnet| subnet.to_string());
    let network = EngineNetwork { name: NETWORK.into(), bridge: BRIDGE.into(), subnet };
    engine.ensure_network(&network).await?;
    veth::replug(BRIDGE).await?;
    let resolvers = Resolvers::of_this_host().await;
    rules::write(resolvers.reachable()).await?;
    Ok((Seen { subnet: veth::subnet(BRIDGE), resolvers }, turn))
}

/// What there is of the rules on this host; changes nothing.
pub async fn rules_on_this_host(engine: &Engine) -> Firewall {
    let there = match rules::there().await {
        Ok(there) => there,
        Err(error) => return Firewall::NoTool(error.to_string()),
    };
    match (there, engine.has_network(NETWORK).await) {
        (true, _) => Firewall::There,
        (false, true) => Firewall::Missing,
        (false, false) => Firewall::NotYet,
    }
}

/// Removes network and rules if no container uses them: the last agent of a machine leaves nothing.
pub async fn remove_if_unused(engine: &Engine) {
    let Ok(_turn) = turn(FlockArg::LockExclusive).await else { return };
    // The engine does not know whom agents have plugged in.
    if let Some(port) = veth::ports().next() {
        tracing::info!(port = %port.display(), "the network stays: a container is on it");
        return;
    }
    match engine.remove_network(NETWORK).await {
        Ok(()) => rules::remove().await,
        Err(error) => {
            tracing::info!(error = &error as &dyn std::error::Error, "the network stays");
        }
    }
}

/// One agent of a machine changes the network at a time, and while none plugs in a container: else one that stops could take
/// away what another has just made. The lock is on a directory that is always there, so that it leaves no file.
type Turn = Flock<File>;

async fn turn(how: FlockArg) -> Result<Turn, NetworkError> {
    let lock = move || Flock::lock(File::open("/run")?, how).map_err(|(_, error)| error.into());
    let locked = tokio::task::spawn_blocking(lock);
    let failed = |source| NetworkError::Lock { source };
    match tokio::time::timeout(DEADLINE, locked).await {
        Ok(Ok(locked)) => locked.map_err(failed),
        Ok(Err(panicked)) => Err(failed(std::io::Error::other(panicked))),
        Err(late) => Err(failed(std::io::Error::other(late))),
    }
}
