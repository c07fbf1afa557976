//! A small fleet against the gateway's own code in this process: every output once, with the right bytes, whoever comes or goes, and calls that share.

#![allow(clippy::disallowed_methods, reason = "tests end with their runtime")]

mod support;

use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use muster_agent::link::identity::JoinString;
use muster_fleet::host::{Host, HostConfig, IMAGE};
use muster_fleet::load::{Client, Load, Outcome};
use muster_fleet::plan::Plan;
use muster_fleet::tally::Tally;
use muster_gateway::audit::{Audit, AuditConfig};
use muster_gateway::auth::Tokens;
use muster_gateway::fleet::Fleet;
use muster_gateway::http::{Front, ServerConfig, join_string, join_token, router, serve};
use muster_gateway::store::durable::MemoryCallStore;
use muster_gateway::tasks::Tasks;
use tokio::net::TcpListener;
use tokio::sync::watch;

const HOSTS: usize = 20;
const CORES: usize = 4;
const SLOTS: u64 = (HOSTS * CORES) as u64;
const SOON: Duration = Duration::from_secs(60);

struct Gateway {
    url: String,
    token: String,
    join: JoinString,
    fleet: Fleet,
    tasks: Tasks,
    tally: Tally,
    _ready: watch::Sender<bool>,
    _folder: tempfile::TempDir,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

impl Gateway {
    async fn start() -> Gateway {
        let folder = tempfile::tempdir().expect("a folder");
        let (tokens, first) = Tokens::open(folder.path()).expect("tokens");
        let tasks = Tasks::new();
        let fleet = Fleet::start(&tasks);
        let store = MemoryCallStore::default();
        let (calls, blobs, secrets) =
            support::calls(folder.path(), store, SOON, &fleet, &tasks).await;
        let (_ready, ready) = watch::channel(true);
        let front = Front {
            calls,
            blobs,
            fleet: fleet.clone(),
            secrets,
            tokens: tokens.clone(),
            audit: Audit::start(folder.path(), AuditConfig::default(), &tasks).expect("a log"),
            ready,
            tasks: tasks.clone(),
            metrics: PrometheusBuilder::new().build_recorder().handle(),
            tls: None,
            url: "http://gateway".into(),
            host_life: Duration::from_secs(3600),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let config = ServerConfig::default();
        tasks.spawn_critical("http", serve(listener, router(front), tasks.clone(), config));
        let made = tokens.create(join_token(None, 1000, None), muster_gateway::unix_s());
        let join = JoinString::parse(&join_string(&url, &made.expect("made").0, None));
        let (token, join) = (first.expect("a first start"), join.expect("a join string"));
        let tally = Tally::default();
        Gateway { url, token, join, fleet, tasks, tally, _ready, _folder: folder }
    }

    /// So many hosts, all connected.
    async fn with_hosts(&self, hosts: usize) -> Vec<Host> {
        let config =
            HostConfig { cores: CORES, ram_bytes: 64 << 30, start: Duration::ZERO, image: IMAGE };
        let hosts: Vec<Host> = (0..hosts)
            .map(|n| Host::start(&self.join, &format!("h{n}"), config, &self.tally))
            .collect();
        until(|| self.fleet.hosts().len() == hosts.len()).await;
        hosts
    }

    fn client(&self) -> Client {
        Client::new(&self.url, &self.token)
    }
}

async fn until(mut condition: impl FnMut() -> bool) {
    let looked = tokio::time::timeout(SOON, async {
        let mut tick = tokio::time::interval(Duration::from_millis(2));
        while !condition() {
            tick.tick().await;
        }
    });
    looked.await.expect("within a minute");
}

fn load(inputs: u64, takes: Duration) -> Load {
    let plan =
        Plan { takes_us: takes.as_micros() as u64, uneven: true, seed: 5, output_bytes: None };
    Load { inputs, plan, cpu: 1.0, ram: 1.0, image: IMAGE }
}

fn assert_whole(outcome: &Outcome, inputs: u64) {
    assert_eq!(outcome.state, "succeeded");
    assert_eq!((outcome.right, outcome.wrong), (inputs, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_input_of_calls_side_by_side_is_answered_once() {
    let gateway = Gateway::start().await;
    let _hosts = gateway.with_hosts(HOSTS).await;
    let client = gateway.client();
    let mut calls = tokio::task::JoinSet::new();
    for (inputs, takes) in [(100_000, Duration::ZERO), (2_000, Duration::from_millis(2)), (0, SOON)]
    {
        let client = client.clone();
        calls.spawn(async move {
            let call = client.call(load(inputs, takes)).await.expect("admitted");
            (call.outcome().await.expect("all events"), inputs)
        });
    }
    while let Some(ended) = calls.join_next().await {
        let (outcome, inputs) = ended.expect("no panic");
        assert_whole(&outcome, inputs);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_reaches_every_slot_and_gives_half_of_them_to_the_next() {
    let gateway = Gateway::start().await;
    let _hosts = gateway.with_hosts(HOSTS).await;
    let client = gateway.client();
    let takes = Duration::from_millis(20);
    let first = client.call(load(1_000_000, takes)).await.expect("admitted");
    until(|| gateway.tally.of(&first.id).now == SLOTS).await;
    let second = client.call(load(SLOTS * 50, takes)).await.expect("admitted");
    let id = second.id.clone();
    // Each of its host's agents gives the room of the first call's workers away as they end.
    until(|| gateway.tally.of(&id).now == SLOTS / 2).await;
    assert_eq!(gateway.tally.of(&first.id).now, SLOTS / 2);
    assert_whole(&second.outcome().await.expect("all events"), SLOTS * 50);
    until(|| gateway.tally.of(&first.id).now == SLOTS).await;
    client.cancel(std::slice::from_ref(&first.id)).await.expect("cancelled");
    assert_eq!(first.outcome().await.expect("all events").state, "cancelled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_that_go_in_the_middle_cost_no_output() {
    let gateway = Gateway::start().await;
    let mut hosts = gateway.with_hosts(HOSTS).await;
    let inputs = 20_000;
    let call = gateway.client().call(load(inputs, Duration::from_millis(2))).await;
    let call = call.expect("admitted");
    let tally = gateway.tally.clone();
    let id = call.id.clone();
    let reading = tokio::spawn(call.outcome());
    until(|| tally.of(&id).now > SLOTS / 2).await;
    hosts.truncate(HOSTS / 2);
    let outcome = reading.await.expect("no panic").expect("all events");
    assert_whole(&outcome, inputs);
    until(|| gateway.fleet.hosts().len() == HOSTS / 2).await;
}
