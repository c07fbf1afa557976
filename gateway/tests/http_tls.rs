//! TLS: HTTP/1.1 and HTTP/2 over it, what proves the gateway and a host, and connections that dawdle.

use std::time::Duration;

use crate::support::tls::{Shown, connect};
use crate::support::{DEADLINE, Gateway};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use muster_gateway::tls::Authority;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(10);

/// A host's certificate by this authority.
fn certificate(authority: &Authority, host: &str) -> Shown {
    let key = KeyPair::generate().expect("a key");
    let request = CertificateParams::default().serialize_request(&key).expect("a request");
    let pem = authority.host(&request.pem().expect("PEM"), host, PATIENCE).expect("signed").0;
    let chain = vec![CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM")];
    (chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into())
}

fn hosts(gateway: &Gateway) -> Request<Empty<Bytes>> {
    Request::get(format!("https://{}/v1/hosts", gateway.address))
        .header("host", gateway.address.to_string())
        .header("authorization", format!("Bearer {}", gateway.admin))
        .body(Empty::new())
        .expect("a request")
}

#[tokio::test]
async fn both_versions_of_http_are_spoken_over_tls() {
    let gateway = Gateway::with_tls(PATIENCE).await;
    let stream = connect(&gateway, &[b"http/1.1"], None).await.expect("a handshake");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
    tokio::spawn(connection);
    let answer = sender.send_request(hosts(&gateway)).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let stream = connect(&gateway, &[b"h2"], None).await.expect("a handshake");
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("HTTP");
    tokio::spawn(connection);
    let mut request = hosts(&gateway);
    request.headers_mut().remove("host");
    let answer = sender.send_request(request).await.expect("an answer");
    assert_eq!((answer.status().as_u16(), answer.version()), (200, http::Version::HTTP_2));
    assert!(answer.into_body().collect().await.is_ok());
}

#[tokio::test]
async fn the_gateways_certificate_has_the_authority_in_it_that_the_pin_is_of() {
    let gateway = Gateway::with_tls(PATIENCE).await;
    let stream = connect(&gateway, &[b"http/1.1"], None).await.expect("a handshake");
    let shown = stream.get_ref().1.peer_certificates().expect("a chain");
    let authority = Authority::open(gateway.folder.path()).expect("the same one");
    assert_eq!(muster_gateway::auth::token::hash(&shown[1]), authority.pin());
    assert!(shown[0].windows(shown[1].len()).any(|part| part == shown[1].as_ref()));
}

#[tokio::test]
async fn a_certificate_of_another_authority_ends_the_handshake() {
    let gateway = Gateway::with_tls(PATIENCE).await;
    let ours = Authority::open(gateway.folder.path()).expect("the gateway's");
    let folder = tempfile::tempdir().expect("a folder");
    let other = Authority::open(folder.path()).expect("another");
    // In TLS 1.3 a client hears of a refusal when it reads.
    let refused = async |shown| {
        let Ok(mut stream) = connect(&gateway, &[b"http/1.1"], Some(shown)).await else {
            return true;
        };
        let read = timeout(Duration::from_millis(200), stream.read(&mut [0])).await;
        matches!(read, Ok(Err(_)))
    };
    assert!(refused(certificate(&other, "one")).await);
    assert!(!refused(certificate(&ours, "one")).await);
}

#[tokio::test]
async fn a_handshake_that_dawdles_and_silence_after_one_are_ended() {
    let gateway = Gateway::with_tls(Duration::from_millis(300)).await;
    let mut dawdles = TcpStream::connect(gateway.address).await.expect("a connection");
    let end = timeout(DEADLINE, dawdles.read(&mut [0])).await.expect("an end in time");
    assert!(matches!(end, Ok(0) | Err(_)));
    let mut half = TcpStream::connect(gateway.address).await.expect("a connection");
    tokio::io::AsyncWriteExt::write_all(&mut half, &[22, 3, 1, 2, 0, 1]).await.expect("sent");
    let end = timeout(DEADLINE, half.read(&mut [0])).await.expect("an end in time");
    assert!(matches!(end, Ok(0) | Err(_)));
    let mut silent = connect(&gateway, &[b"http/1.1"], None).await.expect("a handshake");
    let end = timeout(DEADLINE, silent.read(&mut [0])).await.expect("an end in time");
    assert!(matches!(end, Ok(0) | Err(_)));
}
