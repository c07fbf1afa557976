//! The front door: routes, tokens, problems, limits, and the agents' way in.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::fake_agent::{FakeAgent, Input, echo};
use crate::support::{DEADLINE, Gateway, openapi, until};
use muster_gateway::http::ServerConfig;
use muster_gateway::http::routes::{Access, ROUTES};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

#[test]
fn openapi_describes_exactly_the_routes_there_are() {
    let document = openapi::document();
    assert_eq!(document["openapi"], "3.1.0");
    let described: BTreeSet<(String, String)> =
        openapi::operations().into_iter().map(|(method, path, _)| (method, path)).collect();
    let served = ROUTES.iter().map(|r| (r.method.to_string(), r.path.to_owned())).collect();
    assert_eq!(described, served);
}

#[test]
fn every_operation_is_described_whole() {
    let document = openapi::document();
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().expect("a pointer");
        assert!(document.pointer(pointer).is_some(), "{pointer} leads nowhere");
    }
    let mut ids = BTreeSet::new();
    for (method, path, operation) in openapi::operations() {
        let id = operation["operationId"].as_str().expect("an id");
        assert!(ids.insert(id), "{id} is there twice");
        let answers = operation["responses"].as_object().expect("answers");
        for (status, answer) in answers {
            assert!(answer["description"].is_string(), "{id} {status}");
            assert!(status.parse::<u16>().is_ok_and(|status| (100..600).contains(&status)));
        }
        let route = ROUTES.iter().find(|r| r.path == path && r.method.as_str() == method);
        let open = route.expect("a route").access == Access::Open;
        assert_eq!(operation["security"].is_array(), open, "{id}");
        assert_eq!(answers.contains_key("401"), !open, "{id}");
        let takes_body = matches!(method.as_str(), "POST" | "PUT")
            && !["connectHost", "drainHost"].contains(&id);
        assert_eq!(operation["requestBody"].is_object(), takes_body);
        let declares_id = document["paths"][&path]["parameters"][0]["name"] == "id";
        assert_eq!(declares_id, path.contains("{id}"), "{path}");
    }
}

#[test]
fn fields_that_may_be_left_out_may_be_null_as_the_gateway_takes_them() {
    let mut seen = 0;
    for (_, path, operation) in openapi::operations() {
        let body = &operation["requestBody"]["content"]["application/json"]["schema"];
        let schema = openapi::resolved(body);
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            if required.iter().all(|required| required != name) {
                assert!(openapi::may_be_null(field), "{path}: {name}");
                seen += 1;
            }
        }
    }
    assert!(seen > 20, "{seen}");
}

fn method(route: &muster_gateway::http::routes::Route) -> &'static str {
    match route.method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "DELETE" => "DELETE",
        "PUT" => "PUT",
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_call_that_is_not_there_is_unknown_on_every_route() {
    let gateway = Gateway::start().await;
    for route in ROUTES.iter().filter(|route| route.path.starts_with("/v1/calls/{id}")) {
        for id in ["none", "%ff", "..%2f..", "a%20b"] {
            let target = route.path.replace("{id}", id);
            let mut answer = gateway.client().ask(method(route), target).send().await;
            assert!(matches!(answer.status.as_u16(), 400 | 404), "{id}");
            let code = answer.problem().await;
            assert!(code == "unknown_call" || code == "bad_request", "{id}: {code}");
        }
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_told_apart() {
    let gateway = Gateway::start().await;
    for path in ["/", "/v1", "/v1/calls/", "/v2/calls", "/v1/calls/a/b"] {
        let mut answer = gateway.client().get(path).send().await;
        assert_eq!(
            (answer.status.as_u16(), answer.problem().await.as_str()),
            (404, "unknown_route")
        );
    }
    let mut answer = gateway.client().ask("PUT", "/v1/calls").send().await;
    assert_eq!(answer.status, 405);
    assert_eq!(answer.header("allow"), "POST, GET");
    assert_eq!(answer.problem().await, "method_not_allowed");
}

#[tokio::test]
async fn a_web_page_of_another_origin_is_refused_everywhere() {
    let gateway = Gateway::start().await;
    for path in ["/v1/calls", "/healthz", "/nowhere"] {
        let asking = gateway.client().get(path).header("origin", "https://example.com");
        let mut answer = asking.send().await;
        assert_eq!(answer.status, 403, "{path}");
        assert_eq!(answer.problem().await, "origin_refused");
    }
}

#[tokio::test]
async fn the_small_routes_answer() {
    let (gateway, _agent) = Gateway::with_host(echo).await;
    let client = gateway.client();
    assert_eq!(client.get("/healthz").send().await.text().await, "ok\n");
    assert_eq!(client.get("/readyz").send().await.status, 200);
    assert_eq!(client.get("/metrics").send().await.status, 200);
    assert_eq!(client.get("/openapi.json").send().await.json().await["openapi"], "3.1.0");
    let hosts = client.get("/v1/hosts").send().await.json().await;
    assert_eq!(hosts["hosts"][0]["host"], "one");
    assert_eq!(hosts["hosts"][0]["images"][0]["name"], "muster/python:3.11");
    assert_eq!(client.get("/v1/calls").send().await.json().await["calls"], serde_json::json!([]));
    gateway.ready.send(false).expect("somebody listens");
    let mut answer = client.get("/readyz").send().await;
    assert_eq!((answer.status.as_u16(), answer.problem().await.as_str()), (503, "stopping"));
}

#[tokio::test]
async fn one_name_is_one_host() {
    let (gateway, _agent) = Gateway::with_host(echo).await;
    let dial = async |token: &str, name: &str, epoch| {
        FakeAgent::dial(gateway.address, token, name, epoch, echo).await.map(|agent| {
            // Kept for the rest of the process: a connection that ends would free the name.
            std::mem::forget(agent);
        })
    };
    let refused = |status: u16| Err(http::StatusCode::from_u16(status).expect("a status"));
    let one = gateway.host("one");
    assert_eq!(dial(&one, "one", 2).await, refused(409));
    assert_eq!(dial(&one, "one", 1).await, Ok(()));
    assert_eq!(dial(&gateway.host("two"), "two", 2).await, Ok(()));
    assert_eq!(dial(&one, "Two", 2).await, refused(400));
    assert_eq!(dial(&gateway.admin, "three", 2).await, refused(403));
    until("both hosts are listed", || gateway.fleet.hosts().len() == 2).await;
}

#[tokio::test]
async fn a_host_that_goes_away_gives_its_name_back() {
    let (gateway, agent) = Gateway::with_host(echo).await;
    drop(agent);
    until("the host is gone", || gateway.fleet.hosts().is_empty()).await;
    let again = FakeAgent::dial(gateway.address, &gateway.host("one"), "one", 2, echo).await;
    assert!(again.is_ok());
}

#[tokio::test]
async fn a_host_is_drained_and_taken_back_by_its_name() {
    let (gateway, _agent) = Gateway::with_host(echo).await;
    let client = gateway.client();
    let drained = client.post("/v1/hosts/one/drain").send().await.json().await;
    assert_eq!((&drained["host"], &drained["state"]), (&"one".into(), &"draining".into()));
    // Any number of times.
    assert_eq!(client.post("/v1/hosts/one/drain").send().await.status, 200);
    let listed = client.get("/v1/hosts").send().await.json().await;
    assert_eq!(listed["hosts"][0]["state"], "draining");
    let back = client.delete("/v1/hosts/one/drain").send().await.json().await;
    assert_eq!(back["state"], "ready");
    let mut answer = client.post("/v1/hosts/two/drain").send().await;
    assert_eq!((answer.status.as_u16(), answer.problem().await.as_str()), (404, "unknown_host"));
    let joiner = gateway.client_with(Some(&gateway.host("two")));
    let mut answer = joiner.post("/v1/hosts/one/drain").send().await;
    assert_eq!(answer.problem().await, "forbidden");
}

#[tokio::test]
async fn the_agents_door_wants_an_upgrade() {
    let gateway = Gateway::start().await;
    let mut answer =
        gateway.client_with(Some(&gateway.host("two"))).post("/v1/hosts/connect").send().await;
    assert_eq!(answer.status, 426);
    assert_eq!(answer.header("upgrade"), "muster-agent/1");
    assert_eq!(answer.problem().await, "upgrade_required");
}

async fn raw(gateway: &Gateway, text: &str) -> String {
    let mut stream = TcpStream::connect(gateway.address).await.expect("a connection");
    stream.write_all(text.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    // A refused request may end in a reset; what came before it counts.
    let read = timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("an end in time");
    drop(read);
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn oversized_headers_are_refused() {
    let gateway = Gateway::start().await;
    let one = format!("X: {}\r\n", "x".repeat(33 << 10));
    let many = "X: y\r\n".repeat(100);
    for headers in [one, many] {
        let request =
            format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{headers}Connection: close\r\n\r\n");
        let answer = raw(&gateway, &request).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
}

#[tokio::test]
async fn connections_over_the_limit_wait_for_their_turn() {
    let config = ServerConfig { connections: 1, ..Default::default() };
    let gateway = Gateway::with(config).await;
    let first = TcpStream::connect(gateway.address).await.expect("a connection");
    let client = gateway.client();
    let second = client.get("/healthz").send();
    tokio::pin!(second);
    let early = timeout(Duration::from_millis(50), second.as_mut()).await;
    assert!(early.is_err(), "a connection over the limit was served");
    drop(first);
    assert_eq!(second.await.status, 200);
}

#[tokio::test]
async fn stopping_ends_the_answers_that_run_in_order_and_takes_no_new_connection() {
    // Inputs that do nothing run for ever.
    let (gateway, _agent) = Gateway::with_host(|_: &Input| Vec::new()).await;
    let call = serde_json::json!({"command": ["sleep", "infinity"]});
    let mut answer = gateway.client().post("/v1/calls").json(&call).send().await;
    while answer.event().await.expect("more events")["state"] != "running" {}
    gateway.tasks.stop();
    let rest = answer.events().await;
    assert_eq!(rest.last().expect("an end")["state"], "cancelled");
    timeout(DEADLINE, gateway.tasks.ended()).await.expect("every task ends");
    assert!(TcpStream::connect(gateway.address).await.is_err());
}
