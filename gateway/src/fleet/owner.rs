use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use muster_wire::message::HostStatus;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::directory::Directory;
use super::placement::{HostRoom, Placements};
use super::{Command, Placement, Target};
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
    placements: Placements,
    calls: HashMap<u64, watch::Sender<Placement>>,
    /// What calls were told of hosts and of those ahead of them may not be so any more.
    stale: bool,
    noticed: Instant,
}

pub(super) async fn run(mut inbox: mpsc::Receiver<Command>, directory: Directory, tasks: Tasks) {
    let mut owner = Owner {
        directory,
        links: HashMap::new(),
        placements: Placements::default(),
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
                self.links.insert(id, link);
                self.host(id, status);
            }
            Command::HostChanged(link, status) => {
                if self.links.contains_key(&link) {
                    self.host(link, status);
                }
            }
            Command::HostDown(link) => {
                self.links.remove(&link);
                self.directory.remove(link);
                self.placements.host_gone(link);
                self.count_hosts();
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
        if self.directory.set(link, status)
            && let Some(status) = self.directory.host(link)
        {
            let room = HostRoom {
                cores: status.cores,
                ram_bytes: status.ram_bytes,
                draining: status.draining,
                pull: status.pull,
                images: status.images.into_iter().map(|image| image.name).collect(),
            };
            self.placements.host(link, room);
            self.count_hosts();
        }
    }

    fn count_hosts(&mut self) {
        self.stale = true;
        metrics::gauge!("muster_hosts").set(self.links.len() as f64);
    }

    /// Places, and tells those whose workers have changed.
    fn place(&mut self) {
        for id in self.placements.settle() {
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
            let (hosts, slots) = (self.placements.hosts() as u32, self.placements.slots(id));
            placement.send_modify(|now| {
                *now = Placement { hosts, slots, ahead: now.ahead, targets: targets.into() };
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
            let slots = self.placements.slots(id);
            placement.send_if_modified(|now| {
                // Whoever has workers does not wait for others.
                let ahead = if now.targets.is_empty() { ahead } else { 0 };
                let changed = (now.hosts, now.slots, now.ahead) != (hosts, slots, ahead);
                (now.hosts, now.slots, now.ahead) = (hosts, slots, ahead);
                changed
            });
        }
    }
}
