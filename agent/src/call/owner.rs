//! The task that owns a call on this host: inputs in, workers up and down, batches to whoever is idle.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use muster_wire::batch::Status;
use muster_wire::frame::{Frame, Kind};
use muster_wire::message::{CallError, CallSpec, WorkerStatus, from_json, json_frame, to_json};
use muster_wire::pieces::Pieces;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::batching::Pace;
use super::demand::Demand;
use super::driver::{Call, Died, Driver, Report};
use super::intake::{Got, Intake, IntakeError};
use super::line::{Inlet, Line, Outlet};
use super::queue::Queue;
use super::slots::{Slots, State, is_active, is_running};
use super::workers::Workers;
use super::writer::{Closed, Message, Writer};
use crate::tasks::Tasks;

/// How many workers start and run is told after this: a small call has ended by then, and nobody had to hear of it.
const TELL_AFTER: Duration = Duration::from_millis(10);
/// Reports that wait for the owner.
const REPORTS: usize = 64;
/// Workers that may die in a row, without having run anything, before the input at the front is charged.
const PATIENCE: u32 = 3;
/// Pauses before the next claim after such a death: the first and the longest.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// Serves one call over its exchange. The end of the exchange and the stop of `tasks` cancel the call. Returns when every
/// worker is stopped, or is being stopped by its container.
pub async fn serve<W: Workers>(
    workers: W,
    host: String,
    tasks: Tasks,
    (line, outlet, inlet): (Line, Outlet, Inlet),
) {
    let (writer, writing) = Writer::new(outlet);
    let writing = tasks.spawn(writing);
    let (reports_in, mut reports) = mpsc::channel(REPORTS);
    let (waiting, _) = watch::channel(None);
    let mut owner = Owner {
        workers,
        host,
        tasks: tasks.clone(),
        writer,
        reports: reports_in,
        waiting,
        cancel: CancellationToken::new(),
        spec: None,
        opening: Vec::new(),
        call: None,
        slots: Slots::default(),
        wanted: 0,
        queue: Queue::default(),
        ended: false,
        pace: Pace::default(),
        demand: Demand::default(),
        deaths: 0,
        told: WorkerStatus::default(),
        tell_at: None,
        error: None,
    };
    let mut intake = Intake::new(inlet);
    let end = tokio::select! {
        biased;
        () = tasks.cancelled() => Err(Cancelled::Stopping),
        () = line.over() => Err(Cancelled::Closed),
        end = owner.run(&mut intake, &mut reports) => end,
    };
    match end {
        Ok(()) => {
            owner.writer.end().await;
            // The response ends when all is written; what follows concerns nobody who reads it.
            tasks.spawn(async move {
                tokio::select! {
                    _ = writing => {}
                    () = line.over() => {}
                }
            });
        }
        Err(why) => {
            let call = owner.spec.as_ref().map(|spec| spec.call.as_str());
            tracing::info!(call, why = &why as &dyn std::error::Error, "call cancelled");
            owner.cancel.cancel();
            drop(line);
        }
    }
    owner.slots.stop_all();
    if owner.error.is_some() {
        owner.cancel.cancel();
    }
    drop(owner);
    while reports.recv().await.is_some() {}
}

/// Why a call was given up.
#[derive(Debug, thiserror::Error)]
enum Cancelled {
    #[error("the agent stops")]
    Stopping,
    #[error("the gateway gave the call up, or was away for too long")]
    Closed,
    #[error("the request makes no sense")]
    Intake(#[from] IntakeError),
    #[error("the request is not the protocol")]
    Wire(#[from] muster_wire::WireError),
}

impl From<Closed> for Cancelled {
    fn from(_: Closed) -> Cancelled {
        Cancelled::Closed
    }
}

struct Owner<W> {
    workers: W,
    host: String,
    tasks: Tasks,
    writer: Writer,
    reports: mpsc::Sender<(u64, Report)>,
    /// Why claims wait; the last one to say something is heard.
    waiting: watch::Sender<Option<String>>,
    cancel: CancellationToken,
    spec: Option<CallSpec>,
    opening: Vec<Frame>,
    call: Option<Arc<Call>>,
    slots: Slots,
    wanted: usize,
    queue: Queue,
    /// No input will come any more.
    ended: bool,
    pace: Pace,
    demand: Demand,
    /// Workers in a row that died without having run anything.
    deaths: u32,
    told: WorkerStatus,
    /// When the status is told, where it has changed.
    tell_at: Option<Instant>,
    error: Option<CallError>,
}

impl<W: Workers> Owner<W> {
    /// Serves until every input is answered, or the call cannot run here.
    async fn run(
        &mut self,
        intake: &mut Intake,
        reports: &mut mpsc::Receiver<(u64, Report)>,
    ) -> Result<(), Cancelled> {
        let mut waiting = self.waiting.subscribe();
        let mut open = true;
        loop {
            self.scale();
            self.slots.hand_out(&mut self.queue, &self.pace);
            self.tell().await?;
            if self.error.is_some() || self.is_finished() {
                return Ok(());
            }
            tokio::select! {
                biased;
                report = reports.recv() => {
                    let mut next = report;
                    // Workers that were claimed together report together: what follows from that is found, and told, once.
                    if self.slots.count(|state| state == State::Starting) > 1 {
                        tokio::task::yield_now().await;
                    }
                    while let Some((id, report)) = next {
                        self.on_report(id, report).await?;
                        next = reports.try_recv().ok();
                    }
                }
                got = intake.next(), if open => {
                    let mut next = Some(got?);
                    // What came together is seen together: a small call starts no worker that it does not need.
                    while let Some(got) = next {
                        match got {
                            Got::Frame(frame) => frame.map_or(Ok(()), |it| self.on_frame(it))?,
                            Got::Inputs(inputs) => self.queue.push(inputs),
                            Got::Resumed => self.tell_again(),
                            Got::End => {
                                (open, self.ended) = (false, true);
                                if self.wanted == 0 {
                                    return Ok(());
                                }
                            }
                        }
                        next = if open { intake.next_now()? } else { None };
                    }
                }
                // The sender is ours, so it is there.
                _ = waiting.changed() => {}
                () = sleep_until(self.tell_at.unwrap_or_else(Instant::now)), if self.tell_at.is_some() => {}
            }
        }
    }

    fn on_frame(&mut self, frame: Frame<Pieces>) -> Result<(), Cancelled> {
        match frame.kind {
            Kind::Spec => {
                let mut spec: CallSpec = from_json("SPEC", &frame.body.joined())?;
                // For the user's code, and for exceptions, which say where they were raised.
                let (host, cpu, ram) = (self.host.clone(), spec.cpu, spec.ram_bytes);
                for (name, value) in [
                    ("MUSTER_HOST", host),
                    ("MUSTER_CPU", cpu.to_string()),
                    ("MUSTER_RAM_BYTES", ram.to_string()),
                ] {
                    spec.env.insert(name.into(), value);
                }
                self.opening = vec![json_frame(Kind::Spec, &spec)];
                self.spec = Some(spec);
            }
            Kind::Secrets | Kind::Function => self.opening.push(frame.joined()),
            Kind::Workers => {
                self.wanted = frame.joined().as_u32()? as usize;
                let missing = muster_wire::WireError::Malformed {
                    what: "call",
                    why: "WORKERS came before SPEC",
                };
                let spec = self.spec.clone().ok_or(missing)?;
                if self.call.is_none() {
                    let opening = std::mem::take(&mut self.opening);
                    self.call = Some(Arc::new(Call { spec, opening, host: self.host.clone() }));
                }
            }
            Kind::InputsEnd => self.ended = true,
            _ => {}
        }
        Ok(())
    }

    async fn on_report(&mut self, id: u64, report: Report) -> Result<(), Cancelled> {
        match report {
            Report::Ready => self.slots.set(id, State::Starting, State::Idle),
            Report::Answered { inputs, bytes, took } => {
                self.deaths = 0;
                self.pace.observe(inputs, took);
                self.demand.answered(inputs, bytes);
                self.slots.set(id, State::Busy, State::Idle);
                self.slots.stop(id, State::Retiring);
            }
            Report::Died(died) => {
                self.slots.remove(id);
                self.on_death(*died).await?;
            }
            Report::Unavailable(error) => {
                self.slots.remove(id);
                if self.slots.count(is_running) == 0 {
                    self.error = Some(error);
                } else {
                    // Those that run go on without it, until the gateway wants more.
                    self.wanted = self.slots.count(is_active);
                }
            }
            Report::Broken => {
                self.slots.remove(id);
                self.error = Some(CallError {
                    code: "internal".into(),
                    message: "the agent failed while it drove a worker".into(),
                    action: "look at the agent's log on this host".into(),
                });
            }
            Report::Gone => {
                self.slots.remove(id);
            }
        }
        Ok(())
    }

    async fn on_death(&mut self, died: Died) -> Result<(), Cancelled> {
        self.demand.answered(died.inputs, died.bytes);
        if died.inputs > 0 {
            self.deaths = 0;
        } else {
            self.deaths += 1;
        }
        let Some(mut rest) = died.rest else { return Ok(()) };
        if self.deaths >= PATIENCE && !died.blamed {
            self.deaths = 0;
            let item = to_json(&died.failure);
            let guilty = rest.split_to(1);
            let failure = Message::of_output(guilty.first, guilty.attempt, Status::Failure, &item);
            self.writer.send(failure).await?;
            self.demand.answered(1, guilty.item_bytes());
        }
        self.queue.put_back(rest);
        Ok(())
    }

    /// As many workers as are wanted and of use.
    fn scale(&mut self) {
        let Some(call) = self.call.clone().filter(|_| self.error.is_none()) else { return };
        let useful = self.queue.len() + self.slots.count(|state| state == State::Busy);
        let wanted = if self.ended { self.wanted.min(useful) } else { self.wanted };
        let active = self.slots.count(is_active);
        for _ in active..wanted {
            self.start(call.clone());
        }
        self.slots.shrink(wanted);
    }

    fn start(&mut self, call: Arc<Call>) {
        let (id, orders) = self.slots.add();
        let delay = match self.deaths {
            0 => Duration::ZERO,
            deaths => (FIRST_DELAY * (1 << deaths.min(8))).min(LONGEST_DELAY),
        };
        let driver = Driver {
            call,
            workers: self.workers.clone(),
            delay,
            orders,
            reports: self.reports.clone(),
            id,
            writer: self.writer.clone(),
            waiting: self.waiting.clone(),
            cancel: self.cancel.clone(),
        };
        let reports = self.reports.clone();
        self.tasks.spawn(async move {
            if AssertUnwindSafe(driver.drive()).catch_unwind().await.is_err() {
                // The owner listens until every driver has ended.
                let _ = reports.send((id, Report::Broken)).await;
            }
        });
    }

    /// What was said of workers and demand is said once more.
    fn tell_again(&mut self) {
        self.demand.forget();
        self.told = WorkerStatus { starting: u32::MAX, ..WorkerStatus::default() };
    }

    /// DEMAND and WORKER_STATUS, where they have changed.
    async fn tell(&mut self) -> Result<(), Cancelled> {
        let starting = self.slots.count(|state| state == State::Starting);
        let running = self.slots.count(is_running);
        if !self.ended
            && let Some((inputs, bytes)) = self.demand.next(starting, running, self.pace)
        {
            self.writer.send(Message::of(&Frame::demand(inputs, bytes))).await?;
        }
        let idle = running == 0 && starting > 0;
        let status = WorkerStatus {
            starting: starting as u32,
            running: running as u32,
            waiting: if idle { self.waiting.borrow().clone() } else { None },
            error: self.error.clone(),
        };
        if status == self.told {
            self.tell_at = None;
            return Ok(());
        }
        let now = Instant::now();
        let is_urgent = status.error.is_some() || status.waiting.is_some();
        if is_urgent || *self.tell_at.get_or_insert(now + TELL_AFTER) <= now {
            self.writer.send(Message::of(&json_frame(Kind::WorkerStatus, &status))).await?;
            (self.told, self.tell_at) = (status, None);
        }
        Ok(())
    }

    fn is_finished(&self) -> bool {
        let busy = self.slots.count(|state| matches!(state, State::Busy | State::Retiring));
        self.ended && self.queue.is_empty() && busy == 0
    }
}
