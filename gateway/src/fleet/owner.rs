use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use muster_wire::message::HostStatus;
use tokio::sync::{mpsc, watch};

use super::placement::{CallNeed, HostRoom, place, slots};
use super::{Command, Need, Placement, Target};
use crate::calls::machine::LinkId;
use crate::images;
use crate::link::HostLink;
use crate::tasks::Tasks;

struct Host {
    link: Arc<HostLink>,
    status: HostStatus,
}

struct Call {
    need: Need,
    wanted: u32,
    current: HashMap<LinkId, u32>,
    placement: watch::Sender<Placement>,
}

#[derive(Default)]
struct Owner {
    hosts: BTreeMap<LinkId, Host>,
    calls: BTreeMap<u64, Call>,
}

pub(super) async fn run(
    mut inbox: mpsc::Receiver<Command>,
    snapshot: watch::Sender<Arc<Vec<HostStatus>>>,
    tasks: Tasks,
) {
    let mut owner = Owner::default();
    loop {
        let command = tokio::select! {
            biased;
            () = tasks.stopping() => return,
            command = inbox.recv() => command,
        };
        let Some(command) = command else { return };
        let mut hosts_changed = owner.apply(command);
        while let Ok(command) = inbox.try_recv() {
            hosts_changed |= owner.apply(command);
        }
        if hosts_changed {
            let mut hosts: Vec<_> = owner.hosts.values().map(|host| host.status.clone()).collect();
            hosts.sort_by(|a, b| a.host.cmp(&b.host));
            metrics::gauge!("muster_hosts").set(hosts.len() as f64);
            snapshot.send_replace(Arc::new(hosts));
        }
        owner.place();
    }
}

impl Owner {
    /// Takes one piece of news in; says whether it was about hosts.
    fn apply(&mut self, command: Command) -> bool {
        match command {
            Command::HostUp(link, status) => {
                self.hosts.insert(link.id, Host { link, status });
                return true;
            }
            Command::HostChanged(link, status) => {
                if let Some(host) = self.hosts.get_mut(&link) {
                    host.status = status;
                }
                return true;
            }
            Command::HostDown(link) => {
                self.hosts.remove(&link);
                return true;
            }
            Command::CallUp(id, need, placement) => {
                let call = Call { need, wanted: 0, current: HashMap::new(), placement };
                self.calls.insert(id, call);
            }
            Command::CallWants(id, wanted) => {
                if let Some(call) = self.calls.get_mut(&id) {
                    call.wanted = wanted;
                }
            }
            Command::CallDown(id) => {
                self.calls.remove(&id);
            }
        }
        false
    }

    fn place(&mut self) {
        let rooms: Vec<HostRoom> = self
            .hosts
            .values()
            .map(|host| HostRoom {
                link: host.link.id,
                cores: host.status.cores,
                ram_bytes: host.status.ram_bytes,
                draining: host.status.draining,
            })
            .collect();
        let needs: Vec<CallNeed> = self
            .calls
            .iter()
            .map(|(&id, call)| CallNeed {
                call: id,
                cpu: call.need.cpu,
                ram_bytes: call.need.ram_bytes,
                wanted: call.wanted,
                hosts: self.suitable(&call.need),
                current: call.current.clone(),
            })
            .collect();
        let placed = place(&rooms, &needs);
        let mut ahead = 0;
        for (need, (id, call)) in needs.iter().zip(&mut self.calls) {
            call.current = placed.get(id).cloned().unwrap_or_default();
            let mut targets: Vec<Target> = call
                .current
                .iter()
                .filter_map(|(link, &workers)| {
                    Some(Target { link: self.hosts.get(link)?.link.clone(), workers })
                })
                .collect();
            targets.sort_by_key(|target| target.link.id);
            let fits = |link| need.hosts.contains(&link);
            let placement = Placement {
                hosts: rooms.len() as u32,
                slots: slots(&rooms, need.cpu, need.ram_bytes, fits),
                ahead,
                targets,
            };
            ahead += u32::from(call.wanted > 0);
            call.placement.send_if_modified(|old| {
                let changed = !alike(old, &placement);
                *old = placement;
                changed
            });
        }
    }

    fn suitable(&self, need: &Need) -> Vec<LinkId> {
        let fits = |host: &&Host| {
            host.status.pull
                || host.status.images.iter().any(|image| images::same(&image.name, &need.image))
        };
        self.hosts.values().filter(fits).map(|host| host.link.id).collect()
    }
}

fn alike(old: &Placement, new: &Placement) -> bool {
    let targets = |placement: &Placement| -> Vec<(LinkId, u32)> {
        placement.targets.iter().map(|target| (target.link.id, target.workers)).collect()
    };
    (old.hosts, old.slots, old.ahead) == (new.hosts, new.slots, new.ahead)
        && targets(old) == targets(new)
}
