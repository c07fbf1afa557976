//! Who may use which route: made from the table of routes, so that a new route is tested the day it is there.

use std::time::Duration;

use crate::support::client::Client;
use crate::support::fake_agent::{Input, echo};
use crate::support::{Gateway, until};
use bytes::Bytes;
use muster_gateway::auth::{NewToken, Scope, Tokens, token};
use muster_gateway::http::routes::{Access, ROUTES};
use muster_gateway::unix_s;
use serde_json::{Value, json};

const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
const CLIENT: &[Scope] = &[Scope::Submit, Scope::Read, Scope::Cancel];

/// The name of a blob that nobody has.
const ABSENT: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Every path with every method, and the route that takes it, if one does.
fn requests() -> impl Iterator<Item = (&'static str, &'static str, Option<Access>)> {
    let mut paths: Vec<_> = ROUTES.iter().map(|route| route.path).collect();
    paths.dedup();
    paths.into_iter().flat_map(|path| {
        METHODS.iter().map(move |method| {
            let taken = if *method == "HEAD" { "GET" } else { *method };
            let route = ROUTES.iter().find(|r| r.path == path && r.method.as_str() == taken);
            (path, *method, route.map(|route| route.access))
        })
    })
}

/// A path with something in the place of each parameter.
fn target(path: &str) -> String {
    let path = path.replace("{id}", "none").replace("{host}", "none").replace("{name}", "NONE");
    path.replace("{sha256}", ABSENT).replace("{key}", &"0".repeat(32))
}

/// What the answer says, if it has a body.
async fn code(answer: &mut crate::support::client::Answer, method: &str) -> String {
    match method {
        "HEAD" => String::new(),
        _ => answer.problem().await,
    }
}

#[tokio::test]
async fn every_route_and_method_refuses_whoever_has_no_good_token() {
    let gateway = Gateway::start().await;
    let good = gateway.admin.clone();
    let flipped = if good.ends_with('0') { '1' } else { '0' };
    let wrong = format!("{}{flipped}", &good[..good.len() - 1]);
    let ended = |life| NewToken {
        owner: "ann".into(),
        scopes: Scope::GIVEN.to_vec(),
        life,
        ..NewToken::default()
    };
    let book = &gateway.book;
    let (expired, _) =
        book.create(ended(Some(Duration::from_secs(9))), unix_s() - 10).expect("made");
    let (revoked, entry) = book.create(ended(None), unix_s()).expect("made");
    book.revoke(&entry.id, unix_s()).expect("written");
    let unknown = format!("muster_{}_{}", "0".repeat(16), "0".repeat(64));
    let headers = [
        None,
        Some(String::new()),
        Some("Bearer".to_owned()),
        Some("Bearer x".to_owned()),
        Some("Bearer muster_1_2".to_owned()),
        Some(format!("Basic {good}")),
        Some(format!("Bearer {good} {good}")),
        Some(format!("Bearer {good}_")),
        Some(format!("Bearer {wrong}")),
        Some(format!("Bearer {unknown}")),
        Some(format!("Bearer {expired}")),
        Some(format!("Bearer {revoked}")),
    ];
    for (path, method, access) in requests() {
        let target = target(path);
        for header in &headers {
            let mut asking = gateway.client_with(None).ask(method, &target);
            if let Some(header) = header {
                asking = asking.header("authorization", header.clone());
            }
            let mut answer = asking.send().await;
            let status = answer.status.as_u16();
            match access {
                None => assert_eq!(status, 405, "{method} {target}"),
                Some(Access::Open) => assert_ne!(status, 401, "{method} {target}"),
                Some(_) => {
                    assert_eq!(status, 401, "{method} {target} {header:?}");
                    assert!(answer.header("www-authenticate").starts_with("Bearer"));
                    let told = code(&mut answer, method).await;
                    assert!(told.is_empty() || told == "unauthenticated");
                }
            }
        }
    }
}

#[tokio::test]
async fn every_route_and_method_refuses_a_token_without_its_scope() {
    let gateway = Gateway::start().await;
    for (path, method, access) in requests() {
        let Some(Access::Scope(needed) | Access::ScopeOrHost(needed)) = access else { continue };
        let others: Vec<Scope> = Scope::GIVEN
            .iter()
            .copied()
            .filter(|scope| ![needed, Scope::Admin].contains(scope))
            .collect();
        let token = gateway.token("ann", &others);
        let target = target(path);
        let mut answer = gateway.client_with(Some(&token)).ask(method, &target).send().await;
        assert_eq!(answer.status, 403, "{method} {target}");
        if method != "HEAD" {
            assert!(answer.text().await.contains(needed.name()), "{method} {target}");
        }
    }
}

#[tokio::test]
async fn streams_and_uploads_that_go_on_end_with_their_token() {
    // Inputs that do nothing run for ever.
    let (gateway, _agent) = Gateway::with_host(|_: &Input| Vec::new()).await;
    let keeper = gateway.client_with(Some(&gateway.token("ann", CLIENT)));
    for by_command in [false, true] {
        let call = json!({"command": ["true"], "background": true, "more_inputs": true});
        let call = keeper.post("/v1/calls").json(&call).send().await.call();
        let lost = gateway.token("ann", CLIENT);
        let client = gateway.client_with(Some(&lost));
        let mut stream = client.get(format!("/v1/calls/{call}/events")).send().await;
        let mut kept = keeper.get(format!("/v1/calls/{call}/events")).send().await;
        let never = futures_util::stream::pending::<Bytes>;
        let upload = client.post(format!("/v1/calls/{call}/inputs")).stream(never());
        let upload = upload.header("content-type", "application/x-ndjson");
        let upload = tokio::spawn(upload.send());
        let running = client.post("/v1/calls").json(&json!({"command": ["true"]}));
        let mut running = running.send().await;
        assert!(stream.event().await.is_some() && kept.event().await.is_some());
        let id = token::parse(&lost).expect("a token").0;
        let book = match by_command {
            false => gateway.book.clone(),
            true => Tokens::open(gateway.folder.path()).expect("the same file").0,
        };
        assert!(book.revoke(id, unix_s()).expect("written").is_some());
        stream.broken_off().await;
        running.broken_off().await;
        assert_eq!(upload.await.expect("no panic").problem().await, "unauthenticated");
        assert_eq!(client.get("/v1/calls").send().await.status, 401);
        gateway.calls.get(&call).expect("is there").cancel();
        assert!(!kept.events().await.is_empty(), "another token of the owner reads on");
    }
}

#[tokio::test]
async fn no_route_tells_what_is_somebody_elses_from_what_is_not_there() {
    // Inputs that do nothing run for ever.
    let (gateway, _agent) = Gateway::with_host(|_: &Input| Vec::new()).await;
    let ann = gateway.client_with(Some(&gateway.token("ann", CLIENT)));
    let bob = gateway.client_with(Some(&gateway.token("bob", CLIENT)));
    let call = json!({"command": ["true"], "background": true, "more_inputs": true});
    let call = ann.post("/v1/calls").json(&call).send().await.call();
    let blob = token::hash(b"abc");
    let put = ann.ask("PUT", format!("/v1/blobs/{blob}")).body("abc").send().await;
    assert_eq!(put.status, 201);
    let put = ann.ask("PUT", "/v1/secrets/PW").json(&json!({"value": "x"})).send().await;
    assert_eq!(put.status, 201);
    let owned = [("{id}", call.as_str(), "c-000000000000"), ("{name}", "PW", "QW")];
    let owned = owned.into_iter().chain([("{sha256}", blob.as_str(), ABSENT)]);
    let owned: Vec<_> = owned.collect();
    for (path, method, access) in requests() {
        let found = owned.iter().find(|(parameter, ..)| path.contains(parameter));
        // Tokens, by their ids, are for admins alone.
        let Some((parameter, theirs, absent)) = found.filter(|_| !path.starts_with("/v1/tokens"))
        else {
            continue;
        };
        if access.is_none() {
            continue;
        }
        let ask = async |client: &Client, id: &str| {
            let target = path.replace(parameter, id);
            let asking = client.ask(method, target).header("content-type", "application/x-ndjson");
            let mut answer = asking.send().await;
            let names: Vec<String> = answer.headers.keys().map(ToString::to_string).collect();
            (answer.status.as_u16(), names, answer.text().await.replace(id, "ID"))
        };
        let told = ask(&bob, theirs).await;
        let refused = if method == "PUT" { 400..=422 } else { 404..=404 };
        assert!(refused.contains(&told.0), "{method} {path}: {told:?}");
        assert_eq!(told, ask(&bob, absent).await, "{method} {path}");
    }
    assert_eq!(ann.get(format!("/v1/blobs/{blob}")).send().await.status, 200);
    assert_eq!(ann.delete("/v1/secrets/PW").send().await.status, 204);
    let listed = |client: Client| async move {
        client.get("/v1/calls").send().await.json().await["calls"].as_array().expect("a list").len()
    };
    assert_eq!(listed(bob).await, 0);
    // The same owner's other token, and an admin, see it.
    assert_eq!(listed(gateway.client_with(Some(&gateway.token("ann", CLIENT)))).await, 1);
    assert_eq!(listed(gateway.client()).await, 1);
    let mut record = ann.get(format!("/v1/calls/{call}")).send().await;
    assert_eq!(
        record.json().await["state"].as_str().map(|state| state == "cancelled"),
        Some(false)
    );
    // Nor does a key that somebody else used lead to their call.
    let keyed = |client: Client| async move {
        let body = json!({"command": ["true"], "background": true});
        client.post("/v1/calls").header("idempotency-key", "k").json(&body).send().await.call()
    };
    let bob = gateway.client_with(Some(&gateway.token("bob", CLIENT)));
    assert_ne!(keyed(ann).await, keyed(bob).await);
}

#[tokio::test]
async fn a_rogue_host_gets_nothing_of_calls_that_were_not_given_to_it() {
    // Inputs that do nothing run for ever.
    let (gateway, _agent) = Gateway::with_host(|_: &Input| Vec::new()).await;
    let ann = gateway.client_with(Some(&gateway.token("ann", CLIENT)));
    let call = json!({"command": ["true"], "inputs": [""], "background": true});
    let call = ann.post("/v1/calls").json(&call).send().await.call();
    let given = gateway.calls.get(&call).expect("is there");
    until("its host has it", || given.runs_on("one")).await;
    let blob = token::hash(b"abc");
    ann.ask("PUT", format!("/v1/blobs/{blob}")).body("abc").send().await;
    let _rogue = gateway.connect("rogue", echo).await;
    let rogue = gateway.client_with(Some(&gateway.host("rogue")));
    for (path, method, access) in requests() {
        let Some(access) = access.filter(|access| *access != Access::Open) else { continue };
        let target = path.replace("{id}", &call).replace("{sha256}", &blob);
        let target = self::target(&target);
        let ask = async |name, other: &str| {
            // Under the name of the host that has it, too.
            let asking = rogue.ask(method, target.clone()).header("muster-host", "one");
            let mut answer = asking.header(name, other).send().await;
            (answer.status.as_u16(), code(&mut answer, method).await)
        };
        let as_function = ask("muster-parent", &call).await;
        assert!([403, 404].contains(&as_function.0), "{method} {target}: {as_function:?}");
        // On its own behalf it may be a host, and read data for calls that it has.
        let refused: &[u16] = match access {
            Access::Token => continue,
            Access::Scope(Scope::Host) => &[400, 403, 415, 426],
            Access::ScopeOrHost(Scope::Host) => &[400, 404, 415],
            Access::ScopeOrHost(_) => &[404],
            _ => &[403],
        };
        let found = ask("muster-call", &call).await;
        assert!(refused.contains(&found.0), "{method} {target}: {found:?}");
    }
    assert!(given.record().ended.is_none());
}

#[tokio::test]
async fn tokens_are_made_listed_and_revoked_over_http() {
    let gateway = Gateway::start().await;
    let admin = gateway.client();
    let new = json!({"owner": "ann", "scopes": ["read"], "expires_in": 60, "name": "laptop"});
    let mut answer = admin.post("/v1/tokens").json(&new).send().await;
    assert_eq!(answer.status, 201);
    let made = answer.json().await;
    let (token, id) = (made["token"].as_str().expect("text"), made["id"].as_str().expect("text"));
    assert_eq!((&made["owner"], &made["scopes"]), (&json!("ann"), &json!(["read"])));
    let reader = gateway.client_with(Some(token));
    assert_eq!(reader.get("/v1/calls").send().await.status, 200);
    let listed = admin.get("/v1/tokens").send().await.text().await;
    assert!(listed.contains(id) && !listed.contains(token));
    let mut gone = admin.delete(format!("/v1/tokens/{id}")).send().await;
    assert!(gone.json().await["revoked"].is_string());
    assert_eq!(reader.get("/v1/calls").send().await.status, 401);
    let mut unknown = admin.delete("/v1/tokens/none").send().await;
    assert_eq!(unknown.problem().await, "unknown_token");
    for (body, code) in [
        (json!({}), "bad_field"),
        (json!({"scopes": []}), "bad_field"),
        (json!({"scopes": ["root"]}), "bad_field"),
        (json!({"scopes": ["host"]}), "bad_field"),
        (json!({"scopes": ["read"], "owner": "a b"}), "bad_field"),
        (json!({"scopes": ["read"], "expires_in": -1}), "bad_field"),
        (json!({"scopes": ["submit"], "shares": ["../etc"]}), "bad_field"),
        (json!({"scopes": ["submit"], "shares": "data"}), "bad_field"),
        (json!({"scopes": ["submit", "admin"], "shares": ["data"]}), "bad_field"),
        (json!({"scopes": ["read"], "colour": "red"}), "unknown_field"),
    ] {
        let mut answer = admin.post("/v1/tokens").json(&body).send().await;
        assert_eq!(answer.problem().await, code, "{body}");
    }
}

#[tokio::test]
async fn a_token_may_be_limited_to_shares_and_is_refused_others_before_anything_else() {
    let (gateway, _agent) = Gateway::with_host(echo).await;
    let admin = gateway.client();
    let new = json!({"scopes": ["submit", "read"], "shares": ["out", "data", "data"]});
    let made = admin.post("/v1/tokens").json(&new).send().await.json().await;
    assert_eq!(made["shares"], json!(["data", "out"]));
    let mut listed = admin.get("/v1/tokens").send().await;
    let listed = listed.json().await;
    let limits = listed["tokens"].as_array().expect("a list").iter().map(|token| &token["shares"]);
    assert!(limits.clone().any(|shares| *shares == json!(["data", "out"])));
    assert!(limits.clone().any(serde_json::Value::is_null));
    let limited = gateway.client_with(made["token"].as_str());
    for (share, status, code) in [("nfs", 403, "share_forbidden"), ("data", 422, "no_such_share")] {
        let call = json!({"command": ["ls"], "shares": {share: "/x"}});
        let mut answer = limited.post("/v1/calls").json(&call).send().await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.problem().await, code);
        let mut answer = limited.post(format!("/v1/run?arg=ls&share={share}:/x")).send().await;
        assert_eq!(answer.problem().await, code);
    }
}

#[tokio::test]
async fn the_audit_log_says_who_did_what_and_holds_no_secret() {
    let (gateway, _agent) = Gateway::with_host(echo).await;
    let ann = gateway.token("ann", CLIENT);
    let client = gateway.client_with(Some(&ann));
    let call = json!({"command": ["secret-argument"], "background": true, "env": {"A": "payload"}});
    let call = client.post("/v1/calls").json(&call).send().await.call();
    client.delete(format!("/v1/calls/{call}")).send().await;
    client.get("/v1/tokens").send().await;
    gateway.client_with(Some("muster_1_2")).get("/v1/calls").send().await;
    client.get("/healthz").header("origin", "https://example.com").send().await;
    let bob = gateway.client_with(Some(&gateway.token("bob", CLIENT)));
    bob.get(format!("/v1/calls/{call}")).send().await;
    let made = gateway.client().post("/v1/tokens").json(&json!({"scopes": ["read"]}));
    let made = made.send().await.json().await;
    let file = |name| std::fs::read_to_string(gateway.folder.path().join(name)).expect("a log");
    let read = || file("audit.log") + &file("refused.log");
    until("the logs have every line", || read().lines().count() >= 8).await;
    assert!(!file("audit.log").contains("refused"));
    let text = read();
    let lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let told: Vec<_> = lines
        .iter()
        .map(|line| {
            let part = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
            assert!(part("from").starts_with("127.0.0.1:"), "{line}");
            (part("what"), part("who"), part("on"), part("result"))
        })
        .collect();
    let want = |what: &str, who: &str, on: &str, result: &str| {
        let line = (what.to_owned(), who.to_owned(), on.to_owned(), result.to_owned());
        assert!(told.contains(&line), "{line:?} is not in {told:#?}");
    };
    want("host_connected", "", "one", "ok");
    want("call_created", "ann", &call, "ok");
    want("call_cancelled", "ann", &call, "ok");
    want("refused", "ann", "GET /v1/tokens", "forbidden");
    want("refused", "", "GET /v1/calls", "unauthenticated");
    want("refused", "", "GET /healthz", "origin_refused");
    want("refused", "bob", &format!("GET /v1/calls/{call}"), "unknown_call");
    want("token_created", "default", made["id"].as_str().expect("an id"), "ok");
    let secret = |token: &str| token.rsplit('_').next().expect("a secret").to_owned();
    let made = secret(made["token"].as_str().expect("a token"));
    for secret in [secret(&ann), made, secret(&gateway.admin)] {
        assert!(!text.contains(&secret));
    }
    assert!(!text.contains("secret-argument") && !text.contains("payload"));
}
