use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const GIB: u64 = 1 << 30;

fn room(cores: f64) -> HostRoom {
    HostRoom {
        cores,
        ram_bytes: 64 * GIB,
        state: HostState::Ready,
        pull: false,
        images: vec!["x".into()],
        runtimes: vec!["runc".into()],
        shares: Vec::new(),
    }
}

fn need(cpu: f64, gib: u64) -> Need {
    Need {
        owner: "a".into(),
        image: "x".into(),
        runtime: None,
        cpu,
        ram_bytes: gib * GIB,
        shares: Vec::new(),
    }
}

/// The same for another owner.
fn of(owner: &str, need: Need) -> Need {
    Need { owner: owner.into(), ..need }
}

/// A fleet of hosts with so many cores, numbered from 1.
fn fleet(cores: &[f64]) -> Placements {
    let mut placements = Placements::default();
    for (link, cores) in (1..).zip(cores) {
        placements.host(link, room(*cores));
    }
    placements
}

fn enter(placements: &mut Placements, id: u64, need: &Need, wanted: u32) {
    placements.call(id, need);
    placements.want(id, wanted);
    placements.settle();
}

fn count(placements: &Placements, id: u64) -> u32 {
    placements.of(id).map(|(_, workers)| workers).sum()
}

#[test]
fn a_call_alone_takes_all_the_room_it_wants_over_all_hosts() {
    let mut placements = fleet(&[2.0, 2.0]);
    enter(&mut placements, 7, &need(1.0, 1), 3);
    assert_eq!((count(&placements, 7), placements.of(7).count()), (3, 2));
    assert_eq!(placements.slots(7), Slots { open: 4, closed: 0 });
}

#[test]
fn a_new_call_gets_its_share_of_a_full_fleet() {
    let mut placements = fleet(&[4.0]);
    enter(&mut placements, 1, &need(1.0, 1), 100);
    assert_eq!(count(&placements, 1), 4);
    enter(&mut placements, 2, &need(1.0, 1), 100);
    assert_eq!((count(&placements, 1), count(&placements, 2)), (2, 2));
}

#[test]
fn a_call_with_workers_keeps_one_when_there_are_more_calls_than_slots() {
    let mut placements = fleet(&[1.0]);
    enter(&mut placements, 3, &need(1.0, 1), 1);
    enter(&mut placements, 1, &need(1.0, 1), 1);
    enter(&mut placements, 2, &need(1.0, 1), 1);
    assert_eq!([1, 2, 3].map(|id| count(&placements, id)), [0, 0, 1]);
    placements.call_gone(3);
    placements.settle();
    assert_eq!([1, 2].map(|id| count(&placements, id)), [1, 0], "the oldest is next");
}

#[test]
fn a_draining_host_gives_its_workers_up_and_takes_no_new_ones() {
    let mut placements = fleet(&[4.0, 1.0]);
    enter(&mut placements, 1, &need(1.0, 1), 3);
    placements.host(1, HostRoom { state: HostState::Draining, ..room(4.0) });
    placements.settle();
    assert_eq!(placements.of(1).collect::<Vec<_>>(), [(2, 1)]);
    assert_eq!(placements.slots(1), Slots { open: 1, closed: 4 });
    placements.host(1, room(4.0));
    placements.settle();
    assert_eq!(count(&placements, 1), 3);
}

#[test]
fn a_suspect_host_keeps_its_workers_and_takes_no_new_ones() {
    let mut placements = fleet(&[4.0]);
    enter(&mut placements, 1, &need(1.0, 1), 2);
    placements.host(1, HostRoom { state: HostState::Suspect, ..room(4.0) });
    placements.want(1, 4);
    enter(&mut placements, 2, &need(1.0, 1), 1);
    assert_eq!((count(&placements, 1), count(&placements, 2)), (2, 0));
    assert_eq!(placements.slots(2), Slots { open: 0, closed: 4 });
    assert_eq!(placements.calls_on(1).collect::<Vec<_>>(), [1]);
}

#[test]
fn what_a_host_that_goes_had_is_given_elsewhere() {
    let mut placements = fleet(&[2.0, 2.0]);
    enter(&mut placements, 1, &need(1.0, 1), 2);
    placements.host_gone(1);
    assert_eq!(placements.settle(), BTreeSet::from([1]));
    assert_eq!(placements.of(1).collect::<Vec<_>>(), [(2, 2)]);
}

#[test]
fn a_host_that_shrinks_keeps_what_fits() {
    let mut placements = fleet(&[4.0]);
    enter(&mut placements, 1, &need(1.0, 1), 4);
    placements.host(1, room(3.0));
    placements.settle();
    assert_eq!(count(&placements, 1), 3);
}

#[test]
fn calls_go_where_their_image_is_and_where_it_may_be_pulled() {
    let mut placements = fleet(&[2.0]);
    let other = Need { image: "y".into(), ..need(1.0, 1) };
    enter(&mut placements, 1, &other, 4);
    assert_eq!((count(&placements, 1), placements.slots(1)), (0, Slots::default()));
    placements.host(2, HostRoom { pull: true, ..room(3.0) });
    placements.settle();
    assert_eq!(placements.of(1).collect::<Vec<_>>(), [(2, 3)]);
}

fn sharing(cores: f64, shares: &[&str]) -> HostRoom {
    HostRoom { shares: shares.iter().map(|name| (*name).to_owned()).collect(), ..room(cores) }
}

fn with(shares: &[&str], need: Need) -> Need {
    Need { shares: shares.iter().map(|name| (*name).to_owned()).collect(), ..need }
}

#[test]
fn calls_go_where_all_their_shares_are_and_others_anywhere() {
    let mut placements = fleet(&[4.0]);
    placements.host(2, sharing(2.0, &["data"]));
    placements.host(3, sharing(1.0, &["data", "out"]));
    enter(&mut placements, 1, &with(&["data", "out"], need(1.0, 1)), 9);
    assert_eq!(placements.of(1).collect::<Vec<_>>(), [(3, 1)]);
    assert_eq!(placements.slots(1), Slots { open: 1, closed: 0 });
    enter(&mut placements, 2, &with(&["data"], need(1.0, 1)), 9);
    assert_eq!(placements.slots(2), Slots { open: 3, closed: 0 });
    assert!(placements.of(2).all(|(link, _)| link != 1));
    enter(&mut placements, 3, &with(&["nfs"], need(1.0, 1)), 9);
    assert_eq!((count(&placements, 3), placements.slots(3)), (0, Slots::default()));
    enter(&mut placements, 4, &need(1.0, 1), 9);
    assert_eq!(placements.slots(4), Slots { open: 7, closed: 0 });
    assert!(placements.of(4).any(|(link, _)| link == 1));
}

#[test]
fn a_host_that_loses_a_share_loses_the_workers_that_need_it_and_gets_them_back() {
    let mut placements = Placements::default();
    placements.host(1, sharing(4.0, &["data"]));
    enter(&mut placements, 1, &with(&["data"], need(1.0, 1)), 2);
    enter(&mut placements, 2, &need(1.0, 1), 2);
    placements.host(1, sharing(4.0, &[]));
    assert_eq!(placements.settle(), BTreeSet::from([1]));
    assert_eq!([1, 2].map(|id| count(&placements, id)), [0, 2]);
    placements.host(1, sharing(4.0, &["data"]));
    placements.settle();
    assert_eq!([1, 2].map(|id| count(&placements, id)), [2, 2]);
}

#[test]
fn hosts_with_a_share_that_take_nothing_new_are_counted_apart() {
    let mut placements = fleet(&[4.0]);
    placements.host(2, HostRoom { state: HostState::Suspect, ..sharing(2.0, &["data"]) });
    enter(&mut placements, 1, &with(&["data"], need(1.0, 1)), 9);
    assert_eq!((count(&placements, 1), placements.slots(1)), (0, Slots { open: 0, closed: 2 }));
}

#[test]
fn calls_go_where_their_runtime_is_allowed_and_nowhere_else() {
    let mut placements = fleet(&[2.0, 2.0]);
    let other = Need { runtime: Some("runsc".into()), ..need(1.0, 1) };
    enter(&mut placements, 1, &need(1.0, 1), 4);
    enter(&mut placements, 2, &other, 4);
    assert_eq!((count(&placements, 2), placements.slots(2)), (0, Slots::default()));
    let both = vec!["runc".to_owned(), "runsc".to_owned()];
    placements.host(2, HostRoom { runtimes: both, ..room(2.0) });
    placements.settle();
    assert!(placements.of(2).all(|(link, _)| link == 2));
    assert_eq!((count(&placements, 1), count(&placements, 2)), (2, 2));
}

#[test]
fn a_large_worker_gets_room_from_several_small_ones() {
    let mut placements = fleet(&[8.0, 8.0]);
    enter(&mut placements, 1, &need(1.0, 1), 8);
    enter(&mut placements, 2, &need(1.0, 1), 8);
    enter(&mut placements, 3, &need(4.0, 1), 1);
    assert_eq!([1, 2, 3].map(|id| count(&placements, id)), [6, 6, 1]);
}

#[test]
fn only_calls_whose_workers_changed_are_told() {
    let mut placements = fleet(&[2.0]);
    enter(&mut placements, 1, &need(1.0, 1), 2);
    for id in 2..50 {
        enter(&mut placements, id, &need(1.0, 1), 1);
    }
    placements.call_gone(40);
    assert_eq!(placements.settle(), BTreeSet::new());
    placements.call_gone(1);
    assert_eq!(placements.settle(), BTreeSet::from([3]), "2 has a slot already");
    assert_eq!(placements.line().last(), Some((49, 46)));
}

#[test]
fn a_call_over_a_large_fleet_is_spread_evenly() {
    let mut placements = fleet(&[100.0; 100]);
    enter(&mut placements, 1, &need(1.0, 0), 5_000);
    enter(&mut placements, 2, &need(1.0, 0), 10_000);
    assert_eq!((count(&placements, 1), count(&placements, 2)), (5_000, 5_000));
    assert!(placements.of(1).all(|(_, workers)| (35..=65).contains(&workers)));
}

#[test]
fn an_owner_with_many_calls_gets_no_more_than_one_with_a_single_call() {
    let mut placements = fleet(&[8.0, 8.0]);
    for id in 1..=8 {
        enter(&mut placements, id, &of("many", need(1.0, 1)), 10);
    }
    enter(&mut placements, 9, &of("one", need(1.0, 1)), 100);
    assert_eq!(count(&placements, 9), 8);
    assert!((1..=8).all(|id| count(&placements, id) == 1));
    // The calls of one owner share what it has.
    enter(&mut placements, 10, &of("one", need(1.0, 1)), 100);
    assert_eq!([9, 10].map(|id| count(&placements, id)), [4, 4]);
}

#[test]
fn an_owner_without_a_slot_gets_some_though_every_call_has_only_one() {
    let mut placements = fleet(&[4.0]);
    for id in 1..=4 {
        enter(&mut placements, id, &of("many", need(1.0, 1)), 1);
    }
    enter(&mut placements, 5, &of("one", need(2.0, 1)), 1);
    assert_eq!(count(&placements, 5), 1);
    assert_eq!((1..=4).map(|id| count(&placements, id)).sum::<u32>(), 2);
    placements.call_gone(5);
    placements.settle();
    assert!((1..=4).all(|id| count(&placements, id) == 1), "they get them back");
}

#[test]
fn half_of_a_large_fleet_goes_to_another_owner() {
    let mut placements = fleet(&[100.0; 100]);
    enter(&mut placements, 1, &of("a", need(1.0, 0)), 10_000);
    enter(&mut placements, 2, &of("b", need(1.0, 0)), 10_000);
    assert_eq!((count(&placements, 1), count(&placements, 2)), (5_000, 5_000));
}

#[test]
fn what_one_owner_cannot_use_others_have() {
    let mut placements = fleet(&[9.0]);
    enter(&mut placements, 1, &of("a", need(1.0, 1)), 100);
    enter(&mut placements, 2, &of("b", need(1.0, 1)), 2);
    enter(&mut placements, 3, &of("c", need(1.0, 1)), 100);
    let counts = [1, 2, 3].map(|id| count(&placements, id));
    assert_eq!(counts[1], 2);
    assert_eq!(counts[0] + counts[2], 7);
    assert!(counts[0].abs_diff(counts[2]) <= 1, "{counts:?}");
}

/// The largest number of slots for each owner such that no poorer one could have more.
fn even(slots: u32, wants: &[u32]) -> Vec<u32> {
    let mut given = vec![0; wants.len()];
    for _ in 0..slots {
        let hungry = (0..wants.len()).filter(|owner| given[*owner] < wants[*owner]);
        let Some(poorest) = hungry.min_by_key(|owner| given[*owner]) else { break };
        given[poorest] += 1;
    }
    given
}

#[derive(Debug, Clone)]
enum Step {
    Host(u64, u32),
    Drain(u64),
    HostGone(u64),
    Call(usize),
    Want(usize, u32),
    Gone(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1u64..7, 1u32..17).prop_map(|(link, cores)| Step::Host(link, cores)),
        (1u64..7).prop_map(Step::Drain),
        (1u64..7).prop_map(Step::HostGone),
        (0usize..6).prop_map(Step::Call),
        (any::<usize>(), 0u32..20).prop_map(|(call, wanted)| Step::Want(call, wanted)),
        (any::<usize>(), 0u32..20).prop_map(|(call, wanted)| Step::Want(call, wanted)),
        any::<usize>().prop_map(Step::Gone),
    ]
}

proptest! {
    #[test]
    fn no_host_is_given_more_than_it_has_no_call_more_than_it_wants_and_none_is_stopped_for_another(
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let needs = [
            need(1.0, 1),
            need(0.3, 5),
            of("b", need(2.0, 3)),
            Need { image: "y".into(), ..need(1.0, 1) },
            of("b", need(1.0, 1)),
            of("c", need(0.5, 9)),
        ];
        let (mut placements, mut next) = (Placements::default(), 0);
        let mut hosts: HashMap<u64, (u32, bool)> = HashMap::new();
        let mut calls: BTreeMap<u64, (usize, u32)> = BTreeMap::new();
        for step in steps {
            let pick = |which: usize| calls.keys().nth(which % calls.len().max(1)).copied();
            let had: Vec<u64> =
                calls.keys().copied().filter(|id| count(&placements, *id) > 0).collect();
            let mut may_lose = false;
            match step {
                Step::Host(link, cores) => {
                    may_lose = hosts.insert(link, (cores, false)).is_some();
                    placements.host(link, room(f64::from(cores)));
                }
                Step::Drain(link) => {
                    if let Some(host) = hosts.get_mut(&link) {
                        host.1 = true;
                        may_lose = true;
                        placements.host(link, HostRoom { state: HostState::Draining, ..room(f64::from(host.0)) });
                    }
                }
                Step::HostGone(link) => {
                    may_lose = hosts.remove(&link).is_some();
                    placements.host_gone(link);
                }
                Step::Call(which) => {
                    next += 1;
                    calls.insert(next, (which, 0));
                    placements.call(next, &needs[which]);
                }
                Step::Want(which, wanted) => if let Some(id) = pick(which) {
                    calls.get_mut(&id).expect("picked").1 = wanted;
                    placements.want(id, wanted);
                },
                Step::Gone(which) => if let Some(id) = pick(which) {
                    calls.remove(&id);
                    placements.call_gone(id);
                },
            }
            placements.settle();
            let mut used: HashMap<u64, Size> = HashMap::new();
            for (&id, &(which, wanted)) in &calls {
                let size = Size::of(needs[which].cpu, needs[which].ram_bytes);
                for (link, workers) in placements.of(id) {
                    let used = used.entry(link).or_default();
                    *used = used.plus(size.times(i64::from(workers)));
                }
                prop_assert!(count(&placements, id) <= wanted);
                // For another owner a call gives up its last worker too.
                let alone = calls.values().all(|(other, _)| needs[*other].owner == needs[which].owner);
                if had.contains(&id) && wanted > 0 && !may_lose && alone {
                    prop_assert!(count(&placements, id) > 0, "{} lost its last worker", id);
                }
                // Nobody waits beside room that fits.
                if count(&placements, id) < wanted && which != 3 {
                    for (link, &(cores, draining)) in &hosts {
                        let all = Size { cpu: i64::from(cores) * 1000, ram: 64 * GIB as i64 };
                        let of_all = calls.keys().flat_map(|id| placements.of(*id).map(|held| (*id, held)));
                        let here = of_all.filter(|(_, (at, _))| at == link);
                        let taken = here.fold(Size::default(), |sum, (id, (_, workers))| {
                            let need = &needs[calls[&id].0];
                            sum.plus(Size::of(need.cpu, need.ram_bytes).times(i64::from(workers)))
                        });
                        prop_assert!(draining || !all.minus(taken).holds(size));
                    }
                }
            }
            for (link, used) in used {
                let all = Size { cpu: i64::from(hosts[&link].0) * 1000, ram: 64 * GIB as i64 };
                prop_assert!(all.holds(used), "host {} has {:?}, gave {:?}", link, all, used);
            }
        }
    }

    #[test]
    fn calls_of_one_size_have_what_the_model_gives_them(
        cores in proptest::collection::vec(1u32..9, 1..5),
        wants in proptest::collection::vec(proptest::collection::vec(0u32..20, 6), 1..8),
    ) {
        let fleet_cores: Vec<f64> = cores.iter().copied().map(f64::from).collect();
        let mut placements = fleet(&fleet_cores);
        let rooms: Vec<model::HostRoom> = (1..).zip(&fleet_cores)
            .map(|(link, &cores)| model::HostRoom { link, cores, ram_bytes: 64 * GIB }).collect();
        let links: Vec<LinkId> = rooms.iter().map(|room| room.link).collect();
        let mut current: HashMap<u64, HashMap<LinkId, u32>> = HashMap::new();
        (0..6).for_each(|id| placements.call(id, &need(1.0, 1)));
        for round in wants {
            let calls: Vec<model::CallNeed> = (0..6).zip(&round).map(|(id, &wanted)| model::CallNeed {
                call: id, cpu: 1.0, ram_bytes: GIB, wanted, hosts: links.clone(),
                current: current.get(&id).cloned().unwrap_or_default(),
            }).collect();
            current = model::place(&rooms, &calls);
            (0..6).zip(&round).for_each(|(id, &wanted)| placements.want(id, wanted));
            placements.settle();
            // Who of several equals has one slot more, or the only one, depends on who was there first.
            let mut ours: Vec<u32> = (0..6).map(|id| count(&placements, id)).collect();
            let mut models: Vec<u32> =
                (0..6).map(|id| current.get(&id).map_or(0, |hosts| hosts.values().sum())).collect();
            ours.sort_unstable();
            models.sort_unstable();
            prop_assert_eq!(ours, models);
        }
    }

    #[test]
    fn owners_of_calls_of_one_size_have_what_the_model_gives_them(
        cores in proptest::collection::vec(1u32..9, 1..5),
        owners in proptest::collection::vec(1usize..5, 1..5),
        wants in proptest::collection::vec(proptest::collection::vec(0u32..20, 20), 1..6),
    ) {
        let fleet_cores: Vec<f64> = cores.iter().copied().map(f64::from).collect();
        let mut placements = fleet(&fleet_cores);
        let calls: Vec<(usize, u64)> = owners.iter().enumerate()
            .flat_map(|(owner, count)| (0..*count).map(move |call| (owner, (owner * 5 + call) as u64)))
            .collect();
        for &(owner, id) in &calls {
            placements.call(id, &of(&owner.to_string(), need(1.0, 1)));
        }
        for round in wants {
            let (mut wanted, mut has) = (vec![0; owners.len()], vec![0; owners.len()]);
            for &(owner, id) in &calls {
                placements.want(id, round[id as usize]);
                wanted[owner] += round[id as usize];
            }
            placements.settle();
            for &(owner, id) in &calls {
                has[owner] += count(&placements, id);
            }
            let mut model = even(cores.iter().sum(), &wanted);
            // Who of several equals has one slot more depends on who was there first.
            prop_assert!(has.iter().zip(&wanted).all(|(has, wanted)| has <= wanted));
            has.sort_unstable();
            model.sort_unstable();
            prop_assert_eq!(has, model);
        }
    }

    #[test]
    fn shares_of_calls_of_all_sizes_are_as_even_as_in_the_model(
        wants in proptest::collection::vec((0usize..3, 1u32..60), 2..6),
    ) {
        let needs = [need(1.0, 1), need(2.0, 1), need(0.5, 4)];
        let mut placements = fleet(&[8.0; 4]);
        let rooms: Vec<model::HostRoom> =
            (1..5).map(|link| model::HostRoom { link, cores: 8.0, ram_bytes: 64 * GIB }).collect();
        let calls: Vec<model::CallNeed> = (0..).zip(&wants).map(|(id, &(which, wanted))| model::CallNeed {
            call: id, cpu: needs[which].cpu, ram_bytes: needs[which].ram_bytes, wanted,
            hosts: vec![1, 2, 3, 4], current: HashMap::new(),
        }).collect();
        let placed = model::place(&rooms, &calls);
        for (id, &(which, wanted)) in (0..).zip(&wants) {
            enter(&mut placements, id, &needs[which], wanted);
        }
        // In cores of 32. Who comes later finds hosts with room for less than a worker: up to a worker on each of the four hosts, which is what the model may be ahead by.
        let share = |which: usize, workers: u32| {
            needs[which].cpu.max(needs[which].ram_bytes as f64 / GIB as f64 / 8.0) * f64::from(workers)
        };
        let models = |id: u64| placed.get(&id).map_or(0, |hosts| hosts.values().sum());
        let calls = || (0..).zip(wants.iter().copied());
        let poorest = calls().filter(|&(id, (_, wanted))| models(id) < wanted)
            .map(|(id, (which, _))| share(which, models(id))).fold(f64::MAX, f64::min);
        for (id, (which, wanted)) in calls().filter(|&(id, (_, wanted))| count(&placements, id) < wanted) {
            let due = poorest.min(share(which, wanted));
            let ours = share(which, count(&placements, id));
            prop_assert!(ours >= due - 4.0, "call {} has {} and not {}", id, ours, due);
        }
    }
}
