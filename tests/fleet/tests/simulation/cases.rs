//! Faults one by one, each with what exactly it may cost and how long it may take.

use std::time::Duration;

use muster_fleet::plan::Plan;
use muster_gateway::calls::CallHandle;
use muster_gateway::fleet::{Drain, HostState};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::checker::{self, Told};
use crate::cluster::{Cluster, simulate};
use crate::network::Way;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Whether the gateway lists a host like this.
fn is(host: usize, state: HostState) -> impl Fn(&Cluster) -> bool {
    move |it| it.listed(host).is_some_and(|record| record.state == state)
}

/// A call of so many inputs that take so long, for which every core of new hosts works; and who reads it.
async fn at_work(
    cores: &[usize],
    inputs: u64,
    takes: Duration,
) -> (Cluster, CallHandle, JoinHandle<Result<Told, String>>) {
    let cluster = Cluster::with_hosts(cores).await;
    let plan = Plan { takes_us: takes.as_micros() as u64, ..Plan::default() };
    let call = cluster.call_of("somebody", inputs, plan).await;
    let reading = tokio::spawn(checker::read(call.clone(), inputs));
    let all: usize = cores.iter().sum();
    cluster.until("all work", |it| it.tally.of(call.id()).now == all as u64).await;
    (cluster, call, reading)
}

#[test]
fn ten_seconds_of_silence_either_way_or_both_cost_nothing() {
    for way in [Way::Up, Way::Down, Way::Both] {
        simulate(async {
            let cluster = Cluster::with_hosts(&[4]).await;
            let call = cluster.call(40, seconds(4)).await;
            let reading = tokio::spawn(checker::read(call.clone(), 40));
            tokio::time::sleep(seconds(5)).await;
            let path = cluster.path(0).expect("a host");
            path.hold(way);
            tokio::time::sleep(seconds(10)).await;
            path.release(way);
            let told = reading.await.expect("no panic").expect("whole");
            assert!(told.attempts.values().all(|attempt| *attempt == 1), "{way:?}");
            assert_eq!(cluster.listed(0).expect("a host").state, HostState::Ready);
        });
    }
}

#[test]
fn a_silent_host_gets_nothing_new_and_within_a_minute_its_inputs_run_elsewhere() {
    simulate(async {
        let (cluster, _, reading) = at_work(&[2, 2], 4, seconds(10)).await;
        cluster.path(0).expect("a host").hold(Way::Both);
        let took = cluster.until("it is suspect", is(0, HostState::Suspect)).await;
        assert!(took >= seconds(4) && took <= seconds(10), "{took:?}");
        // Nothing is placed there.
        let tasks = cluster.host(0).expect("a host").call_tasks();
        let plan = Plan { takes_us: 10_000_000, ..Plan::default() };
        let next = cluster.call_of("somebody", 4, plan).await;
        let took = cluster.until("it is given up", |it| it.listed(0).is_none()).await + took;
        assert!(took <= seconds(58), "{took:?}");
        let given_up = Instant::now();
        assert_eq!(cluster.host(0).expect("a host").call_tasks(), tasks, "only what was there");
        let told = reading.await.expect("no panic").expect("whole");
        assert_eq!(told.attempts.values().filter(|attempt| **attempt == 2).count(), 2);
        // At once, beside the other call: two rounds of ten seconds at most.
        let took = told.ended.expect("an end") - given_up;
        assert!(took < seconds(22), "{took:?}");
        drop(checker::read(next, 4).await.expect("whole"));
    });
}

#[test]
fn a_host_that_is_cut_off_ends_its_workers_by_itself_and_its_late_outputs_are_fenced() {
    simulate(async {
        let (cluster, _, reading) = at_work(&[2, 2], 4, seconds(200)).await;
        let path = cluster.path(0).expect("a host");
        path.hold(Way::Both);
        let host = || cluster.host(0).expect("a host");
        let took = cluster.until("its workers end", |_| host().workers() == 0).await;
        assert!(took > seconds(100) && took < seconds(125), "{took:?}");
        tokio::time::sleep(seconds(180)).await;
        path.release(Way::Both);
        let told = reading.await.expect("no panic").expect("whole");
        assert_eq!(told.state, "succeeded");
        cluster.until("it is back", is(0, HostState::Ready)).await;
    });
}

#[test]
fn a_host_that_hears_nobody_or_is_not_heard_for_minutes_ends_its_workers_and_others_do_its_inputs_once()
 {
    for (way, given_up) in [(Way::Up, seconds(58)), (Way::Down, seconds(140))] {
        simulate(async {
            let (cluster, call, reading) = at_work(&[2, 2], 4, seconds(200)).await;
            let path = cluster.path(0).expect("a host");
            path.hold(way);
            // Heard, it has its inputs until it sees by itself that its gateway is silent; not heard, others get them before.
            let took = cluster.until("it is given up", |it| it.listed(0).is_none()).await;
            assert!(took <= given_up, "{way:?}: {took:?}");
            let host = || cluster.host(0).expect("a host");
            let took = cluster.until("its workers end", |_| host().workers() == 0).await + took;
            assert!(took > seconds(100) && took < seconds(140), "{way:?}: {took:?}");
            // One direction alone lets nobody in.
            tokio::time::sleep(seconds(300)).await;
            assert!(cluster.listed(0).is_none(), "{way:?}");
            path.release(way);
            cluster.until("it is back", is(0, HostState::Ready)).await;
            let told = reading.await.expect("no panic").expect("whole");
            assert_eq!(told.state, "succeeded");
            let again = told.attempts.values().filter(|attempt| **attempt == 2).count();
            assert_eq!((again, told.attempts.len()), (2, 4), "{way:?}");
            assert_eq!(cluster.tally.of(call.id()).now, 0);
        });
    }
}

#[test]
fn silence_that_changes_its_direction_loses_nothing_and_nothing_comes_twice() {
    simulate(async {
        let (cluster, _, reading) = at_work(&[2, 2], 40, seconds(20)).await;
        let path = cluster.path(0).expect("a host");
        let mut way = Way::Up;
        for held in [30, 70, 130, 9, 200, 60, 45] {
            path.hold(way);
            tokio::time::sleep(seconds(held)).await;
            let next = if way == Way::Up { Way::Down } else { Way::Up };
            // Never both at once, and never neither.
            path.hold(next);
            path.release(way);
            way = next;
        }
        path.release(Way::Both);
        let told = reading.await.expect("no panic").expect("whole");
        assert_eq!(told.state, "succeeded");
        assert_eq!(told.attempts.len(), 40);
    });
}

#[test]
fn a_call_says_that_its_host_does_not_answer() {
    simulate(async {
        let (cluster, _, reading) = at_work(&[2], 2, seconds(30)).await;
        let path = cluster.path(0).expect("a host");
        path.hold(Way::Up);
        tokio::time::sleep(seconds(25)).await;
        path.release(Way::Up);
        let told = reading.await.expect("no panic").expect("whole");
        assert!(told.reasons.iter().any(|why| why.contains("host h0 does not answer")), "{told:?}");
        assert!(told.attempts.values().all(|attempt| *attempt == 1));
    });
}

#[test]
fn a_broken_connection_costs_nothing_where_the_host_is_back_soon() {
    simulate(async {
        let (cluster, _, reading) = at_work(&[2, 2], 40, seconds(3)).await;
        for _ in 0..3 {
            cluster.path(0).expect("a host").cut();
            tokio::time::sleep(seconds(4)).await;
        }
        let told = reading.await.expect("no panic").expect("whole");
        assert!(told.attempts.values().all(|attempt| *attempt == 1), "nothing is run again");
    });
}

#[test]
fn a_host_that_dies_gives_its_inputs_back_after_some_seconds_or_at_once_when_it_starts_again() {
    simulate(async {
        for back in [false, true] {
            let (mut cluster, _, reading) = at_work(&[2, 2], 4, seconds(30)).await;
            let died = Instant::now();
            let (host, path) = cluster.remove(0).expect("a host");
            path.cut();
            drop(host);
            if back {
                cluster.boot(0, 2);
            }
            let told = reading.await.expect("no panic").expect("whole");
            assert_eq!(told.attempts.values().filter(|attempt| **attempt == 2).count(), 2);
            // Both run again on the hosts there are, once those are free.
            let took = told.ended.expect("an end") - died;
            let within = if back { seconds(34) } else { seconds(61) };
            assert!(took < within, "{took:?}");
        }
    });
}

#[test]
fn what_runs_goes_on_while_the_gateway_is_away_and_ends_with_the_next_one_without_being_run_again()
{
    simulate(async {
        let mut cluster = Cluster::with_hosts(&[2, 2]).await;
        let plan = Plan { takes_us: 20_000_000, ..Plan::default() };
        let call = cluster.background(8, plan).await;
        let reading = tokio::spawn(checker::read_on(cluster.front.subscribe(), call.clone(), 8));
        cluster.until("all work", |it| it.tally.of(call.id()).now == 4).await;
        for away in [5, 30] {
            tokio::time::sleep(seconds(5)).await;
            cluster.crash_gateway();
            tokio::time::sleep(seconds(away)).await;
            cluster.start_gateway().await;
        }
        let told = reading.await.expect("no panic").expect("whole");
        // What had not begun when the gateway came back is counted from 2.
        let attempts: Vec<u32> = told.attempts.into_values().collect();
        assert_eq!(attempts, [1, 1, 1, 1, 2, 2, 2, 2]);
        assert_eq!(cluster.tally.of(call.id()).begun, 4, "the same workers");
    });
}

#[test]
fn hosts_drop_foreground_calls_of_a_gateway_that_has_died_and_any_call_after_two_minutes() {
    simulate(async {
        let (mut cluster, call, reading) = at_work(&[2], 2, seconds(600)).await;
        cluster.crash_gateway();
        drop(reading);
        tokio::time::sleep(seconds(30)).await;
        assert_eq!(cluster.tally.of(call.id()).now, 2, "nobody else is there to ask for it");
        cluster.start_gateway().await;
        let took = cluster.until("they are gone", |it| it.tally.of(call.id()).now == 0).await;
        assert!(took < seconds(17), "{took:?}");
        cluster.until("the host is there", is(0, HostState::Ready)).await;
        let plan = Plan { takes_us: 600_000_000, ..Plan::default() };
        let kept = cluster.background(2, plan).await;
        cluster.until("all work", |it| it.tally.of(kept.id()).now == 2).await;
        cluster.crash_gateway();
        let took = cluster.until("they are gone", |it| it.tally.of(kept.id()).now == 0).await;
        assert!(took > seconds(110) && took < seconds(130), "{took:?}");
    });
}

#[test]
fn a_machine_without_power_gets_its_name_back_when_it_starts_again() {
    simulate(async {
        let (mut cluster, call, reading) = at_work(&[2], 2, seconds(5)).await;
        let (host, path) = cluster.remove(0).expect("a host");
        path.hold(Way::Both);
        drop(host);
        cluster.boot(0, 2);
        // Until the old one is suspect, it is refused as its twin.
        let took = cluster.until("it works again", |it| it.tally.of(call.id()).now == 2).await;
        assert!(took < seconds(16), "{took:?}");
        reading.await.expect("no panic").expect("whole");
    });
}

#[test]
fn a_call_is_cancelled_at_once_though_its_host_is_unreachable_and_any_number_of_times() {
    simulate(async {
        let (cluster, call, reading) = at_work(&[2], 8, seconds(600)).await;
        let path = cluster.path(0).expect("a host");
        path.hold(Way::Both);
        let asked = Instant::now();
        call.cancel();
        call.cancel();
        let told = reading.await.expect("no panic").expect("whole");
        assert_eq!((told.state.as_str(), told.ended), ("cancelled", Some(asked)));
        tokio::time::sleep(seconds(10)).await;
        assert_eq!(cluster.tally.of(call.id()).now, 2, "nobody has told the host");
        path.release(Way::Both);
        let took = cluster.until("its workers end", |it| it.tally.of(call.id()).now == 0).await;
        assert!(took < seconds(6), "{took:?}");
        call.cancel();
    });
}

#[test]
fn a_draining_host_lets_go_when_what_it_holds_is_done() {
    simulate(async {
        let (cluster, _, reading) = at_work(&[2, 2], 60, seconds(3)).await;
        cluster.fleet.drain("h0", Drain::Begin).await.expect("it is connected");
        let host = || cluster.host(0).expect("a host");
        let took = cluster.until("it is empty", |_| host().call_tasks() == 0).await;
        assert!(took > seconds(1) && took < seconds(10), "{took:?}");
        cluster.fleet.drain("h0", Drain::Undo).await.expect("it is connected");
        cluster.until("it works again", |_| host().workers() == 2).await;
        let told = reading.await.expect("no panic").expect("whole");
        assert!(told.attempts.values().all(|attempt| *attempt == 1), "nothing is run again");
    });
}

#[test]
fn an_agent_that_stops_finishes_what_it_holds() {
    simulate(async {
        let (cluster, _, reading) = at_work(&[2, 2], 60, seconds(3)).await;
        let host = cluster.host(0).expect("a host");
        host.drain();
        let took = cluster.until("it is empty", |_| host.call_tasks() == 0).await;
        assert!(took < seconds(10), "{took:?}");
        let told = reading.await.expect("no panic").expect("whole");
        assert!(told.attempts.values().all(|attempt| *attempt == 1), "nothing is run again");
    });
}

#[test]
fn a_user_with_one_call_soon_has_an_even_share_beside_one_with_many() {
    simulate(async {
        let cluster = Cluster::with_hosts(&[4, 4, 4]).await;
        let plan = Plan { takes_us: 500_000, uneven: true, ..Plan::default() };
        let mut many = Vec::new();
        for _ in 0..20 {
            many.push(cluster.call_of("many", 400, plan).await);
        }
        let workers =
            |it: &Cluster| many.iter().map(|call| it.tally.of(call.id()).now).sum::<u64>();
        cluster.until("the fleet is full", |it| workers(it) == 12).await;
        let one = cluster.call_of("one", 400, plan).await;
        let took = cluster.until("its share", |it| it.tally.of(one.id()).now == 6).await;
        assert!(took < seconds(5), "{took:?}");
        assert!(workers(&cluster) >= 5, "what it does not have is used");
        for call in &many {
            call.cancel();
        }
        drop(checker::read(one, 400).await.expect("whole"));
    });
}

#[test]
fn a_short_call_behind_a_long_one_of_the_same_user_starts_within_a_batch() {
    simulate(async {
        let cluster = Cluster::with_hosts(&[4]).await;
        let long =
            cluster.call_of("one", 100_000, Plan { takes_us: 1_000, ..Plan::default() }).await;
        cluster.until("it has all slots", |it| it.tally.of(long.id()).now == 4).await;
        let begun = Instant::now();
        let short = cluster.call_of("one", 4, Plan { takes_us: 1_000, ..Plan::default() }).await;
        let told = checker::read(short, 4).await.expect("whole");
        let took = told.ended.expect("an end") - begun;
        // A batch is 50 ms, and a simulated worker takes 80 ms to start.
        assert!(took < Duration::from_millis(500), "{took:?}");
        long.cancel();
    });
}

#[test]
fn a_call_whose_last_worker_went_to_another_user_says_that_it_is_paused_and_goes_on_later() {
    simulate(async {
        let cluster = Cluster::with_hosts(&[2]).await;
        let plan = Plan { takes_us: 400_000, ..Plan::default() };
        let mut readers = Vec::new();
        for owner in ["many", "many", "one"] {
            let call = cluster.call_of(owner, 60, plan).await;
            cluster.until("it works", |it| it.tally.of(call.id()).now > 0).await;
            readers.push(tokio::spawn(checker::read(call, 60)));
        }
        let mut paused = 0;
        for reader in readers {
            let told = reader.await.expect("no panic").expect("whole");
            assert!(told.attempts.values().all(|attempt| *attempt == 1));
            paused += usize::from(told.reasons.iter().any(|why| why.starts_with("paused: others")));
        }
        assert_eq!(paused, 1);
    });
}
