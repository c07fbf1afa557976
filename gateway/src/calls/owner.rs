//! The task that owns a call: it alone changes what becomes of its inputs, and says so in the log and the record.

mod commands;
mod news;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use muster_wire::message::CallError;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::handle::{Command, Shared, event};
use super::hosts::Hosts;
use super::machine::{LinkId, Machine};
use super::queue::Queue;
use super::saver::Saver;
use super::wait::{self, Workers};
use super::{CallState, EndError};
use crate::blobs::Pin;
use crate::fleet::{Claim, Placement};
use crate::link::Inbox;
use crate::secrets::Secrets;
use crate::store::durable::{Change, Digest, StoredExchange};
use crate::store::{Spill, StoreError};
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
    /// What hosts had of it when an earlier gateway ended.
    pub exchanges: Vec<StoredExchange>,
    /// Keeps the call's shared data.
    pub pin: Option<Arc<Pin>>,
}

impl Begun {
    /// A call without inputs yet.
    pub fn new(machine: Machine, queue: Queue) -> Begun {
        let (digests, exchanges) = (BTreeMap::new(), Vec::new());
        Begun { machine, queue, digests, failed: None, exchanges, pin: None }
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
    /// When an input was done last.
    progress: Instant,
    digests: BTreeMap<u64, (u64, Digest)>,
    /// When the client gave inputs last.
    fed: Instant,
}

/// Why the call cannot go on.
type Broken = StoreError;

pub(super) async fn run(start: Start) {
    let Start { shared, mut commands, claim, begun, grace, upload_grace, tasks, live, .. } = start;
    let (secrets, spill) = (start.secrets, start.spill);
    let Begun { machine, queue, digests, failed, exchanges, pin } = begun;
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
        progress: Instant::now(),
        digests,
        fed: Instant::now(),
        shared: shared.clone(),
    };
    exchanges.iter().for_each(|exchange| owner.hosts.restore(exchange));
    let mut saver = Saver::of(&shared);
    owner.say_state();
    owner.begin(failed);
    while owner.end.is_none() {
        if let Some(saver) = &mut saver {
            let unsaved = |events| owner.hosts.unsaved(&shared.spec.call, events);
            saver.go_on(owner.state == CallState::Running, unsaved).await;
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
            Some(command) = commands.recv(), if !owner.spill.is_full() && !owner.holds_back() => {
                owner.obey(command).await
            }
            () = tokio::time::sleep_until(owner.progress + PATIENCE), if owner.holds_back() => Ok(()),
            () = owner.spill.room(), if owner.spill.is_full() => Ok(()),
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
    owner.finish(saver, &tasks).await;
    drop(pin);
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

    /// A call that goes on where an earlier gateway left it may have come to its end already.
    fn begin(&mut self, failed: Option<u64>) {
        if let Some(index) = failed {
            self.stop_at_failure(index);
        } else if self.machine.is_complete() {
            self.stop(CallState::Succeeded, None);
        }
    }

    /// The client may submit what has no output to the next gateway.
    fn stop_with_gateway(&mut self) {
        let error = CallError {
            code: "stopping".to_owned(),
            message: "the gateway stopped".to_owned(),
            action: "submit what has no output again, to the next gateway".to_owned(),
        };
        self.stop(CallState::Cancelled, Some(EndError::Call(error)));
    }

    fn give_up_upload(&mut self) {
        let error = CallError {
            code: "upload_stopped".to_owned(),
            message: "the client of this background call gave no more inputs, nor closed them, for too long".to_owned(),
            action: "submit the call again; with the same key it would have gone on before".to_owned(),
        };
        self.stop(CallState::Cancelled, Some(EndError::Call(error)));
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
        if self.end.is_none() && self.machine.is_complete() {
            self.stop(CallState::Succeeded, None);
        }
        if self.end.is_none() {
            self.tell_workers();
            self.lease().await?;
            let wanted = self.wanted();
            self.claim.want(wanted).await;
        }
        self.shared.log.settle().await?;
        self.publish();
        Ok(())
    }

    /// How many workers the call can use. While inputs may still come it keeps what it has.
    fn wanted(&self) -> u32 {
        let limit = self.shared.options.max_parallelism.unwrap_or(u32::MAX);
        let useful = u32::try_from(self.machine.outstanding()).unwrap_or(u32::MAX);
        let placed = self.placement.targets.iter().map(|target| target.workers).sum();
        let kept = match self.machine.total() {
            Some(_) => 0,
            None => placed,
        };
        // What its waiting workers lend is for its children.
        let limit = match self.shared.family.children() {
            0 => limit,
            _ => limit.min(placed.max(1)),
        };
        useful.max(kept).min(self.placement.slots.max(1)).min(limit)
    }

    /// Tells hosts how many workers they may have. A host keeps one while it holds inputs: none is taken from it unfinished.
    fn tell_workers(&mut self) {
        let holds = |id| self.machine.leased_to(id) > 0;
        self.hosts.tell_workers(holds, self.machine.received());
    }

    /// Leases inputs to hosts as far as their demand goes, turn by turn.
    async fn lease(&mut self) -> Result<(), Broken> {
        let mut from = 0;
        while self.machine.next().is_some() && !self.hosts.awaited() {
            let Some((id, _)) = self.hosts.willing_from(from) else {
                match from {
                    0 => break,
                    // The next turn.
                    _ => from = 0,
                }
                continue;
            };
            if !self.lease_to(id).await? {
                self.hosts.unwilling(id);
            }
            from = id + 1;
        }
        Ok(())
    }

    async fn lease_to(&mut self, id: LinkId) -> Result<bool, Broken> {
        let (Some(next), Some((_, host))) = (self.machine.next(), self.hosts.willing_from(id))
        else {
            return Ok(false);
        };
        let Some((wanted, bytes)) = host.allowance() else { return Ok(false) };
        let count = wanted.min(next.end - next.first);
        let inputs = self.queue.take(next.first, count, bytes).await?.at_attempt(next.attempt);
        let count = inputs.len() as u64;
        if !host.give(&inputs) {
            return Ok(false);
        }
        self.machine.lease(id, count);
        Ok(true)
    }

    fn stop(&mut self, state: CallState, error: Option<EndError>) {
        if self.end.is_none() {
            self.end = Some((state, error));
        }
    }

    fn break_down(&mut self, broken: &Broken) {
        let error = crate::chain(broken);
        tracing::error!(
            call = self.shared.spec.call,
            error,
            "call ended: its inputs or events could not be kept"
        );
        let code = if matches!(broken, StoreError::Full) { "disk_full" } else { "internal" };
        self.end = None;
        self.stop(
            CallState::Failed,
            Some(EndError::Call(CallError {
                code: code.to_owned(),
                message: "the gateway could not keep the inputs or events of this call".to_owned(),
                action: "look into the gateway's log, make room on its disk, and submit again"
                    .to_owned(),
            })),
        );
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

    async fn finish(mut self, saver: Option<Saver>, tasks: &Tasks) {
        let (state, error) = self.end.take().unwrap_or((CallState::Cancelled, None));
        self.state = state;
        self.publish();
        let record = self.shared.record.borrow().clone();
        let end = json!({
            "type": "end", "state": state, "done": record.done, "failed": record.failed,
            "total": record.total, "error": error,
        });
        let mut last = record;
        last.ended = Some(super::registry::now());
        (last.workers, last.hosts, last.waiting) = (0, 0, None);
        last.exit_code = if last.total == Some(1) { last.exit_code } else { None };
        last.error = error;
        let release = |hosts: Hosts| {
            for host in hosts.into_all() {
                if state == CallState::Succeeded {
                    host.finish(self.machine.received());
                }
            }
        };
        match saver {
            Some(saver) => {
                self.shared.log.close(event(end));
                release(self.hosts);
                let seq = self.shared.log.last_seq();
                last.seq = seq;
                if !saver.end(&last, || tasks.is_stopping()).await {
                    // The next gateway ends it.
                    return self.shared.log.suspend();
                }
                self.shared.record.send_replace(last);
                drop(self.live);
                self.shared.log.saved(seq);
            }
            None => {
                self.shared.record.send_replace(last);
                // Who sees the end may count on the room for another call.
                drop(self.live);
                self.shared.log.close(event(end));
                release(self.hosts);
            }
        }
        let call = &self.shared.spec.call;
        let (done, failed, late) =
            (self.machine.done(), self.machine.failed(), self.machine.late());
        tracing::info!(call, ?state, done, failed, late, "call ended");
    }
}
