//! A scenario: what a seed makes of hosts, calls and faults, and how it is played.

use std::time::Duration;

use muster_fleet::plan::Plan;
use muster_gateway::calls::AdmitError;
use muster_gateway::fleet::Drain;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

use crate::checker::{self, Told};
use crate::cluster::{Cluster, simulate};
use crate::network::{Path, Way};

/// A host that is cut off has ended its workers by then.
const CUT_OFF: Duration = Duration::from_secs(130);
/// Losses that every input survives.
const LOSSES: usize = 4;

/// Everything that happens.
#[derive(Debug)]
pub struct Scenario {
    cores: Vec<usize>,
    calls: Vec<Call>,
    faults: Vec<(Duration, Fault)>,
    /// Whether its faults are such that nothing may be lost or run again.
    gentle: bool,
}

#[derive(Debug)]
struct Call {
    inputs: u64,
    plan: Plan,
    begins: Duration,
    cancelled: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    /// Nothing arrives for a time.
    Hold { host: usize, way: Way, time: Duration },
    /// The connection is reset.
    Cut { host: usize },
    /// The agent is killed, and is started again.
    Kill { host: usize, down: Duration },
    /// The machine is gone without a word, and is started again.
    PowerCut { host: usize, down: Duration },
    /// Everything takes long for a time.
    Slow { host: usize, delay: Duration, time: Duration },
    /// An admin drains the host for a time.
    Drain { host: usize, time: Duration },
    /// The gateway is killed, and is started again.
    Crash { down: Duration },
}

impl Fault {
    /// Whether inputs may be lost by it.
    fn is_loss(self) -> bool {
        !matches!(self, Fault::Slow { .. } | Fault::Drain { .. })
            && !matches!(self, Fault::Hold { time, .. } if time <= Duration::from_secs(10))
    }
}

fn millis(random: &mut StdRng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(random.random_range(range))
}

impl Scenario {
    /// The scenario of a seed.
    pub fn of(seed: u64) -> Scenario {
        let mut random = StdRng::seed_from_u64(seed);
        let random = &mut random;
        let gentle = random.random_bool(0.3);
        let cores: Vec<usize> =
            (0..random.random_range(1..5)).map(|_| random.random_range(1..5)).collect();
        let calls = (0..random.random_range(1..4)).map(|_| Call::of(random)).collect();
        let mut faults: Vec<(Duration, Fault)> = (0..random.random_range(1..8))
            .map(|_| (millis(random, 0..200_000), Fault::of(random, cores.len(), gentle)))
            .collect();
        let mut losses = 0;
        faults.retain(|(_, fault)| {
            losses += usize::from(fault.is_loss());
            !fault.is_loss() || losses <= LOSSES
        });
        faults.sort_by_key(|(at, _)| *at);
        if gentle {
            // Two silences of one host in a row would be a longer one.
            let mut last = vec![None; cores.len()];
            faults.retain(|(at, fault)| {
                let host = fault.host();
                let apart = last[host].is_none_or(|before| *at > before + Duration::from_secs(40));
                if apart {
                    last[host] = Some(*at);
                }
                apart
            });
        }
        Scenario { cores, calls, faults, gentle }
    }

    /// Plays it, and checks what came of it.
    pub fn run(&self) -> Result<(), String> {
        simulate(async {
            let mut cluster = Cluster::with_hosts(&self.cores).await;
            let begun = Instant::now();
            // Paths that lead nowhere any more.
            let mut void = Vec::new();
            let (mut handles, mut readers) = (Vec::new(), Vec::new());
            for step in self.steps() {
                tokio::time::sleep_until(begun + step.0).await;
                match step.1 {
                    Step::Begin(at) => {
                        let Call { inputs, plan, .. } = self.calls[at];
                        let owner = format!("owner {}", at % 2);
                        if cluster.front.borrow().is_none() {
                            // Nobody is there to accept it.
                            continue;
                        }
                        match cluster.try_call(&owner, inputs, plan, self.crashes()).await {
                            Ok(call) => {
                                let front = cluster.front.subscribe();
                                let reading = checker::read_on(front, call.clone(), inputs);
                                readers.push(tokio::spawn(reading));
                                handles.push((at, call));
                            }
                            // Every host is away just now: it was told so, and nothing was accepted.
                            Err(AdmitError::NoHosts) => {}
                            Err(error) => return Err(format!("call {at} was refused: {error}")),
                        }
                    }
                    Step::Cancel(at) => {
                        handles
                            .iter()
                            .filter(|(call, _)| *call == at)
                            .filter_map(|(_, it)| cluster.calls.get(it.id()))
                            .for_each(|it| it.cancel());
                    }
                    Step::Fault(fault) => fault.begin(&mut cluster, &mut void).await,
                    Step::Undo(fault) => fault.end(&mut cluster, &self.cores).await,
                }
            }
            for ((at, call), reader) in handles.iter().zip(readers) {
                let told = reader.await.map_err(|error| error.to_string())?;
                self.judge(*at, &told.map_err(|why| format!("call {at}: {why}"))?, begun)?;
                let left = cluster.until("workers end", |it| it.tally.of(call.id()).now == 0);
                let left = left.await;
                if left > CUT_OFF {
                    return Err(format!("workers of call {at} were left for {left:?}"));
                }
            }
            let idle = |it: &Cluster| {
                it.hosts().all(|(host, _)| host.workers() == 0 && host.call_tasks() == 0)
            };
            cluster.until("every host is empty", idle).await;
            Ok(())
        })
    }

    /// Whether the gateway is killed: then all calls are such as outlive it.
    fn crashes(&self) -> bool {
        self.faults.iter().any(|(_, fault)| matches!(fault, Fault::Crash { .. }))
    }

    /// What happens, in order.
    fn steps(&self) -> Vec<(Duration, Step)> {
        let mut steps: Vec<(Duration, Step)> = Vec::new();
        for (at, call) in self.calls.iter().enumerate() {
            steps.push((call.begins, Step::Begin(at)));
            steps.extend(call.cancelled.map(|time| (call.begins + time, Step::Cancel(at))));
        }
        for &(at, fault) in &self.faults {
            steps.push((at, Step::Fault(fault)));
            steps.push((at + fault.time(), Step::Undo(fault)));
        }
        steps.sort_by_key(|(at, _)| *at);
        steps
    }

    fn judge(&self, at: usize, told: &Told, begun: Instant) -> Result<(), String> {
        let call = &self.calls[at];
        match call.cancelled {
            None if told.state == "cancelled" => return Err(format!("call {at} was cancelled")),
            Some(time) if told.state == "cancelled" => {
                let due = begun + call.begins + time + Duration::from_secs(1);
                if told.ended.is_none_or(|ended| ended > due) {
                    return Err(format!("call {at} did not end when it was cancelled"));
                }
            }
            _ => {}
        }
        match told.attempts.iter().find(|(_, attempt)| **attempt > 1) {
            Some((index, attempt)) if self.gentle => {
                Err(format!("call {at}: input {index} was run {attempt} times, for nothing"))
            }
            _ => Ok(()),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Begin(usize),
    Cancel(usize),
    Fault(Fault),
    Undo(Fault),
}

impl Call {
    fn of(random: &mut StdRng) -> Call {
        let takes = [100, 20_000, 1_000_000, 20_000_000][random.random_range(0..4)];
        let most = if takes > 100_000 { 60 } else { 3_000 };
        let plan = Plan { takes_us: takes, uneven: true, seed: random.random(), ..Plan::default() };
        let cancelled = random.random_bool(0.15).then(|| millis(random, 0..100_000));
        let inputs = random.random_range(0..most);
        Call { inputs, plan, begins: millis(random, 0..60_000), cancelled }
    }
}

impl Fault {
    fn of(random: &mut StdRng, hosts: usize, gentle: bool) -> Fault {
        let host = random.random_range(0..hosts);
        let way = [Way::Up, Way::Down, Way::Both][random.random_range(0..3)];
        let delay = millis(random, 1..700);
        let kinds = if gentle { 3 } else { 8 };
        match random.random_range(0..kinds) {
            0 => Fault::Hold { host, way, time: millis(random, 100..10_000) },
            1 => Fault::Slow { host, delay, time: millis(random, 1_000..30_000) },
            2 => Fault::Drain { host, time: millis(random, 1_000..60_000) },
            3 => Fault::Hold { host, way, time: millis(random, 10_000..70_000) },
            4 => Fault::Hold { host, way, time: millis(random, 60_000..300_000) },
            5 => Fault::Cut { host },
            6 => Fault::Crash { down: millis(random, 10..60_000) },
            _ if random.random_bool(0.5) => Fault::Kill { host, down: millis(random, 10..90_000) },
            _ => Fault::PowerCut { host, down: millis(random, 10..90_000) },
        }
    }

    fn host(self) -> usize {
        match self {
            Fault::Hold { host, .. }
            | Fault::Cut { host }
            | Fault::Kill { host, .. }
            | Fault::PowerCut { host, .. }
            | Fault::Slow { host, .. }
            | Fault::Drain { host, .. } => host,
            Fault::Crash { .. } => 0,
        }
    }

    /// How long it lasts.
    fn time(self) -> Duration {
        match self {
            Fault::Hold { time, .. } | Fault::Slow { time, .. } | Fault::Drain { time, .. } => time,
            Fault::Kill { down, .. } | Fault::PowerCut { down, .. } | Fault::Crash { down } => down,
            Fault::Cut { .. } => Duration::ZERO,
        }
    }

    async fn begin(self, cluster: &mut Cluster, void: &mut Vec<Path>) {
        let host = self.host();
        match self {
            Fault::Kill { .. } => {
                if let Some((host, path)) = cluster.remove(host) {
                    path.cut();
                    drop(host);
                }
            }
            Fault::PowerCut { .. } => {
                if let Some((host, path)) = cluster.remove(host) {
                    // Its end never arrives; what the gateway sends into the void stays there until it gives up.
                    path.hold(Way::Both);
                    drop(host);
                    void.push(path);
                }
            }
            Fault::Crash { .. } => {
                if cluster.front.borrow().is_some() {
                    cluster.crash_gateway();
                }
            }
            Fault::Drain { .. } => {
                cluster.fleet.drain(&format!("h{host}"), Drain::Begin).await;
            }
            _ => {
                let Some(path) = cluster.path(host) else { return };
                match self {
                    Fault::Hold { way, .. } => path.hold(way),
                    Fault::Slow { delay, .. } => path.slow(delay),
                    _ => path.cut(),
                }
            }
        }
    }

    async fn end(self, cluster: &mut Cluster, cores: &[usize]) {
        let host = self.host();
        match self {
            Fault::Kill { .. } | Fault::PowerCut { .. } => {
                if cluster.host(host).is_none() {
                    cluster.boot(host, cores[host]);
                }
            }
            Fault::Crash { .. } => {
                if cluster.front.borrow().is_none() {
                    cluster.start_gateway().await;
                }
            }
            Fault::Drain { .. } => undo_drain(cluster, host),
            _ => {
                let Some(path) = cluster.path(host) else { return };
                match self {
                    Fault::Hold { way, .. } => path.release(way),
                    Fault::Slow { .. } => path.slow(Duration::from_millis(1)),
                    _ => {}
                }
            }
        }
    }
}

/// Also where the host is away just now.
fn undo_drain(cluster: &Cluster, host: usize) {
    let (fleet, name) = (cluster.fleet.clone(), format!("h{host}"));
    tokio::spawn(async move {
        while fleet.drain(&name, Drain::Undo).await.is_none() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
}
