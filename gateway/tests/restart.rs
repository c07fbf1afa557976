//! Background calls over a restart of the gateway: the real HTTP stack and store, and fake hosts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::support::fake_agent::{Act, Input, echo};
use crate::support::{Gateway, until, until_found};
use muster_gateway::auth::Scope;
use muster_wire::batch::{Inputs, Status};
use muster_wire::frame::{Frame, Kind};
use serde_json::{Value, json};

fn background(inputs: Value) -> Value {
    json!({"source": "def f(x): return x", "entry": "f", "inputs": inputs, "background": true})
}

fn outputs(events: &[Value]) -> BTreeMap<u64, Value> {
    let list = events.iter().filter(|event| event["type"] == "output");
    let mut outputs = BTreeMap::new();
    for event in list {
        let index = event["index"].as_u64().expect("an index");
        assert!(outputs.insert(index, event["value"].clone()).is_none(), "{index} came twice");
    }
    outputs
}

/// Gives even inputs back; odd ones run for ever.
fn half(input: &Input) -> Vec<Act> {
    match input.index % 2 {
        0 => vec![Act::Output(Status::Value, input.item.clone())],
        _ => Vec::new(),
    }
}

async fn create(gateway: &Gateway, body: &Value, key: &str) -> (String, Value) {
    let mut answer =
        gateway.client().post("/v1/calls").header("idempotency-key", key).json(body).send().await;
    assert_eq!(answer.status, 201);
    (answer.call(), answer.json().await)
}

async fn events(gateway: &Gateway, call: &str, after: u64) -> Vec<Value> {
    let target = format!("/v1/calls/{call}/events?after={after}");
    gateway.client().get(target).send().await.events().await
}

async fn record(gateway: &Gateway, call: &str) -> Value {
    gateway.client().get(format!("/v1/calls/{call}")).send().await.json().await
}

fn seqs(events: &[Value]) -> Vec<u64> {
    events.iter().map(|event| event["seq"].as_u64().expect("a number")).collect()
}

#[tokio::test]
async fn a_call_goes_on_after_a_restart_with_every_output_once_and_higher_attempts() {
    let gateway = Gateway::durable().await;
    let agent = gateway.connect("one", half).await;
    let (call, _) = create(&gateway, &background(json!([0, 10, 20, 30, 40])), "k").await;
    let half_done = || gateway.calls.get(&call).is_some_and(|call| call.record().done == 3);
    until("even inputs are done", half_done).await;
    drop(agent);

    let gateway = gateway.restart(&[]).await;
    let before = record(&gateway, &call).await;
    assert_eq!((&before["done"], &before["total"]), (&json!(3), &json!(5)));
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let seen = attempts.clone();
    let _agent = gateway
        .connect("one", move |input: &Input| {
            seen.lock().expect("no panic").push((input.index, input.attempt));
            echo(input)
        })
        .await;
    let events = events(&gateway, &call, 0).await;
    assert_eq!(seqs(&events), (1..=events.len() as u64).collect::<Vec<_>>());
    let expected = (0..5).map(|at| (at, json!(at * 10))).collect::<BTreeMap<_, _>>();
    assert_eq!(outputs(&events), expected);
    assert_eq!(events.last().expect("an end")["state"], "succeeded");
    let mut attempts = attempts.lock().expect("no panic").clone();
    attempts.sort_unstable();
    assert_eq!(attempts, [(1, 2), (3, 2)], "what was running runs again, above what was told");
}

#[tokio::test]
async fn a_host_is_asked_to_go_on_after_all_outputs_that_the_store_has() {
    let gateway = Gateway::durable().await;
    let agent = gateway.connect("one", echo).await;
    let mut body = background(json!([]));
    body["more_inputs"] = json!(true);
    let (call, _) = create(&gateway, &body, "k").await;
    let item = json!("x".repeat(50_000)).to_string();
    for index in 0..3 {
        let frame = Inputs::from_items(index, 0, &[item.as_bytes()]).to_frame();
        let target = format!("/v1/calls/{call}/inputs");
        assert_eq!(gateway.client().post(target).frames(&[frame]).send().await.status, 200);
        let saved = || {
            let record = gateway.calls.get(&call).expect("it is kept").record();
            // Its first two events are its states.
            record.done > index && record.seq > index + 2
        };
        until("it is done, and readers see it", saved).await;
    }
    drop(agent);

    let gateway = gateway.restart(&[]).await;
    let agent = gateway.connect("one", echo).await;
    let asked = || agent.asked.lock().expect("no panic").first().copied();
    until("the host is asked", || asked().is_some()).await;
    let outputs = 3 * item.len() as u64;
    assert!(asked().is_some_and(|taken| taken > outputs), "{:?} of {outputs}", asked());
}

#[tokio::test]
async fn a_call_that_has_ended_is_read_after_a_restart_until_it_expires() {
    let gateway = Gateway::durable().await;
    let agent = gateway.connect("one", echo).await;
    let (call, _) = create(&gateway, &background(json!([1, 2, 3])), "k").await;
    let whole = events(&gateway, &call, 0).await;
    let ended = record(&gateway, &call).await;
    assert_eq!(ended["state"], "succeeded");
    drop(agent);

    let gateway = gateway.restart(&[]).await;
    assert_eq!(record(&gateway, &call).await, ended);
    assert_eq!(events(&gateway, &call, 0).await, whole);
    assert_eq!(events(&gateway, &call, 2).await, whole[2..]);
    let function = gateway.client().get(format!("/v1/calls/{call}/function")).send().await;
    assert_eq!({ function }.text().await, "def f(x): return x");
    let (again, _) = {
        let _agent = gateway.connect("one", echo).await;
        create(&gateway, &background(json!([1, 2, 3])), "k").await
    };
    assert_eq!(again, call, "the key is known");

    let gateway = gateway.restart(&["--keep-background", "0s"]).await;
    until("it expires", || gateway.calls.get(&call).is_none()).await;
    let gateway = gateway.restart(&[]).await;
    assert!(gateway.calls.get(&call).is_none(), "in the store too");
}

/// Flips a bit of every file with a payload of this call whose name begins so; how many there are.
fn damage(gateway: &Gateway, call: &str, prefix: &str) -> usize {
    let folder = gateway.folder.path().join("payloads").join(call);
    let files = std::fs::read_dir(folder).expect("there").map(|entry| entry.expect("an entry"));
    let named = files.filter(|file| file.file_name().to_string_lossy().starts_with(prefix));
    let flip = |path: std::path::PathBuf| {
        let mut bytes = std::fs::read(&path).expect("readable");
        bytes[1000] ^= 1;
        std::fs::write(&path, bytes).expect("writable");
    };
    named.map(|file| flip(file.path())).count()
}

/// Outputs by index: the value, or the code of the failure.
fn values_and_codes(events: &[Value]) -> BTreeMap<u64, Value> {
    let outputs = events.iter().filter(|event| event["type"] == "output");
    let outputs = outputs.map(|event| {
        let index = event["index"].as_u64().expect("an index");
        let code = event["failure"].get("code").cloned();
        (index, code.unwrap_or_else(|| event["value"].clone()))
    });
    outputs.collect()
}

/// More than a row of the store holds: what is made of it is a file.
fn long_text() -> String {
    "x".repeat(3 << 19)
}

#[tokio::test]
async fn a_damaged_output_is_a_failure_in_its_place_and_the_others_are_read() {
    let gateway = Gateway::durable().await;
    let agent = gateway.connect("one", echo).await;
    let (call, _) = create(&gateway, &background(json!([1, long_text(), 3])), "k").await;
    let whole = events(&gateway, &call, 0).await;
    drop(agent);
    let gateway = gateway.restart(&[]).await;
    assert_eq!(damage(&gateway, &call, "events"), 1);
    let damaged = events(&gateway, &call, 0).await;
    let found = values_and_codes(&damaged);
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(found[&1], json!("damaged"));
    let last = |events: &[Value]| {
        let end = events.last().expect("an end");
        ["seq", "type", "state", "done", "total", "error"].map(|name| end[name].clone())
    };
    assert_eq!(last(&damaged), last(&whole), "it ends as it did");
    let seqs = seqs(&damaged);
    assert!(seqs.is_sorted_by(|a, b| a < b), "{seqs:?}");
    for after in seqs.iter().take(seqs.len() - 1) {
        let rest = events(&gateway, &call, *after).await;
        assert_eq!(rest, damaged[damaged.len() - rest.len()..], "a reader goes on after {after}");
        assert_eq!(rest[0]["seq"].as_u64(), seqs.iter().copied().find(|seq| seq > after));
    }
}

#[tokio::test]
async fn a_damaged_input_fails_without_being_run_and_the_others_run() {
    let gateway = Gateway::durable().await;
    let agent = gateway.connect("one", |_: &Input| Vec::new()).await;
    let mut body = background(json!([1]));
    body["more_inputs"] = json!(true);
    let (call, _) = create(&gateway, &body, "k").await;
    let long = json!(long_text()).to_string();
    let frames = [
        Inputs::from_items(1, 0, &[long.as_bytes()]).to_frame(),
        Inputs::from_items(2, 0, &[b"3"]).to_frame(),
        Frame::of_u64(Kind::InputsEnd, 3),
    ];
    let target = format!("/v1/calls/{call}/inputs");
    assert_eq!(gateway.client().post(target).frames(&frames).send().await.status, 200);
    drop(agent);
    let gateway = gateway.restart(&[]).await;
    assert_eq!(damage(&gateway, &call, "chunk"), 1);
    let _agent = gateway.connect("one", echo).await;
    let events = events(&gateway, &call, 0).await;
    let expected = [json!(1), json!("damaged"), json!(3)];
    assert_eq!(values_and_codes(&events).into_values().collect::<Vec<_>>(), expected);
    let end = events.last().expect("an end");
    assert_eq!((&end["state"], &end["failed"]), (&json!("succeeded"), &json!(1)));
}

#[tokio::test]
async fn a_call_whose_function_is_damaged_fails_and_says_so_and_others_go_on() {
    let gateway = Gateway::durable().await;
    let agent = gateway.connect("one", |_: &Input| Vec::new()).await;
    let mut body = background(json!([1]));
    body["source"] = json!(format!("def f(x): return x  # {}", long_text()));
    let (call, _) = create(&gateway, &body, "k").await;
    let (other, _) = create(&gateway, &background(json!([2])), "l").await;
    drop(agent);
    assert_eq!(damage(&gateway, &call, "function"), 1);
    let gateway = gateway.restart(&[]).await;
    let _agent = gateway.connect("one", echo).await;
    let failed = events(&gateway, &call, 0).await;
    let end = failed.last().expect("an end");
    assert_eq!((&end["state"], &end["error"]["code"]), (&json!("failed"), &json!("damaged")));
    let mut function = gateway.client().get(format!("/v1/calls/{call}/function")).send().await;
    assert_eq!((function.status.as_u16(), function.problem().await), (500, "damaged".to_owned()));
    assert_eq!(events(&gateway, &other, 0).await.last().expect("an end")["state"], "succeeded");
}

/// The record that the store keeps of a call that has expired, once it has.
async fn expired(gateway: &Gateway, call: &str) -> Value {
    until("it expires", || gateway.calls.get(call).is_none()).await;
    record(gateway, call).await
}

#[tokio::test]
async fn a_call_that_has_expired_leaves_its_record_for_its_owner() {
    let gateway = Gateway::durable().await;
    let agent = gateway.connect("one", echo).await;
    let (call, _) = create(&gateway, &background(json!([1, 2, 3])), "k").await;
    events(&gateway, &call, 0).await;
    let mut ended = record(&gateway, &call).await;
    assert_eq!((&ended["state"], &ended["expired"]), (&json!("succeeded"), &json!(false)));
    drop(agent);

    let gateway = gateway.restart(&["--keep-background", "0s"]).await;
    ended["expired"] = json!(true);
    assert_eq!(expired(&gateway, &call).await, ended);
    let client = gateway.client();
    for gone in ["events", "events?after=2", "function"] {
        let mut answer = client.get(format!("/v1/calls/{call}/{gone}")).send().await;
        assert_eq!((answer.status.as_u16(), answer.call()), (410, call.clone()), "{gone}");
        assert_eq!(answer.problem().await, "call_expired");
    }
    let frames = [Frame::of_u64(Kind::InputsEnd, 3)];
    let given = client.post(format!("/v1/calls/{call}/inputs")).frames(&frames).send().await;
    assert_eq!(given.status, 410);
    let cancelled = client.delete(format!("/v1/calls/{call}")).send().await;
    assert_eq!(cancelled.status, 202);
    assert_eq!({ cancelled }.json().await, ended, "a cancel changes nothing");
    let list = client.get("/v1/calls").send().await.json().await;
    assert_eq!(list["calls"], json!([ended]));

    let other = gateway.token("bob", &[Scope::Read]);
    let others = gateway.client_with(Some(&other));
    assert_eq!(others.get(format!("/v1/calls/{call}")).send().await.status, 404);
    assert_eq!(others.get(format!("/v1/calls/{call}/events")).send().await.status, 404);
    assert_eq!(others.get("/v1/calls").send().await.json().await["calls"], json!([]));

    let _agent = gateway.connect("one", echo).await;
    let (again, _) = create(&gateway, &background(json!([1])), "k").await;
    assert_ne!(again, call, "its key is free");

    let gateway = gateway.restart(&["--keep-records", "0s"]).await;
    let unknown = async || {
        let answer = gateway.client().get(format!("/v1/calls/{call}")).send().await;
        answer.status == 404
    };
    until_found("the record goes", unknown).await;
}

#[tokio::test]
async fn the_record_of_a_foreground_call_outlives_its_events_and_the_gateway() {
    let gateway = Gateway::durable().await.restart(&["--keep-foreground", "0s"]).await;
    let agent = gateway.connect("one", echo).await;
    let body = json!({"source": "def f(x): return x", "entry": "f", "inputs": [1]});
    let mut answer = gateway.client().post("/v1/calls").json(&body).send().await;
    answer.events().await;
    let call = answer.call();
    let past = expired(&gateway, &call).await;
    assert_eq!((&past["state"], &past["expired"]), (&json!("succeeded"), &json!(true)));
    drop(agent);
    let gateway = gateway.restart(&[]).await;
    assert_eq!(record(&gateway, &call).await, past);
}

#[tokio::test]
async fn a_cancel_is_in_the_store_when_it_is_answered() {
    let gateway = Gateway::durable().await;
    let agent = gateway.connect("one", half).await;
    let (call, _) = create(&gateway, &background(json!([0, 10])), "k").await;
    let cancelled: Value =
        gateway.client().delete(format!("/v1/calls/{call}")).send().await.json().await;
    assert_eq!(cancelled["state"], "cancelled");
    assert!(cancelled["ended"].is_string(), "that is said of what the store has: {cancelled}");
    drop(agent);

    let gateway = gateway.restart(&[]).await;
    let after = record(&gateway, &call).await;
    assert_eq!((&after["state"], &after["ended"]), (&cancelled["state"], &cancelled["ended"]));
}

#[tokio::test]
async fn an_upload_goes_on_under_its_key_after_a_restart_and_other_inputs_are_refused() {
    let gateway = Gateway::durable().await;
    let agent = gateway.connect("one", half).await;
    let mut body = background(json!([0]));
    body["more_inputs"] = json!(true);
    let (call, _) = create(&gateway, &body, "upload").await;
    let inputs = |first: u64, items: &[&[u8]]| Inputs::from_items(first, 0, items).to_frame();
    let send = async |gateway: &Gateway, frames: &[Frame]| {
        let target = format!("/v1/calls/{call}/inputs");
        gateway.client().post(target).frames(frames).send().await
    };
    assert_eq!(send(&gateway, &[inputs(1, &[b"10", b"20"])]).await.status, 200);
    drop(agent);

    let gateway = gateway.restart(&[]).await;
    let _agent = gateway.connect("one", echo).await;
    let (again, record) = create(&gateway, &body, "upload").await;
    assert_eq!((again, &record["inputs"]), (call.clone(), &json!(3)));
    let mut other = send(&gateway, &[inputs(1, &[b"10", b"99"])]).await;
    assert_eq!((other.status.as_u16(), other.problem().await), (409, "inputs_differ".to_owned()));
    let same = send(&gateway, &[inputs(1, &[b"10", b"20"])]).await;
    assert_eq!(same.status, 200);
    let overlap = [inputs(2, &[b"20", b"30"]), Frame::of_u64(Kind::InputsEnd, 4)];
    assert_eq!({ send(&gateway, &overlap).await }.json().await, json!({"inputs": 4}));
    let found = outputs(&events(&gateway, &call, 0).await);
    assert_eq!(found.into_values().collect::<Vec<_>>(), [0, 10, 20, 30].map(|n| json!(n)));
}

#[tokio::test]
async fn an_upload_that_nobody_goes_on_with_is_cancelled_after_its_time() {
    let gateway = Gateway::durable().await;
    let agent = gateway.connect("one", echo).await;
    let mut body = background(json!([0]));
    body["more_inputs"] = json!(true);
    let (call, _) = create(&gateway, &body, "upload").await;
    drop(agent);
    let gateway = gateway.restart(&["--upload-grace", "10ms"]).await;
    let events = events(&gateway, &call, 0).await;
    let end = events.last().expect("an end");
    assert_eq!(
        (&end["state"], &end["error"]["code"]),
        (&json!("cancelled"), &json!("upload_stopped"))
    );
}

#[tokio::test]
async fn a_foreground_call_is_not_in_the_store() {
    let gateway = Gateway::durable().await;
    let agent = gateway.connect("one", echo).await;
    let body = json!({"source": "def f(x): return x", "entry": "f", "inputs": [1]});
    let mut answer = gateway.client().post("/v1/calls").json(&body).send().await;
    answer.events().await;
    let call = answer.call();
    drop(agent);
    let gateway = gateway.restart(&[]).await;
    assert!(gateway.calls.get(&call).is_none());
    assert_eq!(gateway.client().get(format!("/v1/calls/{call}")).send().await.status, 404);
}
