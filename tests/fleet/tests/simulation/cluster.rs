//! A gateway and its hosts in one simulation.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use muster_fleet::host::{Host, HostConfig, IMAGE};
use muster_fleet::plan::Plan;
use muster_fleet::tally::Tally;
use muster_gateway::calls::{AdmitError, CallHandle, CallOptions, Calls, Created, NewCall};
use muster_gateway::fleet::{Fleet, HostRecord};
use muster_gateway::tasks::Tasks;
use muster_wire::batch::Inputs;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::network::{Dialler, Path};
use crate::support;
use crate::survivor::Survivor;

const LONG: Duration = Duration::from_secs(7 * 24 * 3600);

/// A gateway, and hosts that come and go.
pub struct Cluster {
    pub fleet: Fleet,
    pub calls: Calls,
    pub tally: Tally,
    tasks: Tasks,
    store: Survivor,
    /// Where hosts find the gateway, if it is there.
    there: watch::Sender<Option<Fleet>>,
    /// Where readers find their calls.
    pub front: watch::Sender<Option<Calls>>,
    hosts: BTreeMap<usize, (Host, Path)>,
    epochs: u64,
    folder: tempfile::TempDir,
}

/// Runs a simulation to its end, in simulated time.
pub fn simulate<T>(run: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(run)
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

impl Cluster {
    /// Without hosts.
    pub async fn start() -> Cluster {
        let tasks = Tasks::new();
        let fleet = Fleet::start(&tasks);
        let folder = tempfile::tempdir().expect("a folder");
        let (store, tally) = (Survivor::default(), Tally::default());
        let (calls, ..) = support::calls(folder.path(), store.clone(), LONG, &fleet, &tasks).await;
        let there = watch::Sender::new(Some(fleet.clone()));
        let front = watch::Sender::new(Some(calls.clone()));
        let (hosts, epochs) = (BTreeMap::new(), 0);
        Cluster { fleet, calls, tally, tasks, store, there, front, hosts, epochs, folder }
    }

    /// The gateway is killed: its connections break, and what it had not committed is lost.
    pub fn crash_gateway(&mut self) {
        self.store = self.store.crash();
        self.there.send_replace(None);
        self.front.send_replace(None);
        self.hosts.values().for_each(|(_, path)| path.cut());
        self.tasks.stop();
    }

    /// It is started again.
    pub async fn start_gateway(&mut self) {
        self.tasks = Tasks::new();
        self.fleet = Fleet::start(&self.tasks);
        let (folder, store) = (self.folder.path(), self.store.clone());
        let (calls, ..) = support::calls(folder, store, LONG, &self.fleet, &self.tasks).await;
        self.calls = calls;
        self.front.send_replace(Some(self.calls.clone()));
        self.there.send_replace(Some(self.fleet.clone()));
    }

    /// With hosts of so many cores, all connected.
    pub async fn with_hosts(cores: &[usize]) -> Cluster {
        let mut cluster = Cluster::start().await;
        for (host, cores) in cores.iter().enumerate() {
            cluster.boot(host, *cores);
        }
        cluster.until("all hosts are there", |it| it.fleet.hosts().len() == cores.len()).await;
        cluster
    }

    /// Starts a host, under a new epoch and over a new path; whatever had its number is gone without a word.
    pub fn boot(&mut self, host: usize, cores: usize) {
        self.epochs += 1;
        let path = Path::default();
        path.slow(Duration::from_millis(1));
        let dialler = Dialler {
            name: format!("h{host}"),
            epoch: self.epochs,
            path: path.clone(),
            gateway: self.there.subscribe(),
        };
        let start = Duration::from_millis(80);
        let config = HostConfig { cores, ram_bytes: 64 << 30, start, image: IMAGE };
        self.hosts.insert(host, (Host::over(dialler, config, &self.tally), path));
    }

    /// Takes a host out of the simulation; it is dropped with all its workers.
    pub fn remove(&mut self, host: usize) -> Option<(Host, Path)> {
        self.hosts.remove(&host)
    }

    /// The way to a host.
    pub fn path(&self, host: usize) -> Option<&Path> {
        self.hosts.get(&host).map(|(_, path)| path)
    }

    /// A host.
    pub fn host(&self, host: usize) -> Option<&Host> {
        self.hosts.get(&host).map(|(host, _)| host)
    }

    /// All hosts that run.
    pub fn hosts(&self) -> impl Iterator<Item = (&Host, &Path)> {
        self.hosts.values().map(|(host, path)| (host, path))
    }

    /// A host as the gateway lists it.
    pub fn listed(&self, host: usize) -> Option<HostRecord> {
        let name = format!("h{host}");
        self.fleet.hosts().into_iter().find(|record| record.status.host == name)
    }

    /// Makes a call whose inputs are their indexes, all given at once.
    pub async fn call(&self, inputs: u64, takes: Duration) -> CallHandle {
        let plan = Plan { takes_us: takes.as_micros() as u64, uneven: true, ..Plan::default() };
        self.call_of("somebody", inputs, plan).await
    }

    /// The same for this owner, with this plan.
    pub async fn call_of(&self, owner: &str, inputs: u64, plan: Plan) -> CallHandle {
        self.try_call(owner, inputs, plan, false).await.expect("admitted")
    }

    /// The same in the background.
    pub async fn background(&self, inputs: u64, plan: Plan) -> CallHandle {
        self.try_call("somebody", inputs, plan, true).await.expect("admitted")
    }

    /// The same where it may be refused.
    pub async fn try_call(
        &self,
        owner: &str,
        inputs: u64,
        plan: Plan,
        background: bool,
    ) -> Result<CallHandle, AdmitError> {
        let spec = json!({
            "call": "", "kind": "pickle", "encoding": "pickle", "image": IMAGE, "cpu": 1.0, "ram_bytes": 1 << 30,
        });
        let new = NewCall {
            spec: serde_json::from_value(spec).expect("a SPEC"),
            options: CallOptions { background, ..CallOptions::default() },
            key: None,
            owner: owner.to_owned(),
            pin: None,
            parent: None,
            function: Bytes::from(serde_json::to_vec(&plan).expect("plain data")),
        };
        let Created::New(call) = self.calls.create(new).await? else {
            panic!("it has no key");
        };
        let items: Vec<[u8; 8]> = (0..inputs).map(u64::to_le_bytes).collect();
        if inputs > 0 {
            call.push(Inputs::from_items(0, 0, &items)).await.expect("taken");
        }
        call.end_inputs(Some(inputs)).await.expect("closed");
        Ok(call)
    }

    /// Waits, in simulated time, for a condition; how long that took.
    pub async fn until(&self, what: &str, condition: impl Fn(&Cluster) -> bool) -> Duration {
        let begun = Instant::now();
        while !condition(self) {
            assert!(begun.elapsed() < Duration::from_secs(3600), "waited an hour: {what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        begun.elapsed()
    }
}
