//! Blobs over HTTP: whole, resumed, damaged, refused, and whose they are.

use crate::support::client::Client;
use crate::support::{Gateway, until};
use bytes::Bytes;
use sha2::{Digest, Sha256};

fn path(content: &[u8]) -> String {
    format!("/v1/blobs/{}", hex::encode(Sha256::digest(content)))
}

fn content() -> Vec<u8> {
    (0..9 << 20).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

async fn offset(client: &Client, target: &str) -> (u16, String) {
    let answer = client.ask("HEAD", target).send().await;
    (answer.status.as_u16(), answer.header("muster-offset").to_owned())
}

#[tokio::test]
async fn a_blob_goes_in_once_and_comes_out_as_often_as_it_is_read() {
    let gateway = Gateway::start().await;
    let (client, content) = (gateway.client(), content());
    let target = path(&content);
    assert_eq!(offset(&client, &target).await, (404, "0".into()));
    let put = || client.ask("PUT", target.as_str()).body(content.clone()).send();
    assert_eq!(put().await.status, 201);
    assert_eq!(put().await.status, 200);
    let answer = client.ask("HEAD", target.as_str()).send().await;
    assert_eq!((answer.status.as_u16(), answer.header("content-length")), (200, "9437184"));
    let mut answer = client.get(target.as_str()).send().await;
    assert!(answer.bytes().await == content);
    let mut answer = client.get(target.as_str()).header("range", "bytes=9437180-").send().await;
    assert_eq!(answer.header("content-range"), "bytes 9437180-9437183/9437184");
    assert_eq!(answer.bytes().await, content[9_437_180..]);
    assert_eq!(client.delete(target.as_str()).send().await.status, 204);
    assert_eq!(client.get(target.as_str()).send().await.problem().await, "unknown_blob");
}

#[tokio::test]
async fn an_upload_that_breaks_off_goes_on_where_it_was() {
    let gateway = Gateway::start().await;
    let (client, content) = (gateway.client(), content());
    let target = path(&content);
    let half = 5 << 20;
    // The connection is closed in the middle of the body.
    let head = format!(
        "PUT {target} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\r\n",
        gateway.address,
        gateway.admin,
        content.len()
    );
    let mut stream = tokio::net::TcpStream::connect(gateway.address).await.expect("a connection");
    use tokio::io::AsyncWriteExt;
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream.write_all(&content[..half]).await.expect("sent");
    drop(stream);
    until("what came is kept", || gateway.blobs.totals().0 == 1).await;
    let have: usize = loop {
        let (status, have) = offset(&client, &target).await;
        assert_eq!(status, 404);
        let range = format!("bytes {have}-{}/{}", content.len() - 1, content.len());
        let have: usize = have.parse().expect("a number");
        let rest = Bytes::copy_from_slice(&content[have..]);
        let asking = client.ask("PUT", target.as_str()).header("content-range", range);
        let mut answer = asking.body(rest).send().await;
        match answer.status.as_u16() {
            201 => break have,
            // The broken connection is not noticed yet.
            409 => assert!(matches!(answer.problem().await.as_str(), "blob_busy" | "blob_offset")),
            other => panic!("{other}"),
        }
    };
    assert!(have > 0 && have <= half, "{have}");
    assert!(client.get(target.as_str()).send().await.bytes().await == content);
}

#[tokio::test]
async fn a_blob_comes_in_parts_that_follow_one_another() {
    let gateway = Gateway::start().await;
    let client = gateway.client();
    let target = path(b"abcdef");
    let put = |range: &'static str, body: &'static [u8]| {
        client.ask("PUT", target.as_str()).header("content-range", range).body(body).send()
    };
    let first = put("bytes 0-2/6", b"abc").await;
    assert_eq!((first.status.as_u16(), first.header("muster-offset")), (202, "3"));
    let mut gap = put("bytes 4-5/6", b"ef").await;
    assert_eq!((gap.status.as_u16(), gap.header("muster-offset")), (409, "3"));
    assert_eq!(gap.problem().await, "blob_offset");
    for range in ["bytes 3-5/5", "bytes 3-4/6", "items 3-5/6", "bytes 5-3/6", "bytes */6"] {
        assert_eq!(put(range, b"def").await.problem().await, "bad_field", "{range}");
    }
    assert_eq!(put("bytes 3-5/6", b"def").await.status, 201);
    assert_eq!(client.get(target.as_str()).send().await.text().await, "abcdef");
}

#[tokio::test]
async fn what_cannot_be_kept_is_refused_with_what_to_do() {
    let gateway = Gateway::start().await;
    let client = gateway.client();
    let wrong = path(b"something else");
    let mut answer = client.ask("PUT", wrong.as_str()).body("abc").send().await;
    assert_eq!(answer.problem().await, "blob_mismatch");
    assert_eq!(offset(&client, &wrong).await, (404, "0".into()));
    let large = format!("bytes 0-2/{}", 17_u64 << 30);
    let asking = client.ask("PUT", wrong.as_str()).header("content-range", large);
    assert_eq!(asking.body("abc").send().await.problem().await, "blob_too_large");
    let pieces = futures_util::stream::iter([Bytes::from_static(b"abc")]);
    let asking = client.ask("PUT", wrong.as_str()).stream(pieces);
    assert_eq!(asking.send().await.problem().await, "length_required");
    for target in ["/v1/blobs/x", "/v1/blobs/ABC", "/v1/blobs/..%2f..%2ftokens.json"] {
        assert_eq!(client.get(target).send().await.problem().await, "bad_field", "{target}");
    }
}

#[tokio::test]
async fn hosts_share_blobs_that_no_client_sees() {
    let gateway = Gateway::start().await;
    let host = gateway.client_with(Some(&gateway.host("one")));
    let target = path(b"an environment");
    let put = host.ask("PUT", target.as_str()).body("an environment").send().await;
    assert_eq!(put.status, 201);
    assert_eq!(host.get(target.as_str()).send().await.text().await, "an environment");
    let mut answer = gateway.client().get(target.as_str()).send().await;
    assert_eq!(answer.problem().await, "unknown_blob");
    let mut answer = host.get(target.as_str()).header("muster-call", "c-none").send().await;
    assert_eq!(answer.problem().await, "unknown_call");
}
