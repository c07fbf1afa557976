//! Faults one by one, each with what exactly it may cost and how long it may take.

use std::time::Duration;

use muster_fleet::plan::Plan;
use muster_gateway::fleet::{Drain, HostState};
use tokio::time::Instant;

use crate::checker;
use crate::cluster::{Cluster, simulate};
use crate::network::Way;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Whether the gateway lists a host like this.
fn is(host: usize, state: HostState) -> impl Fn(&Cluster) -> bool {
    move |it| it.listed(host).is_some_and(|record| record.state == state)
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
        let cluster = Cluster::with_hosts(&[2, 2]).await;
        let plan = Plan { takes_us: 10_000_000, ..Plan::default() };
        let call = cluster.call_of("somebody", 4, plan).await;
        let reading = tokio::spawn(checker::read(call.clone(), 4));
        cluster.until("both work", |it| it.tally.of(call.id()).now == 4).await;
        cluster.path(0).expect("a host").hold(Way::Both);
        let took = cluster.until("it is suspect", is(0, HostState::Suspect)).await;
        assert!(took >= seconds(4) && took <= seconds(10), "{took:?}");
        // Nothing is placed there.
        let tasks = cluster.host(0).expect("a host").call_tasks();
        let next = cluster.call_of("somebody", 4, plan).await;
        let took = cluster.until("it is given up", |it| it.listed(0).is_none()).await + took;
        assert!(took <= seconds(58), "{took:?}");
        assert_eq!(cluster.host(0).expect("a host").call_tasks(), tasks, "only what was there");
        let told = reading.await.expect("no panic").expect("whole");
        assert_eq!(told.attempts.values().filter(|attempt| **attempt == 2).count(), 2);
        drop(checker::read(next, 4).await.expect("whole"));
    });
}

#[test]
fn a_host_that_is_cut_off_ends_its_workers_by_itself_and_its_late_outputs_are_fenced() {
    simulate(async {
        let cluster = Cluster::with_hosts(&[2, 2]).await;
        let plan = Plan { takes_us: 200_000_000, ..Plan::default() };
        let call = cluster.call_of("somebody", 4, plan).await;
        let reading = tokio::spawn(checker::read(call.clone(), 4));
        cluster.until("both work", |it| it.tally.of(call.id()).now == 4).await;
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
fn a_call_says_that_its_host_does_not_answer() {
    simulate(async {
        let cluster = Cluster::with_hosts(&[2]).await;
        let plan = Plan { takes_us: 30_000_000, ..Plan::default() };
        let call = cluster.call_of("somebody", 2, plan).await;
        let reading = tokio::spawn(checker::read(call.clone(), 2));
        cluster.until("it works", |it| it.tally.of(call.id()).now == 2).await;
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
fn a_broken_connection_gives_its_inputs_back_at_once() {
    simulate(async {
        let cluster = Cluster::with_hosts(&[2, 2]).await;
        let plan = Plan { takes_us: 10_000_000, ..Plan::default() };
        let call = cluster.call_of("somebody", 4, plan).await;
        let (begun, reading) = (Instant::now(), tokio::spawn(checker::read(call.clone(), 4)));
        cluster.until("both work", |it| it.tally.of(call.id()).now == 4).await;
        cluster.path(0).expect("a host").cut();
        let told = reading.await.expect("no panic").expect("whole");
        assert!(told.ended.expect("an end") - begun < seconds(23), "run again without a wait");
    });
}

#[test]
fn a_machine_without_power_gets_its_name_back_when_it_starts_again() {
    simulate(async {
        let mut cluster = Cluster::with_hosts(&[2]).await;
        let call =
            cluster.call_of("somebody", 2, Plan { takes_us: 5_000_000, ..Plan::default() }).await;
        let reading = tokio::spawn(checker::read(call.clone(), 2));
        cluster.until("it works", |it| it.tally.of(call.id()).now == 2).await;
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
        let cluster = Cluster::with_hosts(&[2]).await;
        let plan = Plan { takes_us: 600_000_000, ..Plan::default() };
        let call = cluster.call_of("somebody", 8, plan).await;
        let reading = tokio::spawn(checker::read(call.clone(), 8));
        cluster.until("it works", |it| it.tally.of(call.id()).now == 2).await;
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
        let cluster = Cluster::with_hosts(&[2, 2]).await;
        let call =
            cluster.call_of("somebody", 60, Plan { takes_us: 3_000_000, ..Plan::default() }).await;
        let reading = tokio::spawn(checker::read(call.clone(), 60));
        cluster.until("both work", |it| it.tally.of(call.id()).now == 4).await;
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
        let cluster = Cluster::with_hosts(&[2, 2]).await;
        let call =
            cluster.call_of("somebody", 60, Plan { takes_us: 3_000_000, ..Plan::default() }).await;
        let reading = tokio::spawn(checker::read(call.clone(), 60));
        cluster.until("both work", |it| it.tally.of(call.id()).now == 4).await;
        let host = cluster.host(0).expect("a host");
        host.drain();
        let took = cluster.until("it is empty", |_| host.call_tasks() == 0).await;
        assert!(took < seconds(10), "{took:?}");
        let told = reading.await.expect("no panic").expect("whole");
        assert!(told.attempts.values().all(|attempt| *attempt == 1), "nothing is run again");
    });
}
