//! Hosts join by a join string, connect with a credential of their own, and lose it; and what a rogue among them cannot do.

use std::time::Duration;

use crate::support::fake_agent::{Act, FakeAgent, Input, echo};
use crate::support::tls::{Shown, connect};
use crate::support::{Gateway, until};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use muster_gateway::auth::Scope;
use muster_wire::batch::{Outputs, Status};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};

/// The token of a new join string.
async fn join_token(gateway: &Gateway, asked: Value) -> String {
    let mut answer = gateway.client().post("/v1/join-strings").json(&asked).send().await;
    assert_eq!(answer.status, 201);
    let made = answer.json().await;
    let (address, token) = made["join"].as_str().expect("text").split_once('#').expect("two parts");
    assert!(address.starts_with("http"));
    token.to_owned()
}

/// The token of a host that joined.
async fn joined(gateway: &Gateway, name: &str) -> String {
    let token = join_token(gateway, json!({})).await;
    let asking = gateway.client_with(Some(&token)).post("/v1/hosts/join");
    let mut answer = asking.json(&json!({"host": name})).send().await;
    assert_eq!(answer.status, 201);
    answer.json().await["token"].as_str().expect("a token").to_owned()
}

async fn dial(gateway: &Gateway, token: &str, name: &str, epoch: u64) -> Result<FakeAgent, u16> {
    let dialled = FakeAgent::dial(gateway.address, token, name, epoch, echo).await;
    dialled.map_err(|status: StatusCode| status.as_u16())
}

#[tokio::test]
async fn a_join_string_lets_one_host_in_which_then_has_a_credential_of_its_own() {
    let gateway = Gateway::start().await;
    let once = join_token(&gateway, json!({})).await;
    // It joins, and does nothing else.
    assert_eq!(dial(&gateway, &once, "one", 1).await.err(), Some(403));
    let client = gateway.client_with(Some(&once));
    assert_eq!(client.get("/v1/hosts").send().await.status, 403);
    let mut answer = client.post("/v1/hosts/join").json(&json!({"host": "one"})).send().await;
    let credential = answer.json().await;
    let token = credential["token"].as_str().expect("a token");
    assert!(credential["certificate"].is_null());
    let again = client.post("/v1/hosts/join").json(&json!({"host": "two"})).send().await;
    assert_eq!(again.status, 401);
    let _one = dial(&gateway, token, "one", 1).await.expect("let in");
    until("the host is listed", || gateway.fleet.hosts().len() == 1).await;
    let hosts = gateway.client().get("/v1/hosts").send().await.json().await;
    assert_eq!(hosts["joined"][0]["host"], "one");
    assert_eq!(hosts["joined"][0]["connected"], true);
    // Renewed, it is the same credential.
    let host = gateway.client_with(Some(token));
    let renewed = host.post("/v1/hosts/renew").json(&json!({"host": "one"})).send().await;
    assert_eq!(renewed.status, 200);
    // A host is no client.
    for path in ["/v1/calls", "/v1/hosts", "/v1/tokens", "/metrics"] {
        assert_eq!(host.get(path).send().await.status, 403, "{path}");
    }
}

#[tokio::test]
async fn a_name_is_its_hosts_own_unless_the_join_string_was_made_for_it() {
    let gateway = Gateway::start().await;
    let first = joined(&gateway, "one").await;
    let thief = joined(&gateway, "two").await;
    assert_eq!(dial(&gateway, &thief, "one", 1).await.err(), Some(403));
    let other = gateway.client_with(Some(&thief));
    let renewal = other.post("/v1/hosts/renew").json(&json!({"host": "one"})).send().await;
    assert_eq!(renewal.status, 403);
    let any = join_token(&gateway, json!({"uses": 2})).await;
    let joining = gateway.client_with(Some(&any)).post("/v1/hosts/join");
    let mut taken = joining.json(&json!({"host": "one"})).send().await;
    assert_eq!((taken.status.as_u16(), taken.problem().await.as_str()), (409, "host_taken"));
    let _one = dial(&gateway, &first, "one", 1).await.expect("let in");
    until("the host is listed", || gateway.fleet.hosts().len() == 1).await;
    let bound = join_token(&gateway, json!({"host": "one"})).await;
    let bound = gateway.client_with(Some(&bound));
    let mut unfit = bound.post("/v1/hosts/join").json(&json!({"host": "three"})).send().await;
    assert_eq!(unfit.problem().await, "forbidden");
    let mut fresh = bound.post("/v1/hosts/join").json(&json!({"host": "one"})).send().await;
    let fresh = fresh.json().await["token"].as_str().expect("a token").to_owned();
    until("the link of the old credential is cut", || gateway.fleet.hosts().is_empty()).await;
    assert_eq!(dial(&gateway, &first, "one", 1).await.err(), Some(401));
    assert!(dial(&gateway, &fresh, "one", 2).await.is_ok());
}

#[tokio::test]
async fn a_copied_credential_is_refused_while_the_first_is_connected_and_nothing_is_lost() {
    let gateway = Gateway::start().await;
    let token = joined(&gateway, "one").await;
    let _first = dial(&gateway, &token, "one", 1).await.expect("let in");
    until("the host is listed", || gateway.fleet.hosts().len() == 1).await;
    assert_eq!(dial(&gateway, &token, "one", 2).await.err(), Some(409));
    let call = json!({"command": ["cat"], "inputs": ["a", "b"]});
    let mut answer = gateway.client().post("/v1/calls").json(&call).send().await;
    let events = answer.events().await;
    assert_eq!(events.last().expect("an end")["state"], "succeeded");
}

#[tokio::test]
async fn an_expelled_host_is_cut_off_at_once_and_stays_out() {
    let gateway = Gateway::start().await;
    let token = joined(&gateway, "one").await;
    let _agent = dial(&gateway, &token, "one", 1).await.expect("let in");
    until("the host is listed", || gateway.fleet.hosts().len() == 1).await;
    let admin = gateway.client();
    let reader = gateway.client_with(Some(&gateway.token("ann", &[Scope::Read]))).clone();
    assert_eq!(reader.delete("/v1/hosts/one").send().await.status, 403);
    assert_eq!(admin.delete("/v1/hosts/one").send().await.status, 200);
    until("the link is cut", || gateway.fleet.hosts().is_empty()).await;
    assert_eq!(dial(&gateway, &token, "one", 1).await.err(), Some(401));
    let mut gone = admin.delete("/v1/hosts/one").send().await;
    assert_eq!(gone.problem().await, "unknown_host");
}

#[tokio::test]
async fn a_rogue_hosts_outputs_for_what_it_does_not_hold_reach_nobody() {
    let gateway = Gateway::start().await;
    let lie = |index, attempt| {
        Act::Frame(Outputs::single(index, attempt, Status::Value, b"{\"exit_code\":66}").to_frame())
    };
    let rogue = move |input: &Input| {
        vec![
            lie(input.index, input.attempt + 1),
            lie(input.index + 1, input.attempt),
            lie(1_000_000, 1),
            Act::Output(Status::Value, Bytes::from_static(b"{\"exit_code\":0}")),
            lie(input.index, input.attempt),
        ]
    };
    let _agent = gateway.connect("rogue", rogue).await;
    // One input at a time: the next one is never held while this one is.
    let call = json!({"command": ["true"], "inputs": ["a"]});
    for _ in 0..3 {
        let mut answer = gateway.client().post("/v1/calls").json(&call).send().await;
        let events = answer.events().await;
        let outputs: Vec<_> = events.iter().filter(|event| event["type"] == "output").collect();
        assert_eq!(outputs.len(), 1, "{events:?}");
        assert_eq!(outputs[0]["value"]["exit_code"], 0);
        assert_eq!(events.last().expect("an end")["state"], "succeeded");
    }
}

/// One POST over TLS; its status and JSON.
async fn post(
    gateway: &Gateway,
    shown: Option<Shown>,
    request: http::request::Builder,
    body: &Value,
) -> (u16, Value) {
    let stream = connect(gateway, &[], shown).await.expect("TLS");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
    tokio::spawn(connection.with_upgrades());
    let request = request.method("POST").header("host", "gateway");
    let request = request.header("content-type", "application/json");
    let body = Full::new(Bytes::from(body.to_string()));
    let answer = sender.send_request(request.body(body).expect("a request")).await;
    let answer = answer.expect("an answer");
    let status = answer.status().as_u16();
    if status == 101 {
        return (status, Value::Null);
    }
    let bytes = answer.into_body().collect().await.expect("a body").to_bytes();
    (status, serde_json::from_slice(&bytes).expect("JSON"))
}

#[tokio::test]
async fn over_tls_a_host_proves_itself_by_a_certificate_for_the_key_it_made() {
    let gateway = Gateway::with_tls(Duration::from_secs(10)).await;
    let key = KeyPair::generate().expect("a key");
    let csr = CertificateParams::default().serialize_request(&key).expect("a request");
    let csr = csr.pem().expect("PEM");
    let asked = json!({"host": "one", "csr": csr});
    let admin = format!("Bearer {}", gateway.admin);
    let ask = |path: &str, bearer: &str| {
        Request::builder().uri(path.to_owned()).header("authorization", bearer.to_owned())
    };
    let (status, made) = post(&gateway, None, ask("/v1/join-strings", &admin), &json!({})).await;
    assert_eq!(status, 201);
    let token =
        made["join"].as_str().expect("text").split_once('#').expect("two parts").1.to_owned();
    assert_eq!(token.matches('_').count(), 3, "the join string has the pin");
    let bearer = format!("Bearer {token}");
    let bare = json!({"host": "one"});
    assert_eq!(post(&gateway, None, ask("/v1/hosts/join", &bearer), &bare).await.0, 400);
    let (status, given) = post(&gateway, None, ask("/v1/hosts/join", &bearer), &asked).await;
    assert_eq!(status, 201);
    assert!(given["token"].is_null());
    let pem = given["certificate"].as_str().expect("PEM").to_owned();
    let shown = || -> Option<Shown> {
        let chain = vec![CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM")];
        Some((chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into()))
    };
    let plain = |path: &str| Request::builder().uri(path.to_owned());
    assert_eq!(post(&gateway, shown(), plain("/v1/hosts/renew"), &asked).await.0, 200);
    // Another key is another host's.
    let other = KeyPair::generate().expect("a key");
    let other = CertificateParams::default().serialize_request(&other).expect("a request");
    let other = json!({"host": "one", "csr": other.pem().expect("PEM")});
    assert_eq!(post(&gateway, shown(), plain("/v1/hosts/renew"), &other).await.0, 400);
    let connect = |name: &str| {
        plain("/v1/hosts/connect")
            .header("connection", "Upgrade")
            .header("upgrade", "muster-agent/1")
            .header("muster-host", name.to_owned())
            .header("muster-epoch", "1")
    };
    assert_eq!(post(&gateway, shown(), connect("two"), &Value::Null).await.0, 403);
    assert_eq!(post(&gateway, shown(), connect("one"), &Value::Null).await.0, 101);
    assert_eq!(post(&gateway, None, connect("one"), &Value::Null).await.0, 401);
    assert!(gateway.book.expel("one", muster_gateway::unix_s()).expect("written"));
    assert_eq!(post(&gateway, shown(), connect("one"), &Value::Null).await.0, 401);
}
