//! The fleet: which hosts are connected, and which call has how many workers on which of them.
//!
//! **Owner.** One task owns hosts and needs. It is told of hosts that come, change and go (by `link`), and of calls that come, change what they want, and end (by their
//! owner tasks), lets [`placement`] (pure) settle, and tells each call whose workers have changed its [`Placement`] through a watch channel: the latest counts, older ones do not matter.
//! What calls only show to people, how many hosts there are and how many calls are ahead, is told to all of them now and then, the more rarely the more calls there are.
//! What is free on a host changes with every worker, and concerns neither calls nor placement: it goes into the [`directory`] alone, for those who ask.
//!
//! **Truth.** A host is the truth about its slots: placement counts what hosts *have*, and an agent that was given workers for two calls starts the second when the first has really gone.
//!
//! **Failures.** A link that ends takes its host out; the calls see the host gone from their placement, and each call's own exchange with it ends. A host whose name is connected already is refused, unless it is the same start of the same agent: then the new
//! connection replaces the old one, which may be half dead.

mod directory;
mod owner;
pub mod placement;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

pub use placement::Need;

use muster_wire::message::HostStatus;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::calls::machine::LinkId;
use crate::link::{self, HostLink};
use crate::tasks::Tasks;

/// All hosts. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Fleet {
    commands: mpsc::Sender<Command>,
    directory: directory::Directory,
    seats: Arc<Mutex<Seats>>,
    tasks: Tasks,
}

/// Where a call may have workers.
#[derive(Debug, Clone, Default)]
pub struct Placement {
    /// How many hosts are connected.
    pub hosts: u32,
    /// How many workers of this call's size fit all suitable hosts when they are empty.
    pub slots: u32,
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
    CallUp(u64, Need, watch::Sender<Placement>),
    CallWants(u64, u32),
    CallDown(u64),
}

#[derive(Debug, Default)]
struct Seats {
    next: u64,
    taken: HashMap<String, Taken>,
}

#[derive(Debug)]
struct Taken {
    epoch: u64,
    link: LinkId,
    replaced: CancellationToken,
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
}

impl Fleet {
    /// A fleet without hosts, its owner task started.
    pub fn start(tasks: &Tasks) -> Fleet {
        let (commands, inbox) = mpsc::channel(1024);
        let directory = directory::Directory::default();
        tasks.spawn_critical("fleet", owner::run(inbox, directory.clone(), tasks.clone()));
        Fleet { commands, directory, seats: Arc::default(), tasks: tasks.clone() }
    }

    /// The connected hosts, by name.
    pub fn hosts(&self) -> Vec<HostStatus> {
        self.directory.hosts()
    }

    /// One host of each kind, for admission.
    pub fn kinds(&self) -> Arc<Vec<HostStatus>> {
        self.directory.kinds()
    }

    /// Reserves a name for a connection.
    pub async fn reserve(&self, name: &str, epoch: u64) -> Result<HostSeat, HostTaken> {
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = seats.taken.get(name) {
            if taken.epoch != epoch {
                return Err(HostTaken { name: name.to_owned() });
            }
            taken.replaced.cancel();
        }
        seats.next += 1;
        let link = seats.next;
        let replaced = CancellationToken::new();
        let taken = Taken { epoch, link, replaced: replaced.clone() };
        seats.taken.insert(name.to_owned(), taken);
        Ok(HostSeat { fleet: self.clone(), name: name.to_owned(), link, replaced })
    }

    /// Enters a call that does not want workers yet.
    pub async fn claim(&self, id: u64, need: Need) -> Claim {
        let (sender, placement) = watch::channel(Placement::default());
        let _ = self.commands.send(Command::CallUp(id, need, sender)).await;
        Claim { id, fleet: self.clone(), wanted: 0, placement }
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
        let tasks = self.fleet.tasks.clone();
        tasks.clone().spawn(async move {
            let events = LinkEvents {
                commands: self.fleet.commands.clone(),
                up: None,
                tasks: tasks.clone(),
            };
            tracing::info!(host = self.name, "host connected");
            let ended = tokio::select! {
                ended = link::run(self.link, self.name.clone(), io, events, tasks.clone()) => ended,
                () = self.replaced.cancelled() => Ok(()),
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
        let mut seats = self.fleet.seats.lock().unwrap_or_else(PoisonError::into_inner);
        if seats.taken.get(&self.name).is_some_and(|taken| taken.link == self.link) {
            seats.taken.remove(&self.name);
        }
    }
}

/// Through which a link tells the fleet of its host; dropping it takes the host out.
#[derive(Debug)]
pub struct LinkEvents {
    commands: mpsc::Sender<Command>,
    up: Option<LinkId>,
    tasks: Tasks,
}

impl LinkEvents {
    /// The host said how it is.
    pub async fn status(&mut self, link: &Arc<HostLink>, status: HostStatus) {
        let command = match self.up {
            Some(id) => Command::HostChanged(id, status),
            None => Command::HostUp(link.clone(), status),
        };
        self.up = Some(link.id);
        let _ = self.commands.send(command).await;
    }
}

impl Drop for LinkEvents {
    fn drop(&mut self) {
        if let Some(id) = self.up {
            tell(&self.tasks, &self.commands, Command::HostDown(id));
        }
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
