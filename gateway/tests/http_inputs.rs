//! Inputs of one call: in lines or frames, in one request or several.

use std::time::Duration;

use crate::support::Gateway;
use crate::support::calls::{FRAMES, NDJSON, echo_call, end, hang, outputs, pickle_call};
use crate::support::client::{Answer, Client};
use crate::support::fake_agent::echo;
use bytes::Bytes;
use futures_util::stream;
use muster_wire::batch::Inputs;
use muster_wire::frame::{Frame, Kind};
use serde_json::json;
use tokio::sync::mpsc;

#[tokio::test]
async fn inputs_sent_while_the_first_request_still_arrives_wait_for_it() {
    let (gateway, _agent) = Gateway::with_host(echo).await;
    let (sender, receiver) = mpsc::channel::<Frame>(4);
    let body = stream::unfold(receiver, |mut receiver| async move {
        Some((receiver.recv().await?.to_bytes(), receiver))
    });
    sender.send(Frame::new(Kind::Spec, "{\"python\": \"3.11\"}")).await.expect("room");
    sender.send(Frame::new(Kind::Function, "function")).await.expect("room");
    let asking = gateway.client().post("/v1/calls").header("content-type", FRAMES);
    let mut answer = asking.stream(body).send().await;

    let target = format!("/v1/calls/{}/inputs", answer.call());
    let later = [Inputs::from_items(1, 0, &["b"]).to_frame(), Frame::of_u64(Kind::InputsEnd, 2)];
    let mut second = tokio::spawn(gateway.client().post(target).frames(&later).send());
    let early = tokio::time::timeout(Duration::from_millis(100), &mut second).await;
    assert!(early.is_err(), "the second request is answered before the first has arrived");

    sender.send(Inputs::from_items(0, 0, &["a"]).to_frame()).await.expect("room");
    drop(sender);
    let answered = second.await.expect("no panic").json().await;
    assert_eq!(answered, json!({"inputs": 2}));
    let events = answer.events().await;
    assert_eq!(events.last().expect("an end")["done"], 2);
}

#[tokio::test]
async fn skipped_inputs_count_as_done_and_are_not_run() {
    let (gateway, _agent) = Gateway::with_host(echo).await;
    let skip = |first: u64, count: u64| {
        let body = [first.to_le_bytes(), count.to_le_bytes()].concat();
        Frame::new(Kind::Skip, body)
    };
    let spec = json!({"entry": "f", "kind": "source"}).to_string();
    let frames = |background: bool| {
        let spec = match background {
            true => spec.replace('}', ",\"background\":true}"),
            false => spec.clone(),
        };
        vec![
            Frame::new(Kind::Spec, spec),
            Frame::new(Kind::Function, "def f(x): return x"),
            skip(0, 2),
            Inputs::from_items(2, 0, &[b"2", b"3"]).to_frame(),
            skip(3, 3),
            Frame::of_u64(Kind::InputsEnd, 6),
        ]
    };
    let mut answer = gateway.client().post("/v1/calls").frames(&frames(false)).send().await;
    let events = answer.events().await;
    let indexes: Vec<_> = events.iter().filter_map(|event| event["index"].as_u64()).collect();
    assert_eq!(indexes, [2, 3]);
    let end = events.last().expect("an end");
    assert_eq!((&end["state"], &end["done"]), (&json!("succeeded"), &json!(6)));
    let mut refused = gateway.client().post("/v1/calls").frames(&frames(true)).send().await;
    assert_eq!(refused.problem().await, "bad_frame", "a background call runs all its inputs");
}

async fn append(client: &Client, call: &str, last: bool, lines: &'static str) -> Answer {
    let target = format!("/v1/calls/{call}/inputs?last={last}");
    client.post(target).header("content-type", NDJSON).body(lines).send().await
}

#[tokio::test]
async fn inputs_follow_line_by_line_while_the_call_runs() {
    let (gateway, _agent) = Gateway::with_host(echo).await;
    let client = gateway.client();
    let mut body = echo_call(json!([0]));
    body["more_inputs"] = json!(true);
    let mut events = client.post("/v1/calls").json(&body).send().await;
    let call = events.call();
    let mut first = None;
    while let Some(event) = events.event().await {
        if event["type"] == "output" {
            first = Some(event);
            break;
        }
    }
    assert_eq!(first.expect("an output before the inputs were closed")["value"], 0);
    let mut answer = append(&client, &call, false, "1\n\n2\r\n").await;
    assert_eq!(answer.json().await, json!({"inputs": 3}));
    let mut answer = append(&client, &call, true, "{\"last\": true}").await;
    assert_eq!(answer.json().await, json!({"inputs": 4}));
    let rest = events.events().await;
    let expected = vec![(1, json!(1)), (2, json!(2)), (3, json!({"last": true}))];
    assert_eq!(outputs(&rest), expected);
    assert_eq!(end(&rest)["total"], 4);
    let mut answer = append(&client, &call, false, "5\n").await;
    assert_eq!(answer.status, 409);
    assert!(["inputs_closed", "call_ended"].contains(&answer.problem().await.as_str()));
}

#[tokio::test]
async fn a_bad_line_is_named_and_the_ones_before_it_are_taken() {
    let (gateway, _agent) = Gateway::with_host(echo).await;
    let client = gateway.client();
    let body = json!({"command": ["cat"], "more_inputs": true, "background": true});
    let mut created = client.post("/v1/calls").json(&body).send().await;
    assert_eq!(created.status, 201);
    let id = created.json().await["id"].as_str().expect("an id").to_owned();
    assert_eq!(created.header("location"), format!("/v1/calls/{id}"));
    for (lines, says, inputs) in
        [("\"a\"\n{\n\"b\"\n", "Line 2 (input 1)", 1), ("[\"b\"]\n7\n", "`inputs[2]` is 7", 2)]
    {
        let mut answer = append(&client, &id, false, lines).await;
        assert_eq!(answer.status, 400);
        let problem = answer.json().await;
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(detail.contains(says), "{detail}");
        let record = client.get(format!("/v1/calls/{id}")).send().await.json().await;
        assert_eq!(record["inputs"], inputs);
    }
    assert_eq!(client.delete(format!("/v1/calls/{id}")).send().await.status, 202);
}

#[tokio::test]
async fn frames_of_inputs_that_were_taken_are_ignored_and_gaps_refused() {
    let (gateway, _agent) = Gateway::with_host(echo).await;
    let client = gateway.client();
    let frames = &pickle_call(&[b"a", b"b"])[..3];
    let mut events = client.post("/v1/calls").frames(frames).send().await;
    let target = format!("/v1/calls/{}/inputs", events.call());
    let send = |first: u64, items: &[&str]| {
        client.post(target.clone()).frames(&[Inputs::from_items(first, 0, items).to_frame()]).send()
    };
    assert_eq!(send(0, &["a", "b"]).await.json().await, json!({"inputs": 2}));
    assert_eq!(send(2, &["c"]).await.json().await, json!({"inputs": 3}));
    assert_eq!(send(4, &["e"]).await.problem().await, "inputs_gap");
    let last = [Inputs::from_items(3, 0, &["d"]).to_frame(), Frame::of_u64(Kind::InputsEnd, 4)];
    assert_eq!(client.post(target).frames(&last).send().await.json().await, json!({"inputs": 4}));
    let rest = events.events().await;
    assert_eq!(outputs(&rest).len(), 4);
}

#[tokio::test]
async fn outputs_come_back_while_the_body_is_still_being_sent() {
    let (gateway, _agent) = Gateway::with_host(echo).await;
    let (sender, receiver) = mpsc::channel::<Frame>(4);
    let body = stream::unfold(receiver, |mut receiver| async move {
        Some((receiver.recv().await?.to_bytes(), receiver))
    });
    let mut first = pickle_call(&[]);
    first.truncate(2);
    for frame in first {
        sender.send(frame).await.expect("room");
    }
    let asking = gateway.client().post("/v1/calls").header("content-type", FRAMES);
    let mut answer = asking.stream(body).send().await;
    for index in 0..5u64 {
        let input = Inputs::from_items(index, 0, &[index.to_string()]);
        sender.send(input.to_frame()).await.expect("room");
        loop {
            let event = answer.event().await.expect("more events");
            if event["type"] == "output" {
                assert_eq!(event["index"], index);
                break;
            }
        }
    }
    sender.send(Frame::of_u64(Kind::InputsEnd, 5)).await.expect("room");
    drop(sender);
    assert_eq!(end(&answer.events().await)["state"], "succeeded");
}

#[tokio::test]
async fn a_body_that_turns_to_nonsense_cancels_its_call() {
    let (gateway, _agent) = Gateway::with_host(hang).await;
    let (sender, receiver) = mpsc::channel::<Bytes>(4);
    let body =
        stream::unfold(
            receiver,
            |mut receiver| async move { Some((receiver.recv().await?, receiver)) },
        );
    for frame in &pickle_call(&[b"a"])[..3] {
        sender.send(frame.to_bytes()).await.expect("room");
    }
    let asking = gateway.client().post("/v1/calls").header("content-type", FRAMES);
    let mut answer = asking.stream(body).send().await;
    sender.send(Bytes::from_static(&[99; 32])).await.expect("room");
    assert_eq!(end(&answer.events().await)["state"], "cancelled");
}
