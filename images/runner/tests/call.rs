//! A call on a host, whole, with the real runners and without containers: `muster_agent::call` from request to response.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use muster_agent::call::line::{Connection, Exchange, Lines, Owner};
use muster_agent::call::{Held, Workers, serve};
use muster_agent::container::{ClaimError, MemoryReport, Used};
use muster_agent::engine::EngineError;
use muster_agent::runner::Runner;
use muster_agent::tasks::Tasks;
use muster_wire::batch::{Inputs, Outputs, Status};
use muster_wire::frame::{Decoder, Frame, Kind};
use muster_wire::message::{
    CallKind, CallSpec, Encoding, ExceptionHead, Failure, Mode, WorkerStatus, from_json,
};
use muster_wire::print::Print;
use muster_wire::receipt::Receipt;
use support::{DEADLINE, Home, spec, spec_frame, wait_for};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

/// Gives workers that are processes of this machine.
#[derive(Clone, Default)]
struct Processes {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    claims: AtomicUsize,
    alive: AtomicUsize,
    most: AtomicUsize,
    graces: Mutex<Vec<Duration>>,
    refusals: Mutex<Vec<ClaimError>>,
    oom_kills: AtomicUsize,
}

struct Process {
    shared: Arc<Shared>,
    _home: Home,
}

impl Workers for Processes {
    type Runner = Runner;
    type Held = Process;

    async fn claim(
        &self,
        _: &CallSpec,
        waiting: watch::Sender<Option<String>>,
    ) -> Result<(Runner, Process), ClaimError> {
        let refusal = self.shared.refusals.lock().unwrap().pop();
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        waiting.send_replace(Some("starting containers".into()));
        let mut home = Home::new(&[]);
        let runner = home.start(Mode::Command).await.expect("it starts");
        waiting.send_replace(None);
        self.shared.claims.fetch_add(1, Ordering::SeqCst);
        let alive = self.shared.alive.fetch_add(1, Ordering::SeqCst) + 1;
        self.shared.most.fetch_max(alive, Ordering::SeqCst);
        Ok((runner, Process { shared: self.shared.clone(), _home: home }))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.shared.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Held<Runner> for Process {
    fn used(&self) -> Used {
        Used::default()
    }

    fn memory(&self) -> MemoryReport {
        let oom_kills = self.shared.oom_kills.load(Ordering::SeqCst) as u64;
        MemoryReport { oom_kills, peak_bytes: 9, limit_bytes: 10 }
    }

    fn stop(self, _: Runner, grace: Duration) {
        self.shared.graces.lock().unwrap().push(grace);
    }
}

/// The gateway's side of one call.
struct Call {
    request: Option<mpsc::Sender<Result<Bytes, String>>>,
    response: mpsc::Receiver<Bytes>,
    decoder: Decoder,
    serving: tokio::task::JoinHandle<()>,
    workers: Processes,
    outputs: BTreeMap<u64, (Status, Bytes)>,
    prints: BTreeMap<u64, Vec<u8>>,
    demand: (u64, u64),
    status: Vec<WorkerStatus>,
}

impl Call {
    fn new(workers: Processes) -> Call {
        let (request, body) = mpsc::channel(64);
        let (out, response) = mpsc::channel(4);
        let tasks = Tasks::new();
        let (connection, body) = (Connection::begin(), Box::pin(ReceiverStream::new(body)));
        let exchange = Exchange { id: 1, owner: Owner::Store, connection, body, out };
        let line = Lines::default().open(exchange);
        let serving = tasks.clone().spawn(serve(workers.clone(), "host-1".into(), tasks, line));
        Call {
            request: Some(request),
            response,
            decoder: Decoder::default(),
            serving,
            workers,
            outputs: BTreeMap::new(),
            prints: BTreeMap::new(),
            demand: (0, 0),
            status: Vec::new(),
        }
    }

    async fn send(&self, frames: &[Frame]) {
        let mut bytes = bytes::BytesMut::new();
        for frame in frames {
            frame.encode(&mut bytes);
        }
        let request = self.request.as_ref().expect("the request is open");
        request.send(Ok(bytes.freeze())).await.expect("the agent reads");
    }

    /// Takes the next chunk of the response; false at its end.
    async fn take(&mut self) -> bool {
        let chunk = timeout(DEADLINE, self.response.recv()).await.expect("nothing came");
        let Some(chunk) = chunk else { return false };
        self.decoder.push(&chunk);
        while let Some(frame) = self.decoder.next_frame().unwrap() {
            match frame.kind {
                Kind::Outputs => {
                    for (index, status, item) in Outputs::decode(frame.body).unwrap().iter() {
                        let before = self.outputs.insert(index, (status, item));
                        assert!(before.is_none(), "two outputs for {index}");
                    }
                }
                Kind::Print => {
                    let print = Print::decode(frame.body).unwrap();
                    assert!(!self.outputs.contains_key(&print.index), "a late print");
                    self.prints.entry(print.index).or_default().extend_from_slice(&print.bytes);
                }
                Kind::Receipt => {
                    let Receipt { first, count, .. } = Receipt::decode(frame.body).unwrap();
                    let of = first..first + u64::from(count);
                    assert!(self.outputs.range(of).next().is_none(), "a late receipt");
                }
                Kind::Demand => self.demand = frame.as_two_u64().unwrap(),
                Kind::WorkerStatus => {
                    self.status.push(from_json("WORKER_STATUS", &frame.body).unwrap());
                }
                other => panic!("unexpected {other:?}"),
            }
        }
        true
    }

    async fn until(&mut self, holds: impl Fn(&Call) -> bool) {
        while !holds(self) {
            assert!(self.take().await, "the response ended early");
        }
    }

    /// Reads to the end of the response, and waits for all workers to be stopped.
    async fn finish(&mut self) {
        while self.take().await {}
        assert!(self.decoder.is_empty());
        timeout(DEADLINE, &mut self.serving).await.expect("it stops").unwrap();
        let shared = self.workers.shared.clone();
        wait_for("the end of all workers", || shared.alive.load(Ordering::SeqCst) == 0).await;
    }

    fn failure(&self, index: u64) -> Failure {
        let (status, item) = &self.outputs[&index];
        assert_eq!(*status, Status::Failure);
        from_json("failure", item).unwrap()
    }
}

fn shell(script: &str) -> CallSpec {
    spec(CallKind::Command, Encoding::Json, &["sh", "-c", script])
}

fn inputs(first: u64, count: usize) -> Frame {
    Inputs::from_items(first, 1, &vec!["[]"; count]).to_frame()
}

fn opening(spec: &CallSpec, workers: u32) -> Vec<Frame> {
    vec![spec_frame(spec), Frame::of_u32(Kind::Workers, workers)]
}

async fn whole(workers: &Processes, spec: &CallSpec, width: u32, count: usize) -> Call {
    let mut call = Call::new(workers.clone());
    let mut frames = opening(spec, width);
    frames.push(inputs(0, count));
    frames.push(Frame::of_u64(Kind::InputsEnd, count as u64));
    call.send(&frames).await;
    call.finish().await;
    call
}

#[tokio::test]
async fn one_input_starts_one_worker_and_gives_one_output() {
    let workers = Processes::default();
    let call = whole(&workers, &shell("printf hi"), 8, 1).await;
    assert_eq!(call.outputs.len(), 1);
    assert_eq!(call.outputs[&0], (Status::Value, Bytes::from_static(b"{\"exit_code\": 0}")));
    assert_eq!(call.prints[&0], b"hi");
    assert_eq!(workers.shared.claims.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn every_input_has_one_output_after_its_own_prints() {
    let workers = Processes::default();
    let call = whole(&workers, &shell("printf %s $MUSTER_INPUT_INDEX"), 2, 300).await;
    assert_eq!(call.outputs.len(), 300);
    for index in 0..300 {
        assert_eq!(call.outputs[&index].0, Status::Value);
        assert_eq!(call.prints[&index], index.to_string().as_bytes());
    }
    assert_eq!(workers.shared.most.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_input_that_kills_its_worker_costs_only_itself() {
    let workers = Processes::default();
    let script = "[ $MUSTER_INPUT_INDEX = 30 ] && kill -9 $PPID; printf %s $MUSTER_INPUT_INDEX";
    let call = whole(&workers, &shell(script), 2, 60).await;
    assert_eq!(call.outputs.len(), 60);
    for index in (0..60).filter(|index| *index != 30) {
        assert_eq!(call.outputs[&index].0, Status::Value, "{index}");
    }
    let failure = call.failure(30);
    assert_eq!((failure.code.as_str(), failure.signal), ("worker_died", Some(9)));
    assert_eq!(failure.host.as_deref(), Some("host-1"));
}

#[tokio::test]
async fn a_kill_that_the_cgroup_counts_is_out_of_memory() {
    let workers = Processes::default();
    workers.shared.oom_kills.store(1, Ordering::SeqCst);
    let call = whole(&workers, &shell("kill -9 $$"), 1, 1).await;
    let failure = call.failure(0);
    assert_eq!(failure.code, "out_of_memory");
    assert_eq!((failure.limit_bytes, failure.peak_bytes), (Some(10), Some(9)));
}

#[tokio::test]
async fn an_input_over_its_time_is_killed_and_the_next_one_runs() {
    let workers = Processes::default();
    let script = "printf x; [ $MUSTER_INPUT_INDEX = 1 ] && sleep 1000; exit 0";
    let spec = CallSpec { timeout_ms: Some(400), ..shell(script) };
    let call = whole(&workers, &spec, 1, 3).await;
    assert_eq!(call.outputs[&0].0, Status::Value);
    assert_eq!(call.outputs[&2].0, Status::Value);
    let failure = call.failure(1);
    assert_eq!((failure.code.as_str(), failure.timeout_ms), ("timeout", Some(400)));
    assert_eq!(call.prints[&1], b"x");
}

#[tokio::test]
async fn inputs_are_asked_for_as_they_are_answered() {
    let workers = Processes::default();
    let mut call = Call::new(workers);
    call.send(&opening(&shell("exit 0"), 1)).await;
    call.until(|call| call.demand.0 > 0).await;
    for index in 0..20 {
        call.until(|call| call.demand.0 > index).await;
        call.send(&[inputs(index, 1)]).await;
    }
    call.send(&[Frame::of_u64(Kind::InputsEnd, 20)]).await;
    call.finish().await;
    assert_eq!(call.outputs.len(), 20);
}

#[tokio::test]
async fn fewer_workers_stop_after_their_batch_and_more_start() {
    let workers = Processes::default();
    let mut call = Call::new(workers.clone());
    call.send(&opening(&shell("exit 0"), 3)).await;
    call.until(|call| call.status.last().is_some_and(|status| status.running == 3)).await;
    call.send(&[Frame::of_u32(Kind::Workers, 1)]).await;
    call.until(|call| call.status.last().is_some_and(|status| status.running == 1)).await;
    call.send(&[Frame::of_u32(Kind::Workers, 2)]).await;
    call.until(|call| call.status.last().is_some_and(|status| status.running == 2)).await;
    call.send(&[inputs(0, 4), Frame::of_u64(Kind::InputsEnd, 4)]).await;
    call.finish().await;
    assert_eq!(call.outputs.len(), 4);
    assert_eq!(workers.shared.most.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_call_that_cannot_run_here_says_so_and_ends() {
    let workers = Processes::default();
    let error =
        ClaimError::NoPython { image: "bare".into(), why: "no python3 in the image".into() };
    workers.shared.refusals.lock().unwrap().push(error);
    let call = whole(&workers, &shell("exit 0"), 1, 1).await;
    let error = call.status.last().and_then(|status| status.error.clone()).expect("an error");
    assert_eq!(error.code, "no_python");
    assert!(call.outputs.is_empty());
}

#[tokio::test]
async fn a_refusal_that_may_pass_is_tried_again_and_says_why() {
    let workers = Processes::default();
    let away = EngineError::NotFound { what: "the engine".into() };
    let error = ClaimError::Engine(Box::new(away));
    workers.shared.refusals.lock().unwrap().push(error);
    let call = whole(&workers, &shell("exit 0"), 1, 1).await;
    assert_eq!(call.outputs[&0].0, Status::Value);
    let said = call.status.iter().filter_map(|status| status.waiting.as_deref());
    let said: Vec<&str> = said.collect();
    assert!(said.iter().any(|why| why.contains("trying again")), "{said:?}");
}

#[tokio::test]
async fn a_reader_that_goes_away_cancels_with_grace() {
    let workers = Processes::default();
    let mut call = Call::new(workers.clone());
    let mut frames = opening(&shell("printf started; sleep 1000"), 1);
    frames.push(inputs(0, 1));
    call.send(&frames).await;
    call.until(|call| call.prints.contains_key(&0)).await;
    call.response.close();
    while call.response.recv().await.is_some() {}
    drop(call.response);
    timeout(DEADLINE, call.serving).await.expect("it stops").unwrap();
    assert_eq!(*workers.shared.graces.lock().unwrap(), [Duration::from_secs(5)]);
}

#[tokio::test]
async fn a_request_that_breaks_off_cancels() {
    let workers = Processes::default();
    let mut call = Call::new(workers.clone());
    let mut frames = opening(&shell("printf started; sleep 1000"), 1);
    frames.push(inputs(0, 1));
    call.send(&frames).await;
    call.until(|call| call.prints.contains_key(&0)).await;
    let cut = inputs(1, 1).to_bytes().slice(..10);
    call.request.as_ref().unwrap().send(Ok(cut)).await.unwrap();
    call.request = None;
    call.finish().await;
    assert!(call.outputs.is_empty());
}

#[tokio::test]
async fn a_slow_reader_makes_the_command_wait_and_loses_nothing() {
    let workers = Processes::default();
    let mut call = Call::new(workers);
    let mut frames = opening(&shell("head -c 30000000 /dev/zero; printf end"), 1);
    frames.push(inputs(0, 1));
    frames.push(Frame::of_u64(Kind::InputsEnd, 1));
    call.send(&frames).await;
    call.until(|call| call.prints.get(&0).is_some_and(|bytes| !bytes.is_empty())).await;
    // What lies between here and the command is bounded: pipe, chunks and messages, far below what it prints.
    assert!(call.outputs.is_empty());
    call.finish().await;
    assert_eq!(call.prints[&0].len(), 30_000_003);
    assert!(call.prints[&0].ends_with(b"\0end"));
}

#[tokio::test]
async fn a_failed_command_is_an_exception_of_its_input() {
    let call = whole(&Processes::default(), &shell("exit 4"), 1, 1).await;
    let (status, item) = &call.outputs[&0];
    assert_eq!(*status, Status::Exception);
    assert_eq!(ExceptionHead::of_item(item).unwrap().exit_code, Some(4));
}

#[tokio::test]
async fn a_stream_of_inputs_without_an_end_frame_ends_with_the_request() {
    let mut call = Call::new(Processes::default());
    let mut frames = opening(&shell("exit 0"), 1);
    frames.push(inputs(0, 2));
    call.send(&frames).await;
    call.request = None;
    call.finish().await;
    assert_eq!(call.outputs.len(), 2);
}
