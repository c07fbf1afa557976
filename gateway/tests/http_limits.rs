//! What the front door does to connections and requests that no honest client makes: too slow, too many, too large, unclear.

use std::time::Duration;

use crate::support::calls::{background, hang};
use crate::support::fake_agent::{Input, echo};
use crate::support::faults::Disk;
use crate::support::{DEADLINE, Gateway, until, until_found};
use muster_gateway::http::ServerConfig;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

const SHORT: Duration = Duration::from_millis(200);
/// A state that must not end a connection lasts this long in these tests.
const LONG: Duration = Duration::from_secs(3600);

fn config() -> ServerConfig {
    ServerConfig {
        header_timeout: LONG,
        idle_timeout: LONG,
        stall_timeout: LONG,
        ..Default::default()
    }
}

/// Sends this and reads until the gateway ends the connection.
async fn raw(gateway: &Gateway, text: &str) -> String {
    let mut stream = TcpStream::connect(gateway.address).await.expect("a connection");
    stream.write_all(text.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    // A refused request may end in a reset; what came before it counts.
    let _ = timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("an end in time");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let gateway = Gateway::with(ServerConfig { header_timeout: SHORT, ..config() }).await;
    assert_eq!(raw(&gateway, "").await, "");
}

#[tokio::test]
async fn a_head_that_trickles_is_ended_in_time() {
    let gateway = Gateway::with(ServerConfig { header_timeout: SHORT, ..config() }).await;
    let mut stream = TcpStream::connect(gateway.address).await.expect("a connection");
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: ").await.expect("sent");
    let trickling = async {
        // Until the gateway has enough of it.
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(SHORT / 20).await;
        }
    };
    timeout(DEADLINE, trickling).await.expect("ended however often a byte came");
}

#[tokio::test]
async fn a_connection_without_requests_is_closed_and_one_with_requests_is_not() {
    let gateway = Gateway::with(ServerConfig { idle_timeout: SHORT, ..config() }).await;
    let start = Instant::now();
    let answer = raw(&gateway, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"));
    assert!(start.elapsed() >= SHORT);

    // Nothing comes of these inputs, and still the stream of their events is not idle.
    let _agent = gateway.connect("one", |_: &Input| Vec::new()).await;
    let call = serde_json::json!({"command": ["sleep", "infinity"]});
    let mut events = gateway.client().post("/v1/calls").json(&call).send().await;
    while events.event().await.expect("more events")["state"] != "running" {}
    let more = timeout(SHORT * 5, events.event()).await;
    assert!(!matches!(more, Ok(None)), "the stream was ended as idle");
    gateway.client().delete(format!("/v1/calls/{}", events.call())).send().await;
    while events.event().await.is_some() {}
}

#[tokio::test]
async fn an_answer_that_nobody_takes_is_ended_and_can_be_resumed() {
    let stall = Duration::from_millis(500);
    let gateway = Gateway::with(ServerConfig { stall_timeout: stall, ..config() }).await;
    let _agent = gateway.connect("one", echo).await;
    let inputs: Vec<String> = (0..64).map(|_| "x".repeat(120_000)).collect();
    let call = serde_json::json!({"source": "f = str", "entry": "f", "inputs": inputs});
    let mut whole = gateway.client().post("/v1/calls").json(&call).send().await;
    let id = whole.call();
    let events = whole.events().await;
    let bytes: usize = events.iter().map(|event| event.to_string().len()).sum();

    let mut stream = TcpStream::connect(gateway.address).await.expect("a connection");
    socket2::SockRef::from(&stream).set_recv_buffer_size(4096).expect("an option");
    let request = format!(
        "GET /v1/calls/{id}/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\n\r\n",
        gateway.admin
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    // Only the answer's head is read. The kernel gives the connection up without a word, so its end is seen at our end.
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.expect("an answer");
    let open = || std::fs::read_dir("/proc/self/fd").expect("a process has one").count();
    let before = open();
    until("the stalled answer is ended", || open() < before).await;
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert!(rest.len() < bytes, "the whole answer was kept for who does not read");
    let again = gateway.client().get(format!("/v1/calls/{id}/events")).send().await.events().await;
    assert_eq!(again.len(), events.len());
}

#[tokio::test]
async fn requests_that_two_servers_could_read_differently_are_refused() {
    let gateway = Gateway::start().await;
    let token = format!("Authorization: Bearer {}\r\n", gateway.admin);
    let chunked = "0\r\n\r\n";
    for (what, head, body) in [
        ("no host", "POST /v1/calls HTTP/1.1\r\n".to_owned(), ""),
        ("two hosts", "POST /v1/calls HTTP/1.1\r\nHost: a\r\nHost: a\r\n".to_owned(), ""),
        ("another host", "POST http://b/v1/calls HTTP/1.1\r\nHost: a\r\n".to_owned(), ""),
        ("length and coding", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), chunked),
        ("coding and length", post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), chunked),
        (
            "two codings",
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
            chunked,
        ),
        ("a list of codings", post("Transfer-Encoding: gzip, chunked\r\n"), chunked),
        ("a coding nobody knows", post("Transfer-Encoding: xchunked\r\n"), chunked),
        ("no coding at all", post("Transfer-Encoding: identity\r\n"), chunked),
        ("a coding with a tab", post("Transfer-Encoding:\tchunked\x0b\r\n"), chunked),
        ("two lengths", post("Content-Length: 5\r\nContent-Length: 6\r\n"), "12345"),
        ("a list of lengths", post("Content-Length: 5, 6\r\n"), "12345"),
        ("a signed length", post("Content-Length: +5\r\n"), "12345"),
        ("a negative length", post("Content-Length: -5\r\n"), "12345"),
        ("a blank before the colon", post("Transfer-Encoding : chunked\r\n"), chunked),
        ("a folded line", post("X: y\r\n Transfer-Encoding: chunked\r\n"), chunked),
        ("a bare line feed", "POST /v1/calls HTTP/1.1\nHost: a\n".to_owned(), ""),
        ("a bare line feed among others", post("X: y\n"), ""),
        ("a carriage return alone", post("X: y\rContent-Length: 5\r\n"), ""),
        ("a NUL", post("X: y\0\r\n"), ""),
        ("a version of nobody's", "POST /v1/calls HTTP/3.7\r\nHost: a\r\n".to_owned(), ""),
    ] {
        let answer = raw(&gateway, &format!("{head}{token}Connection: close\r\n\r\n{body}")).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{what}: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{what} was read as two requests");
    }
    assert_eq!(gateway.client().get("/healthz").send().await.status, 200);
}

fn post(headers: &str) -> String {
    format!("POST /v1/calls HTTP/1.1\r\nHost: a\r\n{headers}")
}

#[tokio::test]
async fn a_body_that_ends_early_makes_no_call() {
    let gateway = Gateway::start().await;
    let _agent = gateway.connect("one", echo).await;
    let mut stream = TcpStream::connect(gateway.address).await.expect("a connection");
    let head = format!(
        "POST /v1/calls HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: 100\r\n\r\n{{\"command\": [\"true\"]}}",
        gateway.admin
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream.shutdown().await.expect("ended");
    let mut answer = Vec::new();
    let _ = timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("an end");
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    assert_eq!(
        gateway.client().get("/v1/calls").send().await.json().await["calls"],
        serde_json::json!([])
    );
}

#[tokio::test]
async fn a_body_nobody_may_send_is_not_waited_for() {
    let gateway = Gateway::start().await;
    // The rest of the body never comes; the refusal does.
    let request = "POST /v1/calls HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\nConnection: close\r\n\r\n{";
    let mut stream = TcpStream::connect(gateway.address).await.expect("a connection");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = [0; 12];
    timeout(DEADLINE, stream.read_exact(&mut answer)).await.expect("in time").expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 401");
}

#[tokio::test]
async fn one_token_has_so_many_requests_at_once_and_no_more() {
    let gateway = Gateway::limited(ServerConfig::default(), 2).await;
    let _agent = gateway.connect("one", |_: &Input| Vec::new()).await;
    let call = serde_json::json!({"command": ["sleep", "infinity"]});
    let first = gateway.client().post("/v1/calls").json(&call).send().await;
    let second = gateway.client().get(format!("/v1/calls/{}/events", first.call())).send().await;
    let mut third = gateway.client().get("/v1/calls").send().await;
    assert_eq!((third.status.as_u16(), third.header("retry-after")), (429, "1"));
    assert_eq!(third.problem().await, "too_many_requests");
    // Routes without a token, and other tokens, do not suffer.
    assert_eq!(gateway.client().get("/healthz").send().await.status, 200);
    drop(second);
    let again = async {
        while gateway.client().get("/v1/calls").send().await.status != 200 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(DEADLINE, again).await.expect("a request that ended makes room");
}

#[tokio::test]
async fn a_gateway_with_all_the_calls_it_may_have_says_when_to_ask_again() {
    let gateway = Gateway::on_disk_of(&Disk::default(), &["--max-calls", "2"]).await;
    let _agent = gateway.connect("one", hang).await;
    let client = gateway.client();
    let ask = || client.post("/v1/calls").json(&background(json!([1]))).send();
    let first = ask().await;
    assert_eq!((first.status.as_u16(), ask().await.status.as_u16()), (201, 201));
    for mut refused in [ask().await, client.post("/v1/run?arg=true").send().await] {
        assert_eq!(refused.status, 503);
        let seconds: u64 = refused.header("retry-after").parse().expect("seconds");
        assert!((1..=60).contains(&seconds), "{seconds}");
        assert_eq!(refused.problem().await, "full");
    }
    // One that ends makes room.
    let ended = client.delete(format!("/v1/calls/{}", first.call())).send().await;
    assert_eq!(ended.status, 202);
    until_found("there is room", async || ask().await.status == 201).await;
}
