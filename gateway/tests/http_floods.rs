//! HTTP/2 clients that use the protocol against us: each costs little memory, and nobody else notices.

#![allow(clippy::disallowed_methods, reason = "tests end with their runtime")]

mod support;

use std::time::Duration;

use muster_gateway::http::ServerConfig;
use support::{DEADLINE, Gateway};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::timeout;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// How much a flood may make this process grow.
const GROWTH: usize = 48 << 20;

fn frame(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = (body.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(body);
    bytes
}

/// `GET` of a path to the host `a`, as HPACK without its table.
fn request(path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x04, path.len() as u8];
    block.extend(path.as_bytes());
    block.extend([0x01, 1, b'a']);
    block
}

/// A connection that has said hello, with these settings.
async fn connect(gateway: &Gateway, settings: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(gateway.address).await.expect("a connection");
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("sent");
    stream.write_all(&frame(SETTINGS, 0, 0, settings)).await.expect("sent");
    stream
}

fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("a process has one");
    let pages: usize = text.split(' ').nth(1).and_then(|n| n.parse().ok()).expect("a number");
    pages * 4096
}

/// Writes until the gateway ends the connection or takes no more, `limit` bytes at most; how many it took.
async fn flood(stream: TcpStream, limit: usize, mut next: impl FnMut() -> Vec<u8>) -> usize {
    let (reading, mut writing) = stream.into_split();
    let mut sent = 0;
    let writes = async {
        while sent < limit {
            let bytes = next();
            match timeout(Duration::from_millis(500), writing.write_all(&bytes)).await {
                Ok(Ok(())) => sent += bytes.len(),
                _ => break,
            }
        }
    };
    timeout(DEADLINE, writes).await.expect("an end in time");
    // What it said, if it is there to read, is none of this test's business.
    let _ = reading.try_read(&mut [0; 1024]);
    sent
}

/// Lets a flood come, and looks at memory and at an honest client's answers.
async fn survives(gateway: &Gateway, before: usize) {
    for _ in 0..3 {
        assert_eq!(gateway.client().get("/healthz").send().await.status, 200);
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < GROWTH, "the flood cost {grown} bytes");
}

#[tokio::test]
async fn rapid_resets_end_their_connection() {
    let gateway = Gateway::start().await;
    let before = resident();
    let stream = connect(&gateway, &[]).await;
    let mut id = 1;
    let limit = 64 << 20;
    let sent = flood(stream, limit, || {
        let mut batch = Vec::new();
        for _ in 0..100 {
            batch.extend(frame(HEADERS, END_HEADERS | END_STREAM, id, &request("/healthz")));
            batch.extend(frame(RESET, 0, id, &[0, 0, 0, 8]));
            id += 2;
        }
        batch
    })
    .await;
    assert!(sent < limit, "a client that only opens and resets was listened to for ever");
    survives(&gateway, before).await;
}

#[tokio::test]
async fn headers_without_end_end_their_connection() {
    let gateway = Gateway::start().await;
    let before = resident();
    let stream = connect(&gateway, &[]).await;
    let mut begun = false;
    let limit = 256 << 20;
    let sent = flood(stream, limit, || {
        if !begun {
            begun = true;
            return frame(HEADERS, 0, 1, &request("/healthz"));
        }
        // Fields of one byte each, never the last.
        let fields: Vec<u8> = [0x00, 1, b'x', 1, b'y'].repeat(3000);
        frame(CONTINUATION, 0, 1, &fields)
    })
    .await;
    assert!(sent < limit, "headers were taken for ever");
    survives(&gateway, before).await;
}

#[tokio::test]
async fn pings_and_settings_cost_no_memory_though_nobody_reads_the_answers() {
    let gateway = Gateway::start().await;
    let before = resident();
    for (kind, body) in [(PING, vec![0; 8]), (SETTINGS, vec![0, 3, 0, 0, 0, 100])] {
        let stream = connect(&gateway, &[]).await;
        let batch = frame(kind, 0, 0, &body).repeat(1000);
        flood(stream, 64 << 20, || batch.clone()).await;
    }
    survives(&gateway, before).await;
}

#[tokio::test]
async fn empty_frames_cost_no_memory() {
    let gateway = Gateway::start().await;
    let before = resident();
    let stream = connect(&gateway, &[]).await;
    let mut batch = frame(HEADERS, END_HEADERS, 1, &request("/healthz"));
    let empty = frame(DATA, 0, 1, &[]).repeat(1000);
    flood(stream, 16 << 20, || {
        let next = batch.clone();
        batch.clone_from(&empty);
        next
    })
    .await;
    survives(&gateway, before).await;
}

#[tokio::test]
async fn windows_that_stay_shut_end_their_connection() {
    let stall = Duration::from_millis(300);
    let config = ServerConfig {
        header_timeout: Duration::from_millis(300),
        stall_timeout: stall,
        ..Default::default()
    };
    let gateway = Gateway::with(config).await;
    let before = resident();
    // INITIAL_WINDOW_SIZE 0: answers may have heads, and no body.
    let mut stream = connect(&gateway, &[0, 4, 0, 0, 0, 0]).await;
    for id in 0..100 {
        let get = frame(HEADERS, END_HEADERS | END_STREAM, id * 2 + 1, &request("/openapi.json"));
        stream.write_all(&get).await.expect("sent");
    }
    let (reading, _writing) = stream.into_split();
    ended(reading).await;
    survives(&gateway, before).await;
}

#[tokio::test]
async fn a_window_that_grows_past_all_bounds_ends_its_connection() {
    let gateway = Gateway::start().await;
    let mut stream = connect(&gateway, &[]).await;
    for _ in 0..2 {
        let grow = frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes());
        stream.write_all(&grow).await.expect("sent");
    }
    let (reading, _writing) = stream.into_split();
    ended(reading).await;
    assert_eq!(gateway.client().get("/healthz").send().await.status, 200);
}

/// Reads to the end, which comes in time.
async fn ended(mut reading: OwnedReadHalf) {
    let mut rest = Vec::new();
    let _ = timeout(DEADLINE, reading.read_to_end(&mut rest)).await.expect("the connection ends");
}
