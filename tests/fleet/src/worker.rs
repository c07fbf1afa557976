//! A simulated worker: waits as long as its inputs would take, and gives back what its call's plan says.

use std::time::Duration;

use muster_agent::call::{Held, Runs, Workers};
use muster_agent::capacity::Want;
use muster_agent::container::{ClaimError, MemoryReport, RoomGuard, Rooms, Used};
use muster_agent::runner::{News, RunnerError, Running, Step};
use muster_wire::batch::{Inputs, Status};
use muster_wire::frame::{Frame, Kind};
use muster_wire::message::{CallSpec, Exit};
use muster_wire::results::Record;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::plan::Plan;
use crate::tally::Tally;

/// A runner sends its results this often within a batch, as the real one does.
const SEND_EVERY: Duration = Duration::from_millis(5);

/// Gives simulated workers as far as the host has room.
#[derive(Debug, Clone)]
pub struct SimulatedWorkers {
    /// The host's cores and memory.
    pub rooms: Rooms,
    /// Where workers tell that they begin.
    pub tally: Tally,
    /// How long a worker takes to start.
    pub start: Duration,
}

/// The room a simulated worker has.
#[derive(Debug)]
pub struct SimulatedRoom {
    _room: RoomGuard,
}

/// What runs simulated inputs.
#[derive(Debug)]
pub struct SimulatedRunner {
    call: String,
    tally: Tally,
    plan: Plan,
    begun: bool,
    left: Option<Inputs>,
    /// When the first input that is left has ended.
    ends: Instant,
    sent: Instant,
    records: Vec<Record>,
}

impl Workers for SimulatedWorkers {
    type Runner = SimulatedRunner;
    type Held = SimulatedRoom;

    async fn claim(
        &self,
        spec: &CallSpec,
        waiting: watch::Sender<Option<String>>,
    ) -> Result<(SimulatedRunner, SimulatedRoom), ClaimError> {
        let want = Want::new(spec.cpu, spec.ram_bytes);
        if let Some(total) = self.rooms.too_little_for(&want) {
            let cores = total.cpu as f64 / 1000.0;
            return Err(ClaimError::TooLarge { cores, ram_bytes: total.ram });
        }
        let room = self.rooms.take(want, &waiting).await;
        if !self.start.is_zero() {
            tokio::time::sleep(self.start).await;
        }
        let runner = SimulatedRunner::new(spec.call.clone(), self.tally.clone());
        Ok((runner, SimulatedRoom { _room: room }))
    }
}

impl Held<SimulatedRunner> for SimulatedRoom {
    fn used(&self) -> Used {
        Used::default()
    }

    fn memory(&self) -> MemoryReport {
        MemoryReport::default()
    }

    fn stop(self, _runner: SimulatedRunner, _grace: Duration) {}
}

impl SimulatedRunner {
    fn new(call: String, tally: Tally) -> SimulatedRunner {
        let now = Instant::now();
        SimulatedRunner {
            call,
            tally,
            plan: Plan::default(),
            begun: false,
            left: None,
            ends: now,
            sent: now,
            records: Vec::new(),
        }
    }

    /// Ends the inputs whose time has come.
    fn advance(&mut self, now: Instant) {
        while let Some(left) = &mut self.left
            && self.ends <= now
        {
            let index = left.first;
            for (_, item) in left.split_to(1).iter() {
                let output = self.plan.output(&item);
                self.records.push(Record::single(index, 0, 0, Status::Value, output));
            }
            if left.is_empty() {
                self.left = None;
            } else {
                self.ends += self.plan.takes(index + 1);
            }
        }
    }
}

impl Runs for SimulatedRunner {
    fn give(&mut self, before: &[Frame], batch: &Inputs) {
        if let Some(frame) = before.iter().find(|frame| frame.kind == Kind::Function) {
            // A call of another kind runs too: its inputs take no time.
            self.plan = serde_json::from_slice(&frame.body).unwrap_or_default();
        }
        if !self.begun {
            self.begun = true;
            self.tally.begins(&self.call);
        }
        self.sent = Instant::now();
        self.ends = self.sent + self.plan.takes(batch.first);
        self.left = Some(batch.clone());
    }

    fn is_busy(&self) -> bool {
        self.left.is_some() || !self.records.is_empty()
    }

    fn unanswered(&self) -> Option<u64> {
        let first = self.records.first().map(|record| record.index);
        first.or(self.left.as_ref().map(|left| left.first))
    }

    fn running(&self) -> Option<Running> {
        None
    }

    async fn step(&mut self, until: Instant) -> Result<Step, RunnerError> {
        loop {
            let now = Instant::now();
            self.advance(now);
            let due = self.left.is_none() || now >= self.sent + SEND_EVERY;
            if due && !self.records.is_empty() {
                self.sent = now;
                let records = std::mem::take(&mut self.records);
                return Ok(Step::News(News { prints: Vec::new(), records }));
            }
            if now >= until {
                return Ok(Step::Time);
            }
            let next = if self.left.is_some() { self.ends } else { until };
            sleep_until(next.min(until)).await;
        }
    }

    async fn exited(&mut self) -> Exit {
        std::future::pending().await
    }

    async fn signal(&self, _signal: i32) {}

    fn close(&mut self) {}
}

impl Drop for SimulatedRunner {
    fn drop(&mut self) {
        if self.begun {
            self.tally.ends(&self.call);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runner() -> SimulatedRunner {
        SimulatedRunner::new("c".into(), Tally::default())
    }

    fn function(plan: Plan) -> Frame {
        Frame::new(Kind::Function, serde_json::to_vec(&plan).expect("plain data"))
    }

    async fn news(runner: &mut SimulatedRunner) -> Vec<(u64, String)> {
        let until = Instant::now() + Duration::from_secs(3600);
        let Ok(Step::News(news)) = runner.step(until).await else { panic!("news") };
        let text = |item: &[u8]| String::from_utf8_lossy(item).into_owned();
        news.records.iter().map(|record| (record.index, text(&record.items.joined()))).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn inputs_take_their_time_one_after_another_and_come_back() {
        let mut runner = runner();
        let begun = Instant::now();
        let plan = Plan { takes_us: 10_000, ..Plan::default() };
        runner.give(&[function(plan)], &Inputs::from_items(5, 1, &["a", "b"]));
        assert_eq!(news(&mut runner).await, [(5, "a".to_owned())]);
        assert_eq!((begun.elapsed().as_millis(), runner.unanswered()), (10, Some(6)));
        assert_eq!(news(&mut runner).await, [(6, "b".to_owned())]);
        assert_eq!((begun.elapsed().as_millis(), runner.is_busy()), (20, false));
    }

    #[tokio::test(start_paused = true)]
    async fn short_inputs_come_back_together() {
        let mut runner = runner();
        let plan = Plan { takes_us: 1_000, ..Plan::default() };
        runner.give(&[function(plan)], &Inputs::from_items(0, 1, &[""; 12]));
        let counts = [news(&mut runner).await.len(), news(&mut runner).await.len()];
        assert_eq!(counts, [5, 5]);
        runner.give(&[], &Inputs::from_items(12, 1, &["x"; 3]));
        assert_eq!(runner.tally.of("c").begun, 1);
    }
}
