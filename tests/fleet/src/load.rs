//! Calls, made through the gateway's HTTP API as any client makes them, and their events, read and checked.

use std::time::Instant;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame as BodyFrame, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use muster_agent::tasks::Tasks;
use muster_wire::FRAMES_TYPE;
use muster_wire::batch::{Inputs, Outputs};
use muster_wire::frame::{Decoder, Frame, Kind};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::host::PYTHON;
use crate::plan::Plan;

/// Inputs in one frame.
const CHUNK: u64 = 16 << 10;

type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// Makes calls; cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    address: String,
    token: String,
    tasks: Tasks,
}

/// A call to be made.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// How many inputs; each is its index, in eight bytes.
    pub inputs: u64,
    /// What they do.
    pub plan: Plan,
    /// Cores of a worker.
    pub cpu: f64,
    /// Memory of a worker, in GB.
    pub ram: f64,
    /// Image of its workers.
    pub image: &'static str,
}

/// A call whose events are being read.
#[derive(Debug)]
pub struct Call {
    /// Its id.
    pub id: String,
    /// When its request was sent.
    pub asked: Instant,
    load: Load,
    body: Incoming,
}

/// What came of a call.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// `succeeded`, `failed` or `cancelled`.
    pub state: String,
    /// When its request was sent.
    pub asked: Instant,
    /// When the first output came.
    pub first: Option<Instant>,
    /// When the last event came.
    pub ended: Instant,
    /// Outputs that came once, with the right bytes.
    pub right: u64,
    /// Outputs that came again, or with other bytes.
    pub wrong: u64,
}

impl Client {
    /// Of the gateway at this URL, with this token.
    pub fn new(url: &str, token: &str) -> Client {
        let address = url.trim_start_matches("http://").to_owned();
        Client { address, token: token.to_owned(), tasks: Tasks::new() }
    }

    /// Makes a call and gives its events.
    pub async fn call(&self, load: Load) -> anyhow::Result<Call> {
        let mut connection = self.connect().await?;
        let asked = Instant::now();
        let body = BodyExt::boxed_unsync(StreamBody::new(stream::iter(
            frames(load, false).map(|frame| Ok(BodyFrame::data(frame.to_bytes()))),
        )));
        let request = self.request(Method::POST, "/v1/calls").header("accept", FRAMES_TYPE);
        let request = request.header("content-type", FRAMES_TYPE).body(body)?;
        let answer = connection.send_request(request).await.context("a call was not answered")?;
        if answer.status() != StatusCode::OK {
            bail!("a call was refused: {}", said(answer.into_body()).await);
        }
        let id = answer.headers().get("muster-call").context("a call without a name")?;
        let id = id.to_str()?.to_owned();
        Ok(Call { id, asked, load, body: answer.into_body() })
    }

    /// Makes as many calls that nobody waits for, over one connection.
    pub async fn queue(&self, calls: usize, load: Load) -> anyhow::Result<Vec<String>> {
        let mut connection = self.connect().await?;
        let mut ids = Vec::with_capacity(calls);
        for _ in 0..calls {
            let mut body = bytes::BytesMut::new();
            frames(load, true).for_each(|frame| frame.encode(&mut body));
            let body = BodyExt::boxed_unsync(Full::from(body.freeze()));
            let request = self.request(Method::POST, "/v1/calls");
            let request = request.header("content-type", FRAMES_TYPE).body(body)?;
            connection.ready().await?;
            let answer = connection.send_request(request).await?;
            let created = answer.status() == StatusCode::CREATED;
            let id = answer.headers().get("muster-call").and_then(|id| id.to_str().ok());
            let id = id.map(str::to_owned);
            let text = said(answer.into_body()).await;
            ensure!(created, "a call was refused: {text}");
            ids.push(id.context("a call without a name")?);
        }
        Ok(ids)
    }

    /// Cancels calls.
    pub async fn cancel(&self, ids: &[String]) -> anyhow::Result<()> {
        let mut connection = self.connect().await?;
        for id in ids {
            let request = self.request(Method::DELETE, &format!("/v1/calls/{id}"));
            connection.ready().await?;
            let answer = connection.send_request(request.body(empty())?).await?;
            said(answer.into_body()).await;
        }
        Ok(())
    }

    /// A JSON document of the gateway.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let request = self.request(Method::GET, path).body(empty())?;
        let answer = self.connect().await?.send_request(request).await?;
        Ok(serde_json::from_slice(&answer.into_body().collect().await?.to_bytes())?)
    }

    fn request(&self, method: Method, path: &str) -> http::request::Builder {
        let builder = Request::builder().method(method).uri(path).header("host", &self.address);
        builder.header("authorization", format!("Bearer {}", self.token))
    }

    async fn connect(&self) -> anyhow::Result<SendRequest<Body>> {
        let stream = TcpStream::connect(&self.address).await.context("no gateway")?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // How it ends is told to whoever reads the answer.
        self.tasks.spawn(async move { drop(connection.await) });
        Ok(sender)
    }
}

impl Call {
    /// Reads to the end, and checks every output.
    pub async fn outcome(mut self) -> anyhow::Result<Outcome> {
        let mut decoder = Decoder::default();
        let mut seen = vec![0u64; (self.load.inputs / 64 + 1) as usize];
        let mut outcome = Outcome {
            state: "unfinished".to_owned(),
            asked: self.asked,
            first: None,
            ended: self.asked,
            right: 0,
            wrong: 0,
        };
        while let Some(piece) = self.body.frame().await {
            let Ok(data) = piece.context("the events broke off")?.into_data() else { continue };
            decoder.push(&data);
            while let Some(frame) = decoder.next_frame()? {
                match frame.kind {
                    Kind::Outputs => self.check(frame, &mut seen, &mut outcome)?,
                    Kind::Event => {
                        let event: Value = serde_json::from_slice(&frame.body)?;
                        if event["type"] == "end" {
                            outcome.state = event["state"].as_str().unwrap_or("?").to_owned();
                        }
                    }
                    _ => {}
                }
            }
        }
        outcome.ended = Instant::now();
        Ok(outcome)
    }

    fn check(&self, frame: Frame, seen: &mut [u64], outcome: &mut Outcome) -> anyhow::Result<()> {
        outcome.first.get_or_insert_with(Instant::now);
        for (index, _, item) in Outputs::decode(frame.body)?.iter() {
            let at = seen.get_mut((index / 64) as usize).context("an index that is none")?;
            let bit = 1 << (index % 64);
            let right = match self.load.plan.output_bytes {
                None => item[..] == index.to_le_bytes(),
                Some(_) => item == self.load.plan.output(&index.to_le_bytes().to_vec().into()),
            };
            if right && *at & bit == 0 && index < self.load.inputs {
                outcome.right += 1;
            } else {
                outcome.wrong += 1;
            }
            *at |= bit;
        }
        Ok(())
    }
}

/// The frames of a call, made one by one.
fn frames(load: Load, background: bool) -> impl Iterator<Item = Frame> + Send {
    let spec = json!({
        "kind": "pickle", "python": PYTHON, "image": load.image, "cpu": load.cpu, "ram": load.ram, "background": background,
    });
    let plan = serde_json::to_vec(&load.plan).expect("plain data");
    let inputs = (0..load.inputs).step_by(CHUNK as usize).map(move |first| {
        let items: Vec<[u8; 8]> =
            (first..load.inputs.min(first + CHUNK)).map(u64::to_le_bytes).collect();
        Inputs::from_items(first, 0, &items).to_frame()
    });
    [Frame::new(Kind::Spec, spec.to_string()), Frame::new(Kind::Function, plan)]
        .into_iter()
        .chain(inputs)
        .chain([Frame::of_u64(Kind::InputsEnd, load.inputs)])
}

fn empty() -> Body {
    BodyExt::boxed_unsync(Full::default())
}

async fn said(body: Incoming) -> String {
    match body.collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        Err(error) => error.to_string(),
    }
}
