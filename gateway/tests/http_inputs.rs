//! Inputs of one call that come in several requests.

use std::time::Duration;

use crate::support::Gateway;
use crate::support::fake_agent::echo;
use futures_util::stream;
use muster_wire::batch::Inputs;
use muster_wire::frame::{Frame, Kind};
use serde_json::json;
use tokio::sync::mpsc;

const FRAMES: &str = "application/vnd.muster.frames";

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
