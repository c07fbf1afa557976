//! Calls that tests make, and what they read of them.

use muster_wire::batch::Inputs;
use muster_wire::frame::{Frame, Kind};
use serde_json::{Value, json};

use super::Gateway;
use super::fake_agent::{Act, Input};

pub const FRAMES: &str = "application/vnd.muster.frames";
pub const NDJSON: &str = "application/x-ndjson";

/// A call that gives its inputs back.
pub fn echo_call(inputs: Value) -> Value {
    json!({"source": "def f(x): return x", "entry": "f", "inputs": inputs})
}

/// Outputs by index.
pub fn outputs(events: &[Value]) -> Vec<(u64, Value)> {
    let list = events.iter().filter(|event| event["type"] == "output");
    let mut outputs: Vec<(u64, Value)> = list
        .map(|event| (event["index"].as_u64().expect("an index"), event["value"].clone()))
        .collect();
    outputs.sort_by_key(|(index, _)| *index);
    outputs
}

/// The numbers of events.
pub fn seqs(events: &[Value]) -> Vec<u64> {
    events.iter().map(|event| event["seq"].as_u64().expect("a number")).collect()
}

/// The last event, which says how the call ended.
pub fn end(events: &[Value]) -> &Value {
    let end = events.last().expect("events");
    assert_eq!(end["type"], "end", "{events:?}");
    end
}

/// Runs for ever.
pub fn hang(_: &Input) -> Vec<Act> {
    Vec::new()
}

/// A call of pickles, in frames.
pub fn pickle_call(inputs: &[&[u8]]) -> Vec<Frame> {
    vec![
        Frame::new(Kind::Spec, "{\"python\": \"3.11\"}"),
        Frame::new(Kind::Function, "function"),
        Inputs::from_items(0, 0, inputs).to_frame(),
        Frame::of_u64(Kind::InputsEnd, inputs.len() as u64),
    ]
}

/// A background call of this source.
pub fn background(inputs: Value) -> Value {
    json!({"source": "def f(x): return x", "entry": "f", "inputs": inputs, "background": true})
}

/// Makes a background call under a key: its id, and its record.
pub async fn create(gateway: &Gateway, body: &Value, key: &str) -> (String, Value) {
    let mut answer =
        gateway.client().post("/v1/calls").header("idempotency-key", key).json(body).send().await;
    assert_eq!(answer.status, 201);
    (answer.call(), answer.json().await)
}

/// Its events after one, to the end.
pub async fn events(gateway: &Gateway, call: &str, after: u64) -> Vec<Value> {
    let target = format!("/v1/calls/{call}/events?after={after}");
    gateway.client().get(target).send().await.events().await
}

/// Its record.
pub async fn record(gateway: &Gateway, call: &str) -> Value {
    gateway.client().get(format!("/v1/calls/{call}")).send().await.json().await
}
