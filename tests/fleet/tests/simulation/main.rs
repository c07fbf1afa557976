//! Simulation: the real gateway and agent code on a simulated network, in one thread, with simulated time.
//!
//! **Problem.** Most faults of a network take minutes to show what they do, and the ones that lose an output do so once in a thousand times. Here a scenario of ten minutes takes some milliseconds, so thousands can be tried.
//!
//! **What is real:** the gateway's fleet, links and calls; the agents' links, calls, queues, batches and rooms; HTTP/2 between them; every timer. **What is simulated:** the network ([`network`]: bytes on their way can be held, each way by itself, slowed, or cut off), workers (`muster_fleet::worker`), and the
//! clock (tokio's, paused: it jumps to the next timer when nothing is left to do). The gateway takes any stream of bytes from a host, and the agent's link is generic over who dials, so neither knows.
//! There is no HTTP front here, and turmoil is not used: it would want its own sockets in both daemons, where these two seams are enough.
//!
//! The gateway is killed too ([`cluster`]): its connections break, and what its store had not committed at that moment is lost ([`survivor`]); its successor goes on with what there is.
//!
//! **A scenario** ([`scenario`]) is made from a seed: hosts, calls, and faults at random moments. It ends in one checker ([`checker`]): every index that was accepted ends once, with the oracle's output; nothing that was not submitted comes; no worker of an ended call is left on any host.
//! What the seed does not fix is the jitter of agents that dial again, and the order of hash tables.
//!
//! `MUSTER_SCENARIOS` says how many are tried (300; 50 without optimisation), `MUSTER_SEED` the first one's seed (at random, and printed), `MUSTER_LOG` what of both daemons' logs is shown.

#![allow(clippy::disallowed_methods, reason = "tests end with their runtime")]

mod cases;
mod checker;
mod cluster;
mod network;
mod scenario;
#[path = "../support/mod.rs"]
mod support;
mod survivor;

use std::sync::atomic::{AtomicU64, Ordering};

use scenario::Scenario;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

#[test]
fn every_accepted_input_ends_once_whatever_the_network_and_the_hosts_do() {
    let quick = if cfg!(debug_assertions) { 50 } else { 300 };
    let count = setting("MUSTER_SCENARIOS").unwrap_or(quick);
    if let Ok(level) = std::env::var("MUSTER_LOG") {
        tracing_subscriber::fmt().with_env_filter(level).with_writer(std::io::stderr).init();
    }
    let first = setting("MUSTER_SEED").unwrap_or_else(|| u64::from(rand::random::<u32>()));
    println!("MUSTER_SEED={first}, {count} scenarios");
    let next = AtomicU64::new(first);
    let failures: Vec<String> = std::thread::scope(|threads| {
        let work = || {
            let mut failures = Vec::new();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= first + count || !failures.is_empty() {
                    return failures;
                }
                let scenario = Scenario::of(seed);
                // A panic of ours is a failure of this scenario.
                let run = std::panic::catch_unwind(|| scenario.run());
                let ended = run.unwrap_or_else(|_| Err("it panicked, see above".to_owned()));
                if let Err(why) = ended {
                    let failure =
                        format!("MUSTER_SEED={seed} MUSTER_SCENARIOS=1: {why}\n{scenario:#?}");
                    // At once: the run may be ended before its end, and the seed would be lost.
                    eprintln!("{failure}");
                    failures.push(failure);
                }
            }
        };
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let threads: Vec<_> = (0..cores).map(|_| threads.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}
