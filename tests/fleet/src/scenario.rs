//! One question each, answered by one JSON object.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::gateway::{GatewayProcess, Used, used_here};
use crate::host::{BUSY_IMAGE, Host, HostConfig, IMAGE};
use crate::load::{Client, Load, Outcome};
use crate::plan::Plan;
use crate::tally::Tally;

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// How long hosts may take to connect, and a call to begin or end.
const PATIENCE: Duration = Duration::from_secs(60);
const MIB: f64 = (1 << 20) as f64;

/// A gateway with hosts.
#[derive(Debug)]
pub struct Fleet {
    gateway: GatewayProcess,
    client: Client,
    tally: Tally,
    slots: u64,
    config: FleetConfig,
    connect_s: f64,
    queue: Value,
    _hosts: Vec<Host>,
}

/// How large the fleet is.
#[derive(Debug, Clone, Copy)]
pub struct FleetConfig {
    /// How many hosts.
    pub hosts: usize,
    /// Each of them.
    pub host: HostConfig,
    /// Calls that wait in the queue all the while, for one more host that is busy.
    pub queued_calls: usize,
}

impl Fleet {
    /// Starts the gateway and the hosts, and waits until all are connected.
    pub async fn start(binary: &Path, config: FleetConfig) -> anyhow::Result<Fleet> {
        let gateway = GatewayProcess::start(binary)?;
        let client = Client::new(&gateway.service.url, &gateway.service.token);
        let tally = Tally::default();
        let begun = Instant::now();
        let start = |name: &str, host: HostConfig| Host::start(&gateway.join, name, host, &tally);
        let mut hosts: Vec<Host> = (0..config.hosts)
            .map(|number| start(&format!("simulated-{number:05}"), config.host))
            .collect();
        if config.queued_calls > 0 {
            hosts.push(start("busy", HostConfig { cores: 1, image: BUSY_IMAGE, ..config.host }));
        }
        loop {
            let found = client.get("/v1/hosts").await?;
            if found["hosts"].as_array().map(Vec::len) == Some(hosts.len()) {
                break;
            }
            ensure!(begun.elapsed() < PATIENCE, "not all hosts connect");
            sleep(LOOK * 10).await;
        }
        let connect_s = begun.elapsed().as_secs_f64();
        let slots = (config.hosts * config.host.cores) as u64;
        let queue = Value::Null;
        let mut fleet =
            Fleet { gateway, client, tally, slots, config, connect_s, queue, _hosts: hosts };
        if config.queued_calls > 0 {
            fleet.queue = fleet.fill_queue().await?;
        }
        Ok(fleet)
    }

    /// One call with many inputs: what each costs the gateway, and how many come a second.
    pub async fn flow(&self, inputs: u64, plan: Plan) -> anyhow::Result<Value> {
        let load = self.one_slot_each(inputs, plan);
        let (before, here) = (self.gateway.used()?, used_here()?);
        let call = self.client.call(load).await?;
        let id = call.id.clone();
        let outcome = call.outcome().await?;
        right(&outcome, inputs)?;
        let after = self.gateway.used()?;
        let seconds = (outcome.ended - outcome.asked).as_secs_f64();
        let begun = self.tally.of(&id);
        Ok(self.with_facts(json!({
            "inputs": inputs,
            "seconds": seconds,
            "outputs_per_s": inputs as f64 / seconds,
            "first_output_ms": outcome.first.map(|at| ms(at - outcome.asked)),
            "first_slot_ms": begun.first.map(|at| ms(at - outcome.asked)),
            "slots_used": begun.begun,
            "gateway_cpu_s": after.cpu_s - before.cpu_s,
            "gateway_us_per_input": 1e6 * (after.cpu_s - before.cpu_s) / inputs as f64,
            "hosts_and_client_us_per_input": 1e6 * (used_here()?.cpu_s - here.cpu_s) / inputs as f64,
        }), &before, &after))
    }

    /// A call over all slots, perhaps beside many that wait: when its first slot began, and its last.
    pub async fn spread(&self) -> anyhow::Result<Value> {
        // For ever, as far as this is concerned: no worker takes the input of another.
        let plan = Plan { takes_us: 3_600_000_000, ..Plan::default() };
        let (before, here) = (self.gateway.used()?, used_here()?);
        let call = self.client.call(self.one_slot_each(self.slots, plan)).await?;
        let (asked, id) = (call.asked, call.id.clone());
        let reading = self.client_reads(call);
        let deadline = Instant::now() + PATIENCE;
        while self.tally.of(&id).begun < self.slots {
            ensure!(Instant::now() < deadline, "only {:?} began", self.tally.of(&id));
            sleep(LOOK).await;
        }
        let begun = self.tally.of(&id);
        let after = self.gateway.used()?;
        let here = used_here()?.cpu_s - here.cpu_s;
        self.client.cancel(&[id]).await?;
        ensure!(reading.await??.state == "cancelled", "a call ended before its time");
        let first = begun.first.context("they began")? - asked;
        let last = begun.last.context("they began")? - asked;
        Ok(self.with_facts(
            json!({
                "first_slot_ms": ms(first),
                "last_slot_ms": ms(last),
                "gateway_cpu_s": after.cpu_s - before.cpu_s,
                "hosts_and_client_cpu_s": here,
            }),
            &before,
            &after,
        ))
    }

    /// A long call holds every slot, and a second one comes: when it begins, and which share each has then.
    pub async fn share(&self, takes: Duration) -> anyhow::Result<Value> {
        let plan = Plan { takes_us: takes.as_micros() as u64, ..Plan::default() };
        let before = self.gateway.used()?;
        let long = self.client.call(self.one_slot_each(self.slots * 1000, plan)).await?;
        let long_id = long.id.clone();
        let _long = self.client_reads(long);
        let deadline = Instant::now() + PATIENCE;
        while self.tally.of(&long_id).now < self.slots {
            ensure!(Instant::now() < deadline, "only {:?} began", self.tally.of(&long_id));
            sleep(LOOK).await;
        }
        // The second has work for some seconds on half of the fleet.
        let inputs = self.slots / 2 * (3.0 / takes.as_secs_f64()).max(2.0) as u64;
        let short = self.client.call(self.one_slot_each(inputs, plan)).await?;
        let (asked, short_id) = (short.asked, short.id.clone());
        let short = self.client_reads(short);
        let mut shares = Vec::new();
        while !short.is_finished() {
            sleep(LOOK * 4).await;
            let (ours, theirs) = (self.tally.of(&short_id).now, self.tally.of(&long_id).now);
            shares.push(ours as f64 / (ours + theirs).max(1) as f64);
        }
        let outcome = short.await??;
        right(&outcome, inputs)?;
        let after = self.gateway.used()?;
        self.client.cancel(&[long_id]).await?;
        shares.sort_by(f64::total_cmp);
        let first = self.tally.of(&short_id).first.context("it began")?;
        let ideal = inputs as f64 * takes.as_secs_f64() / (self.slots as f64 / 2.0);
        Ok(self.with_facts(
            json!({
                "inputs": inputs,
                "second_call_first_slot_ms": ms(first - asked),
                "second_call_seconds": (outcome.ended - asked).as_secs_f64(),
                "second_call_ideal_s": ideal,
                "second_call_share": shares.get(shares.len() / 2),
                "gateway_cpu_s": after.cpu_s - before.cpu_s,
            }),
            &before,
            &after,
        ))
    }

    /// Makes the calls that wait: one keeps the busy host, the others are behind it.
    async fn fill_queue(&self) -> anyhow::Result<Value> {
        let (before, begun) = (self.gateway.used()?, Instant::now());
        let plan = Plan { takes_us: 3_600_000_000, ..Plan::default() };
        let load = Load { image: BUSY_IMAGE, ..self.one_slot_each(1, plan) };
        self.client.queue(self.config.queued_calls + 1, load).await?;
        let after = self.gateway.used()?;
        let calls = self.config.queued_calls as f64;
        Ok(json!({
            "seconds": begun.elapsed().as_secs_f64(),
            "gateway_us_per_call": 1e6 * (after.cpu_s - before.cpu_s) / calls,
            "gateway_KiB_per_call": after.memory.saturating_sub(before.memory) as f64 / 1024.0 / calls,
        }))
    }

    fn one_slot_each(&self, inputs: u64, plan: Plan) -> Load {
        let host = self.config.host;
        let ram = host.ram_bytes as f64 / host.cores as f64 / f64::from(1 << 30);
        Load { inputs, plan, cpu: 1.0, ram: (ram * 1000.0).floor() / 1000.0, image: IMAGE }
    }

    fn client_reads(
        &self,
        call: crate::load::Call,
    ) -> tokio::task::JoinHandle<anyhow::Result<Outcome>> {
        muster_agent::tasks::Tasks::new().spawn(call.outcome())
    }

    fn with_facts(&self, mut found: Value, before: &Used, after: &Used) -> Value {
        found["hosts"] = json!(self.config.hosts);
        found["slots"] = json!(self.slots);
        found["queue"] = self.queue.clone();
        found["queued_calls"] = json!(self.config.queued_calls);
        found["connect_s"] = json!(self.connect_s);
        found["gateway_idle_MiB"] = json!(before.memory as f64 / MIB);
        found["gateway_peak_MiB"] = json!(after.peak as f64 / MIB);
        found
    }
}

fn right(outcome: &Outcome, inputs: u64) -> anyhow::Result<()> {
    ensure!(
        outcome.state == "succeeded" && outcome.right == inputs && outcome.wrong == 0,
        "wrong outputs: {outcome:?} of {inputs}"
    );
    Ok(())
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
