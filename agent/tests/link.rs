//! The link: a gateway of a few lines accepts the agent's connection, turns the roles, and calls.

#![allow(clippy::disallowed_methods, reason = "the gateway here ends with the test's runtime")]

mod common;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use common::{IMAGE, SOON};
use futures_util::StreamExt;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use muster_agent::link::identity::{Credential, Kept};
use muster_agent::serve::{Agent, Stopped};
use muster_wire::batch::{Inputs, Outputs, Status};
use muster_wire::frame::{Decoder, Frame, Kind};
use muster_wire::message::{CallKind, CallSpec, Encoding, HostStatus, from_json, json_frame};
use muster_wire::print::Print;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Out = http_body_util::combinators::UnsyncBoxBody<Bytes, Failure>;

/// The gateway's end of a link; dropping it cuts the connection, whatever is open on it.
struct Caller {
    sender: SendRequest<Out>,
    socket: std::net::TcpStream,
    /// Which start of the gateway it says that it is.
    start: u64,
}

impl Drop for Caller {
    fn drop(&mut self) {
        // The agent may have hung up before.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

/// A gateway: the addresses of its connections' callers come out of a channel.
struct Gateway {
    url: String,
    callers: mpsc::Receiver<(Caller, HashMap<String, String>)>,
}

impl Gateway {
    /// Refuses with these answers first, then links.
    async fn open(mut refusals: Vec<StatusCode>) -> Gateway {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let (sender, callers) = mpsc::channel(8);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("the test still runs");
                let stream = stream.into_std().expect("a socket");
                let socket = Arc::new(stream.try_clone().expect("a second handle"));
                let stream = tokio::net::TcpStream::from_std(stream).expect("a socket");
                let refusal = (!refusals.is_empty()).then(|| refusals.remove(0));
                let sender = sender.clone();
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(move |request| {
                        let (sender, socket) = (sender.clone(), socket.clone());
                        async move { Ok::<_, Infallible>(accept(request, refusal, sender, &socket)) }
                    });
                    let served = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades();
                    // The agent may hang up as it likes.
                    let _ = served.await;
                });
            }
        });
        Gateway { url, callers }
    }

    async fn caller(&mut self) -> (Caller, HashMap<String, String>) {
        let next = tokio::time::timeout(SOON, self.callers.recv()).await;
        next.expect("the agent dials").expect("the gateway lives")
    }
}

fn accept(
    mut request: Request<Incoming>,
    refusal: Option<StatusCode>,
    sender: mpsc::Sender<(Caller, HashMap<String, String>)>,
    socket: &std::net::TcpStream,
) -> Response<Full<Bytes>> {
    assert_eq!(request.uri().path(), "/v1/hosts/connect");
    if let Some(status) = refusal {
        let mut response = Response::new(Full::from(r#"{"detail": "not you"}"#));
        *response.status_mut() = status;
        return response;
    }
    let headers = request
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_string()))
        .collect();
    let upgrade = hyper::upgrade::on(&mut request);
    let socket = socket.try_clone().expect("another handle");
    tokio::spawn(async move {
        let upgraded = upgrade.await.expect("the roles turn");
        let (caller, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), upgraded)
                .await
                .expect("HTTP/2");
        tokio::spawn(connection);
        let caller = Caller { sender: caller, socket, start: 1 };
        // A test that has seen enough takes no more callers.
        let _ = sender.send((caller, headers)).await;
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header("connection", "upgrade")
        .header("upgrade", "muster-agent/1")
        .body(Full::default())
        .expect("a response")
}

/// The frames of a response, as they come.
struct Frames {
    body: Incoming,
    decoder: Decoder,
}

impl Frames {
    async fn next(&mut self) -> Option<Frame> {
        tokio::time::timeout(SOON, async {
            loop {
                if let Some(frame) = self.decoder.next_frame().expect("whole frames") {
                    return Some(frame);
                }
                let data = self.body.frame().await?.ok()?.into_data().ok()?;
                self.decoder.push(&data);
            }
        })
        .await
        .expect("news within a minute")
    }

    /// Until the host has as many workers as this says.
    async fn workers(&mut self, wanted: impl Fn(u32) -> bool) {
        let seen = async { while !wanted(self.status().await.expect("linked").workers) {} };
        tokio::time::timeout(SOON, seen).await.expect("within a minute");
    }

    async fn status(&mut self) -> Option<HostStatus> {
        let frame = self.next().await?;
        assert_eq!(frame.kind, Kind::HostStatus);
        Some(from_json("HOST_STATUS", &frame.body).expect("a status"))
    }
}

async fn ask<B>(caller: &mut Caller, method: &str, path: &str, body: B) -> Response<Incoming>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Failure>,
{
    let uri = format!("http://agent{path}");
    let body = BodyExt::boxed_unsync(body.map_err(Into::into));
    let request = Request::builder().method(method).uri(uri).header("muster-gateway", caller.start);
    let request = request.body(body).expect("a request");
    let answer = tokio::time::timeout(SOON, caller.sender.send_request(request)).await;
    answer.expect("an answer within a minute").expect("an answer")
}

async fn frames(caller: &mut Caller, path: &str) -> Frames {
    let response = ask(caller, "GET", path, Empty::<Bytes>::new()).await;
    assert_eq!(response.status(), StatusCode::OK);
    Frames { body: response.into_body(), decoder: Decoder::default() }
}

/// An agent that runs until `stop` is dropped.
struct Running {
    name: String,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<Stopped>,
    state: tempfile::TempDir,
    _cleanup: Cleanup,
}

/// A test that failed leaves no container either.
struct Cleanup(String);

impl Drop for Cleanup {
    fn drop(&mut self) {
        let left = common::docker(&["ps", "-aq", "--filter", &self.0]);
        for container in common::text(left).lines() {
            common::docker(&["rm", "-f", container]);
        }
    }
}

async fn run(gateway: &str) -> Running {
    let state = tempfile::tempdir().expect("a directory");
    let settings = common::settings(state.path());
    let joined = Kept {
        gateway: gateway.to_string(),
        pin: None,
        token: Some("token".into()),
        certificate: None,
        key: None,
        renew_unix_s: u64::MAX,
        expires_unix_s: u64::MAX,
    };
    let folder = settings.source.folder.clone().expect("one of its own");
    Credential::of(joined).expect("good").write(&folder).expect("written");
    let agent = Agent::build(&settings).await.expect("Docker runs here");
    let (stop, asked) = oneshot::channel::<()>();
    let ended = tokio::spawn(agent.run(async {
        let _ = asked.await;
    }));
    let _cleanup = Cleanup(format!("label=muster.agent={}", settings.host_name));
    Running { name: settings.host_name, stop, ended, state, _cleanup }
}

impl Running {
    async fn stop(self) {
        drop(self.stop);
        let ended = tokio::time::timeout(SOON, self.ended).await.expect("it stops");
        assert_eq!(ended.expect("no panic"), Stopped::Asked);
        let label = format!("label=muster.agent={}", self.name);
        assert_eq!(common::text(common::docker(&["ps", "-aq", "--filter", &label])), "");
        assert!(!self.state.path().join("s").exists(), "the state directory is left");
    }
}

#[tokio::test]
async fn the_agent_dials_presents_itself_and_tells_its_status() {
    let mut gateway = Gateway::open(vec![]).await;
    let agent = run(&gateway.url).await;
    let (mut caller, headers) = gateway.caller().await;
    assert_eq!(headers["muster-host"], agent.name);
    assert_eq!(headers["authorization"], "Bearer token");
    assert!(headers["muster-epoch"].parse::<u64>().is_ok());
    let mut stream = frames(&mut caller, "/v1/status").await;
    let status = stream.status().await.expect("at once");
    assert_eq!(status.host, agent.name);
    assert_eq!((status.free_cores, status.workers), (status.cores, 0));
    assert!(status.images.iter().any(|image| image.name == IMAGE));
    let missing = ask(&mut caller, "GET", "/v1/elsewhere", Empty::<Bytes>::new()).await;
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
    agent.stop().await;
    let mut draining = false;
    while let Some(status) = stream.status().await {
        draining = status.draining;
    }
    assert!(draining, "the gateway was not told of the stop");
}

#[tokio::test]
async fn a_lost_link_is_dialled_again_under_the_same_epoch() {
    let mut gateway = Gateway::open(vec![StatusCode::CONFLICT]).await;
    let agent = run(&gateway.url).await;
    let (caller, first) = gateway.caller().await;
    drop(caller);
    let (mut caller, second) = gateway.caller().await;
    assert_eq!(first["muster-epoch"], second["muster-epoch"]);
    let mut stream = frames(&mut caller, "/v1/status").await;
    assert!(stream.status().await.is_some());
    agent.stop().await;
}

fn echo() -> CallSpec {
    CallSpec {
        call: "c1".into(),
        kind: CallKind::Command,
        encoding: Encoding::Raw,
        image: IMAGE.into(),
        runtime: None,
        python: None,
        cpu: 0.5,
        ram_bytes: 64 << 20,
        env: [("GREETING".to_string(), "hello".to_string())].into(),
        timeout_ms: None,
        entry: None,
        command: ["sh", "-c", "echo $GREETING; cat"].map(String::from).to_vec(),
        packages: None,
        secrets: Vec::new(),
        data: Vec::new(),
        shares: Default::default(),
    }
}

#[tokio::test]
async fn a_call_runs_over_the_link() {
    let mut gateway = Gateway::open(vec![]).await;
    let agent = run(&gateway.url).await;
    let (mut caller, _) = gateway.caller().await;
    let mut body = BytesMut::new();
    json_frame(Kind::Spec, &echo()).encode(&mut body);
    Frame::of_u32(Kind::Workers, 1).encode(&mut body);
    Inputs::from_items(0, 1, &["one", "two"]).to_frame().encode(&mut body);
    Frame::of_u64(Kind::InputsEnd, 2).encode(&mut body);
    let response = ask(&mut caller, "POST", "/v1/calls/c1", Full::new(body.freeze())).await;
    assert_eq!(response.status(), StatusCode::OK);
    let mut stream = Frames { body: response.into_body(), decoder: Decoder::default() };
    let (mut printed, mut done) = (HashMap::<u64, Vec<u8>>::new(), Vec::new());
    while let Some(frame) = stream.next().await {
        match frame.kind {
            Kind::Print => {
                let print = Print::decode(frame.body).expect("a print");
                printed.entry(print.index).or_default().extend_from_slice(&print.bytes);
            }
            Kind::Outputs => {
                let outputs = Outputs::decode(frame.body).expect("outputs");
                done.extend(outputs.iter().map(|(index, status, _)| (index, status)));
            }
            _ => {}
        }
    }
    done.sort_by_key(|(index, _)| *index);
    assert_eq!(done, [(0, Status::Value), (1, Status::Value)]);
    assert_eq!(printed[&0], b"hello\none");
    assert_eq!(printed[&1], b"hello\ntwo");
    agent.stop().await;
}

/// A call under way; its request stays open until `reset` is dropped, which breaks it off.
struct Call {
    _news: Frames,
    reset: oneshot::Sender<()>,
}

/// Starts a call that never ends by itself, and waits until it runs.
async fn endless(caller: &mut Caller) -> Call {
    let mut body = BytesMut::new();
    let sleep = CallSpec {
        command: ["sh", "-c", "echo started; sleep 1000"].map(String::from).to_vec(),
        ..echo()
    };
    json_frame(Kind::Spec, &sleep).encode(&mut body);
    Frame::of_u32(Kind::Workers, 1).encode(&mut body);
    Inputs::from_items(0, 1, &[""]).to_frame().encode(&mut body);
    let (reset, broken) = oneshot::channel::<()>();
    let open = futures_util::stream::iter([Ok(hyper::body::Frame::data(body.freeze()))]).chain(
        futures_util::stream::once(async {
            let _ = broken.await;
            Err(std::io::Error::other("broken off"))
        })
        .boxed(),
    );
    let response = ask(caller, "POST", "/v1/calls/c1", StreamBody::new(open)).await;
    let mut news = Frames { body: response.into_body(), decoder: Decoder::default() };
    while news.next().await.expect("the call goes on").kind != Kind::Print {}
    Call { _news: news, reset }
}

#[tokio::test]
async fn a_reset_stream_cancels_its_call() {
    let mut gateway = Gateway::open(vec![]).await;
    let agent = run(&gateway.url).await;
    let (mut caller, _) = gateway.caller().await;
    let mut status = frames(&mut caller, "/v1/status").await;
    let call = endless(&mut caller).await;
    status.workers(|workers| workers == 1).await;
    drop(call.reset);
    status.workers(|workers| workers == 0).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_lost_link_leaves_its_calls_until_a_gateway_that_was_started_anew_links() {
    let mut gateway = Gateway::open(vec![]).await;
    let agent = run(&gateway.url).await;
    let (mut caller, _) = gateway.caller().await;
    let _call = endless(&mut caller).await;
    drop(caller);
    // The same gateway could ask for it.
    let (mut caller, _) = gateway.caller().await;
    let mut status = frames(&mut caller, "/v1/status").await;
    status.workers(|workers| workers == 1).await;
    drop(caller);
    let (mut caller, _) = gateway.caller().await;
    caller.start = 2;
    let mut status = frames(&mut caller, "/v1/status").await;
    status.workers(|workers| workers == 0).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_stop_cancels_running_calls_and_leaves_nothing() {
    let mut gateway = Gateway::open(vec![]).await;
    let agent = run(&gateway.url).await;
    let (mut caller, _) = gateway.caller().await;
    let _call = endless(&mut caller).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_second_agent_of_the_same_name_is_refused() {
    let state = tempfile::tempdir().expect("a directory");
    let settings = common::settings(state.path());
    let first = Agent::build(&settings).await.expect("Docker runs here");
    let error = Agent::build(&settings).await.expect_err("the name is taken");
    assert!(error.to_string().contains(&settings.host_name));
    assert_eq!(first.run(async {}).await, Stopped::Asked);
}
