//! The simple model that placement is held against: slots are given one at a time, from nothing, each to the call with the smallest dominant share, oldest first among equals, on a host where it has workers already if
//! possible, otherwise on the one with most room. A call that has workers keeps at least one.

use std::collections::HashMap;

use crate::calls::machine::LinkId;

/// A host as placement sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct HostRoom {
    /// Its connection.
    pub link: LinkId,
    /// Cores it gives to workers.
    pub cores: f64,
    /// Memory it gives to workers, in bytes.
    pub ram_bytes: u64,
}

/// A call as placement sees it; calls come oldest first.
#[derive(Debug, Clone, PartialEq)]
pub struct CallNeed {
    /// Names the call.
    pub call: u64,
    /// Cores of one worker.
    pub cpu: f64,
    /// Memory of one worker, in bytes.
    pub ram_bytes: u64,
    /// How many workers it can use.
    pub wanted: u32,
    /// Hosts that can run its image.
    pub hosts: Vec<LinkId>,
    /// Workers it was given last time.
    pub current: HashMap<LinkId, u32>,
}

/// Slack for sums of fractions of cores.
const EPSILON: f64 = 1e-6;

/// Workers per call, then per host; calls that get none are absent.
pub fn place(hosts: &[HostRoom], calls: &[CallNeed]) -> HashMap<u64, HashMap<LinkId, u32>> {
    let mut rooms: HashMap<LinkId, HostRoom> =
        hosts.iter().map(|host| (host.link, host.clone())).collect();
    let all_cores: f64 = hosts.iter().map(|host| host.cores).sum();
    let all_ram: f64 = hosts.iter().map(|host| host.ram_bytes as f64).sum();
    let mut given: HashMap<u64, HashMap<LinkId, u32>> = HashMap::new();
    let mut open: Vec<(&CallNeed, u32)> =
        calls.iter().filter(|call| call.wanted > 0).map(|call| (call, 0)).collect();
    for (call, count) in &mut open {
        let kept = call.current.iter().filter(|(_, workers)| **workers > 0).map(|(link, _)| *link);
        if let Some(link) = kept.min().and_then(|link| pick(&rooms, call, link)) {
            take(&mut rooms, &mut given, call, link);
            *count = 1;
        }
    }
    loop {
        open.retain(|(call, count)| *count < call.wanted);
        let smallest = open.iter_mut().min_by(|(a, have_a), (b, have_b)| {
            let share = |call: &CallNeed, have: u32| {
                let cores = call.cpu / all_cores;
                let ram = call.ram_bytes as f64 / all_ram;
                cores.max(ram) * f64::from(have)
            };
            share(a, *have_a).total_cmp(&share(b, *have_b))
        });
        let Some((call, count)) = smallest else { return given };
        let call = *call;
        match best(&rooms, &given, call) {
            Some(link) => {
                take(&mut rooms, &mut given, call, link);
                *count += 1;
            }
            None => open.retain(|(other, _)| other.call != call.call),
        }
    }
}

fn fits(room: &HostRoom, call: &CallNeed) -> bool {
    room.cores + EPSILON >= call.cpu && room.ram_bytes >= call.ram_bytes
}

fn pick(rooms: &HashMap<LinkId, HostRoom>, call: &CallNeed, link: LinkId) -> Option<LinkId> {
    let room = rooms.get(&link)?;
    (fits(room, call) && call.hosts.contains(&link)).then_some(link)
}

fn best(
    rooms: &HashMap<LinkId, HostRoom>,
    given: &HashMap<u64, HashMap<LinkId, u32>>,
    call: &CallNeed,
) -> Option<LinkId> {
    let here = |link: &LinkId| {
        given.get(&call.call).and_then(|given| given.get(link)).copied().unwrap_or(0)
    };
    let rank = |room: &&HostRoom| {
        let had = call.current.get(&room.link).copied().unwrap_or(0);
        (here(&room.link) < had, room.cores / call.cpu, std::cmp::Reverse(room.link))
    };
    call.hosts
        .iter()
        .filter_map(|link| rooms.get(link))
        .filter(|room| fits(room, call))
        .max_by(|a, b| rank(a).partial_cmp(&rank(b)).unwrap_or(std::cmp::Ordering::Equal))
        .map(|room| room.link)
}

fn take(
    rooms: &mut HashMap<LinkId, HostRoom>,
    given: &mut HashMap<u64, HashMap<LinkId, u32>>,
    call: &CallNeed,
    link: LinkId,
) {
    if let Some(room) = rooms.get_mut(&link) {
        room.cores -= call.cpu;
        room.ram_bytes -= call.ram_bytes;
        *given.entry(call.call).or_default().entry(link).or_default() += 1;
    }
}
