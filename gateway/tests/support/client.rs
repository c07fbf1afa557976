//! A small HTTP/1.1 client: one connection for each request, answers read as they come.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::Stream;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame as BodyFrame, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use muster_wire::FRAMES_TYPE;
use muster_wire::frame::{Decoder, Frame};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{DEADLINE, openapi};

type Body = BoxBody<Bytes, Infallible>;

/// Makes requests with one token.
#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    token: Option<String>,
}

/// A request being made.
pub struct Asking {
    client: Client,
    method: &'static str,
    target: String,
    headers: Vec<(&'static str, String)>,
    body: Body,
}

impl Client {
    pub fn new(address: SocketAddr, token: Option<String>) -> Client {
        Client { address, token }
    }

    pub fn get(&self, target: impl Into<String>) -> Asking {
        self.ask("GET", target)
    }

    pub fn post(&self, target: impl Into<String>) -> Asking {
        self.ask("POST", target)
    }

    pub fn delete(&self, target: impl Into<String>) -> Asking {
        self.ask("DELETE", target)
    }

    pub fn ask(&self, method: &'static str, target: impl Into<String>) -> Asking {
        let headers = self.token.iter().map(|token| ("authorization", format!("Bearer {token}")));
        Asking {
            client: self.clone(),
            method,
            target: target.into(),
            headers: headers.collect(),
            body: BodyExt::boxed(Full::new(Bytes::new())),
        }
    }
}

impl Asking {
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Asking {
        self.headers.push((name, value.into()));
        self
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Asking {
        self.body = BodyExt::boxed(Full::new(body.into()));
        self
    }

    pub fn json(self, body: &Value) -> Asking {
        self.header("content-type", "application/json").body(body.to_string())
    }

    pub fn frames(self, frames: &[Frame]) -> Asking {
        let mut bytes = BytesMut::new();
        frames.iter().for_each(|frame| frame.encode(&mut bytes));
        self.header("content-type", FRAMES_TYPE).body(bytes)
    }

    pub fn stream(mut self, pieces: impl Stream<Item = Bytes> + Send + Sync + 'static) -> Asking {
        let pieces = StreamExt::map(pieces, |piece| Ok(BodyFrame::data(piece)));
        self.body = BodyExt::boxed(StreamBody::new(pieces));
        self
    }

    /// Sends it; the answer's head has come, and is as `openapi.json` says.
    pub async fn send(self) -> Answer {
        timeout(DEADLINE, self.sent()).await.expect("an answer in time")
    }

    async fn sent(self) -> Answer {
        let stream = TcpStream::connect(self.client.address).await.expect("a connection");
        stream.set_nodelay(true).expect("an option");
        let (mut sender, connection) =
            http1::handshake::<_, Body>(TokioIo::new(stream)).await.expect("a handshake");
        tokio::spawn(connection.with_upgrades());
        let mut request = Request::builder()
            .method(self.method)
            .uri(&self.target)
            .header("host", self.client.address.to_string());
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        let request = request.body(self.body).expect("a request");
        let (head, body) = sender.send_request(request).await.expect("an answer").into_parts();
        let media_type = head.headers.get("content-type").map(|t| t.to_str().expect("text"));
        openapi::check_answer(self.method, &self.target, head.status.as_u16(), media_type);
        Answer {
            status: head.status,
            headers: head.headers,
            body,
            lines: BytesMut::new(),
            decoder: Decoder::default(),
            trailers: None,
        }
    }
}

/// An answer, its body still coming.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub trailers: Option<HeaderMap>,
    body: Incoming,
    lines: BytesMut,
    decoder: Decoder,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    /// Id of the call it is about.
    pub fn call(&self) -> String {
        assert!(!self.header("muster-call").is_empty(), "the answer names no call");
        self.header("muster-call").to_owned()
    }

    /// Reads on until the body breaks off before its end, and fails where it does not.
    pub async fn broken_off(&mut self) {
        loop {
            let frame = timeout(DEADLINE, self.body.frame()).await.expect("an end in time");
            if frame.expect("no clean end").is_err() {
                return;
            }
        }
    }

    /// The next piece of the body.
    pub async fn piece(&mut self) -> Option<Bytes> {
        loop {
            let frame = timeout(DEADLINE, self.body.frame()).await.expect("a piece in time")?;
            match frame.expect("a sound body").into_data() {
                Ok(data) => return Some(data),
                Err(other) => self.trailers = other.into_trailers().ok(),
            }
        }
    }

    pub async fn bytes(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(piece) = self.piece().await {
            all.extend_from_slice(&piece);
        }
        all
    }

    pub async fn text(&mut self) -> String {
        String::from_utf8(self.bytes().await).expect("text")
    }

    pub async fn json(&mut self) -> Value {
        serde_json::from_str(&self.text().await).expect("JSON")
    }

    /// The problem it is: its code, after its shape was checked.
    pub async fn problem(&mut self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json().await;
        let code = problem["code"].as_str().expect("a code").to_owned();
        assert_eq!(problem["status"], self.status.as_u16());
        assert_eq!(problem["type"], format!("https://muster.invalid/errors#{code}"));
        for field in ["title", "detail", "action"] {
            assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
        }
        code
    }

    /// The next event of an NDJSON stream, progress left out.
    pub async fn event(&mut self) -> Option<Value> {
        loop {
            let Some(end) = self.lines.iter().position(|&byte| byte == b'\n') else {
                let piece = self.piece().await?;
                self.lines.extend_from_slice(&piece);
                continue;
            };
            let line = self.lines.split_to(end + 1);
            let event: Value = serde_json::from_slice(&line).expect("a line of JSON");
            if event["type"] != "progress" {
                return Some(event);
            }
        }
    }

    /// All events that are left.
    pub async fn events(&mut self) -> Vec<Value> {
        let mut list = Vec::new();
        while let Some(event) = self.event().await {
            list.push(event);
        }
        list
    }

    /// The next frame.
    pub async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.next_frame().expect("sound frames") {
                return Some(frame);
            }
            let piece = self.piece().await?;
            self.decoder.push(&piece);
        }
    }
}
