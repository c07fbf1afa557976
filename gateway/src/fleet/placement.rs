//! How many workers each call has on each host. Pure: hosts and calls in, numbers out.
//!
//! Slots are given one at a time to the call with the smallest dominant share (the larger of its part of all cores and of all memory), oldest call first among equals, on a host where it has
//! workers already if possible, otherwise on the one with most room. A call that has workers keeps at least one: running inputs are never stopped for fairness.

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
    /// Takes nothing new.
    pub draining: bool,
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

/// How many workers of this size all hosts could hold if they were empty.
pub fn slots(hosts: &[HostRoom], cpu: f64, ram_bytes: u64, fits: impl Fn(LinkId) -> bool) -> u32 {
    hosts
        .iter()
        .filter(|host| fits(host.link) && !host.draining)
        .map(|host| {
            let by_cores = ((host.cores + EPSILON) / cpu).floor();
            let by_ram = (host.ram_bytes / ram_bytes.max(1)) as f64;
            by_cores.min(by_ram) as u32
        })
        .sum()
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
        .filter(|room| {
            !room.draining || here(&room.link) < call.current.get(&room.link).copied().unwrap_or(0)
        })
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn host(link: LinkId, cores: f64) -> HostRoom {
        HostRoom { link, cores, ram_bytes: 64 << 30, draining: false }
    }

    fn call(call: u64, wanted: u32, hosts: &[LinkId]) -> CallNeed {
        CallNeed {
            call,
            cpu: 1.0,
            ram_bytes: 1 << 30,
            wanted,
            hosts: hosts.to_vec(),
            current: HashMap::new(),
        }
    }

    fn count(placed: &HashMap<u64, HashMap<LinkId, u32>>, call: u64) -> u32 {
        placed.get(&call).map_or(0, |hosts| hosts.values().sum())
    }

    #[test]
    fn a_call_alone_takes_all_the_room_it_wants_over_all_hosts() {
        let placed = place(&[host(1, 2.0), host(2, 2.0)], &[call(7, 3, &[1, 2])]);
        assert_eq!(count(&placed, 7), 3);
        assert_eq!(placed[&7].len(), 2);
    }

    #[test]
    fn a_new_call_gets_its_share_of_a_full_fleet() {
        let mut old = call(1, 100, &[1]);
        old.current.insert(1, 4);
        let placed = place(&[host(1, 4.0)], &[old, call(2, 100, &[1])]);
        assert_eq!((count(&placed, 1), count(&placed, 2)), (2, 2));
    }

    #[test]
    fn a_call_with_workers_keeps_one_when_there_are_more_calls_than_slots() {
        let mut last = call(3, 1, &[1]);
        last.current.insert(1, 1);
        let placed = place(&[host(1, 1.0)], &[call(1, 1, &[1]), call(2, 1, &[1]), last]);
        assert_eq!((count(&placed, 1), count(&placed, 3)), (0, 1));
    }

    #[test]
    fn a_draining_host_keeps_its_workers_and_takes_no_new_ones() {
        let draining = HostRoom { draining: true, ..host(1, 4.0) };
        let mut old = call(1, 4, &[1]);
        old.current.insert(1, 2);
        let placed = place(&[draining], &[old, call(2, 1, &[1])]);
        assert_eq!((count(&placed, 1), count(&placed, 2)), (2, 0));
    }

    proptest! {
        #[test]
        fn no_host_is_given_more_than_it_has_and_no_call_more_than_it_wants(
            cores in proptest::collection::vec(1u32..9, 1..5),
            needs in proptest::collection::vec((1u32..30, 0u32..20, 1u64..20), 0..8),
        ) {
            let hosts: Vec<HostRoom> = cores.iter().enumerate()
                .map(|(link, cores)| host(link as u64, f64::from(*cores))).collect();
            let links: Vec<LinkId> = hosts.iter().map(|host| host.link).collect();
            let calls: Vec<CallNeed> = needs.iter().enumerate().map(|(id, (tenths, wanted, gib))| CallNeed {
                cpu: f64::from(*tenths) / 10.0, ram_bytes: gib << 30, ..call(id as u64, *wanted, &links)
            }).collect();
            let placed = place(&hosts, &calls);
            for host in &hosts {
                let used: f64 = calls.iter().map(|call| {
                    let workers = placed.get(&call.call).and_then(|hosts| hosts.get(&host.link));
                    call.cpu * f64::from(workers.copied().unwrap_or(0))
                }).sum();
                prop_assert!(used <= host.cores + 0.001);
            }
            for call in &calls {
                prop_assert!(count(&placed, call.call) <= call.wanted);
            }
            if let Some(call) = calls.iter().find(|call| call.wanted > 0 && count(&placed, call.call) == 0) {
                prop_assert!(calls.len() > 1 || slots(&hosts, call.cpu, call.ram_bytes, |_| true) == 0);
            }
        }
    }
}
