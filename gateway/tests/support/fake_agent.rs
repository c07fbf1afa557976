//! A host without containers: dials, turns the roles, and answers as PROTOCOL.md section 5 says an agent does.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Frame as BodyFrame, Incoming};
use hyper::client::conn::http1;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use muster_wire::batch::{Inputs, Outputs, Status};
use muster_wire::frame::{Decoder, Frame, Kind};
use muster_wire::message::{CallError, CallSpec, HostStatus, Image, WorkerStatus, json_frame};
use muster_wire::print::{Print, Stream};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::DEADLINE;

/// What an input does on the fake host.
pub trait Behaviour: Fn(&Input) -> Vec<Act> + Send + Sync + 'static {}
impl<F: Fn(&Input) -> Vec<Act> + Send + Sync + 'static> Behaviour for F {}

/// One attempt of one input.
pub struct Input {
    pub spec: CallSpec,
    pub function: Bytes,
    /// The body of SECRETS, if it came.
    pub secrets: Bytes,
    pub index: u64,
    pub attempt: u32,
    pub item: Bytes,
}

/// One thing an input does. One that does nothing at all runs for ever.
pub enum Act {
    Stdout(Bytes),
    Stderr(Bytes),
    Output(Status, Bytes),
    /// The whole call cannot run here.
    Refuse(CallError),
    /// Whatever else an agent may say.
    Frame(Frame),
}

/// Gives every input back as its output.
pub fn echo(input: &Input) -> Vec<Act> {
    vec![Act::Output(Status::Value, input.item.clone())]
}

/// Calls that were reset, oldest first.
type Resets = Arc<Mutex<Vec<String>>>;

/// From where it was asked to go on with what it did under another connection, oldest first.
type Asked = Arc<Mutex<Vec<u64>>>;

/// A connected fake host; it goes away when dropped.
pub struct FakeAgent {
    pub resets: Resets,
    pub asked: Asked,
    task: JoinHandle<()>,
}

impl Drop for FakeAgent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeAgent {
    /// Dials the gateway; the status of its answer, if it does not let the host in.
    pub async fn dial(
        gateway: SocketAddr,
        token: &str,
        name: &str,
        epoch: u64,
        behaviour: impl Behaviour,
    ) -> Result<FakeAgent, StatusCode> {
        let stream = TcpStream::connect(gateway).await.expect("a connection");
        stream.set_nodelay(true).expect("an option");
        let (mut sender, connection) =
            http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await.expect("a handshake");
        tokio::spawn(connection.with_upgrades());
        let request = Request::post("/v1/hosts/connect")
            .header("host", gateway.to_string())
            .header("authorization", format!("Bearer {token}"))
            .header("connection", "Upgrade")
            .header("upgrade", muster_wire::AGENT_PROTOCOL)
            .header("muster-host", name)
            .header("muster-epoch", epoch.to_string())
            .body(Empty::new())
            .expect("a request");
        let answer = timeout(DEADLINE, sender.send_request(request));
        let answer = answer.await.expect("in time").expect("an answer");
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(answer.status());
        }
        let upgraded = hyper::upgrade::on(answer).await.expect("an upgrade");
        let (resets, asked) = (Resets::default(), Asked::default());
        let host = Arc::new(Host {
            name: name.to_owned(),
            behaviour: Box::new(behaviour),
            resets: resets.clone(),
            asked: asked.clone(),
        });
        let service = service_fn(move |request| serve(host.clone(), request));
        let task = tokio::spawn(async move {
            let server = http2::Builder::new(TokioExecutor::new());
            // The gateway going away is how every test ends.
            let _ = server.serve_connection(upgraded, service).await;
        });
        Ok(FakeAgent { resets, asked, task })
    }
}

type Boxed = Box<dyn Fn(&Input) -> Vec<Act> + Send + Sync>;

struct Host {
    name: String,
    behaviour: Boxed,
    resets: Resets,
    asked: Asked,
}

type Body = BoxBody<Bytes, Infallible>;

async fn serve(host: Arc<Host>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    if let Some(taken) = request.headers().get("muster-taken") {
        let taken = taken.to_str().expect("ASCII").parse().expect("a number");
        host.asked.lock().expect("not poisoned").push(taken);
        // It holds nothing of what it did under another connection.
        let mut refused = Response::new(http_body_util::Empty::new().boxed());
        *refused.status_mut() = http::StatusCode::NOT_FOUND;
        return Ok(refused);
    }
    let (out, frames) = mpsc::channel(64);
    match request.uri().path().strip_prefix("/v1/calls/").map(str::to_owned) {
        None => tokio::spawn(report(host, out)),
        Some(call) => tokio::spawn(run(host, call, request.into_body(), out)),
    };
    let frames = stream::unfold(frames, |mut frames| async move {
        let frame: Frame = frames.recv().await?;
        Some((Ok(BodyFrame::data(frame.to_bytes())), frames))
    });
    Ok(Response::new(StreamBody::new(frames).boxed()))
}

async fn report(host: Arc<Host>, out: mpsc::Sender<Frame>) {
    let status = HostStatus {
        host: host.name.clone(),
        version: "0.1.0".into(),
        cores: 2.0,
        ram_bytes: 16 << 30,
        free_cores: 2.0,
        lent_cores: 0.0,
        waiting_workers: 0,
        free_ram_bytes: 16 << 30,
        workers: 0,
        warm: 0,
        warm_claims: 0,
        cold_claims: 0,
        draining: false,
        pull: false,
        images: vec![Image { name: "muster/python:3.11".into(), python: Some("3.11".into()) }],
        runtimes: vec!["runc".into()],
        shares: Vec::new(),
    };
    let mut tick = tokio::time::interval(Duration::from_secs(5));
    loop {
        tick.tick().await;
        if out.send(json_frame(Kind::HostStatus, &status)).await.is_err() {
            return;
        }
    }
}

async fn run(host: Arc<Host>, call: String, mut body: Incoming, out: mpsc::Sender<Frame>) {
    let starting = WorkerStatus { starting: 2, ..Default::default() };
    let _ = out.send(json_frame(Kind::WorkerStatus, &starting)).await;
    let mut started = false;
    let _ = out.send(Frame::demand(u64::MAX, u64::MAX)).await;
    let mut decoder = Decoder::default();
    let mut spec = None;
    let mut function = Bytes::new();
    let mut secrets = Bytes::new();
    while let Some(data) = body.frame().await {
        let Ok(data) = data else {
            host.resets.lock().expect("not poisoned").push(call);
            return;
        };
        decoder.push(&data.into_data().expect("data"));
        while let Some(frame) = decoder.next_frame().expect("sound frames") {
            match frame.kind {
                Kind::Spec => spec = Some(serde_json::from_slice(&frame.body).expect("a SPEC")),
                Kind::Secrets => secrets = frame.body,
                Kind::Function => function = frame.body,
                Kind::Inputs => {
                    let inputs = Inputs::decode(frame.body).expect("INPUTS");
                    for (index, item) in inputs.iter() {
                        let spec: CallSpec = Option::clone(&spec).expect("SPEC comes first");
                        let (function, secrets) = (function.clone(), secrets.clone());
                        let attempt = inputs.attempt;
                        let input = Input { spec, function, secrets, index, attempt, item };
                        let acts = (host.behaviour)(&input);
                        if !started && !matches!(acts.first(), Some(Act::Refuse(_))) {
                            started = true;
                            let running = WorkerStatus { running: 2, ..Default::default() };
                            let _ = out.send(json_frame(Kind::WorkerStatus, &running)).await;
                        }
                        for act in acts {
                            let _ = out.send(frame_of(&input, act)).await;
                        }
                    }
                }
                _ => {}
            }
        }
    }
}

fn frame_of(input: &Input, act: Act) -> Frame {
    let print = |stream, bytes| {
        Print { index: input.index, attempt: input.attempt, stream, bytes }.to_frame()
    };
    match act {
        Act::Stdout(bytes) => print(Stream::Stdout, bytes),
        Act::Stderr(bytes) => print(Stream::Stderr, bytes),
        Act::Output(status, item) => {
            Outputs::single(input.index, input.attempt, status, &item).to_frame()
        }
        Act::Frame(frame) => frame,
        Act::Refuse(error) => {
            let status = WorkerStatus { error: Some(error), ..Default::default() };
            json_frame(Kind::WorkerStatus, &status)
        }
    }
}
