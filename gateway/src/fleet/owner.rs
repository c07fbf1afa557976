use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use muster_wire::message::HostStatus;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::directory::Directory;
use super::placement::{HostRoom, Placements, Slots};
use super::{Command, Drain, HostRecord, HostState, Links, Placement, Target};
use crate::calls::machine::LinkId;
use crate::link::HostLink;
use crate::tasks::Tasks;

/// Commands taken in before anything is placed.
const AT_ONCE: usize = 1024;
/// What telling calls about the line may take: this long for each call, so that it stays a small part of the time.
const NOTICE_EACH: Duration = Duration::from_micros(100);
/// The longest time between two notices.
const NOTICE_WITHIN: Duration = Duration::from_secs(1);

struct Owner {
    directory: Directory,
    links: HashMap<LinkId, Arc<HostLink>>,
    /// The same by name, for calls whose host is away.
    there: watch::Sender<Links>,
    placements: Placements,
    suspects: HashSet<LinkId>,
    /// Names of hosts that an admin drains.
    drained: HashSet<String>,
    /// Calls with workers on a host whose state has changed.
    concerned: BTreeSet<u64>,
    calls: HashMap<u64, watch::Sender<Placement>>,
    /// What calls were told of hosts and of those ahead of them may not be so any more.
    stale: bool,
    noticed: Instant,
}

pub(super) async fn run(
    mut inbox: mpsc::Receiver<Command>,
    directory: Directory,
    there: watch::Sender<Links>,
    tasks: Tasks,
) {
    let mut owner = Owner {
        directory,
        links: HashMap::new(),
        there,
        placements: Placements::default(),
        suspects: HashSet::new(),
        drained: HashSet::new(),
        concerned: BTreeSet::new(),
        calls: HashMap::new(),
        stale: false,
        noticed: Instant::now(),
    };
    loop {
        let command = tokio::select! {
            biased;
            () = tasks.stopping() => return,
            command = inbox.recv() => match command {
                Some(command) => Some(command),
                None => return,
            },
            () = tokio::time::sleep_until(owner.next_notice()), if owner.stale => None,
        };
        if let Some(command) = command {
            owner.apply(command);
            for _ in 0..AT_ONCE {
                let Ok(command) = inbox.try_recv() else { break };
                owner.apply(command);
            }
            owner.place();
        }
        if owner.stale && Instant::now() >= owner.next_notice() {
            owner.notice();
        }
    }
}

impl Owner {
    fn apply(&mut self, command: Command) {
        match command {
            Command::HostUp(link, status) => {
                let id = link.id;
                self.links.insert(id, link.clone());
                self.there.send_modify(|there| drop(there.insert(link.host.clone(), link)));
                self.host(id, status);
            }
            Command::HostChanged(link, status) => {
                if self.links.contains_key(&link) {
                    self.host(link, status);
                }
            }
            Command::HostDown(link) => {
                if let Some(gone) = self.links.remove(&link) {
                    self.there.send_if_modified(|there| {
                        let is_it = there.get(&gone.host).is_some_and(|at| at.id == link);
                        is_it && there.remove(&gone.host).is_some()
                    });
                }
                self.suspects.remove(&link);
                self.directory.remove(link);
                self.placements.host_gone(link);
                self.count_hosts();
            }
            Command::HostSuspect(link, suspect) => {
                match suspect {
                    true => self.suspects.insert(link),
                    false => self.suspects.remove(&link),
                };
                self.judge(link);
            }
            Command::Drain(name, drain, reply) => {
                // Whoever asked may be gone.
                let _ = reply.send(self.drain(name, drain));
            }
            Command::CallUp(id, need, placement) => {
                self.placements.call(id, &need);
                self.calls.insert(id, placement);
            }
            Command::CallWants(id, wanted) => {
                self.placements.want(id, wanted);
            }
            Command::CallDown(id) => {
                self.placements.call_gone(id);
                self.calls.remove(&id);
                self.stale = true;
            }
        }
    }

    /// A host is like this now. What is free on it changes all the time, and concerns nobody here.
    fn host(&mut self, link: LinkId, status: HostStatus) {
        if self.directory.set(link, status) {
            self.judge(link);
            self.count_hosts();
        }
    }

    /// Finds out whether a host gets anything new, and tells placement, its link, and those who look at hosts.
    fn judge(&mut self, link: LinkId) {
        let (Some(at), Some(HostRecord { status, state: before })) =
            (self.links.get(&link), self.directory.host(link))
        else {
            self.suspects.remove(&link);
            return;
        };
        let state = if status.draining || self.drained.contains(&status.host) {
            HostState::Draining
        } else if self.suspects.contains(&link) {
            HostState::Suspect
        } else {
            HostState::Ready
        };
        if state != before {
            at.set_state(state);
            self.directory.set_state(link, state);
            self.concerned.extend(self.placements.calls_on(link));
            self.stale = true;
        }
        let room = HostRoom {
            cores: status.cores + status.lent_cores,
            ram_bytes: status.ram_bytes,
            state,
            pull: status.pull,
            images: status.images.into_iter().map(|image| image.name).collect(),
            runtimes: status.runtimes,
            shares: status.shares.into_iter().filter(|it| it.there).map(|it| it.name).collect(),
        };
        self.placements.host(link, room);
    }

    fn drain(&mut self, name: String, drain: Drain) -> Option<HostRecord> {
        let links = self.links.iter();
        let link = links.filter(|(_, at)| at.host == name).map(|(link, _)| *link).max()?;
        match drain {
            Drain::Begin => self.drained.insert(name),
            Drain::Undo => self.drained.remove(&name),
        };
        self.judge(link);
        self.directory.host(link)
    }

    fn count_hosts(&mut self) {
        self.stale = true;
        metrics::gauge!("muster_hosts").set(self.links.len() as f64);
    }

    /// Places, and tells those whose workers have changed.
    fn place(&mut self) {
        let mut changed = self.placements.settle();
        changed.append(&mut self.concerned);
        for id in changed {
            let Some(placement) = self.calls.get(&id) else { continue };
            let targets: Vec<Target> = self
                .placements
                .of(id)
                .filter_map(|(link, workers)| {
                    Some(Target { link: self.links.get(&link)?.clone(), workers })
                })
                .collect();
            // A call that waits wants to know behind how many.
            self.stale |= targets.is_empty();
            let hosts = self.placements.hosts() as u32;
            let Slots { open: slots, closed: closed_slots } = self.placements.slots(id);
            placement.send_modify(|now| {
                let (ahead, targets) = (now.ahead, targets.into());
                *now = Placement { hosts, slots, closed_slots, ahead, targets };
            });
        }
    }

    fn next_notice(&self) -> Instant {
        self.noticed + (NOTICE_EACH * self.calls.len() as u32).min(NOTICE_WITHIN)
    }

    /// Tells every call how many hosts and slots there are, and how many calls are ahead of it. A change wakes its owner.
    fn notice(&mut self) {
        self.stale = false;
        self.noticed = Instant::now();
        let hosts = self.placements.hosts() as u32;
        for (id, ahead) in self.placements.line() {
            let Some(placement) = self.calls.get(&id) else { continue };
            let Slots { open: slots, closed } = self.placements.slots(id);
            placement.send_if_modified(|now| {
                // Whoever has workers does not wait for others.
                let ahead = if now.targets.is_empty() { ahead } else { 0 };
                let before = (now.hosts, now.slots, now.closed_slots, now.ahead);
                let after = (hosts, slots, closed, ahead);
                (now.hosts, now.slots, now.closed_slots, now.ahead) = after;
                before != after
            });
        }
    }
}
