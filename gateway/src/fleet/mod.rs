//! The fleet: which hosts are connected, and which call has how many workers on which of them.
//!
//! **Owner.** One task owns hosts and needs. It is told of hosts that come, change and go (by `link`), and of calls that come, change what they want, and end (by their
//! owner tasks), lets [`placement`] (pure) settle, and tells each call whose workers have changed its [`Placement`] through a watch channel: the latest counts, older ones do not matter.
//! What calls only show to people, how many hosts there are and how many calls are ahead, is told to all of them now and then, the more rarely the more calls there are.
//! What is free on a host changes with every worker, and concerns neither calls nor placement: it goes into the [`directory`] alone, for those who ask.
//!
//! **Truth.** A host is the truth about its slots: placement counts what hosts *have*, and an agent that was given workers for two calls starts the second when the first has really gone.
//!
//! **States of a host.** *Ready*; *suspect*, when nothing was heard of it for 8 s ([`seats`], pure): it keeps what it has and gets nothing new, neither workers nor inputs, and goes on as before when it is heard again; *draining*, when it says so (SIGTERM) or an
//! admin asked for it: its workers are taken from the calls, each of which lets it finish the inputs it holds and then ends its exchange there. A drain that was asked for stays with the host's name, whether it is connected or not, until it is undone or the gateway ends.
//!
//! **Failures.** A host that is silent for 55 s is given up: its connection is closed, and with it its exchanges, so that its inputs are leased again within a minute. A partition shorter than that costs nothing: TCP holds what is on the way. A connection that *breaks* (reset, closed) says
//! that the agent is dead or the network was; a call waits for it to come back for some seconds, and goes on with what it holds (`calls::away`): a host that is back as another start holds nothing. An agent that hears nothing for 120 s gives its calls up too, and stops its containers. Whatever comes on a connection that was given up is not read; an output on a
//! new connection of the same host for an input it does not hold there is late (`calls::machine`). A link that ends takes its host out; the calls see the host gone from their placement, and each call's own exchange with it ends. Who gets a name that is taken already, [`seats`] says.

mod directory;
mod owner;
pub mod placement;
pub mod seats;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

pub use directory::HostRecord;
pub use placement::Need;
use seats::{Change, Seats};

use muster_wire::message::HostStatus;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::calls::machine::LinkId;
use crate::link::{self, HostLink};
use crate::tasks::Tasks;

/// All hosts. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Fleet {
    commands: mpsc::Sender<Command>,
    directory: directory::Directory,
    seats: Arc<Mutex<Connections>>,
    links: watch::Receiver<Links>,
    /// Names this start of the gateway.
    gateway: u64,
    tasks: Tasks,
}

/// The way to each host that is connected, by its name.
pub type Links = HashMap<String, Arc<HostLink>>;

/// Whether a host gets anything new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HostState {
    /// It does.
    #[default]
    Ready,
    /// It is silent: it keeps what it has.
    Suspect,
    /// It finishes what runs there.
    Draining,
}

/// Where a call may have workers.
#[derive(Debug, Clone, Default)]
pub struct Placement {
    /// How many hosts are connected.
    pub hosts: u32,
    /// How many workers of this call's size fit all suitable hosts when they are empty.
    pub slots: u32,
    /// How many more would fit hosts that get nothing new now.
    pub closed_slots: u32,
    /// How many older calls hold or want workers.
    pub ahead: u32,
    /// Hosts and how many workers the call may have there; absent means none.
    pub targets: Arc<[Target]>,
}

/// Workers of one call on one host.
#[derive(Debug, Clone)]
pub struct Target {
    /// The way there.
    pub link: Arc<HostLink>,
    /// How many.
    pub workers: u32,
}

/// What the owner task is told.
#[derive(Debug)]
enum Command {
    HostUp(Arc<HostLink>, HostStatus),
    HostChanged(LinkId, HostStatus),
    HostDown(LinkId),
    /// It is suspect, or is not any more.
    HostSuspect(LinkId, bool),
    /// A host of this name gets nothing new, or does again.
    Drain(String, Drain, oneshot::Sender<Option<HostRecord>>),
    CallUp(u64, Need, watch::Sender<Placement>),
    CallWants(u64, u32),
    CallDown(u64),
}

/// What an admin asks of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drain {
    /// Finish what runs, take nothing new.
    Begin,
    /// Take work again.
    Undo,
}

#[derive(Debug, Default)]
struct Connections {
    seats: Seats,
    /// Ends a connection whose name another one has now.
    replaced: HashMap<LinkId, CancellationToken>,
}

/// The name is connected already.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a host named {name} is connected already")]
pub struct HostTaken {
    /// Which name.
    pub name: String,
}

/// A place for one connection of one host; dropping it gives the name back.
#[derive(Debug)]
pub struct HostSeat {
    fleet: Fleet,
    name: String,
    link: LinkId,
    replaced: CancellationToken,
}

/// A call's place in the fleet; dropping it ends its claim to workers.
#[derive(Debug)]
pub struct Claim {
    id: u64,
    fleet: Fleet,
    wanted: u32,
    /// What the call was given.
    pub placement: watch::Receiver<Placement>,
    /// The hosts that are there.
    pub links: watch::Receiver<Links>,
}

impl Fleet {
    /// A fleet without hosts, its owner task started.
    pub fn start(tasks: &Tasks) -> Fleet {
        let (commands, inbox) = mpsc::channel(1024);
        let directory = directory::Directory::default();
        let (there, links) = watch::channel(Links::new());
        let owner = owner::run(inbox, directory.clone(), there, tasks.clone());
        tasks.spawn_critical("fleet", owner);
        let (seats, tasks, gateway) = (Arc::default(), tasks.clone(), rand::random());
        Fleet { commands, directory, seats, links, gateway, tasks }
    }

    /// The connected hosts, by name.
    pub fn hosts(&self) -> Vec<HostRecord> {
        self.directory.hosts()
    }

    /// One host of each kind, for admission.
    pub fn kinds(&self) -> Arc<Vec<HostStatus>> {
        self.directory.kinds()
    }

    /// Reserves a name for a connection.
    pub fn reserve(&self, name: &str, epoch: u64) -> Result<HostSeat, HostTaken> {
        let mut connections = self.connections();
        let reserved = connections
            .seats
            .reserve(name, epoch, Instant::now().into_std())
            .ok_or_else(|| HostTaken { name: name.to_owned() })?;
        if let Some(before) = reserved.replaces.and_then(|link| connections.replaced.remove(&link))
        {
            before.cancel();
        }
        let replaced = CancellationToken::new();
        connections.replaced.insert(reserved.link, replaced.clone());
        let (fleet, name) = (self.clone(), name.to_owned());
        Ok(HostSeat { fleet, name, link: reserved.link, replaced })
    }

    /// Drains the connected host of this name, or undoes that; `None` when there is none. The host as it is then.
    pub async fn drain(&self, name: &str, drain: Drain) -> Option<HostRecord> {
        let (reply, answer) = oneshot::channel();
        let _ = self.commands.send(Command::Drain(name.to_owned(), drain, reply)).await;
        answer.await.ok().flatten()
    }

    fn connections(&self) -> std::sync::MutexGuard<'_, Connections> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a call that does not want workers yet.
    pub async fn claim(&self, id: u64, need: Need) -> Claim {
        let (sender, placement) = watch::channel(Placement::default());
        let _ = self.commands.send(Command::CallUp(id, need, sender)).await;
        Claim { id, fleet: self.clone(), wanted: 0, placement, links: self.links.clone() }
    }
}

impl Claim {
    /// How many workers the call can use.
    pub async fn want(&mut self, workers: u32) {
        if workers != self.wanted {
            self.wanted = workers;
            let _ = self.fleet.commands.send(Command::CallWants(self.id, workers)).await;
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        tell(&self.fleet.tasks, &self.fleet.commands, Command::CallDown(self.id));
    }
}

impl HostSeat {
    /// Speaks to the agent at the other end until the connection ends.
    pub fn run(self, io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        self.run_until(io, std::future::pending());
    }

    /// The same, but at most until the host's credential is `dead`.
    pub fn run_until(
        self,
        io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        dead: impl Future<Output = ()> + Send + 'static,
    ) {
        let tasks = self.fleet.tasks.clone();
        tasks.clone().spawn(async move {
            let (fleet, name) = (self.fleet.clone(), self.name.clone());
            let events = LinkEvents { pulse: Pulse { fleet, name, link: self.link }, up: false };
            tracing::info!(host = self.name, "host connected");
            let ended = tokio::select! {
                ended = link::run(self.link, self.name.clone(), io, events, tasks.clone()) => ended,
                () = self.replaced.cancelled() => Ok(()),
                () = dead => Ok(()),
                () = tasks.stopping() => Ok(()),
            };
            match ended {
                Ok(()) => tracing::info!(host = self.name, "host disconnected"),
                Err(error) => {
                    let error = crate::chain(&error);
                    tracing::warn!(host = self.name, error, "host lost");
                }
            }
        });
    }
}

impl Drop for HostSeat {
    fn drop(&mut self) {
        let mut connections = self.fleet.connections();
        connections.replaced.remove(&self.link);
        connections.seats.leave(&self.name, self.link);
    }
}

/// Through which a link tells the fleet of its host; dropping it takes the host out.
#[derive(Debug)]
pub struct LinkEvents {
    pulse: Pulse,
    up: bool,
}

/// Through which a link tells the fleet whether its host is heard.
#[derive(Debug, Clone)]
pub struct Pulse {
    fleet: Fleet,
    name: String,
    link: LinkId,
}

/// The host was silent for too long: its link has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GivenUp;

impl LinkEvents {
    /// The host said how it is.
    pub async fn status(&mut self, link: &Arc<HostLink>, status: HostStatus) {
        let command = match self.up {
            true => Command::HostChanged(link.id, status),
            false => Command::HostUp(link.clone(), status),
        };
        self.up = true;
        let _ = self.pulse.fleet.commands.send(command).await;
    }

    /// Names this start of the gateway.
    pub fn gateway(&self) -> u64 {
        self.pulse.fleet.gateway
    }

    /// For those who listen.
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }
}

impl Drop for LinkEvents {
    fn drop(&mut self) {
        if self.up {
            let Fleet { commands, tasks, .. } = &self.pulse.fleet;
            tell(tasks, commands, Command::HostDown(self.pulse.link));
        }
    }
}

impl Pulse {
    /// Whether the host was heard since the last look.
    pub async fn look(&self, heard: bool) -> Result<(), GivenUp> {
        let now = Instant::now().into_std();
        let change = self.fleet.connections().seats.look(&self.name, self.link, heard, now);
        let Some(change) = change else { return Ok(()) };
        tracing::info!(host = self.name, ?change, "host heard, or not");
        if change == Change::GivenUp {
            return Err(GivenUp);
        }
        let suspect = change == Change::Suspected;
        let _ = self.fleet.commands.send(Command::HostSuspect(self.link, suspect)).await;
        Ok(())
    }
}

/// Tells the owner task something that must not be lost, from where nobody can wait.
fn tell(tasks: &Tasks, commands: &mpsc::Sender<Command>, command: Command) {
    if let Err(mpsc::error::TrySendError::Full(command)) = commands.try_send(command) {
        let commands = commands.clone();
        tasks.spawn(async move {
            let _ = commands.send(command).await;
        });
    }
}
