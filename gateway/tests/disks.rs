//! Disks under the gateway that are full, or change what they keep: F9 and F18.

use std::collections::BTreeMap;

use crate::support::calls::{background, create, echo_call, end, events, hang, outputs, seqs};
use crate::support::fake_agent::{Act, Input, echo};
use crate::support::faults::Disk;
use crate::support::{Gateway, until};
use muster_wire::batch::{Inputs, Status};
use muster_wire::frame::{Frame, Kind};
use serde_json::{Value, json};

/// Little memory: what does not fit must be spilled.
const SMALL: [&str; 6] = ["--queue-memory", "1KiB", "--log-memory", "1KiB", "--spare-memory", "0"];

/// As many bytes of output as the input says.
fn large(input: &Input) -> Vec<Act> {
    let bytes: usize = serde_json::from_slice(&input.item).expect("a number");
    let text = serde_json::to_vec(&"x".repeat(bytes)).expect("JSON");
    vec![Act::Output(Status::Value, text.into())]
}

fn waits_for_disk(gateway: &Gateway, call: &str) -> bool {
    let why = gateway.calls.get(call).and_then(|call| call.record().waiting);
    why.is_some_and(|why| why.contains("disk is full"))
}

#[tokio::test]
async fn inputs_that_cannot_be_spilled_wait_say_why_and_run_when_there_is_room() {
    let disk = Disk::default();
    let gateway = Gateway::on_disk_of(&disk, &SMALL).await;
    let (agent, call, answer) = {
        let agent = gateway.connect("one", hang).await;
        let body = json!({"source": "def f(x): return x", "entry": "f", "more_inputs": true});
        let answer = gateway.client().post("/v1/calls").json(&body).send().await;
        (agent, answer.call(), answer)
    };
    disk.fill();
    // More than one batch, and each more than a queue's memory.
    let line = json!("y".repeat(200 << 10)).to_string() + "\n";
    let uploading = tokio::spawn({
        let (client, call, body) = (gateway.client(), call.clone(), line.repeat(8));
        async move {
            let target = format!("/v1/calls/{call}/inputs?last=true");
            client
                .post(target)
                .header("content-type", "application/x-ndjson")
                .body(body)
                .send()
                .await
                .status
        }
    });
    until("it says why", || waits_for_disk(&gateway, &call)).await;
    let inputs = gateway.calls.get(&call).expect("there").record().inputs;
    assert!((1..8).contains(&inputs), "what came first is kept, the rest waits: {inputs}");
    assert!(!uploading.is_finished());

    let quick = gateway.connect("two", echo).await;
    let small = gateway.client().post("/v1/calls").json(&echo_call(json!([1]))).send().await;
    let events = { small }.events().await;
    assert_eq!(outputs(&events).len(), 1, "who spills nothing goes on");

    disk.make_room();
    assert_eq!(uploading.await.expect("no panic"), 200);
    until("it waits no more", || !waits_for_disk(&gateway, &call)).await;
    drop(agent);
    let again = gateway.connect("one", echo).await;
    let events = { answer }.events().await;
    assert_eq!(outputs(&events).len(), 8);
    assert_eq!(end(&events)["state"], "succeeded");
    drop((quick, again));
}

#[tokio::test]
async fn outputs_that_cannot_be_spilled_wait_say_why_and_all_come_when_there_is_room() {
    let disk = Disk::default();
    let gateway = Gateway::on_disk_of(&disk, &SMALL).await;
    let _agent = gateway.connect("one", large).await;
    disk.fill();
    let inputs: Vec<u32> = vec![300 << 10; 12];
    let mut answer =
        gateway.client().post("/v1/calls").json(&echo_call(json!(inputs))).send().await;
    let call = answer.call();
    until("it says why", || waits_for_disk(&gateway, &call)).await;
    disk.make_room();
    let events = answer.events().await;
    assert_eq!(outputs(&events).len(), 12);
    assert_eq!(end(&events)["state"], "succeeded");
}

#[tokio::test]
async fn events_of_a_background_call_that_cannot_be_kept_wait_and_say_why() {
    let disk = Disk::default();
    let gateway = Gateway::on_disk_of(&disk, &[]).await;
    let agent = gateway.connect("one", hang).await;
    let answer = gateway.client().post("/v1/calls").json(&background(json!([1, 2]))).send().await;
    let call = answer.call();
    disk.fill();
    drop(agent);
    let _again = gateway.connect("one", echo).await;
    until("it says why", || waits_for_disk(&gateway, &call)).await;
    disk.make_room();
    let target = format!("/v1/calls/{call}/events");
    let events = gateway.client().get(target).send().await.events().await;
    assert_eq!(outputs(&events).len(), 2);
}

#[tokio::test]
async fn of_spilled_events_that_are_damaged_a_reader_is_told_how_many_and_gets_the_others() {
    let disk = Disk::default();
    let gateway = Gateway::on_disk_of(&disk, &SMALL).await;
    let _agent = gateway.connect("one", large).await;
    let inputs: Vec<u32> = vec![300 << 10; 6];
    let mut answer =
        gateway.client().post("/v1/calls").json(&echo_call(json!(inputs))).send().await;
    let (call, whole) = (answer.call(), answer.events().await);
    disk.damage();
    let target = format!("/v1/calls/{call}/events");
    let events = gateway.client().get(target).send().await.events().await;
    let lost: u64 = events
        .iter()
        .filter(|event| event["type"] == "damaged")
        .map(|event| event["events"].as_u64().expect("a number"))
        .sum();
    assert!(lost > 0);
    let told =
        events.iter().filter(|event| event["type"] != "damaged" && event["type"] != "progress");
    assert_eq!(
        told.count() as u64 + lost,
        whole.last().expect("an end")["seq"].as_u64().expect("a number")
    );
    assert_eq!(events.last(), whole.last(), "it ends as ever");
}

/// A background call that is cancelled, while the disk is full.
async fn cancelled(
    disk: &Disk,
) -> (Gateway, String, tokio::task::JoinHandle<crate::support::client::Answer>) {
    let gateway = Gateway::on_disk_of(disk, &[]).await;
    let agent = gateway.connect("one", hang).await;
    let answer = gateway.client().post("/v1/calls").json(&background(json!([1]))).send().await;
    let call = answer.call();
    disk.fill();
    let cancelling = tokio::spawn({
        let (client, target) = (gateway.client(), format!("/v1/calls/{call}"));
        async move { client.delete(target).send().await }
    });
    let state = || gateway.calls.get(&call).expect("there").record().state;
    until("it ends", || state() == muster_gateway::calls::CallState::Cancelled).await;
    drop(agent);
    (gateway, call, cancelling)
}

#[tokio::test]
async fn a_cancel_that_the_store_has_no_space_for_says_so_and_holds_when_there_is() {
    let disk = Disk::default();
    let (gateway, call, cancelling) = cancelled(&disk).await;
    let mut answer = cancelling.await.expect("no panic");
    assert_eq!((answer.status.as_u16(), answer.call()), (507, call.clone()));
    assert!(!answer.header("retry-after").is_empty());
    assert_eq!(answer.problem().await, "disk_full");
    disk.make_room();
    let again = gateway.client().delete(format!("/v1/calls/{call}")).send().await;
    assert_eq!(again.status, 202);
    assert_eq!({ again }.json().await["state"], "cancelled");
}

#[tokio::test]
async fn a_cancel_that_is_not_kept_before_the_gateway_stops_says_so() {
    let disk = Disk::default();
    let (gateway, call, cancelling) = cancelled(&disk).await;
    gateway.tasks.stop();
    let mut answer = cancelling.await.expect("no panic");
    assert_eq!((answer.status.as_u16(), answer.call()), (503, call));
    assert!(!answer.header("retry-after").is_empty());
    assert_eq!(answer.problem().await, "stopping");
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
    let agent = gateway.connect("one", hang).await;
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
    let agent = gateway.connect("one", hang).await;
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
