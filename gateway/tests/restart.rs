//! Background calls over a restart of the gateway: the real HTTP stack and store, and fake hosts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::support::calls::{background, create, events, record, seqs};
use crate::support::fake_agent::{Act, Input, echo};
use crate::support::{Gateway, until, until_found};
use muster_gateway::auth::Scope;
use muster_wire::batch::{Inputs, Status};
use muster_wire::frame::{Frame, Kind};
use serde_json::{Value, json};

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
