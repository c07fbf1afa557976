//! The task that owns a call: it alone changes what becomes of its inputs, and says so in the log and the record.

mod commands;
mod end;
mod leases;
mod news;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::handle::{Command, Shared, event};
use super::hosts::Hosts;
use super::machine::Machine;
use super::queue::Queue;
use super::saver::Saver;
use super::wait::{self, Workers};
use super::{CallState, EndError};
use crate::blobs::Pin;
use crate::fleet::{Claim, Placement};
use crate::link::Inbox;
use crate::secrets::Secrets;
use crate::store::durable::{Change, Digest, StoredExchange};
use crate::store::{FULL_PAUSE, Spill, StoreError};
use crate::tasks::Tasks;

/// News from hosts that wait to be taken in.
const INBOX: usize = 256;
/// How long inputs that do not fit into memory wait for others to be done before they are spilled.
const PATIENCE: Duration = Duration::from_millis(250);

/// What a call's owner task starts with.
pub(super) struct Start {
    pub shared: Arc<Shared>,
    pub begun: Begun,
    /// How long a background call waits for more inputs.
    pub upload_grace: Duration,
    pub commands: mpsc::Receiver<Command>,
    pub claim: Claim,
    pub secrets: Secrets,
    pub spill: Spill,
    pub grace: Duration,
    pub tasks: Tasks,
    /// Counts the calls that have not ended.
    pub live: Arc<()>,
}

/// How far the call has come.
pub(super) struct Begun {
    pub machine: Machine,
    pub queue: Queue,
    /// The chunks of inputs that came, where the store keeps them: how many inputs, and their hash.
    pub digests: BTreeMap<u64, (u64, Digest)>,
    /// An input that failed in an earlier gateway, if any did.
    pub failed: Option<u64>,
    /// Its function cannot be read back.
    pub damaged: bool,
    /// What hosts had of it when an earlier gateway ended.
    pub exchanges: Vec<StoredExchange>,
    /// Keeps the call's shared data.
    pub pin: Option<Arc<Pin>>,
    /// How old the call is.
    pub age: Duration,
}

impl Begun {
    /// A call without inputs yet.
    pub fn new(machine: Machine, queue: Queue) -> Begun {
        let (digests, exchanges) = (BTreeMap::new(), Vec::new());
        let age = Duration::ZERO;
        Begun { machine, queue, digests, failed: None, damaged: false, exchanges, pin: None, age }
    }
}

struct Owner {
    shared: Arc<Shared>,
    machine: Machine,
    queue: Queue,
    claim: Claim,
    placement: Placement,
    hosts: Hosts,
    news: Inbox,
    secrets: Secrets,
    spill: Spill,
    state: CallState,
    end: Option<(CallState, Option<EndError>)>,
    exit_code: Option<i32>,
    reopen_at: Option<Instant>,
    live: Arc<()>,
    /// When this gateway began with the call, and how old it was then.
    begun: Instant,
    age_before: Duration,
    /// When an input was done last.
    progress: Instant,
    digests: BTreeMap<u64, (u64, Digest)>,
    /// When the client gave inputs last.
    fed: Instant,
    /// Events wait for space in the store.
    store_full: bool,
}

/// Why the call cannot go on.
type Broken = StoreError;

pub(super) async fn run(start: Start) {
    let Start { shared, mut commands, claim, begun, grace, upload_grace, tasks, live, .. } = start;
    let (secrets, spill) = (start.secrets, start.spill);
    let Begun { machine, queue, digests, failed, damaged, exchanges, pin, age } = begun;
    let (news, mut inbox) = Inbox::new(INBOX);
    let mut placed = claim.placement.clone();
    let mut links = claim.links.clone();
    let mut readers = shared.readers.subscribe();
    let mut alone_since = Instant::now();
    let mut owner = Owner {
        machine,
        queue,
        claim,
        placement: Placement::default(),
        hosts: Hosts::default(),
        news,
        secrets,
        spill,
        state: CallState::Queued,
        end: None,
        exit_code: None,
        reopen_at: None,
        live,
        begun: Instant::now(),
        age_before: age,
        progress: Instant::now(),
        digests,
        fed: Instant::now(),
        store_full: false,
        shared: shared.clone(),
    };
    exchanges.iter().for_each(|exchange| owner.hosts.restore(exchange));
    let mut saver = Saver::of(&shared);
    owner.say_state();
    owner.begin(failed, damaged);
    while owner.end.is_none() {
        if let Some(saver) = &mut saver {
            let unsaved = |events| owner.hosts.unsaved(&shared.spec.call, events);
            saver.go_on(owner.state == CallState::Running, unsaved).await;
            owner.store_full = saver.is_full();
        }
        let uploading = shared.options.background && owner.machine.total().is_none();
        let look_at = owner.hosts.look_at(&links.borrow());
        let alone = !shared.options.background && shared.log.readers() == 0;
        let done = tokio::select! {
            biased;
            () = tasks.stopping() => match saver {
                Some(saver) => {
                    let call = &shared.spec.call;
                    saver.suspend(|events| owner.hosts.unsaved(call, events)).await;
                    // A host that saw its exchange end would end the call: it should see its connection end.
                    return owner.hosts.until_cut().await;
                }
                None => { owner.stop_with_gateway(); Ok(()) }
            },
            () = shared.cancel.cancelled() => { owner.stop(CallState::Cancelled, None); Ok(()) }
            saved = step(&mut saver) => saved.map(|saved| owner.hosts.saved(&saved)),
            Some(news) = inbox.recv(), if !shared.log.is_clogged() => { owner.hear_all(news, &mut inbox); Ok(()) }
            Ok(()) = placed.changed() => {
                owner.placement = placed.borrow_and_update().clone();
                owner.follow_placement();
                Ok(())
            }
            Some(command) = commands.recv(), if owner.takes_inputs() => {
                owner.obey(command).await
            }
            () = tokio::time::sleep_until(owner.progress + PATIENCE), if owner.holds_back() => Ok(()),
            () = tokio::time::sleep(FULL_PAUSE), if owner.waits_for_disk() => Ok(()),
            () = owner.spill.room(), if owner.waits_for_disk() && owner.spill.is_full() => Ok(()),
            Ok(()) = links.changed(), if look_at.is_some() => { owner.look_for_hosts(); Ok(()) }
            () = sleep_until(look_at), if look_at.is_some() => { owner.look_for_hosts(); Ok(()) }
            () = sleep_until(owner.reopen_at), if owner.reopen_at.is_some() => {
                owner.follow_placement();
                Ok(())
            }
            () = tokio::time::sleep_until(owner.fed + upload_grace), if uploading => {
                owner.give_up_upload();
                Ok(())
            }
            Ok(()) = readers.changed() => { alone_since = Instant::now(); Ok(()) }
            () = tokio::time::sleep_until(alone_since + grace), if alone => {
                owner.stop(CallState::Cancelled, None);
                Ok(())
            }
        };
        let settled = match done {
            Ok(()) => owner.settle().await,
            Err(broken) => Err(broken),
        };
        if let Err(broken) = settled {
            owner.break_down(&broken);
        }
    }
    // Who sees the end may delete what the call has read.
    drop(pin);
    owner.finish(saver, &tasks).await;
    shared.family.end();
}

/// What the saver, if there is one, does next.
async fn step(saver: &mut Option<Saver>) -> Result<Vec<Change>, Broken> {
    match saver {
        Some(saver) => saver.step().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Owner {
    /// Whether inputs that come can be kept.
    fn takes_inputs(&self) -> bool {
        !self.queue.is_stuck() && !self.holds_back()
    }

    /// Whether inputs or events should be on a disk that is full, or would be past its limit. The store tries again by itself; what is to be spilled is tried by the next settling.
    fn waits_for_disk(&self) -> bool {
        let spills = self.shared.kept.is_none();
        self.store_full || self.queue.is_stuck() || spills && self.shared.log.is_clogged()
    }

    /// Whether inputs that would have to be spilled now had better wait for those that are being run. Not when the fleet could use them, nor for a
    /// client that wants to go, nor when the inputs take long.
    fn holds_back(&self) -> bool {
        let fed = u64::from(self.placement.slots.max(1));
        !self.shared.options.background
            && self.machine.next().is_some()
            && self.machine.outstanding() > fed
            && !self.queue.has_room()
            && Instant::now() < self.progress + PATIENCE
    }

    /// Opens exchanges where there are workers to be had, and notes how many.
    fn follow_placement(&mut self) {
        self.reopen_at = None;
        self.look_for_hosts();
        let Owner { hosts, shared, placement, secrets, news, .. } = self;
        let secrets = || secrets.frame(&shared.owner, &shared.spec.secrets);
        if let Err(error) = hosts.follow(&placement.targets, shared, secrets, news) {
            self.stop(CallState::Failed, Some(EndError::Call(error.to_call_error())));
        }
    }

    /// After news: leases, numbers of workers, spilling, the record, and whether the call has ended.
    async fn settle(&mut self) -> Result<(), Broken> {
        if self.end.is_none() && !self.machine.is_complete() {
            self.tell_workers();
            self.queue.settle().await?;
            self.lease().await?;
            let wanted = self.wanted();
            self.claim.want(wanted).await;
        }
        if self.end.is_none() && self.machine.is_complete() {
            self.stop(CallState::Succeeded, None);
        }
        self.shared.log.settle().await?;
        self.publish();
        Ok(())
    }

    fn say_state(&self) {
        let body = json!({"type": "state", "state": self.state, "call": self.shared.spec.call});
        self.shared.log.append(event(body));
    }

    fn publish(&self) {
        let (running, starting) = self.hosts.workers();
        let idle = running == 0;
        let workers = Workers {
            running,
            starting,
            host_says: if idle { self.hosts.waiting() } else { None },
            suspect: if idle { self.hosts.suspect() } else { None },
            has_run: self.state == CallState::Running,
            disk_full: self.waits_for_disk(),
        };
        let waiting = wait::why(
            self.machine.outstanding(),
            &self.placement,
            workers,
            &self.shared.spec.shares,
        );
        let hosts = self.hosts.at_work();
        self.shared.record.send_if_modified(|record| {
            let before = (record.state, record.done, record.inputs, record.total, record.workers);
            record.state = self.state;
            record.done = self.machine.done();
            record.failed = self.machine.failed();
            record.total = self.machine.total();
            record.inputs = self.machine.received();
            record.workers = running;
            record.hosts = hosts;
            record.exit_code = self.exit_code;
            let after = (record.state, record.done, record.inputs, record.total, record.workers);
            let changed = before != after || record.waiting != waiting;
            record.waiting = waiting;
            changed
        });
    }
}
