//! One worker of a call: claims it, gives it batches, passes on what it prints and returns, and tells the owner how it ends.

use std::sync::Arc;
use std::time::Duration;

use muster_wire::batch::{Inputs, Status};
use muster_wire::frame::Frame;
use muster_wire::message::{CallError, CallKind, CallSpec, Failure, to_json};
use nix::sys::signal::Signal;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::meter::Meter;
use super::stopwatch::Stopwatch;
use super::verdict::{self, Death};
use super::workers::{Held, Runs, Workers};
use super::writer::{Message, Writer};
use crate::container::ClaimError;
use crate::runner::{News, RunnerError, Step};

/// How long a worker may take to end by itself when its call is over, and when it is cancelled.
const STOP_GRACE: Duration = Duration::from_secs(1);
const CANCEL_GRACE: Duration = Duration::from_secs(5);
/// How long a worker outlives its call. The kernel takes a millisecond or two to end a process, for which the client of a small
/// call should not wait.
const LINGER: Duration = Duration::from_millis(2);
/// Between tries to claim a worker: the first pause, the longest, and how many tries there are.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const TRIES: u32 = 20;
/// How long a runner may take to die of SIGKILL.
const KILL_DEADLINE: Duration = Duration::from_secs(5);
/// A wait that only something else ends.
const LONG: Duration = Duration::from_secs(3600);

/// What all workers of a call need.
#[derive(Debug)]
pub struct Call {
    /// The call.
    pub spec: CallSpec,
    /// What a worker gets before its first batch: SPEC, and FUNCTION if there is one.
    pub opening: Vec<Frame>,
    /// This host's name.
    pub host: String,
}

/// What the owner wants of a driver.
#[derive(Debug)]
pub enum Order {
    /// Run these; boxed, because a channel has room for many orders.
    Run(Box<Inputs>),
    /// End; nothing is being run.
    Stop,
}

/// What a driver tells the owner.
#[derive(Debug)]
pub enum Report {
    /// The worker takes inputs.
    Ready,
    /// The batch is answered.
    Answered {
        /// How many inputs it had.
        inputs: usize,
        /// How many bytes they had.
        bytes: usize,
        /// How long it took.
        took: Duration,
    },
    /// The worker is dead. The last report.
    Died(Box<Died>),
    /// No worker can be had. The last report.
    Unavailable(CallError),
    /// The driver itself failed. The last report.
    Broken,
    /// The worker was stopped as ordered. The last report.
    Gone,
}

/// What a dead worker leaves.
#[derive(Debug)]
pub struct Died {
    /// Inputs of its batch that were answered, with a failure or otherwise.
    pub inputs: usize,
    /// How many bytes they had.
    pub bytes: usize,
    /// What of its batch is to be run again.
    pub rest: Option<Inputs>,
    /// What the first of these would be told, if it were to blame.
    pub failure: Failure,
    /// Whether an input was found to blame, and was told so.
    pub blamed: bool,
}

/// Drives one worker from claim to end.
#[derive(Debug)]
pub struct Driver<W> {
    pub call: Arc<Call>,
    pub workers: W,
    /// A pause before the claim, after workers that died at once.
    pub delay: Duration,
    pub orders: mpsc::Receiver<Order>,
    pub reports: mpsc::Sender<(u64, Report)>,
    pub id: u64,
    pub writer: Writer,
    pub waiting: watch::Sender<Option<String>>,
    pub cancel: CancellationToken,
}

/// Why a batch was not answered.
enum Stop {
    /// The worker is dead, or has to be; this input is to blame.
    Dead(Death, Option<u64>),
    /// The call is cancelled, or nobody reads its response.
    Cancelled,
}

struct Worker<W: Workers> {
    runner: W::Runner,
    held: W::Held,
    /// Whether it has SPEC and FUNCTION.
    opened: bool,
    meter: Meter,
    /// Kills for want of memory that are accounted for.
    oom_kills: u64,
    /// What it wrote to stderr before it died outside of any input.
    last_words: String,
}

impl<W: Workers> Driver<W> {
    /// Runs to the last report.
    pub async fn drive(mut self) {
        let mut last = self.run().await;
        // A worker may die idle just when it is given a batch: nobody has seen that batch.
        self.orders.close();
        if let (Report::Died(died), Ok(Order::Run(batch))) = (&mut last, self.orders.try_recv()) {
            died.rest = Some(*batch);
        }
        self.report(last).await;
    }

    async fn run(&mut self) -> Report {
        let (runner, held) = match self.claim().await {
            Ok(claimed) => claimed,
            Err(report) => return report,
        };
        let mut worker: Worker<W> = Worker {
            runner,
            held,
            opened: false,
            meter: Meter::default(),
            oom_kills: 0,
            last_words: String::new(),
        };
        self.report(Report::Ready).await;
        loop {
            let order = tokio::select! {
                biased;
                () = self.cancel.cancelled() => None,
                order = self.orders.recv() => order,
                exit = worker.runner.exited() => {
                    return Box::pin(self.died(worker, None, Death::Exit(exit), None)).await;
                }
            };
            let Some(Order::Run(batch)) = order else {
                sleep(LINGER).await;
                worker.runner.close();
                worker.held.stop(worker.runner, STOP_GRACE);
                return Report::Gone;
            };
            let begun = Instant::now();
            match self.batch(&mut worker, &batch).await {
                Ok(()) => {
                    let (inputs, bytes) = (batch.len(), batch.item_bytes());
                    self.report(Report::Answered { inputs, bytes, took: begun.elapsed() }).await;
                }
                Err(Stop::Dead(death, guilty)) => {
                    return Box::pin(self.died(worker, Some(*batch), death, guilty)).await;
                }
                Err(Stop::Cancelled) => {
                    worker.held.stop(worker.runner, CANCEL_GRACE);
                    return Report::Gone;
                }
            }
        }
    }

    /// Claims a worker, again and again where that may help.
    async fn claim(&mut self) -> Result<(W::Runner, W::Held), Report> {
        let mut pause = FIRST_PAUSE;
        let mut wait = self.delay;
        for attempt in 1.. {
            let claim = async {
                if !wait.is_zero() {
                    sleep(wait).await;
                }
                self.workers.claim(&self.call.spec, self.waiting.clone()).await
            };
            let error = tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Err(Report::Gone),
                // Before it is ready, a worker is given no other order than to stop.
                _ = self.orders.recv() => return Err(Report::Gone),
                claimed = claim => match claimed {
                    Ok(claimed) => return Ok(claimed),
                    Err(error) => error,
                }
            };
            if error.is_final() || matches!(error, ClaimError::Stopping) || attempt == TRIES {
                return Err(Report::Unavailable(error.to_call_error()));
            }
            let message = error.to_call_error().message;
            tracing::warn!(call = self.call.spec.call, error = message, "no worker yet");
            self.waiting.send_replace(Some(format!("trying again: {message}")));
            wait = pause;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Err(Report::Gone)
    }

    /// Has a batch run, and passes on what comes of it.
    async fn batch(&mut self, worker: &mut Worker<W>, batch: &Inputs) -> Result<(), Stop> {
        worker.held.runs(batch.first..batch.end());
        let opening = if worker.opened { &[] } else { &self.call.opening[..] };
        worker.runner.give(opening, batch);
        worker.opened = true;
        let (meter, held) = (&mut worker.meter, &worker.held);
        // It has the batch by now, and has hardly begun with it.
        meter.begin(Instant::now(), || held.cpu());
        let limit = self.call.spec.timeout_ms;
        let now = Instant::now();
        let mut watch = limit.map(|ms| Stopwatch::new(Duration::from_millis(ms), now));
        let mut killed: Option<Death> = None;
        let mut until = watch.as_ref().map_or(now + LONG, |watch| watch.next_look(now));
        while worker.runner.is_busy() {
            let step = tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Err(Stop::Cancelled),
                step = worker.runner.step(until) => step,
            };
            match step {
                Ok(Step::News(news)) => self.publish(worker, news, batch).await?,
                Ok(Step::Ended { exit, running, news, last_words }) => {
                    self.publish(worker, news, batch).await?;
                    if running.is_none() {
                        let call = &self.call.spec.call;
                        tracing::warn!(call, last_words, "worker died outside of any input");
                        worker.last_words = last_words;
                    }
                    return Err(Stop::Dead(killed.unwrap_or(Death::Exit(exit)), running));
                }
                Ok(Step::Time) => {
                    if let Some(death) = killed.take() {
                        return Err(Stop::Dead(death, worker.runner.unanswered()));
                    }
                    let now = Instant::now();
                    until = watch.as_ref().map_or(now + LONG, |watch| watch.next_look(now));
                    if let (Some(watch), Some(timeout_ms)) = (&mut watch, limit)
                        && watch.is_over(worker.runner.running(), now)
                    {
                        killed = Some(Death::Timeout { timeout_ms });
                        worker.runner.signal(Signal::SIGKILL as i32).await;
                        until = now + KILL_DEADLINE;
                    }
                }
                Err(error) => {
                    let call = &self.call.spec.call;
                    tracing::warn!(call, error = &error as &dyn std::error::Error, "bad runner");
                    let why = hostile(&error);
                    return Err(Stop::Dead(Death::Hostile { why }, worker.runner.unanswered()));
                }
            }
        }
        Ok(())
    }

    async fn publish(
        &self,
        worker: &mut Worker<W>,
        mut news: News,
        batch: &Inputs,
    ) -> Result<(), Stop> {
        let attempt = batch.attempt;
        if self.call.spec.kind == CallKind::Command {
            self.find_out_of_memory(worker, &mut news);
        }
        if news.prints.is_empty() && news.records.is_empty() {
            return Ok(());
        }
        let receipt = news.records.first().map(|record| {
            let next = worker.runner.unanswered().unwrap_or(batch.end());
            worker.held.runs(next..batch.end());
            let count = news.records.iter().map(|record| record.count).sum();
            let used = worker.held.used();
            worker.meter.ended((record.index, count), attempt, Instant::now(), used)
        });
        self.send(Message::of_news(news, attempt, receipt)).await
    }

    async fn send(&self, message: Message) -> Result<(), Stop> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Stop::Cancelled),
            sent = self.writer.send(message) => sent.map_err(|_| Stop::Cancelled),
        }
    }

    /// A command that was killed for want of memory says only that it was killed.
    fn find_out_of_memory(&self, worker: &mut Worker<W>, news: &mut News) {
        for record in &mut news.records {
            let is_one = record.count == 1 && record.status == Status::Exception;
            if !is_one || !verdict::looks_killed(&record.items.joined()) {
                continue;
            }
            let memory = worker.held.memory();
            if memory.oom_kills > worker.oom_kills {
                worker.oom_kills = memory.oom_kills;
                let host = Some(self.call.host.clone());
                let failure = Failure { host, ..verdict::out_of_memory(memory) };
                (record.status, record.items) = (Status::Failure, to_json(&failure).into());
            }
        }
    }

    /// The worker is dead: tells the input that is to blame, and gives the rest of the batch back.
    async fn died(
        &self,
        mut worker: Worker<W>,
        batch: Option<Inputs>,
        death: Death,
        guilty: Option<u64>,
    ) -> Report {
        let memory = worker.held.memory();
        let out_of_memory = memory.oom_kills > worker.oom_kills;
        let death = match death.is_from_outside() && !out_of_memory {
            true if worker.held.is_lost().await => Death::Lost,
            _ => death,
        };
        let mut failure = verdict::failure(&death, worker.oom_kills, memory, &self.call.host);
        if !worker.last_words.is_empty() {
            failure.message = format!("{}: {}", failure.message, worker.last_words);
        }
        let (mut inputs, mut bytes, mut rest) = (0, 0, None);
        if let Some(mut left) = batch {
            (inputs, bytes) = (left.len(), left.item_bytes());
            let answered =
                worker.runner.unanswered().map_or(inputs, |next| (next - left.first) as usize);
            left.split_to(answered);
            if let Some(index) = guilty {
                let item = to_json(&failure);
                let (now, used) = (Instant::now(), worker.held.used());
                let receipt = worker.meter.ended((index, 1), left.attempt, now, used);
                let message = Message::of_failure(receipt, &item);
                if self.send(message).await.is_err() {
                    return Report::Gone;
                }
                left.split_to(1);
            }
            inputs -= left.len();
            bytes -= left.item_bytes();
            rest = (!left.is_empty()).then_some(left);
        }
        worker.held.stop(worker.runner, Duration::ZERO);
        let blamed = guilty.is_some();
        Report::Died(Box::new(Died { inputs, bytes, rest, failure, blamed }))
    }

    async fn report(&self, report: Report) {
        // The owner listens until every driver has ended.
        let _ = self.reports.send((self.id, report)).await;
    }
}

fn hostile(error: &RunnerError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
